"""Pooling over the voxels that a kernel map pairs."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.sparse.kernel_map import KernelMap
from posejax.sparse.keys import take_or_zero

Reduction = Literal["max", "mean", "sum"]


def sparse_pool(features: ArrayLike, maps: KernelMap, *, reduction: Reduction = "max") -> Array:
    """Maximum, mean or sum over the voxels that each output is paired with.

    Args:
      features: [N_in, C].
      maps: e.g. a strided map, for pooling by two; absent voxels do not count.

    Returns:
      [N_out, C], zero where nothing is paired. Where several voxels share the maximum, the first
      offset's has its gradient.

    Raises:
      ValueError: another reduction.
    """
    if reduction not in ("max", "mean", "sum"):
        raise ValueError(f"unknown reduction {reduction!r}; expected max, mean or sum")
    return _pool(jnp.asarray(features), maps, reduction)


@functools.partial(jax.jit, static_argnums=2)
def _pool(features, maps, reduction):
    inside = (maps.neighbours < features.shape[0])[..., None]
    values = _neighbours(features, maps)
    if reduction == "max":
        # Picked by position, so that ties do not share: a maximum's own gradient would.
        best = jnp.argmax(jnp.where(inside, values, -jnp.inf), axis=0)
        picked = jnp.arange(len(values))[:, None, None] == best[None]
        return jnp.sum(jnp.where(picked & inside, values, 0), axis=0)
    total = jnp.sum(values, axis=0)
    if reduction == "sum":
        return total
    return total / jnp.maximum(jnp.sum(inside, axis=0), 1).astype(total.dtype)


@jax.custom_vjp
def _neighbours(features: Array, maps: KernelMap) -> Array:
    """[N_in, C] -> [K, N_out, C], zero where there is no voxel."""
    return take_or_zero(features, maps.neighbours)


def _gradient(maps, cotangent):
    def offset(total, item):
        values, rows = item
        return total + take_or_zero(values, rows), None

    total = jnp.zeros((maps.reverse.shape[1], cotangent.shape[2]), cotangent.dtype)
    return lax.scan(offset, total, (cotangent, maps.reverse))[0], None


_neighbours.defvjp(lambda x, m: (_neighbours(x, m), m), _gradient)
