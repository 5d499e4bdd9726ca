"""Points out of RGB-D frames, and back into images: what agrees between the two, in NumPy.

One convention: the first pixel's centre is (0.5, 0.5), the image covers [0, W] x [0, H], and a
point is valid in it with z above `NEAREST` and a pixel on it, borders included. A frame that is
projected into its own camera is valid in every point.
"""

from typing import NamedTuple

import numpy as np

from posejax.data.cameras import pixel_rays, project
from posejax.data.rigid import se3_apply

NEAREST = 1e-6  # metres ahead of the camera


class Projected(NamedTuple):
    """Pixels xy [N, 2], depth z [N] metres along the axis, valid [N] bool; see `into_image`."""

    xy: np.ndarray
    z: np.ndarray
    valid: np.ndarray


class Agreement(NamedTuple):
    """Of one frame's points with another's depth map.

    Attributes:
      overlap: share of the points that fall on a known depth.
      agreeing: of those that do and are not hidden behind something, the share within the
        tolerance.
      median: metres between the two depths, of those.
    """

    overlap: float
    agreeing: float
    median: float


def back_project(
    depth: np.ndarray, intrinsics: np.ndarray, world_from_camera: np.ndarray, step: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Points of a depth map's known pixels.

    Args:
      depth: [H, W] metres along the axis, 0 where unknown.
      intrinsics: [3, 3].
      world_from_camera: [4, 4].
      step: takes every so many-th row and column alone.

    Returns:
      points [M, 3] float64 in the world, and which pixels they are: [M] into the flat map.
    """
    first = step // 2
    thin = depth[first::step, first::step]
    row, column = np.divmod(np.flatnonzero(thin > 0), max(thin.shape[1], 1))
    row, column = first + step * row, first + step * column
    rays = pixel_rays(np.stack([column + 0.5, row + 0.5], -1), intrinsics)
    z = depth[row, column].astype(np.float64)
    return se3_apply(world_from_camera, rays * z[:, None]), row * depth.shape[1] + column


def into_image(
    points: np.ndarray,
    intrinsics: np.ndarray,
    camera_from_world: np.ndarray,
    size: tuple[int, int],
) -> Projected:
    """Where points [N, 3] of the world lie in an image of `size` (H, W)."""
    local = se3_apply(camera_from_world, points)
    xy, ahead = project(local, intrinsics, min_depth=NEAREST)
    on_image = np.all((xy >= 0) & (xy <= (size[1], size[0])), axis=-1)
    return Projected(xy, local[:, 2], ahead & on_image)


def sample_colors(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Bilinear colours [N, C] float64 of an image [H, W, C] at pixels [N, 2]; beyond the centres
    of the outermost pixels theirs go on."""
    high, wide = image.shape[:2]
    x = np.clip(xy[:, 0] - 0.5, 0, wide - 1)
    y = np.clip(xy[:, 1] - 0.5, 0, high - 1)
    left, top = np.minimum(x.astype(int), wide - 2), np.minimum(y.astype(int), high - 2)
    left, top = np.maximum(left, 0), np.maximum(top, 0)
    right, below = np.minimum(left + 1, wide - 1), np.minimum(top + 1, high - 1)
    u, v = (x - left)[:, None], (y - top)[:, None]
    upper = image[top, left] * (1 - u) + image[top, right] * u
    lower = image[below, left] * (1 - u) + image[below, right] * u
    return upper * (1 - v) + lower * v


def depth_agreement(
    points: np.ndarray,
    depth: np.ndarray,
    intrinsics: np.ndarray,
    camera_from_world: np.ndarray,
    *,
    tolerance: float = 0.05,
    hidden: float = np.inf,
    relative: float = np.inf,
) -> Agreement:
    """How well points [N, 3] of the world agree with the depth map [H, W] of another frame.

    Args:
      tolerance: metres within which the two depths agree.
      hidden: share of the depth by which a point lies behind what the other camera sees to count
        as hidden from it; inf: none does, and hidden points disagree.
      relative: they agree within this share of the depth, too; tells metres from millimetres.
    """
    xy, z, valid = into_image(points, intrinsics, camera_from_world, depth.shape[:2])
    high, wide = depth.shape
    column = np.clip(np.floor(xy[:, 0]), 0, wide - 1).astype(int)
    row = np.clip(np.floor(xy[:, 1]), 0, high - 1).astype(int)
    seen = np.where(valid, depth[row, column], 0).astype(np.float64)
    met = seen > 0
    if not met.any():
        return Agreement(0.0, 0.0, float("nan"))
    off, seen = (z - seen)[met], seen[met]
    open_ = off <= hidden * seen
    share = float(met.mean())
    if not open_.any():
        return Agreement(share, 0.0, float("nan"))
    off, limit = np.abs(off[open_]), np.minimum(tolerance, relative * seen[open_])
    return Agreement(share, float((off <= limit).mean()), float(np.median(off)))
