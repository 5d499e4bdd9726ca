"""Feather tables (Arrow's file format): columns of a checked type as NumPy arrays.

Version 2 alone, which is Arrow IPC: its metadata are verified before use, and the columns after.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather

from posejax.data.errors import DataError
from posejax.data.files import decoding, read_bytes

_IS = {
    "floating": pa.types.is_floating,
    "integer": pa.types.is_integer,
    "uint8": pa.types.is_uint8,
    "int32": pa.types.is_int32,
    "int64": pa.types.is_int64,
    "string": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
}
_EXPECTED = "a feather table"


class FeatherTable:
    """A table read whole.

    Raises:
      DataError: missing file, another format, damage that the format can notice, no rows.
    """

    def __init__(self, path: str | Path):
        self.path = path
        raw = read_bytes(path, _EXPECTED)
        with decoding(path, "file", _EXPECTED):
            self._table = pa.ipc.open_file(pa.BufferReader(raw)).read_all()
            self._table.validate(full=True)
        if self._table.num_rows == 0:
            raise DataError(path, "rows", "0 rows", "at least one")

    def __len__(self) -> int:
        return self._table.num_rows

    def column(self, name: str, kind: str) -> np.ndarray:
        """[N] of a column of a kind of `_IS`, e.g. "uint8"; text as an array of `str` objects.

        Raises:
          DataError: no such column, or more than one; another type; nulls; floats that are not
            finite.
        """
        field, names = f"column {name}", self._table.column_names
        if names.count(name) != 1:
            found = "twice" if name in names else "missing"
            raise DataError(
                self.path, field, found, "it once", f"the file has: {', '.join(names)[:300]}"
            )
        column = self._table.column(name)
        if not _IS[kind](column.type):
            raise DataError(self.path, field, f"dtype {column.type}", kind)
        if column.null_count:
            raise DataError(self.path, field, f"{column.null_count} nulls", "none")
        with decoding(self.path, field, kind):
            values = column.to_numpy()
        if kind == "floating" and not (finite := np.isfinite(values)).all():
            bad = np.flatnonzero(~finite)
            found = f"{len(bad)} non-finite, first in row {bad[0]}"
            raise DataError(self.path, field, found, "finite")
        return values

    def columns(self, names: Sequence[str], kind: str = "floating") -> np.ndarray:
        """[N, len(names)] float64 of number columns."""
        return np.stack([self.column(name, kind).astype(np.float64) for name in names], axis=1)


def write_feather(path: str | Path, columns: dict[str, np.ndarray]) -> None:
    """Write columns as a feather table."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # lz4 is what the published logs use; every pyarrow wheel has it.
    pyarrow.feather.write_feather(pa.table(columns), str(path), compression="lz4")
