"""One door to all formats: content decides, the file's name only where content cannot."""

from dataclasses import replace
from pathlib import Path

import h5py

from posejax.data.errors import DataError
from posejax.data.event_files.dsec import read_dsec
from posejax.data.event_files.event_npz import read_event_npz
from posejax.data.event_files.evt import read_evt
from posejax.data.event_files.pose_table import read_pose_table
from posejax.data.event_files.recording import EventRecording
from posejax.data.event_files.rpg import read_rpg
from posejax.data.event_files.spades_csv import read_spades_csv
from posejax.data.event_files.spark import read_spark
from posejax.data.hdf5 import UNREADABLE

_US = 1e-6


def format_of(path: str | Path) -> str:
    """ "spark", "dsec", "npz", "evt", "csv" (SPADES) or "txt" (RPG).

    Raises:
      DataError: no such file, or none of these.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe would block
            raise DataError(path, "file", "not a regular file", "a recording")
        with path.open("rb") as file:
            head = file.read(4096)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        if isinstance(error, DataError):
            raise
        raise DataError(path, "file", f"cannot be read ({error})", "a recording") from None
    if h5py.is_hdf5(path):
        return _hdf5_layout(path)
    if head.startswith(b"PK"):
        return "npz"
    if head.startswith(b"% ") or path.suffix.lower() == ".raw":
        return "evt"
    lines = [line for line in head.split(b"\n") if line.strip() and not line.startswith(b"#")]
    words = lines[0].replace(b",", b" ").split() if lines else []
    if len(words) == 4 and all(_is_number(word) for word in words):
        return "csv" if b"," in lines[0] else "txt"
    known = {".csv": "csv", ".txt": "txt", ".npz": "npz"}
    if path.suffix.lower() in known:  # a damaged one: its reader says what is wrong where
        return known[path.suffix.lower()]
    hint = "HDF5 (SPARK-2026, DSEC), RAW (EVT 2, 3), .npz, t,x,y,p (SPADES) or t x y p (RPG)"
    raise DataError(path, "content", repr(head[:16]), hint)


def read_recording(
    path: str | Path,
    *,
    sensor_size: tuple[int, int] | None = None,
    tick_seconds: float | None = None,
    labels: str | Path | None = None,
    n_poses: int = 0,
    label_rate: float = 10.0,
) -> EventRecording:
    """Read a recording of any known format.

    Args:
      path: the file.
      sensor_size: (height, width), where the file does not state it (RPG text never does).
      tick_seconds: seconds per tick, where it is not stated and the labels do not tell. Formats
        of a fixed unit (EVT, DSEC: microseconds; RPG: seconds) take none.
      labels: the table of poses beside the file: SPADES labels for SPADES events, else
        `t x y z qx qy qz qw`, of which RPG's hold the camera in the world.
      n_poses: number of labels, where the poses are withheld: evidence for the tick.
      label_rate: labels per second.

    Raises:
      DataError: see the readers of the formats.
      ValueError: an option that the format has no use for.
    """
    kind = format_of(path)
    if tick_seconds is not None and kind in ("evt", "dsec", "txt"):
        raise ValueError(f"tick_seconds: the unit of {kind} files is fixed")
    if kind == "csv":
        return read_spades_csv(
            path,
            labels=labels,
            tick_seconds=tick_seconds,
            n_poses=n_poses,
            label_rate=label_rate,
            **({} if sensor_size is None else {"sensor_size": sensor_size}),
        )
    if kind == "txt":
        if sensor_size is None:
            raise DataError(path, "sensor size", "not stated in the file", "sensor_size=(H, W)")
        return read_rpg(path, sensor_size=sensor_size, groundtruth=labels)
    if kind == "spark":
        settings = {"tick_seconds": tick_seconds, "n_poses": n_poses, "label_rate": label_rate}
        recording = read_spark(path, sensor_size=sensor_size, **settings)
    elif kind == "npz":
        recording = read_event_npz(path, sensor_size=sensor_size, tick_seconds=tick_seconds)
    elif kind == "evt":
        recording = read_evt(path, sensor_size=sensor_size)
    else:
        recording = read_dsec(path, **({} if sensor_size is None else {"sensor_size": sensor_size}))
    return recording if labels is None else replace(recording, labels=read_pose_table(labels))


def _hdf5_layout(path: Path) -> str:
    try:
        with h5py.File(path, "r") as file:
            events = file.get("events")
            names = sorted(events if isinstance(events, h5py.Group) else file)
    except UNREADABLE as error:
        raise DataError(path, "file", f"damaged ({error})", "an HDF5 file") from None
    if {"xs", "ys", "ts", "ps"} & set(names):
        return "spark"
    if {"x", "y", "t", "p"} & set(names):
        return "dsec"
    expected = "/events/xs, ys, ts, ps (SPARK-2026) or /events/x, y, t, p (DSEC)"
    raise DataError(
        path, "events", f"holds {', '.join(map(str, names[:8])) or 'nothing'}", expected
    )


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
