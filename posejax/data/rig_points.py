"""The LiDAR points of a frame, whatever data set it is of."""

from pathlib import Path

import numpy as np

from posejax.data import av2
from posejax.data.carla import read_carla_points
from posejax.data.errors import DataError
from posejax.data.mmdet_infos import read_nuscenes_points
from posejax.data.rig_frame import RigFrame
from posejax.data.rigid import se3_apply


def read_lidar(path: str | Path) -> np.ndarray:
    """A sweep: [N, 4] float32 x, y, z (m, the frame that `ego_from_lidar` maps from), intensity in
    [0, 1].

    Reads .bin (nuScenes), .feather (Argoverse 2) and .npy (CARLA).

    Raises:
      DataError: another suffix; see `read_nuscenes_points`, `read_sweep` and `read_carla_points`.
    """
    suffix = Path(path).suffix
    if suffix == ".bin":
        points = read_nuscenes_points(path)
        return points[:, :4] / np.array([1, 1, 1, 255], np.float32)
    if suffix == ".feather":
        sweep = av2.read_sweep(path)
        return np.concatenate([sweep.xyz, sweep.intensity[:, None] / np.float32(255)], axis=1)
    if suffix == ".npy":
        return read_carla_points(path)
    raise DataError(path, "file name", suffix[:20] or "no suffix", ".bin, .feather or .npy")


def gather_points(frame: RigFrame, *, nearest: float = 2.2) -> np.ndarray:
    """Points of a frame's sweep and of the past ones it names: [N, 5] float32 x, y, z (m, its ego
    frame), intensity, seconds before the frame.

    Args:
      nearest: metres; returns closer to the sensor along x and y are the vehicle itself.

    Raises:
      DataError: a frame without a sweep; see `read_lidar`.
    """
    if frame.lidar is None:
        hint = "leave the LiDAR out, for segnet by --data.hide LIDAR"
        raise DataError(frame.file, "lidar", "none with this frame", "a sweep", hint)
    out = []
    sweeps = [(frame.lidar, frame.ego_from_lidar, frame.time)]
    sweeps += [(sweep.file, sweep.ego_from_lidar, sweep.time) for sweep in frame.sweeps]
    for file, ego_from_lidar, time in sweeps:
        points = read_lidar(file)
        points = points[(np.abs(points[:, :2]) >= nearest).any(axis=1)]
        age = np.full((len(points), 1), frame.time - time)
        xyz = se3_apply(ego_from_lidar, points[:, :3])
        out.append(np.concatenate([xyz, points[:, 3:], age], axis=1))
    return np.concatenate(out).astype(np.float32)
