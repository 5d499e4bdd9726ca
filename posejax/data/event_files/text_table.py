"""Tables of numbers as text: read fast where they are regular, else line by line for the errors."""

from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import csv

from posejax.data.errors import DataError

_TYPES = {int: pyarrow.int64(), float: pyarrow.float64()}
_INT64 = 1 << 63


def read_table(
    path: str | Path, columns: dict[str, type], delimiter: str = " ", header: bool = False
) -> tuple[dict[str, np.ndarray], int]:
    """Read a table of `columns` {name: int or float}.

    Args:
      path: the file. Lines that start with "#" may come before the numbers.
      columns: what every line holds, in this order.
      delimiter: "," or " " (any white space).
      header: the first line that is no comment names the columns and is passed over.

    Returns:
      {name: int64 or float64 [N]} and the 1-based number of the first line of numbers.

    Raises:
      DataError: missing or empty file; with its line, another number of words, a word that is no
        number of its kind, or an empty line between others.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise DataError(path, "file", f"cannot be read ({error})", "a text file") from None
    skipped, start = 0, 0
    while start < len(raw) and (raw.startswith(b"#", start) or header):
        header = header and raw.startswith(b"#", start)
        skipped, start = skipped + 1, (raw.find(b"\n", start) + 1) or len(raw)
    body = raw[start:].rstrip()
    if not body:
        raise DataError(path, "lines", "no numbers", ", ".join(columns))
    table = _fast(body, columns, delimiter)
    return table or _exact(path, body, columns, delimiter, skipped + 1), skipped + 1


def write_table(path: str | Path, columns: dict[str, np.ndarray], delimiter: str = " ") -> None:
    """Write columns without a header; numbers keep every digit."""
    table = pyarrow.table({key: pyarrow.array(values) for key, values in columns.items()})
    options = csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="none")
    csv.write_csv(table, str(path), options)


def _fast(body: bytes, columns: dict[str, type], delimiter: str) -> dict[str, np.ndarray] | None:
    """The columns, or None for text that is irregular in any way."""
    if b"\0" in body:
        return None
    block = max(1 << 20, min(len(body) + 1, 1 << 30))
    try:
        table = csv.read_csv(
            pyarrow.BufferReader(body),
            csv.ReadOptions(column_names=list(columns), use_threads=False, block_size=block),
            csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types={key: _TYPES[kind] for key, kind in columns.items()}, null_values=[]
            ),
        )
    except (pyarrow.ArrowException, ValueError):
        return None
    if any(column.null_count for column in table.columns):
        return None
    return {key: table[key].to_numpy() for key in columns}


def _exact(
    path: str | Path, body: bytes, columns: dict[str, type], delimiter: str, first: int
) -> dict[str, np.ndarray]:
    """The same, line by line: slower, and every fault has its line."""
    rows = []
    for number, line in enumerate(body.decode("ascii", "replace").split("\n"), start=first):
        words = line.split("," if delimiter == "," else None)
        if len(words) != len(columns):
            found, expected = f"{len(words)} words", f"{len(columns)}: {' '.join(columns)}"
            raise DataError(path, f"line {number}", found, expected, "is the file cut off?")
        row = []
        for (key, kind), word in zip(columns.items(), words, strict=True):
            try:
                value = kind(word)
            except ValueError:
                value = None
            if value is None or "_" in word or (kind is int and abs(value) >= _INT64):
                expected = "a whole number" if kind is int else "a number"
                raise DataError(path, f"line {number}: {key}", repr(word[:40]), expected)
            row.append(value)
        rows.append(row)
    return {
        key: np.array([row[i] for row in rows], np.int64 if kind is int else np.float64)
        for i, (key, kind) in enumerate(columns.items())
    }


def ticks_of(path: str | Path, seconds: np.ndarray, tick: float, first: int) -> np.ndarray:
    """int64 nearest ticks of float seconds.

    Raises:
      DataError: a time that is not finite, negative, or too large to count.
    """
    with np.errstate(over="ignore"):
        ticks = np.rint(seconds / tick)
    usable = (ticks >= 0) & (ticks < float(1 << 62))  # False for NaN
    if not usable.all():
        row = int(np.argmin(usable))
        raise DataError(path, f"line {row + first}: t", f"{seconds[row]} s", "finite times >= 0 s")
    return ticks.astype(np.int64)
