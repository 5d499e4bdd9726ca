"""Cells that are each other's partner."""

import numpy as np

from posejax.geometry import normalize
from posejax.matching.mutual import TEMPERATURE, mutual_cells, round_trip


def test_mutual_cells_are_padded_and_bounded_by_similarity(rng):
    unit = rng.normal(size=(5, 6, 64)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    same = mutual_cells(unit, unit, count=40)
    assert same.xy_a.shape == (40, 2) and same.weights.sum() == 30
    np.testing.assert_allclose(same.xy_a[:30], same.xy_b[:30], atol=1e-3)
    other = rng.normal(size=(5, 6, 64)).astype(np.float32)
    other /= np.linalg.norm(other, axis=-1, keepdims=True)
    assert mutual_cells(unit, other, count=40).weights.sum() == 0


def test_images_of_two_sizes_are_matched_in_the_cells_of_each(rng):
    """A 4 x 5 part of a 7 x 9 map, at (column 3, row 2): more cells of B have no partner."""
    whole = np.asarray(normalize(rng.normal(size=(7, 9, 64)).astype(np.float32)))
    part = whole[2:6, 3:8]
    found = mutual_cells(part, whole, count=20)
    assert found.weights.sum() == 20
    np.testing.assert_allclose(found.xy_b - found.xy_a, np.tile([3, 2], (20, 1)), atol=1e-3)
    back = mutual_cells(whole, part, count=63)
    used = np.asarray(back.weights) > 0
    assert used.sum() == 20
    np.testing.assert_allclose((back.xy_a - back.xy_b)[used], np.tile([3, 2], (20, 1)), atol=1e-3)


def test_the_probability_is_that_of_both_softmaxes(rng):
    a, b = (normalize(rng.normal(size=(4, n, 8)).astype(np.float32)) for n in (5, 6))
    trip = round_trip(a, b, min_similarity=-1)
    scores = np.asarray(a, np.float64).reshape(20, 8) @ np.asarray(b).reshape(24, 8).T / TEMPERATURE
    parts = np.exp(scores - scores.max())
    both = parts / parts.sum(1, keepdims=True) * parts / parts.sum(0, keepdims=True)
    x, y = np.floor(np.asarray(trip.there)).astype(int).reshape(-1, 2).T
    want = both[np.arange(20), 6 * y + x]
    np.testing.assert_allclose(np.asarray(trip.probability).reshape(-1), want, rtol=1e-3)


def test_cells_of_empty_parts_are_alike_but_not_probable(rng):
    """Half of the cells look the same but for noise: the most similar, and worth little."""
    texture = np.asarray(normalize(rng.normal(size=(2, 8, 64)).astype(np.float32)))
    empty = np.ones((2, 8, 64), np.float32) + 0.02 * rng.normal(size=(2, 8, 64))
    a = np.concatenate([texture, normalize(empty.astype(np.float32))])
    noise = np.concatenate([np.full((2, 8, 1), 0.04), np.full((2, 8, 1), 0.001)])
    b = normalize((a + noise * rng.normal(size=a.shape)).astype(np.float32))
    alike = mutual_cells(a, b, count=12)
    assert (np.asarray(alike.xy_a)[:, 1] > 2).all() and set(np.asarray(alike.weights)) == {1}
    told = mutual_cells(a, b, count=32, rank="probability")
    row, weight = np.asarray(told.xy_a)[:, 1], np.asarray(told.weights)
    assert (row[:16] < 2).all() and weight[:16].min() > 0.5 and (np.diff(weight) <= 0).all()
    assert weight[16:].max() < 0.2


def test_a_cell_whose_partner_prefers_another_is_no_match(rng):
    """Cell 1 is like B's cell 1, similar enough, but B's cell 1 is cell 4 itself."""
    b = np.asarray(normalize(rng.normal(size=(1, 6, 64)).astype(np.float32)))
    a = b.copy()
    a[0, 4] = b[0, 1]
    a[0, 1] = np.asarray(
        normalize((b[0, 1] + 0.05 * rng.normal(size=64).astype(np.float32))[None])
    )[0]
    trip = round_trip(a, b)
    assert trip.similarity[0, 1] > 0.82 and np.floor(trip.there[0, 1, 0]) == 1
    np.testing.assert_array_equal(trip.mutual[0], [True, False, True, True, True, True])
    assert trip.away[0, 1] > 1
    found = mutual_cells(a, b, count=6)
    home = np.asarray(found.xy_a)[np.asarray(found.weights) > 0, 0]
    assert sorted(home) == [0.5, 2.5, 3.5, 4.5, 5.5]
