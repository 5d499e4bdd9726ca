"""Several poses per window: how far their scores and spreads are to be trusted; host, float64.

Records: those of `summary`, and `hypothesis_translation_hat` [N, M, 3], `hypothesis_quat_xyzw_hat`
[N, M, 4], the best first; `hypothesis_log_score`, `hypothesis_weight` [N, M], zero for a pose that
repeats a better one; `twist_error` [N, 6], the xi with best pose @ se3_exp(xi) = truth, and its
covariance [N, 6, 6] in two parts, `covariance_within` if the best pose is the right one, and
`covariance_between`, what it adds that another may be.
"""

import math
import warnings
from collections.abc import Mapping

import numpy as np

from posejax.geometry import quat_xyzw_to_matrix, se3_from_rotation_translation
from posejax.report.statistics import chi_square_quantile, squared_mahalanobis
from posejax.systems.eventpose import scores
from posejax.systems.eventpose.config import TrajectoryConfig
from posejax.systems.eventpose.smoothing import smoothed
from posejax.trajectory import choose_hypotheses

Records = Mapping[str, np.ndarray]

_SHARPNESS = np.geomspace(0.1, 300, 60)
PARTS = {"pose": slice(0, 6), "position": slice(0, 3), "rotation": slice(3, 6)}
"""Parts of a twist that have an ellipsoid."""
_LEAST, _MOST = 0.1, 1e6
"""Factors of a covariance, searched. Where the second part covers the truths by itself, any first
part is enough and they say nothing of it: it must not vanish for the windows without a second."""
_RIGHT = np.deg2rad(15)  # no hypothesis is right that is turned further from the truth
_KEYS = ("translation_hat", "quat_xyzw_hat")


def with_hypothesis(records: Records, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Records whose estimate is hypothesis `chosen` [N] of each window, NaN where that is -1."""
    rows, none = np.arange(len(chosen)), (chosen < 0)[:, None]
    hats = {k: np.asarray(records[f"hypothesis_{k}"])[rows, chosen] for k in _KEYS}
    return {**records, **{k: np.where(none, np.nan, v) for k, v in hats.items()}}


def nearest(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Which hypothesis [N] has the least score, that of an oracle, and its rotation error (rad)."""
    t, q = (np.asarray(records[k], np.float64)[:, None] for k in ("translation", "quat_xyzw"))
    t_hat, q_hat = (np.asarray(records[f"hypothesis_{k}"], np.float64) for k in _KEYS)
    known = np.isfinite(t_hat).all(-1) & np.isfinite(q_hat).all(-1)
    score = np.where(known, scores.spark_2026(t, q, t_hat, q_hat), np.inf)
    chosen = score.argmin(1)
    turn = scores.rotation_error(q, q_hat)
    return chosen, turn[np.arange(len(chosen)), chosen]


def square_distances(records: Records, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Squared Mahalanobis distances [N] of the truth from the best pose.

    Of the `pose`, its `position` and its `rotation`, which are chi-square of 6, 3 and 3 degrees of
    freedom where the covariance, its first part times `scale`, is honest; NaN without one.
    """
    error = np.asarray(records["twist_error"], np.float64)
    within, between = (
        np.asarray(records[f"covariance_{k}"], np.float64) for k in ("within", "between")
    )
    covariance = scale * within + between
    return {
        name: squared_mahalanobis(error[:, part], covariance[:, part, part])
        for name, part in PARTS.items()
    }


def coverage(records: Records, scale: float = 1.0) -> dict[str, float]:
    """Shares of truths within the 95 % ellipsoids: of poses, of positions and of rotations."""
    found = {}
    for name, squares in square_distances(records, scale).items():
        limit = chi_square_quantile(0.95, PARTS[name].stop - PARTS[name].start)
        suffix = "" if name == "pose" else f"_{name}"
        found[f"coverage_95{suffix}"] = float(np.mean(squares <= limit))
    return found


def calibration(records: Records, scale: Mapping[str, float]) -> dict[str, float]:
    """Scales under which these records' spreads and weights are honest.

    covariance: of its first part, so that the ellipsoid of 95 % holds 95 % of the truths; not so
    that the mean square is right, which a few half turns would decide. sharpness: the factor of the
    log scores under which the hypotheses near the truth are likeliest; it decides the second part.
    The first part shrinks to a tenth at most. Warns where the records do not decide its scale.

    Args:
      records: of windows that chose nothing else.
      scale: the scales that they were made with.
    """
    found = {
        "covariance": float(scale["covariance"]) * _covering(records),
        "sharpness": float(scale["sharpness"]),
    }
    chosen, turn = nearest(records)
    log_score = np.asarray(records["hypothesis_log_score"], np.float64)
    fresh = np.asarray(records["hypothesis_weight"]) > 0
    rows = (turn < _RIGHT) & np.isfinite(log_score).all(1)
    rows &= fresh[np.arange(len(chosen)), chosen]
    if rows.any():
        energy = np.where(fresh, log_score, -np.inf)[rows, :, None] * _SHARPNESS
        energy = energy - energy.max(1, keepdims=True)
        right = energy[np.arange(rows.sum()), chosen[rows]]
        likelihood = (right - np.log(np.exp(energy).sum(1))).mean(0)
        found["sharpness"] = float(_SHARPNESS[likelihood.argmax()])
    return found


def _covering(records: Records) -> float:
    """The least factor of the covariance's first part under which 95 % of the truths are held."""
    covers = lambda factor: coverage(records, factor)["coverage_95"] >= 0.95  # noqa: E731
    if covers(_LEAST):
        warnings.warn(
            "the 95 % ellipsoids hold 95 % of the truths even at a tenth of the best pose's "
            "covariance: its scale becomes a tenth, which these windows do not decide",
            stacklevel=3,
        )
        return _LEAST
    if not covers(_MOST):
        warnings.warn(
            "no scale of the best pose's covariance brings 95 % of the truths into the 95 % "
            "ellipsoids: it stays as it is",
            stacklevel=3,
        )
        return 1.0
    low, high = math.log(_LEAST), math.log(_MOST)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if covers(math.exp(middle)) else (middle, high)
    return math.exp(high)


def tracked(records: Records, rule: TrajectoryConfig) -> dict[str, np.ndarray]:
    """`translation_hat` [N, 3], `quat_xyzw_hat` [N, 4]: hypotheses chosen over time, smoothed.

    Windows of which no hypothesis fits are gaps, which the smoother fills.
    """
    chosen = with_hypothesis(records, over_time(records, rule))
    return smoothed(chosen, rule)


def over_time(records: Records, rule: TrajectoryConfig) -> np.ndarray:
    """Which hypothesis [N] of each window the windows before and after speak for; -1: none.

    Sequences are padded to one length, so that one compiled program serves them all. Where less
    than three windows of a sequence go together, each keeps its first.
    """
    sequence, time = np.asarray(records["sequence"]), np.asarray(records["time"], np.float64)
    t_hat, q_hat = (np.asarray(records[f"hypothesis_{k}"], np.float32) for k in _KEYS)
    weight = np.asarray(records["hypothesis_weight"], np.float64)
    fresh = weight > 0
    even = fresh / np.maximum(fresh.sum(1, keepdims=True), 1)
    with np.errstate(divide="ignore"):  # a pose that repeats another is no hypothesis: -inf
        log_weight = np.log((1 - rule.doubt) * weight + rule.doubt * even).astype(np.float32)
    poses = np.array(se3_from_rotation_translation(quat_xyzw_to_matrix(q_hat), t_hat))
    groups = [np.flatnonzero(sequence == k) for k in np.unique(sequence)]
    length = max(map(len, groups))
    chosen = np.zeros(len(sequence), np.int64)
    for rows in groups:
        rows = rows[np.argsort(time[rows], kind="stable")]
        padded = np.concatenate([rows, np.repeat(rows[-1:], length - len(rows))])
        found = choose_hypotheses(
            poses[padded],
            log_weight[padded],
            time[padded] - time[rows[0]],
            np.arange(length) < len(rows),
            position_sigma=rule.position_sigma,
            rotation_sigma=float(np.deg2rad(rule.rotation_sigma)),
            drift=rule.drift,
            turn_drift=float(np.deg2rad(rule.turn_drift)),
        )
        found = np.asarray(found)[: len(rows)]
        if (found >= 0).sum() >= 3:
            chosen[rows] = found
    return chosen
