"""Text recordings in the style of the RPG event-camera data set.

events.txt         t x y p                       seconds, pixels, 0 or 1
groundtruth.txt    t px py pz qx qy qz qw        seconds, metres; the camera in the world
calib.txt          fx fy cx cy k1 k2 p1 p2 k3    pixels, the first pixel's centre at (0, 0)
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from posejax.data.cameras import convert_intrinsics
from posejax.data.errors import DataError
from posejax.data.event_files.pose_table import read_pose_table, write_pose_table
from posejax.data.event_files.recording import EventRecording, Fields
from posejax.data.tables import read_table, ticks_of, write_table

_CALIBRATION = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3")


class Calibration(NamedTuple):
    """K [3, 3] for pixel centres at (i + 0.5, j + 0.5), and distortion [5] = k1 k2 p1 p2 k3."""

    K: np.ndarray
    distortion: np.ndarray


def read_rpg(
    path: str | Path,
    *,
    sensor_size: tuple[int, int],
    groundtruth: str | Path | None = None,
    tick_seconds: float = 1e-6,
) -> EventRecording:
    """Read events.txt, with the poses of groundtruth.txt if it is given.

    Args:
      path: the table of events.
      sensor_size: (height, width); the format does not state it.
      groundtruth: the table of poses. They become camera_from_body, the body being the world.
      tick_seconds: what times are rounded to; a microsecond is what such cameras resolve.

    Raises:
      DataError: see `read_table`, `EventRecording` and `read_pose_table`, all with the line.
    """
    path = Path(path)
    columns = {"t": float, "x": int, "y": int, "p": int}
    table, first = read_table(path, columns)
    labels = groundtruth and read_pose_table(groundtruth, meaning="body_from_camera")
    return EventRecording(
        x=table["x"],
        y=table["y"],
        t=ticks_of(path, table["t"], tick_seconds, first),
        p=table["p"],
        tick_seconds=tick_seconds,
        sensor_size=sensor_size,
        labels=labels or None,
        name=path.parent.name,
        path=str(path),
        fields=Fields(row="line", first=first),
    )


def write_rpg(folder: str | Path, recording: EventRecording) -> None:
    """Write FOLDER/events.txt and, where there are labels, FOLDER/groundtruth.txt."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    seconds = np.round(recording.t_seconds(), 9)
    columns = {"t": seconds, "x": recording.x, "y": recording.y, "p": recording.p}
    write_table(folder / "events.txt", columns)
    if recording.labels is not None:
        write_pose_table(folder / "groundtruth.txt", recording.labels, meaning="body_from_camera")


def read_calibration(path: str | Path) -> Calibration:
    """Read calib.txt, moved to this library's pixel convention (half a pixel).

    Raises:
      DataError: not one line of nine finite numbers, or a focal length that is not positive.
    """
    table, first = read_table(path, dict.fromkeys(_CALIBRATION, float))
    if len(table["fx"]) != 1:
        raise DataError(path, "lines", len(table["fx"]), "one line of nine numbers")
    for key in _CALIBRATION:
        value = float(table[key][0])
        if not np.isfinite(value) or (key in ("fx", "fy") and value <= 0):
            raise DataError(
                path, f"line {first}: {key}", value, "a finite (focal: positive) number"
            )
    fx, fy, cx, cy = (float(table[key][0]) for key in _CALIBRATION[:4])
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    K = convert_intrinsics(K, source="opencv", target="posejax")
    return Calibration(K, np.array([table[key][0] for key in _CALIBRATION[4:]]))
