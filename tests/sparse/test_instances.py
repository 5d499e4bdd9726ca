"""Things out of votes for their centres."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.sparse import decode_point_instances

CENTERS = np.array([[0.0, 0, 1], [1.2, 0, 1], [0, 2.0, 0.4], [1.23, 0.9, 1.0]])
SIZES = (120, 80, 60, 140)
N = 480  # what is left over is on no thing
TRUTH = np.repeat(np.arange(1, 5), SIZES)
TRUTH = np.concatenate([TRUTH, np.zeros(N - len(TRUTH), int)])


def votes(rng, noise=0.06):
    found = rng.uniform(-3, 3, (N, 3))
    found[: sum(SIZES)] = CENTERS[TRUTH[: sum(SIZES)] - 1] + rng.normal(0, noise, (sum(SIZES), 3))
    return found.astype(np.float32)


def test_every_thing_is_found_with_its_points(rng):
    given = votes(rng)
    found = decode_point_instances(given, TRUTH > 0)
    valid = np.asarray(found.valid)
    assert valid.sum() == 4 and valid[:4].all() and (np.diff(found.score[:4]) <= 0).all()
    order = [3, 0, 1, 2]  # the largest first
    np.testing.assert_allclose(found.center[:4], CENTERS[order], atol=0.05)
    rank = np.argsort(order) + 1
    right = np.asarray(found.label)[: sum(SIZES)] == rank[TRUTH[: sum(SIZES)] - 1]
    assert right.mean() > 0.99
    assert not np.asarray(found.label)[sum(SIZES) :].any()
    np.testing.assert_array_equal(found.points[:4], np.bincount(found.label)[1:5])


def test_stray_votes_make_no_things_and_join_those_they_point_to(rng):
    given = votes(rng)
    found = decode_point_instances(given, np.ones(N, bool))
    assert int(found.valid.sum()) == 4
    far = np.linalg.norm(given[:, None] - np.asarray(found.center)[None, :4], axis=2).min(1)
    np.testing.assert_array_equal(np.asarray(found.label) > 0, far < 0.3)


def test_of_two_near_peaks_the_greater_stays():
    """A vote's neighbourhood is a cube of 0.3 m; two piles 0.25 m apart would both be peaks."""
    piles = np.array([[0.05, 0, 0], [0.35, 0, 0]])
    given = np.repeat(piles, [30, 50], axis=0)
    two = decode_point_instances(given, np.ones(80, bool), radius=0.2)
    one = decode_point_instances(given, np.ones(80, bool), radius=0.4)
    assert int(two.valid.sum()) == 2 and int(one.valid.sum()) == 1
    np.testing.assert_allclose(one.center[0], piles[1], atol=1e-6)
    assert one.points[0] == 80
    light = np.repeat([1.0, 0.1], [30, 50])
    other = decode_point_instances(given, np.ones(80, bool), light, radius=0.4)
    np.testing.assert_allclose(other.center[0], piles[0], atol=1e-6)
    np.testing.assert_allclose(other.score[0], 30, rtol=1e-6)


def test_a_plateau_is_one_thing_and_few_votes_are_none():
    given = np.zeros((60, 3)) + np.repeat([[0.05, 0.05, 0.05], [0.15, 0.05, 0.05]], 30, axis=0)
    found = decode_point_instances(given, np.ones(60, bool), radius=0.05)
    assert int((found.score > 0).sum()) == 1 and found.score[0] == 60
    assert not np.asarray(decode_point_instances(given, np.ones(60, bool), least=61.0).valid).any()
    empty = decode_point_instances(given, np.zeros(60, bool))
    assert not np.asarray(empty.valid).any() and not np.asarray(empty.label).any()
    assert np.isfinite(empty.center).all()


def test_wild_votes_are_left_out(rng):
    given = votes(rng)
    clean = decode_point_instances(given, TRUTH > 0)
    given[-3:] = [[np.nan, 0, 0], [1e30, 0, 0], [3e4, -3e4, 3e4]]
    valid = (TRUTH > 0) | (np.arange(N) >= N - 3)
    found = decode_point_instances(given, valid)
    for a, b in zip(found, clean, strict=True):
        np.testing.assert_array_equal(a, b)


def test_more_things_than_rows_keep_the_greatest_and_maps_stack(rng):
    given = votes(rng)
    found = decode_point_instances(given, TRUTH > 0, count=2)
    assert found.center.shape == (2, 3)
    np.testing.assert_allclose(found.center, CENTERS[[3, 0]], atol=0.05)
    decode = jax.vmap(lambda v: decode_point_instances(v, TRUTH > 0, count=2))
    np.testing.assert_array_equal(decode(jnp.stack([given, given])).label[1], found.label)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_points_does_not_matter(seed):
    """Votes are of whole numbers of millimetres and weight one: sums are nearly exact."""
    rng = np.random.default_rng(seed)
    given = np.round(votes(rng), 3)
    order = rng.permutation(N)
    a = decode_point_instances(given, TRUTH > 0)
    b = decode_point_instances(given[order], (TRUTH > 0)[order])
    np.testing.assert_array_equal(np.asarray(a.label)[order], b.label)
    np.testing.assert_allclose(a.center, b.center, atol=1e-5)


def test_peaks_that_are_thinned_take_no_rows():
    """Two piles that are one thing and a smaller one far off, of two rows; then without a row."""
    piles = np.array([[0.08, 0, 0], [0.33, 0, 0], [2.0, 0, 0]])
    given = np.repeat(piles, [50, 40, 30], axis=0)
    found = decode_point_instances(given, np.ones(120, bool), count=2)
    np.testing.assert_allclose(found.center, piles[[0, 2]], atol=1e-6)
    np.testing.assert_array_equal(found.points, [90, 30])
    assert found.left_out == 0
    one = decode_point_instances(given, np.ones(120, bool), count=1)
    np.testing.assert_array_equal(one.points, [90])
    assert one.left_out == 1


def test_peaks_that_are_not_looked_at_are_left_out():
    given = np.repeat(np.arange(20.0), 3)[:, None] * np.array([1, 0, 0])
    found = decode_point_instances(given, np.ones(60, bool), count=1, least=3.0)
    assert found.left_out == 19 and found.center.shape == (1, 3)
    apart = decode_point_instances(given, np.ones(60, bool), count=20, least=3.0)
    assert apart.left_out == 0 and int(apart.valid.sum()) == 20


def test_no_points_are_no_things_and_shapes_are_checked():
    found = decode_point_instances(np.zeros((0, 3)), np.zeros(0, bool))
    assert [x.shape for x in found] == [(0, 3), (0,), (0,), (0,), ()] and found.left_out == 0
    for wrong in ((np.zeros((5, 2)), np.ones(5, bool)), (np.zeros((5, 3)), np.ones(1, bool))):
        with pytest.raises(ValueError, match=r"votes are \[N, 3\]"):
            decode_point_instances(*wrong)
