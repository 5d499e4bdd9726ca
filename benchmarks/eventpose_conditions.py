"""What separates the windows that fail from the others, and whether training has seen their like.

    python -m benchmarks.eventpose_conditions RUN/eval/val [--no-train] [--out FILE]

Reads what an evaluation left (records.npz and its JSON) and prints, for bins of each condition, the
rotation errors of single windows and over time with intervals by sequence, beside the share of the
training windows that lie in the same bin (all of them are read once: half a minute for 16,000).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import commit, write_results
from posejax import config_io
from posejax.systems.eventpose.conditions import conditions_of, record_conditions
from posejax.systems.eventpose.failures import errors_by_condition, table
from posejax.systems.eventpose.hypotheses import tracked
from posejax.systems.eventpose.smoothing import smoothed
from posejax.systems.eventpose.summary import pose_errors
from posejax.train.comparison import METRICS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("evaluation", nargs="?", type=Path, help="folder of an evaluation")
    parser.add_argument("--train", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--bins", type=int, default=4)
    parser.add_argument("--out", type=Path, default=None)
    options, _ = parser.parse_known_args()
    if options.evaluation is None:
        print("needs an evaluation: python -m benchmarks.eventpose_conditions RUN/eval/val")
        return
    system: Any = config_io.load(options.evaluation / "config.json").system
    with np.load(options.evaluation / "records.npz") as file:
        records = {k: file[k] for k in file.files}
    estimates = {"single windows": pose_errors(records)}
    if system.trajectory.method != "none":
        layer = tracked if "hypothesis_weight" in records else smoothed
        estimates["over time"] = pose_errors({**records, **layer(records, system.trajectory)})
    focal = float(system.camera.intrinsics[0, 0])
    train = record_conditions(system.data.source("train"), focal) if options.train else None
    found = errors_by_condition(
        estimates, conditions_of(records, focal), records["sequence"], train, bins=options.bins
    )
    print(table(found))
    rows = {c.name: c.rows("windows") for c in found}
    told = json.loads((options.evaluation / METRICS).read_text())
    about = {
        "commit": commit(),
        "experiment": told["experiment"],
        "checkpoint": Path(told["checkpoint"]).name,
        **{k: told[k] for k in ("split", "calibrated_on", "examples")},
    }
    write_results("eventpose_conditions", [], options.out, **about, conditions=rows)


if __name__ == "__main__":
    main()
