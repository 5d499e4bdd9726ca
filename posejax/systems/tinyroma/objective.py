"""The loss of dense matching: pure functions of a warp and the true one.

Lengths are in halves of image B along each axis, as the flow is: one pixel is 2 / W across and
2 / H down.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from posejax.geometry import normalized_from_pixels
from posejax.image import bilinear_sample
from posejax.systems.tinyroma.config import ModelConfig, ObjectiveConfig
from posejax.systems.tinyroma.model import TinyRomaOutput, Warp


class Targets(NamedTuple):
    """Truth of the cells of A, any leading axes.

    flow: [..., 2], partner in B from -1 to 1; finite everywhere.
    visible: [...], 1 where the cell is seen in B.
    known: [...], 1 where `visible` is known.
    """

    flow: Array
    visible: Array
    known: Array


def warp_loss(
    warp: Warp, targets: Targets, stride: int, config: ObjectiveConfig
) -> dict[str, Array]:
    """Parts of the loss of one scale, scalars: means over all its cells.

    With the error e = |flow - true flow|, cs = c * stride and v the visible cells,

    | part | value |
    |---|---|
    | regression | mean over v of cs^alpha ((e / cs)^2 + 1)^(alpha / 2) |
    | certainty | mean over known cells of BCE(logit, v and e < certain * stride) |
    | loss | regression + certainty_weight * certainty |

    At stride 4 only the visible cells with e < reach count as visible. Without a visible cell the
    regression is zero, and so is its gradient. The certainty learns whether the warp is accurate,
    which is less than being seen. It passes no gradient to the flow.

    Edstedt et al., RoMa, CVPR 2024, in the form of its tiny model. There cells of unknown depth
    count as not seen; here they do not count.
    """
    flow, logit = warp.flow.astype(jnp.float32), warp.logit.astype(jnp.float32)
    square = jnp.sum((flow - targets.flow) ** 2, axis=-1)
    visible = targets.visible > 0.99
    if stride == 4:
        visible &= square < config.reach**2
    scale = config.c * stride
    # The error's root is never taken: its slope at zero is infinite.
    robust = scale**config.alpha * (
        (jnp.where(visible, square, 0) / scale**2 + 1) ** (config.alpha / 2)
    )
    regression = _mean(robust, visible)
    accurate = (visible & (square < (config.certain * stride) ** 2)).astype(jnp.float32)
    entropy = jnp.logaddexp(0, logit) - accurate * logit
    certainty = _mean(entropy, targets.known > 0)
    return {
        "loss": regression + config.certainty_weight * certainty,
        "regression": regression,
        "certainty": certainty,
    }


def contrastive_loss(
    coarse_a: Array, coarse_b: Array, log_partition: Array, xy_b: Array, visible: Array,
    temperature: float | None,
) -> Array:  # fmt: skip
    """Mean over the visible cells of -log p(true position), one pair of images.

    Args:
      coarse_a: [h, w, C] features.
      coarse_b: [h', w', C].
      log_partition: [h, w], of `expected_correspondence` with the same temperature.
      xy_b: [h, w, 2], true partners in cells of B, the first one's centre at (0.5, 0.5).
      visible: [h, w].
      temperature: of the scores; None for sqrt(C).

    Between cells the score is that of the interpolated features, so that the value may fall a
    little below zero.
    """
    partner, _ = bilinear_sample(coarse_b.astype(jnp.float32), xy_b)
    score = jnp.sum(coarse_a * partner, axis=-1) / (temperature or coarse_a.shape[-1] ** 0.5)
    seen = (visible > 0.99) & jnp.isfinite(log_partition)
    return _mean(jnp.where(seen, log_partition, 0) - score, seen)


def total_loss(parts: dict[int, dict[str, Array]]) -> tuple[Array, dict[str, Array]]:
    """The sum over the scales, and the parts under names such as `regression_8`."""
    scalars = {
        f"{name}_{stride}": value
        for stride, part in parts.items()
        for name, value in part.items()
        if name != "loss"
    }
    return jnp.stack([part["loss"] for part in parts.values()]).sum(), scalars


def pair_loss(
    out: TinyRomaOutput, examples: Mapping[str, Array], config: ObjectiveConfig, model: ModelConfig
) -> tuple[Array, dict[str, Array]]:
    """The loss of a batch of pairs, and the parts of the way from A to B.

    Args:
      out: of a symmetric network with `reverse`.
      examples: `target_s`, `visible_s`, `known_s` at the strides s = 8 and 4, the images, and, to
        teach the way back, `back_target_s` and so on: the loss then is the mean of both ways.
      config, model: which terms there are.
    """
    total, scalars = _one_way(out, examples, "", examples["image_b"], config, model)
    if out.reverse is not None and "back_target_8" in examples:
        back, _ = _one_way(out.reverse, examples, "back_", examples["image_a"], config, model)
        return (total + back) / 2, {**scalars, "loss_back": back}
    return total, scalars


def _one_way(out: TinyRomaOutput, examples, prefix: str, target_image: Array, config, model):
    shape = target_image.shape[1], target_image.shape[2]
    parts = {}
    for stride, warp in {8: out.coarse, **({4: out.fine} if model.fine else {})}.items():
        xy, *seen = (examples[f"{prefix}{k}_{stride}"] for k in ("target", "visible", "known"))
        targets = Targets(normalized_from_pixels(xy, shape), *seen)
        parts[stride] = warp_loss(warp, targets, stride, config)
    total, scalars = total_loss(parts)
    if config.contrast:
        contrast = jax.vmap(partial(contrastive_loss, temperature=model.temperature))(
            out.features_a.coarse, out.features_b.coarse, out.log_partition,
            examples[f"{prefix}target_8"] / 8, examples[f"{prefix}visible_8"],
        ).mean()  # fmt: skip
        total += config.contrast * contrast
        scalars["contrast"] = contrast
    return total, scalars


def _mean(values: Array, counts: Array) -> Array:
    total = jnp.sum(jnp.where(counts, values, 0))
    return total / jnp.maximum(jnp.sum(counts), 1)
