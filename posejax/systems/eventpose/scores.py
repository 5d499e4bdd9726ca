"""Official scores of spacecraft pose estimation, one number per example.

A pose is the translation `t` (m, body origin in the camera frame) and `quat_xyzw` (camera from
body, any length and sign); the estimate wears a hat. All functions work elementwise on leading axes
and compute in at least float32. Angles come from atan2, which keeps all digits at 0 and 180 degrees
where 2 acos|<q, q^>| has half of them and an infinite derivative.
"""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import as_float, quat_angle_xyzw, safe_norm


def position_error(t: ArrayLike, t_hat: ArrayLike) -> Array:
    """|t - t^|, [..., 3] each -> [...] metres."""
    return safe_norm(as_float(t) - as_float(t_hat))


def relative_position_error(t: ArrayLike, t_hat: ArrayLike) -> Array:
    """E_t = |t - t^| / |t|, [..., 3] each -> [...]; a target in the camera's centre scores inf.

    Division by the true range makes the same metre count less far away.
    """
    error, distance = position_error(t, t_hat), safe_norm(t)
    return jnp.where(distance > 0, error / jnp.where(distance > 0, distance, 1), jnp.inf)


def rotation_error(quat_xyzw: ArrayLike, quat_xyzw_hat: ArrayLike) -> Array:
    """E_r = angle of the turn between two attitudes, [..., 4] each -> [...] radians in [0, pi].

    q and -q are one attitude. Gradients are finite everywhere, zero at exactly 0; a zero
    quaternion counts as the identity.
    """
    return quat_angle_xyzw(quat_xyzw, quat_xyzw_hat)


def kelvins_2019(
    t: ArrayLike, quat_xyzw: ArrayLike, t_hat: ArrayLike, quat_xyzw_hat: ArrayLike
) -> Array:
    """Score of ESA's Kelvins pose challenge 2019: E_t + E_r, [...]; smaller is better.

    Kisantal et al., Satellite Pose Estimation Challenge: Dataset, Competition Design and Results,
    IEEE TAES 2020.
    """
    return relative_position_error(t, t_hat) + rotation_error(quat_xyzw, quat_xyzw_hat)


def speed_plus(
    t: ArrayLike,
    quat_xyzw: ArrayLike,
    t_hat: ArrayLike,
    quat_xyzw_hat: ArrayLike,
    *,
    position_threshold: float = 2.173e-3,
    rotation_threshold: float = math.radians(0.169),
) -> Array:
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
    return jnp.where(e_t < position_threshold, 0, e_t) + jnp.where(e_r < rotation_threshold, 0, e_r)


def spark_2026(
    t: ArrayLike, quat_xyzw: ArrayLike, t_hat: ArrayLike, quat_xyzw_hat: ArrayLike
) -> Array:
    """Score of the SPARK 2026 event stream: E_t + E_r without thresholds, [...].

    The formula of `kelvins_2019`; average it over the examples of a split.
    """
    return kelvins_2019(t, quat_xyzw, t_hat, quat_xyzw_hat)
