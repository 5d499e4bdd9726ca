"""The smoother rests at the most probable track: a dense Gauss-Newton of the same model."""

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.trajectory import rts_smooth
from tests.trajectory.dense_map import dense_map, exp6

TWIST = np.array([0.1, -0.05, 0.3, 0.1, -0.25, 0.15])


@pytest.fixture(scope="module")
def smooth(compiled):
    """Least squares of 12 poses and Tukey's weights of 30, one program each."""
    kernels = {
        kernel: compiled(lambda t, p, v, s, kernel=kernel: rts_smooth(t, p, v, s, robust=kernel))
        for kernel in ("none", "tukey")
    }

    def run(t, poses, sigma, kernel="none", valid=True):
        mask = np.broadcast_to(valid, t.shape)
        return kernels[kernel](t, poses, mask, np.array([sigma, sigma]))

    return run


def measured_screw(step, sigma, rng, *, count=12, degrees=None):
    """(t, truth, measured); the turn of each step is that of TWIST or so many degrees."""
    t, twist = step * np.arange(count), TWIST.copy()
    if degrees is not None:
        twist[3:] *= np.deg2rad(degrees) / step / np.linalg.norm(twist[3:])
    first = np.eye(4)
    first[:3, :3], first[:3, 3] = Rotation.from_rotvec([0.4, -0.2, 0.9]).as_matrix(), [0.3, -0.2, 6]
    motion = exp6(step * twist[None])[0]
    truth = np.stack([first @ np.linalg.matrix_power(motion, k) for k in range(count)])
    noisy = truth.copy()
    noisy[:, :3, 3] += rng.normal(size=(count, 3)) * sigma
    turn = Rotation.from_rotvec(rng.normal(size=(count, 3)) * sigma)
    noisy[:, :3, :3] = turn.as_matrix() @ truth[:, :3, :3]
    return t, truth, noisy


@pytest.mark.parametrize(
    "step, sigma, degrees",
    [(h, s, None) for h in (0.01, 0.1, 1.0) for s in (1e-4, 2e-3, 0.05)]
    + [(1.0, 0.02, 60), (1.0, 0.02, 100), (0.1, 0.02, 100)],
)
def test_the_smoother_is_the_dense_map(step, sigma, degrees, smooth, rng):
    t, _, noisy = measured_screw(step, sigma, rng, degrees=degrees)
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
        t, truth, noisy = measured_screw(step, sigma, np.random.default_rng(seed), count=30)
        found = smooth(t, noisy, sigma, "tukey")  # float32
        away = lambda p: np.linalg.norm(p[:5, :3, 3] - truth[:5, :3, 3], axis=1)  # noqa: E731, B023
        raw.append(away(noisy)), got.append(away(np.asarray(found.poses, float)))
        weights.append(np.asarray(found.weights))
    assert np.sqrt(np.mean(np.square(got))) < np.sqrt(np.mean(np.square(raw)))
    assert np.min(weights) > 0.2, "a true measurement is rejected"


@pytest.mark.parametrize(
    "step, degrees, gap, share",
    [
        (1.0, 34, 0, 0),
        (1.0, 57, 0, 0),
        (1.0, 100, 0, 0),
        (1.0, 17, 8, 0),
        (1.0, 57, 8, 0),  # more than a whole turn passes unseen
        (1.0, 100, 8, 0),
        (0.1, 100, 0, 0),
        (0.01, 0.6, 8, 0),
        (1.0, 17, 0, 0.05),
        (1.0, 57, 0, 0.2),
        (1.0, 100, 0, 0.2),
    ],
)
def test_large_turns_and_gaps_cost_no_measurement(step, degrees, gap, share, smooth, spoil):
    """Medoids of poses that turn so far, or of both sides of a gap, are no start."""
    sigma = 0.02
    for seed in range(3):
        rng = np.random.default_rng(seed)
        t, truth, noisy = measured_screw(step, sigma, rng, count=30, degrees=degrees)
        noisy, gross = spoil(noisy, rng, 0, 0, share)
        valid = (np.arange(30) < 10) | (np.arange(30) >= 10 + gap)
        found = smooth(t, noisy, sigma, "tukey", valid)  # float32
        weights = np.asarray(found.weights)
        assert weights[valid & ~gross].min() > 0.05, "a true measurement is rejected"
        assert np.all(weights[gross] < 0.05)
        away = np.linalg.norm(np.asarray(found.poses)[:, :3, 3] - truth[:, :3, 3], axis=1)
        assert away.max() < 4 * sigma
