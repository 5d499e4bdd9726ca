"""Metrics of bird's-eye maps as sums, to be added up over a whole set and divided at its end.

A mean of per-frame ratios would depend on how a set is cut into frames and batches.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.bev.voxels import VoxelGrid
from posejax.geometry import as_float


class Overlap(NamedTuple):
    """Cells in both maps, and in either; [...] float32."""

    intersection: Array
    union: Array

    @property
    def iou(self) -> Array:
        """intersection / union, NaN where there is nothing."""
        return self.intersection / self.union


@jax.jit
def map_overlap(predicted: ArrayLike, target: ArrayLike, valid: ArrayLike) -> Overlap:
    """Overlap of two maps of any shape where they are valid.

    Args:
      predicted: bool, or logits: above zero is a box (the original's round(sigmoid) > 0).
      target, valid: the same shape; above 0.5 is a box, is valid.
    """
    a, b, known = _maps(predicted, target, valid)
    return Overlap(*(jnp.sum(m & known, dtype=jnp.float32) for m in (a & b, a | b)))


@functools.partial(jax.jit, static_argnames=("grid", "edges"))
def distance_overlap(
    predicted: ArrayLike,
    target: ArrayLike,
    valid: ArrayLike,
    *,
    grid: VoxelGrid,
    edges: tuple[float, ...] = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 71.0),
) -> Overlap:
    """`map_overlap` by distance from the grid's origin.

    Args:
      predicted, target, valid: [Z, X], see `map_overlap`.
      grid: the volume whose maps they are.
      edges: metres, increasing: bin i is edges[i] <= d < edges[i + 1].

    Returns:
      Overlap of [len(edges) - 1]; what is farther counts nowhere.
    """
    a, b, known = _maps(predicted, target, valid)
    x, _, z = (jnp.asarray(axis, jnp.float32) for axis in grid.axes())
    distance = jnp.sqrt(x[None, :] ** 2 + z[:, None] ** 2)
    low, high = (jnp.asarray(v)[:, None, None] for v in (edges[:-1], edges[1:]))
    ring = (distance[None] >= low) & (distance[None] < high) & known[None]
    sums = (jnp.sum(m[None] & ring, (1, 2), dtype=jnp.float32) for m in (a & b, a | b))
    return Overlap(*sums)


def _maps(predicted: ArrayLike, target: ArrayLike, valid: ArrayLike) -> tuple[Array, ...]:
    predicted = jnp.asarray(predicted)
    a = predicted if predicted.dtype == bool else as_float(predicted) > 0
    return a, as_float(target) > 0.5, as_float(valid) > 0.5


class Reliability(NamedTuple):
    """Sums of cells by predicted probability, [bins] float32: their number, their probabilities,
    how many are boxes, and the squared errors."""

    count: Array
    probability: Array
    positive: Array
    square: Array

    @property
    def ece(self) -> Array:
        """Expected calibration error: mean distance of frequency and probability over the bins."""
        gap = jnp.abs(self.probability - self.positive)
        return jnp.sum(gap) / jnp.maximum(jnp.sum(self.count), 1)

    @property
    def brier(self) -> Array:
        """Mean squared error of the probabilities."""
        return jnp.sum(self.square) / jnp.maximum(jnp.sum(self.count), 1)


@functools.partial(jax.jit, static_argnames="bins")
def reliability(
    probability: ArrayLike, target: ArrayLike, valid: ArrayLike, *, bins: int = 15
) -> Reliability:
    """Sums of a reliability diagram with bins of equal width.

    Args:
      probability, target, valid: arrays of the same shape; probabilities in [0, 1].
    """
    p, t = as_float(probability).reshape(-1), (as_float(target) > 0.5).astype(jnp.float32)
    known = (as_float(valid) > 0.5).astype(jnp.float32).reshape(-1)
    t = t.reshape(-1)
    at = jnp.clip((p * bins).astype(jnp.int32), 0, bins - 1)
    member = (at[:, None] == jnp.arange(bins)[None]) * known[:, None]
    values = jnp.stack([jnp.ones_like(p), p, t, (p - t) ** 2], axis=-1)
    # Sums of up to millions of cells: a product in full precision, no scattered additions.
    sums = jnp.einsum("nb,nv->vb", member, values, precision=jax.lax.Precision.HIGHEST)
    return Reliability(*sums)
