"""The trajectory layer applied to the estimates of an evaluation, sequence by sequence."""

from collections.abc import Mapping
from functools import partial

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


def smoothed(records: Records, rule: TrajectoryConfig) -> dict[str, np.ndarray]:
    """`translation_hat` [N, 3] and `quat_xyzw_hat` [N, 4] after smoothing along time.

    Sequences are padded to one length, so that one compiled program serves them all. Estimates
    that are not finite are gaps, which the smoother fills; where fewer than three of a sequence are
    finite, its estimates stay as they are.
    """
    sequence, time = records["sequence"], records["time"]
    groups = [np.flatnonzero(sequence == k) for k in np.unique(sequence)]
    length = max(map(len, groups))
    translation = np.array(records["translation_hat"], np.float32)
    quat = np.array(records["quat_xyzw_hat"], np.float32)
    known = np.isfinite(translation).all(axis=1) & np.isfinite(quat).all(axis=1)
    known &= np.isfinite(time) & (np.abs(quat).max(axis=1) > 0)
    for rows in groups:
        if known[rows].sum() < 3:  # nothing to smooth
            continue
        rows = rows[np.argsort(time[rows], kind="stable")]
        padded = np.concatenate([rows, np.repeat(rows[-1:], length - len(rows))])
        t_hat, q_hat = _smooth(
            np.asarray(time, np.float64)[padded] - time[rows[0]],
            records["translation_hat"][padded],
            records["quat_xyzw_hat"][padded],
            (np.arange(length) < len(rows)) & known[padded],
            rule=rule,
            segments=max(1, round(float(np.ptp(time[rows[known[rows]]])) / rule.spacing)),
        )
        translation[rows] = np.asarray(t_hat)[: len(rows)]
        quat[rows] = np.asarray(q_hat)[: len(rows)]
    return {"translation_hat": translation, "quat_xyzw_hat": quat}


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
