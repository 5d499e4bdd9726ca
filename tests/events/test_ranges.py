"""Numbers that integers and float32 cannot hold are refused or widened, never wrapped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.events import (
    Events,
    add_events,
    dropped_events,
    events_from_arrays,
    histogram,
    voxel_grid,
)
from posejax.events.accumulate import fixed_point
from posejax.events.taps import Taps

PLACE = {"size": (2, 3), "sensor_size": (720, 1280), "window": (0.0, 0.1)}


@pytest.mark.parametrize("count", [32_767, 32_768, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("polarity", ["split", "signed"])
def test_fixed_sums_hold_all_events_in_one_cell(count, polarity):
    zeros = np.zeros(count, np.int32)
    events = events_from_arrays(zeros, zeros, zeros + 0.05, zeros)
    cells = histogram(events, polarity=polarity, accumulate="fixed", **PLACE)
    sign = -1 if polarity == "signed" else 1
    assert float(cells[0, 0, 0]) == sign * count and float(jnp.abs(cells).sum()) == count


def test_fixed_sums_are_as_fine_as_their_capacity_allows(rng):
    split, signed = (Taps((2, 3), (720, 1280), polarity=p) for p in ("split", "signed"))
    assert [fixed_point(split, n) for n in (1, 65_535, 65_536)] == [2**16, 2**16, 2**15]
    assert [fixed_point(signed, n) for n in (1, 32_767, 32_768)] == [2**16, 2**16, 2**15]
    n = 70_000
    x, y, t = rng.integers(0, 1280, n), rng.integers(0, 720, n), rng.uniform(0, 0.1, n)
    events = events_from_arrays(x, y, t.astype(np.float32), rng.integers(0, 2, n))
    settings = {"bins": 3, "time": "linear", **PLACE}
    exact, fixed = (voxel_grid(events, accumulate=a, **settings) for a in ("float", "fixed"))
    np.testing.assert_allclose(fixed, exact, atol=0.05, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64])
def test_narrow_coordinates_stay_on_a_wide_sensor(dtype):
    x = np.arange(10, 110, 10).astype(dtype)
    direct = Events(*map(jnp.asarray, (x, x, np.full(10, 0.05, np.float32), x > 0, x > 0)))
    for events in (direct, events_from_arrays(x, x, np.full(10, 0.05), x > 0)):
        used = dropped_events(events, sensor_size=(720, 1280), window=(0.0, 0.1)).used
        assert used == 10 and histogram(events, **PLACE).sum() == 10


def test_noise_widens_narrow_coordinates():
    one = np.ones(1, np.uint8)
    events = Events(*map(jnp.asarray, (one, one, np.float32([0.05]), one, one < 0)))
    far = events_from_arrays([300], [500], [0.01], [1])
    filled, left_out = add_events(events, far)
    assert (int(filled.x[0]), int(filled.y[0]), int(left_out)) == (300, 500, 0)


@pytest.mark.parametrize(
    "t", [np.array([2**31, 2**31 + 1]), np.array([1.7e9, 1.7e9 + 0.1]), [5000, 6000.0]]
)
def test_times_far_from_their_origin_are_refused(t):
    with pytest.raises(ValueError, match="subtract"):
        events_from_arrays([1, 2], [1, 2], t, [0, 1])
    since = np.asarray(t) - np.asarray(t)[0]
    if since[1] < 4000:
        assert float(events_from_arrays([1, 2], [1, 2], since, [0, 1]).t[1]) > 0


def test_float64_holds_them():
    with jax.enable_x64(True):
        events = events_from_arrays([1, 2], [1, 2], np.array([1.7e9, 1.7e9 + 1e-3]), [0, 1])
        assert float(events.t[1] - events.t[0]) == pytest.approx(1e-3, rel=1e-3)


def test_coordinates_that_are_no_pixels_are_refused():
    with pytest.raises(ValueError, match=r"x: .* no pixels"):
        events_from_arrays(np.array([2**32 + 5]), [0], [0.0], [1])


def test_a_grid_beyond_32_bit_arithmetic_is_refused():
    with pytest.raises(ValueError, match="32 bits"):
        Taps((40_000, 4), (70_000, 4))
