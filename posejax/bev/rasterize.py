"""Points, such as LiDAR's and radar's, as voxels."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.bev.voxels import VoxelGrid
from posejax.geometry import as_float


@functools.partial(jax.jit, static_argnames="grid")
def rasterize_points(
    points: ArrayLike,
    values: ArrayLike | None = None,
    present: ArrayLike | None = None,
    *,
    grid: VoxelGrid,
) -> Array:
    """Occupancy of a point cloud, and the mean of what its points carry.

    Args:
      points: [N, 3] metres in the grid's frame; those outside, and those that are not finite,
        count nowhere.
      values: [N, F], e.g. a radar's velocities; None for occupancy alone.
      present: [N] bool, points that are no padding (default all).
      grid: the volume.

    Returns:
      [Z, Y, X, 1 + F] float32: 1 where a voxel holds a point, then the mean of the values in it
      (zero where there is none). The original keeps one point of a voxel at random; a mean is the
      same every time. Differentiable in the values.

    Raises:
      ValueError: shapes that do not fit.
    """
    points = as_float(points)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points are [N, 3], got {points.shape}; use jax.vmap")
    carried = jnp.zeros((len(points), 0)) if values is None else as_float(values)
    if carried.ndim != 2 or len(carried) != len(points):
        raise ValueError(f"values are [{len(points)}, F], got {carried.shape}")
    z, y, x = grid.shape
    finite = jnp.isfinite(points).all(-1)
    cell = jnp.floor(grid.index_from_xyz(jnp.where(finite[:, None], points, 0)))
    size = jnp.asarray((x, y, z), cell.dtype)[None]
    inside = finite & ((cell >= 0) & (cell < size)).all(-1)
    if present is not None:
        inside &= jnp.asarray(present, bool)
    column, level, row = jnp.where(inside[:, None], cell, 0).astype(jnp.int32).T
    voxel = jnp.where(inside, (row * y + level) * x + column, z * y * x)  # the last one is dropped
    ones = jnp.ones((len(points), 1), jnp.float32)
    carried = jnp.where(inside[:, None], carried, 0)
    sums = jax.ops.segment_sum(jnp.concatenate([ones, carried], 1), voxel, z * y * x + 1)[:-1]
    count = sums[:, :1]
    mean = sums[:, 1:] / jnp.maximum(count, 1)
    occupied = jnp.minimum(count, 1)
    return jnp.concatenate([occupied, mean], axis=1).reshape(*grid.shape, -1)
