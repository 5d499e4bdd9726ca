"""Numbers of a split from the sums of its frames; host, float64.

Ratios are taken once, of sums over the whole split: a class that one frame lacks is no failure.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from posejax.report.statistics import cluster_bootstrap, divided, panoptic_scores
from posejax.systems.bifusion.objective import RANGES

Records = Mapping[str, np.ndarray]


def range_names() -> list[str]:
    """Of the bins of depth: "0-1m", ..., "5m+"."""
    return [f"{a:g}-{b:g}m" if b < 1e3 else f"{a:g}m+" for a, b in pairwise(RANGES)]


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """[classes] IoU of a confusion [classes, classes], true class first; NaN of those absent."""
    confusion = np.asarray(confusion, np.float64)
    both = np.diagonal(confusion)
    either = confusion.sum(0) + confusion.sum(1) - both
    # What is only said, and nowhere true, would count a slip as a failure of a whole class.
    there = confusion.sum(1) > 0
    return np.where(there, both / np.where(either > 0, either, 1), np.nan)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU of the classes that there are; NaN where there is none."""
    found = class_iou(confusion)
    known = np.isfinite(found)
    return float(found[known].mean()) if known.any() else float("nan")


def summarize(records: Records, classes: Sequence[str]) -> dict[str, float]:
    """Numbers under stable names, NaN where there is nothing to divide by.

    `examples`, `points`; `miou` with `miou/low` and `miou/high`, 95 % over resampled recordings;
    `accuracy` of points, `class_accuracy` (its mean over classes); `iou/CLASS`; `miou/A-Bm` by
    depth; `offset_error` (m, of the axes' sum); `valid_ratio`, `gate`: means over the points;
    `pq`, `sq` and `rq` of things in their frames, whatever their class: see `panoptic_scores`;
    `lost`: frames in no class's number, since their batch's voxels did not fit.
    """
    total = {k: np.asarray(v, np.float64) for k, v in records.items() if k != "name"}
    by_range = total["confusion"].sum(0)
    whole = by_range.sum(0)
    true = whole.sum(1)
    recall = np.where(true > 0, np.diagonal(whole) / np.where(true > 0, true, 1), np.nan)
    frames = total["confusion"].sum(1)
    low, high = cluster_bootstrap(frames, total["sequence"], lambda rows: mean_iou(rows.sum(0)))
    found = {
        "examples": float(len(frames)),
        "points": total["points"].sum(),
        "miou": mean_iou(whole),
        "miou/low": low,
        "miou/high": high,
        "accuracy": divided(np.trace(whole), whole.sum()),
        "class_accuracy": float(np.nanmean(recall)) if (true > 0).any() else float("nan"),
        "offset_error": divided(total["offset_sum"].sum(), total["things"].sum()),
        "valid_ratio": divided(total["valid"].sum(), total["points"].sum()),
        "gate": divided(total["gate"].sum(), total["valid"].sum()),
        "lost": total["lost"].sum(),
    }
    found |= panoptic_scores(*total["panoptic"].sum(0))
    found |= {f"iou/{name}": v for name, v in zip(classes, class_iou(whole), strict=True)}
    for name, confusion in zip(range_names(), by_range, strict=True):
        found[f"miou/{name}"] = mean_iou(confusion)
    return {name: float(value) for name, value in found.items()}


def prior_logits(records: Records) -> np.ndarray:
    """[classes] logarithms of how often each class is among the labelled points."""
    true = np.asarray(records["confusion"], np.float64).sum((0, 1, 3))
    return np.log((true + 1) / (true + 1).sum()).astype(np.float32)
