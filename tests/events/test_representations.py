"""Representations against a plain loop, at their borders and with nothing in them."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posejax.events import (
    averaged_time_surface,
    dropped_events,
    event_frame,
    events_from_arrays,
    histogram,
    lnes,
    time_surface,
    voxel_grid,
)

spec = importlib.util.spec_from_file_location("reference", Path(__file__).parent / "reference.py")
assert spec is not None and spec.loader is not None
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)

SENSOR, WINDOW = (48, 64), (0.0, 0.1)
PLACE = {"size": (12, 20), "sensor_size": SENSOR, "window": WINDOW}
ALL = [
    lambda e, **k: voxel_grid(e, bins=5, time="linear", space="bilinear", **k),
    lambda e, **k: voxel_grid(e, bins=3, accumulate="fixed", **k),
    histogram,
    lambda e, **k: time_surface(e, tau=0.03, **k),
    lambda e, **k: time_surface(e, tau=0.08, kind="linear", **k),
    lnes,
    event_frame,
    lambda e, **k: averaged_time_surface(e, tau=0.03, **k),
]


@pytest.mark.parametrize("polarity", ["split", "signed", "merged"])
@pytest.mark.parametrize("time", ["nearest", "linear"])
@pytest.mark.parametrize("space", ["nearest", "bilinear"])
def test_voxel_grid_is_the_loop(rng, polarity, time, space):
    bins = {"split": 5, "signed": 2, "merged": 1}[polarity]
    x, y, t, p = reference.random_events(rng, 400, sensor=SENSOR, beyond=0.2)
    options = {"bins": bins, "polarity": polarity, "time": time, "space": space}
    want = reference.voxel_grid(x, y, t, p, size=(12, 20), sensor=SENSOR, window=WINDOW, **options)
    got = voxel_grid(events_from_arrays(x, y, t, p, capacity=500), **PLACE, **options)
    np.testing.assert_allclose(got, want, atol=2e-5)
    if polarity == "split":
        fixed = voxel_grid(events_from_arrays(x, y, t, p), **PLACE, **options, accumulate="fixed")
        np.testing.assert_allclose(fixed, want, atol=1e-3)


@pytest.mark.parametrize("size", [(48, 64), (12, 16), (27, 22), (180, 256)])
def test_float_pixels_are_integer_pixels(size):
    """Also where the centre of a pixel lies on the border of two cells."""
    sensor = (720, 1280) if size == (180, 256) else SENSOR
    y, x = np.indices(sensor).reshape(2, -1)
    t, p = np.full(len(x), 0.05), np.ones(len(x), int)
    options = {"size": size, "sensor_size": sensor, "window": WINDOW}
    whole = histogram(events_from_arrays(x, y, t, p), **options)
    split = histogram(
        events_from_arrays(x.astype(np.float32), y.astype(np.float32), t, p), **options
    )
    np.testing.assert_array_equal(whole, split)
    rows = (2 * y + 1) * size[0] // (2 * sensor[0])
    columns = (2 * x + 1) * size[1] // (2 * sensor[1])
    want = np.bincount(rows * size[1] + columns, minlength=size[0] * size[1]).reshape(size)
    np.testing.assert_array_equal(whole[..., 1], want)


def test_channels_are_polarity_times_bins():
    events = events_from_arrays([3, 5], [7, 7], [0.01, 0.09], [1, 0])
    grid = voxel_grid(events, bins=4, size=SENSOR, sensor_size=SENSOR, window=WINDOW)
    want = np.zeros((*SENSOR, 8))
    want[7, 3, 4] = want[7, 5, 3] = 1  # ON in its first bin, OFF in its last
    np.testing.assert_array_equal(grid, want)
    polarity = events._replace(p=jnp.array([1, -1]))
    np.testing.assert_array_equal(
        voxel_grid(polarity, bins=4, size=SENSOR, sensor_size=SENSOR, window=WINDOW), want
    )


def test_time_is_measured_from_the_window_and_not_from_the_events():
    early = events_from_arrays([3, 3], [7, 7], [0.02, 0.03], [1, 1])
    options = {"size": SENSOR, "sensor_size": SENSOR, "window": WINDOW}
    grid = voxel_grid(early, bins=5, **options)
    np.testing.assert_array_equal(grid[7, 3], [0, 0, 0, 0, 0, 0, 2, 0, 0, 0])
    later = voxel_grid(early, bins=5, **{**options, "window": (-0.1, 0.1)})
    np.testing.assert_array_equal(later[7, 3], [0, 0, 0, 0, 0, 0, 0, 0, 2, 0])


def test_linear_time_reaches_the_bounds():
    events = events_from_arrays([3], [7], [0.0], [1])
    options = {"size": SENSOR, "sensor_size": SENSOR, "window": WINDOW, "time": "linear"}
    assert voxel_grid(events, bins=5, **options)[7, 3, 5] == 1
    late = events._replace(t=jnp.nextafter(jnp.float32([0.1]), jnp.float32(0)))
    np.testing.assert_allclose(voxel_grid(late, bins=5, **options)[7, 3, 9], 1, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_nothing_is_lost_without_being_counted(seed, beyond):
    x, y, t, p = reference.random_events(np.random.default_rng(seed), 200, beyond=beyond)
    events = events_from_arrays(x, y, t, p, capacity=256)
    counts = dropped_events(events, sensor_size=SENSOR, window=WINDOW)
    assert int(sum(counts)) == 200
    assert counts.used == reference.used(x, y, t, SENSOR, WINDOW).sum()
    for time in ("nearest", "linear"):
        grid = voxel_grid(events, bins=4, time=time, **PLACE)
        np.testing.assert_allclose(grid.sum(), counts.used, rtol=1e-5)


def test_outside_is_dropped_and_not_moved_to_the_border():
    x, y = np.array([-1, 64, 3, 3, 3, 3]), np.array([3, 3, -1, 48, 3, 3])
    t = np.array([0.05, 0.05, 0.05, 0.05, -1e-6, 0.1])
    events = events_from_arrays(x, y, t, np.ones(6, int))
    for representation in ALL:
        np.testing.assert_array_equal(representation(events, **PLACE), 0)
    counts = dropped_events(events, sensor_size=SENSOR, window=WINDOW)
    assert [int(c) for c in counts] == [0, 4, 2]
    gone = events._replace(x=jnp.full(6, jnp.nan), y=jnp.full(6, jnp.inf), t=jnp.full(6, 0.05))
    assert dropped_events(gone, sensor_size=SENSOR, window=WINDOW).outside_sensor == 6


@pytest.mark.parametrize("representation", ALL)
def test_no_event_and_one_event_are_finite(representation):
    @jax.jit
    def slopes_and_grid(events, start, end):
        def total(x, y, t, end):
            grid = representation(
                events._replace(x=x, y=y, t=t),
                size=(6, 8),
                sensor_size=SENSOR,
                window=(start, end),
            )
            return jnp.sum(grid**2), grid

        return jax.grad(total, (0, 1, 2, 3), has_aux=True)(events.x, events.y, events.t, end)

    for count in (0, 1):
        some = np.full(count, 5.0)
        events = events_from_arrays(some, some, 0.01 * some, some, capacity=4)
        events = events._replace(x=jnp.where(events.valid, events.x, jnp.nan))
        for start, end in [(0.0, 0.1), (0.05, 0.05), (0.1, 0.0)]:
            slopes, grid = slopes_and_grid(events, start, end)
            assert np.isfinite(grid).all() and all(np.isfinite(s).all() for s in slopes)
            assert grid.any() == (count == 1 and start < end)
            assert grid.any() or not any(s.any() for s in slopes)


@pytest.mark.parametrize("polarity", ["split", "merged"])
def test_surfaces_are_the_loop(rng, polarity):
    x, y, t, p = reference.random_events(rng, 300, sensor=SENSOR, beyond=0.2)
    events = events_from_arrays(x, y, t, p, capacity=400)
    place = {"size": (12, 20), "sensor": SENSOR, "window": WINDOW}
    last = reference.last_times(x, y, t, p, **place, split=polarity == "split")
    with np.errstate(invalid="ignore"):
        seen, age = np.isfinite(last), 0.1 - last
    options = {**PLACE, "polarity": polarity}
    want = np.where(seen, np.exp(-age / 0.02), 0)
    np.testing.assert_allclose(time_surface(events, tau=0.02, **options), want, atol=1e-5)
    want = np.where(seen, np.maximum(1 - age / 0.05, 0), 0)
    got = time_surface(events, tau=0.05, kind="linear", **options)
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(lnes(events, **options), np.where(seen, last / 0.1, 0), atol=1e-5)
    count = reference.voxel_grid(x, y, t, p, bins=1, **place, polarity=polarity)
    for kind, value in (
        ("exponential", lambda t: np.exp(-(0.1 - t) / 0.02)),
        ("linear", lambda t: max(1 - (0.1 - t) / 0.02, 0)),
    ):
        total = reference.voxel_grid(x, y, t, p, bins=1, **place, polarity=polarity, value=value)
        got = averaged_time_surface(events, tau=0.02, kind=kind, **options)
        np.testing.assert_allclose(got, total / np.maximum(count, 1), atol=1e-5)


def test_event_frame_has_the_last_sign():
    x, t, p = [3, 3, 9, 9, 20, 20], [0.01, 0.02, 0.01, 0.02, 0.05, 0.05], [1, 0, 0, 1, 0, 1]
    events = events_from_arrays(x, [5] * 6, t, p)
    frame = event_frame(events, size=SENSOR, sensor_size=SENSOR, window=WINDOW)[..., 0]
    want = np.zeros(SENSOR)
    want[5, 3], want[5, 9] = -1, 1
    np.testing.assert_array_equal(frame, want)


def test_wrong_words_and_shapes_are_refused():
    events = events_from_arrays([1], [1], [0.0], [1])
    place = {"size": (4, 4), "sensor_size": SENSOR, "window": WINDOW}
    for options, word in [
        ({"bins": 0}, "bins"),
        ({"bins": 2, "polarity": "both"}, "polarity"),
        ({"bins": 2, "time": "bilinear"}, "time"),
        ({"bins": 2, "space": "cubic"}, "space"),
        ({"bins": 2, "accumulate": "exact"}, "accumulate"),
        ({"bins": 2, "size": (0, 4)}, "size"),
    ]:
        with pytest.raises(ValueError, match=word):
            voxel_grid(events, **{**place, **options})
    with pytest.raises(ValueError, match="polarity"):
        lnes(events, **place, polarity="signed")
    with pytest.raises(ValueError, match="kind"):
        time_surface(events, tau=1, kind="square", **place)
    with pytest.raises(ValueError, match="vmap"):
        histogram(jax.tree.map(lambda v: v[None], events), **place)
    with pytest.raises(ValueError, match="capacity"):
        events_from_arrays([1, 2], [1, 2], [0, 0], [1, 1], capacity=1)
