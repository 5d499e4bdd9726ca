"""HDF5 files in data workers: one handle per process, opened on first use, never pickled."""

import os
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from posejax.data.errors import DataError

# What h5py raises on damaged files: the class depends on which part of the library notices.
UNREADABLE = (
    OSError, RuntimeError, ValueError, IndexError, KeyError, TypeError, MemoryError,
    AttributeError, OverflowError,
)  # fmt: skip


class H5File:
    """Read-only view of an HDF5 file that may cross process borders.

    h5py handles can neither be pickled nor used by a forked child, so a source keeps an `H5File`
    instead: every process opens the file on its first read. A compressed file is decoded under
    h5py's global lock; workers that are processes decode in parallel, threads do not.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._reset()

    def _reset(self) -> None:
        self._handle: h5py.File | None = None
        self._owner = -1
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._reset()

    def open(self) -> h5py.File:
        """The handle of this process.

        Raises:
          DataError: no such file, or not an HDF5 file.
        """
        with self._lock:
            if self._handle is None or self._owner != os.getpid():
                if not self.path.is_file():  # a pipe would block
                    raise DataError(self.path, "file", "not found", "an HDF5 file")
                try:
                    self._handle = h5py.File(self.path, "r")
                except UNREADABLE as error:
                    raise DataError(self.path, "file", str(error), "an HDF5 file") from None
                self._owner = os.getpid()
            return self._handle

    def read(self, name: str, rows: slice | int = slice(None)) -> np.ndarray:
        """Rows of the data set `name`.

        Raises:
          DataError: no such data set (names those there are), or it cannot be decoded.
        """
        handle = self.open()
        try:
            item = handle.get(name)
            if isinstance(item, h5py.Dataset):
                return np.asarray(item[rows])
            there: list[str] = []
            handle.visititems(
                lambda key, value: there.append(key) if isinstance(value, h5py.Dataset) else None
            )
        except UNREADABLE as error:
            raise DataError(self.path, name, f"rows {rows}: {error}", "readable rows") from None
        raise DataError(self.path, name, "no such data set", f"one of {', '.join(there[:20])}")

    def close(self) -> None:
        """Close this process's handle; the next read opens it again."""
        with self._lock:
            if self._handle is not None and self._owner == os.getpid():
                self._handle.close()
            self._handle = None
