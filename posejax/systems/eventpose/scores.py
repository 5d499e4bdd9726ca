"""Official scores of spacecraft pose estimation, one number per example.

A pose is the translation `t` (m, body origin in the camera frame) and `quat_xyzw` (camera from
body, any length and sign); the estimate wears a hat. All functions work elementwise on leading
axes: NumPy's arrays on the host in float64, which is what evaluations report, and JAX's in at least
float32, inside compiled functions and differentiable. Angles come from atan2, which keeps all
digits at 0 and 180 degrees where 2 acos|<q, q^>| has half of them and an infinite derivative.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posejax.geometry import as_float

# NumPy's or JAX's: what a function returns is of the kind that it was given.
Values = Any


def position_error(t: Values, t_hat: Values) -> Values:
    """|t - t^|, [..., 3] each -> [...] metres."""
    xp, t, t_hat = _floats(t, t_hat)
    return _norm(xp, t - t_hat)


def relative_position_error(t: Values, t_hat: Values) -> Values:
    """E_t = |t - t^| / |t|, [..., 3] each -> [...]; a target in the camera's centre scores inf.

    Division by the true range makes the same metre count less far away.
    """
    xp, t, t_hat = _floats(t, t_hat)
    error, distance = _norm(xp, t - t_hat), _norm(xp, t)
    return xp.where(distance > 0, error / xp.where(distance > 0, distance, 1), math.inf)


def rotation_error(quat_xyzw: Values, quat_xyzw_hat: Values) -> Values:
    """E_r = angle of the turn between two attitudes, [..., 4] each -> [...] radians in [0, pi].

    q and -q are one attitude. Gradients are finite everywhere, zero at exactly 0; a zero
    quaternion counts as the identity.
    """
    xp, q, q_hat = _floats(quat_xyzw, quat_xyzw_hat)
    q, q_hat = _unit(xp, q), _unit(xp, q_hat)
    near = xp.where(xp.sum(q * q_hat, axis=-1, keepdims=True) < 0, -q_hat, q_hat)
    # The angle of the quaternions themselves is half the rotation's, and atan2 of halves of it.
    return 4 * xp.arctan2(_norm(xp, q - near), _norm(xp, q + near))


def _floats(*values: Values) -> tuple:
    """The module to compute with, and the values in its floats."""
    if any(isinstance(v, jax.Array) for v in values):
        return jnp, *map(as_float, values)
    return np, *(np.asarray(v, np.float64) for v in values)


def _norm(xp: Any, x: Values) -> Values:
    """Over the last axis; its gradient at zero is zero."""
    square = xp.sum(x**2, axis=-1)
    return xp.where(square > 0, xp.sqrt(xp.where(square > 0, square, 1)), 0)


def _unit(xp: Any, q: Values) -> Values:
    norm = _norm(xp, q)[..., None]
    identity = xp.asarray([0.0, 0.0, 0.0, 1.0], q.dtype)
    return xp.where(norm > 0, q / xp.where(norm > 0, norm, 1), identity)


def kelvins_2019(t: Values, quat_xyzw: Values, t_hat: Values, quat_xyzw_hat: Values) -> Values:
    """Score of ESA's Kelvins pose challenge 2019: E_t + E_r, [...]; smaller is better.

    Kisantal et al., Satellite Pose Estimation Challenge: Dataset, Competition Design and Results,
    IEEE TAES 2020.
    """
    return relative_position_error(t, t_hat) + rotation_error(quat_xyzw, quat_xyzw_hat)


def speed_plus(
    t: Values,
    quat_xyzw: Values,
    t_hat: Values,
    quat_xyzw_hat: Values,
    *,
    position_threshold: float = 2.173e-3,
    rotation_threshold: float = math.radians(0.169),
) -> Values:
    """Score of SPEED+ (Kelvins 2021): E_t + E_r, each zero below the accuracy of its truth, [...].

    Args:
      t, quat_xyzw: [..., 3] m and [..., 4], the truth.
      t_hat, quat_xyzw_hat: the estimate.
      position_threshold: E_t below this (relative to the range) counts as zero.
      rotation_threshold: E_r below this (radians) counts as zero.

    The default thresholds are the challenge's own; a metric averaged with others is not comparable.

    Park et al., SPEED+: Next-Generation Dataset for Spacecraft Pose Estimation across Domain Gap,
    IEEE Aerospace 2022.
    """
    e_t = relative_position_error(t, t_hat)
    e_r = rotation_error(quat_xyzw, quat_xyzw_hat)
    # Products: where() would need to know which of the two kinds these are.
    return e_t * (e_t >= position_threshold) + e_r * (e_r >= rotation_threshold)


def spark_2026(t: Values, quat_xyzw: Values, t_hat: Values, quat_xyzw_hat: Values) -> Values:
    """Score of the SPARK 2026 event stream: E_t + E_r without thresholds, [...].

    The formula of `kelvins_2019`; average it over the examples of a split.
    """
    return kelvins_2019(t, quat_xyzw, t_hat, quat_xyzw_hat)
