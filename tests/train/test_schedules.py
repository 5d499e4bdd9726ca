"""Schedules against closed forms written down a second time, in float64."""

import math

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posejax.config import Schedule
from posejax.train import schedules


def reference(s: Schedule, steps: int, t: int) -> float:
    """The rate at step t, cycle by cycle and case by case."""

    def duration(x: float) -> int:
        return round(x * steps) if x < 1 else round(x)

    w = duration(s.warmup)
    ramp = s.start + (1 - s.start) * t / w if t < w else None
    if s.kind == "multi_step":
        passed = sum(t >= duration(m) for m in s.milestones)
        return s.peak * (1.0 if ramp is None else ramp) * s.factor**passed
    if ramp is not None:
        if s.kind == "one_cycle":
            ramp = s.start + (1 - s.start) * (1 - math.cos(math.pi * t / w)) / 2
        return s.peak * ramp
    if s.kind == "constant":
        return s.peak
    begin, length, height = w, steps - w, 1.0
    if s.kind == "cosine_restarts":
        first, cycle = duration(s.period), 0
        length = max(1, first)
        while t >= begin + length and begin + length < steps:
            begin, cycle, height = begin + length, cycle + 1, height * s.restart_decay
            length = max(1, round(first * s.period_factor**cycle))
    fraction = min(1.0, (t - begin) / length)
    return s.peak * height * (s.end + (1 - s.end) * (1 + math.cos(math.pi * fraction)) / 2)


@st.composite
def drawn(draw):
    steps = draw(st.integers(2, 400))
    fraction = st.floats(0, 0.9)
    schedule = Schedule(
        kind=draw(
            st.sampled_from(["constant", "cosine", "cosine_restarts", "one_cycle", "multi_step"])
        ),
        peak=draw(st.floats(1e-6, 1)),
        warmup=draw(st.one_of(fraction, st.integers(1, steps - 1).map(float))),
        start=draw(st.floats(0, 1)),
        end=draw(st.floats(0, 1)),
        period=draw(st.integers(1, steps).map(float)),
        period_factor=draw(st.sampled_from([1.0, 1.5, 2.0])),
        restart_decay=draw(st.floats(0.1, 1)),
        milestones=tuple(sorted(draw(st.lists(fraction, max_size=4)))),
        factor=draw(st.floats(0.05, 1)),
    )
    if schedules.duration(schedule.warmup, steps) >= steps:
        schedule = Schedule(**{**vars(schedule), "warmup": 0.0})
    return schedule, steps


@settings(max_examples=60, deadline=None)
@given(drawn())
def test_schedule_is_its_closed_form(case):
    schedule, steps = case
    t = np.unique(np.linspace(0, steps + 3, 50).astype(int))
    rate = jax.vmap(schedules.make(schedule, steps))(t)
    expected = np.array([reference(schedule, steps, int(i)) for i in t])
    # float32 cosine near its zero: the error is relative to the peak.
    np.testing.assert_allclose(rate, expected, rtol=2e-5, atol=2e-6 * schedule.peak)


def test_cosine_and_restarts_agree_with_optax():
    t = np.arange(0, 100)
    mine = jax.vmap(schedules.make(Schedule("cosine", 0.3, warmup=10, start=0.1, end=0.02), 100))
    theirs = optax.warmup_cosine_decay_schedule(0.03, 0.3, 10, 100, 0.006)
    np.testing.assert_allclose(mine(t), [theirs(i) for i in t], rtol=1e-5, atol=1e-7)
    mine = jax.vmap(schedules.make(Schedule("cosine_restarts", 1.0, period=25), 100))
    theirs = optax.sgdr_schedule(
        [dict(init_value=1.0, peak_value=1.0, decay_steps=25, warmup_steps=0)] * 4
    )
    np.testing.assert_allclose(mine(t), [theirs(i) for i in t], rtol=1e-5, atol=1e-6)


def test_schedule_is_traced_once_for_all_steps():
    count = 0
    rate = schedules.make(Schedule("cosine_restarts", warmup=3, period=7), 50)

    @jax.jit
    def traced(t):
        nonlocal count
        count += 1
        return rate(t)

    for t in range(20):
        traced(np.int32(t))
    assert count == 1


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule(peak=-1.0), "peak is -1.0"),
        (Schedule(warmup=200), "warmup of 200 steps does not fit into 100"),
        (Schedule("multi_step", milestones=(0.5, 0.2)), "not increasing"),
        (Schedule("cosine_restarts", period=0.0), "at least one step"),
        (Schedule("cosine_restarts", period_factor=0.5), "period_factor"),
        (Schedule(end=2.0), "end is 2.0"),
    ],
)
def test_senseless_schedules_are_refused(schedule, words):
    with pytest.raises(ValueError, match=words):
        schedules.make(schedule, 100)
