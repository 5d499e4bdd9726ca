"""The event pose system as the engine sees it: pure methods over one config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from posejax.data.cameras import Camera
from posejax.report import Report
from posejax.systems.eventpose import hypotheses, summary
from posejax.systems.eventpose.alignment import event_density
from posejax.systems.eventpose.answers import pose_records, solved_poses
from posejax.systems.eventpose.checks import check_options
from posejax.systems.eventpose.config import (
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
from posejax.systems.eventpose.keypoints import averaged, keypoint_losses, turned
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
        check_options(self.data, self.input, self.model, self.objective, self.keypoints)

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

    def see(self, params: Any, state: Any, batch: Batch) -> tuple[Prepared, dict[str, jax.Array]]:
        """What the network gets of a batch, and what it says to it: all that parameters are for.

        With `keypoints.half_turn` the heads also hold `opposite`, the heatmaps that it has of the
        view turned by half a turn.
        """
        prepared = self.prepare(batch, None)
        heads, _ = cast(tuple, self._heads(params, state, prepared.grid, False))
        if self.solves and self.keypoints.half_turn:
            other, _ = cast(tuple, self._heads(params, state, turned(prepared.grid), False))
            heads = {**heads, "opposite": turned(other["heatmaps"])}
        return prepared, heads

    def answer(
        self, state: Any, prepared: Prepared, heads: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """Outputs of `predict` from what `see` gives, in the way that the config asks for."""
        outputs = {
            "loss": self._losses(heads, prepared, state)["loss"],
            "grid": prepared.grid,
            "view_rotation": prepared.view.rotation,
            "view_intrinsics": prepared.view.intrinsics,
            "zoom": prepared.view.zoom,
            "truth": prepared.pose,
        }
        stats = TranslationStats(**state["translation"])
        if "translation" in heads:
            outputs["pose"] = self._camera_pose(heads, prepared, stats)
        if self.solves:
            if "pose" in outputs:
                outputs["direct_pose"] = outputs["pose"]
            logits = heads["heatmaps"]
            if self.keypoints.half_turn:
                logits = averaged(logits, heads["opposite"])
            points, scale = state["keypoints"]["points"], state["hypothesis_scale"]
            density = event_density(prepared.grid, self.input) if self.keypoints.align else None
            found = solved_poses(logits, points, prepared, self.keypoints, scale, density)
            return outputs | found
        if "sigma_scale" in state:
            position, rotation = predicted_sigma(heads, stats)
            # A craft that the border cuts is known less well than the network can tell.
            scale, doubt = state["sigma_scale"], 1 + prepared.view.cut
            outputs["sigma_m"] = position.mean(-1) * prepared.view.zoom * scale["position"] * doubt
            outputs["sigma_rad"] = rotation * scale["rotation"] * doubt
        return outputs

    def predict(self, params: Any, state: Any, batch: Batch) -> dict[str, jax.Array]:
        return self.answer(state, *self.see(params, state, batch))

    def metrics(self, outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        return pose_records(outputs, batch.examples)

    @property
    def solves(self) -> bool:
        """Whether poses come from heatmaps."""
        return self.model.heads != "direct" and self.keypoints.answer == "solver"

    @property
    def calibrates(self) -> bool:
        """Whether there are predicted spreads to scale."""
        direct = self.model.heads == "direct" and self.objective.uncertainty == "gaussian"
        return direct or self.solves

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
            focal=float(self.camera.intrinsics[0, 0]),
            wireframe=wireframe,
        )
