"""Lifting camera features into a volume by a plan: gathers of rows, forwards and backwards."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.bev.plan import Bucket, Level, LiftPlan, follow, take

EPS = 1e-6  # of the original's mean


@jax.jit
def lift(features: ArrayLike, plan: LiftPlan, mask: ArrayLike | None = None) -> Array:
    """Mean over the cameras of the features at which each voxel's centre projects.

    Args:
      features: [N, h, w, C] of the rig's cameras.
      plan: of `make_lift_plan`; under `jax.jit` an argument, not a constant.
      mask: [N] bool, cameras that are there (default all). A missing one counts in no mean, and
        its features may be anything, NaN too.

    Returns:
      [Z, Y, X, C] in the features' dtype, summed in float32; zero where no camera sees.

    Raises:
      ValueError: features of another shape than the plan's.

    Differentiable in the features alone. Both directions gather rows of C values, in an order that
    the plan fixes: no atomic sums, the same bits every time. Memory beyond arguments and results is
    what the second cameras need, a seventh of the volume on nuScenes (some six volumes for the
    gradient of a compat rule).

    Harley et al., Simple-BEV: What really matters for multi-sensor BEV perception?, ICRA 2023.
    """
    features = jnp.asarray(features)
    if features.ndim != 4 or features.shape[:3] != plan.features:
        raise ValueError(f"features are {plan.features} + (C,), got {features.shape}")
    if not jnp.issubdtype(features.dtype, jnp.floating):
        features = features.astype(jnp.float32)
    present = jnp.ones(len(features), bool) if mask is None else jnp.asarray(mask, bool)
    if present.shape != (len(features),):
        raise ValueError(f"mask is [{len(features)}], got {present.shape}")
    if mask is not None:
        features = jnp.where(present[:, None, None, None], features, 0)
    share = 1 / jnp.maximum(plan.counts(present), 1).astype(jnp.float32)
    volume = _lift(features.reshape(-1, features.shape[-1]), share, plan)
    return volume.reshape(*plan.grid.shape, -1)


def _samples(flat: Array, plan: LiftPlan) -> list[Array]:
    """Bilinear samples [n, C] float32 of every level."""
    first, *others = plan.levels
    return [_sample(flat, first), *(_sample_apart(flat, level) for level in others)]


def _sample(flat: Array, level: Level) -> Array:
    taps = (take(flat, level.pixel[:, i]) * level.weight[:, i, None] for i in range(4))
    return functools.reduce(jnp.add, taps)


def _sample_apart(flat: Array, level: Level) -> Array:
    """The same as a loop, which compilers do not fuse with what follows.

    Fused, the few rows of a later level are computed anew for each of the many voxels of level 0.
    """

    def add(total: Array, tap: tuple[Array, Array]) -> tuple[Array, None]:
        return total + take(flat, tap[0]) * tap[1][:, None], None

    start = jnp.zeros((len(level.pixel), flat.shape[-1]))
    return lax.scan(add, start, (level.pixel.T, level.weight.T))[0]


def _total(values: list[Array], plan: LiftPlan) -> Array:
    """Sums over the levels, [voxels, C]."""
    total = None
    for value, level in zip(reversed(values), reversed(plan.levels), strict=True):
        total = value + follow(total, level.next)
    return jnp.asarray(total)


def _counted(samples: list[Array]) -> list[Array]:
    """1 where a value counts in the original's mean, else 0."""
    return [(value != 0).astype(jnp.float32) for value in samples]


@jax.custom_vjp
def _lift(flat: Array, share: Array, plan: LiftPlan) -> Array:
    samples = _samples(flat, plan)
    total = _total(samples, plan)
    if plan.compat is None:
        return (total * share[:, None]).astype(flat.dtype)
    return (total / (EPS + _total(_counted(samples), plan))).astype(flat.dtype)


def _forward(flat: Array, share: Array, plan: LiftPlan):
    # The features are kept for the rule of the original alone; of others their dtype is enough.
    kept = flat[:0] if plan.compat is None else flat
    return _lift(flat, share, plan), (kept, share, plan)


def _backward(residuals, cotangent: Array):
    flat, share, plan = residuals
    if plan.compat is not None:
        counted = _counted(_samples(flat, plan))
        cotangent = cotangent / (EPS + _total(counted, plan))
        first, *others = zip(plan.levels, counted, strict=True)
        pairs = [cotangent * first[1], *(take(cotangent, lv.voxel) * c for lv, c in others)]
        cotangent, share = jnp.concatenate(pairs), None
    lists = [jnp.zeros((1, cotangent.shape[-1]))]
    lists += [_gather_list(cotangent, share, bucket) for bucket in plan.buckets]
    return take(jnp.concatenate(lists), plan.row).astype(flat.dtype), None, None


def _gather_list(rows: Array, share: Array | None, bucket: Bucket) -> Array:
    """sum_k weight[k] * rows[source[k]] for a bucket's pixels, [pixels, C] float32."""

    def add(total: Array, entries: Bucket) -> tuple[Array, None]:
        part = jnp.zeros(())
        for source, weight in zip(*entries, strict=True):
            scale = weight if share is None else weight * take(share, source)
            part = part + take(rows, source) * scale[:, None]
        return total + part, None

    start = jnp.zeros((bucket.source.shape[-1], rows.shape[-1]))
    return lax.scan(add, start, bucket)[0]


_lift.defvjp(_forward, _backward)
