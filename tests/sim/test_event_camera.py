"""The event camera against a scalar float64 simulation of single pixels, and its statistics."""

import dataclasses

import numpy as np
import pytest

from posejax.sim.event_camera import (
    EventPixels,
    EventSensor,
    PixelEvents,
    event_statistics,
    merge_events,
    noise_events,
)

QUIET = EventSensor(size=(8, 9), noise_rate_hz=0.0, hot_pixels=0, mismatch=0.1)


def reference(levels, times, on, off, reference, rest):
    """Events [(t, polarity)] of one pixel that sees straight lines between levels; all float64."""
    events, wake = [], -np.inf
    for k in range(len(levels) - 1):
        t0, t1, l0, l1 = times[k], times[k + 1], levels[k], levels[k + 1]

        def level(t, t0=t0, t1=t1, l0=l0, l1=l1):
            return l0 + (l1 - l0) * (t - t0) / (t1 - t0)

        while True:
            if wake > t0:  # asleep since an event, maybe one of an earlier line
                if wake > t1:
                    break
                reference = level(wake)
            if l1 == l0:
                break
            target = reference + on if l1 > l0 else reference - off
            crossing = t0 + (target - l0) / (l1 - l0) * (t1 - t0)
            if not t0 <= crossing <= t1:
                break
            events.append((crossing, int(l1 > l0)))
            wake = crossing + rest
    return events


@pytest.mark.parametrize("rest", [0.0, 3e-3, 0.07])
def test_events_of_every_pixel_against_a_scalar_simulation(rng, rest):
    # Rests within a line, over its end, and over more than one line.
    sensor = dataclasses.replace(QUIET, refractory_s=rest)
    times = np.cumsum(rng.uniform(0.01, 0.05, 30))
    levels = np.log(rng.uniform(0.02, 1.0, (30, *sensor.size))).astype(np.float32)
    levels[10:14, :3] = levels[10, :3]  # some pixels stand still for a while
    pixels = EventPixels(rng, sensor, levels[0], (0, 0), times[0])
    start = pixels.reference.astype(np.float64)
    parts = [pixels.observe(levels[k], (0, 0), times[k]) for k in range(1, 30)]
    found = PixelEvents(*map(np.concatenate, zip(*parts, strict=True)))
    assert (np.diff(found.t) >= 0).all()
    total = 0
    for y, x in np.ndindex(*sensor.size):
        mine = (found.y == y) & (found.x == x)
        on, off = float(pixels.on[y, x]), float(pixels.off[y, x])
        column = levels[:, y, x].astype(np.float64)
        expected = reference(column, times, on, off, start[y, x], rest)
        assert list(found.p[mine]) == [p for _, p in expected]
        np.testing.assert_allclose(found.t[mine], [t for t, _ in expected], atol=2e-7)
        if rest > 0 and len(expected) > 1:
            assert np.diff(found.t[mine]).min() > rest - 1e-9
        total += len(expected)
    assert total > 500


def test_what_is_not_listed_leaves_the_pixels_as_it_would(rng):
    levels = np.log(rng.uniform(0.02, 1.0, (8, *QUIET.size))).astype(np.float32)
    sensor = dataclasses.replace(QUIET, refractory_s=0.03)
    found = []
    for listed in (True, False):
        pixels = EventPixels(np.random.default_rng(3), sensor, levels[0], (0, 0), 0.0)
        early = [pixels.observe(levels[k], (0, 0), 0.02 * k, listed=listed) for k in range(1, 5)]
        assert (sum(len(e.t) for e in early) > 20) == listed
        found.append([pixels.observe(levels[k], (0, 0), 0.02 * k) for k in range(5, 8)])
    for with_list, without in zip(*found, strict=True):
        for a, b in zip(with_list, without, strict=True):
            np.testing.assert_array_equal(a, b)


def test_thresholds_of_a_ramp_are_crossed_at_the_times_they_say(rng):
    sensor = dataclasses.replace(QUIET, mismatch=0.0, refractory_s=0.0, contrast_on=0.25)
    flat = np.zeros(sensor.size, np.float32)
    pixels = EventPixels(rng, sensor, flat, (0, 0), 0.0)
    first = pixels.reference[2, 3] + 0.25
    events = pixels.observe(flat + 1.0, (0, 0), 2.0)
    mine = (events.x == 3) & (events.y == 2)
    np.testing.assert_allclose(events.t[mine], 2.0 * np.arange(first, 1.0, 0.25), atol=1e-6)
    assert events.p.all()


def test_patches_that_move_give_the_events_of_whole_pictures():
    sensor = dataclasses.replace(QUIET, size=(20, 30))
    dark = np.float32(np.log(sensor.dark))
    pictures = np.random.default_rng(1)
    patches, wholes = (
        EventPixels(np.random.default_rng(2), sensor, *first, 0.0)
        for first in (
            (np.full((3, 4), dark), (0, 0)),
            (np.full(sensor.size, dark), (0, 0)),
        )
    )
    for k in range(1, 12):
        corner = (k, 2 * k)
        patch = np.log(pictures.uniform(0.1, 1.0, (6, 5))).astype(np.float32)
        whole = np.full(sensor.size, dark)
        whole[k : k + 6, 2 * k : 2 * k + 5] = patch
        a = patches.observe(patch, corner, 0.03 * k)
        b = wholes.observe(whole, (0, 0), 0.03 * k)
        assert len(a.t) > 20
        for left, right in zip(a, b, strict=True):
            np.testing.assert_array_equal(left, right)


def test_on_share_follows_the_thresholds(rng):
    # Over a closed loop ups and downs cancel: N_on C_on = N_off C_off.
    sensor = dataclasses.replace(QUIET, refractory_s=0.0, mismatch=0.0)
    pixels = EventPixels(rng, sensor, np.zeros(sensor.size, np.float32), (0, 0), 0.0)
    polarity = [
        pixels.observe(np.full(sensor.size, 3.0 * (k % 2), np.float32), (0, 0), 0.1 * k).p
        for k in range(1, 41)
    ]
    share = np.concatenate(polarity).mean()
    assert abs(share - sensor.contrast_off / (sensor.contrast_on + sensor.contrast_off)) < 0.01


def test_noise_has_the_rates_it_was_given(rng):
    sensor = EventSensor(size=(200, 300), noise_rate_hz=0.1, noise_on_share=0.3, hot_pixels=3)
    noise = noise_events(rng, sensor, 20.0)
    quiet = dataclasses.replace(sensor, hot_pixels=0)
    assert abs(len(noise_events(rng, quiet, 20.0).t) / (0.1 * 60_000 * 20.0) - 1) < 0.03
    assert abs(noise.p.mean() - 0.3) < 0.01
    assert (np.diff(noise.t) >= 0).all() and noise.t[0] >= 0 and noise.t[-1] <= 20.0
    assert noise.x.max() < 300 and noise.y.max() < 200


def test_merging_sorts_delays_and_cuts(rng):
    sensor = dataclasses.replace(QUIET, latency_s=0.01, jitter_s=0.002)
    t = np.sort(rng.uniform(0, 1, 5000))
    x, p = rng.integers(0, 9, 5000).astype(np.uint16), rng.integers(0, 2, 5000).astype(np.uint8)
    part = PixelEvents(x, x // 2, t, p)
    merged = merge_events(rng, sensor, [part, part], 1.0)
    assert (np.diff(merged.t) >= 0).all() and merged.t[-1] <= 1.0
    assert 9700 < len(merged.t) < 10_000
    found = event_statistics(merged.t - 0.01, merged.p, 1.0)
    assert found.rate_hz == len(merged.t) and found.on_share == merged.p.mean()
    assert abs(found.window_events[1] - 1000) < 60


def test_wrong_use_is_refused(rng):
    with pytest.raises(ValueError, match="positive"):
        EventPixels(rng, dataclasses.replace(QUIET, contrast_on=0.0), np.zeros((2, 2)), (0, 0), 0.0)
    pixels = EventPixels(rng, QUIET, np.zeros((2, 2), np.float32), (0, 0), 0.0)
    with pytest.raises(ValueError, match="time order"):
        pixels.observe(np.zeros((2, 2), np.float32), (0, 0), 0.0)
    with pytest.raises(ValueError, match="leaves"):
        pixels.observe(np.zeros((2, 2), np.float32), (7, 0), 1.0)
