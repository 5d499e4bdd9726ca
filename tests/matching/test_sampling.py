"""Sampling a warp: distribution, balance, padding; pairs of keypoints against loops."""

import jax
import numpy as np
import pytest

from posejax.matching import (
    all_matches,
    match_keypoints,
    mutual_nearest_neighbours,
    sample_matches,
)

KEY = jax.random.key(3)
SHAPE = (24, 32)
X, Y = np.meshgrid(np.arange(32) + 0.5, np.arange(24) + 0.5)
WARP = np.stack([0.5 * X + 4, Y], axis=-1).astype(np.float32)


def test_drawn_once_and_by_certainty():
    certainty = np.zeros(SHAPE, np.float32)
    certainty[:, :16] = 0.04
    certainty[:, 16:] = 0.01
    draw = jax.jit(jax.vmap(lambda key: sample_matches(key, WARP, certainty, 100, balance=False)))
    found = draw(jax.random.split(KEY, 50))
    cells = np.asarray(found.xy_a)
    assert all(len(np.unique(one, axis=0)) == 100 for one in cells)
    np.testing.assert_allclose(found.xy_b[..., 0], 0.5 * cells[..., 0] + 4, atol=1e-5)
    # Four to one, less what drawing without replacement takes from the likelier half.
    assert 3.2 < np.mean(cells[..., 0] < 16) / np.mean(cells[..., 0] > 16) < 4
    want = np.where(cells[..., 0] < 16, np.float32(0.04), np.float32(0.01))
    np.testing.assert_array_equal(found.weights, want)


def test_above_the_saturation_all_are_alike():
    certainty = np.where(X < 16, 0.9, 0.06).astype(np.float32)
    found = sample_matches(KEY, WARP, certainty, 300, balance=False)
    assert 0.4 < np.mean(np.asarray(found.xy_a)[:, 0] < 16) < 0.6


def test_balance_brings_in_the_sparse_part():
    """A quarter of A spreads over all of B; the rest of A falls into one corner of it."""
    warp = WARP.copy()
    warp[:, :24] = [1.0, 1.0]
    warp[:, 24:, 0] = 4 * (X[:, 24:] - 24)
    certainty = np.ones(SHAPE, np.float32)

    def share(balance):
        found = sample_matches(KEY, warp, certainty, 100, balance=balance)
        return np.mean(np.asarray(found.xy_a)[:, 0] > 24)

    assert share(False) < 0.35
    assert share(True) > share(False) + 0.1


def test_too_few_and_none_are_padded_with_weight_zero():
    certainty = np.zeros(SHAPE, np.float32)
    certainty[3, 4:9] = [0.5, np.nan, 0.2, 1.0, 0.7]
    warp = WARP.copy()
    warp[3, 8] = np.inf
    found = sample_matches(KEY, warp, certainty, 1000)
    assert found.xy_a.shape == (1000, 2) and np.isfinite(found.xy_b).all()
    assert np.sum(np.asarray(found.weights) > 0) == 3
    assert not np.asarray(sample_matches(KEY, warp, 0 * certainty, 10).weights).any()
    every = all_matches(warp, certainty)
    assert np.sum(np.asarray(every.weights) > 0) == 3
    np.testing.assert_allclose(every.xy_a[3 * 32 + 4], [4.5, 3.5])
    with pytest.raises(ValueError, match=r"\[H, W, 2\]"):
        sample_matches(KEY, warp[0], certainty, 10)


def test_gradients_reach_the_warp_and_are_finite():
    def loss(warp, certainty):
        found = sample_matches(KEY, warp, certainty, 20)
        return (found.xy_b * found.weights[:, None]).sum()

    certainty = np.where(X < 16, 0.5, 0).astype(np.float32)
    gradient = jax.grad(loss, (0, 1))(WARP, certainty)
    assert all(np.isfinite(g).all() for g in gradient)
    assert np.count_nonzero(gradient[1]) == 20


def test_mutual_nearest_neighbours_equal_a_loop(rng):
    a, b = rng.standard_normal((30, 8)), rng.standard_normal((25, 8))
    b[:10] = 3 * a[5:15] + 0.05 * rng.standard_normal((10, 8))
    valid_a, valid_b = rng.random(30) < 0.8, rng.random(25) < 0.8
    got = mutual_nearest_neighbours(a, b, valid_a=valid_a, valid_b=valid_b, min_similarity=0.5)
    cosine = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    count = 0
    for i in range(30):
        best = max(np.flatnonzero(valid_b), key=lambda j: cosine[i, j])
        back = max(np.flatnonzero(valid_a), key=lambda k: cosine[k, best])
        mutual = valid_a[i] and back == i and cosine[i, best] >= 0.5
        assert bool(got.mutual[i]) == mutual
        if mutual:
            count += 1
            assert got.index[i] == best
            np.testing.assert_allclose(got.score[i], cosine[i, best], atol=1e-5)
    assert count >= 5
    nobody = mutual_nearest_neighbours(a, b, valid_a=np.zeros(30, bool))
    assert not np.asarray(nobody.mutual).any()


def test_an_empty_descriptor_has_a_finite_gradient(rng):
    a, b = rng.standard_normal((6, 8)).astype(np.float32), rng.standard_normal((5, 8))
    a[2] = 0
    gradient = jax.grad(lambda a: mutual_nearest_neighbours(a, b).score.sum())(a)
    assert np.isfinite(gradient).all() and not np.asarray(gradient)[2].any()
    assert np.abs(gradient).max() > 0


def test_keypoints_follow_the_warp():
    xy_a = np.array([[3.0, 4], [10, 20], [10.4, 20], [31, 2], [np.nan, 1], [40, 3]])
    xy_b = np.array([[9.0, 20.1], [5.5, 4], [30, 30], [np.nan, np.nan]])
    found = match_keypoints(WARP, np.full(SHAPE, 0.7), xy_a, xy_b, radius=1.0)
    np.testing.assert_array_equal(found.mutual, [True, True, False, False, False, False])
    np.testing.assert_array_equal(np.asarray(found.index)[:2], [1, 0])
    np.testing.assert_allclose(np.asarray(found.score)[:2], 0.7, atol=1e-6)
