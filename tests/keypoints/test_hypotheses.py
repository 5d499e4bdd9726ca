"""Poses from heatmaps: right, weighed rightly, covered by their covariance, and finite always."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from posejax.keypoints import pose_hypotheses
from posejax.keypoints.descent import look, solve_spd
from posejax.keypoints.mixture import mixture
from posejax.keypoints.peaks import block_probability, peaks_of
from posejax.keypoints.rotations import rotation_grid
from posejax.keypoints.start import distinct
from tests.keypoints.scenes import (
    BOX,
    SIZE,
    K,
    degrees_between,
    normal_logits,
    projected,
    random_pose,
    twist_between,
)

HALF_TURN = np.diag([-1.0, 1, -1, 1])
COUNT, NOISE = 96, 1.2


@pytest.fixture(scope="module")
def solve():
    """Of a stack of heatmaps of one size: compiled once for all tests."""
    return jax.jit(jax.vmap(lambda x: pose_hypotheses(x, BOX, K)))


@pytest.fixture(scope="module")
def seen(solve):
    """(truths, hypotheses) of noisy heatmaps that know how noisy they are; a tenth is wrong."""
    rng = np.random.default_rng(1)
    truths = np.stack([random_pose(rng) for _ in range(COUNT)])
    logits = []
    for pose in truths:
        xy = projected(pose) + NOISE * rng.normal(size=(26, 2))
        wrong = rng.random(26) < 0.1
        xy[wrong] = rng.uniform(4, 60, (wrong.sum(), 2))
        outside = np.any((xy < 2) | (xy > SIZE - 2), axis=1)  # of these a heatmap knows nothing
        logits.append(np.where(outside, 0, normal_logits(xy, sigma=NOISE)))
    return truths, solve(np.array(logits, np.float32))


def test_a_score_that_is_no_number_is_the_worst():
    rotations = jnp.asarray(rotation_grid(64), jnp.float32)[::8]
    score = jnp.array([1, jnp.nan, 3, 2, 0, -1, jnp.nan, -2])
    assert distinct(score, rotations, 4, 1e-3).tolist() == [2, 3, 0, 4]
    assert distinct(jnp.full(8, jnp.nan), rotations, 2, 1e-3).tolist() == [0, 0]


@jax.jit
@jax.vmap
def newton_step(pose, logits):
    """[6] by how much one more step would move a pose."""
    peaks = peaks_of(logits, block_probability(logits), modes=2, radius=None)
    here = look(pose, *(jnp.asarray(x, jnp.float32) for x in (BOX, K)), mixture(peaks))
    return solve_spd(here.normal, here.slope)


def test_hypotheses_are_refined_to_the_end(solve):
    rng = np.random.default_rng(4)
    xy = [projected(random_pose(rng)) + NOISE * rng.normal(size=(26, 2)) for _ in range(COUNT)]
    logits = np.array([normal_logits(x, sigma=NOISE) for x in xy], np.float32)
    step = np.asarray(newton_step(solve(logits).pose[:, 0], logits))
    turn = np.degrees(np.linalg.norm(step[:, 3:], axis=1))
    assert np.quantile(turn, 0.95) < 0.05


def test_the_best_is_right(seen):
    truths, found = seen
    error = degrees_between(found.pose[:, 0], truths)
    assert np.median(error) < 2 and error.max() < 10
    assert np.mean(np.asarray(found.weight)[:, 0] > 0.95) > 0.9
    np.testing.assert_allclose(np.asarray(found.weight).sum(1), 1, atol=1e-5)
    assert np.all(np.diff(np.asarray(found.log_score), axis=1) <= 1e-6)
    believed = np.asarray(found.inliers)[:, 0].mean()
    assert 0.7 < believed < 0.95


def test_the_covariance_covers(seen):
    truths, found = seen
    steps = np.stack([twist_between(p, t) for p, t in zip(found.pose[:, 0], truths, strict=True)])
    covariance = np.asarray(found.covariance[:, 0], np.float64)
    squares = np.einsum("bi,bi->b", steps, np.linalg.solve(covariance, steps[..., None])[..., 0])
    assert 0.90 <= np.mean(squares < chi2.ppf(0.95, 6)) <= 0.98


def test_back_to_front_comes_out_twice_with_the_right_weights(solve, rng):
    truths = np.stack([random_pose(rng) for _ in range(COUNT)])
    shares = rng.uniform(0.25, 0.75, COUNT)
    logits = [
        np.log(
            share * np.exp(normal_logits(projected(pose)))
            + (1 - share) * np.exp(normal_logits(projected(pose @ HALF_TURN)))
        )
        for pose, share in zip(truths, shares, strict=True)
    ]
    found = solve(np.array(logits, np.float32))
    both = np.stack([degrees_between(found.pose, x[:, None]) for x in (truths, truths @ HALF_TURN)])
    assert np.mean((both.min(axis=2) < 5).all(axis=0)) > 0.97
    weight = np.asarray(found.weight)
    # Of several starts that come to the same pose one has the weight, not always the nearest.
    mine = np.sum(weight * (both < 10), axis=2)
    odds = np.abs(mine[0] / (mine[0] + mine[1]) - shares)
    assert np.median(odds) < 0.04 and np.mean(mine[0] + mine[1] > 0.9) > 0.95


def test_a_faint_second_mode_is_listed_and_no_pose_twice(solve):
    # Starts that all end in the strong mode are one hypothesis; then there is room for others.
    rng = np.random.default_rng(5)
    truths = np.stack([random_pose(rng) for _ in range(COUNT)])
    logits = [
        np.log(
            0.95 * np.exp(normal_logits(projected(pose)))
            + 0.05 * np.exp(normal_logits(projected(pose @ HALF_TURN)))
        )
        for pose in truths
    ]
    found = solve(np.array(logits, np.float32))
    pose, weight = np.asarray(found.pose), np.asarray(found.weight)
    both = [degrees_between(pose, x[:, None]).min(axis=1) for x in (truths, truths @ HALF_TURN)]
    assert np.mean(np.max(both, axis=0) < 5) > 0.9
    count = (weight > 0).sum(axis=1)
    assert count.mean() > 4
    for poses, n in zip(pose, count, strict=True):
        apart = degrees_between(poses[:n, None], poses[None, :n]) + 180 * np.eye(n)
        assert apart.min() > 11.4  # `same`
        np.testing.assert_array_equal(poses[n:], np.broadcast_to(poses[n - 1], poses[n:].shape))
    assert np.all(np.diff(np.asarray(found.log_score), axis=1) <= 1e-6)


def test_stride_and_intrinsics_belong_together(rng):
    pose = random_pose(rng)
    logits = normal_logits(projected(pose))
    larger = K * np.array([[2], [2], [1]])
    found = pose_hypotheses(logits, BOX, larger, stride=2, modes=2)
    assert degrees_between(found.pose[0], pose) < 0.5
    np.testing.assert_allclose(found.pose[0, :3, 3], pose[:3, 3], atol=0.02)


@pytest.mark.slow
def test_hypotheses_of_hardly_anything_are_finite(solve):
    rng = np.random.default_rng(2)
    one = np.zeros((64, 64, 26))
    one[..., 0] = normal_logits(np.full((1, 2), 30.0))[..., 0]
    same = np.repeat(normal_logits(np.full((1, 2), 30.0)), 26, axis=2)
    noise, huge = rng.normal(size=(2, 64, 64, 26)) * np.array([1, 1e4])[:, None, None, None]
    found = solve(np.stack([np.zeros_like(one), one, same, noise, huge]).astype(np.float32))
    for leaf in found:
        assert np.isfinite(leaf).all()
    np.testing.assert_allclose(np.asarray(found.weight).sum(1), 1, atol=1e-5)
    depth = np.asarray(found.pose)[..., 2, 3]
    assert np.all(depth > 0)

    def total(logits, points):
        found = pose_hypotheses(logits, points, K)
        return sum(
            jnp.sum(x) for x in (found.pose, found.log_score, found.weight, found.covariance)
        )

    slope = jax.jit(jax.vmap(jax.grad(total, (0, 1)), (0, None)))
    for leaf in slope(np.stack([0 * one, one, same]).astype(np.float32), BOX):
        assert np.isfinite(leaf).all()
    # All points of the body in one place.
    assert np.all(np.isfinite(slope(noise[None].astype(np.float32), 0 * BOX)[0]))


def test_derivatives_are_those_of_differences(rng):
    pose = random_pose(rng)
    xy = projected(pose) + 0.8 * rng.normal(size=(26, 2))
    logits = normal_logits(xy, sigma=1.3) + 0.1 * rng.normal(size=(64, 64, 26))
    change = rng.normal(size=logits.shape)
    weight = rng.normal(size=(4, 4))

    def value(logits):
        found = pose_hypotheses(logits, box, k, modes=1, iterations=8)
        return jnp.sum(found.pose[0] * weight) + found.log_score[0]

    with jax.enable_x64(True):
        box, k = (jnp.asarray(x, jnp.float64) for x in (BOX, K))
        slope = np.vdot(jax.jit(jax.grad(value))(jnp.asarray(logits)), change)
        ahead, behind = (float(value(logits + s * change)) for s in (1e-5, -1e-5))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-3)


def test_vmap_is_a_loop(rng, solve):
    poses = [random_pose(rng) for _ in range(3)]
    logits = np.stack([normal_logits(projected(p)) for p in poses]).astype(np.float32)
    together = solve(logits)
    for k in range(3):
        apart = pose_hypotheses(logits[k], BOX, K)
        np.testing.assert_allclose(together.pose[k, 0], apart.pose[0], atol=1e-3)
        np.testing.assert_allclose(together.log_score[k, 0], apart.log_score[0], atol=1e-3)
