"""The loss of dense matching: pure functions of a warp and the true one.

Lengths are in halves of image B along each axis, as the flow is: one pixel is 2 / W across and
2 / H down.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from posejax.image import bilinear_sample
from posejax.systems.tinyroma.config import ObjectiveConfig
from posejax.systems.tinyroma.model import Warp


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


def _mean(values: Array, counts: Array) -> Array:
    total = jnp.sum(jnp.where(counts, values, 0))
    return total / jnp.maximum(jnp.sum(counts), 1)
