"""True warps and visibility of a pair of images: from depths and poses, or from a homography.

NumPy only, for data workers. Pixels as everywhere in the library: the first one's centre is at
(0.5, 0.5), so cell (row i, column j) of stride s has its centre at ((j + 0.5) s, (i + 0.5) s).

Depth is interpolated as 1 / z, which is linear over a plane, and only where its four pixels belong
to one surface: a mean over a silhouette would lie on neither side of it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from posejax.data.cameras import project, unproject
from posejax.data.rigid import se3_apply

TOLERANCE = 0.05  # relative error of depth up to which two views see the same point (DKM, RoMa)
_FAR = 1e5  # pixels: what lies beyond is not told apart


class Targets(NamedTuple):
    """Of the cells of image A.

    Attributes:
      xy: [h, w, 2] float32 pixels of B; 0 where unknown or behind its camera; always finite.
      visible: [h, w] float32, 1 where B sees what the cell's centre shows.
      known: [h, w] float32, 1 where it is known whether B sees it.
    """

    xy: np.ndarray
    visible: np.ndarray
    known: np.ndarray


def cell_centers(size: tuple[int, int], stride: int) -> np.ndarray:
    """Pixels [H / stride, W / stride, 2] of the centres of all cells of an image (H, W).

    Raises:
      ValueError: the sides are no multiples of the stride.
    """
    if size[0] % stride or size[1] % stride:
        raise ValueError(f"an image of {size} has no whole cells of stride {stride}")
    y, x = ((np.arange(side // stride) + 0.5) * stride for side in size)
    return np.stack(np.meshgrid(x, y), axis=-1)


def sample_depth(depth: np.ndarray, xy: ArrayLike) -> np.ndarray:
    """Depth at pixels [..., 2] of a map [H, W] (0: unknown); 0 where it is not known.

    Harmonic between pixel centres, constant from the outermost ones to the border. Unknown where
    one of the pixels that enter is, where they differ by more than 5 %, and outside.
    """
    xy = np.asarray(xy, np.float64)
    height, width = depth.shape
    inside = _covers((height, width), xy)
    x, y = np.moveaxis(np.where(inside[..., None], xy, 0.5) - 0.5, -1, 0)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    column, row = x.astype(np.intp), y.astype(np.intp)
    right, below = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
    fx, fy = x - column, y - row
    weight = np.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy])
    z = np.stack([depth[row, column], depth[row, right], depth[below, column], depth[below, right]])
    enters = weight > 0
    low = np.where(enters, z, np.inf).min(0)
    high = np.where(enters, z, -np.inf).max(0)
    known = inside & (low > 0) & (high <= low * (1 + TOLERANCE))  # False for NaN
    inverse = np.where(enters, weight / np.where(known & enters, z, 1), 0).sum(0)
    return np.where(known, 1 / np.maximum(inverse, 1e-9), 0)


def depth_targets(
    centers: np.ndarray,
    size_b: tuple[int, int],
    intrinsics: tuple[np.ndarray, np.ndarray],
    b_from_a: np.ndarray,
    depths: tuple[np.ndarray, np.ndarray],
    depth_from_image: tuple[np.ndarray, np.ndarray] = (np.eye(3), np.eye(3)),
) -> Targets:
    """Where B sees the points at pixels of A, and whether something hides them.

    Args:
      centers: [h, w, 2] pixels of A, from `cell_centers`.
      size_b: (H, W) of image B.
      intrinsics: [3, 3] of A and B.
      b_from_a: [4, 4] in the unit of the depths.
      depths: maps of A and B, 0 where unknown.
      depth_from_image: [3, 3] affine maps from pixels of the images to those of the depth maps,
        which thus need not be resized, cropped or flipped with them.
    """
    (k_a, k_b), (map_a, map_b), (depth_a, depth_b) = intrinsics, depth_from_image, depths
    z_a = sample_depth(depth_a, apply_map(map_a, centers))
    has = z_a > 0
    points = se3_apply(b_from_a, unproject(centers, np.where(has, z_a, 1), k_a))
    xy, front = project(points, k_b)
    inside = front & _covers(size_b, xy)
    z_b = sample_depth(depth_b, apply_map(map_b, xy))
    known = has & ~(inside & (z_b == 0))
    visible = known & inside & (np.abs(points[..., 2] - z_b) < TOLERANCE * z_b)
    return _targets(np.where((has & front)[..., None], xy, 0), visible, known)


def homography_targets(
    centers: np.ndarray,
    size_b: tuple[int, int],
    homography: np.ndarray,
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None,
    source_from_image: tuple[np.ndarray, np.ndarray] = (np.eye(3), np.eye(3)),
) -> Targets:
    """Where a homography [3, 3] (b_from_a, pixels) takes pixels of A.

    Args:
      centers, size_b: as for `depth_targets`.
      sizes: (H, W) of the pictures that A and B were cut from: nothing is seen outside of them.
      source_from_image: [3, 3] affine maps into those pictures.
    """
    xyw = centers @ homography[:, :2].T + homography[:, 2]
    front = xyw[..., 2] > 1e-9
    xy = xyw[..., :2] / np.where(front, xyw[..., 2], 1)[..., None]
    known = np.ones(front.shape, bool)
    visible = front & _covers(size_b, xy)
    if sizes is not None:
        known = _covers(sizes[0], apply_map(source_from_image[0], centers))
        visible &= known & _covers(sizes[1], apply_map(source_from_image[1], xy))
    return _targets(np.where((known & front)[..., None], xy, 0), visible, known)


def overlap(
    depths: tuple[np.ndarray, np.ndarray],
    intrinsics: tuple[np.ndarray, np.ndarray],
    b_from_a: np.ndarray,
    *,
    cells: int = 24,
) -> float:
    """Share of A's pixels that B sees, of those of which it is known; by `cells` x `cells` samples.

    0 where it is known of less than a fifth.
    """
    height, width = depths[0].shape
    y, x = ((np.arange(cells) + 0.5) * (side / cells) for side in (height, width))
    size_b = depths[1].shape[0], depths[1].shape[1]
    centers = np.stack(np.meshgrid(x, y), axis=-1)
    found = depth_targets(centers, size_b, intrinsics, b_from_a, depths)
    known = float(found.known.mean())
    return float(found.visible.mean()) / known if known > 0.2 else 0.0


def apply_map(affine: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Points [..., 2] under an affine map [3, 3]."""
    return xy @ affine[:2, :2].T + affine[:2, 2]


def _covers(size: tuple[int, int], xy: np.ndarray) -> np.ndarray:
    return np.all((xy >= 0) & (xy <= np.array(size[::-1])), axis=-1)  # False for NaN


def _targets(xy: np.ndarray, visible: np.ndarray, known: np.ndarray) -> Targets:
    xy = np.clip(xy, -_FAR, _FAR).astype(np.float32)
    return Targets(xy, visible.astype(np.float32), known.astype(np.float32))
