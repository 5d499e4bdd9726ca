"""Height of the ground under a LiDAR sweep, estimated from the sweep alone.

No map height enters: a map's ground looked up at the true pose would leak the answer.
"""

from typing import NamedTuple

import numpy as np

_Z_BIN = 0.1  # m; height resolution in which the lowest populated layer of a cell is found
_Z_BINS = 96  # layers, so 9.6 m of relief around the typical height
_MAX_POINTS = 16384  # a regular subset of this size is as good, and 3x faster on a dense sweep


class Ground(NamedTuple):
    """Ground surface: a robust plane plus a smooth residual on a coarse grid.

    plane: [3] (a, b, c), ground height = a x + b y + c.
    residual: [n, n] metres to add to the plane, on square cells around the origin.
    cell_size: side of a coarse cell (m).
    """

    plane: np.ndarray
    residual: np.ndarray
    cell_size: float

    def at(self, xy: np.ndarray) -> np.ndarray:
        """Ground height `[N]` (m) at points `[N, 2]`; beyond the grid its border continues."""
        a, b, c = self.plane
        x, y = xy[:, 0], xy[:, 1]
        height = a * x + b * y + c
        n = self.residual.shape[0]
        # Cell centres lie at (i + 0.5 - n / 2) * cell_size.
        u = np.clip(x * (1 / self.cell_size) + (n / 2 - 0.5), 0, n - 1.001)
        v = np.clip(y * (1 / self.cell_size) + (n / 2 - 0.5), 0, n - 1.001)
        j, i = u.astype(np.intp), v.astype(np.intp)
        u, v = u - j, v - i
        flat, k = self.residual.ravel(), i * n + j
        top = flat[k] + u * (flat[k + 1] - flat[k])
        bottom = flat[k + n] + u * (flat[k + n + 1] - flat[k + n])
        return height + top + v * (bottom - top)


def estimate_ground(
    xyz: np.ndarray, *, half_size: float = 32.0, cell_size: float = 2.0, tolerance: float = 0.35
) -> Ground:
    """Ground surface under a sweep: low points of coarse cells, robust plane, smooth residual.

    Each coarse cell gives the mean of its lowest populated height layer (the lowest 5 % of
    points, at least two, so that single reflections from below the road do not count). A plane
    is fitted to them by iteratively reweighted least squares with Cauchy weights. Low points
    farther than `tolerance` (+ 2 % of the distance) from the plane are roofs, walls or crowns
    and are left out; the rest are smoothed into a residual that decays to the plane where
    nothing was seen.

    Args:
      xyz: [N, 3] points (m), z up, origin at the sensor's footprint or near it.
      half_size: half side of the square that is modelled (m).
      cell_size: side of the coarse cells (m).
      tolerance: distance from the plane within which a low point is ground (m).

    Returns:
      the surface; flat at the median height if fewer than three cells hold points, at zero
      without any point.
    """
    n = 2 * int(np.ceil(half_size / cell_size))
    half = n * cell_size / 2
    xyz = xyz[:: max(1, len(xyz) // _MAX_POINTS)]
    x, y, z = xyz[:, 0], xyz[:, 1], xyz[:, 2]
    inside = (np.abs(x) < half) & (np.abs(y) < half) & np.isfinite(z)
    flat = Ground(np.zeros(3), np.zeros((n, n)), cell_size)
    if not inside.any():
        return flat
    x, y, z = x[inside], y[inside], z[inside]
    column, row = (((c + half) * (1 / cell_size)).astype(np.intp) for c in (x, y))
    low, count = _low_points(np.minimum(row * n + column, n * n - 1), z, n * n)
    seen = np.flatnonzero(count)
    if len(seen) < 3:
        return flat._replace(plane=np.array([0.0, 0.0, float(np.median(z))]))
    centers = (np.arange(n) + 0.5 - n / 2) * cell_size
    cx, cy = centers[seen % n], centers[seen // n]
    plane = _robust_plane(cx, cy, low[seen])

    residual = low[seen] - (plane[0] * cx + plane[1] * cy + plane[2])
    ground = np.abs(residual) < tolerance + 0.02 * np.hypot(cx, cy)
    weight, total = np.zeros(n * n), np.zeros(n * n)
    weight[seen[ground]] = 1.0
    total[seen[ground]] = residual[ground]
    weight, total = weight.reshape(n, n), total.reshape(n, n)
    for _ in range(2):
        weight, total = _box3(weight), _box3(total)
    return Ground(plane, total / (weight + 0.02), cell_size)


def _low_points(cell: np.ndarray, z: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean height of the lowest populated layer of every cell, and the cells' point counts."""
    base = float(np.median(z)) - _Z_BINS * _Z_BIN / 2
    layer = np.clip((z - base) * (1 / _Z_BIN), 0, _Z_BINS - 1).astype(np.intp)
    key = cell * _Z_BINS + layer
    counts = np.bincount(key, minlength=cells * _Z_BINS).reshape(cells, _Z_BINS)
    count = counts.sum(1)
    needed = np.maximum(np.minimum(count, 2), 0.05 * count)
    lowest = (counts.cumsum(1) >= needed[:, None]).argmax(1)
    near = (layer <= lowest[cell]) & (layer >= lowest[cell] - 1)
    members = np.bincount(cell[near], minlength=cells)
    low = np.bincount(cell[near], z[near], minlength=cells) / np.maximum(members, 1)
    return low, count


def _robust_plane(x: np.ndarray, y: np.ndarray, z: np.ndarray, scale: float = 0.15) -> np.ndarray:
    """(a, b, c) of z = a x + b y + c, Cauchy weights, from a start at the lower near points."""
    design = np.stack([x, y, np.ones_like(x)], axis=1)
    near = np.argsort(np.hypot(x, y))[: max(3, len(x) // 4)]
    plane = np.array([0.0, 0.0, float(np.percentile(z[near], 30))])
    # Slopes are kept small by a weak prior; it also makes cells on a line solvable.
    prior = np.diag([10.0, 10.0, 1e-9])
    for step in range(8):
        width = max(scale, 0.8 * 0.6**step)  # wide at first: the start is level, the road is not
        weight = 1 / (1 + ((z - design @ plane) / width) ** 2)
        weighted = design * weight[:, None]
        plane = np.linalg.solve(weighted.T @ design + prior, weighted.T @ z)
    return plane


def _box3(a: np.ndarray) -> np.ndarray:
    """Sum over 3x3 neighbours, zero outside."""
    a = np.pad(a, 1)
    a = a[:-2] + a[1:-1] + a[2:]
    return a[:, :-2] + a[:, 1:-1] + a[:, 2:]
