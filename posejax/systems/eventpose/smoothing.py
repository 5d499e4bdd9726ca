"""The trajectory layer applied to the estimates of an evaluation, sequence by sequence."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from posejax.geometry import (
    matrix_to_quat_xyzw,
    quat_xyzw_to_matrix,
    se3_from_rotation_translation,
)
from posejax.systems.eventpose.config import TrajectoryConfig
from posejax.trajectory import fit_constant_twist, rts_smooth, spline_smooth

Records = Mapping[str, np.ndarray]


_NEEDED = ("sequence", "time", "translation_hat", "quat_xyzw_hat")


def smoothed(records: Records, rule: TrajectoryConfig) -> dict[str, np.ndarray]:
    """`translation_hat` [N, 3] and `quat_xyzw_hat` [N, 4] after smoothing along time.

    Sequences are padded to one length, so that one compiled program serves them all. Estimates
    that are not finite are gaps, which the smoother fills; sequences with fewer than three that are
    stay as they are, so records of a single example compile nothing.

    The last answer is kept: an evaluation asks for its numbers and then for its report.
    """
    arrays = {k: np.asarray(records[k]) for k in _NEEDED}
    digest = hashlib.blake2b()
    for array in arrays.values():
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    translation, quat = _smoothed(_ByContent(digest.digest(), arrays), rule)
    return {"translation_hat": translation.copy(), "quat_xyzw_hat": quat.copy()}


@dataclass(frozen=True)
class _ByContent:
    """Records that are equal if their contents are."""

    digest: bytes
    arrays: Records = field(compare=False)


@lru_cache(maxsize=1)
def _smoothed(given: _ByContent, rule: TrajectoryConfig) -> tuple[np.ndarray, np.ndarray]:
    sequence, time, translation_hat, quat_hat = (given.arrays[k] for k in _NEEDED)
    groups = [np.flatnonzero(sequence == k) for k in np.unique(sequence)]
    length = max(map(len, groups))
    translation, quat = np.array(translation_hat, np.float32), np.array(quat_hat, np.float32)
    known = np.isfinite(translation).all(axis=1) & np.isfinite(quat).all(axis=1)
    known &= np.isfinite(time) & (np.abs(quat).max(axis=1) > 0)
    for rows in groups:
        if known[rows].sum() < 3:  # nothing to smooth
            continue
        rows = rows[np.argsort(time[rows], kind="stable")]
        padded = np.concatenate([rows, np.repeat(rows[-1:], length - len(rows))])
        t_hat, q_hat = _smooth(
            np.asarray(time, np.float64)[padded] - time[rows[0]],
            translation_hat[padded],
            quat_hat[padded],
            (np.arange(length) < len(rows)) & known[padded],
            rule=rule,
            segments=max(1, round(float(np.ptp(time[rows[known[rows]]])) / rule.spacing)),
        )
        translation[rows] = np.asarray(t_hat)[: len(rows)]
        quat[rows] = np.asarray(q_hat)[: len(rows)]
    return translation, quat


@partial(jax.jit, static_argnames=("rule", "segments"))
def _smooth(t, translation, quat_xyzw, valid, *, rule: TrajectoryConfig, segments: int):
    poses = se3_from_rotation_translation(quat_xyzw_to_matrix(quat_xyzw), translation)
    sigma = jnp.array([rule.position_sigma, np.deg2rad(rule.rotation_sigma)])
    drift = (rule.drift, float(np.deg2rad(rule.turn_drift)))
    if rule.method == "twist":
        found = fit_constant_twist(t, poses, valid, sigma).poses
    elif rule.method == "spline":
        found = spline_smooth(t, poses, valid, sigma, segments=segments, drift=drift).poses
    else:
        found = rts_smooth(t, poses, valid, sigma, drift=drift).poses
    return found[:, :3, 3], matrix_to_quat_xyzw(found[:, :3, :3])
