"""Changes of the event stream that leave the pose alone: speed, density, polarity, sensor noise.

Capacity is fixed: what is taken away leaves a free place, what is added fills one.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.events.events import Events, check_events
from posejax.geometry import as_float


def scale_time(events: Events, factor: ArrayLike, origin: ArrayLike) -> Events:
    """The same motion at another speed: t becomes origin + factor (t - origin).

    Args:
      events: fields [N].
      factor: below one is faster. Cut a longer window than you show, or its far end stays empty.
      origin: seconds, where time stands still: the query instant, so that its pose stays right.
    """
    return events._replace(t=origin + factor * (events.t - origin))


def thin(key: Array, events: Events, keep: ArrayLike) -> Events:
    """Every event stays with probability `keep`, independently: as from higher thresholds."""
    check_events(events)
    return events._replace(valid=events.valid & jax.random.bernoulli(key, keep, events.x.shape))


def flip_polarity(events: Events, flip: ArrayLike = True) -> Events:
    """ON becomes OFF and OFF becomes ON where `flip`: the light comes from the other side."""
    on = events.p > 0
    return events._replace(p=jnp.where(flip, ~on, on).astype(events.p.dtype))


def add_events(events: Events, new: Events) -> tuple[Events, Array]:
    """The valid ones of `new` [M] in free places of `events` [N].

    Returns:
      Events [N], in no order, and how many of `new` found no place.
    """
    check_events(events)
    check_events(new)
    # The r-th free place takes the r-th valid event of `new`.
    order = jnp.argsort(~new.valid, stable=True)
    count = jnp.sum(new.valid, dtype=jnp.int32)
    rank = jnp.cumsum(~events.valid, dtype=jnp.int32) - 1
    filled = ~events.valid & (rank < count)
    source = order[jnp.clip(rank, 0, len(order) - 1)]
    fields = {
        # In the wider type of the two: as uint8 a new pixel 300 would be pixel 44.
        name: jnp.where(filled, getattr(new, name)[source], old)
        for name, old in events._asdict().items()
        if name != "valid"
    }
    left_out = count - jnp.sum(filled, dtype=jnp.int32)
    return Events(**fields, valid=events.valid | filled), left_out


def add_hot_pixels(
    key: Array,
    events: Events,
    *,
    pixels: int,
    rate: ArrayLike,
    window: tuple[ArrayLike, ArrayLike],
    sensor_size: tuple[int, int],
    most: int = 256,
) -> tuple[Events, Array]:
    """Some pixels that fire all the time, each with one polarity.

    Args:
      key: random key.
      events: fields [N].
      pixels: number of hot pixels, anywhere on the sensor.
      rate: events per second of each.
      window: (start, end), seconds.
      sensor_size: (height, width).
      most: static bound of the events added in all; the expected number is limited to it.

    Returns:
      Events [N], and how many noise events found no free place.
    """
    if pixels == 0:
        return events, jnp.zeros((), jnp.int32)
    where, choose, rest, number = jax.random.split(key, 4)
    places = _uniform(where, pixels, window, sensor_size)
    pixel = jax.random.randint(choose, (most,), 0, pixels)
    fired = _uniform(rest, most, window, sensor_size)
    fired = fired._replace(x=places.x[pixel], y=places.y[pixel], p=places.p[pixel])
    return add_events(events, _some(number, fired, pixels * rate, window))


def add_leak_noise(
    key: Array,
    events: Events,
    *,
    rate: ArrayLike,
    window: tuple[ArrayLike, ArrayLike],
    sensor_size: tuple[int, int],
    on_share: ArrayLike = 1.0,
    most: int = 256,
) -> tuple[Events, Array]:
    """Background events anywhere, at any time.

    Args:
      key: random key.
      events: fields [N].
      rate: events per second and pixel, 0.1 typically.
      window: (start, end), seconds.
      sensor_size: (height, width).
      on_share: 1 for leakage, which makes ON events only; 0.5 for shot noise.
      most: static bound of the events added; the expected number is limited to it.

    Returns:
      Events [N], and how many noise events found no free place.
    """
    place, polarity, number = jax.random.split(key, 3)
    fired = _uniform(place, most, window, sensor_size)
    on = jax.random.bernoulli(polarity, on_share, (most,))
    total = rate * sensor_size[0] * sensor_size[1]
    return add_events(events, _some(number, fired._replace(p=on.astype(jnp.int32)), total, window))


def _uniform(key: Array, number: int, window, sensor_size: tuple[int, int]) -> Events:
    x, y, t, p = jax.random.split(key, 4)
    height, width = sensor_size
    share = jax.random.uniform(t, (number,))
    return Events(
        x=jax.random.randint(x, (number,), 0, width),
        y=jax.random.randint(y, (number,), 0, height),
        t=window[0] + share * (window[1] - window[0]),
        p=jax.random.bernoulli(p, 0.5, (number,)).astype(jnp.int32),
        valid=jnp.ones(number, bool),
    )


def _some(key: Array, events: Events, rate: ArrayLike, window) -> Events:
    """As many as happen at `rate` in all: binomial, for small shares the same as Poisson."""
    expected = rate * (window[1] - window[0])
    share = jnp.clip(expected / len(events.x), 0, 1)
    return events._replace(valid=jax.random.bernoulli(key, share, events.x.shape))


def add_grid_noise(
    key: Array, grid: ArrayLike, *, probability: ArrayLike = 1.0, amplitude: ArrayLike = 0.05
) -> Array:
    """Uniform noise in [0, amplitude) on all cells of a representation, with some probability."""
    grid = as_float(grid)
    use, values = jax.random.split(key)
    noise = jax.random.uniform(values, grid.shape, grid.dtype) * amplitude
    return grid + jnp.where(jax.random.bernoulli(use, probability), noise, 0)
