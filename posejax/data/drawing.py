"""Vector maps to rasters: polygons and stroked polylines as anti-aliased coverage.

Every edge of every polygon is met with a few horizontal lines per cell. Where an edge crosses a
line, everything to its right enters (or leaves) the polygon; the crossing cell changes by the
exact share that lies to the right. Adding these changes up along the row gives the coverage:
exact along x, sampled `supersample` times along y, and all polygons at the cost of one.
"""

from collections.abc import Iterable, Sequence

import numpy as np


def polygon_coverage(
    polygons: Iterable[np.ndarray],
    *,
    shape: tuple[int, int],
    x_min: float,
    y_min: float,
    cell_size: float,
    supersample: int = 4,
) -> np.ndarray:
    """Share of every cell that lies in a union of simple polygons.

    Args:
      polygons: arrays `[N, >=2]` of map coordinates (m); closed by themselves, either
        orientation; fewer than three vertices draw nothing.
      shape: (H, W) cells.
      x_min, y_min: map coordinates of the outer corner of cell (0, 0) (m); rows grow with y.
      cell_size: side of a cell (m).
      supersample: lines per cell on which edges are met.

    Returns:
      [H, W] float32 in [0, 1]. Shares of overlapping polygons add up to at most 1.
    """
    height, width = shape
    starts, ends = [], []
    for polygon in polygons:
        xy = np.asarray(polygon, np.float64)[:, :2]
        if len(xy) < 3:
            continue
        nxt = np.roll(xy, -1, axis=0)
        area = np.sum(xy[:, 0] * nxt[:, 1] - nxt[:, 0] * xy[:, 1])
        starts.append(xy if area > 0 else nxt)
        ends.append(nxt if area > 0 else xy)
    if not starts:
        return np.zeros(shape, np.float32)
    # x in cells, y in lines; the centre of line r is at r + 0.5.
    unit = np.array([1 / cell_size, supersample / cell_size])
    start = (np.concatenate(starts) - (x_min, y_min)) * unit
    end = (np.concatenate(ends) - (x_min, y_min)) * unit
    rises = end[:, 1] > start[:, 1]
    low, high = np.where(rises[:, None], start, end), np.where(rises[:, None], end, start)
    first, last = (
        np.clip(np.ceil(y - 0.5), 0, height * supersample).astype(np.intp)
        for y in (low[:, 1], high[:, 1])
    )
    crossings = last - first
    edge = np.repeat(np.arange(len(low)), crossings)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(crossings) - crossings - first, crossings)
    dx, dy = (high - low).T
    slope = dx / np.where(dy == 0, 1, dy)  # level edges cross no line
    x = np.clip(low[edge, 0] + (line + 0.5 - low[edge, 1]) * slope[edge], 0, width)
    # Counter-clockwise: a rising edge has the polygon on its left, so it ends there.
    change = np.where(rises[edge], -1.0, 1.0)
    column = x.astype(np.intp)
    right = x - column
    flat = (line // supersample) * (width + 2) + column
    size = height * (width + 2)
    changes = np.bincount(flat, change * (1 - right), minlength=size)
    changes += np.bincount(flat + 1, change * right, minlength=size)[:size]
    coverage = changes.reshape(height, width + 2).cumsum(1)[:, :width] / supersample
    return np.clip(coverage, 0, 1).astype(np.float32)


def stroke(polyline: np.ndarray, width: float) -> list[np.ndarray]:
    """Polygons that cover a polyline `[N, >=2]` of `width` (m): flat ends, rounded joints."""
    xy = np.asarray(polyline, np.float64)[:, :2]
    step = np.diff(xy, axis=0)
    length = np.hypot(step[:, 0], step[:, 1])
    polygons = []
    for start, end, delta, size in zip(xy[:-1], xy[1:], step, length, strict=True):
        if size > 0:
            side = np.array([-delta[1], delta[0]]) * (width / 2 / size)
            polygons.append(np.stack([start + side, end + side, end - side, start - side]))
    turn = np.arange(8) * (np.pi / 4)
    disc = np.stack([np.cos(turn), np.sin(turn)], axis=1) * (width / 2)
    polygons.extend(center + disc for center in xy[1:-1])
    return polygons


def bounds(points: Sequence[np.ndarray], margin: float) -> tuple[float, float, float, float]:
    """(x_min, y_min, x_max, y_max) around arrays `[N, >=2]`, widened by `margin` (m)."""
    xy = np.concatenate([np.asarray(p, np.float64)[:, :2] for p in points])
    (x_min, y_min), (x_max, y_max) = xy.min(0) - margin, xy.max(0) + margin
    return float(x_min), float(y_min), float(x_max), float(y_max)
