"""What a network is to say of the boxes around it: bird's-eye maps."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.bev.polygons import filled_polygon, inside_polygon
from posejax.bev.sampling import Compat, check_compat
from posejax.bev.voxels import VoxelGrid
from posejax.geometry import as_float, einsum

_LEAST = 1e-3  # a peak's foot is cut off below
_CORNERS = ((1, 1), (1, -1), (-1, -1), (-1, 1))  # around the box, along its x and y


class BoxTargets(NamedTuple):
    """Maps [Z, X] of a set of boxes; cells are counted as columns (x) and rows (z).

    Attributes:
      segmentation: float32, 1 on a box.
      valid: float32, 0 on boxes that are not visible: no loss and no metric there.
      center: float32, a Gaussian peak of height 1 at the centre of every box.
      offset: [Z, X, 2] float32 cells, (x, z) from the centre of a cell's box to the cell's; zero
        off the boxes. The centre is at `cell - offset`.
      instance: int32, 1 + the row of the cell's box, or 0; the later of two boxes.
    """

    segmentation: Array
    valid: Array
    center: Array
    offset: Array
    instance: Array


@functools.partial(jax.jit, static_argnames=("grid", "sigma", "compat"))
def box_targets(
    size: ArrayLike,
    grid_from_box: ArrayLike,
    visible: ArrayLike | None = None,
    present: ArrayLike | None = None,
    *,
    grid: VoxelGrid,
    sigma: float = 3.0,
    compat: Compat | None = None,
) -> BoxTargets:
    """Segmentation, visibility, centres and offsets of boxes.

    Args:
      size: [N, 3] metres: length, width, height.
      grid_from_box: [N, 4, 4] to the boxes' centres; box x along its length, z up.
      visible: [N] bool (default all); nuScenes' lowest visibility (0-40 %) counts as not.
      present: [N] bool, boxes that are no padding (default all).
      grid: the volume.
      sigma: of the peaks, in cells.
      compat: None takes the cells whose centre lies in the box seen from above (its middle slice,
        should it be tilted), its centre as it is, and draws peaks of visible boxes. "simple_bev"
        does as the original does: the top face's corners are cut to whole cells towards zero and
        filled with the border, as OpenCV's fillPoly does; centres are rounded to cells; boxes that
        are not visible have a peak, too; and offsets are twice what they should be.

    Returns:
      BoxTargets; a step function of the boxes but for center and offset.

    Raises:
      ValueError: shapes that do not fit, an unknown rule.

    The compat maps equal the original's on the reference numbers. A box that reaches over the
    grid's edge can differ from fillPoly in cells of its border, as lines are clipped there.
    """
    size, poses = as_float(size), as_float(grid_from_box)
    if size.ndim != 2 or size.shape[1] != 3 or poses.shape != (len(size), 4, 4):
        raise ValueError(
            f"size is [N, 3] and grid_from_box [N, 4, 4], got {size.shape} and {poses.shape}"
        )
    check_compat(compat)
    seen = jnp.ones(len(size), bool) if visible is None else jnp.asarray(visible, bool)
    there = jnp.ones(len(size), bool) if present is None else jnp.asarray(present, bool)
    rows, columns = grid.map_shape
    unit = jnp.asarray(_CORNERS, size.dtype) / 2
    flat = jnp.concatenate([unit, jnp.full((4, 1), 0.0 if compat is None else 0.5)], axis=1)
    corners = einsum("nij,nkj->nki", poses[:, :3, :3], size[:, None] * flat[None])
    corners = _cells(corners + poses[:, None, :3, 3], grid)  # [N, 4, 2], centres at half
    center = _cells(poses[:, :3, 3], grid)
    if compat is None:
        x, z = jnp.arange(columns) + 0.5, jnp.arange(rows) + 0.5
        inside = jax.vmap(inside_polygon, (0, None, None))(corners, x[None, :], z[:, None])
    else:
        # Whole numbers are centres there, and so the cut is towards cell 0's centre.
        whole = jnp.trunc(corners - 0.5).astype(jnp.int32)
        x, z = jnp.arange(columns), jnp.arange(rows)
        inside = jax.vmap(filled_polygon, (0, None, None))(whole, x[None, :], z[:, None])
        center = jnp.round(center - 0.5)
    inside &= there[:, None, None]
    number = jnp.arange(1, len(size) + 1)[:, None, None]
    instance = jnp.max(jnp.where(inside, number, 0), axis=0, initial=0)
    hidden = jnp.any(inside & ~seen[:, None, None], axis=0)
    cells = jnp.stack(jnp.broadcast_arrays(x[None, :], z[:, None]), axis=-1).astype(jnp.float32)
    away = jnp.sum((cells[None] - center[:, None, None]) ** 2, axis=-1)
    peak = jnp.exp(-away / (2 * sigma**2))
    drawn = there if compat is not None else there & seen
    peak = jnp.where((peak >= _LEAST) & drawn[:, None, None], peak, 0)
    table = jnp.concatenate([jnp.zeros((1, 2)), center])
    offset = jnp.where((instance > 0)[..., None], cells - table[instance], 0)
    return BoxTargets(
        segmentation=(instance > 0).astype(jnp.float32),
        valid=1 - hidden.astype(jnp.float32),
        center=jnp.max(peak, axis=0, initial=0),
        offset=offset if compat is None else 2 * offset,
        instance=instance,
    )


def _cells(points: Array, grid: VoxelGrid) -> Array:
    """(column, row) of points, the first cell's centre at 0.5."""
    return grid.index_from_xyz(points)[..., 0::2]
