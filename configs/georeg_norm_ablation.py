"""BatchNorm, InstanceNorm or GroupNorm in the encoders: three trainings, then the two tables.

    python train_main.py --config configs/georeg_norm_ablation.py

Runs go to runs/georeg_norm_ablation/NAME, the tables to table.md beside them. Two shared CPU cores:
two minutes to simulate the streets once, then 320 steps of about a second for each of the three,
1.7 GiB. Expected (simulated, best validation loss): IN 0.63, BN 0.91, GN 1.03, and a mean x or y
error of 0.28, 0.41 and 0.48 m; yaw is hardly learned (0.08 rad) in this setting.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from georeg_sim import get_config as base_config

from posejax.config import Experiment, RunResult, Sweep, replace
from posejax.report.text import history_tables
from posejax.systems.georeg import ObjectiveConfig

NORMS = {"BN": "batch", "IN": "instance", "GN": "group"}


def get_config() -> Sweep:
    return Sweep(
        name="georeg_norm_ablation",
        experiments=tuple(experiment(label, norm) for label, norm in NORMS.items()),
        table=lambda results: history_tables(
            {label: history(result) for label, result in zip(NORMS, results, strict=True)},
            {"xy_m": "xy m", "yaw_rad": "theta rad"},
            column="norm",
        ),
    )


def experiment(label: str, norm: str) -> Experiment:
    """The user's setting: two costs apart from each other, trained by expectation losses alone."""
    base = base_config()
    base = dataclasses.replace(base, name=f"georeg_norm_{label.lower()}")
    return replace(
        base,
        **{
            "system.data.online_shape": (96, 96),
            "system.data.every": 2,
            "system.data.repeats": 1,
            "system.model.norm": norm,
            "system.model.widths": (8, 16, 32),
            "system.model.head": "decoupled",
            "system.objective": ObjectiveConfig(nll_weight=0.0, xy_weight=1.0, yaw_weight=1.0),
            "train.epochs": 20,
            "train.batch_size": 16,
            "train.evaluation.every_epochs": 1,
            "train.checkpoint.best_metric": "loss",
        },
    )


def history(result: RunResult) -> Sequence[Mapping[str, Any]]:
    """Per epoch the numbers of the tables: mean |x| and |y| error in m, |yaw| in rad."""
    evaluations = {line["step"]: line for line in result.lines("eval")}
    return [
        {
            "epoch": round(line["epoch"]),
            "train/loss": line["loss"],
            "train/xy_m": line["xy_m"],
            "train/yaw_rad": math.radians(line["yaw_deg"]),
            "val/loss": val["loss"],
            "val/xy_m": (val["softmax/mean_abs_x_m"] + val["softmax/mean_abs_y_m"]) / 2,
            "val/yaw_rad": math.radians(val["softmax/mean_abs_yaw_deg"]),
        }
        for line in result.lines("epoch")
        if (val := evaluations.get(line["step"])) is not None
    ]
