"""Argoverse 2 sensor logs with pyarrow alone: LiDAR sweeps and ego poses; `av2_cameras`, `av2_map`.

A log is a folder

    <log_id>/sensors/lidar/<timestamp_ns>.feather   x, y, z float16 (ego frame, metres),
                                                    intensity u8, laser_number u8, offset_ns i32
    <log_id>/city_SE3_egovehicle.feather            timestamp_ns i64, qw qx qy qz, tx_m ty_m tz_m
    <log_id>/map/...                                see `posejax.data.av2_map`
    <log_id>/calibration/..., annotations.feather   see `posejax.data.av2_cameras`

The city frame is metric and fixed; the ego frame is x forward, y left, z up. Quaternions are
w-first on disk (that is the format); none leaves this file: poses are 4x4 matrices. Every reader
raises `DataError` naming the file and the field when the input cannot be used.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posejax.data.av2_cameras import (
    Annotations,
    RigCamera,
    list_images,
    pose_columns,
    read_annotations,
    read_cameras,
    read_pose_columns,
    timestamp_of,
    write_annotations,
    write_cameras,
)
from posejax.data.av2_map import (
    MARK_TYPES,
    GroundHeight,
    LaneSegment,
    Orthophoto,
    VectorMap,
    read_ground_height,
    read_orthophoto,
    read_vector_map,
    write_ground_height,
    write_orthophoto,
    write_vector_map,
)
from posejax.data.errors import DataError
from posejax.data.feather import FeatherTable, write_feather

__all__ = [
    "MARK_TYPES",
    "Annotations",
    "GroundHeight",
    "LaneSegment",
    "Orthophoto",
    "RigCamera",
    "Sweep",
    "VectorMap",
    "list_images",
    "list_logs",
    "list_sweeps",
    "pose_at",
    "read_annotations",
    "read_cameras",
    "read_ground_height",
    "read_orthophoto",
    "read_poses",
    "read_sweep",
    "read_vector_map",
    "sweep_timestamp",
    "write_annotations",
    "write_cameras",
    "write_ground_height",
    "write_orthophoto",
    "write_poses",
    "write_sweep",
    "write_vector_map",
]

POSES_FILE = "city_SE3_egovehicle.feather"
_FARTHEST = 1e6  # m: float16, which the published sweeps use, ends at 65 km


@dataclass(frozen=True)
class Sweep:
    """One LiDAR sweep, motion-compensated to its timestamp.

    Attributes:
      xyz: [N, 3] float32, ego frame, metres (float16 on disk: 6 cm steps beyond 64 m).
      intensity: [N] uint8.
      laser_number: [N] uint8, which beam of the spinning LiDAR.
      offset_ns: [N] int32, time of the point after the sweep's timestamp.
    """

    xyz: np.ndarray
    intensity: np.ndarray
    laser_number: np.ndarray
    offset_ns: np.ndarray

    def __len__(self) -> int:
        return len(self.xyz)


def list_logs(root: str | Path) -> list[Path]:
    """Log folders (those that hold a pose table) directly below `root`, sorted by name.

    Raises:
      DataError: `root` is no folder, or holds no log.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(root, "folder", "not found", "a folder of logs")
    logs = sorted(path.parent for path in root.glob(f"*/{POSES_FILE}"))
    if not logs:
        raise DataError(root, "logs", "none", f"at least one <log_id>/{POSES_FILE}")
    return logs


def list_sweeps(log_dir: str | Path) -> list[Path]:
    """Sweep files of a log in time order.

    Raises:
      DataError: no sweep, or a file whose name is not a timestamp.
    """
    folder = Path(log_dir) / "sensors" / "lidar"
    files = list(folder.glob("*.feather"))
    if not files:
        raise DataError(folder, "sweeps", "none", "<timestamp_ns>.feather files")
    return sorted(files, key=sweep_timestamp)


def sweep_timestamp(path: str | Path) -> int:
    """Time of a sweep in ns: its file name."""
    return timestamp_of(path)


def read_sweep(path: str | Path) -> Sweep:
    """Read one LiDAR sweep.

    Raises:
      DataError: missing or unreadable file, missing column, wrong dtype, no points, non-finite
        coordinates.
    """
    table = FeatherTable(path)
    with np.errstate(over="ignore"):  # of float64 columns; infinite is far
        columns = [table.column(name, "floating").astype(np.float32, copy=False) for name in "xyz"]
    xyz = np.stack(columns, axis=1)
    if not (farthest := max(float(xyz.max()), -float(xyz.min()))) < _FARTHEST:
        raise DataError(path, "columns x, y, z", f"{farthest:g}", f"below {_FARTHEST:g} m")
    return Sweep(
        xyz=xyz,
        intensity=table.column("intensity", "uint8"),
        laser_number=table.column("laser_number", "uint8"),
        offset_ns=table.column("offset_ns", "int32"),
    )


def write_sweep(path: str | Path, sweep: Sweep) -> None:
    """Write one sweep with the dtypes of the real data (coordinates rounded to float16)."""
    columns: dict[str, np.ndarray] = {
        c: np.asarray(sweep.xyz[:, i], np.float16) for i, c in enumerate("xyz")
    }
    columns["intensity"] = np.asarray(sweep.intensity, np.uint8)
    columns["laser_number"] = np.asarray(sweep.laser_number, np.uint8)
    columns["offset_ns"] = np.asarray(sweep.offset_ns, np.int32)
    write_feather(path, columns)


def read_poses(log_dir: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """All ego poses of a log, in time order.

    Returns:
      timestamps_ns [M] int64 and city_from_ego [M, 4, 4] float64.

    Raises:
      DataError: missing file or column, wrong dtype, no rows, NaN, a quaternion that is not a
        rotation (norm off by more than 1e-3), a timestamp listed twice.
    """
    path = Path(log_dir) / POSES_FILE
    table = FeatherTable(path)
    times, poses = table.column("timestamp_ns", "int64"), read_pose_columns(path, table)
    order = np.argsort(times, kind="stable")
    times, poses = times[order], poses[order]
    twice = times[:-1][times[:-1] == times[1:]]
    if len(twice):
        raise DataError(path, "column timestamp_ns", f"{twice[0]} twice", "one pose per time")
    return times, poses


def write_poses(log_dir: str | Path, timestamps_ns: np.ndarray, city_from_ego: np.ndarray) -> None:
    """Write the pose table. `city_from_ego` is [M, 4, 4], `timestamps_ns` [M]."""
    columns = {"timestamp_ns": np.asarray(timestamps_ns, np.int64), **pose_columns(city_from_ego)}
    write_feather(Path(log_dir) / POSES_FILE, columns)


def pose_at(
    log_dir: str | Path, timestamp_ns: int, poses: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """city_from_ego [4, 4] float64 at exactly `timestamp_ns` (sweeps have an exact pose).

    Args:
      poses: the result of `read_poses`, to save reading the table once more.

    Raises:
      DataError: no pose at that time.
    """
    times, matrices = read_poses(log_dir) if poses is None else poses
    i = int(np.searchsorted(times, timestamp_ns))
    if i == len(times) or times[i] != timestamp_ns:
        nearest = min(times[max(i - 1, 0) : i + 1].tolist(), key=lambda t: abs(t - timestamp_ns))
        raise DataError(
            Path(log_dir) / POSES_FILE,
            "column timestamp_ns",
            f"no pose at {timestamp_ns} (nearest is {abs(int(nearest) - timestamp_ns)} ns away)",
            "a pose at the exact time of every sweep",
        )
    return matrices[i]
