"""Pinhole cameras: projection, intrinsics under resizing and cropping, pixel conventions.

Camera frame: x right, y down, z forward. Intrinsics K = [[fx, s, cx], [0, fy, cy], [0, 0, 1]] in
pixels, with the first pixel's centre at (0.5, 0.5): the image covers [0, W] x [0, H], so that
resizing by s maps u to s u and scales K without an extra term.
"""

from typing import Literal

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry.numerics import as_float, matmul

# Where a convention puts the centre of the first pixel.
_FIRST_CENTER = {"posejax": 0.5, "opencv": 0.0, "matlab": 1.0}
PixelConvention = Literal["posejax", "opencv", "matlab"]


def _check_intrinsics(intrinsics: ArrayLike) -> Array:
    matrix = as_float(intrinsics)
    if matrix.shape != (3, 3):
        raise ValueError(f"intrinsics are [3, 3], got {matrix.shape}; use jax.vmap over cameras")
    return matrix


def project(
    points: ArrayLike, intrinsics: ArrayLike, *, min_depth: float = 1e-3
) -> tuple[Array, Array]:
    """Pixel coordinates of points in front of a pinhole camera.

    Args:
      points: [..., 3] in the camera frame, metres.
      intrinsics: [3, 3].
      min_depth: metres; points with z below it are not valid, nor are those that are not finite.

    Returns:
      xy [..., 2] pixels and valid [...] bool. Points that are not valid are projected as if at
      depth 1, and on the axis where x or y is not finite: a finite value with finite gradients and
      no meaning. Whether xy lies on the image is left to the caller (`bilinear_sample` says so).
    """
    points, k = as_float(points), _check_intrinsics(intrinsics)
    z = points[..., 2]
    valid = (z >= min_depth) & jnp.isfinite(points).all(-1)
    known = jnp.isfinite(points[..., :2]).all(-1, keepdims=True)
    ray = jnp.where(known, points[..., :2], 0) / jnp.where(valid, z, 1)[..., None]
    return _pixels_from_ray(ray, k), valid


def unproject(xy: ArrayLike, depth: ArrayLike, intrinsics: ArrayLike) -> Array:
    """Points in the camera frame; inverse of `project`.

    Args:
      xy: [..., 2] pixels.
      depth: [...] metres along the optical axis (z, not the distance from the camera).
      intrinsics: [3, 3].

    Returns:
      [..., 3] metres.
    """
    return pixel_rays(xy, intrinsics) * as_float(depth)[..., None]


def pixel_rays(xy: ArrayLike, intrinsics: ArrayLike) -> Array:
    """Viewing rays K^-1 (x, y, 1) with unit z, [..., 2] pixels -> [..., 3] in the camera frame."""
    xy, k = as_float(xy), _check_intrinsics(intrinsics)
    y = (xy[..., 1] - k[1, 2]) / k[1, 1]
    x = (xy[..., 0] - k[0, 2] - k[0, 1] * y) / k[0, 0]
    return jnp.stack([x, y, jnp.ones_like(x)], axis=-1)


def _pixels_from_ray(ray: Array, k: Array) -> Array:
    x, y = ray[..., 0], ray[..., 1]
    return jnp.stack([k[0, 0] * x + k[0, 1] * y + k[0, 2], k[1, 1] * y + k[1, 2]], axis=-1)


def resize_intrinsics(intrinsics: ArrayLike, scale: ArrayLike) -> Array:
    """Intrinsics of the resized image.

    Args:
      intrinsics: [..., 3, 3].
      scale: new size / old size: a number, or (x, y) = (new width / width, new height / height).

    Returns:
      [..., 3, 3] = diag(sx, sy, 1) K; exact because pixel coordinates start at the image's corner.
    """
    scale = jnp.broadcast_to(as_float(scale), (2,))
    k = as_float(intrinsics)
    rows = jnp.concatenate([scale, jnp.ones((1,), scale.dtype)])
    return k * rows.reshape((1,) * (k.ndim - 2) + (3, 1))


def crop_intrinsics(intrinsics: ArrayLike, corner: ArrayLike) -> Array:
    """Intrinsics of a crop.

    Args:
      intrinsics: [..., 3, 3].
      corner: (x, y) pixel coordinates of the crop's top left corner, e.g. (16, 0) for
        `image[:, 16:]`; negative for padding.

    Returns:
      [..., 3, 3]: the principal point moves by -corner.
    """
    k = as_float(intrinsics)
    corner = jnp.broadcast_to(as_float(corner), (*k.shape[:-2], 2))
    return k.at[..., :2, 2].add(-corner)


def convert_pixels(xy: ArrayLike, *, source: PixelConvention, target: PixelConvention) -> Array:
    """Pixel coordinates [..., 2] from one convention to another.

    The centre of the first pixel is (0.5, 0.5) in "posejax" (and COLMAP), (0, 0) in "opencv" (and
    array indices), (1, 1) in "matlab".
    """
    return as_float(xy) + _pixel_shift(source, target)


def convert_intrinsics(
    intrinsics: ArrayLike, *, source: PixelConvention, target: PixelConvention
) -> Array:
    """Intrinsics [..., 3, 3] from one pixel convention to another: moves the principal point."""
    return as_float(intrinsics).at[..., :2, 2].add(_pixel_shift(source, target))


def _pixel_shift(source: str, target: str) -> float:
    for name in (source, target):
        if name not in _FIRST_CENTER:
            raise ValueError(f"unknown pixel convention {name!r}; one of {sorted(_FIRST_CENTER)}")
    return _FIRST_CENTER[target] - _FIRST_CENTER[source]


def pixels_from_normalized(
    xy: ArrayLike, shape: tuple[int, int], *, align_corners: bool = False
) -> Array:
    """Coordinates in [-1, 1] to pixels, [..., 2] -> [..., 2].

    Args:
      xy: (x, y); -1 and 1 are the image's outer edges or, with `align_corners`, the centres of the
        first and last pixel.
      shape: (H, W) of the image.
    """
    xy = as_float(xy)
    size = jnp.array([shape[1], shape[0]], xy.dtype).reshape((1,) * (xy.ndim - 1) + (2,))
    return (xy + 1) / 2 * (size - 1) + 0.5 if align_corners else (xy + 1) / 2 * size


def normalized_from_pixels(
    xy: ArrayLike, shape: tuple[int, int], *, align_corners: bool = False
) -> Array:
    """Inverse of `pixels_from_normalized`."""
    xy = as_float(xy)
    size = jnp.array([shape[1], shape[0]], xy.dtype).reshape((1,) * (xy.ndim - 1) + (2,))
    return (xy - 0.5) / (size - 1) * 2 - 1 if align_corners else xy / size * 2 - 1


def projection_matrix(intrinsics: ArrayLike, camera_from_world: ArrayLike) -> Array:
    """K [R | t], [3, 3] and [4, 4] -> [3, 4]."""
    return matmul(_check_intrinsics(intrinsics), as_float(camera_from_world)[:3])
