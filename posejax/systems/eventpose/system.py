"""The event pose system as the engine sees it: pure methods over one config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from posejax.config import ConfigError
from posejax.data.cameras import Camera
from posejax.geometry import matrix_to_quat_xyzw
from posejax.report import Report
from posejax.systems.eventpose import hypotheses, scores, summary
from posejax.systems.eventpose.config import (
    FROM_SCRATCH,
    InputConfig,
    KeypointConfig,
    ModelConfig,
    ObjectiveConfig,
    TrajectoryConfig,
)
from posejax.systems.eventpose.data import Frames, Recordings, Simulated
from posejax.systems.eventpose.inputs import (
    Prepared,
    example_events,
    prepare_events,
    prepare_frame,
)
from posejax.systems.eventpose.keypoints import (
    averaged,
    keypoint_losses,
    solve,
    spreads,
    square_distance,
    turned,
)
from posejax.systems.eventpose.model import PoseNet
from posejax.systems.eventpose.objective import (
    SPADES_STATS,
    TranslationStats,
    example_losses,
    predicted_pose,
    predicted_sigma,
    translation_stats,
)
from posejax.systems.eventpose.points import body_points
from posejax.systems.eventpose.pretrained import load_backbone
from posejax.systems.eventpose.report import make_report
from posejax.systems.eventpose.view import uncanonical
from posejax.train.system import Batch, LossOutput, System

_STATS_EXAMPLES = 128
_OPTIONAL = ("sigma_m", "sigma_rad", "hypothesis_weight", "hypothesis_log_score")


@dataclass(frozen=True)
class Eventpose(System):
    """6-DoF pose of a spacecraft from the events of a short window; see docs/eventpose.md.

    Attributes:
      data: recordings, real or simulated, or frames.
      input: what the network sees of them.
      model: network.
      objective: loss of the pose heads.
      keypoints: points of the body, their heatmaps and the solver, if `model.heads` has them.
      trajectory: smoothing of a sequence's estimates at evaluation time.
    """

    data: Recordings | Simulated | Frames = Simulated()
    input: InputConfig = InputConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    keypoints: KeypointConfig = KeypointConfig()
    trajectory: TrajectoryConfig = TrajectoryConfig()

    calibration: ClassVar[tuple[str, ...]] = ("sigma_scale", "hypothesis_scale")

    def check(self) -> None:
        if self.model.weights and self.model.backbone in FROM_SCRATCH:
            raise ConfigError(
                f"system.model.weights: {self.model.backbone!r} has no published weights; choose "
                "another --system.model.backbone or leave the weights out"
            )
        if self.objective.stats == "spades" and self.input.view != "full":
            raise ConfigError(
                "system.objective.stats: 'spades' are metres in the camera; the canonical view has "
                "its own scale: use --system.input.view full, or stats 'train'"
            )
        simulated = self.points and set(self.keypoints.points) - {"box"}
        if simulated and not self.data.simulated:
            raise ConfigError(
                f"system.keypoints.points: {', '.join(sorted(simulated))} are of the simulated "
                "craft; other data have points of a 'box'"
            )
        if (
            self.model.pool == "flatten"
            and self.model.heads != "keypoints"
            and min(self.input.size) % 32
        ):
            raise ConfigError(
                f"system.input.size: {self.input.size}; expected multiples of 32 with "
                "system.model.pool 'flatten'"
            )

    @cached_property
    def points(self) -> int:
        """Number of heatmaps."""
        return 0 if self.model.heads == "direct" else len(body_points(self.keypoints))

    @cached_property
    def camera(self) -> Camera:
        return self.data.camera()

    @property
    def intrinsics(self) -> jax.Array:
        return jnp.asarray(self.camera.intrinsics, jnp.float32)

    @property
    def sensor_size(self) -> tuple[int, int]:
        return self.camera.size

    @cached_property
    def net(self) -> PoseNet:
        model = self.model
        return PoseNet(
            backbone=model.backbone,
            objective=self.objective,
            widths=model.widths,
            pool=model.pool,
            hidden=model.hidden,
            dropout=model.dropout,
            heads=model.heads,
            points=self.points,
            stride=self.keypoints.stride,
            dtype=jnp.bfloat16 if model.bfloat16 else jnp.float32,
        )

    # ---- from a batch to what the network sees

    def prepare(self, batch: Batch, key: jax.Array | None) -> Prepared:
        """Grids, targets, poses and views of a batch; augmented if there is a key."""
        data, examples = self.data, dict(batch.examples)
        intrinsics, resident = self.intrinsics, batch.resident.get("events")

        def one(example: Mapping[str, jax.Array], key: jax.Array | None) -> Prepared:
            if isinstance(data, Frames):
                return prepare_frame(example, self.input, intrinsics, key)
            events = example_events(example, resident, data.rule.capacity)
            return prepare_events(example, events, self.input, intrinsics, self.sensor_size, key)

        if key is None:
            return jax.vmap(lambda e: one(e, None))(examples)
        # A key per record and step: the same augmentation however the batch is split up.
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(examples["index"])
        return jax.vmap(one)(examples, keys)

    def stats(self) -> TranslationStats:
        """Of the training targets: all labels, or windows spread over the split if views differ."""
        if self.objective.stats == "spades":
            return SPADES_STATS
        source: Any = self.data.source("train")
        if self.input.view == "full":
            return translation_stats(source.translations())
        rows = np.linspace(0, len(source) - 1, _STATS_EXAMPLES).astype(int)
        found, target = [], jax.jit(lambda batch: self.prepare(batch, None).target)
        for part in np.split(rows, _STATS_EXAMPLES // 32):
            batch = [self.data.still(source, int(i)) for i in part]
            found.append(target(Batch({k: np.stack([b[k] for b in batch]) for k in batch[0]})))
        return translation_stats(np.concatenate([np.asarray(t)[:, :3, 3] for t in found]))

    # ---- the protocol

    def init(self, key: jax.Array, batch: Batch) -> tuple[Any, Any]:
        channels = self.input.channels
        if isinstance(self.data, Frames):
            channels = batch.examples["image"].shape[-1]
        grid = jnp.zeros((1, *self.input.size, channels))
        variables = dict(self.net.init(key, grid, False))
        extra = {"translation": {"mean": jnp.zeros(3), "std": jnp.ones(3)}}
        if self.points:
            # Saved with the network: what its heatmaps mean.
            extra["keypoints"] = {"points": jnp.asarray(body_points(self.keypoints))}
            extra["hypothesis_scale"] = {"covariance": jnp.float32(1), "sharpness": jnp.float32(1)}
        elif self.calibrates:
            extra["sigma_scale"] = {"position": jnp.float32(1), "rotation": jnp.float32(1)}
        return variables.pop("params"), {**variables, **extra}

    def start(self, params: Any, state: Any) -> tuple[Any, Any]:
        """Published weights of the backbone, and the statistics of the training targets."""
        if self.model.weights:
            path, variables = Path(self.model.weights), {**state, "params": params}
            variables = load_backbone(path, self.net, variables)
            params, state = variables.pop("params"), variables
        stats = {k: jnp.asarray(v, jnp.float32) for k, v in self.stats()._asdict().items()}
        return params, {**state, "translation": stats}

    def _heads(self, params: Any, state: Any, grid: jax.Array, train: bool, key: Any = None):
        own = ("translation", "keypoints", *self.calibration)
        collections = {k: v for k, v in state.items() if k not in own}
        return self.net.apply(
            {"params": params, **collections},
            grid,
            train,
            mutable=list(collections) if train else [],
            rngs={"dropout": key} if train else None,
        )

    def loss(
        self,
        params: Any,
        state: Any,
        batch: Batch,
        key: jax.Array,
        progress: jax.Array,
        train: bool,
    ) -> tuple[jax.Array, LossOutput]:
        del progress  # nothing is ramped
        stats = TranslationStats(**state["translation"])
        with jax.named_scope("prepare"):
            # Nothing of it has a parameter: cutting it here spares the search for gradients.
            augment, dropout = jax.random.split(key)
            prepared = jax.lax.stop_gradient(self.prepare(batch, augment if train else None))
        with jax.named_scope("network"):
            heads, updated = self._heads(params, state, prepared.grid, train, dropout)
        with jax.named_scope("objective"):
            parts = self._losses(heads, prepared, state)
            if "translation" in heads:
                pose = self._camera_pose(heads, prepared, stats)
                distance = jnp.linalg.norm(pose[:, :3, 3] - prepared.pose[:, :3, 3], axis=-1)
                parts["position_m"] = distance
        scalars = {k: v.mean() for k, v in parts.items()}
        return scalars.pop("loss"), LossOutput({**state, **updated}, scalars)

    def _losses(self, heads: Any, prepared: Prepared, state: Any) -> dict[str, jax.Array]:
        """`loss` [B] of each example, its parts and monitors."""
        parts: dict[str, jax.Array] = {}
        if "translation" in heads:
            stats = TranslationStats(**state["translation"])
            parts = example_losses(heads, prepared.target, self.objective, stats)
        if "heatmaps" in heads:
            points, config = state["keypoints"]["points"], self.keypoints
            loss = partial(keypoint_losses, points=points, config=config)
            found = jax.vmap(lambda x, p: loss(x, prepared=p))(heads["heatmaps"], prepared)
            direct = config.direct_weight * parts.pop("loss") if parts else 0
            parts |= found | {"loss": found["keypoint_nll"] + direct}
        return parts

    def _camera_pose(self, heads: Any, prepared: Prepared, stats: TranslationStats) -> jax.Array:
        """camera_from_body [B, 4, 4] of raw heads."""
        inner = predicted_pose(heads, self.objective, stats)
        return jax.vmap(uncanonical)(prepared.view, inner)

    def predict(self, params: Any, state: Any, batch: Batch) -> dict[str, jax.Array]:
        stats = TranslationStats(**state["translation"])
        prepared = self.prepare(batch, None)
        heads, _ = cast(tuple, self._heads(params, state, prepared.grid, False))
        outputs = {
            "loss": self._losses(heads, prepared, state)["loss"],
            "grid": prepared.grid,
            "view_rotation": prepared.view.rotation,
            "view_intrinsics": prepared.view.intrinsics,
            "zoom": prepared.view.zoom,
            "truth": prepared.pose,
        }
        # A craft that the border cuts is known less well than the network can tell.
        doubt = 1 + prepared.view.cut
        if "translation" in heads:
            outputs["pose"] = self._camera_pose(heads, prepared, stats)
        if "heatmaps" in heads:
            if "pose" in outputs:
                outputs["direct_pose"] = outputs["pose"]
            return outputs | self._solved(params, state, prepared, heads["heatmaps"], doubt)
        if self.objective.uncertainty == "gaussian":
            position, rotation = predicted_sigma(heads, stats)
            scale = state["sigma_scale"]
            outputs["sigma_m"] = position.mean(-1) * prepared.view.zoom * scale["position"] * doubt
            outputs["sigma_rad"] = rotation * scale["rotation"] * doubt
        return outputs

    def _solved(
        self, params: Any, state: Any, prepared: Prepared, logits: jax.Array, doubt: jax.Array
    ) -> dict[str, jax.Array]:
        """Outputs of the heatmaps: hypotheses of the pose, the best one, and its covariance."""
        if self.keypoints.half_turn:
            heads, _ = cast(tuple, self._heads(params, state, turned(prepared.grid), False))
            logits = averaged(logits, turned(heads["heatmaps"]))
        points, scale = state["keypoints"]["points"], state["hypothesis_scale"]
        solver = partial(solve, points=points, config=self.keypoints, sharpness=scale["sharpness"])
        found = jax.vmap(lambda x, view: solver(x, view=view))(logits, prepared.view)
        covariance = found.covariance * (scale["covariance"] * doubt**2)[:, None, None]
        position, rotation = spreads(covariance)
        return {
            "pose": found.hypotheses[:, 0],
            "hypotheses": found.hypotheses,
            "hypothesis_weight": found.weight,
            "hypothesis_log_score": found.log_score,
            "covariance": covariance,
            "sigma_m": position,
            "sigma_rad": rotation,
            "keypoints": found.keypoints,
            "keypoint_weight": found.keypoint_weight,
            "heatmap": jax.nn.softmax(logits, axis=(1, 2)).sum(-1),
        }

    def metrics(self, outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        pose, truth = outputs["pose"], outputs["truth"]
        t, q = truth[:, :3, 3], matrix_to_quat_xyzw(truth[:, :3, :3])
        t_hat, q_hat = pose[:, :3, 3], matrix_to_quat_xyzw(pose[:, :3, :3])
        optional = {k: outputs[k] for k in _OPTIONAL if k in outputs}
        if "direct_pose" in outputs:
            direct = outputs["direct_pose"]
            optional["direct_translation_hat"] = direct[:, :3, 3]
            optional["direct_quat_xyzw_hat"] = matrix_to_quat_xyzw(direct[:, :3, :3])
        if "hypotheses" in outputs:
            several = outputs["hypotheses"]
            optional["hypothesis_translation_hat"] = several[..., :3, 3]
            optional["hypothesis_quat_xyzw_hat"] = matrix_to_quat_xyzw(several[..., :3, :3])
            optional["square_distance"] = jax.vmap(square_distance)(
                pose, truth, outputs["covariance"]
            )
        return {
            "loss": outputs["loss"],
            "error": scores.spark_2026(t, q, t_hat, q_hat),
            "translation": t,
            "quat_xyzw": q,
            "translation_hat": t_hat,
            "quat_xyzw_hat": q_hat,
            "zoom": outputs["zoom"],
            "sequence": batch.examples["sequence"],
            "time": batch.examples["time"],
            "light": batch.examples["light"],
            "events": batch.examples["found"],
            **optional,
        }

    @property
    def calibrates(self) -> bool:  # type: ignore[override]
        """Whether there are predicted spreads to scale."""
        return self.objective.uncertainty == "gaussian" or self.model.heads != "direct"

    def calibrate(self, state: Any, records: Mapping[str, np.ndarray]) -> Any:
        if not self.calibrates:
            return state
        if "hypothesis_scale" in state:
            found = hypotheses.calibration(records, state["hypothesis_scale"])
            return {**state, "hypothesis_scale": jax.tree.map(jnp.float32, found)}
        ratio = summary.sigma_ratios(records)
        old = state["sigma_scale"]
        scale = {k: jnp.asarray(old[k] * r, jnp.float32) for k, r in ratio.items()}
        return {**state, "sigma_scale": scale}

    def summarize(self, records: Mapping[str, np.ndarray]) -> dict[str, float]:
        return summary.summarize(records, self.trajectory)

    def report(
        self,
        records: Mapping[str, np.ndarray],
        summary: Mapping[str, float],
        examples: Sequence[Mapping[str, np.ndarray]],
    ) -> Report:
        data, wireframe = self.data, None
        if data.simulated:  # nobody knows the mesh of the real one
            from posejax.sim.spacecraft import spacecraft_wireframe

            wireframe = spacecraft_wireframe()
        return make_report(
            records,
            summary,
            examples,
            title=f"eventpose on {data.title}",
            simulated=data.simulated,
            trajectory=self.trajectory,
            wireframe=wireframe,
        )
