"""Tables as text: columns of numbers, CSV with names in its first line, lines of words.

Columns are read fast where the text is regular, else line by line for the errors.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv

from posejax.data.errors import DataError
from posejax.data.files import read_bytes, read_text, text_number

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
    raw = read_bytes(path, f"a table of {', '.join(columns)}")
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
    options = pyarrow.csv.WriteOptions(
        include_header=False, delimiter=delimiter, quoting_style="none"
    )
    pyarrow.csv.write_csv(table, str(path), options)


def _fast(body: bytes, columns: dict[str, type], delimiter: str) -> dict[str, np.ndarray] | None:
    """The columns, or None for text that is irregular in any way."""
    if b"\0" in body:
        return None
    block = max(1 << 20, min(len(body) + 1, 1 << 30))
    try:
        table = pyarrow.csv.read_csv(
            pyarrow.BufferReader(body),
            pyarrow.csv.ReadOptions(
                column_names=list(columns), use_threads=False, block_size=block
            ),
            pyarrow.csv.ParseOptions(
                delimiter=delimiter, quote_char=False, ignore_empty_lines=False
            ),
            pyarrow.csv.ConvertOptions(
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


def read_csv(
    path: str | Path, columns: Sequence[str], *, delimiter: str = ","
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a CSV table whose first line names its columns; empty lines are passed over.

    Args:
      columns: names that must be there.
      delimiter: "," or a tab, whose tables have no quotes.

    Returns:
      the names, and (line number, words) of every row, whose number of words `named_row` checks.

    Raises:
      DataError: missing file, no UTF-8, broken quotes, a name twice, one of `columns` missing.
    """
    expected = f"columns {','.join(columns)}"
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    text = io.StringIO(read_text(path, f"a table with {expected}"), newline="")
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting)
    rows = []
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise DataError(path, f"line {reader.line_num}", error, "CSV") from None
    names = [name.strip() for name in rows[0][1]] if rows else []
    for name in columns:
        if names.count(name) != 1:
            problem = "twice" if name in names else "missing"
            found = f"{problem} (the file has: {', '.join(names)[:200]})"
            raise DataError(path, f"column {name}", found, expected)
    return names, rows[1:]


def named_row(
    path: str | Path, line: int, names: Sequence[str], words: Sequence[str]
) -> dict[str, str]:
    """{name: word} of a row of `read_csv`.

    Raises:
      DataError: another number of words than names.
    """
    if len(words) != len(names):
        raise DataError(path, f"line {line}", f"{len(words)} words", f"{len(names)}")
    return dict(zip(names, words, strict=True))


def read_words(path: str | Path, expected: str) -> Iterator[tuple[int, list[str]]]:
    """(1-based line number, words) of every line of a text file that is not empty.

    Raises:
      DataError: missing file, or no UTF-8.
    """
    for number, line in enumerate(read_text(path, expected).split("\n"), start=1):
        if words := line.split():
            yield number, words


def finite_numbers(path: str | Path, field: str, words: Sequence[str]) -> list[float]:
    """Words as floats.

    Raises:
      DataError: one is no number, or not finite.
    """
    try:
        values = [text_number(word) for word in words]
    except ValueError as error:
        raise DataError(path, field, error, "numbers") from None
    if not np.isfinite(values).all():
        raise DataError(path, field, "a non-finite number", "finite numbers")
    return values


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
