"""The smoother rests at the most probable track: a dense Gauss-Newton of the same model."""

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.trajectory import rts_smooth
from tests.trajectory.dense_map import dense_map, exp6

COUNT, TWIST = 12, np.array([0.1, -0.05, 0.3, 0.1, -0.25, 0.15])


@pytest.fixture(scope="module")
def smooth(compiled):
    """With least squares and with Tukey's weights, one program each."""
    kernels = {
        kernel: compiled(lambda t, p, s, kernel=kernel: rts_smooth(t, p, None, s, robust=kernel))
        for kernel in ("none", "tukey")
    }
    return lambda t, p, s, kernel="none": kernels[kernel](t, p, np.array([s, s]))


def measured_screw(step, sigma, rng):
    t = step * np.arange(COUNT)
    first = np.eye(4)
    first[:3, :3], first[:3, 3] = Rotation.from_rotvec([0.4, -0.2, 0.9]).as_matrix(), [0.3, -0.2, 6]
    truth = first @ exp6(t[:, None] * TWIST)
    noisy = truth.copy()
    noisy[:, :3, 3] += rng.normal(size=(COUNT, 3)) * sigma
    turn = Rotation.from_rotvec(rng.normal(size=(COUNT, 3)) * sigma)
    noisy[:, :3, :3] = turn.as_matrix() @ truth[:, :3, :3]
    return t, truth, noisy


@pytest.mark.parametrize("step", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("sigma", [1e-4, 2e-3, 0.05])
def test_the_smoother_is_the_dense_map(step, sigma, smooth, rng):
    t, _, noisy = measured_screw(step, sigma, rng)
    poses, twists, covariance = dense_map(t, noisy, (sigma, sigma), (0.02, 0.02))
    with jax.enable_x64(True):
        found = smooth(t, noisy, sigma)
    np.testing.assert_allclose(found.poses, poses, atol=1e-3 * sigma)
    np.testing.assert_allclose(found.twists, twists, atol=1e-3 * sigma / step)
    spread = np.diagonal(covariance, axis1=1, axis2=2)
    found_spread = np.diagonal(found.covariance, axis1=1, axis2=2)
    np.testing.assert_allclose(found_spread, spread, rtol=1e-3)


@pytest.mark.parametrize("step, sigma", [(0.01, 1e-3), (1.0, 1e-3), (1.0, 0.115)])
def test_the_first_poses_are_no_worse_than_measured(step, sigma, smooth):
    """A turn of 17 degrees a step: the medoids of the ends are poses of five steps away."""
    raw, got, weights = [], [], []
    for seed in range(4):
        t, truth, noisy = measured_screw(step, sigma, np.random.default_rng(seed))
        found = smooth(t, noisy, sigma, "tukey")  # float32
        away = lambda p: np.linalg.norm(p[:5, :3, 3] - truth[:5, :3, 3], axis=1)  # noqa: E731, B023
        raw.append(away(noisy)), got.append(away(np.asarray(found.poses, float)))
        weights.append(np.asarray(found.weights))
    assert np.sqrt(np.mean(np.square(got))) < np.sqrt(np.mean(np.square(raw)))
    assert np.min(weights) > 0.2, "a true measurement is rejected"
