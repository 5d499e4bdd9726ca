"""Windows on the host and on the device, packed events, labels at any instant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posejax.events import (
    Window,
    dropped_events,
    histogram,
    pack_events,
    pose_at,
    query_of,
    row_at,
    slice_rows,
    slice_window,
    sliding_windows,
    unpack_events,
    window_bounds,
    window_rows,
)
from posejax.geometry import se3_exp


def recording(rng, count=500, *, start=0, span=1_000_000):
    x, y = rng.integers(0, 16384, (2, count))
    t = np.sort(rng.integers(start, start + span, count))
    return x, y, t, rng.integers(0, 2, count)


def test_unpacking_inverts_packing(rng):
    x, y, t, p = recording(rng, start=2**32 - 2_000_000)
    packed = pack_events(x, y, t, p)
    assert packed.dtype == np.uint32
    events = unpack_events(packed, 400, int(t[0]))
    for name, want in (("x", x), ("y", y), ("p", p), ("valid", np.arange(500) < 400)):
        np.testing.assert_array_equal(getattr(events, name), want)
    np.testing.assert_allclose(events.t, (t - t[0]) * 1e-6, rtol=2e-7)
    with pytest.raises(ValueError, match="uint32"):
        unpack_events(packed.astype(np.int64), 400)


SLICE = jax.jit(slice_window, static_argnames="capacity")
ROWS = jax.jit(slice_rows, static_argnames="capacity")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 2**31 - 500_000, 2**32 - 1_000_000]),
    st.integers(-100_000, 1_100_000),
    st.integers(0, 400_000),
)
def test_a_slice_has_exactly_the_events_of_the_window(seed, start, offset, length):
    x, y, t, p = recording(np.random.default_rng(seed), 300, start=start)
    t[100:140] = t[100]  # many at one instant
    t.sort()
    t0, t1 = start + offset, start + offset + length
    if t0 < 0:
        bounds = np.int32(t0), np.int32(t1)
    else:
        bounds = tuple(np.uint32(min(v, 2**32 - 1)) for v in (t0, t1))
    inside = np.flatnonzero((t >= t0) & (t < int(bounds[1])))
    packed = jnp.asarray(pack_events(x, y, t, p))
    for capacity in (64, 512):
        events, left_out = SLICE(packed, *bounds, capacity=capacity)
        kept = inside[max(len(inside) - capacity, 0) :]
        valid = np.asarray(events.valid)
        np.testing.assert_array_equal(np.asarray(events.x)[valid], x[kept])
        np.testing.assert_allclose(np.asarray(events.t)[valid], (t[kept] - t0) * 1e-6, rtol=2e-7)
        assert int(left_out) == len(inside) - len(kept)


def test_recordings_one_after_another_and_many_windows(rng):
    parts = [recording(rng, n) for n in (300, 5, 200)]
    packed = jnp.asarray(np.concatenate([pack_events(*part) for part in parts]))
    ends = np.cumsum([300, 5, 200])
    for part, last, count in zip(parts, ends, (300, 5, 200), strict=True):
        rows = (last - count, last)
        starts = jnp.arange(0, 1_000_000, 100_000, dtype=jnp.int32)

        def cut(start, rows=rows):
            return slice_window(packed, start, start + 100_000, capacity=100, rows=rows)

        events, left_out = jax.vmap(cut)(starts)
        assert int(events.valid.sum()) == count and not left_out.any()
        first = np.flatnonzero(part[2] < 100_000)
        np.testing.assert_array_equal(events.y[0][events.valid[0]], part[1][first])


def test_windows_by_count(rng):
    x, y, t, p = recording(rng)
    packed = jnp.asarray(pack_events(x, y, t, p))
    window = Window(count=50, anchor="before")
    row = row_at(packed, int(t[200]))
    first, last = window_bounds(row, window)
    events, left_out = slice_rows(packed, first, last, capacity=64, origin_us=int(t[200]))
    assert int(events.valid.sum()) == 50 and left_out == 0
    np.testing.assert_array_equal(np.asarray(events.x)[np.asarray(events.valid)], x[150:200])
    assert (events.t[events.valid] <= 0).all()
    early = slice_rows(packed, -20, 30, capacity=64, origin_us=0)
    assert int(early.events.valid.sum()) == 30 and early.left_out == 0


@pytest.mark.parametrize(
    "anchor, want", [("before", (0.9, 1.0)), ("after", (1.0, 1.1)), ("centred", (0.95, 1.05))]
)
def test_anchors(anchor, want):
    window = Window(duration=0.1, anchor=anchor)
    np.testing.assert_allclose(window_bounds(1.0, window), want)
    bounds = window_bounds(1_000_000, window, unit=1e-6)
    assert bounds == tuple(round(v * 1e6) for v in want)
    queries = np.array([0.5, 1.0, 2.25])
    np.testing.assert_allclose(
        query_of(np.stack(window_bounds(queries, window), -1), window), queries
    )
    rows = Window(count=7, anchor=anchor)
    first, last = window_bounds(np.array([20, 31]), rows)
    assert (last - first == 7).all()
    np.testing.assert_array_equal(query_of(np.stack([first, last], -1), rows), [20, 31])


@pytest.mark.parametrize("anchor", ["before", "after", "centred"])
@pytest.mark.parametrize(
    "length", [{"duration": 0.1}, {"duration": 0.100001}, {"count": 7}, {"count": 64}]
)
@pytest.mark.parametrize("query", [-30_000, 50_001, 500_000, 990_000, 1_030_000])
def test_host_and_device_cut_the_same_window(rng, anchor, length, query):
    """In the past, in the future and in between, of odd and of even length."""
    x, y, t, p = recording(rng)
    packed, window = pack_events(x, y, t, p), Window(anchor, **length)
    rows, start, end = window_rows(packed[:, 1], query, window)
    traced = jnp.int32(query)
    if window.count is None:
        bounds = window_bounds(traced, window, unit=1e-6)
        assert (start, end) == tuple(map(int, bounds)) and end - start == round(1e6 * window.length)
        events, left_out = SLICE(packed, *bounds, capacity=512)
    else:
        bounds = window_bounds(row_at(packed, traced), window)
        events, left_out = ROWS(packed, *bounds, capacity=512, origin_us=traced)
    assert left_out == 0
    np.testing.assert_array_equal(np.asarray(events.x)[np.asarray(events.valid)], x[rows])


def test_a_window_before_zero_is_no_window_after_everything():
    with pytest.raises(ValueError, match="signed"):
        window_bounds(np.uint32(5), Window("before"), unit=1e-6)
    with pytest.raises(ValueError, match="shorter than a step"):
        window_bounds(5, Window(duration=1e-7), unit=1e-6)


@pytest.mark.parametrize("kind", [int, np.int64, np.array])
def test_times_of_every_size_find_their_row(kind):
    """Beyond 2^31 NumPy's integers used to become row 0, beyond 2^32 to start again."""
    t = np.array([0, 5, 2**31 - 1, 2**31 + 7, 3_000_000_000, 2**32 - 1])
    packed = jnp.asarray(pack_events(np.arange(6), np.zeros(6, int), t, np.ones(6, int)))
    for us in (-(2**40), -1, 0, 1, 2**31, 3_000_000_000, 3_000_000_001, 2**32 - 1, 2**32, 2**33):
        assert int(row_at(packed, kind(us))) == np.searchsorted(t, us)
    events, _ = slice_window(packed, kind(3_000_000_000), kind(2**33), capacity=8)
    np.testing.assert_array_equal(np.asarray(events.x)[np.asarray(events.valid)], [4, 5])
    np.testing.assert_allclose(
        unpack_events(packed, 6, kind(2**33)).t, (t - 2**33) * 1e-6, rtol=2e-7
    )
    np.testing.assert_allclose(unpack_events(packed, 6, kind(-5)).t, (t + 5) * 1e-6, rtol=2e-7)
    with pytest.raises(ValueError, match="below 2"):
        row_at(packed, 1 << 50)
    beyond = slice_rows(packed, np.int64(3e9), np.int64(4e9), capacity=4, origin_us=0)
    assert not beyond.events.valid.any()


@pytest.mark.parametrize("seconds", [5, 30, 60, 67.108872, 600, 4000])
def test_long_windows_keep_their_last_events(seconds):
    """float32 has no number between 30 s and a microsecond less."""
    end = round(1e6 * seconds)
    t = np.array([0, end - 9, end - 1, end, end + 9])
    packed = pack_events(np.arange(5), np.zeros(5, int), t, np.ones(5, int))
    events, _ = slice_window(packed, 0, end, capacity=8)
    where = {"sensor_size": (1, 8), "window": (0.0, end * 1e-6)}
    assert dropped_events(events, **where).used == 3
    assert histogram(events, size=(1, 8), **where).sum() == 3
    assert np.max(np.abs(np.asarray(events.t)[:3] - t[:3] * 1e-6)) <= 4 * np.spacing(
        np.float32(seconds)
    )
    # What lies at the end or behind is not moved into the window.
    unpacked = unpack_events(packed, 5, 0, end_us=end)
    assert (np.asarray(unpacked.t) < np.float32(end * 1e-6)).tolist() == [True] * 3 + [False] * 2


def test_sliding_windows():
    bounds = sliding_windows(0.0, 1.0, Window(duration=0.1))
    assert bounds.shape == (10, 2)
    np.testing.assert_allclose(bounds[:-1, 1], bounds[1:, 0])
    half = sliding_windows(0.0, 1.0, Window(duration=0.1, overlap=0.5))
    assert half.shape == (19, 2) and half[-1, 1] == pytest.approx(1.0)
    assert sliding_windows(0.0, 0.05, Window(duration=0.1)).shape == (0, 2)
    rows = sliding_windows(0, 100, Window(count=30, overlap=0.5))
    np.testing.assert_array_equal(rows[:, 0], [0, 15, 30, 45, 60])
    assert rows.dtype == np.int64


@pytest.mark.parametrize(
    "options, word",
    [
        ({"count": 0}, "count"),
        ({"duration": -0.1}, "duration"),
        ({"duration": 0.1, "anchor": "center"}, "anchor"),
        ({"count": 3, "overlap": 1.0}, "overlap"),
    ],
)
def test_windows_that_are_none_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        Window(**options)


def test_poses_between_labels_lie_on_the_screw():
    twist = jnp.array([0.3, -0.2, 1.0, 0.4, 0.9, -0.6])
    t = jnp.array([0.0, 0.1, 0.25, 0.3])
    poses = jax.vmap(lambda s: se3_exp(twist * s))(t)
    at = jax.jit(pose_at)
    for query in (0.0, 0.05, 0.1, 0.2, 0.3):
        pose, inside = at(query, t, poses)
        assert inside
        np.testing.assert_allclose(pose, se3_exp(twist * query), atol=1e-6)
    pose, inside = at(0.4, t, poses)
    assert not inside
    np.testing.assert_allclose(pose, poses[-1], atol=1e-6)
    unix = np.float64(1.7e9) + np.asarray(t, np.float64)
    np.testing.assert_allclose(
        pose_at(1.7e9 + 0.2, unix, poses)[0], at(0.2, t, poses)[0], atol=1e-6
    )
    with pytest.raises(ValueError, match="float32"):
        pose_at(jnp.float32(1.7e9), unix, poses)
    slope = jax.jacobian(lambda q: pose_at(q, t, poses)[0])(0.1)
    assert np.isfinite(slope).all()
