"""Losses of a pose network and the reading of its heads; pure functions on leading axes [...].

The translation is regressed in normalised units, (t - mean) / std over the training split: raw
metres are 3 to 8 away from an untrained network, which then takes steps of constant size for ever.
The rotation loss is the geodesic angle between rotation matrices, for either head.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import (
    as_float,
    quat_xyzw_to_matrix,
    rotation_6d_to_matrix,
    rotation_angle,
    safe_norm,
    se3_from_rotation_translation,
)
from posejax.systems.eventpose.config import ObjectiveConfig

# exp(+-12) spans a tenth of a millimetre to kilometres; beyond it a standard deviation is a
# numerical accident that would overflow the loss.
_LOG_LIMIT = 12.0


class TranslationStats(NamedTuple):
    """Mean and standard deviation [3] of the training translations; part of a trained network."""

    mean: ArrayLike | tuple[float, ...] = (0.0, 0.0, 0.0)
    std: ArrayLike | tuple[float, ...] = (1.0, 1.0, 1.0)


SPADES_STATS = TranslationStats(mean=(-0.24, 0.03, 5.68), std=(0.93, 0.50, 1.40))
"""Statistics of 30 SPADES sequences, for networks trained with them."""


def translation_stats(translations: np.ndarray, *, min_std: float = 1e-2) -> TranslationStats:
    """Statistics of translations [N, 3] (m); axes that hardly vary get `min_std` (m)."""
    translations = np.asarray(translations, np.float64)
    if translations.ndim != 2 or translations.shape[1] != 3 or len(translations) == 0:
        raise ValueError(f"translations are [N > 0, 3], got {translations.shape}")
    if not np.isfinite(translations).all():
        raise ValueError("translations must be finite")
    mean, std = translations.mean(0), np.maximum(translations.std(0), min_std)
    return TranslationStats(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def normalize_translation(translation: ArrayLike, stats: TranslationStats) -> Array:
    """[..., 3] m -> [..., 3] standard deviations from the mean."""
    translation = as_float(translation)
    return (translation - _row(stats.mean, translation)) / _row(stats.std, translation)


def denormalize_translation(normalized: ArrayLike, stats: TranslationStats) -> Array:
    """Inverse of `normalize_translation`."""
    normalized = as_float(normalized)
    return normalized * _row(stats.std, normalized) + _row(stats.mean, normalized)


def predicted_pose(
    outputs: dict[str, Array], config: ObjectiveConfig, stats: TranslationStats
) -> Array:
    """camera_from_body [..., 4, 4] of raw head outputs (see `example_losses`).

    Always a rotation: a zero quaternion counts as the identity, a degenerate 6D vector as some
    rotation, both with zero gradient.
    """
    turn = outputs["rotation"]
    if turn.shape[-1] != config.rotation_size:
        raise ValueError(f"a {config.rotation!r} head has {config.rotation_size}, got {turn.shape}")
    to_matrix = rotation_6d_to_matrix if config.rotation == "6d" else quat_xyzw_to_matrix
    translation = denormalize_translation(outputs["translation"], stats)
    return se3_from_rotation_translation(to_matrix(turn), translation)


def predicted_sigma(outputs: dict[str, Array], stats: TranslationStats) -> tuple[Array, Array]:
    """Standard deviations of a "gaussian" head: of each position axis [..., 3] (m), of the rotation
    about any axis [...] (rad)."""
    log_sigma = _bounded(outputs["log_sigma"])
    position = jnp.exp(log_sigma[..., :3])
    return position * _row(stats.std, position), jnp.exp(log_sigma[..., 3])


def initial_log_variance(config: ObjectiveConfig) -> tuple[float, float]:
    """Start of Kendall's (translation, rotation) log-variances: the weights 1 and `rot_weight`."""
    return 0.0, -math.log(config.rot_weight)


def smooth_l1(error: ArrayLike, beta: float = 1.0) -> Array:
    """Elementwise e^2 / (2 beta) below |e| = beta, |e| - beta / 2 beyond."""
    size = jnp.abs(as_float(error))
    return jnp.where(size < beta, size**2 / (2 * beta), size - beta / 2)


def example_losses(
    outputs: dict[str, Array],
    target_pose: ArrayLike,
    config: ObjectiveConfig,
    stats: TranslationStats,
) -> dict[str, Array]:
    """Losses of each example.

    Args:
      outputs: raw heads, of any float dtype (computed in float32):
        `translation` [..., 3], normalised; `rotation` [..., 6] or [..., 4];
        "kendall": `log_variance` [2], parameters (translation, rotation), see
        `initial_log_variance`;
        "gaussian": `log_sigma` [..., 4], of the three normalised translation axes and of the
        rotation about any axis (rad).
      target_pose: [..., 4, 4] camera_from_body, m.
      config: the loss.
      stats: of the translation.

    Returns:
      [...] each: `loss`, its parts `translation` (smooth-L1) and `rotation` (rad), and the monitors
      `position_m` and `rotation_deg`.

    With the mean smooth-L1 loss L_t of the three normalised axes and the geodesic angle a,

    | uncertainty | loss |
    |---|---|
    | none | L_t + rot_weight a |
    | kendall | exp(-s_t) L_t + s_t + exp(-s_r) a + s_r, s the two log-variances |
    | gaussian | sum_i (e_i^2 / (2 sigma_i^2) + log sigma_i) + a^2 / (2 sigma_r^2) + 3 log sigma_r |

    The last is the negative log-likelihood (without 3 log 2 pi) of Gaussian errors e_i in
    translation and of a Gaussian rotation vector of length a, whose three axes have one spread.
    Log-spreads pass through 12 tanh(s / 12): smooth, nearly s where it matters, never overflowing.

    Kendall & Cipolla, Geometric Loss Functions for Camera Pose Regression, CVPR 2017.
    """
    target_pose = as_float(target_pose)
    error = as_float(outputs["translation"]) - normalize_translation(target_pose[..., :3, 3], stats)
    pose = predicted_pose(outputs, config, stats)
    angle = rotation_angle(pose[..., :3, :3], target_pose[..., :3, :3])
    translation = smooth_l1(error, config.translation_beta).mean(-1)
    if config.uncertainty == "none":
        loss = translation + config.rot_weight * angle
    elif config.uncertainty == "kendall":
        s = _bounded(outputs["log_variance"])
        if s.shape != (2,):
            raise ValueError(f"log_variance is [2], one for each task, got {s.shape}")
        loss = jnp.exp(-s[0]) * translation + s[0] + jnp.exp(-s[1]) * angle + s[1]
    else:
        s = _bounded(outputs["log_sigma"])
        if s.shape != (*angle.shape, 4):
            raise ValueError(f"log_sigma is {(*angle.shape, 4)}, got {s.shape}")
        axes = (error * jnp.exp(-s[..., :3])) ** 2 / 2 + s[..., :3]
        loss = axes.sum(-1) + (angle * jnp.exp(-s[..., 3])) ** 2 / 2 + 3 * s[..., 3]
    return {
        "loss": loss,
        "translation": translation,
        "rotation": angle,
        "position_m": safe_norm(pose[..., :3, 3] - target_pose[..., :3, 3]),
        "rotation_deg": jnp.rad2deg(angle),
    }


def _bounded(log_spread: ArrayLike) -> Array:
    return _LOG_LIMIT * jnp.tanh(as_float(log_spread) / _LOG_LIMIT)


def _row(values: ArrayLike | tuple[float, ...], like: Array) -> Array:
    return jnp.asarray(values, like.dtype).reshape((1,) * (like.ndim - 1) + (3,))
