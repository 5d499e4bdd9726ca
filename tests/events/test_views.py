"""Augmentations: the events and the pose tell the same story, for every depth and every rule."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posejax.events import (
    AugmentRule,
    Events,
    add_events,
    add_grid_noise,
    add_hot_pixels,
    add_leak_noise,
    augment,
    augment_grid,
    events_from_arrays,
    flip_polarity,
    mirror,
    pan_tilt,
    roll,
    rotate_view,
    scale_time,
    thin,
)
from posejax.geometry import project, se3_apply

SENSOR, WINDOW = (720, 1280), (0.0, 0.1)
K = np.array([[1258.6, 0.4, 640.3], [0, 1250.1, 359.2], [0, 0, 1]], np.float32)
PLANE = np.diag([1.0, -1.0, 1.0])  # the object below equals its reflection in y = 0


def scene(seed, count=40):
    """Points of a body in front of a camera, its pose, and events at their pixels."""
    rng = np.random.default_rng(seed)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    pose[:3, 3] = rng.uniform([-0.5, -0.3, 4], [0.5, 0.3, 8])
    points = rng.uniform(-0.8, 0.8, (count, 3)).astype(np.float32)
    return points, pose, events_at(points, pose, rng)


def events_at(points, pose, rng):
    xy, valid = project(se3_apply(pose, points), K)
    assert valid.all()
    t, p = rng.uniform(*WINDOW, len(points)), rng.integers(0, 2, len(points))
    return events_from_arrays(xy[:, 0] - 0.5, xy[:, 1] - 0.5, t, p)


def assert_shown(events, points, pose, atol=2e-2):
    xy, _ = project(se3_apply(pose, points), K)
    shown = np.asarray(events.valid)
    assert shown.any()
    got = np.stack([events.x, events.y], -1) + 0.5
    np.testing.assert_allclose(got[shown], np.asarray(xy)[shown], atol=atol)


def assert_pose(pose):
    r = np.asarray(pose[:3, :3], float)
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(r) > 0
    np.testing.assert_allclose(pose[3], [0, 0, 0, 1], atol=0)


angle = st.floats(-math.pi, math.pi)
small = st.floats(-0.2, 0.2)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=30, deadline=None)
@given(seeds, angle, small, small)
def test_a_turned_view_shows_the_points_in_the_new_pose(seed, about, pan, tilt):
    points, pose, events = scene(seed)
    rotation = np.asarray(pan_tilt(pan, tilt)) @ np.asarray(roll(about))
    turned, new = rotate_view(events, pose, K, rotation)
    assert_pose(new)
    assert_shown(turned, points, new)
    np.testing.assert_array_equal(turned.t, events.t)


def test_directions():
    centre = events_from_arrays([K[0, 2] - 0.5], [K[1, 2] - 0.5], [0.0], [1])
    panned, _ = rotate_view(centre, np.eye(4), K, pan_tilt(0.1, 0.05))
    assert panned.x[0] > centre.x[0] and panned.y[0] > centre.y[0]
    right = centre._replace(x=centre.x + 100)
    rolled, pose = rotate_view(right, np.eye(4), K, roll(np.pi / 2))
    assert rolled.y[0] > centre.y[0] + 90 and abs(rolled.x[0] - centre.x[0]) < 1
    np.testing.assert_allclose(pose[:3, :3] @ np.array([1.0, 0, 0]), [0, 1, 0], atol=1e-6)


def test_what_turns_behind_the_camera_is_gone():
    events = events_from_arrays([0, 640], [360, 360], [0.0, 0.0], [1, 1])
    turned, _ = rotate_view(events, np.eye(4), K, pan_tilt(-math.pi / 2 - 0.1, 0.0))
    np.testing.assert_array_equal(turned.valid, [False, False])
    assert np.isfinite(turned.x).all()


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_mirror_shows_a_symmetric_object_in_a_pose_it_can_have(seed):
    points, pose, events = scene(seed)
    mirrored, new = mirror(events, pose, K, symmetry=PLANE)
    assert_pose(new)
    # Where point p was seen there is now the image of its twin S p, a point of the same object.
    assert_shown(mirrored, points @ PLANE.astype(np.float32), new)
    again, back = mirror(mirrored, new, K, symmetry=PLANE)
    np.testing.assert_allclose(back, pose, atol=1e-5)
    np.testing.assert_allclose(again.x, events.x, atol=1e-2)
    # About the principal point: the translation is negated in metres, whatever its mean.
    np.testing.assert_allclose(new[:3, 3], pose[:3, 3] * [-1, 1, 1], atol=1e-6)


@pytest.mark.parametrize("symmetry", [None, np.eye(3), np.diag([1, -2.0, 1]), np.eye(2)])
def test_a_mirror_without_a_symmetry_is_refused(symmetry):
    _, pose, events = scene(0)
    with pytest.raises(ValueError, match="symmetry"):
        mirror(events, pose, K, symmetry=symmetry)
    with pytest.raises(ValueError, match="symmetry"):
        AugmentRule(mirror=0.5, symmetry=None if symmetry is None else tuple(map(tuple, symmetry)))


@pytest.mark.parametrize(
    "options", [{"polarity_flip": 1.2}, {"keep": (0.5, 1.5)}, {"keep": (0, 1)}]
)
def test_rules_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AugmentRule(**options)


EVERYTHING = AugmentRule(
    pan=0.1,
    tilt=0.1,
    time_scale=(0.5, 2.0),
    keep=(0.5, 1.0),
    mirror=0.5,
    symmetry=tuple(map(tuple, PLANE)),
    hot_pixels=3,
    leak_rate=1e-4,
    most_noise=16,
)


def test_the_whole_rule_keeps_events_and_pose_together():
    def run(key, events, pose):
        places = {"sensor_size": SENSOR, "window": WINDOW}
        return augment(key, events, pose, K, EVERYTHING, **places)

    run = jax.jit(run)
    mirrored_seen = set()
    for seed in range(12):
        points, pose, events = scene(seed)
        room = Events(*(jnp.pad(v, (0, 40)) for v in events))
        moved, new = run(jax.random.key(seed), room, pose)
        assert moved.x.shape == room.x.shape
        assert_pose(new)
        # Where an event was it still is, thinned or replaced by noise later in time.
        twins = points @ PLANE.astype(np.float32)
        xy = np.stack([moved.x, moved.y], -1)[:40] + 0.5
        old, new_time = np.asarray(events.t), np.asarray(moved.t)[:40]
        factors = (new_time - 0.1) / (old - 0.1)
        kept = np.asarray(moved.valid)[:40] & (np.abs(factors - np.median(factors)) < 1e-3)
        assert kept.sum() > 10
        errors = [
            np.abs(xy - np.asarray(project(se3_apply(new, p), K)[0]))[kept].max()
            for p in (points, twins)
        ]
        assert min(errors) < 5e-2
        mirrored_seen.add(errors[1] < errors[0])
        again, _ = run(jax.random.key(seed), room, pose)
        np.testing.assert_array_equal(again.x, moved.x)
    assert mirrored_seen == {True, False}


def test_augment_maps_over_a_batch_and_an_empty_rule_changes_nothing():
    _, pose, events = scene(1)
    rule = AugmentRule(roll=0.0, polarity_flip=0.0)
    places = {"sensor_size": SENSOR, "window": WINDOW}
    same, kept = jax.jit(lambda e: augment(jax.random.key(0), e, pose, K, rule, **places))(events)
    np.testing.assert_allclose(same.x, events.x, atol=1e-3)
    np.testing.assert_allclose(kept, pose, atol=1e-6)
    np.testing.assert_array_equal(same.p, events.p)
    batch = jax.tree.map(lambda v: jnp.stack([v] * 3), events)
    all_of_it = jax.jit(jax.vmap(lambda k, e: augment(k, e, pose, K, EVERYTHING, **places)))
    many, poses = all_of_it(jax.random.split(jax.random.key(0), 3), batch)
    assert many.x.shape == (3, 40) and poses.shape == (3, 4, 4)
    assert np.abs(poses[0] - poses[1]).max() > 1e-3


def test_time_scaling_leaves_the_query_alone():
    events = events_from_arrays([1, 1], [1, 1], [0.02, 0.1], [0, 1])
    np.testing.assert_allclose(scale_time(events, 0.5, 0.1).t, [0.06, 0.1], rtol=1e-6)


def test_thinning_and_flipping():
    events = events_from_arrays(*np.zeros((3, 20_000)), np.arange(20_000) % 2, capacity=25_000)
    kept = thin(jax.random.key(0), events, 0.3).valid
    assert not kept[20_000:].any() and 5700 < kept.sum() < 6300
    np.testing.assert_array_equal(flip_polarity(events).p, 1 - events.p)
    np.testing.assert_array_equal(flip_polarity(events, False).p, events.p)


ADD = jax.jit(add_events)


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([1, 6]), st.sampled_from([2, 6, 9]))
def test_added_events_take_free_places_only(seed, capacity, number):
    rng = np.random.default_rng(seed)

    def some(n, first):
        x = jnp.asarray(first + np.arange(n))
        return Events(x, x, x * 0.5, x % 2, jnp.asarray(rng.random(n) < 0.5))

    events, new = some(capacity, 0), some(number, 100)
    got, left_out = ADD(events, new)
    valid = np.asarray(got.valid)
    np.testing.assert_array_equal(got.x[events.valid], events.x[events.valid])
    wanted, free = int(new.valid.sum()), capacity - int(events.valid.sum())
    added = np.asarray(got.x)[valid & ~np.asarray(events.valid)]
    np.testing.assert_array_equal(added, np.asarray(new.x)[np.asarray(new.valid)][:free])
    assert int(left_out) == max(wanted - free, 0)


def test_noise_has_its_rate_place_and_sign():
    none = events_from_arrays(*np.zeros((4, 0)), capacity=4096)
    places = {"window": (0.2, 0.7), "sensor_size": (30, 40), "most": 2000}
    leak, left_out = add_leak_noise(jax.random.key(0), none, rate=1.0, **places)
    assert left_out == 0 and 500 < leak.valid.sum() < 700  # 1 Hz, 1200 pixels, 0.5 s
    on = leak.valid
    assert leak.p[on].all() and (leak.t[on] >= 0.2).all() and (leak.t[on] < 0.7).all()
    assert leak.x[on].min() >= 0 and 30 < leak.x[on].max() < 40 and leak.y[on].max() < 30
    hot, _ = add_hot_pixels(jax.random.key(1), none, pixels=3, rate=400.0, **places)
    pixels = set(zip(*(np.asarray(v)[np.asarray(hot.valid)] for v in (hot.x, hot.y)), strict=True))
    assert len(pixels) == 3 and 500 < hot.valid.sum() < 700
    same, _ = add_hot_pixels(jax.random.key(1), leak, pixels=0, rate=1.0, **places)
    assert same is leak
    full = events_from_arrays(*np.zeros((4, 10)))
    _, left_out = add_leak_noise(jax.random.key(0), full, rate=1.0, **places)
    assert left_out > 400


def test_grid_noise():
    grid = jnp.ones((8, 8, 2))
    noisy = add_grid_noise(jax.random.key(0), grid, amplitude=0.05) - grid
    assert noisy.min() >= 0 and 0.04 < noisy.max() < 0.05
    keys = jax.random.split(jax.random.key(0), 400)
    changed = jax.vmap(lambda k: (augment_grid(k, grid, AugmentRule()) != grid).any())(keys)
    assert 50 < changed.sum() < 110  # 20 %
