"""Rigid motions: planar poses (x, y, yaw) and SE(3) as 4x4 matrices.

`a_from_b` maps coordinates of b to a, so that compositions read with matching neighbours:
`se2_compose(a_from_b, b_from_c)`, `a_from_b @ b_from_c`. Tangent vectors put translation first.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry.numerics import as_float, einsum, matmul, skew, stumpff
from posejax.geometry.rotations import so3_exp, so3_log, wrap_angle, yaw_to_matrix2


def se2_compose(a_from_b: ArrayLike, b_from_c: ArrayLike) -> Array:
    """a_from_c = a_from_b o b_from_c, [..., 3] each, yaw wrapped to [-pi, pi)."""
    a_from_b, b_from_c = as_float(a_from_b), as_float(b_from_c)
    xy = _rotate2(a_from_b[..., 2], b_from_c[..., :2]) + a_from_b[..., :2]
    return _se2(xy, wrap_angle(a_from_b[..., 2] + b_from_c[..., 2]))


def se2_inverse(a_from_b: ArrayLike) -> Array:
    """b_from_a, [..., 3] -> [..., 3]."""
    pose = as_float(a_from_b)
    return _se2(-_rotate2(-pose[..., 2], pose[..., :2]), wrap_angle(-pose[..., 2]))


def se2_apply(a_from_b: ArrayLike, points: ArrayLike) -> Array:
    """Points of b in a: R(yaw) p + (x, y).

    Args:
      a_from_b: [3] = (x, y, yaw).
      points: [..., 2].

    Returns:
      [..., 2].
    """
    pose, points = as_float(a_from_b), as_float(points)
    if pose.shape != (3,):
        raise ValueError(f"a planar pose is [3] = (x, y, yaw), got {pose.shape}; use jax.vmap")
    return _rotate2(pose[2], points) + pose[:2].reshape((1,) * (points.ndim - 1) + (2,))


def se2_exp(tangent: ArrayLike) -> Array:
    """Pose after one unit of time at constant velocity (vx, vy, yaw rate), [..., 3] -> [..., 3].

    (x, y) = [[s, -c], [c, s]] (vx, vy) with s = sin(w) / w and c = (1 - cos(w)) / w.
    """
    tangent = as_float(tangent)
    w = tangent[..., 2]
    s, c = stumpff(w**2, 1), w * stumpff(w**2, 2)
    return _se2(_turn2(s, c, tangent[..., :2]), wrap_angle(w))


def se2_log(pose: ArrayLike) -> Array:
    """Inverse of `se2_exp` for yaw in [-pi, pi), [..., 3] -> [..., 3].

    The inverse of [[s, -c], [c, s]] is (1 / (s^2 + c^2)) [[s, c], [-c, s]], and
    s^2 + c^2 = 2 c_2(w^2) >= 4 / pi^2 never vanishes.
    """
    pose = as_float(pose)
    w = wrap_angle(pose[..., 2])
    one_minus_cos = stumpff(w**2, 2)
    s, c = stumpff(w**2, 1), w * one_minus_cos
    xy = _turn2(s, -c, pose[..., :2]) / (2 * one_minus_cos)[..., None]
    return _se2(xy, w)


def se2_matrix(pose: ArrayLike) -> Array:
    """Homogeneous matrix, [..., 3] -> [..., 3, 3]."""
    pose = as_float(pose)
    return _homogeneous(yaw_to_matrix2(pose[..., 2]), pose[..., :2])


def _se2(xy: Array, yaw: Array) -> Array:
    return jnp.concatenate([xy, yaw[..., None]], axis=-1)


def _turn2(cos: Array, sin: Array, xy: Array) -> Array:
    x, y = xy[..., 0], xy[..., 1]
    return jnp.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def _rotate2(yaw: Array, xy: Array) -> Array:
    return _turn2(jnp.cos(yaw), jnp.sin(yaw), xy)


def _homogeneous(rotation: Array, translation: Array) -> Array:
    n = rotation.shape[-1]
    top = jnp.concatenate([rotation, translation[..., None]], axis=-1)
    last = jnp.zeros((*top.shape[:-2], 1, n + 1), top.dtype).at[..., n].set(1)
    return jnp.concatenate([top, last], axis=-2)


def se3_from_rotation_translation(rotation: ArrayLike, translation: ArrayLike) -> Array:
    """[..., 3, 3] and [..., 3] -> [..., 4, 4]."""
    rotation, translation = as_float(rotation), as_float(translation)
    dtype = jnp.promote_types(rotation.dtype, translation.dtype)
    return _homogeneous(rotation.astype(dtype), translation.astype(dtype))


def se3_from_se2(pose: ArrayLike) -> Array:
    """Planar pose as a motion in the plane z = 0, [..., 3] -> [..., 4, 4]."""
    pose = as_float(pose)
    vector = jnp.zeros_like(pose).at[..., 2].set(pose[..., 2])
    return _homogeneous(so3_exp(vector), pose.at[..., 2].set(0))


def se3_inverse(a_from_b: ArrayLike) -> Array:
    """b_from_a = (R^T, -R^T t), [..., 4, 4] -> [..., 4, 4]; needs no matrix inversion."""
    pose = as_float(a_from_b)
    rotation = jnp.swapaxes(pose[..., :3, :3], -1, -2)
    return _homogeneous(rotation, -einsum("...ij,...j->...i", rotation, pose[..., :3, 3]))


def se3_apply(a_from_b: ArrayLike, points: ArrayLike) -> Array:
    """Points of b in a: R p + t, a_from_b [4, 4], points [..., 3] -> [..., 3]."""
    pose, points = as_float(a_from_b), as_float(points)
    if pose.shape != (4, 4):
        raise ValueError(f"a pose is [4, 4], got {pose.shape}; use jax.vmap")
    moved = einsum("ij,...j->...i", pose[:3, :3], points)
    return moved + pose[:3, 3].reshape((1,) * (points.ndim - 1) + (3,))


def se3_exp(tangent: ArrayLike) -> Array:
    """Motion of a constant twist (v, w): translation first, then rotation vector.

    Args:
      tangent: [..., 6] = (v in metres, w in radians).

    Returns:
      [..., 4, 4] = (exp(w), V v), V = I + c_2 [w]x + c_3 [w]x^2 (`stumpff` factors of |w|^2).
    """
    tangent = as_float(tangent)
    v, w = tangent[..., :3], tangent[..., 3:]
    square = jnp.sum(w**2, axis=-1)[..., None, None]
    cross = skew(w)
    eye = jnp.broadcast_to(jnp.eye(3, dtype=w.dtype), cross.shape)
    jacobian = eye + stumpff(square, 2) * cross + stumpff(square, 3) * matmul(cross, cross)
    return _homogeneous(so3_exp(w), einsum("...ij,...j->...i", jacobian, v))


def se3_log(pose: ArrayLike) -> Array:
    """Inverse of `se3_exp` for turns up to pi, [..., 4, 4] -> [..., 6] = (v, w).

    V^-1 = I - [w]x / 2 + d [w]x^2 with d = (1 - c_1 / (2 c_2)) / a^2. Written with the next two
    `stumpff` factors, c_1 = 1 - a^2 c_3 and c_2 = 1/2 - a^2 c_4, this is d = (c_3 / 2 - c_4) / c_2:
    nothing cancels at a = 0, and c_2 >= 2 / pi^2 up to a = pi.
    """
    pose = as_float(pose)
    w = so3_log(pose[..., :3, :3])
    square = jnp.sum(w**2, axis=-1)[..., None, None]
    cross = skew(w)
    eye = jnp.broadcast_to(jnp.eye(3, dtype=w.dtype), cross.shape)
    d = (stumpff(square, 3) / 2 - stumpff(square, 4)) / stumpff(square, 2)
    inverse = eye - cross / 2 + d * matmul(cross, cross)
    return jnp.concatenate([einsum("...ij,...j->...i", inverse, pose[..., :3, 3]), w], axis=-1)


def interpolate_pose(start: ArrayLike, end: ArrayLike, alpha: ArrayLike) -> Array:
    """Pose on the screw motion from `start` (alpha = 0) to `end` (alpha = 1).

    start @ exp(alpha log(start^-1 end)): constant velocity and turn rate in the moving frame, as a
    vehicle between two poses; independent of the choice of either frame.

    Args:
      start: [4, 4] world_from_body.
      end: [4, 4] world_from_body.
      alpha: scalar or [...]; beyond [0, 1] it extrapolates.

    Returns:
      [..., 4, 4] world_from_body, one for each alpha.
    """
    start, alpha = as_float(start), as_float(alpha)
    twist = se3_log(matmul(se3_inverse(start), end))
    step = se3_exp(alpha[..., None] * jnp.broadcast_to(twist, (*alpha.shape, 6)))
    return einsum("ij,...jk->...ik", start, step)
