"""Rotations, quaternions (xyzw) and SE(3) as 4x4 matrices in float64 NumPy.

The worker-side twin of `posejax.geometry`: same names, same conventions, the same results (tested
in float64). Matrices act on column vectors, `a_from_b` maps coordinates of b to a, tangent vectors
put translation first. All functions work on leading axes; planar poses are in `posejax.data.se2`.
"""

import math

import numpy as np
from numpy.typing import ArrayLike


def normalize_quat_xyzw(quat: ArrayLike) -> np.ndarray:
    """Unit quaternion, [..., 4] -> [..., 4]; zero becomes the identity."""
    quat = np.asarray(quat, np.float64)
    peak = np.abs(quat).max(axis=-1, keepdims=True)  # squares of wild numbers would overflow
    zero = peak == 0
    quat = np.where(zero, [0.0, 0.0, 0.0, 1.0], quat / np.where(zero, 1, peak))
    return quat / np.linalg.norm(quat, axis=-1, keepdims=True)


def canonical_quat_xyzw(quat: ArrayLike) -> np.ndarray:
    """The one of q and -q with w > 0, or, if w = 0, with a positive first non-zero component."""
    quat = np.asarray(quat, np.float64)
    x, y, z, w = np.moveaxis(quat, -1, 0)
    lead = np.where(w != 0, w, np.where(x != 0, x, np.where(y != 0, y, z)))
    return np.where(lead[..., None] < 0, -quat, quat)


def multiply_quat_xyzw(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Hamilton product, [..., 4] each: the rotation that applies b first, then a."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    av, aw, bv, bw = a[..., :3], a[..., 3:], b[..., :3], b[..., 3:]
    vector = aw * bv + bw * av + np.cross(av, bv)
    return np.concatenate([vector, aw * bw - (av * bv).sum(-1, keepdims=True)], axis=-1)


def conjugate_quat_xyzw(quat: ArrayLike) -> np.ndarray:
    """Inverse of a unit quaternion, [..., 4] -> [..., 4]."""
    return np.asarray(quat, np.float64) * [-1.0, -1.0, -1.0, 1.0]


def rotate_quat_xyzw(quat: ArrayLike, points: ArrayLike) -> np.ndarray:
    """Points turned by unit quaternions, [..., 4] and [..., 3] -> [..., 3]."""
    quat, points = np.asarray(quat, np.float64), np.asarray(points, np.float64)
    vector = quat[..., :3]
    across = np.cross(vector, points)
    return points + 2 * (quat[..., 3:] * across + np.cross(vector, across))


def quat_xyzw_to_matrix(quat: ArrayLike) -> np.ndarray:
    """Rotation matrix, [..., 4] = (x, y, z, w) of any length -> [..., 3, 3]; zero: identity."""
    quat = normalize_quat_xyzw(quat)
    x, y, z, w = np.moveaxis(quat, -1, 0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return np.stack(rows, axis=-1).reshape(*quat.shape[:-1], 3, 3)


def matrix_to_quat_xyzw(matrix: ArrayLike) -> np.ndarray:
    """Quaternion of a rotation matrix, [..., 3, 3] -> [..., 4] = (x, y, z, w), canonical sign.

    Shepperd, Quaternion from rotation matrix, Journal of Guidance and Control, 1978: accurate at
    every angle, see `posejax.geometry.matrix_to_quat_xyzw`.
    """
    m = np.asarray(matrix, np.float64)
    skew, plus = m - np.swapaxes(m, -1, -2), m + np.swapaxes(m, -1, -2)
    d = np.diagonal(m, axis1=-2, axis2=-1)
    table = np.empty((*m.shape[:-2], 4, 4))
    table[..., :3, :3] = plus
    table[..., 3, :3] = table[..., :3, 3] = np.stack(
        [skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], axis=-1
    )
    trace = d.sum(-1)
    table[..., range(3), range(3)] = 1 + 2 * d - trace[..., None]
    table[..., 3, 3] = 1 + trace
    best = np.diagonal(table, axis1=-2, axis2=-1).argmax(-1)
    row = np.take_along_axis(table, best[..., None, None], axis=-2)[..., 0, :]
    return canonical_quat_xyzw(normalize_quat_xyzw(row))


def so3_exp(vector: ArrayLike) -> np.ndarray:
    """Rotation by |vector| radians about it, [..., 3] -> [..., 3, 3]."""
    half = np.asarray(vector, np.float64) / 2
    angle = np.linalg.norm(half, axis=-1, keepdims=True)
    return quat_xyzw_to_matrix(
        np.concatenate([half * np.sinc(angle / np.pi), np.cos(angle)], axis=-1)
    )


def so3_log(matrix: ArrayLike) -> np.ndarray:
    """Rotation vector of the shorter turn, [..., 3, 3] -> [..., 3] radians, |.| <= pi."""
    quat = matrix_to_quat_xyzw(matrix)
    sine = np.linalg.norm(quat[..., :3], axis=-1, keepdims=True)
    small = sine < 1e-9
    angle = 2 * np.arctan2(sine, quat[..., 3:])
    return quat[..., :3] * np.where(small, 2, angle / np.where(small, 1, sine))


def rotation_angle(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Geodesic angle between rotations, [..., 3, 3] each -> [...] radians in [0, pi]."""
    q = np.swapaxes(np.asarray(a, np.float64), -1, -2) @ np.asarray(b, np.float64)
    return np.linalg.norm(so3_log(q), axis=-1)


def is_rotation(matrix: ArrayLike, tolerance: float = 1e-3) -> np.ndarray:
    """Whether matrices are finite, orthonormal to `tolerance` and right-handed, [..., n, n] ->
    [...]."""
    m = np.asarray(matrix, np.float64)
    with np.errstate(all="ignore"):  # wild numbers compare as False
        off = np.abs(m @ np.swapaxes(m, -1, -2) - np.eye(m.shape[-1])).max(axis=(-2, -1))
        return (off <= tolerance) & (np.linalg.det(m) > 0)


def se3_from_rotation_translation(rotation: ArrayLike, translation: ArrayLike) -> np.ndarray:
    """[..., 3, 3] and [..., 3] -> [..., 4, 4]."""
    rotation, translation = np.asarray(rotation, np.float64), np.asarray(translation, np.float64)
    lead = np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    pose = np.zeros((*lead, 4, 4))
    pose[..., :3, :3], pose[..., :3, 3], pose[..., 3, 3] = rotation, translation, 1
    return pose


def nearest_rigid(pose: ArrayLike) -> np.ndarray:
    """The rigid motion nearest to a [..., 4, 4] that is one up to rounding.

    Files keep seven digits or fewer, and 7-Scenes' rotations are orthonormal to 2e-4 alone: without
    this, `se3_inverse` is the inverse to a tenth of a pixel. Singular values become 1.
    """
    pose = np.asarray(pose, np.float64)
    u, _, vt = np.linalg.svd(pose[..., :3, :3])
    return se3_from_rotation_translation(u @ vt, pose[..., :3, 3])


def se3_inverse(a_from_b: ArrayLike) -> np.ndarray:
    """b_from_a = (R^T, -R^T t), [..., 4, 4] -> [..., 4, 4]."""
    pose = np.asarray(a_from_b, np.float64)
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    return se3_from_rotation_translation(rotation, -(rotation @ pose[..., :3, 3:])[..., 0])


def se3_apply(a_from_b: ArrayLike, points: ArrayLike) -> np.ndarray:
    """Points of b in a: R p + t, a_from_b [4, 4], points [..., 3] -> [..., 3] float64."""
    pose = np.asarray(a_from_b, np.float64)
    if pose.shape != (4, 4):
        raise ValueError(f"a pose is [4, 4], got {pose.shape}")
    return np.asarray(points, np.float64) @ pose[:3, :3].T + pose[:3, 3]


def se3_exp(tangent: ArrayLike) -> np.ndarray:
    """Motion of a constant twist (v in metres, w in radians), [..., 6] -> [..., 4, 4]."""
    tangent = np.asarray(tangent, np.float64)
    v, w = tangent[..., :3], tangent[..., 3:]
    a = np.linalg.norm(w, axis=-1, keepdims=True)
    c2, c3, _ = _stumpff(a)
    across = np.cross(w, v)
    return se3_from_rotation_translation(so3_exp(w), v + c2 * across + c3 * np.cross(w, across))


def se3_log(pose: ArrayLike) -> np.ndarray:
    """Inverse of `se3_exp` for turns up to pi, [..., 4, 4] -> [..., 6] = (v, w)."""
    pose = np.asarray(pose, np.float64)
    t, w = pose[..., :3, 3], so3_log(pose[..., :3, :3])
    c2, c3, c4 = _stumpff(np.linalg.norm(w, axis=-1, keepdims=True))
    across = np.cross(w, t)
    v = t - across / 2 + (c3 / 2 - c4) / c2 * np.cross(w, across)
    return np.concatenate([v, w], axis=-1)


def interpolate_pose(start: ArrayLike, end: ArrayLike, alpha: ArrayLike) -> np.ndarray:
    """Pose on the screw motion from `start` (alpha = 0) to `end` (alpha = 1).

    Args:
      start, end: [..., 4, 4] world_from_body.
      alpha: [...]; beyond [0, 1] it extrapolates.

    Returns:
      [..., 4, 4] world_from_body: constant velocity and turn rate in the moving frame.
    """
    start, alpha = np.asarray(start, np.float64), np.asarray(alpha, np.float64)
    twist = se3_log(se3_inverse(start) @ np.asarray(end, np.float64))
    return start @ se3_exp(alpha[..., None] * twist)


def _stumpff(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """c_n = sum_k (-a^2)^k / (2k + n)! for n = 2, 3, 4: the factors of the exponential map."""
    square = angle**2
    small = square < 1  # the closed forms cancel there; nine terms leave 1e-17
    near, far = np.where(small, square, 0), np.where(small, 1, square)
    root = np.sqrt(far)
    c2, c3 = (1 - np.cos(root)) / far, (1 - np.sin(root) / root) / far
    factors = []
    for n, closed in zip((2, 3, 4), (c2, c3, (0.5 - c2) / far), strict=True):
        series = np.zeros_like(square)
        for k in reversed(range(9)):
            series = 1 / math.factorial(2 * k + n) - near * series
        factors.append(np.where(small, series, closed))
    return factors[0], factors[1], factors[2]
