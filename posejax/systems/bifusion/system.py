"""2D-3D point features as the engine sees them: pure methods over one config."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from posejax.config import ConfigError
from posejax.report import Report
from posejax.systems.bifusion import pretrained, summary, things
from posejax.systems.bifusion.config import ModelConfig, ObjectiveConfig
from posejax.systems.bifusion.data import RgbdFrames, ScanNet
from posejax.systems.bifusion.model import Frames, FusionNet, FusionOutputs, camera_points
from posejax.systems.bifusion.objective import (
    confusion,
    cross_entropy,
    health,
    mean_over,
    offset_error,
    point_losses,
)
from posejax.systems.bifusion.report import make_report
from posejax.train.system import Batch, LossOutput, System, try_start


@dataclass(frozen=True)
class Bifusion(System):
    """Points with colours, and the image that shows them, to features, classes and things.

    The share of the run that was done at the last training step is a part of the state: an
    evaluation in the midst of a training opens the gate no further than the training did.

    Attributes:
      data: RGB-D frames.
      model: network.
      objective: loss.
      baseline: "prior" says of every point how often each class is in train, whatever it is; it has
        no parameters, and is fitted by an evaluation's pass over train.
    """

    data: RgbdFrames = ScanNet()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    baseline: Literal["none", "prior"] = "none"

    calibration: ClassVar[tuple[str, ...]] = ("prior",)

    def check(self) -> None:
        for part in (self.data, self.model, self.objective):
            part.check()
        height, width = self.model.image_size or self.data.size
        if self.model.mode != "points" and (height % 16 or width % 16):
            found = f"images of {width} x {height} pixels"
            raise ConfigError(f"system.model.image_size: {found}; expected multiples of 16")

    def check_start(self) -> None:
        if self.model.clip_weights or self.model.points_weights:
            try_start(self, self._variables)

    @property
    def calibrates(self) -> bool:
        """Whether there is a prior to take from train."""
        return self.baseline == "prior"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.classes

    @cached_property
    def net(self) -> FusionNet:
        return FusionNet(self.model, len(self.classes))

    # ---- the protocol

    def init(self, key: jax.Array, batch: Batch) -> tuple[Any, Any]:
        if self.baseline == "prior":
            return {}, {"prior": jnp.zeros(len(self.classes))}
        return self._variables(key)

    def _variables(self, key: jax.Array) -> tuple[Any, Any]:
        """They depend on nothing but the config."""
        frames = Frames(
            points=jnp.zeros((1, 16, 3)),
            colors=jnp.zeros((1, 16, 3)),
            mask=jnp.ones((1, 16), bool),
            image=jnp.zeros((1, 32, 32, 3)),
            intrinsics=jnp.eye(3)[None],
            camera_from_world=jnp.eye(4)[None],
        )
        variables = dict(self.net.init(key, frames, jnp.float32(1), False))
        params = variables.pop("params")
        return params, {**variables, "schedule": {"progress": jnp.zeros(())}}

    def start(self, params: Any, state: Any) -> tuple[Any, Any]:
        """Published weights of the encoders."""
        if self.baseline != "none":
            return params, state
        return pretrained.load(self.model, params, state)

    def frames(self, batch: Batch) -> Frames:
        """What the network sees of a batch."""
        return Frames(*(batch.examples[name] for name in Frames._fields))

    def _apply(
        self,
        params: Any,
        state: Any,
        batch: Batch,
        progress: jax.Array,
        train: bool,
        key: jax.Array | None = None,
    ) -> tuple[FusionOutputs, Any]:
        variables = {"params": params} | {k: v for k, v in state.items() if k == "batch_stats"}
        out: Any = self.net.apply(
            variables,
            self.frames(batch),
            progress,
            train,
            mutable=["batch_stats"] if train else False,
            rngs=None if key is None else {"dropout": key},
        )
        return out if train else (out, {})

    def loss(
        self,
        params: Any,
        state: Any,
        batch: Batch,
        key: jax.Array,
        progress: jax.Array,
        train: bool,
    ) -> tuple[jax.Array, LossOutput]:
        if self.baseline != "none":
            raise ConfigError("system.baseline: there is nothing to train; evaluate it")
        if not train:
            progress = state["schedule"]["progress"]
        out, updated = self._apply(params, state, batch, progress, train, key if train else None)
        with jax.named_scope("objective"):
            examples = batch.examples
            total, losses = point_losses(out, examples, self.objective, progress)
            known = examples["mask"] & (examples["semantic"] >= 0)
            right = jnp.argmax(out.logits, -1) == examples["semantic"]
            scalars = {**losses, "accuracy": mean_over(right.astype(jnp.float32), known)}
            scalars |= health(out, examples["mask"])
        new = {**state, **updated, "schedule": {"progress": progress.astype(jnp.float32)}}
        return total, LossOutput(new, jax.lax.stop_gradient(scalars))

    def gradient_norms(
        self, params: Any, state: Any, batch: Batch, key: jax.Array, progress: jax.Array
    ) -> Any:
        """Norm of the loss's gradient in every leaf of the parameters, a tree like them."""

        def total(p: Any) -> jax.Array:
            return self.loss(p, state, batch, key, progress, True)[0]

        return jax.tree.map(lambda g: jnp.sqrt(jnp.sum(jnp.square(g))), jax.grad(total)(params))

    def predict(self, params: Any, state: Any, batch: Batch) -> dict[str, jax.Array]:
        """Of every point.

        logits [B, N, classes], class [B, N] int32 and its probability, offset [B, N, 3] metres to
        the centre of its thing and offset_error [B, N], fused [B, N, C], gate and depth [B, N],
        valid [B, N] bool: on the image; xy [B, N, 2] on it, pixels; thing [B, N] int32, 1 + the
        number of a point's thing in the frame or 0; loss [B], the cross-entropy.
        """
        frames, examples = self.frames(batch), batch.examples
        shape = frames.mask.shape
        if self.baseline == "prior":
            logits = jnp.broadcast_to(state["prior"][None, None], (*shape, len(self.classes)))
            none = jnp.zeros(shape)
            found = {"offset": jnp.zeros((*shape, 3)), "fused": none[..., None], "gate": none}
            found |= {"valid": frames.mask, "xy": jnp.zeros((*shape, 2))}
        else:
            out, _ = self._apply(params, state, batch, state["schedule"]["progress"], False)
            logits = out.logits
            found = {"offset": out.offset, "fused": out.fusion.fused, "gate": out.fusion.alpha}
            found |= {"valid": out.projection.valid, "xy": self._pixels(out, frames)}
        known = frames.mask & (examples["semantic"] >= 0)
        said = jnp.argmax(logits, -1).astype(jnp.int32)
        each = jax.vmap(mean_over)(cross_entropy(logits, examples["semantic"]), known)
        return {
            **found,
            "logits": logits,
            "class": said,
            "thing": things.decode(frames.points, found["offset"], said, frames.mask, self.classes),
            "probability": jnp.max(jax.nn.softmax(logits), -1),
            "offset_error": offset_error(found["offset"], examples),
            "depth": camera_points(frames)[..., 2],
            "loss": each,
        }

    def _pixels(self, out: FusionOutputs, frames: Frames) -> jax.Array:
        """Places on the image; in compat modes as the map has them, so that errors are seen."""
        size = self.model.grid
        height, width = frames.image.shape[1:3]
        if self.model.mode == "points":
            size = (height, width)
        elif size is None:
            h, w = self.model.image_size or (height, width)
            stride = 16 if self.model.image == "clip" else 8
            size = (h // stride, w // stride)
        return out.projection.xy * jnp.array([width / size[1], height / size[0]])[None, None]

    def metrics(self, outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        """Sums of every example; `error` is its share of wrong points."""
        examples, classes = batch.examples, len(self.classes)
        mask = examples["mask"]
        counts = jax.vmap(lambda *a: confusion(*a, classes=classes))(
            outputs["class"], examples["semantic"], outputs["depth"], mask
        )
        # Where voxels did not fit, outputs are NaN: no class was said, not the first one.
        kept = jnp.isfinite(outputs["loss"])
        counts = jnp.where(kept[:, None, None, None], counts, 0)
        labelled = jnp.sum(counts, (1, 2, 3))
        right = jnp.trace(jnp.sum(counts, 1), axis1=1, axis2=2)
        thing = mask & (examples["instance"] >= 0) & kept[:, None]
        valid = outputs["valid"].astype(jnp.float32)
        return {
            "loss": outputs["loss"],
            "error": jnp.where(kept, 1 - right / jnp.maximum(labelled, 1), jnp.nan),
            "lost": ~kept,
            "confusion": counts,
            "offset_sum": jnp.sum(jnp.where(thing, outputs["offset_error"], 0), axis=1),
            "things": jnp.sum(thing, axis=1),
            "points": jnp.sum(mask, axis=1),
            "panoptic": things.panoptic(outputs["thing"], examples, kept, self.classes),
            "valid": jnp.sum(valid, axis=1),
            "gate": jnp.sum(outputs["gate"] * valid, axis=1),
            "sequence": examples["sequence"],
        }

    def calibrate(self, state: Any, records: Mapping[str, np.ndarray]) -> Any:
        if self.baseline != "prior":
            return state
        return {**state, "prior": jnp.asarray(summary.prior_logits(records))}

    def summarize(self, records: Mapping[str, np.ndarray]) -> dict[str, float]:
        return summary.summarize(records, self.classes)

    def stages(self) -> Mapping[str, Callable[[Any, Any, Batch, Any], Any]]:
        """image, points, fusion."""
        if self.baseline != "none":
            return {}

        def call(method: str) -> Callable[..., Any]:
            def run(params: Any, state: Any, *arguments: Any) -> Any:
                variables = {"params": params, "batch_stats": state.get("batch_stats", {})}
                return self.net.apply(variables, *arguments, method=method)

            return run

        def points(params: Any, state: Any, batch: Batch, maps: Any) -> Any:
            raw, full = call("encode_points")(params, state, self.frames(batch), False)
            return maps, raw, full

        def fusion(params: Any, state: Any, batch: Batch, branches: Any) -> Any:
            progress = state["schedule"]["progress"]
            return call("fuse")(params, state, self.frames(batch), *branches, progress, False)

        return {
            "image": lambda p, s, b, _: call("encode_image")(p, s, self.frames(b), False),
            "points": points,
            "fusion": fusion,
        }

    def mapping(self) -> tuple[Any, Callable[..., None]]:
        """Maps of recordings."""
        from posejax.systems.bifusion import mapping

        return mapping.MapOptions(), mapping.run

    def report(
        self,
        records: Mapping[str, np.ndarray],
        summary: Mapping[str, float],
        examples: Sequence[Mapping[str, np.ndarray]],
    ) -> Report:
        return make_report(records, summary, examples, self.data, self.model)
