"""Events as a pytree of fixed capacity: construction, unpacking, what is dropped.

An event is a pixel, an instant and a sign of change. Arrays have a fixed length, the capacity, and
a mask: windows of any number of events go through one compiled function.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

_BITS = 14  # of a packed coordinate
_MASK = (1 << _BITS) - 1


class Events(NamedTuple):
    """Events of one window, in any order; entries that are not valid have no meaning.

    x, y: [N] pixel of the sensor as an array index: pixel x covers [x - 0.5, x + 0.5), and its
      centre has the continuous coordinate x + 0.5 of `docs/conventions.md`. Integers as recorded,
      or floats after a change of view.
    t: [N] float seconds relative to an origin that the caller chooses, such as the start of the
      window. Relative, because float32 resolves 0.1 us at one second and 4 us at one minute.
    p: [N] polarity, 1 = ON (brighter), 0 = OFF.
    valid: [N] bool.
    """

    x: Array
    y: Array
    t: Array
    p: Array
    valid: Array


class Dropped(NamedTuple):
    """How many valid events a representation takes and leaves out; int32 scalars."""

    used: Array
    outside_sensor: Array
    """Not on the sensor, for instance turned out of view."""
    outside_window: Array
    """On the sensor, but not in [start, end)."""


def check_events(events: Events) -> None:
    """ValueError unless all fields are [N]."""
    shapes = {name: jnp.shape(v) for name, v in events._asdict().items()}
    if len(set(shapes.values())) != 1 or len(shapes["x"]) != 1:
        raise ValueError(f"fields of events are all [N], got {shapes}; use jax.vmap for batches")


def events_from_arrays(
    x: ArrayLike, y: ArrayLike, t: ArrayLike, p: ArrayLike, *, capacity: int | None = None
) -> Events:
    """Events of arrays [M], padded to `capacity`.

    Args:
      x: pixel column; y: pixel row; t: seconds relative to your origin (subtract it in float64 or
        integers first); p: polarity, positive = ON (so 0/1, False/True and -1/+1 all work).
      capacity: length N >= M of the result; M if not given.

    Raises:
      ValueError: lengths differ, or more events than capacity. Nothing is dropped silently.
    """
    arrays = {"x": jnp.asarray(x), "y": jnp.asarray(y), "t": jnp.asarray(t), "p": jnp.asarray(p)}
    shapes = {name: a.shape for name, a in arrays.items()}
    if len(set(shapes.values())) != 1 or len(shapes["x"]) != 1:
        raise ValueError(f"x, y, t and p are arrays of one length, got {shapes}")
    (count,) = shapes["x"]
    capacity = count if capacity is None else capacity
    if count > capacity:
        raise ValueError(f"{count} events do not fit into capacity {capacity}: slice or thin them")
    arrays["t"] = arrays["t"].astype(jnp.promote_types(arrays["t"].dtype, jnp.float32))
    arrays["p"] = (arrays["p"] > 0).astype(jnp.int32)
    padded = {name: jnp.pad(a, (0, capacity - count)) for name, a in arrays.items()}
    return Events(**padded, valid=jnp.arange(capacity) < count)


def unpack_events(packed: ArrayLike, count: ArrayLike, start_us: ArrayLike = 0) -> Events:
    """Inverse of `pack_events`, on any device: words x | y << 14 | p << 28 and microseconds.

    Args:
      packed: uint32 [N, 2].
      count: how many of them are events; the others are padding.
      start_us: integer microseconds; the origin of the result's t. The difference is taken in
        integers (modulo 2^32), so it is exact up to 35 minutes either way.

    Returns:
      Events with integer x, y and t in seconds since `start_us`.
    """
    packed = jnp.asarray(packed)
    if packed.ndim != 2 or packed.shape[1] != 2 or packed.dtype != jnp.uint32:
        raise ValueError(f"packed events are uint32 [N, 2], got {packed.dtype} {packed.shape}")
    word, time = packed[:, 0], packed[:, 1]
    since = lax.bitcast_convert_type(time - as_uint32(start_us), jnp.int32)
    return Events(
        x=(word & _MASK).astype(jnp.int32),
        y=(word >> _BITS & _MASK).astype(jnp.int32),
        t=since.astype(jnp.float32) * jnp.float32(1e-6),
        p=(word >> 2 * _BITS & 1).astype(jnp.int32),
        valid=jnp.arange(len(packed)) < count,
    )


def as_uint32(value: ArrayLike) -> Array:
    """An integer, also a Python int up to 2^32 or a negative one, modulo 2^32 as uint32."""
    if isinstance(value, int | np.integer):
        return jnp.asarray(np.uint32(int(value) % 2**32))
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(f"times of packed events are integer microseconds, got {value.dtype}")
    return value.astype(jnp.uint32)


def on_sensor(events: Events, sensor_size: tuple[int, int]) -> Array:
    """[N] bool: the event's position lies on the sensor of (height, width) pixels. NaN does not."""
    height, width = sensor_size

    def within(x, size):
        if jnp.issubdtype(x.dtype, jnp.integer):
            return (x >= 0) & (x < size)
        return (x >= -0.5) & (x < size - 0.5)

    return within(events.x, width) & within(events.y, height)


def dropped_events(
    events: Events, *, sensor_size: tuple[int, int], window: tuple[ArrayLike, ArrayLike]
) -> Dropped:
    """Count what `voxel_grid` and the other representations take and leave out.

    Args:
      events: fields [N].
      sensor_size: (height, width) in pixels.
      window: (start, end) in the events' seconds.
    """
    check_events(events)
    inside = on_sensor(events, sensor_size)
    in_time = (events.t >= window[0]) & (events.t < window[1])
    masks = inside & in_time, ~inside, inside & ~in_time
    return Dropped(*(jnp.sum(events.valid & mask, dtype=jnp.int32) for mask in masks))
