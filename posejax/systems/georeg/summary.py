"""Evaluation numbers of georeg from the concatenated per-example records: NumPy, float64.

Records are a dict of arrays with N examples in front. Needed: `pose` [N, 3] (truth,
geo_from_online = x m, y m, yaw rad), the three estimates `softmax`, `gaussian`, `argmax` [N, 3],
and `index` [N]. Optional (a missing one drops the numbers that need it): `covariance` and
`gaussian_covariance` [N, 3, 3], `nll`, `fill_rate`, `overlap`, `entropy`, `peak_ratio`, `lock_on`,
`abstain` [N]; `name` [N] str, by which reports call the examples. `error` ranks the examples
(`worst_first`); others, like `nll_temperature`, are left alone.

An estimate that is not finite is never averaged: it is counted in `<estimator>/nonfinite`, named
by `nonfinite_examples`, a miss in every recall and outside every ellipse.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from posejax.data import se2
from posejax.report.statistics import (
    chi_square_quantile,
    coverage_curve,
    mean,
    risk_coverage,
    rms,
    squared_mahalanobis,
)

Records = Mapping[str, np.ndarray]

ESTIMATORS = ("softmax", "gaussian", "argmax")
COVARIANCES = {"softmax": "covariance", "gaussian": "gaussian_covariance"}
RECALLS = ((0.2, 1.0), (0.5, 2.0), (1.0, 3.0), (3.0, 5.0), (5.0, 5.0))  # (m, deg)
LEVELS = (0.5, 0.9, 0.95)
_REQUIRED = ("pose", *ESTIMATORS, "index")
_MEANS = ("nll", "fill_rate", "overlap", "entropy", "peak_ratio", "lock_on")


class PoseErrors(NamedTuple):
    """Errors of one estimator, [N] each, NaN where the estimate is not finite.

    x, y: along the geo raster's axes (m). yaw: wrapped to [-180, 180) (deg). xy: distance (m).
    longitudinal, lateral: along the axes of the true online frame, forward and left (m).
    """

    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    xy: np.ndarray
    longitudinal: np.ndarray
    lateral: np.ndarray


def check_records(records: Records) -> int:
    """Number of examples.

    Raises:
      ValueError: a needed record is missing, lengths or shapes differ, there is no example, or a
        true pose is not finite.
    """
    missing = [name for name in _REQUIRED if name not in records]
    if missing:
        raise ValueError(f"records lack {missing}; given: {sorted(records)}")
    count = len(records["pose"])
    if count == 0:
        raise ValueError("records hold no example: nothing to summarise; is the split empty?")
    shapes = dict.fromkeys(("pose", *ESTIMATORS), (count, 3)) | {"index": (count,)}
    shapes |= dict.fromkeys(COVARIANCES.values(), (count, 3, 3))
    shapes |= dict.fromkeys((*_MEANS, "abstain"), (count,))
    for name, shape in shapes.items():
        if name in records and np.shape(records[name]) != shape:
            raise ValueError(f"record {name!r} has shape {np.shape(records[name])}, needs {shape}")
    wrong = ~np.isfinite(records["pose"]).all(1)
    if wrong.any():
        listed = np.asarray(records["index"])[wrong][:10].tolist()
        raise ValueError(f"true pose not finite in {wrong.sum()} examples, index {listed}")
    return count


def pose_errors(estimate: np.ndarray, pose: np.ndarray) -> PoseErrors:
    """Errors of `estimate` [N, 3] against the truth `pose` [N, 3], both geo_from_online.

    The displacement d = estimate - truth lives in the geo frame. A vector v of the online frame
    is R(yaw) v there, so seen from the true online frame the displacement is R(yaw)^T d: forward
    part cos dx + sin dy, left part -sin dx + cos dy.
    """
    estimate, pose = np.asarray(estimate, np.float64), np.asarray(pose, np.float64)
    finite = np.isfinite(estimate).all(1, keepdims=True)
    dx, dy, turn = np.where(finite, estimate - pose, np.nan).T
    cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    return PoseErrors(
        x=dx,
        y=dy,
        yaw=np.rad2deg(se2.wrap_angle(turn)),
        xy=np.hypot(dx, dy),
        longitudinal=cos * dx + sin * dy,
        lateral=-sin * dx + cos * dy,
    )


def pose_nees(
    estimate: np.ndarray, covariance: np.ndarray, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Squared Mahalanobis errors ([N] of x, y; [N] of x, y, yaw); NaN without usable covariance.

    Under a right covariance they follow the chi-square law with 2 and 3 degrees of freedom, so
    their means are 2 and 3 (Bar-Shalom et al., Estimation with Applications, 2001, 5.4).
    """
    errors = pose_errors(estimate, pose)
    vector = np.stack([errors.x, errors.y, np.deg2rad(errors.yaw)], axis=1)
    covariance = np.asarray(covariance, np.float64)
    return (
        squared_mahalanobis(vector[:, :2], covariance[:, :2, :2]),
        squared_mahalanobis(vector, covariance),
    )


def summarize(records: Records) -> dict[str, float]:
    """Numbers of a split under stable names.

    `examples`; for each of softmax | gaussian | argmax:
      `<e>/nonfinite`                                   estimates that are not finite (count)
      `<e>/mean_abs_<a>_m`, `<e>/rms_<a>_m`             a = x | y | xy | longitudinal | lateral
      `<e>/mean_abs_yaw_deg`, `<e>/rms_yaw_deg`
      `<e>/median_xy_m`, `<e>/median_yaw_deg`           medians of the absolute errors
      `<e>/recall_<m>m_<deg>deg`                        0.2m_1deg | 0.5m_2deg | 1m_3deg | ...
    for softmax | gaussian when their covariance is recorded:
      `<e>/bad_covariance`                              not finite or not positive definite (count)
      `<e>/nees`, `<e>/median_nees`                     of (x, y, yaw): ideally 3 and 2.37
      `<e>/nees_xy`, `<e>/median_nees_xy`               of (x, y): ideally 2 and 1.39
      `<e>/coverage_<p>_xy`, `<e>/coverage_<p>_pose`    p = 50 | 90 | 95, shares in [0, 1]
      `<e>/calibration_error_xy`, `..._pose`            mean |coverage - nominal| over all levels
    and when recorded: `nll`, `fill_rate`, `overlap`, `entropy`, `peak_ratio`, `lock_on` (means;
    with `<name>/nonfinite` when some are left out), `abstain_rate`, `kept/rms_xy_m`,
    `kept/median_xy_m`, `kept/recall_0.5m_2deg` (softmax, not abstained), `risk/aurc_xy_m` and
    `risk/aurc_oracle_xy_m` (see `risk_coverage`).

    Raises:
      ValueError: see `check_records`.
    """
    count = check_records(records)
    summary = {"examples": float(count)}
    for name in ESTIMATORS:
        summary |= _prefixed(name, _error_numbers(pose_errors(records[name], records["pose"])))
        if COVARIANCES.get(name) in records:
            summary |= _prefixed(name, _calibration_numbers(records, name))
    for name in _MEANS:
        if name in records:
            values = np.asarray(records[name], np.float64)
            finite = np.isfinite(values)
            summary[name] = float(mean(values[finite]))
            if not finite.all():
                summary[f"{name}/nonfinite"] = float((~finite).sum())
    if "abstain" in records:
        kept = ~np.asarray(records["abstain"], bool)
        summary["abstain_rate"] = float(1 - kept.mean())
        numbers = _error_numbers(pose_errors(records["softmax"][kept], records["pose"][kept]))
        for key in ("rms_xy_m", "median_xy_m", "recall_0.5m_2deg"):
            summary[f"kept/{key}"] = numbers[key]
    if "covariance" in records:
        _, risk, oracle = risk_coverage(*error_and_spread(records))
        summary["risk/aurc_xy_m"] = float(mean(risk))
        summary["risk/aurc_oracle_xy_m"] = float(mean(oracle))
    return summary


def error_and_spread(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Softmax position errors [N] (m) and the traces of the covariances claimed [N] (m^2)."""
    error = pose_errors(records["softmax"], records["pose"]).xy
    covariance = np.asarray(records["covariance"], np.float64)
    return error, np.trace(covariance[:, :2, :2], axis1=1, axis2=2)


def nonfinite_examples(records: Records) -> dict[str, list[int | str]]:
    """`name` (else `index`) of the examples that are not finite, per estimator that has any."""
    names = np.asarray(records.get("name", records["index"]))
    named = {}
    for name in ESTIMATORS:
        wrong = ~np.isfinite(records[name]).all(1)
        if wrong.any():
            named[name] = names[wrong].tolist()
    return named


def worst_first(records: Records) -> np.ndarray:
    """Order [N] of the examples by `error` (else softmax position error), not finite ones first."""
    error = records.get("error")
    if error is None:
        error = pose_errors(records["softmax"], records["pose"]).xy
    lost = ~np.isfinite(error) | ~np.isfinite(records["softmax"]).all(1)
    return np.argsort(-np.where(lost, np.inf, error), kind="stable")


def _error_numbers(errors: PoseErrors) -> dict[str, float]:
    finite = np.isfinite(errors.xy)
    numbers = {"nonfinite": float((~finite).sum())}
    for axis in ("x", "y", "xy", "longitudinal", "lateral", "yaw"):
        unit = "deg" if axis == "yaw" else "m"
        values = np.abs(getattr(errors, axis)[finite])
        numbers[f"mean_abs_{axis}_{unit}"] = float(mean(values))
        numbers[f"rms_{axis}_{unit}"] = float(rms(values))
        if axis in ("xy", "yaw"):
            numbers[f"median_{axis}_{unit}"] = float(np.median(values)) if len(values) else np.nan
    for metres, degrees in RECALLS:
        # NaN compares as false, so estimates that are not finite are misses.
        hit = (errors.xy <= metres) & (np.abs(errors.yaw) <= degrees)
        numbers[f"recall_{metres:g}m_{degrees:g}deg"] = float(mean(hit))
    return numbers


def _calibration_numbers(records: Records, name: str) -> dict[str, float]:
    xy, pose = pose_nees(records[name], records[COVARIANCES[name]], records["pose"])
    estimated = np.isfinite(records[name]).all(1)
    numbers = {"bad_covariance": float((np.isnan(pose) & estimated).sum())}
    levels = np.arange(0.005, 1, 0.01)
    for nees, dof, suffix, label in ((pose, 3, "", "pose"), (xy, 2, "_xy", "xy")):
        usable = nees[np.isfinite(nees)]
        numbers[f"nees{suffix}"] = float(mean(usable))
        numbers[f"median_nees{suffix}"] = float(np.median(usable)) if len(usable) else np.nan
        for level in LEVELS:
            inside = nees <= chi_square_quantile(level, dof)
            numbers[f"coverage_{level:.0%}_{label}".replace("%", "")] = float(mean(inside))
        gap = np.abs(coverage_curve(nees, dof, levels) - levels)
        numbers[f"calibration_error_{label}"] = float(mean(gap))
    return numbers


def _prefixed(name: str, numbers: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}/{key}": value for key, value in numbers.items()}
