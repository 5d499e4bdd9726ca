"""LiDAR points of frames of three data sets."""

import numpy as np
import pytest

from posejax.data import av2
from posejax.data.errors import DataError
from posejax.data.nuscenes import read_nuscenes
from posejax.data.rig_points import gather_points, read_lidar
from tests.data import nuscenes_tree


def test_formats(tmp_path):
    np.array([[1, 2, 3, 51, 7]], np.float32).tofile(tmp_path / "a.pcd.bin")
    np.save(tmp_path / "a.npy", np.array([[1, -2, 3, 0.2]], np.float32))
    one = np.full(1, 51, np.uint8)
    sweep = av2.Sweep(np.array([[1, 2, 3]], np.float32), one, one, np.zeros(1, np.int32))
    av2.write_sweep(tmp_path / "a.feather", sweep)
    for name in ("a.pcd.bin", "a.npy", "a.feather"):
        np.testing.assert_allclose(read_lidar(tmp_path / name), [[1, 2, 3, 0.2]], rtol=1e-6)
    with pytest.raises(DataError, match="suffix"):
        read_lidar(tmp_path / "points")


def test_past_points_come_to_the_present(tmp_path):
    nuscenes_tree.write(tmp_path)
    frame = read_nuscenes(tmp_path, sweeps=2)[1]
    for file, point in zip(
        [frame.lidar, *(sweep.file for sweep in frame.sweeps)],
        ([1.0, 9, 0], [1, 9.5, 0], [1, 0, 0]),
        strict=True,
    ):
        np.array([[*point, 255, 0]], np.float32).tofile(file)
    # Half a metre farther when the vehicle was half a metre behind; the third is the vehicle.
    expected = [[10, -1, 1.8, 1, 0], [10, -1, 1.8, 1, 0.05]]
    np.testing.assert_allclose(gather_points(frame), expected, atol=1e-5)
