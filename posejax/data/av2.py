"""Argoverse 2 sensor logs with pyarrow alone: LiDAR sweeps, ego poses, and (`av2_map`) the maps.

A log is a folder

    <log_id>/sensors/lidar/<timestamp_ns>.feather   x, y, z float16 (ego frame, metres),
                                                    intensity u8, laser_number u8, offset_ns i32
    <log_id>/city_SE3_egovehicle.feather            timestamp_ns i64, qw qx qy qz, tx_m ty_m tz_m
    <log_id>/map/...                                see `posejax.data.av2_map`

The city frame is metric and fixed; the ego frame is x forward, y left, z up. Quaternions are
w-first on disk (that is the format); none leaves this file: poses are 4x4 matrices. Every reader
raises `DataError` naming the file and the field when the input cannot be used.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather

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
from posejax.data.rigid import (
    matrix_to_quat_xyzw,
    quat_xyzw_to_matrix,
    se3_from_rotation_translation,
)

__all__ = [
    "MARK_TYPES",
    "GroundHeight",
    "LaneSegment",
    "Orthophoto",
    "Sweep",
    "VectorMap",
    "list_logs",
    "list_sweeps",
    "pose_at",
    "read_ground_height",
    "read_orthophoto",
    "read_poses",
    "read_sweep",
    "read_vector_map",
    "sweep_timestamp",
    "write_ground_height",
    "write_orthophoto",
    "write_poses",
    "write_sweep",
    "write_vector_map",
]

POSES_FILE = "city_SE3_egovehicle.feather"
_POSE_COLUMNS = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
_XYZW = [1, 2, 3, 0]  # where they are in the columns


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
    stem = Path(path).stem
    if not stem.isdecimal():
        raise DataError(path, "file name", repr(stem), "the sweep's timestamp in ns")
    return int(stem)


def read_sweep(path: str | Path) -> Sweep:
    """Read one LiDAR sweep.

    Raises:
      DataError: missing or unreadable file, missing column, wrong dtype, no points, non-finite
        coordinates.
    """
    table = _read_table(path)
    if table.num_rows == 0:
        raise DataError(path, "rows", "0 points", "at least one", "remove the empty sweep")
    xyz = np.stack([_column(table, path, c, pa.types.is_floating) for c in "xyz"], axis=1)
    xyz = xyz.astype(np.float32)
    _check_finite(path, "column x, y or z", xyz)
    return Sweep(
        xyz=xyz,
        intensity=_column(table, path, "intensity", pa.types.is_uint8),
        laser_number=_column(table, path, "laser_number", pa.types.is_uint8),
        offset_ns=_column(table, path, "offset_ns", pa.types.is_int32),
    )


def write_sweep(path: str | Path, sweep: Sweep) -> None:
    """Write one sweep with the dtypes of the real data (coordinates rounded to float16)."""
    columns: dict[str, np.ndarray] = {
        c: np.asarray(sweep.xyz[:, i], np.float16) for i, c in enumerate("xyz")
    }
    columns["intensity"] = np.asarray(sweep.intensity, np.uint8)
    columns["laser_number"] = np.asarray(sweep.laser_number, np.uint8)
    columns["offset_ns"] = np.asarray(sweep.offset_ns, np.int32)
    _write_table(path, columns)


def read_poses(log_dir: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """All ego poses of a log, in time order.

    Returns:
      timestamps_ns [M] int64 and city_from_ego [M, 4, 4] float64.

    Raises:
      DataError: missing file or column, wrong dtype, no rows, NaN, a quaternion that is not a
        rotation (norm off by more than 1e-3), a timestamp listed twice.
    """
    path = Path(log_dir) / POSES_FILE
    table = _read_table(path)
    if table.num_rows == 0:
        raise DataError(path, "rows", "0 poses", "at least one")
    times = _column(table, path, "timestamp_ns", pa.types.is_int64)
    values = np.stack([_column(table, path, c, pa.types.is_floating) for c in _POSE_COLUMNS], 1)
    values = values.astype(np.float64)
    for i, name in enumerate(_POSE_COLUMNS):
        _check_finite(path, f"column {name}", values[:, i])
    norm = np.linalg.norm(values[:, :4], axis=1)
    bad = np.flatnonzero(np.abs(norm - 1.0) > 1e-3)
    if len(bad):
        found = f"norm {norm[bad[0]]:.4g} in row {bad[0]}"
        raise DataError(path, "columns qw, qx, qy, qz", found, "unit quaternions, w first")
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    if (np.diff(times) == 0).any():
        twice = times[:-1][np.diff(times) == 0][0]
        raise DataError(path, "column timestamp_ns", f"{twice} twice", "one pose per time")
    rotation = quat_xyzw_to_matrix(values[:, _XYZW])
    return times, se3_from_rotation_translation(rotation, values[:, 4:])


def write_poses(log_dir: str | Path, timestamps_ns: np.ndarray, city_from_ego: np.ndarray) -> None:
    """Write the pose table. `city_from_ego` is [M, 4, 4], `timestamps_ns` [M]."""
    pose = np.asarray(city_from_ego, np.float64)
    quat = np.roll(matrix_to_quat_xyzw(pose[:, :3, :3]), 1, axis=1)
    values = np.concatenate([quat, pose[:, :3, 3]], axis=1)
    columns = {"timestamp_ns": np.asarray(timestamps_ns, np.int64)}
    columns |= {name: values[:, i].copy() for i, name in enumerate(_POSE_COLUMNS)}
    _write_table(Path(log_dir) / POSES_FILE, columns)


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
        nearest = times[np.abs(times - timestamp_ns).argmin()]
        raise DataError(
            Path(log_dir) / POSES_FILE,
            "column timestamp_ns",
            f"no pose at {timestamp_ns} (nearest is {abs(int(nearest) - timestamp_ns)} ns away)",
            "a pose at the exact time of every sweep",
        )
    return matrices[i]


def _read_table(path: str | Path) -> pa.Table:
    if not Path(path).is_file():
        raise DataError(path, "file", "not found", "a feather table")
    try:
        return feather.read_table(path, memory_map=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(path, "file", f"unreadable ({error})", "a feather table") from error


def _write_table(path: str | Path, columns: dict[str, np.ndarray]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # lz4 is what the real logs use; every pyarrow wheel has it.
    feather.write_feather(pa.table(columns), str(path), compression="lz4")


def _column(table: pa.Table, path: str | Path, name: str, is_type) -> np.ndarray:
    if name not in table.column_names:
        has = ", ".join(table.column_names)
        raise DataError(path, f"column {name}", "missing", "it to exist", f"the file has: {has}")
    column = table[name]
    if not is_type(column.type):
        expected = is_type.__name__.removeprefix("is_").replace("floating", "a floating type")
        raise DataError(path, f"column {name}", f"dtype {column.type}", expected)
    if column.null_count:
        raise DataError(path, f"column {name}", f"{column.null_count} nulls", "none")
    return column.to_numpy()


def _check_finite(path: str | Path, field: str, values: np.ndarray) -> None:
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise DataError(path, field, f"{len(bad)} non-finite, first in row {bad[0]}", "finite")
