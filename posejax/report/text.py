"""Numbers and tables as text, for consoles and Markdown files."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any


class Share(float):
    """A share in [0, 1]: tables print it in per cent, JSON keeps the number."""


def number(value: Any, digits: int = 3) -> str:
    """A cell of a table: reals with `digits` decimals, integers and text as they are, NaN as "-".

    A `Share` is printed in per cent, an interval (low, high) as "low to high", "-" if unknown.
    A real too small for the decimals keeps two significant digits, so that no error reads 0.
    """
    if isinstance(value, tuple):
        known = not any(map(math.isnan, value))
        return " to ".join(number(v, digits) for v in value) if known else "-"
    if isinstance(value, Share):
        return percent(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    if isinstance(value, Integral):
        return str(int(value))
    value = float(value)
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if 0 < abs(value) < 0.5 * 10.0**-digits:
        return f"{value:.1e}"
    return f"{value:.{digits}f}"


def percent(share: float, digits: int = 1) -> str:
    """A share in [0, 1] as per cent; NaN as "-"."""
    return "-" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Table whose columns are padded, so it reads as well in a console as in a rendered page.

    Raises:
      ValueError: a row's length differs from the headers'.
    """
    cells = [[str(h) for h in headers]]
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"row {list(row)} has {len(row)} cells for {len(headers)} headers")
        cells.append([number(cell).replace("|", "\\|") for cell in row])
    widths = [max(3, *(len(row[k]) for row in cells)) for k in range(len(headers))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def history_tables(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    metrics: Mapping[str, str],
    *,
    column: str = "variant",
) -> str:
    """Two tables of runs side by side: the last epoch, and that of the lowest validation loss.

    Args:
      histories: variant -> its epochs in order, each with `epoch`, `train/loss`, `val/loss` and
        every metric under `train/` and `val/`.
      metrics: name -> how the tables call it.
      column: heading of the first column.

    Raises:
      ValueError: a variant without epochs, or an epoch that lacks one of the numbers.
    """
    keys = {"loss": "loss", **metrics}
    needed = {"epoch", *(f"{part}/{key}" for part in ("train", "val") for key in keys)}
    last, best = [], []
    for name, epochs in histories.items():
        if not epochs:
            raise ValueError(
                f"{name}: no epoch recorded; was the run interrupted before the first?"
            )
        for epoch in epochs:
            if missing := sorted(needed - set(epoch)):
                raise ValueError(f"{name}, epoch {epoch.get('epoch')}: lacks {missing}")
        numbers = [epochs[-1][f"{part}/{key}"] for part in ("train", "val") for key in keys]
        last.append([name, *(number(v, 4) for v in numbers)])
        # NaN losses (a diverged epoch) must never win.
        low = min(epochs, key=lambda e: (math.isnan(e["val/loss"]), e["val/loss"]))
        best.append([name, int(low["epoch"]), *(number(low[f"val/{key}"], 4) for key in keys)])
    parts = [f"{part} {label}" for part in ("train", "val") for label in keys.values()]
    ends = sorted({int(epochs[-1]["epoch"]) for epochs in histories.values()})
    return "\n".join(
        [
            f"Last epoch ({', '.join(map(str, ends))}):",
            "",
            markdown_table([column, *parts], last),
            "",
            "Best validation over training (lowest val loss):",
            "",
            markdown_table([column, "best epoch", *parts[len(keys) :]], best),
        ]
    )
