"""Unit quaternions in xyzw order; q and -q are the same rotation."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry.numerics import as_float, cross, normalize, safe_norm, stumpff


def normalize_quat_xyzw(quat: ArrayLike) -> Array:
    """Unit quaternion, [..., 4] -> [..., 4]; zero becomes the identity (with zero gradient)."""
    quat = as_float(quat)
    return normalize(quat, jnp.array([0, 0, 0, 1], quat.dtype))


def canonical_quat_xyzw(quat: ArrayLike) -> Array:
    """The one of q and -q with w > 0, or, if w = 0, with a positive first non-zero component."""
    quat = as_float(quat)
    x, y, z, w = (quat[..., i] for i in range(4))
    lead = jnp.where(w != 0, w, jnp.where(x != 0, x, jnp.where(y != 0, y, z)))
    return jnp.where(lead[..., None] < 0, -quat, quat)


def multiply_quat_xyzw(a: ArrayLike, b: ArrayLike) -> Array:
    """Hamilton product, [..., 4] each: the rotation that applies b first, then a."""
    a, b = as_float(a), as_float(b)
    av, aw, bv, bw = a[..., :3], a[..., 3:], b[..., :3], b[..., 3:]
    vector = aw * bv + bw * av + cross(av, bv)
    return jnp.concatenate([vector, aw * bw - jnp.sum(av * bv, axis=-1, keepdims=True)], axis=-1)


def conjugate_quat_xyzw(quat: ArrayLike) -> Array:
    """Inverse of a unit quaternion, [..., 4] -> [..., 4]."""
    quat = as_float(quat)
    return jnp.concatenate([-quat[..., :3], quat[..., 3:]], axis=-1)


def quat_xyzw_to_matrix(quat: ArrayLike) -> Array:
    """Rotation matrix of a quaternion.

    Args:
      quat: [..., 4] = (x, y, z, w) of any length (it is normalised); zero counts as the identity.

    Returns:
      [..., 3, 3].
    """
    quat = normalize_quat_xyzw(quat)
    x, y, z, w = (quat[..., i] for i in range(4))
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return jnp.stack(rows, axis=-1).reshape(*quat.shape[:-1], 3, 3)


def matrix_to_quat_xyzw(matrix: ArrayLike) -> Array:
    """Quaternion of a rotation matrix, [..., 3, 3] -> [..., 4] = (x, y, z, w), canonical sign.

    The entries of R give all products 4 q_i q_j, a symmetric matrix of rank one. Its row with the
    largest diagonal entry, which is at least 1, is normalised: accurate and smooth everywhere but
    for the sign, which must jump somewhere: at 180 degrees (w = 0).

    Shepperd, Quaternion from rotation matrix, Journal of Guidance and Control, 1978.
    """
    matrix = as_float(matrix)
    m00, m01, m02 = (matrix[..., 0, i] for i in range(3))
    m10, m11, m12 = (matrix[..., 1, i] for i in range(3))
    m20, m21, m22 = (matrix[..., 2, i] for i in range(3))
    xy, xz, yz = m01 + m10, m02 + m20, m12 + m21
    xw, yw, zw = m21 - m12, m02 - m20, m10 - m01
    products = [
        1 + m00 - m11 - m22, xy, xz, xw,
        xy, 1 - m00 + m11 - m22, yz, yw,
        xz, yz, 1 - m00 - m11 + m22, zw,
        xw, yw, zw, 1 + m00 + m11 + m22,
    ]  # fmt: skip
    table = jnp.stack(products, axis=-1).reshape(*matrix.shape[:-2], 4, 4)
    best = jnp.argmax(jnp.diagonal(table, axis1=-2, axis2=-1), axis=-1)
    row = jnp.take_along_axis(table, best[..., None, None], axis=-2)[..., 0, :]
    return canonical_quat_xyzw(normalize(row))


def quat_xyzw_to_rotation_vector(quat: ArrayLike) -> Array:
    """Axis times angle of the shorter turn, [..., 4] -> [..., 3] radians, |.| <= pi.

    The factor angle / sin(angle / 2) = 2 atan2(n, w) / n, n the length of the vector part, is
    taken from the series of atan below n = 0.1, where q is nearly (0, 0, 0, 1).
    """
    quat = canonical_quat_xyzw(normalize_quat_xyzw(quat))
    vector, w = quat[..., :3], quat[..., 3:]
    square = jnp.sum(vector**2, axis=-1, keepdims=True)
    small = square < 1e-2
    w_small = jnp.where(small, w, 1)
    ratio = jnp.where(small, square, 0) / w_small**2
    series = jnp.zeros_like(ratio)
    for k in reversed(range(9)):
        series = 1 / (2 * k + 1) - ratio * series
    norm = jnp.sqrt(jnp.where(small, 1, square))
    factor = jnp.where(small, 2 / w_small * series, 2 * jnp.arctan2(norm, w) / norm)
    return factor * vector


def quat_angle_xyzw(a: ArrayLike, b: ArrayLike) -> Array:
    """Angle between two rotations given as quaternions, [..., 4] each -> [...] in [0, pi].

    4 atan2(|a - b|, |a + b|) on the closer of b and -b: accurate at 0, gradient zero there.
    """
    a, b = normalize_quat_xyzw(a), normalize_quat_xyzw(b)
    b = jnp.where(jnp.sum(a * b, axis=-1, keepdims=True) < 0, -b, b)
    return 4 * jnp.arctan2(safe_norm(a - b), safe_norm(a + b))


def slerp_quat_xyzw(a: ArrayLike, b: ArrayLike, alpha: ArrayLike) -> Array:
    """Rotation `alpha` of the shorter way from a (alpha = 0) to b (alpha = 1).

    Args:
      a: [..., 4].
      b: [..., 4].
      alpha: [...], any real number (beyond [0, 1] it extrapolates).

    Returns:
      [..., 4] unit quaternion, a * exp(alpha log(a^-1 b)).
    """
    a, b = normalize_quat_xyzw(a), normalize_quat_xyzw(b)
    turn = quat_xyzw_to_rotation_vector(multiply_quat_xyzw(conjugate_quat_xyzw(a), b))
    step = rotation_vector_to_quat_xyzw(as_float(alpha)[..., None] * turn)
    return multiply_quat_xyzw(a, step)


def rotation_vector_to_quat_xyzw(vector: ArrayLike) -> Array:
    """Quaternion of the turn by |vector| radians about it, [..., 3] -> [..., 4]."""
    vector = as_float(vector)
    square = jnp.sum(vector**2, axis=-1, keepdims=True) / 4
    return jnp.concatenate([vector / 2 * stumpff(square, 1), stumpff(square, 0)], axis=-1)
