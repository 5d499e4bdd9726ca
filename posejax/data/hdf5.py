"""HDF5 files in data workers: one handle per process, opened on first use, never pickled."""

import os
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from posejax.data.errors import DataError


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
                try:
                    self._handle = h5py.File(self.path, "r")
                except FileNotFoundError:
                    raise DataError(self.path, "file", "does not exist", "an HDF5 file") from None
                except OSError as error:
                    raise DataError(self.path, "file", str(error), "an HDF5 file") from None
                self._owner = os.getpid()
            return self._handle

    def read(self, name: str, rows: slice | int = slice(None)) -> np.ndarray:
        """Rows of the data set `name`.

        Raises:
          DataError: no such data set (names those there are), or it cannot be decoded.
        """
        handle = self.open()
        item = handle.get(name)
        if not isinstance(item, h5py.Dataset):
            there: list[str] = []
            handle.visititems(
                lambda key, value: there.append(key) if isinstance(value, h5py.Dataset) else None
            )
            raise DataError(self.path, name, "no such data set", f"one of {', '.join(there[:20])}")
        try:
            return np.asarray(item[rows])
        except (OSError, IndexError, ValueError) as error:
            raise DataError(self.path, name, f"rows {rows}: {error}", "readable rows") from None

    def close(self) -> None:
        """Close this process's handle; the next read opens it again."""
        with self._lock:
            if self._handle is not None and self._owner == os.getpid():
                self._handle.close()
            self._handle = None
