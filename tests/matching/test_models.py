"""Fundamental matrix and homography: accuracy among outliers, padding, degenerate input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.geometry import symmetric_epipolar_distance
from posejax.matching import estimate_fundamental, estimate_homography
from tests.matching.scenes import make_pair

N = 160
KEY = jax.random.key(1)
fundamental = functools.partial(estimate_fundamental, iterations=1024)
homography = functools.partial(estimate_homography, iterations=512)


@pytest.mark.slow
def test_fundamental_among_outliers():
    rng = np.random.default_rng(0)
    for seed in range(3):
        pair = make_pair(rng, N, outliers=0.4, noise=0.5)
        found = fundamental(jax.random.fold_in(KEY, seed), pair.xy_a, pair.xy_b)
        assert found.valid
        distance = symmetric_epipolar_distance(found.matrix, pair.xy_a, pair.xy_b)
        assert np.sqrt(np.median(distance[pair.good])) < 1.5
        inliers = np.asarray(found.inliers)
        assert inliers[pair.good].mean() > 0.95 and inliers[~pair.good].mean() < 0.2
        singular = np.linalg.svd(np.asarray(found.matrix, np.float64))[1]
        assert singular[2] < 1e-6 * singular[0]


@pytest.mark.slow
def test_homography_among_outliers():
    rng = np.random.default_rng(1)
    for seed in range(3):
        pair = make_pair(rng, N, outliers=0.6, noise=0.5, plane=True)
        found = homography(jax.random.fold_in(KEY, seed), pair.xy_a, pair.xy_b)
        ends = np.c_[pair.xy_a, np.ones(N)] @ np.asarray(found.matrix, np.float64).T
        error = np.linalg.norm(ends[:, :2] / ends[:, 2:] - pair.xy_b, axis=1)
        assert found.valid and np.median(error[pair.good]) < 1.2
        assert np.asarray(found.inliers)[pair.good].mean() > 0.95
        assert np.asarray(found.inliers)[~pair.good].mean() < 0.1


def test_without_a_sample_that_has_a_model_nothing_is_valid():
    """Four points of a line have no homography; the identity fits them all the same."""
    line = np.stack([np.linspace(0, 600, 24), np.linspace(9, 400, 24)], axis=1)
    found = estimate_homography(KEY, line, line, iterations=64)
    assert found.samples > 0 and not found.valid and not np.asarray(found.inliers).any()


@pytest.mark.slow
@pytest.mark.parametrize("estimate, size", [(fundamental, 7), (homography, 4)])
def test_masks_gradients_and_degenerate_points(estimate, size):
    pair = make_pair(np.random.default_rng(2), N, noise=0.3, plane=size == 4)
    weights = np.ones(N, np.float32)
    weights[100:] = 0
    b = pair.xy_b.copy()
    b[100:] = np.nan

    def loss(a, b, w):
        found = estimate(KEY, a, b, weights=w)
        return jnp.sum(found.matrix * jnp.arange(9.0).reshape(3, 3)), found

    run = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
    line = np.stack([np.linspace(0, 600, N), np.linspace(9, 400, N)], axis=1).astype(np.float32)
    few = np.where(np.arange(N) < size - 1, 1, 0).astype(np.float32)
    cases = [(pair.xy_a, b, weights, True), (pair.xy_a, b, 0 * weights, False)]
    cases += [
        (pair.xy_a, b, few, False),
        (line, line, weights, None),
        (0 * line, line, weights, None),
    ]
    for a, b, w, valid in cases:
        (_, found), gradient = run(a, b, w)
        assert valid is None or bool(found.valid) == valid
        assert not np.asarray(found.inliers)[100:].any()
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((found, gradient)))
        if valid:
            assert any(np.abs(x[:100]).max() > 0 for x in gradient)
            assert not np.asarray(gradient[0])[100:].any()
