"""Resampling of whole images and rasters under affine maps and planar poses."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry.grids import Grid2D
from posejax.geometry.numerics import as_float, einsum
from posejax.geometry.rigid import se2_apply, se2_inverse
from posejax.image.sampling import bilinear_sample


def pixel_centers(shape: tuple[int, int]) -> Array:
    """[H, W, 2] float32: pixel coordinates (column, row) of all pixel centres."""
    height, width = shape
    x = jnp.arange(width, dtype=jnp.float32) + 0.5
    y = jnp.arange(height, dtype=jnp.float32) + 0.5
    return jnp.stack(jnp.meshgrid(x, y), axis=-1)


def affine_warp(
    image: ArrayLike,
    matrix: ArrayLike,
    out_shape: tuple[int, int] | None = None,
    **sampling,
) -> tuple[Array, Array]:
    """Image resampled under an affine map of pixel coordinates.

    out(p) = image(matrix @ (p, 1)): the matrix maps coordinates of the OUTPUT to the INPUT.

    Args:
      image: [H, W, C].
      matrix: [2, 3], input_from_output, on (column, row) with the first centre at (0.5, 0.5).
      out_shape: (H', W'); default the shape of the image.
      **sampling: `padding` and `valid` of `bilinear_sample`.

    Returns:
      warped [H', W', C] and valid [H', W'] bool.
    """
    matrix = as_float(matrix)
    if matrix.shape != (2, 3):
        raise ValueError(f"matrix is [2, 3] (input_from_output), got {matrix.shape}")
    image = jnp.asarray(image)
    height, width = image.shape[:2] if out_shape is None else out_shape
    p = pixel_centers((height, width))
    xy = einsum("ij,hwj->hwi", matrix[:, :2], p) + matrix[None, None, :, 2]
    return bilinear_sample(image, xy, **sampling)


def resample_raster(
    raster: ArrayLike,
    source: Grid2D,
    target: Grid2D,
    target_from_source: ArrayLike,
    **sampling,
) -> tuple[Array, Array]:
    """Content of one metric raster seen in the cells of another.

    The target cell at x shows the source at target_from_source^-1 x: content at X in the source's
    frame appears at R(yaw) X + (x, y) in the target's.

    Args:
      raster: [H, W, C] on `source`.
      source: grid of the raster.
      target: grid of the result, of any shape and cell size (finer or coarser by interpolation,
        without antialiasing: `resize` first when shrinking).
      target_from_source: [3] = (x, y, yaw) between the grids' centres, metres and radians.
      **sampling: `padding` and `valid` of `bilinear_sample`.

    Returns:
      [H', W', C] on `target`, and valid [H', W'] bool.

    Differentiable with respect to the raster and the pose.
    """
    raster = jnp.asarray(raster)
    if raster.shape[:2] != source.shape:
        raise ValueError(f"raster {raster.shape} does not lie on a grid of {source.shape} cells")
    xy = se2_apply(se2_inverse(target_from_source), target.cell_centers())
    return bilinear_sample(raster, source.pixel_from_xy(xy), **sampling)
