"""Tables of a relational data set as JSON: arrays of objects that name one another by tokens.

Columns come out as arrays, checked as a whole: after that, rows are numbers and nothing is missing.
"""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posejax.data.conventions import pose_from_wxyz
from posejax.data.errors import DataError
from posejax.data.files import read_json_rows, whole

_UNIT = 1e-3  # by which the length of a quaternion may be off


class Table:
    """Rows of one file, each with its own `token`.

    Args:
      rows: instead of those of the file.
      numbered: the rows have no tokens: they get their numbers.

    Raises:
      DataError: no such file, no JSON array of objects, a row without a token, a token twice.
    """

    def __init__(
        self,
        path: str | Path,
        rows: list[dict[str, Any]] | None = None,
        *,
        numbered: bool = False,
    ):
        self.path = Path(path)
        self.rows = read_json_rows(path, "a table of nuScenes") if rows is None else rows
        if numbered:
            self.rows = [row | {"token": f"row {i}"} for i, row in enumerate(self.rows)]
        self.number = {token: row for row, token in enumerate(self.texts("token"))}
        if len(self.number) < len(self.rows):
            row = next(i for i, r in enumerate(self.rows) if self.number[r["token"]] != i)
            raise self.fault(row, "token", "twice", "one of its own")

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, keep: np.ndarray) -> "Table":
        """The rows where `keep` [N] bool."""
        return Table(self.path, [row for row, kept in zip(self.rows, keep, strict=True) if kept])

    def texts(self, key: str) -> list[str]:
        """Text of every row."""
        return self._column(key, str, "text")

    def flags(self, key: str) -> np.ndarray:
        """[N] bool."""
        return np.array(self._column(key, bool, "true or false"), bool)

    def numbers(self, key: str, *shape: int) -> np.ndarray:
        """[N, *shape] float64: lists of numbers, or single ones."""
        values = self._column(key, None, "numbers")
        for row, value in enumerate(values):
            if not _fits(value, shape):
                expected = f"finite numbers {list(shape)}" if shape else "a finite number"
                raise self.fault(row, key, repr(value)[:80], expected)
        return np.array(values, np.float64).reshape(len(values), *shape)

    def counts(self, key: str) -> np.ndarray:
        """[N] int64, none below 0."""
        values = self._column(key, int, "a whole number")
        for row, value in enumerate(values):
            if isinstance(value, bool) or not 0 <= value < 1 << 62:
                raise self.fault(row, key, repr(value)[:80], "a whole number >= 0")
        return np.array(values, np.int64)

    def poses(self) -> np.ndarray:
        """[N, 4, 4] of the columns `rotation` (w first) and `translation`."""
        quat = self.numbers("rotation", 4)
        norm = np.linalg.norm(np.clip(quat, -1e6, 1e6), axis=1)
        for row in np.flatnonzero(np.abs(norm - 1) > _UNIT)[:1]:
            expected = "a quaternion of length 1, w first"
            raise self.fault(int(row), "rotation", f"length {norm[row]:.4g}", expected)
        return pose_from_wxyz(quat, self.numbers("translation", 3))

    def links(self, key: str, other: "Table", *, optional: bool = False) -> np.ndarray:
        """[N] int64: the row of `other` whose token is in the column `key`; -1 for an empty one.

        Raises:
          DataError: a token that `other` has not.
        """
        tokens = self.texts(key)
        found = [other.number.get(token, -1) for token in tokens]
        for row, (token, at) in enumerate(zip(tokens, found, strict=True)):
            if at < 0 and not (optional and token == ""):
                raise self.fault(row, key, repr(token[:60]), f"a token of {other.path.name}")
        return np.array(found, np.int64)

    def fault(self, row: int, key: str, found: Any, expected: str) -> DataError:
        """The error that names a row, by its token, and its column."""
        token = self.rows[row].get("token")
        where = token[:60] if isinstance(token, str) and token else f"row {row}"
        return DataError(self.path, f"{where}: {key}", found, expected)

    def _column(self, key: str, kind: type | None, expected: str) -> list[Any]:
        values = []
        for row, item in enumerate(self.rows):
            if key not in item:
                raise self.fault(row, key, "missing", expected)
            value = item[key]
            if kind is not None and not isinstance(value, kind):
                raise self.fault(row, key, repr(value)[:80], expected)
            values.append(value)
        return values


def write_tables(folder: str | Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write FOLDER/NAME.json of every table.

    Raises:
      OSError: the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        with whole(folder / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(list(rows), indent=0, allow_nan=False))


def _fits(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value of a JSON file is lists in lists of finite numbers, of a shape."""
    if shape:
        right = isinstance(value, list) and len(value) == shape[0]
        return right and all(_fits(item, shape[1:]) for item in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            return math.isfinite(float(value))
    return False
