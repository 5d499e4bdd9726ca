"""Bird's-eye segmentation as the engine sees it: pure methods over one config."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np

from posejax.bev import BoxTargets
from posejax.config import ConfigError
from posejax.nn import MapOutputs
from posejax.report import Report
from posejax.systems.segnet import baselines, pretrained, summary
from posejax.systems.segnet.config import ModelConfig, ObjectiveConfig
from posejax.systems.segnet.data import InfoFrames
from posejax.systems.segnet.frames import RigFrames
from posejax.systems.segnet.lifting import coverage_of, lift_of
from posejax.systems.segnet.model import Flips, SegnetNet, Sensors
from posejax.systems.segnet.objective import (
    LOSSES,
    example_sums,
    map_losses,
    rasters_of,
    segmentation_term,
    targets_of,
    total_loss,
)
from posejax.systems.segnet.report import STRIP, make_report
from posejax.train.system import Batch, LossOutput, System, try_start


@dataclass(frozen=True)
class Segnet(System):
    """Cameras (with LiDAR, with radar) to bird's-eye maps; see docs/segnet.md.

    Attributes:
      data: frames of a vehicle's sensors.
      model: network.
      objective: loss.
      baseline: "prior" shows the mean of the training targets in place of the network; it has no
        parameters, and is fitted by an evaluation's pass over train. Its loss is that of its
        probabilities alone: it has neither centres nor offsets.
    """

    data: RigFrames = field(default_factory=InfoFrames)
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    baseline: Literal["none", "prior"] = "none"

    calibration: ClassVar[tuple[str, ...]] = ("prior", "threshold")

    def check(self) -> None:
        for part in (self.data, self.model, self.objective):
            part.check()
        if self.model.lidar and not self.data.lidar:
            raise ConfigError("system.model.lidar: needs --system.data.lidar")
        if self.model.radar != "none" and not self.data.radar:
            raise ConfigError("system.model.radar: needs --system.data.radar")

    def check_start(self) -> None:
        if self.model.weights or self.model.backbone_weights:
            try_start(self, self._variables)

    @property
    def calibrates(self) -> bool:
        """Whether there is a prior to take from train."""
        return self.baseline == "prior"

    @cached_property
    def net(self) -> SegnetNet:
        return SegnetNet(self.model)

    # ---- the protocol

    def init(self, key: jax.Array, batch: Batch) -> tuple[Any, Any]:
        if self.baseline == "prior":
            return {}, {"prior": jnp.full(self._map_shape, -1.0), "threshold": jnp.zeros(())}
        return self._variables(key)

    @property
    def _map_shape(self) -> tuple[int, int]:
        return self.data.grid.shape[0], self.data.grid.shape[2]

    def _variables(self, key: jax.Array) -> tuple[Any, Any]:
        """They depend on the volume's height alone of what the data are."""
        z, y, x = 8, self.data.grid.shape[1], 8
        volume = jnp.zeros((1, z, y, x, self.model.features))
        sensors = Sensors(
            images=jnp.zeros((1, 1, 32, 32, 3)),
            mask=jnp.ones((1, 1), bool),
            lidar=jnp.zeros((1, z, y, x, 1)),
            radar=jnp.zeros((1, z, y, x, 17)),
        )
        variables = dict(self.net.init(key, sensors, lambda f, m: volume, False))
        weights = {name: jnp.zeros(()) for name in LOSSES}
        return {"network": variables.pop("params"), "log_variances": weights}, variables

    def start(self, params: Any, state: Any) -> tuple[Any, Any]:
        """Published weights of the trunk, or of all."""
        model, variables = self.model, {"params": params, **state}
        if self.baseline != "none" or not (model.weights or model.backbone_weights):
            return params, state
        load = pretrained.load_released if model.weights else pretrained.load_backbone
        found = load(model, variables)
        return found.pop("params"), found

    def sensors(self, batch: Batch) -> Sensors:
        """What the network sees of a batch, points drawn as voxels."""
        examples = batch.examples
        lidar, radar = rasters_of(examples, self.data.grid)
        return Sensors(examples["images"], examples["camera_mask"], lidar, radar)

    def targets(self, batch: Batch) -> BoxTargets:
        return jax.lax.stop_gradient(targets_of(batch.examples, self.data.grid, self.objective))

    def _apply(
        self, params: Any, state: Any, batch: Batch, train: bool, key: jax.Array | None = None
    ) -> tuple[MapOutputs, Any]:
        sensors, lift = self.sensors(batch), lift_of(batch.examples, batch.resident, self.data)
        flips, rngs = None, None
        if train and key is not None:
            flip, dropout = jax.random.split(key)
            flips, rngs = self._flips(flip, batch), {"dropout": dropout}
        return cast(
            Any,
            self.net.apply(
                {"params": params["network"], **state},
                sensors,
                lift,
                train,
                flips,
                mutable=list(state) if train else [],
                rngs=rngs,
            ),
        )

    def _flips(self, key: jax.Array, batch: Batch) -> Flips:
        """Drawn by record: the same however the batch is split up."""
        index, cameras = batch.examples["index"], batch.examples["camera_mask"].shape[1]
        draw = jax.vmap(
            lambda i: jax.random.bernoulli(jax.random.fold_in(key, i), shape=(cameras + 2,))
        )(index)
        augment = self.data.augment
        images, maps = draw[:, 2:] & augment.flip_images, draw[:, :2] & augment.flip_maps
        return Flips(images, maps[:, 0], maps[:, 1])

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
        if self.baseline != "none":
            raise ConfigError("system.baseline: there is nothing to train; evaluate it")
        out, updated = self._apply(params, state, batch, train, key)
        with jax.named_scope("objective"):
            target = self.targets(batch)
            losses = map_losses(out, target, self.objective)
            total = total_loss(losses, params["log_variances"], self.objective)
            said, known = out.segmentation > 0, target.valid > 0
            true = (target.segmentation > 0) & known
            union = jnp.sum((said & known) | true)
            scalars = {**losses, "iou": jnp.sum(said & true) / jnp.maximum(union, 1)}
            scalars |= {f"weight_{k}": jnp.exp(-w) for k, w in params["log_variances"].items()}
        return total, LossOutput({**state, **updated}, jax.lax.stop_gradient(scalars))

    def _example_losses(self, params: Any, out: MapOutputs, target: BoxTargets) -> jax.Array:
        def one(out: MapOutputs, target: BoxTargets) -> jax.Array:
            losses = map_losses(out, target, self.objective)
            return total_loss(losses, params["log_variances"], self.objective)

        return jax.vmap(one)(out, target)

    def predict(self, params: Any, state: Any, batch: Batch) -> dict[str, jax.Array]:
        """Maps of every example.

        logits (above zero where there are vehicles), probability, center [B, Z, X], offset
        [B, Z, X, 2] (cells), features [B, Z, X, C]; the targets
        target_map, valid_map, target_center, target_offset, target_instance; coverage [B, Z, X],
        the most cameras that see a voxel of the column; loss [B].
        """
        target = self.targets(batch)
        if self.baseline == "prior":
            share = jnp.broadcast_to(state["prior"][None], target.segmentation.shape)
            logits, none = share - state["threshold"], jnp.zeros_like(target.offset)
            out = MapOutputs(logits, jax.nn.sigmoid(logits), none, none)
            loss = jax.vmap(partial(segmentation_term, objective=self.objective))(share, target)
        else:
            out, _ = self._apply(params, state, batch, False)
            share, loss = out.segmentation, self._example_losses(params, out, target)
        return {
            "loss": loss,
            "logits": out.segmentation,
            "probability": jax.nn.sigmoid(share),
            "center": out.center,
            "offset": out.offset,
            "features": out.features,
            "target_map": target.segmentation,
            "valid_map": target.valid,
            "target_center": target.center,
            "target_offset": target.offset,
            "target_instance": target.instance,
            "coverage": coverage_of(batch.examples, batch.resident, self.data),
        }

    def stages(self) -> Mapping[str, Callable[[Any, Any, Batch, Any], Any]]:
        """encoder, lift, compressor, decoder."""
        if self.baseline != "none":
            return {}

        def call(method: str) -> Callable[..., Any]:
            def run(params: Any, state: Any, *arguments: Any) -> Any:
                variables = {"params": params["network"], **state}
                return self.net.apply(variables, *arguments, method=method)

            return run

        def lift(params: Any, state: Any, batch: Batch, features: jax.Array) -> jax.Array:
            del params, state
            found = lift_of(batch.examples, batch.resident, self.data)
            return found(features, batch.examples["camera_mask"])

        return {
            "encoder": lambda p, s, b, _: call("encode")(p, s, self.sensors(b), False),
            "lift": lift,
            "compressor": lambda p, s, b, x: call("compress")(p, s, x, self.sensors(b)),
            "decoder": lambda p, s, b, x: call("decode")(p, s, x, False),
        }

    def metrics(self, outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        """Sums of every example; `error` is its number of wrong cells."""
        names = ("target_map", "valid_map", "target_center", "target_offset", "target_instance")
        target = BoxTargets(*(outputs[name] for name in names))
        sums = jax.vmap(partial(example_sums, grid=self.data.grid))(
            *(outputs[name] for name in ("logits", "probability", "center", "offset")),
            target=target,
        )
        examples = batch.examples
        found = {"loss": outputs["loss"], "error": sums.pop("wrong_cells"), **sums}
        found["scene"] = examples["scene"]
        found["boxes"] = jnp.sum(examples["box_present"], axis=1)
        found["cameras"] = jnp.sum(examples["camera_mask"], axis=1)
        if self.baseline == "prior":
            found |= {name: outputs[name] for name in ("target_map", "valid_map")}
        return found

    def calibrate(self, state: Any, records: Mapping[str, np.ndarray]) -> Any:
        if self.baseline != "prior":
            return state
        prior = baselines.fit_prior(records)
        return {"prior": jnp.asarray(prior.logits), "threshold": jnp.asarray(prior.threshold)}

    def summarize(self, records: Mapping[str, np.ndarray]) -> dict[str, float]:
        return summary.summarize(records)

    def also_shown(self, records: Mapping[str, np.ndarray]) -> Sequence[int]:
        return [int(records["index"][row]) for row in summary.in_a_row(records, STRIP)]

    def report(
        self,
        records: Mapping[str, np.ndarray],
        summary: Mapping[str, float],
        examples: Sequence[Mapping[str, np.ndarray]],
    ) -> Report:
        return make_report(records, summary, examples, self.data)
