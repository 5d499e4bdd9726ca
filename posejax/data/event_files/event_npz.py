"""Recordings as NumPy archives: the plainest way to bring one's own.

x, y, t, p            [N] integers; p 0/1 or -1/+1
tick_seconds          scalar: seconds per unit of t
sensor_size           [2]: height, width
label_t [M] s, label_translation [M, 3] m, label_quat_xyzw [M, 4]      optional, all or none
label_names [M] text                                                   optional
"""

from pathlib import Path

import numpy as np

from posejax.data.arrays import read_npz
from posejax.data.errors import DataError
from posejax.data.event_files.recording import EventRecording, PoseTrack
from posejax.data.files import whole

_EVENTS = ("x", "y", "t", "p")
_LABELS = ("label_t", "label_translation", "label_quat_xyzw")


def read_event_npz(
    path: str | Path,
    *,
    sensor_size: tuple[int, int] | None = None,
    tick_seconds: float | None = None,
) -> EventRecording:
    """Read an archive; `sensor_size` and `tick_seconds` stand in for arrays it does not hold.

    Raises:
      DataError: missing file or array, arrays of objects, damage, and what `EventRecording` and
        `PoseTrack` refuse.
    """
    path = Path(path)
    arrays = read_npz(path, _EVENTS, ("tick_seconds", "sensor_size", *_LABELS, "label_names"))
    if tick_seconds is None:
        tick_seconds = float(_numbers(path, arrays, "tick_seconds", 1)[0])
    if sensor_size is None:
        height, width = (int(v) for v in _numbers(path, arrays, "sensor_size", 2))
        sensor_size = height, width
    return EventRecording(
        x=arrays["x"],
        y=arrays["y"],
        t=arrays["t"],
        p=arrays["p"],
        tick_seconds=tick_seconds,
        sensor_size=sensor_size,
        labels=_labels(path, arrays),
        name=path.stem,
        path=str(path),
    )


def write_event_npz(path: str | Path, recording: EventRecording) -> None:
    """Write a recording; the file appears whole or not at all."""
    path = Path(path)
    arrays = {key: getattr(recording, key) for key in _EVENTS}
    arrays["tick_seconds"] = np.float64(recording.tick_seconds)
    arrays["sensor_size"] = np.array(recording.sensor_size)
    if recording.labels is not None:
        poses = recording.labels
        values = (poses.t_seconds, poses.translation, poses.quat_xyzw)
        arrays |= dict(zip(_LABELS, values, strict=True))
        if poses.names:
            arrays["label_names"] = np.array(poses.names)
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _numbers(path: Path, arrays: dict[str, np.ndarray], key: str, count: int) -> np.ndarray:
    if key not in arrays:
        raise DataError(path, f"array {key}", "missing", f"{count} number(s)", f"pass {key}")
    values = arrays[key]
    if values.dtype.kind not in "iuf" or values.size != count or not np.isfinite(values).all():
        found = f"{values.dtype}{values.shape}"
        raise DataError(path, f"array {key}", found, f"{count} finite number(s)")
    return values.ravel()


def _labels(path: Path, arrays: dict[str, np.ndarray]) -> PoseTrack | None:
    there = [key for key in _LABELS if key in arrays]
    if not there:
        return None
    if len(there) < len(_LABELS):
        missing = next(key for key in _LABELS if key not in arrays)
        raise DataError(path, f"array {missing}", "missing", f"all of {', '.join(_LABELS)}")
    names = arrays.get("label_names", np.zeros(0, "U1"))
    if names.dtype.kind not in "US" or names.ndim != 1:
        raise DataError(path, "array label_names", f"{names.dtype}{names.shape}", "text [M]")
    t, translation, quat_xyzw = (arrays[key] for key in _LABELS)
    return PoseTrack(t, translation, quat_xyzw, tuple(map(str, names)), str(path))
