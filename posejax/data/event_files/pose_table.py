"""Pose tables as text: `t x y z qx qy qz qw`, white space or commas, "#" comments first.

Ground truth of RPG and TUM data sets, and trajectories in nanoseconds, look like this.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from posejax.data.errors import DataError
from posejax.data.event_files.recording import PoseTrack
from posejax.data.files import read_bytes
from posejax.data.tables import read_table, write_table

Meaning = Literal["camera_from_body", "body_from_camera"]
_COLUMNS = ("t", "x", "y", "z", "qx", "qy", "qz", "qw")
_SLOWEST, _FASTEST = 0.01, 1e5  # poses per second that a time unit may imply


def read_pose_table(
    path: str | Path, *, meaning: Meaning = "camera_from_body", time_unit: float = 1.0
) -> PoseTrack:
    """Read a table of poses.

    Args:
      path: the file.
      meaning: what a row holds. "body_from_camera" is the pose of the camera in the body or world
        frame, as in motion-capture ground truth; it is inverted.
      time_unit: seconds per unit of the first column, e.g. 1e-9.

    Raises:
      DataError: see `read_table` and `PoseTrack`; or times of fewer than 0.01 or more than 100,000
        poses per second, which is another time unit.
    """
    raw = read_bytes(path, f"a table of {', '.join(_COLUMNS)}")
    first_line = next((line for line in raw.split(b"\n") if not line.startswith(b"#")), b"")
    comma = b"," in first_line
    table, first = read_table(path, dict.fromkeys(_COLUMNS, float), "," if comma else " ")
    seconds = table["t"] * time_unit
    track = PoseTrack(
        t_seconds=seconds,
        translation=np.stack([table[key] for key in "xyz"], axis=1),
        quat_xyzw=np.stack([table[key] for key in ("qx", "qy", "qz", "qw")], axis=1),
        file=str(path),
        rows=("line", first),
    )
    if len(track) > 1:
        rate = float(1 / np.median(np.diff(seconds)))
        if not _SLOWEST <= rate <= _FASTEST:
            expected = f"{_SLOWEST:g} to {_FASTEST:g} per second"
            hint = "pass time_unit, e.g. 1e-9 for nanoseconds"
            raise DataError(path, "column t", f"{rate:.3g} poses/s", expected, hint)
    return track if meaning == "camera_from_body" else track.inverse()


def write_pose_table(
    path: str | Path, poses: PoseTrack, *, meaning: Meaning = "camera_from_body"
) -> None:
    """Write poses, times in seconds, with white space between the columns."""
    poses = poses if meaning == "camera_from_body" else poses.inverse()
    rows = np.concatenate([poses.t_seconds[:, None], poses.translation, poses.quat_xyzw], axis=1)
    write_table(path, dict(zip(_COLUMNS, rows.T, strict=True)))
