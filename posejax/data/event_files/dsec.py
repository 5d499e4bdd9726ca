"""DSEC recordings in HDF5.

    /events/x, y, t, p    [N]; t in microseconds after t_offset, p 0 or 1
    /ms_to_idx            [M]: the first event at or after each millisecond
    /t_offset             microseconds of the camera's clock at t = 0
    rectify_map.h5        /rectify_map [H, W, 2]: undistorted (x, y) of every pixel

Published files are compressed by blosc: `import hdf5plugin` (a package of its own) before reading.
"""

from pathlib import Path

import h5py
import numpy as np

from posejax.data.cameras import convert_pixels
from posejax.data.errors import DataError
from posejax.data.event_files.h5_columns import Column, file_of, read_whole
from posejax.data.event_files.lazy import LazyEvents
from posejax.data.event_files.recording import EventRecording, Fields, PoseTrack, first_tick
from posejax.data.files import whole

SENSOR_SIZE = (480, 640)
_FIELDS = Fields("events/x", "events/y", "events/t", "events/p")
_MS = "ms_to_idx"
_US = 1e-6


class DsecFile(LazyEvents):
    """One DSEC file, read window by window through `ms_to_idx`; see `LazyEvents`.

    Args:
      path: the file.
      sensor_size: (height, width).
      labels: poses on the file's clock (0 is `t_offset`), if there are any.

    Raises:
      DataError: not such a file; `ms_to_idx` that decreases or points beyond the events.
    """

    tick_seconds = _US

    def __init__(
        self,
        path: str | Path,
        *,
        sensor_size: tuple[int, int] = SENSOR_SIZE,
        labels: PoseTrack | None = None,
    ):
        super().__init__(path, _FIELDS)
        self.sensor_size, self.labels = sensor_size, labels
        offset = read_whole(self._file, "t_offset", "iu", ())
        self.clock_offset = int(offset)
        index = Column(self._file, _MS).read()
        steps = np.diff(index.astype(np.int64), prepend=0, append=len(self))
        if (steps < 0).any():
            row = int(np.argmax(steps < 0))
            found = f"{index[min(row, len(index) - 1)]}"
            expected = f"growing rows, at most {len(self)}"
            raise DataError(path, f"{_MS}, row {min(row, len(index) - 1)}", found, expected)
        self.ms_to_idx = index.astype(np.int64)
        self.rows(slice(0, min(len(self), 1)))

    def index_at(self, seconds) -> np.ndarray:
        """Row of the first event at or after each instant (s), same shape as `seconds`."""
        ticks = first_tick(np.asarray(seconds), self.tick_seconds)
        rows = np.empty(ticks.shape, np.int64)
        bounds = np.concatenate([[0], self.ms_to_idx, [len(self)]])
        for i, tick in np.ndenumerate(ticks):
            ms = int(np.clip(tick // 1000, -1, len(self.ms_to_idx) - 1))
            low, high = int(bounds[ms + 1]), int(bounds[ms + 2])
            rows[i] = low + int(np.searchsorted(self._times.read(low, high), tick))
        return rows


def read_dsec(path: str | Path, **settings) -> EventRecording:
    """Read a whole DSEC file; settings are those of `DsecFile`.

    Raises:
      DataError: see `DsecFile` and `EventRecording`; or `ms_to_idx` that does not fit the times.
    """
    file = DsecFile(path, **settings)
    try:
        recording = file.rows()
    finally:
        file.close()
    wrong = file.ms_to_idx != _index(recording.t, len(file.ms_to_idx))
    if wrong.any():
        row = int(np.argmax(wrong))
        expected = f"{_index(recording.t, row + 1)[-1]}, the first event from {row} ms on"
        raise DataError(path, f"{_MS}, row {row}", int(file.ms_to_idx[row]), expected)
    return recording


def write_dsec(
    path: str | Path, recording: EventRecording, *, compression: str | None = "gzip"
) -> None:
    """Write a recording in the DSEC layout (labels have no place in it); times in microseconds.

    Raises:
      ValueError: times beyond 2**32 us; `EventRecording.rebased` starts the clock at zero.
    """
    path = Path(path)
    t = recording.t_microseconds()
    if len(t) and t[-1] >= 1 << 32:
        raise ValueError(f"{int(t[-1])} us: DSEC times are below 2**32 us; use rebased()")
    offset = round(recording.clock_offset * recording.tick_seconds / _US)
    with whole(path) as temporary, h5py.File(temporary, "w", libver="v110") as file:
        columns = (("x", recording.x), ("y", recording.y), ("t", t), ("p", recording.p))
        for key, values in columns:
            values = values.astype(np.uint32) if key == "t" else values
            file.create_dataset(
                f"events/{key}",
                data=values,
                chunks=True if len(t) else None,
                compression=compression if len(t) else None,
                fletcher32=bool(len(t)),
            )
        file[_MS] = _index(t, int(t[-1]) // 1000 + 1 if len(t) else 0).astype(np.uint64)
        file["t_offset"] = np.int64(offset)


def read_rectify_map(path: str | Path, sensor_size: tuple[int, int] = SENSOR_SIZE) -> np.ndarray:
    """[H, W, 2] float32: undistorted (x, y) of the centre of every pixel, which lies at +0.5.

    Raises:
      DataError: no such data set, another shape or dtype, non-finite values.
    """
    values = read_whole(file_of(path), "rectify_map", "f", (*sensor_size, 2))
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0][:2]
        raise DataError(path, "rectify_map", f"not finite at ({row}, {column})", "finite numbers")
    return convert_pixels(values, source="opencv", target="posejax").astype(np.float32)


def rectify(recording: EventRecording, rectify_map: np.ndarray) -> np.ndarray:
    """[N, 2] float32 undistorted positions of the events, in the convention of `rectify_map`."""
    return rectify_map[recording.y, recording.x]


def _index(t: np.ndarray, count: int) -> np.ndarray:
    return np.searchsorted(t, np.arange(count) * 1000)
