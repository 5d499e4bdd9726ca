"""What the sections of the eventpose report share: estimates before and after smoothing, rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from posejax.report.statistics import cluster_bootstrap
from posejax.systems.eventpose import summary as summaries
from posejax.systems.eventpose.config import TrajectoryConfig
from posejax.systems.eventpose.summary import PoseErrors, Records

SMOOTHERS = {
    "rts": "smoothed (Kalman/RTS)",
    "spline": "smoothed (SE(3) spline)",
    "twist": "smoothed (constant twist)",
}
PLAIN = "single windows"
_WORST = 20  # rows of the table of worst windows


class Evaluation(NamedTuple):
    """Records and their errors, under `PLAIN` and, with a trajectory layer, its name.

    missing: [N] bool, estimates of single windows that are not finite.
    sequences: number of each sequence -> its name.
    """

    records: dict[str, Records]
    errors: dict[str, PoseErrors]
    missing: np.ndarray
    sequences: dict[int, str]

    @property
    def plain(self) -> Records:
        return self.records[PLAIN]

    @property
    def smoothed(self) -> str | None:
        """Label of the smoothed estimates, if there are any."""
        return next((label for label in self.records if label != PLAIN), None)

    def called(self, row: int) -> str:
        """What the source calls a record, else its sequence and time."""
        r = self.plain
        if "name" in r:
            return str(r["name"][row])
        return f"{self.sequences[int(r['sequence'][row])]} at {float(r['time'][row]):.2f} s"


def evaluation_of(
    records: Records, trajectory: TrajectoryConfig, sequence_names: Sequence[str] = ()
) -> Evaluation:
    """Errors of all records, before and after smoothing."""
    both: dict[str, Records] = {PLAIN: records}
    if trajectory.method != "none":
        both[SMOOTHERS[trajectory.method]] = {**records, **summaries.smoothed(records, trajectory)}
    hats = (np.asarray(records[k], np.float64) for k in ("translation_hat", "quat_xyzw_hat"))
    missing = ~np.all([np.isfinite(h).all(1) for h in hats], axis=0)
    numbers = map(int, np.unique(records["sequence"]))
    names = {k: sequence_names[k] if k < len(sequence_names) else f"sequence {k}" for k in numbers}
    errors = {label: summaries.pose_errors(r) for label, r in both.items()}
    return Evaluation(both, errors, missing, names)


def intervals(errors: PoseErrors, sequence: np.ndarray) -> dict[str, tuple[float, float]]:
    """95 % intervals of the numbers of `summarize`, bootstrapped by sequence; NaN for one."""
    wanted = {
        "score": (errors.score, np.mean),
        "speed_plus": (errors.speed_plus, np.mean),
        "relative_position": (errors.relative, np.mean),
        "position_m": (errors.position, np.mean),
        "position_median_m": (errors.position, np.median),
        "rotation_deg": (errors.rotation, np.mean),
        "rotation_median_deg": (errors.rotation, np.median),
    }
    return {k: cluster_bootstrap(v, sequence, f) for k, (v, f) in wanted.items()}


def worst_rows(run: Evaluation) -> list[dict[str, Any]]:
    """The windows of the largest scores."""
    records, errors = run.plain, run.errors[PLAIN]
    ranges = summaries.condition(records, "range_m")
    rows = []
    for k in worst_first(run)[:_WORST]:
        row: dict[str, Any] = {
            "window": run.called(int(k)),
            "index": int(records["index"][k]),
            "time s": float(records["time"][k]),
            "score": float(errors.score[k]),
            "position m": float(errors.position[k]),
            "rotation deg": float(errors.rotation[k]),
            "range m": float(ranges[k]),
        }
        if "events" in records:
            row["events"] = int(records["events"][k])
        if "light" in records and np.isfinite(records["light"]).any():
            row["light"] = float(records["light"][k])
        if run.smoothed:
            row["score smoothed"] = float(run.errors[run.smoothed].score[k])
        rows.append({**row, "finite": "no" if run.missing[k] else "yes"})
    return rows


def worst_first(run: Evaluation) -> np.ndarray:
    """[N] rows of the records, estimates that are not finite first, then by falling score."""
    return np.lexsort((-run.errors[PLAIN].score, ~run.missing))


def sequence_rows(run: Evaluation) -> list[dict[str, Any]]:
    """One row per sequence, in their order."""
    records, ranges = run.plain, summaries.condition(run.plain, "range_m")
    rows = []
    for number, name in run.sequences.items():
        inside = records["sequence"] == number
        row: dict[str, Any] = {
            "sequence": name,
            "windows": int(inside.sum()),
            "seconds": float(np.ptp(records["time"][inside])),
            "range from m": float(ranges[inside].min()),
            "range to m": float(ranges[inside].max()),
        }
        for label, suffix in ((PLAIN, ""), (run.smoothed, " smoothed")):
            if label:
                errors = run.errors[label]
                row[f"score{suffix}"] = float(errors.score[inside].mean())
                row[f"position m{suffix}"] = float(errors.position[inside].mean())
                row[f"rotation deg{suffix}"] = float(errors.rotation[inside].mean())
        rows.append(row)
    return rows
