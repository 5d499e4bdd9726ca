"""KITTI sweeps and poses."""

import numpy as np
import pytest

from posejax.data import kitti
from posejax.data.errors import DataError


def test_velodyne_round_trip_and_errors(tmp_path, rng):
    path = tmp_path / "0.bin"
    xyz, reflectance = rng.normal(size=(50, 3)).astype(np.float32), rng.random(50, np.float32)
    kitti.write_velodyne(path, xyz, reflectance)
    got = kitti.read_velodyne(path)
    np.testing.assert_array_equal(got[0], xyz)
    np.testing.assert_array_equal(got[1], reflectance)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="size: 797 bytes; expected a positive multiple of 16"):
        kitti.read_velodyne(path)
    xyz[7, 1] = np.nan
    kitti.write_velodyne(path, xyz, reflectance)
    with pytest.raises(DataError, match="point 7"):
        kitti.read_velodyne(path)
    kitti.write_velodyne(path, np.zeros_like(xyz), reflectance * 255)
    with pytest.raises(DataError, match=r"reflectance.*expected 0 to 1"):
        kitti.read_velodyne(path)


def test_pose_errors_name_the_line(tmp_path):
    path = tmp_path / "poses.txt"
    good = "1 0 0 0 0 1 0 0 0 0 1 0\n"
    for bad, message in (
        ("1 2 3", "line 2: 3 numbers; expected 12"),
        ("2 0 0 0 0 1 0 0 0 0 1 0", "line 2: .*no rotation"),
        ("a b", "line 2: .*expected numbers"),
    ):
        path.write_text(good + bad)
        with pytest.raises(DataError, match=message):
            kitti.read_poses(path)
    path.write_text("")
    with pytest.raises(DataError, match="rows: none"):
        kitti.read_poses(path)


def test_planar_motion_of_camera_axes():
    yaw = 0.3
    b = np.eye(4)  # left turn: the camera's y axis points down, so it turns by -yaw about it
    b[:3, :3] = [[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]]
    b[:3, 3] = [-2.0, 0.1, 5.0]  # 2 m to the left, 5 m ahead
    np.testing.assert_allclose(kitti.planar_motion(np.eye(4), b), [5, 2, yaw], atol=1e-12)
