"""Columns of HDF5 files, checked against the bytes that are there before memory is asked for.

A damaged file may claim a shape of terabytes. The claim is compared with the chunks that exist
and their stored bytes, so that it becomes an error instead of a hang.
"""

from pathlib import Path

import h5py
import numpy as np

from posejax.data.errors import DataError
from posejax.data.hdf5 import H5File

# What h5py raises on damaged files: the class depends on which part of the library notices.
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError, AttributeError)
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
        if self.dtype.kind not in kinds or not _plain(self.dtype):
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


def _plain(dtype: np.dtype) -> bool:
    """Numbers and text only: text of variable length is an object to NumPy, but harmless."""
    fields = [dtype[name] for name in dtype.names] if dtype.names else [dtype]
    return all(not part.hasobject or h5py.check_string_dtype(part) for part in fields)


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


def attributes(file: H5File) -> dict[str, np.ndarray]:
    """Numeric attributes of the root group; text and objects are left out.

    Raises:
      DataError: an attribute cannot be read.
    """
    found: dict[str, np.ndarray] = {}
    try:
        for key, value in file.open().attrs.items():
            array = np.asarray(value)
            if array.dtype.kind in "iuf":
                found[key] = array
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(file.path, "attributes", f"damaged ({error})", "readable ones") from None
    return found


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
