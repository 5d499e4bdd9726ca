"""Image and points together against each alone: intervals by room, paired, over several trainings.

    for SEED in 0 1 2; do for MODE in fused image points; do
      RUN=RUNS/${MODE}_$SEED
      python train_main.py --config bifusion_sim --seed $SEED --model.mode $MODE --workdir $RUN
      python eval_main.py --workdir $RUN --split test --calibrate 0
    done; done
    python -m benchmarks.bifusion_modes RUNS [--out FILE]

Both of a pair are of the same rooms, so their difference is known better than either number: rooms
are drawn with replacement, whole, and in each draw the two are compared. Of several trainings the
mean is taken, which says nothing of trainings that were not run: their spread is in a column of
its own. Differences are of trainings of the same seed.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import commit, write_results
from posejax.report.statistics import cluster_bootstrap
from posejax.report.text import markdown_table
from posejax.systems.bifusion.summary import mean_iou

MODES = ("fused", "image", "points")
Confusions = Mapping[str, Mapping[int, np.ndarray]]


def read_runs(folder: Path, split: str) -> tuple[dict[str, dict[int, np.ndarray]], np.ndarray]:
    """{mode: {seed: [frames, classes, classes]}} confusions, and each frame's room [frames].

    Raises:
      SystemExit: a mode without run, or runs that are not of the same frames.
    """
    found: dict[str, dict[int, np.ndarray]] = {mode: {} for mode in MODES}
    rooms, first = np.zeros(0), None
    for mode in MODES:
        runs = {}
        for run in folder.glob(f"{mode}_*/eval/{split}/records.npz"):
            seed = run.parents[2].name.removeprefix(f"{mode}_")
            if seed.isdecimal():  # beside runs of other names
                runs[int(seed)] = run
        if not runs:
            raise SystemExit(f"no evaluation of {folder}/{mode}_SEED on {split}")
        for seed, run in sorted(runs.items()):
            with np.load(run) as records:
                found[mode][seed] = records["confusion"].astype(np.float64).sum(1)
                if first is None:
                    rooms, first = records["sequence"], run
                elif not np.array_equal(records["sequence"], rooms):
                    raise SystemExit(f"{run}: frames of other rooms than in {first}")
    return found, rooms


def compare(confusions: Confusions, rooms: np.ndarray) -> list[dict[str, Any]]:
    """A row for every mode, and one for the fused mode less each other, of the seeds of both.

    Returns:
      Of each: `what`; `miou`, `interval` of 95 % by room, and `sd` of the trainings, in per cent;
      `seeds`, and `each` of them.

    Raises:
      SystemExit: two modes without a common seed.
    """

    def row(what: str, seeds: Sequence[int], values: np.ndarray, statistic) -> dict[str, Any]:
        """`values` [frames, trainings, ...], of which the statistic makes one for each."""
        each = 100 * statistic(values)
        low, high = cluster_bootstrap(values, rooms, lambda v: float(statistic(v).mean()))
        return {
            "what": what,
            "miou": float(each.mean()),
            "interval": [100 * low, 100 * high],
            "sd": float(each.std(ddof=1)) if len(each) > 1 else None,
            "seeds": list(seeds),
            "each": each.tolist(),
        }

    def of_trainings(values: np.ndarray) -> np.ndarray:
        return np.array([mean_iou(c) for c in values.sum(0)])

    def of_seeds(mode: str, seeds: Sequence[int]) -> np.ndarray:
        return np.stack([confusions[mode][seed] for seed in seeds], 1)

    rows = []
    for mode in MODES:
        seeds = sorted(confusions[mode])
        rows.append(row(mode, seeds, of_seeds(mode, seeds), of_trainings))
    for mode in MODES[1:]:
        seeds = sorted(confusions["fused"].keys() & confusions[mode].keys())
        if not seeds:
            raise SystemExit(f"no seed of both fused and {mode}")
        pair = np.stack([of_seeds("fused", seeds), of_seeds(mode, seeds)], 2)

        def difference(values: np.ndarray) -> np.ndarray:
            return of_trainings(values[:, :, 0]) - of_trainings(values[:, :, 1])

        rows.append(row(f"fused - {mode}", seeds, pair, difference))
    return rows


def shown(row: Mapping[str, Any]) -> dict[str, str]:
    """A row as it is printed."""
    return {
        "what": row["what"],
        "mIoU, %": f"{row['miou']:.1f}",
        "95 % by room": "[{:.1f}, {:.1f}]".format(*row["interval"]),
        "sd": "" if row["sd"] is None else f"{row['sd']:.1f}",
        "seeds": ", ".join(map(str, row["seeds"])),
        "each": ", ".join(f"{x:.1f}" for x in row["each"]),
    }


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description="fused against image and points alone")
    parser.add_argument("runs", type=Path, help="folder of the runs, MODE_SEED")
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, default=None, help="results/bifusion_modes.json here")
    options = parser.parse_args(arguments)
    confusions, rooms = read_runs(options.runs, options.split)
    rows = compare(confusions, rooms)
    table = [shown(row) for row in rows]
    print(markdown_table(list(table[0]), [list(row.values()) for row in table]))
    about = {"commit": commit(), "split": options.split, "frames": len(rooms)}
    about["rooms"] = len(np.unique(rooms))
    write_results("bifusion_modes", [], options.out, **about, comparison=rows)
    return rows


if __name__ == "__main__":
    main()
