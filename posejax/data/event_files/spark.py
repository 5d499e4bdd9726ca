"""SPARK-2026 (SPADES) recordings in HDF5.

    /events/xs, ys, ts, ps     [N] integers; ps 1 = ON, 0 = OFF
    /labels/data               [M] table: filename, Tx Ty Tz (m), Qx Qy Qz Qw, timestamp (ticks)
    attributes (optional)      time_unit_seconds, sensor_size_wh, clip_seconds

`clip_seconds` (before, after) says that every label is a clip of its own: see `PoseTrack.clip`.

Simulated recordings count ticks of 100 us, real ones are reported with 1 us under the same names:
the tick is inferred and checked (`ticks.settle_tick`), never assumed.
"""

from pathlib import Path

import h5py
import numpy as np

from posejax.data.errors import DataError
from posejax.data.event_files.h5_columns import attribute, read_table
from posejax.data.event_files.lazy import LazyEvents
from posejax.data.event_files.recording import EventRecording, Fields, PoseTrack, ticks_to
from posejax.data.event_files.ticks import TickEvidence, settle_tick
from posejax.data.files import whole
from posejax.data.hdf5 import H5File

SENSOR_SIZE = (720, 1280)
TICK_SECONDS = 1e-4
LABELS = "labels/data"
POSE_COLUMNS = ("Tx", "Ty", "Tz", "Qx", "Qy", "Qz", "Qw")
_FIELDS = Fields("events/xs", "events/ys", "events/ts", "events/ps")
_CHUNK = 1 << 16


class SparkFile(LazyEvents):
    """One SPARK-2026 file, read window by window; see `LazyEvents`.

    Args:
      path: the file.
      tick_seconds: seconds per tick; None takes the file's attribute, else what the labels imply.
      sensor_size: (height, width); None takes the file's attribute, else 720 x 1280.
      n_poses: labels that belong to the recording where the file has none (test files come with
        a table of poses to fill in): evidence for the tick.
      label_rate: labels per second.

    File names of variable length are left out of the labels (`h5_columns.read_table`).

    Raises:
      DataError: not such a file; labels that are no poses; a time unit that is not known or that
        contradicts the labels.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        tick_seconds: float | None = None,
        sensor_size: tuple[int, int] | None = None,
        n_poses: int = 0,
        label_rate: float = 10.0,
    ):
        super().__init__(path, _FIELDS)
        table = _label_table(self._file)
        if tick_seconds is None:
            stated = attribute(self._file, "time_unit_seconds", 1)
            tick_seconds = None if stated is None else stated[0]
        first, last = self.span()
        stamps = table["timestamp"].astype(np.float64)  # differences of unsigned numbers would wrap
        step = float(np.median(np.diff(stamps))) if len(table) > 1 else 0.0
        evidence = TickEvidence(last - first, len(table) or n_poses, step, label_rate)
        self.tick_seconds = settle_tick(path, _FIELDS.t, tick_seconds, evidence)
        if sensor_size is None:
            width, height = attribute(self._file, "sensor_size_wh", 2) or SENSOR_SIZE[::-1]
            sensor_size = int(height), int(width)
        self.sensor_size = sensor_size
        clip = attribute(self._file, "clip_seconds", 2)
        self.labels = _poses(path, table, self.tick_seconds, clip) if len(table) else None
        self.rows(slice(0, min(len(self), 1)))  # sensor size and columns are usable


def read_spark(path: str | Path, **settings) -> EventRecording:
    """Read a whole SPARK-2026 file; settings are those of `SparkFile`.

    Raises:
      DataError: see `SparkFile`; and events that are out of order, off the sensor or of another
        polarity than 0/1 (or -1/+1), with their row.
    """
    file = SparkFile(path, **settings)
    try:
        return file.rows()
    finally:
        file.close()


def write_spark(
    path: str | Path,
    recording: EventRecording,
    *,
    tick_seconds: float = TICK_SECONDS,
    compression: str | None = "gzip",
) -> None:
    """Write a recording in the SPARK-2026 layout; the file appears whole or not at all.

    Args:
      path: of the new file; an old one is replaced.
      recording: its times are written in ticks of `tick_seconds`: the tick that holds the event,
        and the nearest one for labels.
      compression: "gzip" (3 times smaller, 10 times slower), "lzf" or None.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        # Checksums on data and metadata: damage is an error on reading, never other events.
        with h5py.File(temporary, "w", libver="v110") as file:
            t = ticks_to(recording.t, recording.tick_seconds, tick_seconds)
            for key, values in (("xs", recording.x), ("ys", recording.y), ("ts", t)):
                _write(file, f"events/{key}", values, compression)
            _write(file, "events/ps", recording.p, compression)
            if recording.labels is not None:
                file[LABELS] = _label_rows(recording.labels, tick_seconds)
                if recording.labels.clip is not None:
                    file.attrs["clip_seconds"] = np.array(recording.labels.clip, np.float64)
            file.attrs["time_unit_seconds"] = float(tick_seconds)
            file.attrs["sensor_size_wh"] = np.array(recording.sensor_size[::-1])


def _write(file: h5py.File, name: str, values: np.ndarray, compression: str | None) -> None:
    if not len(values):  # nothing to divide into chunks
        file[name] = values
        return
    options = {"compression_opts": 1, "shuffle": True} if compression == "gzip" else {}
    file.create_dataset(
        name,
        data=values,
        chunks=(min(len(values), _CHUNK),),
        compression=compression,
        fletcher32=True,
        **options,
    )


def _label_rows(labels: PoseTrack, tick_seconds: float) -> np.ndarray:
    names = labels.names or tuple(f"img{i:03d}" for i in range(len(labels)))
    encoded = [name.encode() for name in names]
    width = max(20, *map(len, encoded))
    columns = [(key, "<f8") for key in POSE_COLUMNS]
    rows = np.zeros(
        len(labels), np.dtype([("filename", f"S{width}"), *columns, ("timestamp", "<i8")])
    )
    rows["filename"] = encoded
    poses = np.concatenate([labels.translation, labels.quat_xyzw], axis=1)
    for key, values in zip(POSE_COLUMNS, poses.T, strict=True):
        rows[key] = values
    rows["timestamp"] = np.rint(labels.t_seconds / tick_seconds)
    return rows


def _label_table(file: H5File) -> np.ndarray:
    """The rows of /labels/data as they are; an empty table where the file has none."""
    handle = file.open()
    try:
        there = LABELS in handle
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DataError(file.path, LABELS, f"damaged ({error})", "a table or none") from None
    if not there:
        return np.zeros(0, [("timestamp", "<i8")])
    table = read_table(file, LABELS)
    names = table.dtype.names or ()
    for key in (*POSE_COLUMNS, "timestamp"):
        kinds = "iu" if key == "timestamp" else "iuf"
        if key not in names or table.dtype[key].shape or table.dtype[key].kind not in kinds:
            found = f"dtype {table.dtype[key]}" if key in names else f"missing in {names}"
            expected = "integer ticks" if key == "timestamp" else "numbers"
            raise DataError(file.path, f"{LABELS}, column {key}", found, expected)
    return table


def _poses(path: str | Path, table: np.ndarray, tick_seconds: float, clip) -> PoseTrack:
    with np.errstate(all="ignore"):  # what does not convert is NaN or infinite: refused below
        poses = np.stack([table[key].astype(np.float64) for key in POSE_COLUMNS], axis=1)
    text = "filename" in (table.dtype.names or ()) and table.dtype["filename"].kind == "S"
    names = [name.decode(errors="replace") for name in table["filename"]] if text else []
    return PoseTrack(
        t_seconds=table["timestamp"] * tick_seconds,
        translation=poses[:, :3],
        quat_xyzw=poses[:, 3:],
        names=tuple(names),
        file=str(path),
        rows=(f"{LABELS}, row", 0),
        clip=clip,
    )
