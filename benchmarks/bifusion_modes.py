"""Image and points together against each alone: intervals by room, paired, over several trainings.

    for SEED in 0 1 2; do for MODE in fused image points; do
      RUN=RUNS/${MODE}_$SEED
      python train_main.py --config bifusion_sim --seed $SEED --model.mode $MODE --workdir $RUN
      python eval_main.py --workdir $RUN --split test --calibrate 0
    done; done
    python -m benchmarks.bifusion_modes RUNS

Both of a pair are of the same rooms, so their difference is known better than either number: rooms
are drawn with replacement, whole, and in each draw the two are compared. Of several trainings the
mean is taken, which says nothing of trainings that were not run: their spread is in a column of
its own.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posejax.report.statistics import cluster_bootstrap
from posejax.report.text import markdown_table
from posejax.systems.bifusion.summary import mean_iou

MODES = ("fused", "image", "points")


def read_runs(folder: Path, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """{mode: [trainings, frames, classes, classes]} confusions, and each frame's room [frames]."""
    found, rooms = {}, np.zeros(0)
    for mode in MODES:
        runs = []
        for run in sorted(folder.glob(f"{mode}_*/eval/{split}/records.npz")):
            with np.load(run) as records:
                runs.append(records["confusion"].astype(np.float64).sum(1))
                rooms = records["sequence"]
        if not runs:
            raise SystemExit(f"no evaluation of {folder}/{mode}_SEED on {split}")
        found[mode] = np.stack(runs)
    return found, rooms


def compare(confusions: Mapping[str, np.ndarray], rooms: np.ndarray) -> list[dict[str, Any]]:
    """A row for every mode, and one for the fused mode less each other."""

    def row(what: str, values: np.ndarray, statistic) -> dict[str, Any]:
        """`values` [frames, trainings, ...], of which the statistic makes one for each."""
        each = 100 * statistic(values)
        low, high = cluster_bootstrap(values, rooms, lambda v: float(statistic(v).mean()))
        interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
        spread = f"{each.std(ddof=1):.1f}" if len(each) > 1 else ""
        seeds = ", ".join(f"{x:.1f}" for x in each)
        mean = f"{each.mean():.1f}"
        return {
            "what": what,
            "mIoU, %": mean,
            "95 % by room": interval,
            "sd": spread,
            "each": seeds,
        }

    def of_trainings(values: np.ndarray) -> np.ndarray:
        return np.array([mean_iou(c) for c in values.sum(0)])

    frames = {mode: c.swapaxes(0, 1) for mode, c in confusions.items()}
    rows = [row(mode, values, of_trainings) for mode, values in frames.items()]
    for mode in MODES[1:]:
        count = min(frames["fused"].shape[1], frames[mode].shape[1])
        pair = np.stack([frames["fused"][:, :count], frames[mode][:, :count]], 2)

        def difference(values: np.ndarray) -> np.ndarray:
            return of_trainings(values[:, :, 0]) - of_trainings(values[:, :, 1])

        rows.append(row(f"fused - {mode}", pair, difference))
    return rows


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description="fused against image and points alone")
    parser.add_argument("runs", type=Path, help="folder of the runs, MODE_SEED")
    parser.add_argument("--split", default="test")
    options = parser.parse_args(arguments)
    rows = compare(*read_runs(options.runs, options.split))
    print(markdown_table(list(rows[0]), [list(r.values()) for r in rows]))
    return rows


if __name__ == "__main__":
    main()
