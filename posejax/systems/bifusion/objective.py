"""Losses of point features, the health of a step and the sums of an evaluation: pure functions."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from posejax.geometry import safe_norm
from posejax.sparse.groups import make_groups, mean_of_members, spread
from posejax.sparse.keys import running_count
from posejax.systems.bifusion.config import ObjectiveConfig
from posejax.systems.bifusion.model import Fusion, FusionOutputs

BINS = 10  # of the gate's histogram
RANGES = (0.0, 1.0, 2.0, 3.0, 5.0, 1e6)  # metres of depth, of the numbers by range


def mean_over(values: jax.Array, counts: jax.Array) -> jax.Array:
    """Mean of the values that count; zero, with zero gradients, where none does."""
    counts = jnp.asarray(counts, bool)
    total = jnp.sum(jnp.where(counts, values, 0))
    return total / jnp.maximum(jnp.sum(counts), 1).astype(total.dtype)


def ramp(progress: jax.Array, begin: float, end: float) -> jax.Array:
    """Zero up to `begin`, one from `end` on, a line between."""
    return jnp.clip((progress - begin) / (end - begin), 0, 1)


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """[..., C] and [..., C] -> [...]; zero where one of them is zero."""
    length = safe_norm(a) * safe_norm(b)
    return jnp.where(length > 0, jnp.sum(a * b, -1) / jnp.where(length > 0, length, 1), 0)


def consistency(fused: jax.Array, f2d: jax.Array, trusted: float) -> jax.Array:
    """1 - cosine between fused features and the image's, [..., C] -> [...].

    Of the gradient in the image's features a share `trusted` passes; the fused features have all.
    """
    target = trusted * f2d + (1 - trusted) * jax.lax.stop_gradient(f2d)
    return 1 - cosine(fused, target)


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """[..., C] and [...] -> [...]; of points without a label (-1) whatever it is, it is finite."""
    logits = jax.nn.log_softmax(logits.astype(jnp.float32))
    # A product, not a read: the gradient of a read is a scatter.
    return -jnp.sum(logits * jax.nn.one_hot(label, logits.shape[-1]), axis=-1)


def instance_numbers(instance: jax.Array) -> jax.Array:
    """[N] int32 of any numbers to 0, 1, ... in their order; those below 0 to -1."""
    order = jnp.argsort(instance, stable=True)
    ordered = instance[order]
    first = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
    rank = running_count(first & (ordered >= 0))[jnp.argsort(order)] - 1
    return jnp.where(instance >= 0, rank, -1)


def instance_centers(points: jax.Array, instance: jax.Array) -> jax.Array:
    """Mean of each point's instance.

    Args:
      points: [N, 3].
      instance: [N] int32, any numbers from 0 on; -1 for none.

    Returns:
      [N, 3], zero for points of none.
    """
    count, number = len(points), instance_numbers(instance)
    groups = make_groups(jnp.where(number >= 0, number, count), count)
    return spread(mean_of_members(points, groups), groups)


def offset_error(offset: jax.Array, examples: Mapping[str, Any]) -> jax.Array:
    """[B, N] sum of the axes' absolute errors (m) of the ways to the centres."""
    centers = jax.vmap(instance_centers)(examples["points"], examples["instance"])
    target = jax.lax.stop_gradient(centers - examples["points"])
    return jnp.sum(jnp.abs(offset - target), axis=-1)


def point_losses(
    out: FusionOutputs,
    examples: Mapping[str, Any],
    objective: ObjectiveConfig,
    progress: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss, and its parts before they are weighed; means over all points of the arrays."""
    mask, valid = examples["mask"], out.projection.valid
    labelled = mask & (examples["semantic"] >= 0)
    thing = mask & (examples["instance"] >= 0)
    losses = {
        "semantic": mean_over(cross_entropy(out.logits, examples["semantic"]), labelled),
        "offset": mean_over(offset_error(out.offset, examples), thing),
    }
    weights: dict[str, Any] = {"semantic": objective.semantic, "offset": objective.offset}
    if out.fusion.f2d is not None and out.fusion.f3d is not None:
        seen = jnp.sum(valid) / jnp.maximum(jnp.sum(mask), 1)
        far = consistency(out.fusion.fused, out.fusion.f2d, objective.trusted)
        share = mean_over(out.fusion.alpha, valid)
        losses |= {
            "consistency": mean_over(far, valid),
            "balance": jnp.square(share - objective.balanced),
        }
        trust = ramp(progress, *objective.ramp) * jnp.clip(seen / objective.seen, 0, 1)
        weights |= {"consistency": objective.consistency * trust, "balance": objective.balance}
    total = sum(weights[name] * value for name, value in losses.items())
    if "consistency" in weights:
        losses["consistency_weight"] = weights["consistency"]
    return jnp.asarray(total), losses


def health(out: FusionOutputs, mask: jax.Array) -> dict[str, jax.Array]:
    """What tells a training that works from one that only runs; scalars.

    valid_ratio; of the branches norm_2d, norm_3d, feature_similarity; of the gate fusion_2d_ratio
    (its mean over valid points), fusion_3d_ratio, gate/std, gate/min, gate/max and the shares
    gate/0.0 ... gate/0.9 of its histogram; voxels, how full the fullest level is.
    """
    valid, fusion = out.projection.valid, out.fusion
    found = {"valid_ratio": mean_over(valid.astype(jnp.float32), mask)}
    if fusion.f3d is not None:
        found |= {"voxels": out.full, "norm_3d": mean_over(safe_norm(fusion.f3d), mask)}
    if fusion.f2d is not None:
        found["norm_2d"] = mean_over(safe_norm(fusion.f2d), valid)
    if fusion.f2d is not None and fusion.f3d is not None:
        found["feature_similarity"] = mean_over(cosine(fusion.f2d, fusion.f3d), valid)
        found |= gate_moments(fusion, valid)
    return found


def gate_moments(fusion: Fusion, valid: jax.Array) -> dict[str, jax.Array]:
    """Mean, spread, bounds and histogram of the gate over valid points."""
    alpha = fusion.alpha
    mean = mean_over(alpha, valid)
    bin_ = jnp.clip((alpha * BINS).astype(jnp.int32), 0, BINS - 1)
    return {
        "fusion_2d_ratio": mean,
        "fusion_3d_ratio": 1 - mean,
        "gate/std": jnp.sqrt(mean_over(jnp.square(alpha - mean), valid)),
        "gate/min": jnp.min(jnp.where(valid, alpha, 1)),
        "gate/max": jnp.max(jnp.where(valid, alpha, 0)),
        **{
            f"gate/{n / BINS:.1f}": mean_over((bin_ == n).astype(jnp.float32), valid)
            for n in range(BINS)
        },
    }


def confusion(
    predicted: jax.Array, label: jax.Array, depth: jax.Array, mask: jax.Array, classes: int
) -> jax.Array:
    """Labelled points of one example by range, true class and predicted one.

    Args:
      predicted, label: [N] int32; depth: [N] metres; mask: [N] bool.

    Returns:
      [len(RANGES) - 1, classes, classes] float32; by true class, then by predicted.
    """
    known = mask & (label >= 0)
    truth = jax.nn.one_hot(jnp.where(known, label, -1), classes)
    near, far = jnp.array(RANGES[:-1])[None], jnp.array(RANGES[1:])[None]
    at = jnp.maximum(depth, 0)[:, None]
    ring = ((at >= near) & (at < far)).astype(jnp.float32)
    both = ring[:, :, None] * truth[:, None]
    return jnp.einsum("nrt,np->rtp", both, jax.nn.one_hot(predicted, classes))
