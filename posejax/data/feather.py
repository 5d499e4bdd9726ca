"""Feather tables (Arrow's file format): columns of a checked type as NumPy arrays.

Version 2 alone, which is Arrow IPC: a magic word, a stream of messages, and an index that is not
needed. The library verifies the metadata before use and the columns after; what it believes is how
large a compressed buffer claims to become, so that is compared with the stored bytes here. Layouts
after https://arrow.apache.org/docs/format/Columnar.html and its flatbuffers.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather

from posejax.data.errors import DataError
from posejax.data.files import MAX_BYTES, decoding, read_bytes

_IS = {
    "floating": pa.types.is_floating,
    "integer": pa.types.is_integer,
    "uint8": pa.types.is_uint8,
    "int32": pa.types.is_int32,
    "int64": pa.types.is_int64,
    "string": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
}
_EXPECTED = "a feather table"
_MAGIC = b"ARROW1"
_RATIO = {0: 255, 1: 1 << 15}  # the most that LZ4 and ZSTD can reach
_FREE = 1 << 16


class FeatherTable:
    """A table read whole.

    Raises:
      DataError: missing file, another format, damage that the format can notice, no rows.
    """

    def __init__(self, path: str | Path):
        self.path = path
        raw = read_bytes(path, _EXPECTED)
        with decoding(path, "file", _EXPECTED):
            if not (raw.startswith(_MAGIC) and raw.endswith(_MAGIC)):
                raise ValueError("no Arrow file, or cut off")
            stream = pa.py_buffer(raw)[8:]
            for message in pa.ipc.MessageReader.open_stream(stream):
                _check_claims(message)
            self._table = pa.ipc.open_stream(stream).read_all()
            self._table.validate(full=True)
        if self._table.num_rows == 0:
            raise DataError(path, "rows", "0 rows", "at least one")

    def __len__(self) -> int:
        return self._table.num_rows

    def column(self, name: str, kind: str) -> np.ndarray:
        """[N] of a column of a kind of `_IS`, e.g. "uint8"; half precision as float32, text as an
        array of `str` objects.

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
        if values.dtype == np.float16:
            values = values.astype(np.float32)  # in which arithmetic is ten times faster
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


def _check_claims(message: pa.Message) -> None:
    """ValueError if a buffer of a record batch claims more bytes than its own can decode to."""
    if message.type == "schema":
        return
    if message.type != "record batch":
        raise ValueError(f"a {message.type} in a table of plain columns")
    meta, body = message.metadata.to_pybytes(), message.body
    (root,) = struct.unpack_from("<I", meta)
    batch = _follow(meta, _field(meta, root, 2))
    compression = _field(meta, batch, 3)
    if not compression:
        return
    codec = _field(meta, _follow(meta, compression), 0)
    ratio = _RATIO[meta[codec] if codec else 0]
    buffers = _follow(meta, _field(meta, batch, 2))
    (count,) = struct.unpack_from("<I", meta, buffers)
    total = 0
    for i in range(count):
        start, size = struct.unpack_from("<qq", meta, buffers + 4 + 16 * i)
        if size:
            (claimed,) = struct.unpack_from("<q", body, start)  # -1: stored as it is
            total += max(claimed, 0)
            if not -1 <= claimed <= _FREE + ratio * size or total > MAX_BYTES:
                raise ValueError(f"a buffer of {claimed} bytes in {size}")


def _field(meta: bytes, table: int, index: int) -> int:
    """Position of a field of a flatbuffer's table; 0 where it is left out."""
    (back,) = struct.unpack_from("<i", meta, table)
    (size,) = struct.unpack_from("<H", meta, table - back)
    at = 4 + 2 * index
    offset = struct.unpack_from("<H", meta, table - back + at)[0] if at < size else 0
    return table + offset if offset else 0


def _follow(meta: bytes, at: int) -> int:
    """Where the offset at `at` leads to."""
    return at + struct.unpack_from("<I", meta, at)[0]
