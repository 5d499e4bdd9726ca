"""Windows of an event file without reading the file: bisection over its chunks."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posejax.data.errors import DataError
from posejax.data.event_files.h5_columns import Column, file_of
from posejax.data.event_files.recording import EventRecording, Fields, PoseTrack, first_tick


class LazyEvents:
    """Four columns (x, y, t, p) of an HDF5 file, of which only the asked rows are read.

    Looking for an instant reads the first time of some chunks (each once per process, about
    log2(chunks) of them) and the one chunk that holds it. Objects may be pickled and used by
    several threads and processes.

    Attributes:
      path, name: of the file.
      tick_seconds, sensor_size, clock_offset, labels: as in `EventRecording`.
    """

    tick_seconds: float
    sensor_size: tuple[int, int]
    labels: PoseTrack | None = None
    clock_offset: int = 0

    def __init__(self, path: str | Path, fields: Fields):
        self.path, self.fields = Path(path), fields
        self.name = self.path.stem
        self._open()
        sizes = {name: len(column) for name, column in self._columns.items()}
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{key} {size}" for key, size in sizes.items())
            raise DataError(path, "events", f"columns of different length: {found}", "one length")

    def _open(self) -> None:
        file = file_of(self.path)
        f = self.fields
        self._columns = {name: Column(file, name) for name in (f.x, f.y, f.t, f.p)}
        self._times = self._columns[f.t]
        self._file = file
        self._block_start: dict[int, int] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self._times)

    def span(self) -> tuple[int, int]:
        """(first, last) tick; (0, 0) without events."""
        if not len(self):
            return 0, 0
        return int(self._times.read(0, 1)[0]), int(self._times.read(len(self) - 1)[0])

    def index_at(self, seconds: np.ndarray | float | Sequence[float]) -> np.ndarray:
        """Row of the first event at or after each instant (s), same shape as `seconds`."""
        ticks = first_tick(np.asarray(seconds), self.tick_seconds)
        rows = np.empty(ticks.shape, np.int64)
        chunk, times = -1, np.empty(0, np.int64)
        for i, tick in np.ndenumerate(ticks):  # over instants asked for, not over events
            low, high = 0, -(-len(self) // self._times.block)
            while low < high:  # the first chunk that starts at or after the tick
                middle = (low + high) // 2
                if self._start_of(middle) < tick:
                    low = middle + 1
                else:
                    high = middle
            if low and chunk != low - 1:
                chunk = low - 1
                first = chunk * self._times.block
                times = self._times.read(first, min(first + self._times.block, len(self)))
            inside = int(np.searchsorted(times, tick)) if low else 0
            rows[i] = (low - 1) * self._times.block + inside if low else 0
        return rows

    def _start_of(self, block: int) -> int:
        with self._lock:
            if block not in self._block_start:
                row = block * self._times.block
                self._block_start[block] = int(self._times.read(row, row + 1)[0])
            return self._block_start[block]

    def counts(self, edges: np.ndarray) -> np.ndarray:
        """[M - 1] events between neighbours of `edges` [M] (s, increasing), first edge included."""
        return np.diff(self.index_at(np.asarray(edges)))

    def window(self, start: float, stop: float) -> EventRecording:
        """Events of start <= t < stop (s)."""
        first, last = self.index_at([start, stop])
        return self.rows(slice(int(first), int(max(first, last))))

    def rows(self, rows: slice = slice(None)) -> EventRecording:
        """Events of a range of rows, checked; with the labels of the whole file.

        Raises:
          DataError: they cannot be decoded, or are not valid events; rows count within the file.
        """
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"rows {rows}: a contiguous range is needed")
        f = self.fields
        x, y, t, p = (self._columns[name].read(start, stop) for name in (f.x, f.y, f.t, f.p))
        return EventRecording(
            x=x,
            y=y,
            t=t,
            p=p,
            tick_seconds=self.tick_seconds,
            sensor_size=self.sensor_size,
            labels=self.labels,
            name=self.name,
            path=str(self.path),
            clock_offset=self.clock_offset,
            fields=f._replace(first=start),
        )

    def close(self) -> None:
        """Close this process's handle; the next read opens it again."""
        self._file.close()
