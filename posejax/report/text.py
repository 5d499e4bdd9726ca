"""Numbers and tables as text, for consoles and Markdown files."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any


def number(value: Any, digits: int = 3) -> str:
    """A cell of a table: reals with `digits` decimals, integers and text as they are, NaN as "-".

    A real too small for the decimals keeps two significant digits, so that no error reads 0.
    """
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
