"""Two-view epipolar geometry. Point pairs satisfy (x_b, 1)^T F (x_a, 1) = 0."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry.numerics import as_float, einsum, matmul, skew


def essential_from_pose(b_from_a: ArrayLike) -> Array:
    """Essential matrix [t]x R of the relative pose [4, 4] -> [3, 3], on rays (x, y, 1)."""
    pose = as_float(b_from_a)
    return matmul(skew(pose[:3, 3]), pose[:3, :3])


def fundamental_from_pose(b_from_a: ArrayLike, k_a: ArrayLike, k_b: ArrayLike) -> Array:
    """Fundamental matrix K_b^-T [t]x R K_a^-1 on pixels, [4, 4] and two [3, 3] -> [3, 3]."""
    essential = essential_from_pose(b_from_a)
    inverse_b = inverse_intrinsics(k_b)
    return matmul(matmul(inverse_b.T, essential), inverse_intrinsics(k_a))


def inverse_intrinsics(intrinsics: ArrayLike) -> Array:
    """Closed-form inverse of the upper triangular K, [3, 3] -> [3, 3]."""
    k = as_float(intrinsics)
    fx, fy, s, cx, cy = k[0, 0], k[1, 1], k[0, 1], k[0, 2], k[1, 2]
    zero, one = jnp.zeros_like(fx), jnp.ones_like(fx)
    rows = [1 / fx, -s / (fx * fy), (s * cy - cx * fy) / (fx * fy)]
    return jnp.stack([*rows, zero, 1 / fy, -cy / fy, zero, zero, one]).reshape(3, 3)


def epipolar_lines(fundamental: ArrayLike, xy_a: ArrayLike) -> Array:
    """Lines l = F (x_a, 1) in image b on which the partners x lie: l.(x, 1) = 0.

    [3, 3] and [..., 2] -> [..., 3]. Scaled so that l.(x, 1) is the signed distance of x from the
    line in pixels; zero for the epipole itself, which has no line.
    """
    line = einsum("ij,...j->...i", fundamental, _homogeneous(xy_a))
    return line * _inverse_root(line[..., 0] ** 2 + line[..., 1] ** 2)[..., None]


def epipolar_residual(fundamental: ArrayLike, xy_a: ArrayLike, xy_b: ArrayLike) -> Array:
    """(x_b, 1)^T F (x_a, 1), [..., 2] each -> [...]."""
    return _terms(fundamental, xy_a, xy_b)[0]


def sampson_distance(fundamental: ArrayLike, xy_a: ArrayLike, xy_b: ArrayLike) -> Array:
    """Squared first-order distance of point pairs from the epipolar constraint.

    Args:
      fundamental: [3, 3], image a to image b (or essential, on rays).
      xy_a: [..., 2].
      xy_b: [..., 2].

    Returns:
      [...] in squared pixels (or squared ray units): r^2 / (|(F x_a)_xy|^2 + |(F^T x_b)_xy|^2).
      Zero, with zero gradient, where both points are epipoles.
    """
    r, in_b, in_a = _terms(fundamental, xy_a, xy_b)
    return (r * _inverse_root(in_a + in_b)) ** 2


def symmetric_epipolar_distance(fundamental: ArrayLike, xy_a: ArrayLike, xy_b: ArrayLike) -> Array:
    """Sum of both squared point-to-line distances, [..., 2] each -> [...] squared pixels."""
    r, in_b, in_a = _terms(fundamental, xy_a, xy_b)
    return (r * _inverse_root(in_b)) ** 2 + (r * _inverse_root(in_a)) ** 2


def _homogeneous(xy: ArrayLike) -> Array:
    xy = as_float(xy)
    return jnp.concatenate([xy, jnp.ones_like(xy[..., :1])], axis=-1)


def _terms(fundamental: ArrayLike, xy_a: ArrayLike, xy_b: ArrayLike):
    """Residual, and the squared lengths of the line normals in images b and a."""
    a, b = _homogeneous(xy_a), _homogeneous(xy_b)
    line_b = einsum("ij,...j->...i", fundamental, a)
    line_a = einsum("ji,...j->...i", fundamental, b)
    residual = jnp.sum(b * line_b, axis=-1)
    return residual, jnp.sum(line_b[..., :2] ** 2, -1), jnp.sum(line_a[..., :2] ** 2, -1)


def _inverse_root(square: Array) -> Array:
    """1 / sqrt(square), and zero at zero."""
    zero = square <= jnp.finfo(square.dtype).tiny
    return jnp.where(zero, 0, 1 / jnp.sqrt(jnp.where(zero, 1, square)))
