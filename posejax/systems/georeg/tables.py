"""Text tables of georeg for the console and Markdown files."""

from collections.abc import Mapping, Sequence

import numpy as np

from posejax.report.text import markdown_table, number

READOUT_NAMES = {"argmax": "pixel (argmax)", "softmax": "softmax", "gaussian": "Gaussian"}
_HISTORY = ("loss", "xy_m", "yaw_rad")


def norm_tables(
    histories: Mapping[str, Sequence[Mapping[str, float]]], column: str = "norm"
) -> str:
    """The two tables of an ablation: the last epoch, and the epoch of lowest validation loss.

    Args:
      histories: variant (BN, IN, GN, ...) -> its epochs in order, each with `epoch`, `train/loss`,
        `train/xy_m` (mean abs position error, m), `train/yaw_rad` (mean abs yaw error, rad) and
        the same three under `val/`.
      column: heading of the first column.

    Raises:
      ValueError: a variant without epochs, or an epoch that lacks one of the numbers.
    """
    needed = {"epoch", *(f"{part}/{key}" for part in ("train", "val") for key in _HISTORY)}
    for name, epochs in histories.items():
        if not epochs:
            raise ValueError(
                f"{name}: no epoch recorded; was the run interrupted before the first?"
            )
        for epoch in epochs:
            if missing := sorted(needed - set(epoch)):
                raise ValueError(f"{name}, epoch {epoch.get('epoch')}: lacks {missing}")
    last, best = [], []
    for name, epochs in histories.items():
        numbers = [epochs[-1][f"{part}/{key}"] for part in ("train", "val") for key in _HISTORY]
        last.append([name, *(number(v, 4) for v in numbers)])
        # NaN losses (a diverged epoch) must never win.
        low = min(epochs, key=lambda e: (np.isnan(e["val/loss"]), e["val/loss"]))
        numbers = [number(low[f"val/{key}"], 4) for key in _HISTORY]
        best.append([name, int(low["epoch"]), *numbers])
    parts = [f"{p} {k}" for p in ("train", "val") for k in ("loss", "xy m", "theta rad")]
    ends = sorted({int(epochs[-1]["epoch"]) for epochs in histories.values()})
    return "\n".join(
        [
            f"Last epoch ({', '.join(map(str, ends))}):",
            "",
            markdown_table([column, *parts], last),
            "",
            "Best validation over training (lowest val loss):",
            "",
            markdown_table([column, "best epoch", *parts[3:]], best),
        ]
    )
