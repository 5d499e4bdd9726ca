"""Voxel grids and level frames."""

import jax
import numpy as np
import pytest

from posejax.bev import VoxelGrid, level_frame

GRID = VoxelGrid((4, 2, 5), (-2.5, -1, 0), (2.5, 3, 8))


def test_centres_lie_in_their_voxels():
    centers = GRID.centers()
    assert centers.shape == (4, 2, 5, 3) and GRID.voxel_size == (1, 2, 2)
    np.testing.assert_array_equal(centers[0, 0, 0], (-2, 0, 1))
    np.testing.assert_array_equal(centers[3, 1, 4], (2, 2, 7))
    index = np.asarray(GRID.index_from_xyz(centers))
    np.testing.assert_allclose(index[2, 1, 3], (3.5, 1.5, 2.5), atol=1e-6)
    np.testing.assert_allclose(GRID.xyz_from_index(index), centers, atol=1e-6)


def test_the_default_is_the_original():
    grid = VoxelGrid()
    assert grid.voxel_size == (0.5, 1.25, 0.5) and grid.map_shape == (200, 200)
    # The original's mem = (x - MIN - vox / 2) / vox has its first centre at 0.
    x = np.array([3.2, -1.1, 17.9])
    mem = (x - np.array([-50, -4, -50]) - np.array([0.5, 1.25, 0.5]) / 2) / [0.5, 1.25, 0.5]
    np.testing.assert_allclose(np.asarray(grid.index_from_xyz(x)) - 0.5, mem, atol=1e-4)


@pytest.mark.parametrize(
    "shape, lower, upper",
    [
        ((4, 2), (0, 0, 0), (1, 1, 1)),
        ((4, 2, 0), (0, 0, 0), (1, 1, 1)),
        ((4, 2, 1.5), (0, 0, 0), (1, 1, 1)),
        ((4, 2, 1), (0, 1, 0), (1, 1, 1)),
        ((4, 2, 1), (0, 0, float("nan")), (1, 1, 1)),
    ],
)
def test_what_is_refused(shape, lower, upper):
    with pytest.raises(ValueError):
        VoxelGrid(shape, lower, upper)


def test_a_pitched_camera_gets_a_level_grid():
    yaw, pitch = 0.7, np.deg2rad(15)
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = 1, 2, 1.5
    level = np.asarray(level_frame(pose))
    np.testing.assert_allclose(np.linalg.det(level[:3, :3]), 1, atol=1e-6)
    np.testing.assert_allclose(level[:3, 1], (0, 0, -1), atol=1e-6)
    np.testing.assert_allclose(level[:3, 2], (np.cos(yaw), np.sin(yaw), 0), atol=1e-6)
    np.testing.assert_allclose(level[:3, 3], pose[:3, 3])
    # The plane of the camera is 13 m under the road 50 m ahead; the level one is not.
    ahead = np.array([0, 0, 50, 1])
    assert (level @ ahead)[2] == pytest.approx(1.5) and (pose @ ahead)[2] == pytest.approx(
        -11.4, abs=0.1
    )
    straight_down = np.eye(4)
    straight_down[:3, :3] = [[0, 1, 0], [1, 0, 0], [0, 0, -1]]
    gradient = jax.jit(jax.jacfwd(level_frame))(np.float32(straight_down))
    assert np.isfinite(gradient).all()
    with pytest.raises(ValueError, match="vmap"):
        level_frame(np.zeros((2, 4, 4)))
