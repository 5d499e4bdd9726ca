"""Antialiased painting of convex polygons on a raster: road surfaces, lane marks, crossings."""

from collections.abc import Iterable

import numpy as np


class Canvas:
    """A square raster centred on the world's origin; row and column grow with y and x.

    Args:
      half_extent: metres from the centre to the border.
      cell_size: metres; 2 half_extent / cell_size cells a side.
    """

    def __init__(self, half_extent: float, cell_size: float):
        self.half_extent = half_extent
        self.cell_size = cell_size
        self.cells = round(2 * half_extent / cell_size)

    def coverage(self, polygons: Iterable[np.ndarray]) -> np.ndarray:
        """[cells, cells] uint8: the share of every cell (255 = all) that the polygons cover."""
        layer = np.zeros((self.cells, self.cells), np.float32)
        for polygon in polygons:
            window, share = self.patch(polygon)
            # Neighbouring strips meet inside a cell: their shares add up to a seamless whole.
            layer[window] += share
        return (np.minimum(layer, 1.0) * 255.0 + 0.5).astype(np.uint8)

    def patch(self, polygon: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
        """Window of a convex counter-clockwise polygon [K, 2] (metres) and its cells' shares.

        A cell's share is the product over the edges of clip(1/2 + distance / cell): exact for a
        straight edge along the axes and for strips, a good approximation elsewhere.
        """
        scaled = (polygon + self.half_extent) / self.cell_size
        low = np.clip(np.floor(scaled.min(0) - 1).astype(int), 0, self.cells)
        high = np.clip(np.ceil(scaled.max(0) + 1).astype(int), 0, self.cells)
        x = np.arange(low[0], high[0], dtype=np.float32)[None, :] + 0.5
        y = np.arange(low[1], high[1], dtype=np.float32)[:, None] + 0.5
        edge = np.roll(scaled, -1, axis=0) - scaled
        length = np.hypot(edge[:, 0], edge[:, 1])
        keep = length > 1e-9
        normal = np.stack([-edge[keep, 1], edge[keep, 0]]) / length[keep]
        normal = normal.astype(np.float32)[:, :, None, None]
        start = scaled[keep].T.astype(np.float32)[:, :, None, None]
        share = (x - start[0]) * normal[0] + ((y - start[1]) * normal[1] + np.float32(0.5))
        share = np.minimum(np.maximum(share, 0.0, out=share), 1.0, out=share).prod(axis=0)
        return (slice(low[1], high[1]), slice(low[0], high[0])), share


def rectangle(centre, length: float, width: float, yaw: float) -> np.ndarray:
    """Counter-clockwise corners [4, 2] of a rectangle, `length` along `yaw`."""
    c, s = np.cos(yaw), np.sin(yaw)
    corner = 0.5 * np.array(
        [[-length, -width], [length, -width], [length, width], [-length, width]]
    )
    return corner @ np.array([[c, s], [-s, c]]) + np.asarray(centre)


def disc(centre, radius: float, corners: int = 12) -> np.ndarray:
    """Counter-clockwise regular polygon of the disc's area."""
    angle = np.arange(corners) * (2 * np.pi / corners)
    scale = radius * np.sqrt(2 * np.pi / (corners * np.sin(2 * np.pi / corners)))
    return np.stack([np.cos(angle), np.sin(angle)], 1) * scale + np.asarray(centre)
