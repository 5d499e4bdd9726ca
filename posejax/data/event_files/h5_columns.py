"""Columns of HDF5 files, checked against the bytes that are there before memory is asked for.

A damaged file may claim a shape of terabytes. The claim is compared with the chunks that exist
and their stored bytes, so that it becomes an error instead of a hang.
"""

import math
from pathlib import Path

import h5py
import numpy as np

from posejax.data.errors import DataError
from posejax.data.hdf5 import UNREADABLE, H5File

_MAX_RATIO = 20_000  # uncompressed over stored bytes; deflate reaches 1032, zstd more on constants
_FREE = 1 << 24  # up to 16 MiB nobody is hurt
_PLUGIN = "a compression filter is missing: `pip install hdf5plugin` and import it"


class Column:
    """One-dimensional data set of a file, read by slices.

    Attributes:
      dtype, size: of the data set.
      block: rows that are decoded together (a chunk), the unit of a search.
    """

    def __init__(self, file: H5File, name: str, kinds: str = "iub"):
        self.file, self.name = file, name
        try:
            self._inspect(kinds)
        except DataError:
            raise
        except UNREADABLE as error:
            raise DataError(file.path, name, f"damaged ({error})", "a readable data set") from None

    def _inspect(self, kinds: str) -> None:
        path, name = self.file.path, self.name
        item = self.file.open().get(name)
        if not isinstance(item, h5py.Dataset):
            raise DataError(path, name, "no such data set", "a column of the events")
        self.dtype, shape = item.dtype, item.shape
        if self.dtype.kind not in kinds:
            expected = "a table" if kinds == "V" else "integers"
            raise DataError(path, name, f"dtype {self.dtype}", expected)
        if shape is None or len(shape) != 1:
            raise DataError(path, name, f"shape {shape}", "[N]")
        self.size = int(shape[0])
        self.block = int(item.chunks[0]) if item.chunks else 1 << 16
        claimed, stored = self.size * self.dtype.itemsize, int(item.id.get_storage_size())
        there = claimed
        if item.chunks and claimed > _FREE:
            there = item.id.get_num_chunks() * self.block * self.dtype.itemsize
        limit = min(there, stored * _MAX_RATIO if item.chunks else stored)
        # An unwritten data set reads as zeros: events that never were.
        if self.size and (stored == 0 or claimed > max(limit, _FREE)):
            found = f"{self.size} rows of {self.dtype} in {stored} stored bytes"
            raise DataError(path, name, found, "data for every row", "is the file cut off?")
        if self.block * self.dtype.itemsize > max(_FREE, stored * _MAX_RATIO):
            raise DataError(path, name, f"chunks of {self.block} rows", "chunks that fit the data")

    def __len__(self) -> int:
        return self.size

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start <= i < stop.

        Raises:
          DataError: they cannot be decoded.
        """
        rows = slice(start, self.size if stop is None else stop)
        try:
            return self.file.read(self.name, rows)
        except DataError as error:
            # The library's own words differ by version; all of them mention the filter.
            hint = _PLUGIN if "filter" in error.found and "plugin" in error.found else error.hint
            raise DataError(error.file, error.field, error.found, error.expected, hint) from None
        except UNREADABLE as error:
            found = f"rows {rows.start} to {rows.stop}: {error}"
            raise DataError(self.file.path, self.name, found, "readable rows") from None


def read_table(file: H5File, name: str) -> np.ndarray:
    """Rows of a compound data set [N]; text of variable length is left out.

    Such text lies elsewhere in the file, behind lengths and addresses. Damaged ones have made the
    HDF5 library end the process or clear gigabytes, and it follows them even where only other
    columns are asked for. So the rows of such a table are taken from the file's bytes.

    Raises:
      DataError: no such table, more rows than bytes, or it cannot be decoded.
    """
    table = Column(file, name, kinds="V")
    if not table.dtype.hasobject:
        return table.read()
    try:
        item = file.open()[name]
        if not isinstance(item, h5py.Dataset) or (offset := item.id.get_offset()) is None:
            raise ValueError("text of variable length in a table in chunks")
        dtype = _dtype_on_disk(item)
        if item.id.get_storage_size() != table.size * dtype.itemsize:
            raise ValueError(f"rows of another length than {dtype.itemsize} bytes")
        rows = np.fromfile(file.path, dtype, table.size, offset=offset)
        if len(rows) < table.size:
            raise ValueError(f"{len(rows)} of {table.size} rows")
    except UNREADABLE as error:
        hint = "text of fixed length is read from any table"
        raise DataError(file.path, name, f"unreadable ({error})", "rows", hint) from None
    return rows


def _dtype_on_disk(item: h5py.Dataset) -> np.dtype:
    """The numeric columns of a table and where they are in a row of the file.

    The library states positions in memory, where text of variable length takes a pointer; on disk
    it takes 16 bytes: its length, an address and an index.
    """
    kind = item.id.get_type()
    if not isinstance(kind, h5py.h5t.TypeCompoundID):
        raise ValueError("not a table")
    names, formats, offsets, grown = [], [], [], 0
    for i in range(kind.get_nmembers()):
        member = kind.get_member_type(i)
        if isinstance(member, (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)):
            names.append(kind.get_member_name(i).decode())
            formats.append(member.dtype)
            offsets.append(kind.get_member_offset(i) + grown)
        elif isinstance(member, h5py.h5t.TypeStringID) and member.is_variable_str():
            grown += 16 - member.get_size()
    size = kind.get_size() + grown
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def read_whole(file: H5File, name: str, kinds: str, shape: tuple[int, ...]) -> np.ndarray:
    """A small data set of known shape.

    Raises:
      DataError: it is missing, of another shape or dtype, or cannot be decoded.
    """
    try:
        item = file.open().get(name)
        if not isinstance(item, h5py.Dataset):
            raise DataError(file.path, name, "no such data set", f"{shape}")
        if item.shape != shape or item.dtype.kind not in kinds:
            raise DataError(file.path, name, f"{item.dtype}{item.shape}", f"{shape} of '{kinds}'")
        return np.asarray(item[()])
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(file.path, name, f"damaged ({error})", "a readable data set") from None


def attribute(file: H5File, name: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers in an attribute of the root group, or None if there is none.

    Other attributes are not touched, see `read_table`.

    Raises:
      DataError: it holds something else, or cannot be read.
    """
    try:
        attributes = file.open().attrs
        if name not in attributes:
            return None
        found = attributes.get_id(name)
        if found.dtype.kind not in "iuf" or math.prod(found.shape or ()) != count:
            raise ValueError(f"{found.dtype}{found.shape}")
        values = tuple(float(v) for v in np.ravel(np.asarray(attributes[name])))
        if not np.isfinite(values).all():
            raise ValueError(f"{values}")
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(
            file.path, f"attribute {name}", error, f"{count} finite number(s)"
        ) from None
    return values


def file_of(path: str | Path) -> H5File:
    """The file, opened once to see that it is one."""
    file = H5File(path)
    try:
        file.open()
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(path, "file", f"damaged ({error})", "an HDF5 file") from None
    return file
