"""Numbers of a split from the sums of its frames; host, float64.

Ratios are taken once, of sums over the whole split: a mean of the frames' ratios would count an
empty street as much as a full one.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from posejax.report.statistics import cluster_bootstrap, divided, panoptic_scores

Records = Mapping[str, np.ndarray]
EDGES = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 71.0)  # metres, of the IoU by distance


def summarize(records: Records) -> dict[str, float]:
    """Numbers under stable names, NaN where there is nothing to divide by.

    `examples`; `iou` with `iou/low` and `iou/high`, 95 % over resampled drives; `iou/A-Bm` by
    distance; `precision`, `recall` of cells; `ece`, `brier` of the probabilities; `pq`, `sq`, `rq`
    of single vehicles with `things/matched`, `things/extra`, `things/missed`.
    """
    total = {k: np.asarray(v, np.float64) for k, v in records.items() if k != "name"}
    both, either = total["intersection"], total["union"]
    pairs = np.stack([both, either], axis=1)
    low, high = cluster_bootstrap(pairs, total["scene"], _ratio)
    found = {"examples": float(len(both)), "iou": _ratio(pairs), "iou/low": low, "iou/high": high}
    for n, (near, far) in enumerate(pairwise(EDGES)):
        ring = total["distance_intersection"][:, n], total["distance_union"][:, n]
        found[f"iou/{near:g}-{far:g}m"] = divided(ring[0].sum(), ring[1].sum())
    bins = total["reliability"].sum(0)
    cells = bins[:, 0].sum()
    boxes = bins[:, 2].sum()
    found["recall"] = divided(both.sum(), boxes)
    found["precision"] = divided(both.sum(), both.sum() + either.sum() - boxes)
    found["ece"] = divided(np.abs(bins[:, 1] - bins[:, 2]).sum(), cells)
    found["brier"] = divided(bins[:, 3].sum(), cells)
    matched, iou, extra, missed = total["panoptic"].sum(0)
    found |= panoptic_scores(matched, iou, extra, missed)
    found |= {"things/matched": matched, "things/extra": extra, "things/missed": missed}
    return {name: float(value) for name, value in found.items()}


def in_a_row(records: Records, most: int) -> np.ndarray:
    """Rows of up to so many frames that follow one another, of the drive whose IoU is nearest to
    that of all; none where no drive has two."""
    index, scene = np.asarray(records["index"]), np.asarray(records["scene"])
    pairs = np.stack([records["intersection"], records["union"]], axis=1).astype(np.float64)
    runs, away = [np.zeros(0, np.intp)], [np.inf]
    for drive in np.unique(scene):
        rows = np.flatnonzero(scene == drive)
        rows = rows[np.argsort(index[rows])]
        parts = np.split(rows, np.flatnonzero(np.diff(index[rows]) != 1) + 1)
        longest = max(parts, key=len)[:most]
        if len(longest) > 1:
            runs.append(longest)
            away.append(abs(_ratio(pairs[rows]) - _ratio(pairs)))
    away = np.nan_to_num(away, nan=1e3)  # of a drive without vehicles: better than none
    return runs[int(np.argmin(away))]


def _ratio(pairs: np.ndarray) -> float:
    return divided(*pairs.sum(0))
