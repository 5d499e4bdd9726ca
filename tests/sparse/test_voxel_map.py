"""Frames merged into a map of voxels, beside a dictionary of float64 sums."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.sparse import corner, empty_map, merge_frame, query_map, voxel_centers

N, CAPACITY, SIZE = 48, 40, 0.25
SHAPES = {"color": np.zeros((N, 3)), "logit": np.zeros((N, 2))}
fresh = functools.partial(empty_map, SHAPES, voxel_size=SIZE, capacity=CAPACITY)


def frame(rng, spread=0.4):
    """Some points around a random place; a few are absent, weights are halves: exact in float32."""
    middle = 1.5 * spread * rng.uniform(-1, 1, 3)
    points = (middle + rng.normal(0, spread, (N, 3))).astype(np.float32)
    values = {k: rng.standard_normal(v.shape).astype(np.float32) for k, v in SHAPES.items()}
    weight = rng.integers(0, 5, N) / np.float32(2)
    return points, values, rng.random(N) < 0.9, weight


class Reference:
    """The same by a dictionary: voxel -> sum of weights, means, when it was seen."""

    def __init__(self):
        self.voxels, self.evicted = {}, 0

    def merge(self, points, values, valid, weight, time, half_life=np.inf, most_age=np.inf):
        rows = np.concatenate([v.reshape(N, -1) for v in values.values()], 1).astype(np.float64)
        sums = {}
        for point, row, w in zip(points[valid], rows[valid], weight[valid], strict=True):
            if w > 0:
                key = tuple(np.floor(point.astype(np.float64) / SIZE).astype(int))
                total, added = sums.get(key, (0.0, 0.0))
                sums[key] = total + w, added + w * row
        for key, (w, added) in sums.items():
            old, mean, seen = self.voxels.get(key, (0.0, 0.0, time))
            old *= 0.5 ** ((time - seen) / half_life)
            self.voxels[key] = old + w, (old * mean + added) / (old + w), time
        self.voxels = {k: v for k, v in self.voxels.items() if time - v[2] <= most_age}
        by_rank = sorted(self.voxels, key=lambda k: (-self.voxels[k][2], -self.voxels[k][0], k))
        self.evicted += len(by_rank[CAPACITY:])
        self.voxels = {k: self.voxels[k] for k in by_rank[:CAPACITY]}


def contents(world):
    """Voxel -> (weight, means, seen); checks that the rows are in order and the rest is empty."""
    coords, mask = np.asarray(world.coords), np.asarray(world.mask)
    keys = [tuple(c) for c in coords[mask].tolist()]
    assert keys == sorted(set(keys)) and mask.tolist() == sorted(mask.tolist(), reverse=True)
    leaves = [np.asarray(v).reshape(CAPACITY, -1) for v in world.values.values()]
    rows = np.concatenate(leaves, 1)
    assert not rows[~mask].any() and not np.asarray(world.weight)[~mask].any()
    columns = np.asarray(world.weight), rows, np.asarray(world.seen)
    return {key: tuple(c[i] for c in columns) for i, key in enumerate(keys)}


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, (weight, mean, seen) in found.items():
        np.testing.assert_allclose(weight, wanted[key][0], rtol=1e-5)
        np.testing.assert_allclose(mean, wanted[key][1], rtol=1e-5, atol=1e-5)
        assert seen == wanted[key][2]


@pytest.mark.parametrize("fading", [{}, {"half_life": 2.0}, {"most_age": 3.0}])
@pytest.mark.parametrize("spread", [0.1, 0.4])
def test_it_is_the_dictionary_of_all_sums(fading, spread):
    """Frame by frame; the wide clouds overflow the map's rows, the narrow ones never do."""
    rng, world, reference = np.random.default_rng(7), fresh(), Reference()
    for time in (0.0, 1.0, 2.0, 4.5, 5.0, 9.0):
        points, values, valid, weight = frame(rng, spread)
        world = merge_frame(world, points, values, valid, time, weight=weight, **fading)
        reference.merge(points, values, valid, weight, time, **fading)
        same(contents(world), reference.voxels)
        assert world.evicted == reference.evicted
    assert bool(world.overflow) == (reference.evicted > 0) == (spread > 0.2)
    assert world.dropped == 0 and world.voxels == len(reference.voxels)


def test_all_frames_run_the_same_program():
    """Other times, fading and contents compile nothing anew, and the map keeps its bytes."""
    rng, traces = np.random.default_rng(0), []

    @jax.jit
    def step(world, points, values, valid, time):
        traces.append(1)
        return merge_frame(world, points, values, valid, time, half_life=time + 1)

    world = fresh()
    size = world.nbytes
    for time in range(5):
        world = step(world, *frame(rng)[:3], jnp.float32(time))
        assert world.nbytes == size
    assert len(traces) == 1


def test_the_order_of_points_is_one_of_rounding_alone(rng):
    points, values, valid, weight = frame(rng)
    order = rng.permutation(N)
    turned = {k: v[order] for k, v in values.items()}
    a = merge_frame(fresh(), points, values, valid, 0.0, weight=weight)
    b = merge_frame(fresh(), points[order], turned, valid[order], 0.0, weight=weight[order])
    same(contents(a), contents(b))


def test_a_frame_twice_weighs_twice(rng):
    points, values, valid, weight = frame(rng, 0.12)
    once = merge_frame(fresh(), points, values, valid, 0.0, weight=weight)
    twice = merge_frame(once, points, values, valid, 0.0, weight=weight)
    same(contents(twice), {k: (2 * w, m, s) for k, (w, m, s) in contents(once).items()})
    none = merge_frame(once, points, values, np.zeros(N, bool), 5.0, weight=weight)
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(none), strict=True):
        np.testing.assert_array_equal(a, b)


def one(value, at=(0.1, 0.1, 0.1)):
    """A frame of one point."""
    points = np.zeros((N, 3), np.float32)
    points[0] = at
    values = {k: np.full(v.shape, value, np.float32) for k, v in SHAPES.items()}
    return points, values, np.arange(N) < 1


def test_a_revisit_finds_what_is_left():
    """After three half-lives an eighth; after the age limit nothing; without fading, all of it."""
    first, again = one(1.0), one(9.0)
    cases = (
        ({}, 5, 2),
        ({"half_life": 10.0}, (1 / 8 + 9) / (9 / 8), 9 / 8),
        ({"most_age": 29.0}, 9, 1),
        ({"most_age": 30.0}, 5, 2),
    )
    for fading, mean, weight in cases:
        world = merge_frame(merge_frame(fresh(), *first, 0.0), *again, 30.0, **fading)
        if "most_age" in fading:  # another place is looked at meanwhile
            world = merge_frame(fresh(), *first, 0.0)
            world = merge_frame(world, *one(3.0, (5, 5, 5)), 29.5, **fading)
            assert world.voxels == (1 if mean == 9 else 2)
            world = merge_frame(world, *again, 30.0, **fading)
        found = query_map(world, again[0][:1])
        assert found.found[0] and found.seen[0] == 30
        np.testing.assert_allclose(found.weight[0], weight, rtol=1e-6)
        np.testing.assert_allclose(found.values["color"][0], mean, rtol=1e-6)
    late = merge_frame(world, *one(0.0), 10.0, half_life=1.0)  # out of turn: nothing fades
    assert late.seen[0] == 30 and query_map(late, again[0][:1]).weight[0] == weight + 1


def test_far_worlds_lose_nothing(rng):
    """The same frame 4,000 km away, by the map's origin, has the same bits and its place."""
    points, values, valid, _ = frame(rng)
    far = fresh(origin=(16_000_000, -16_000_000, 3))
    a, b = (merge_frame(w, points, values, valid, 0.0) for w in (fresh(), far))
    np.testing.assert_array_equal(a.coords, b.coords)
    apart = voxel_centers(b) - voxel_centers(a)
    np.testing.assert_allclose(apart - [4e6, -4e6, 0.75], 0, atol=1e-8)
    np.testing.assert_allclose(corner(b), [4e6, -4e6, 0.75])


def test_what_has_no_place_or_no_value_is_counted(rng):
    points, values, valid, _ = frame(rng)
    clean = merge_frame(fresh(), points, values, valid & (np.arange(N) > 4), 0.0)
    points[0], points[1, 2], points[2, 0] = np.nan, np.inf, 1e8
    values["logit"][3, 1] = np.nan
    weight = np.ones(N, np.float32)
    weight[4] = np.nan
    world = merge_frame(fresh(), points, values, valid, 0.0, weight=weight)
    same(contents(world), contents(clean))
    assert world.dropped == valid[:5].sum() and clean.dropped == 0
    found = query_map(world, points, valid)
    assert not np.asarray(found.found)[:3].any()
    assert (np.asarray(found.row)[:3] == CAPACITY).all() and (found.weight[:3] == 0).all()


def test_reading_finds_each_point_in_its_own_voxel(rng):
    points, values, _, _ = frame(rng, 0.12)
    world = merge_frame(fresh(), points, values, np.ones(N, bool), 2.0)
    index = np.floor(points.astype(np.float64) / SIZE).astype(int)
    found = query_map(world, points)
    assert np.asarray(found.found).all() and (found.seen == 2).all()
    np.testing.assert_array_equal(np.asarray(world.coords)[found.row], index)
    for i in range(N):
        inside = (index == index[i]).all(1)
        np.testing.assert_allclose(found.values["color"][i], values["color"][inside].mean(0),
                                   rtol=1e-5, atol=1e-6)  # fmt: skip
        assert found.weight[i] == inside.sum()
    elsewhere = query_map(world, points + np.float32(3))
    assert not np.asarray(elsewhere.found).any() and not np.any(elsewhere.values["logit"])


def test_nothing_is_scattered_and_maps_can_be_stacked(rng):
    points, values, valid, _ = frame(rng)
    text = jax.jit(merge_frame).lower(fresh(), points, values, valid, 0.0).as_text()
    assert "stablehlo.gather" in text and "stablehlo.scatter" not in text
    two = jax.tree.map(lambda x: jnp.stack([x, x]), fresh())
    both = jax.tree.map(lambda x: np.stack([x, x]), (points, values))
    moved = jax.vmap(lambda w, p, v: merge_frame(w, p, v, valid, 0.0))(two, *both)
    alone = merge_frame(fresh(), points, values, valid, 0.0)
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-6)


def test_sizes_that_cannot_be_are_refused():
    wrongs = (
        *({"voxel_size": x} for x in (0.0, np.inf, np.nan, 1e39, 1e-46)),
        {"capacity": 0},
        {"origin": (1, 2)},
        {"origin": (2**31, 0, 0)},
    )
    for wrong in wrongs:
        with pytest.raises(ValueError):
            empty_map(SHAPES, **{"voxel_size": 1.0, "capacity": 4, **wrong})


def test_a_frame_that_does_not_fit_the_map_is_refused(rng):
    """By the name of what is wrong, also where a broadcast would have gone through."""
    points, values, valid, weight = frame(rng)
    good = {"points": points, "values": values, "valid": valid, "time": 0.0, "weight": weight}
    wrongs = {
        "points: shape": {"points": points[:, :2]},
        "valid: shape": {"valid": valid[:1]},
        "weight: shape": {"weight": weight[:, None]},
        "time: shape": {"time": np.zeros(1)},
        "half_life: shape": {"half_life": np.ones(N)},
        r"values: shape \(48, 1\), expected \(48, 2\)": {
            "values": {**values, "logit": values["logit"][:, :1]}
        },
        "values: PyTreeDef": {"values": {"color": values["color"]}},
    }
    for words, wrong in wrongs.items():
        with pytest.raises(ValueError, match=words):
            merge_frame(fresh(), **{**good, **wrong})
    with pytest.raises(ValueError, match="points: shape"):
        query_map(fresh(), points[:, :2])
    with pytest.raises(ValueError, match="valid: shape"):
        query_map(fresh(), points, valid[:1])


def test_a_frame_of_no_points_is_one_whose_points_are_absent(rng):
    points, values, valid, _ = frame(rng, 0.12)
    none = np.zeros((0, 3)), {k: v[:0] for k, v in values.items()}, np.zeros(0, bool)
    world = merge_frame(fresh(), points, values, valid, 0.0)
    for time, age in ((5.0, 9.0), (15.0, 9.0)):  # by the second time all is forgotten
        empty = merge_frame(world, *none, time, most_age=age)
        absent = merge_frame(world, points, values, np.zeros(N, bool), time, most_age=age)
        for a, b in zip(jax.tree.leaves(empty), jax.tree.leaves(absent), strict=True):
            np.testing.assert_array_equal(a, b)
        assert (empty.voxels > 0) == (time < age)
    assert query_map(world, none[0]).values["color"].shape == (0, 3)


@pytest.mark.parametrize("time", [np.nan, np.inf, -np.inf])
def test_a_frame_without_a_time_changes_nothing(rng, time):
    points, values, valid, _ = frame(rng, 0.12)
    world = merge_frame(fresh(), points, values, valid, 3.0)
    found = merge_frame(world, points, values, valid, time, half_life=1.0, most_age=5.0)
    assert found.dropped == valid.sum()
    same = found._replace(dropped=world.dropped)
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(world), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("half_life", [0.0, -1.0, np.nan])
def test_a_half_life_of_nothing_leaves_the_last_frame_alone(half_life):
    world = merge_frame(fresh(), *one(1.0), 0.0, half_life=half_life)
    world = merge_frame(world, *one(3.0), 0.0, half_life=half_life)  # at once: both count
    found = query_map(world, np.full((1, 3), 0.1))
    assert found.weight[0] == 2 and found.values["color"][0, 0] == 2
    world = merge_frame(world, *one(9.0), 1.0, half_life=half_life)
    found = query_map(world, np.full((1, 3), 0.1))
    assert found.weight[0] == 1 and found.values["color"][0, 0] == 9
