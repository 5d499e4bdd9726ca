"""Evaluation numbers of eventpose from the per-example records: host, float64.

Records are arrays with N examples in front: `translation` [N, 3] (m) and `quat_xyzw` [N, 4], the
true camera_from_body; `translation_hat`, `quat_xyzw_hat`, the estimate; `sequence` [N], `time` [N]
(s), `events` [N] in the window, `light` [N] (NaN where unknown), `index` [N]; optional `sigma_m`,
`sigma_rad` [N], predicted standard deviations.

An estimate that is not finite is counted in `nonfinite` and scores as the worst: 180 degrees, and a
position error of the whole range.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from posejax.report.statistics import cluster_bootstrap
from posejax.systems.eventpose import hypotheses, scores
from posejax.systems.eventpose.config import TrajectoryConfig
from posejax.systems.eventpose.smoothing import smoothed

Records = Mapping[str, np.ndarray]


class PoseErrors(NamedTuple):
    """Errors of N estimates: position (m), relative (to the range), rotation (deg), score.

    score: E_t + E_r of Kelvins 2019 and SPARK 2026, rotation in radians.
    speed_plus: the same with each term zero below the accuracy of the truth.
    """

    position: np.ndarray
    relative: np.ndarray
    rotation: np.ndarray
    score: np.ndarray
    speed_plus: np.ndarray


def pose_errors(records: Records) -> PoseErrors:
    """Errors of the recorded estimates, float64."""
    t, t_hat = (np.asarray(records[k], np.float64) for k in ("translation", "translation_hat"))
    q, q_hat = (np.asarray(records[k], np.float64) for k in ("quat_xyzw", "quat_xyzw_hat"))
    finite = is_finite(records)[:, None]
    t_hat = np.where(finite, t_hat, 0)
    half_turn = np.stack([q[:, 3], q[:, 2], -q[:, 1], -q[:, 0]], axis=1)  # orthogonal to q
    q_hat = np.where(finite, q_hat, half_turn)
    return PoseErrors(
        scores.position_error(t, t_hat),
        scores.relative_position_error(t, t_hat),
        np.rad2deg(scores.rotation_error(q, q_hat)),
        scores.spark_2026(t, q, t_hat, q_hat),
        scores.speed_plus(t, q, t_hat, q_hat),
    )


def constant_pose(records: Records) -> dict[str, np.ndarray]:
    """The mean true pose as everyone's estimate; the mean rotation has the least squared chords.

    It is the largest eigenvector of sum q q^T (Markley et al., Averaging Quaternions, 2007).
    """
    q = np.asarray(records["quat_xyzw"], np.float64)
    mean = np.linalg.eigh(q.T @ q)[1][:, -1]
    t = np.asarray(records["translation"], np.float64)
    return {
        "translation_hat": np.broadcast_to(t.mean(0), t.shape),
        "quat_xyzw_hat": np.broadcast_to(mean, q.shape),
    }


def is_finite(records: Records) -> np.ndarray:
    """[N] bool: the estimate is a pose."""
    both = (records["translation_hat"], records["quat_xyzw_hat"])
    return np.all([np.isfinite(x).all(1) for x in both], axis=0)


def summarize(records: Records, trajectory: TrajectoryConfig) -> dict[str, float]:
    """Numbers of a split.

    `score` (E_t + E_r of SPARK 2026, Kelvins 2019) decides model selection; `score_low`,
    `score_high`: its 95 % interval, bootstrapped by sequence; `speed_plus`; `relative_position`
    (E_t), `position_m`, `position_median_m`, `rotation_deg`, `rotation_median_deg`,
    `within_15deg`, `beyond_90deg` (shares), per axis
    `rms_x_m`, `rms_y_m`, `rms_z_m`; `within_0.1m_5deg`, `within_0.2m_15deg`; `examples`,
    `sequences`, `nonfinite`; with predicted spreads `sigma_ratio_m`, `sigma_ratio_rad` (RMS of
    error over spread: 1 if honest). `constant/score`, `constant/relative_position`,
    `constant/rotation_deg`: of a constant answer, the mean of the truths themselves, which anything
    that looks at its input should beat. With a trajectory layer the same under `smoothed/`.

    With hypotheses: `coverage_95`, `coverage_95_position`, `coverage_95_rotation`, the shares of
    truths in the 95 % ellipsoids of the best pose, its position and its rotation; under `best_of/`
    the numbers of an oracle that picks from each window's hypotheses; under `direct/` those of pose
    heads beside the heatmaps; and with a trajectory layer, under `tracked/`, those of hypotheses
    chosen over time and then smoothed.
    """
    numbers = {
        "examples": float(len(records["sequence"])),
        "sequences": float(len(np.unique(records["sequence"]))),
        **_numbers(records),
    }
    if "twist_error" in records:
        numbers |= hypotheses.coverage(records)
    for prefix, other in _others(records).items():
        errors = pose_errors(other)
        numbers |= {f"{prefix}/{k}": float(v) for k, v in _main(errors).items()}
    constant = pose_errors({**records, **constant_pose(records)})
    numbers |= {
        "constant/score": float(np.mean(constant.score)),
        "constant/relative_position": float(np.mean(constant.relative)),
        "constant/rotation_deg": float(np.mean(constant.rotation)),
    }
    if trajectory.method != "none":
        after = {**records, **smoothed(records, trajectory)}
        numbers |= {f"smoothed/{k}": v for k, v in _numbers(after).items()}
        if "hypothesis_weight" in records:
            after = {**records, **hypotheses.tracked(records, trajectory)}
            numbers |= {f"tracked/{k}": v for k, v in _numbers(after).items()}
    return numbers


def _main(errors: PoseErrors) -> dict[str, np.floating]:
    return {
        "score": np.mean(errors.score),
        "relative_position": np.mean(errors.relative),
        "rotation_deg": np.mean(errors.rotation),
        "rotation_median_deg": np.median(errors.rotation),
        "within_15deg": np.mean(errors.rotation < 15),
        "beyond_90deg": np.mean(errors.rotation > 90),
    }


def _others(records: Records) -> dict[str, Records]:
    """Records with other estimates for the same windows."""
    others: dict[str, Records] = {}
    if "hypothesis_weight" in records:
        others["best_of"] = hypotheses.with_hypothesis(records, hypotheses.nearest(records)[0])
    if "direct_translation_hat" in records:
        hats = ("translation_hat", "quat_xyzw_hat")
        others["direct"] = {**records, **{k: records[f"direct_{k}"] for k in hats}}
    return others


def _numbers(records: Records) -> dict[str, float]:
    errors = pose_errors(records)
    low, high = cluster_bootstrap(errors.score, records["sequence"], np.mean)
    delta = np.asarray(records["translation_hat"], np.float64) - records["translation"]
    finite = is_finite(records)
    numbers = {
        **_main(errors),
        "score_low": low,
        "score_high": high,
        "speed_plus": np.mean(errors.speed_plus),
        "position_m": np.mean(errors.position),
        "position_median_m": np.median(errors.position),
        "within_0.1m_5deg": np.mean((errors.position < 0.1) & (errors.rotation < 5)),
        "within_0.2m_15deg": np.mean((errors.position < 0.2) & (errors.rotation < 15)),
        **{
            f"rms_{a}_m": np.sqrt(np.mean(delta[finite, i] ** 2)) if finite.any() else math.nan
            for i, a in enumerate("xyz")
        },
        "nonfinite": np.sum(~finite),
    }
    if "sigma_m" in records:
        ratios = sigma_ratios(records)
        numbers |= {"sigma_ratio_m": ratios["position"], "sigma_ratio_rad": ratios["rotation"]}
    return {k: float(v) for k, v in numbers.items()}


def sigma_ratios(records: Records) -> dict[str, float]:
    """RMS of error over predicted spread, `position` and `rotation`: by how much spreads are short.

    Over the estimates that are poses; each error has three axes of one spread.
    """
    errors, finite = pose_errors(records), is_finite(records)
    pairs = {
        "position": (errors.position, records["sigma_m"]),
        "rotation": (np.deg2rad(errors.rotation), records["sigma_rad"]),
    }
    return {
        name: float(np.sqrt(np.mean((error[finite] / sigma[finite]) ** 2) / 3))
        if finite.any()
        else 1.0
        for name, (error, sigma) in pairs.items()
    }


def true_range(records: Records) -> np.ndarray:
    """[N] m from the camera to the body's origin."""
    return np.linalg.norm(np.asarray(records["translation"], np.float64), axis=1)
