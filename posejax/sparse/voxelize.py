"""Points to voxels and back."""

import functools
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float
from posejax.sparse.groups import Groups, make_groups, mean_of_members, spread
from posejax.sparse.keys import FARTHEST
from posejax.sparse.levels import Level, find_voxels, unique_voxels

Rounding = Literal["floor", "round"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Voxels of one cloud, or of several, with features; a pytree.

    Attributes:
      features: [capacity, C], zero in rows without voxel; NaN everywhere after an overflow, so
        that no result can be taken for a whole one.
      level: the voxels, see `Level`: `level.coords`, `level.count`, `level.mask`.
      points: which voxel each point lies in; `points.group` is the inverse index, the capacity for
        points without voxel, and `points.size` the points of each voxel.
      voxel_size: metres.
      rounding: see `voxelize`.
    """

    features: Array
    level: Level
    points: Groups
    voxel_size: Array
    rounding: Rounding = field(metadata={"static": True})

    @property
    def overflow(self) -> Array:
        """Voxels were left out; `level.needed` tells how many there are."""
        return self.level.overflow


def voxelize(
    points: ArrayLike,
    features: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    voxel_size: float,
    capacity: int,
    batch: ArrayLike | None = None,
    rounding: Rounding = "floor",
) -> SparseTensor:
    """Group points into voxels and average their features.

    Args:
      points: [N, 3], metres. Points that are not finite count as absent.
      features: [N, C].
      mask: [N] bool, points that are there; all by default.
      voxel_size: edge in metres.
      capacity: rows of the result (static), see `bucket_capacity`.
      batch: [N] int32, which cloud a point belongs to, where several share the capacity; their
        voxels never meet.
      rounding: voxel i holds [i, i + 1) * voxel_size with "floor" (spconv, Open3D), and
        [i - 1/2, i + 1/2) * voxel_size with "round" (MinkowskiEngine's TensorField, up to ties).

    Returns:
      Voxels in lexicographic order of (b, x, y, z). More voxels than the capacity, a coordinate
      beyond 2^23 voxels or a box of 2^32 are an overflow: features are NaN, `overflow` says so.

    Raises:
      ValueError: shapes that do not fit, or a voxel size that is not positive.

    Differentiable in the features; the gradient is a read of rows. A float32 point falls into
    the voxel that float64 arithmetic would choose, whose size is the given one, not its rounding.
    """
    points, features = as_float(points), as_float(features)
    count = points.shape[0] if points.ndim == 2 else -1
    if points.shape != (count, 3) or features.ndim != 2 or features.shape[0] != count:
        raise ValueError(
            f"points are [N, 3], features [N, C], got {points.shape}, {features.shape}"
        )
    mask = np.ones(count, bool) if mask is None else mask
    batch = np.zeros(count, np.int32) if batch is None else batch
    if not voxel_size > 0 or rounding not in ("floor", "round"):
        raise ValueError(f"voxel_size {voxel_size} must be positive, rounding floor or round")
    size = np.float64(voxel_size)
    parts = np.float32(size), np.float32(size - np.float64(np.float32(size)))
    return _voxelize(points, features, mask, batch, parts, int(capacity), rounding)


@functools.partial(jax.jit, static_argnums=(5, 6))
def _voxelize(points, features, mask, batch, size, capacity, rounding):
    there = jnp.asarray(mask, bool) & jnp.all(jnp.isfinite(points), axis=1)
    index = voxel_index(jnp.where(there[:, None], points, 0), size, rounding)
    coords = jnp.concatenate([jnp.asarray(batch, jnp.int32)[:, None], index], axis=1)
    level = unique_voxels(coords, there, capacity=capacity)
    rows = jnp.where(there, find_voxels(level, coords), capacity)
    groups = make_groups(rows, capacity)
    means = mean_of_members(jnp.where(there[:, None], features, 0), groups)
    means = jnp.where(level.overflow, jnp.nan, means)
    return SparseTensor(means, level, groups, size[0], rounding)


def voxel_index(points: Array, size: tuple, rounding: Rounding) -> Array:
    """floor(points / size), with size = the sum of two float32, as float64 would compute it.

    That is the exact floor, but for quotients so near to a whole number that float64 rounds them
    to it: 1.0 / 0.02 is 50, although the float64 next to 0.02 is larger than 0.02.
    """
    points = lax.stop_gradient(points)
    head, tail = (jnp.asarray(part, points.dtype) for part in size)
    guess = jnp.clip(jnp.floor(points / head), -FARTHEST, FARTHEST)
    rest = _rest(points, guess, head) - guess * tail
    slack = jnp.abs(points) * 2.0**-44
    step = jnp.where(rest < -slack, -1, jnp.where(rest - head - tail >= -slack, 1, 0))
    if rounding == "round":
        step = step + (rest - step * head >= head / 2)
    return guess.astype(jnp.int32) + step.astype(jnp.int32)


def _rest(x: Array, a: Array, b: Array) -> Array:
    """x - a * b, of which the product is rounded only once x is subtracted (Dekker 1971).

    Without the barriers the compiler may join a product and a sum, and an error that is
    subtracted here would not have been made.
    """
    product = lax.optimization_barrier(a * b)
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    error = ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2
    return (x - product) - error


def _halves(x: Array) -> tuple[Array, Array]:
    """Two floats of half the digits whose sum is x."""
    wide = lax.optimization_barrier(x * 4097)
    head = lax.optimization_barrier(wide - (wide - x))
    return head, x - head


@jax.jit
def devoxelize(features: ArrayLike, tensor: SparseTensor) -> Array:
    """Each point's features of its voxel.

    Args:
      features: [capacity, C], of the voxels of `tensor`.
      tensor: what `voxelize` made of the points.

    Returns:
      [N, C], zero for points without voxel.
    """
    return spread(jnp.asarray(features), tensor.points)


class Trilinear(NamedTuple):
    """What `devoxelize_trilinear` reads: eight voxels a point.

    Attributes:
      corners: groups of the 8 N (corner, point) pairs by voxel.
      weights: [8, N] float32, sum 1, or 0 where a point has no voxel around it.
    """

    corners: Groups
    weights: Array


@jax.jit
def trilinear_weights(
    tensor: SparseTensor,
    points: ArrayLike,
    mask: ArrayLike | None = None,
    batch: ArrayLike | None = None,
) -> Trilinear:
    """Voxels around points and their trilinear weights, those of absent voxels shared out.

    Args:
      tensor: the voxels, whose centres are at (i + 1/2) voxel sizes, or at i if `rounding` is
        "round".
      points: [N, 3] metres, any.
      mask, batch: as for `voxelize`.
    """
    points = as_float(points)
    there = jnp.all(jnp.isfinite(points), axis=1) & (True if mask is None else jnp.asarray(mask))
    half = 0.5 if tensor.rounding == "floor" else 0.0
    index = jnp.where(there[:, None], points, 0) / tensor.voxel_size - half
    low = jnp.floor(jnp.clip(index, -FARTHEST, FARTHEST))
    share = index - low
    corners = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(8, 1, 3)
    coords = low.astype(jnp.int32)[None] + corners
    cloud = jnp.zeros(len(points), jnp.int32) if batch is None else jnp.asarray(batch, jnp.int32)
    cloud = jnp.broadcast_to(cloud[None, :, None], (8, len(points), 1))
    rows = find_voxels(tensor.level, jnp.concatenate([cloud, coords], axis=2))
    rows = jnp.where(there[None], rows, tensor.level.capacity)
    weights = jnp.prod(jnp.where(corners == 1, share[None], 1 - share[None]), axis=2)
    weights = jnp.where(rows < tensor.level.capacity, weights, 0)
    total = jnp.sum(weights, axis=0, keepdims=True)
    weights = jnp.where(total > 0, weights / jnp.where(total > 0, total, 1), 0)
    return Trilinear(make_groups(rows.reshape(-1), tensor.level.capacity), weights)


@jax.jit
def devoxelize_trilinear(features: ArrayLike, around: Trilinear) -> Array:
    """Features between voxel centres, [capacity, C] -> [N, C]; zero where no voxel is near.

    Differentiable in the features, and in the points by way of the weights.
    """
    features = jnp.asarray(features)
    values = spread(features, around.corners).reshape(8, -1, features.shape[1])
    return jnp.sum(values * around.weights[..., None].astype(features.dtype), axis=0)
