"""Metric raster geometry: where the cells of a [H, W] raster lie in its plane."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry.numerics import as_float


@dataclass(frozen=True)
class Grid2D:
    """A raster of square cells with its origin at the centre.

    x grows along columns and y along rows; yaw turns x towards y. Pixel coordinates are continuous
    with the first cell's centre at (0.5, 0.5), so that the origin has pixel coordinates
    (W / 2, H / 2). Frozen and hashable: a static argument of jitted functions.

    Attributes:
      shape: (H, W) in cells.
      cell_size: metres per cell.

    Raises:
      ValueError: if a size is not a positive whole number or the cell size not positive.
    """

    shape: tuple[int, int]
    cell_size: float

    def __post_init__(self):
        shape = tuple(self.shape)
        if len(shape) != 2 or any(int(n) != n or n < 1 for n in shape):
            raise ValueError(f"shape is (H, W), two positive whole numbers, got {self.shape}")
        if not (math.isfinite(self.cell_size) and self.cell_size > 0):
            raise ValueError(f"cell_size is a positive length in metres, got {self.cell_size}")
        # Lists and NumPy scalars would make equal grids unequal or unhashable.
        object.__setattr__(self, "shape", (int(shape[0]), int(shape[1])))
        object.__setattr__(self, "cell_size", float(self.cell_size))

    @property
    def size_m(self) -> tuple[float, float]:
        """Extent (along x, along y) in metres."""
        height, width = self.shape
        return width * self.cell_size, height * self.cell_size

    def pixel_from_xy(self, xy: ArrayLike) -> Array:
        """Metres [..., 2] to pixel coordinates [..., 2] = (column, row)."""
        height, width = self.shape
        xy = as_float(xy)
        return jnp.stack(
            [xy[..., 0] / self.cell_size + width / 2, xy[..., 1] / self.cell_size + height / 2],
            axis=-1,
        )

    def xy_from_pixel(self, pixel: ArrayLike) -> Array:
        """Pixel coordinates [..., 2] = (column, row) to metres [..., 2]; inverse of the above."""
        height, width = self.shape
        pixel = as_float(pixel)
        return jnp.stack(
            [
                (pixel[..., 0] - width / 2) * self.cell_size,
                (pixel[..., 1] - height / 2) * self.cell_size,
            ],
            axis=-1,
        )

    def cell_centers(self) -> Array:
        """[H, W, 2] float32: (x, y) of every cell's centre in metres."""
        height, width = self.shape
        x = (np.arange(width) + 0.5 - width / 2) * self.cell_size
        y = (np.arange(height) + 0.5 - height / 2) * self.cell_size
        return jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1), jnp.float32)

    def contains(self, xy: ArrayLike) -> Array:
        """Whether points [..., 2] (metres) lie on the raster (far edges excluded), [...] bool."""
        height, width = self.shape
        pixel = self.pixel_from_xy(xy)
        x, y = pixel[..., 0], pixel[..., 1]
        return (x >= 0) & (x < width) & (y >= 0) & (y < height)

    def resized(self, factor: float) -> "Grid2D":
        """The same ground at `factor` times the resolution, e.g. 0.5 for half as many cells.

        Raises:
          ValueError: if the new sizes are not whole.
        """
        height, width = (n * factor for n in self.shape)
        if round(height) != height or round(width) != width:
            raise ValueError(f"{self.shape} cells times {factor} is not a whole number of cells")
        return Grid2D((round(height), round(width)), self.cell_size / factor)

    def padded(self, cells: int) -> "Grid2D":
        """`cells` more on every side (fewer if negative); the centre stays."""
        return Grid2D((self.shape[0] + 2 * cells, self.shape[1] + 2 * cells), self.cell_size)
