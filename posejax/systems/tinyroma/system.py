"""The matching system as the engine sees it: pure methods over one config."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from posejax.config import ConfigError
from posejax.data.dataset import Dataset
from posejax.deploy.program import Program
from posejax.geometry import pixels_from_normalized
from posejax.matching import Matches
from posejax.report import Report
from posejax.systems.tinyroma import baseline, poses, summary
from posejax.systems.tinyroma.augment import check_partners
from posejax.systems.tinyroma.config import (
    MatchConfig,
    ModelConfig,
    ObjectiveConfig,
)
from posejax.systems.tinyroma.data import SimulatedPairs
from posejax.systems.tinyroma.model import TinyRoma, TinyRomaOutput, Warp, make_network
from posejax.systems.tinyroma.objective import pair_loss
from posejax.systems.tinyroma.pairs import Pairs
from posejax.systems.tinyroma.pretrained import load_backbone, load_tiny_roma
from posejax.systems.tinyroma.programs import network_programs
from posejax.systems.tinyroma.report import build
from posejax.train.system import Batch, LossOutput, System


@dataclass(frozen=True)
class Tinyroma(System):
    """Dense warp and relative pose of two images; see docs/tinyroma.md.

    Attributes:
      data: image pairs.
      model: network.
      match: from the warp to matches and a pose.
      objective: loss.
      baseline: "xfeat" matches by mutual nearest neighbours of the features of model.backbone in
        place of the network; it has no parameters.
    """

    data: Dataset = field(default_factory=SimulatedPairs)
    model: ModelConfig = ModelConfig()
    match: MatchConfig = MatchConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    baseline: Literal["none", "xfeat"] = "none"

    calibration: ClassVar[tuple[str, ...]] = ("covariance",)

    def check(self) -> None:
        for part in (self.model, self.match, self.objective):
            part.check()
        if isinstance(self.data, Pairs):
            self.data.check()
        if self.match.consistency is not None and not self.model.symmetric:
            raise ConfigError("system.match.consistency: needs --system.model.symmetric")
        if isinstance(self.data, Pairs) and self.data.both_ways and not self.model.symmetric:
            raise ConfigError("system.data.both_ways: True; needs --system.model.symmetric")
        if self.baseline == "xfeat":
            if not self.model.backbone:
                raise ConfigError("system.baseline: 'xfeat' needs --system.model.backbone FILE")
            _ = self._published  # it is these weights, with every use

    def check_start(self) -> None:
        if isinstance(self.data, Pairs):  # what is augmented is trained on alone
            check_partners(self.model.search, self.data.augment)
        zeros = _zeros(self.net)
        self.start(zeros["params"], zeros)

    @cached_property
    def net(self) -> TinyRoma:
        return make_network(self.model)

    # ---- the protocol

    def init(self, key: jax.Array, batch: Batch) -> tuple[Any, Any]:
        extra = {"covariance": {"scale": jnp.float32(1)}}
        if self.baseline != "none":
            return {}, extra
        images = (jnp.zeros((1, *batch.examples[k].shape[1:])) for k in ("image_a", "image_b"))
        variables = dict(self.net.init(key, *images, False))
        return variables.pop("params"), {**variables, **extra}

    def start(self, params: Any, state: Any) -> tuple[Any, Any]:
        """Published weights of the trunk, or of all."""
        model = self.model
        if self.baseline != "none" or not (model.weights or model.backbone):
            return params, state
        variables = {"params": params, "batch_stats": state["batch_stats"]}
        if model.weights:
            variables = load_tiny_roma(model.weights, self.net, variables)
        else:
            variables = load_backbone(str(model.backbone), self.net, variables)
        return variables.pop("params"), {**state, **variables}

    def _apply(self, params: Any, state: Any, batch: Batch, train: bool) -> tuple[Any, Any]:
        pair = (_unit(batch.examples[k]) for k in ("image_a", "image_b"))
        variables = {"params": params, "batch_stats": state["batch_stats"]}
        if not train:
            return self.net.apply(variables, *pair, False), state
        out, updated = self.net.apply(variables, *pair, True, mutable=["batch_stats"])
        return out, {**state, **updated}

    def loss(
        self,
        params: Any,
        state: Any,
        batch: Batch,
        key: jax.Array,
        progress: jax.Array,
        train: bool,
    ) -> tuple[jax.Array, LossOutput]:
        del key, progress  # nothing is drawn or ramped
        if self.baseline != "none":
            raise ConfigError("system.baseline: there is nothing to train; evaluate it")
        out, state = self._apply(params, state, batch, train)
        with jax.named_scope("objective"):
            total, scalars = pair_loss(out, batch.examples, self.objective, self.model)
            visible = batch.examples["visible_4"] > 0
            off = pixels_from_normalized(out.fine.flow, _sides(batch.examples["image_b"]))
            off = jnp.sqrt(jnp.sum((off - batch.examples["target_4"]) ** 2, axis=-1))
            count = jnp.maximum(jnp.sum(visible), 1)
            scalars["within_3px"] = jnp.sum(visible & (off < 3)) / count
        return total, LossOutput(state, jax.lax.stop_gradient(scalars))

    def predict(self, params: Any, state: Any, batch: Batch) -> dict[str, jax.Array]:
        """Warp, matches and pose of every pair.

        Examples need `image_a`, `image_b` of sides that are multiples of 32; poses need `K_a` and
        `K_b`; `loss` comes with the targets.

        Returns:
          With h, w = H / 4, W / 4 and pixels of the given images: warp [B, h, w, 2] in B,
          certainty [B, h, w]; coarse_warp and coarse_certainty at H / 8, W / 8; matches_a,
          matches_b [B, n, 2], weights [B, n], zero for padding; b_from_a [B, 4, 4] with a
          translation of length one, covariance [B, 5, 5] (see
          `posejax.matching.estimate_relative_pose`), inliers [B, n], valid [B]. A symmetric model
          also gives back_warp, back_certainty (B to A) and consistency [B, h, w], the distance in
          pixels between a cell and where its partner is sent back to.
        """
        examples = batch.examples
        if self.baseline == "xfeat":
            outputs = self._nearest(examples)
        else:
            out, _ = self._apply(params, state, batch, False)
            outputs = self._maps(out, examples)
        # A match of a baseline is a cell of stride 8.
        prefix, stride = ("", 4) if self.baseline == "none" else ("coarse_", 8)
        with jax.named_scope("matches"):
            warp, certainty = outputs[f"{prefix}warp"], outputs[f"{prefix}certainty"]
            if self.match.consistency is not None:
                returns = outputs["consistency"] <= self.match.consistency
                certainty = jnp.where(returns, certainty, 0)
            count = self.match.count
            least = self.match.min_certainty
            found = jax.vmap(lambda w, c: poses.certain_matches(w, c, count, least))(
                warp, certainty
            )
            matches = Matches(stride * found.xy_a, found.xy_b, found.weights)
        outputs |= {"matches_a": matches.xy_a, "matches_b": matches.xy_b}
        outputs["weights"] = matches.weights
        if "K_a" in examples and "K_b" in examples:
            with jax.named_scope("pose"):
                pose = poses.relative_poses(matches, examples["K_a"], examples["K_b"], self.match)
            names = ("b_from_a", "covariance", "inliers", "valid")
            outputs |= {name: getattr(pose, name) for name in names}
            outputs["covariance"] *= state["covariance"]["scale"]
        if "b_from_a" in examples:  # an evaluation shows examples and outputs as one
            outputs["true_b_from_a"] = examples["b_from_a"]
        return outputs

    def _maps(self, out: TinyRomaOutput, examples: Mapping[str, jax.Array]) -> dict[str, Any]:
        shape_a, shape_b = (_sides(examples[k]) for k in ("image_a", "image_b"))
        warp, certainty = _pixels(out.fine, shape_b)
        coarse_warp, coarse_certainty = _pixels(out.coarse, shape_b)
        outputs = {
            "warp": warp,
            "certainty": certainty,
            "coarse_warp": coarse_warp,
            "coarse_certainty": coarse_certainty,
        }
        if out.reverse is not None:
            back, back_certainty = _pixels(out.reverse.fine, shape_a)
            distance = jax.vmap(lambda x, y: poses.forward_backward_distance(x, y, 4))(warp, back)
            outputs |= {"back_warp": back, "back_certainty": back_certainty}
            outputs["consistency"] = distance
        if "target_4" in examples:
            each = jax.tree.map(lambda x: x[:, None], (out, dict(examples)))
            outputs["loss"] = jax.vmap(lambda o, x: pair_loss(o, x, self.objective, self.model)[0])(
                *each
            )
        return outputs

    def _nearest(self, examples: Mapping[str, jax.Array]) -> dict[str, Any]:
        """Maps of the training-free baseline, in the form of `_maps`."""
        pair = tuple(_unit(examples[k]) for k in ("image_a", "image_b"))
        found: Any = self.net.apply(self._published, *pair, False, method=TinyRoma.features)
        return baseline.nearest_maps(*(features.coarse for features in found))

    @cached_property
    def _published(self) -> dict[str, Any]:
        """Variables with the trunk of the given file, as constants."""
        with jax.ensure_compile_time_eval():
            loaded = load_backbone(self.model.backbone or "", self.net, _zeros(self.net))
            return jax.tree.map(np.asarray, loaded)

    def metrics(self, outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        """Scores of every pair.

        `error` is in degrees, so that pairs of a mixed split have one order: that of the pose, or
        where the true one is unknown the angle that the warp's mean error spans in B.
        """
        examples = batch.examples
        scores = poses.pose_scores(
            outputs["b_from_a"],
            outputs["covariance"],
            outputs["valid"],
            examples["b_from_a"],
            examples["has_pose"],
        )
        found = poses.warp_scores(outputs["warp"], outputs["certainty"], examples)
        angle = jnp.rad2deg(jnp.arctan2(found["epe"], examples["K_b"][:, 0, 0]))
        used = jnp.sum(outputs["weights"] > 0, axis=1)
        share = jnp.sum(outputs["inliers"], axis=1) / jnp.maximum(used, 1)
        return {
            "loss": outputs["loss"],
            "error": jnp.where(examples["has_pose"] > 0, scores.error, angle),
            "rotation_error": scores.rotation,
            "translation_error": scores.translation,
            "chi2": scores.chi2,
            "valid": outputs["valid"],
            "inlier_share": share,
            "matches": used,
            "overlap": examples["overlap"],
            "rotation_deg": examples["rotation_deg"],
            **found,
        }

    def calibrate(self, state: Any, records: Mapping[str, np.ndarray]) -> Any:
        """The scale of the covariances that gives their median error its place in chi2.

        Matches of one warp err together, which the estimate of a pair's covariance cannot see.
        """
        ratio = summary.covariance_ratio(records)
        scale = state["covariance"]["scale"] * jnp.float32(ratio)
        return {**state, "covariance": {"scale": scale}}

    def summarize(self, records: Mapping[str, np.ndarray]) -> dict[str, float]:
        return summary.summarize(records)

    def programs(
        self, params: Any, state: Any, example: Callable[[], Batch]
    ) -> Mapping[str, Callable[[], Program]]:
        """The network alone on images of a chosen size, and `predict`; see `network_programs`."""
        others = super().programs(params, state, example)
        if self.baseline != "none":
            return others
        variables = {"params": params, "batch_stats": state["batch_stats"]}
        return {**network_programs(self.net, variables), **others}

    def report(
        self,
        records: Mapping[str, np.ndarray],
        summary: Mapping[str, float],
        examples: Sequence[Mapping[str, np.ndarray]],
    ) -> Report:
        data = self.data
        return build(
            records,
            summary,
            examples,
            title=f"tinyroma on {data.title}",
            simulated=data.simulated,
            protocol=f"posejax: own robust estimate, {self.match.threshold:g} px, "
            "one deterministic draw",
        )


def _zeros(net: TinyRoma) -> Any:
    """Variables of the network's shapes, for readers of weights."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(lambda k, x: net.init(k, x, x, False), jax.random.key(0), image)
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def _unit(image: jax.Array) -> jax.Array:
    """uint8 images as float32 in [0, 1]; floating ones as they are."""
    if jnp.issubdtype(image.dtype, jnp.integer):
        return image.astype(jnp.float32) / 255
    return image


def _sides(images: Any) -> tuple[int, int]:
    return images.shape[1], images.shape[2]


def _pixels(warp: Warp, shape: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    return pixels_from_normalized(warp.flow, shape), jax.nn.sigmoid(warp.logit)
