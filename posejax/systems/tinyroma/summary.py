"""Evaluation numbers of tinyroma from the per-example records: host, float64.

Pose numbers are those of protocol "posejax": the matches of `predict`, posejax's own robust
estimate with the options of `MatchConfig`, one deterministic draw, at the size that is matched;
90 degrees for a pair without a pose. They are not comparable with numbers of another protocol
(`posejax.matching.PROTOCOLS`).
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from posejax.matching import bootstrap_auc

Records = Mapping[str, np.ndarray]
THRESHOLDS = np.array([5.0, 10.0, 20.0], np.float32)
# Of chi2 with 5 degrees of freedom: 95 %, 50 %.
QUANTILE, MEDIAN = 11.0705, 4.3515


def summarize(records: Records) -> dict[str, float]:
    """Numbers of a split.

    `auc5`, `auc10`, `auc20` in [0, 1], each with `_low` and `_high`, its 95 % interval from pairs
    drawn again; `rotation_median_deg`, `translation_median_deg` (the translation's direction);
    `coverage`, share of the poses found that lie inside of their 95 % ellipsoid; `valid`, share of
    pairs with a pose;
    `pck1`, `pck3`, `pck5`, share of covisible cells within so many pixels, mean over pairs;
    `epe_median`, over the pairs, of the mean error in pixels; `certainty_ece`, mean distance of
    certainty from the share of cells within 3 pixels; `pairs`, `poses`, how many there are with a
    true pose. NaN for what no pair has.
    """
    error = np.asarray(records["error"], np.float64)
    rotation = np.asarray(records["rotation_error"], np.float64)
    known = np.isfinite(rotation)
    numbers = {"pairs": float(len(error)), "poses": float(known.sum())}
    return numbers | _poses(records, error[known], known) | _warps(records)


def _poses(records: Records, error: np.ndarray, known: np.ndarray) -> dict[str, float]:
    nothing = np.full(3, math.nan)
    value = low = high = nothing
    if known.any():
        # A thousand draws of at most some thousand pairs: the CPU is at hand and no slower.
        with jax.default_device(jax.devices("cpu")[0]):
            found = bootstrap_auc(jax.random.key(0), error.astype(np.float32), THRESHOLDS)
        value, low, high = (np.asarray(x, np.float64) for x in found)
    numbers: dict[str, Any] = {}
    for i, threshold in enumerate(THRESHOLDS):
        name = f"auc{threshold:g}"
        numbers |= {name: value[i], f"{name}_low": low[i], f"{name}_high": high[i]}
    for kind in ("rotation", "translation"):
        numbers[f"{kind}_median_deg"] = _median(np.asarray(records[f"{kind}_error"])[known])
    chi2 = np.asarray(records["chi2"], np.float64)
    chi2 = chi2[np.isfinite(chi2)]
    numbers["coverage"] = np.mean(chi2 < QUANTILE) if len(chi2) else math.nan
    numbers["valid"] = np.mean(np.asarray(records["valid"], np.float64))
    return {k: float(v) for k, v in numbers.items()}


def _warps(records: Records) -> dict[str, float]:
    if "epe" not in records:
        return {}
    numbers = {k: _mean(records[k]) for k in ("pck1", "pck3", "pck5")}
    return numbers | {
        "epe_median": _median(records["epe"]),
        "certainty_ece": certainty_error(records),
    }


def covariance_ratio(records: Records) -> float:
    """Median squared error in units of the covariance, over the median of chi2; 1 without any."""
    chi2 = np.asarray(records["chi2"], np.float64)
    chi2 = chi2[np.isfinite(chi2)]
    return float(np.median(chi2) / MEDIAN) if len(chi2) else 1.0


def certainty_error(records: Records) -> float:
    """Expected calibration error of the certainty, cells weighted alike; NaN without cells."""
    cells, total, hits = (
        np.asarray(records[f"certainty_{k}"], np.float64).sum(0) for k in ("cells", "sum", "hits")
    )
    return float(np.abs(total - hits).sum() / cells.sum()) if cells.sum() else math.nan


def _mean(values: np.ndarray) -> float:
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan


def _median(values: np.ndarray) -> float:
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else math.nan
