"""Learning-rate schedules in closed form: pure functions of the step."""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import jax
import jax.numpy as jnp
import numpy as np

from posejax.config import ConfigError, Schedule

ScheduleFn = Callable[[jax.Array], jax.Array]


def duration(value: float, steps: int) -> int:
    """Steps of a duration that is a fraction of all steps if below 1."""
    return round(value * steps) if 0 <= value < 1 else round(value)


def check(schedule: Schedule, steps: int) -> None:
    """Raise ConfigError for values that make no rate, naming the field."""

    def need(ok: bool, text: str) -> None:
        if not ok:
            raise ConfigError(f"schedule: {text}")

    s = schedule
    need(s.peak >= 0, f"peak is {s.peak}; expected >= 0")
    need(0 <= s.start <= 1, f"start is {s.start}; expected a fraction of the peak in [0, 1]")
    need(0 <= s.end <= 1, f"end is {s.end}; expected a fraction of the peak in [0, 1]")
    need(s.warmup >= 0, f"warmup is {s.warmup}; expected >= 0")
    warmup = duration(s.warmup, steps)
    need(
        warmup < steps or s.kind in ("constant", "multi_step"),
        f"warmup of {warmup} steps does not fit into {steps} steps; "
        "give it as a fraction, e.g. 0.05",
    )
    if s.kind == "cosine_restarts":
        need(duration(s.period, steps) >= 1, f"period is {s.period}; expected at least one step")
        need(s.period_factor >= 1, f"period_factor is {s.period_factor}; expected >= 1")
    if s.kind == "multi_step":
        times = [duration(m, steps) for m in s.milestones]
        need(times == sorted(times), f"milestones {s.milestones} are not increasing")


def make(schedule: Schedule, steps: int) -> ScheduleFn:
    """Rate at a step.

    With w the warm-up and u = t - w, in units of the peak and for t >= w:

    - constant: 1
    - cosine: end + (1 - end) (1 + cos(pi min(u / (steps - w), 1))) / 2        (SGDR, 1608.03983)
    - cosine_restarts: the same over each cycle, cycle i being period * period_factor^i long and
      restart_decay^i high
    - one_cycle: as cosine; the warm-up rises along half a cosine, too                (1708.07120)
    - multi_step: factor^(milestones passed), milestones counted in t

    and start + (1 - start) t / w before. Steps past the end keep the last value.

    Args:
      schedule: shape.
      steps: all steps of the run, in which fractions are measured.

    Returns:
      Function from an integer step (traced or not) to a float32 scalar.
    """
    check(schedule, steps)
    s = schedule
    warmup = duration(s.warmup, steps)

    def cosine(fraction: jax.Array) -> jax.Array:
        fraction = jnp.clip(fraction, 0.0, 1.0)
        return s.end + (1 - s.end) * 0.5 * (1 + jnp.cos(jnp.pi * fraction))

    if s.kind == "cosine_restarts":
        begins, lengths = _cycles(s, warmup, steps)
    milestones = np.array([duration(m, steps) for m in s.milestones], np.int32)

    def rate(step: jax.Array) -> jax.Array:
        t = jnp.asarray(step)
        after = (t - warmup).astype(jnp.float32)
        if s.kind == "constant":
            shape = jnp.float32(1)
        elif s.kind in ("cosine", "one_cycle"):
            shape = cosine(after / (steps - warmup))
        elif s.kind == "cosine_restarts":
            cycle = jnp.clip(jnp.searchsorted(begins, t, side="right") - 1, 0)
            into = (t - jnp.asarray(begins)[cycle]) / jnp.asarray(lengths)[cycle]
            shape = cosine(into) * s.restart_decay ** cycle.astype(jnp.float32)
        else:
            shape = s.factor ** jnp.sum(t >= milestones).astype(jnp.float32)
        if warmup:
            rising = t / jnp.float32(warmup)
            if s.kind == "one_cycle":
                rising = 0.5 * (1 - jnp.cos(jnp.pi * rising))
            # A milestone may fall into the warm-up: it scales the ramp as it scales the plateau.
            ramp = (s.start + (1 - s.start) * rising) * (shape if s.kind == "multi_step" else 1.0)
            shape = jnp.where(t < warmup, ramp, shape)
        return jnp.float32(s.peak) * shape

    return rate


def scaled(schedule: Schedule, multiplier: float) -> Schedule:
    """The same shape with another peak."""
    return replace(schedule, peak=schedule.peak * multiplier)


def _cycles(s: Schedule, warmup: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """First steps and lengths of the cycles that begin within the run."""
    lengths, total, i = [], warmup, 0
    while total < steps or not lengths:
        lengths.append(max(1, round(duration(s.period, steps) * s.period_factor**i)))
        total += lengths[-1]
        i += 1
    begins = list(accumulate(lengths, initial=warmup))[:-1]
    return np.array(begins, np.int32), np.array(lengths, np.float32)
