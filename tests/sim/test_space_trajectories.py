"""Trajectories: exact screws, smooth splines, and the distribution they were asked for."""

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from posejax.sim.space_trajectories import MotionSettings, PoseSpline, Screw, random_trajectory
from posejax.sim.space_views import SpaceCamera

SETTINGS, CAMERA = MotionSettings(), SpaceCamera()


def hat(twist):
    v, w = twist[:3], twist[3:]
    matrix = np.zeros((4, 4))
    matrix[:3, :3] = [[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]]
    matrix[:3, 3] = v
    return matrix


def random_controls(rng, count):
    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, :3, :3] = Rotation.random(random_state=rng).as_matrix() @ (
        Rotation.from_rotvec(rng.normal(0, 0.4, (count, 3))).as_matrix()
    )
    pose[:, :3, 3] = rng.normal((0, 0, 5), 1.0, (count, 3))
    return pose


def test_a_screw_is_an_exact_constant_twist(rng):
    trajectory = random_trajectory(rng, SETTINGS, 60.0, CAMERA, True)
    assert isinstance(trajectory, Screw)
    pose = trajectory.poses(np.arange(600) / 10)
    assert pose.dtype == np.float64
    step = pose[1:] @ np.linalg.inv(pose[:-1])
    np.testing.assert_allclose(step, step[:1].repeat(599, 0), atol=1e-12)
    np.testing.assert_allclose(
        pose[77], trajectory.start @ expm(7.7 * hat(trajectory.twist)), atol=1e-12
    )


def test_a_spline_of_equal_steps_is_a_screw(rng):
    twist = np.array([0.1, -0.05, 0.2, 0.02, 0.03, -0.01])
    controls = np.stack([expm(4.0 * k * hat(twist)) for k in range(6)])
    pose = PoseSpline(controls, 4.0).poses(np.array([0.0, 1.3, 7.9, 12.0]))
    # A uniform cubic B-spline reproduces lines, one control later.
    for t, found in zip((0.0, 1.3, 7.9, 12.0), pose, strict=True):
        np.testing.assert_allclose(found, expm((4.0 + t) * hat(twist)), atol=1e-12)


def test_a_spline_is_twice_continuously_differentiable(rng):
    spline = PoseSpline(random_controls(rng, 7), 5.0)
    h = 1e-3
    around = spline.poses((np.array([5.0, 10.0, 15.0])[:, None] + h * np.arange(-3, 4)).ravel())
    around = around.reshape(3, 7, 4, 4)
    left = around[:, 3] - 2 * around[:, 2] + around[:, 1]
    right = around[:, 5] - 2 * around[:, 4] + around[:, 3]
    scale = np.abs(left).max() / h**2
    assert scale > 1e-2
    assert np.abs(left - right).max() / h**2 < 0.02 * scale
    rotation = around[..., :3, :3]
    np.testing.assert_allclose(
        rotation @ rotation.swapaxes(-1, -2), np.broadcast_to(np.eye(3), rotation.shape), atol=1e-12
    )


def test_random_motions_are_in_view_and_usual(rng):
    z, starts = [], []
    for number in range(12):
        trajectory = random_trajectory(rng, SETTINGS, 60.0, CAMERA, number % 4 == 3)
        pose = trajectory.poses(np.linspace(0, 60, 601))
        path = pose[:, :3, 3]
        assert path[:, 2].min() > 2.95 and path[:, 2].max() < 8.3
        pixel = CAMERA.project(path)
        assert (pixel > 100).all() and (pixel < (1180, 620)).all()
        speed = np.linalg.norm(np.diff(path, axis=0), axis=1).sum() / 60
        turn = Rotation.from_matrix(pose[:-1, :3, :3].swapaxes(1, 2) @ pose[1:, :3, :3])
        assert 0.04 < speed < 0.18
        assert 0.5 < np.rad2deg(turn.magnitude().sum()) / 60 < 3.0
        z.append(path[:, 2])
        starts.append(pose[0, :3, :3])
    z = np.concatenate(z)
    assert 4.7 < z.mean() < 6.6 and 0.9 < z.std() < 1.8
    # Rotations that are uniform average to zero: each entry has a variance of 1/3.
    assert np.abs(np.mean(starts, axis=0)).max() < 3.5 * np.sqrt(1 / 3 / len(starts))


def test_the_same_seed_gives_the_same_motion():
    t = np.linspace(0, 10, 50)
    for helix in (False, True):
        a, b, c = (
            random_trajectory(np.random.default_rng(seed), SETTINGS, 10.0, CAMERA, helix).poses(t)
            for seed in (3, 3, 4)
        )
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 0.1


def test_motions_that_cannot_be_in_view_are_refused(rng):
    settings = MotionSettings(mean=(9.0, 0.0), sigma=(0.01, 0.01))
    with pytest.raises(ValueError, match="in view"):
        random_trajectory(rng, settings, 1.0, CAMERA, True)
