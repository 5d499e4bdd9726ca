"""Planar poses `a_from_b` = (x, y, yaw) in float64 NumPy: the worker-side twin of the JAX geometry.

Data workers must not load jax, so the four operations that cutting rasters needs live here.
"""

import numpy as np

Pose2 = np.ndarray  # [3] float64: x (m), y (m), yaw (rad, from x towards y)


def wrap_angle(angle: np.ndarray | float) -> np.ndarray:
    """Angle(s) in radians moved to [-pi, pi)."""
    return np.mod(np.asarray(angle, np.float64) + np.pi, 2 * np.pi) - np.pi


def compose(a_from_b: Pose2, b_from_c: Pose2) -> Pose2:
    """`a_from_c`: first b_from_c, then a_from_b. Yaw of the result is in [-pi, pi)."""
    x, y, yaw = a_from_b
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array(
        [
            x + cos * b_from_c[0] - sin * b_from_c[1],
            y + sin * b_from_c[0] + cos * b_from_c[1],
            wrap_angle(yaw + b_from_c[2]),
        ]
    )


def inverse(a_from_b: Pose2) -> Pose2:
    """`b_from_a`."""
    x, y, yaw = a_from_b
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([-cos * x - sin * y, sin * x - cos * y, wrap_angle(-yaw)])


def apply(a_from_b: Pose2, xy_b: np.ndarray) -> np.ndarray:
    """Points `[..., 2]` of frame b in frame a: R(yaw) xy + (x, y). Keeps the dtype of `xy_b`."""
    x, y, yaw = a_from_b
    cos, sin = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[cos, -sin], [sin, cos]])
    xy_b = np.asarray(xy_b)
    return (xy_b @ rotation.T + np.array([x, y])).astype(xy_b.dtype, copy=False)


def from_se3(a_from_b: np.ndarray) -> Pose2:
    """Planar part of a 4x4 rigid transform: its x and y, and the heading of b's x axis in a."""
    matrix = np.asarray(a_from_b, np.float64)
    return np.array([matrix[0, 3], matrix[1, 3], np.arctan2(matrix[1, 0], matrix[0, 0])])
