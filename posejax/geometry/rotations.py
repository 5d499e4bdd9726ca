"""Rotations: 6D, quaternion, rotation vector, matrix and yaw, with finite gradients everywhere.

Matrices act on column vectors. All functions work on leading axes [...] elementwise, compute in at
least float32, and are differentiable at the identity and at 180 degrees (where the derivative does
not exist, e.g. of an angle at zero, a finite one-sided or zero derivative is returned).
"""

import math

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry.numerics import as_float, cross, matmul, normalize, safe_norm, skew, stumpff
from posejax.geometry.quaternions import matrix_to_quat_xyzw, quat_xyzw_to_rotation_vector


def wrap_angle(angle: ArrayLike) -> Array:
    """The same direction in [-pi, pi); derivative one everywhere."""
    angle = as_float(angle)
    return angle - 2 * math.pi * jnp.floor((angle + math.pi) / (2 * math.pi))


def yaw_to_matrix2(yaw: ArrayLike) -> Array:
    """[...] radians -> [..., 2, 2] = [[c, -s], [s, c]]: turns x towards y."""
    yaw = as_float(yaw)
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    return jnp.stack([jnp.stack([cos, -sin], axis=-1), jnp.stack([sin, cos], axis=-1)], axis=-2)


def yaw_to_matrix(yaw: ArrayLike) -> Array:
    """[...] radians -> [..., 3, 3]: turns x towards y about z."""
    yaw = as_float(yaw)
    cos, sin, zero, one = jnp.cos(yaw), jnp.sin(yaw), jnp.zeros_like(yaw), jnp.ones_like(yaw)
    rows = [cos, -sin, zero, sin, cos, zero, zero, zero, one]
    return jnp.stack(rows, axis=-1).reshape(*yaw.shape, 3, 3)


def matrix_to_yaw(matrix: ArrayLike) -> Array:
    """Heading of the rotated x axis in the xy plane, [..., n, n] (n = 2, 3 or 4) -> [...] radians.

    The yaw of z-y-x Euler angles; zero, with zero gradient, if the x axis points straight up.
    """
    matrix = as_float(matrix)
    x, y = matrix[..., 0, 0], matrix[..., 1, 0]
    upright = (x == 0) & (y == 0)
    return jnp.where(upright, 0, jnp.arctan2(y, jnp.where(upright, 1, x)))


def rotation_6d_to_matrix(sixd: ArrayLike) -> Array:
    """Gram-Schmidt of two 3-vectors.

    Args:
      sixd: [..., 6] = (a1, a2), of any length; R has columns b1 = a1/|a1|, b2 = the unit vector of
        a2 - (b1.a2) b1, and b1 x b2.

    Returns:
      [..., 3, 3] rotation, also for degenerate input: a zero a1 counts as x, a2 parallel to a1 is
      replaced by an axis across it; gradients are zero there.

    Zhou et al., On the Continuity of Rotation Representations in Neural Networks, CVPR 2019.
    """
    sixd = as_float(sixd)
    b1 = normalize(sixd[..., :3], jnp.array([1, 0, 0], sixd.dtype))
    a2 = normalize(sixd[..., 3:])
    across = a2 - jnp.sum(b1 * a2, axis=-1, keepdims=True) * b1
    # Below a few rounding errors the direction of the remainder is noise.
    parallel = jnp.sum(across**2, axis=-1, keepdims=True) < (8 * jnp.finfo(sixd.dtype).eps) ** 2
    b2 = normalize(jnp.where(parallel, _any_across(b1), across))
    # Once more: the remainder of a nearly parallel a2 still leans on b1 by its rounding error.
    b2 = normalize(b2 - jnp.sum(b1 * b2, axis=-1, keepdims=True) * b1)
    return jnp.stack([b1, b2, cross(b1, b2)], axis=-1)


def _any_across(unit: Array) -> Array:
    """Some unit vector perpendicular to `unit` [..., 3], a constant of the differentiation."""
    unit = lax.stop_gradient(unit)
    axis = jnp.eye(3, dtype=unit.dtype)[jnp.argmin(jnp.abs(unit), axis=-1)]
    return normalize(cross(unit, axis))


def matrix_to_rotation_6d(matrix: ArrayLike) -> Array:
    """First two columns, [..., 3, 3] -> [..., 6]; a right inverse of `rotation_6d_to_matrix`."""
    matrix = as_float(matrix)
    return jnp.concatenate([matrix[..., :, 0], matrix[..., :, 1]], axis=-1)


def rotation_angle(a: ArrayLike, b: ArrayLike) -> Array:
    """Geodesic angle between two rotations.

    Args:
      a: [..., 3, 3].
      b: [..., 3, 3].

    Returns:
      [...] radians in [0, pi].

    With Q = a^T b, the vector of Q - Q^T has length 2 sin and trace(Q) - 1 is 2 cos; atan2 of both
    is accurate to rounding at 0 and at 180 degrees, where acos loses half the digits and has an
    infinite derivative. The gradient at exactly 0 and 180 degrees is zero.
    """
    q = matmul(jnp.swapaxes(as_float(a), -1, -2), b)
    sin = safe_norm(_vee(q - jnp.swapaxes(q, -1, -2)))
    cos = jnp.trace(q, axis1=-2, axis2=-1) - 1
    # Never for rotations, but a degenerate matrix must not turn a batch's gradient into NaN.
    empty = (sin == 0) & (cos == 0)
    return jnp.arctan2(sin, jnp.where(empty, 1, cos))


def _vee(matrix: Array) -> Array:
    return jnp.stack([matrix[..., 2, 1], matrix[..., 0, 2], matrix[..., 1, 0]], axis=-1)


def so3_exp(vector: ArrayLike) -> Array:
    """Rotation by |vector| radians about it (Rodrigues), [..., 3] -> [..., 3, 3]."""
    vector = as_float(vector)
    square = jnp.sum(vector**2, axis=-1)[..., None, None]
    w = skew(vector)
    eye = jnp.broadcast_to(jnp.eye(3, dtype=w.dtype), w.shape)
    return eye + stumpff(square, 1) * w + stumpff(square, 2) * matmul(w, w)


def so3_log(matrix: ArrayLike) -> Array:
    """Rotation vector of the shorter turn, [..., 3, 3] -> [..., 3] radians, |.| <= pi.

    Through the quaternion, which stays accurate and differentiable up to and at 180 degrees; there
    both signs of the axis are right, and the one of the canonical quaternion is returned.
    """
    return quat_xyzw_to_rotation_vector(matrix_to_quat_xyzw(matrix))
