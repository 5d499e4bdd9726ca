"""KITTI odometry: Velodyne sweeps (.bin) and pose tables."""

from pathlib import Path

import numpy as np

from posejax.data.errors import DataError
from posejax.data.files import read_bytes
from posejax.data.rigid import is_rotation, se3_inverse
from posejax.data.tables import finite_numbers, read_words


def read_velodyne(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """One sweep: xyz [N, 3] float32 (m; x forward, y left, z up) and reflectance [N] in [0, 1].

    Raises:
      DataError: missing or empty file, a size that is no multiple of four float32, non-finite
        values, reflectance outside [0, 1].
    """
    path = Path(path)
    raw = read_bytes(path, "a Velodyne .bin file")
    if not raw or len(raw) % 16:
        found, expected = f"{len(raw)} bytes", "a positive multiple of 16 (x, y, z, r)"
        raise DataError(path, "size", found, expected)
    points = np.frombuffer(bytearray(raw), "<f4").reshape(-1, 4)
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(1))[0])
        raise DataError(path, f"point {row}", points[row].tolist(), "finite x, y, z, r")
    low, high = float(points[:, 3].min()), float(points[:, 3].max())
    if low < 0 or high > 1:
        raise DataError(path, "reflectance", f"{low:g} to {high:g}", "0 to 1")
    return points[:, :3], points[:, 3]


def write_velodyne(path: str | Path, xyz: np.ndarray, reflectance: np.ndarray) -> None:
    """Write the sweep that `read_velodyne` reads."""
    np.concatenate([xyz, reflectance[:, None]], axis=1).astype("<f4").tofile(path)


def read_poses(path: str | Path) -> np.ndarray:
    """Poses `world_from_camera` [M, 4, 4] float64 (camera axes: x right, y down, z forward).

    Raises:
      DataError: missing file, no rows, or (with its line number) a row that is not twelve finite
        numbers or whose 3x3 part is no rotation.
    """
    path = Path(path)
    poses = []
    for number, words in read_words(path, "a table of 3x4 poses"):
        values = finite_numbers(path, f"line {number}", words)
        if len(values) != 12:
            raise DataError(path, f"line {number}", f"{len(values)} numbers", "12 finite numbers")
        pose = np.concatenate([np.reshape(values, (3, 4)), [[0, 0, 0, 1]]])
        if not is_rotation(pose[:3, :3]):
            raise DataError(path, f"line {number}", "a 3x3 part that is no rotation", "a pose")
        poses.append(pose)
    if not poses:
        raise DataError(path, "rows", "none", "at least one pose")
    return np.stack(poses)


def planar_motion(world_from_a: np.ndarray, world_from_b: np.ndarray) -> np.ndarray:
    """(x, y, yaw) of camera b in the ground plane of camera a: x forward, y left.

    The cameras' axes are right-down-forward, so forward is z and left is -x. The LiDAR sits
    0.27 m behind the camera: the same motion, up to that lever times the yaw.
    """
    a_from_b = se3_inverse(world_from_a) @ world_from_b
    yaw = np.arctan2(-a_from_b[0, 2], a_from_b[2, 2])
    return np.array([a_from_b[2, 3], -a_from_b[0, 3], yaw])
