"""Events as a pytree of fixed capacity: construction, unpacking, what is dropped.

An event is a pixel, an instant and a sign of change. Arrays have a fixed length, the capacity, and
a mask: windows of any number of events go through one compiled function.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from posejax.events.packing import COORDINATE_BITS, MAX_SIDE, TIME_LIMIT_US
from posejax.geometry import as_float

_FURTHEST = 1 << 47  # microseconds, 4 years


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

    Returns:
      Events with integer coordinates as int32.

    Raises:
      ValueError: lengths differ, or more events than capacity: nothing is dropped silently.
        Coordinates that int32 does not hold, or times in float32 that are further than 71 minutes
        from their origin, where neighbouring numbers are half a millisecond apart. Values under
        `jax.jit` are not known and not checked.
    """
    arrays = {"x": _coordinate("x", x), "y": _coordinate("y", y), "t": _seconds(t)}
    arrays["p"] = (jnp.asarray(p) > 0).astype(jnp.int32)
    shapes = {name: a.shape for name, a in arrays.items()}
    if len(set(shapes.values())) != 1 or len(shapes["x"]) != 1:
        raise ValueError(f"x, y, t and p are arrays of one length, got {shapes}")
    (count,) = shapes["x"]
    capacity = count if capacity is None else int(capacity)
    if count > capacity:
        raise ValueError(f"{count} events do not fit into capacity {capacity}: slice or thin them")
    padded = {name: jnp.pad(a, (0, capacity - count)) for name, a in arrays.items()}
    return Events(**padded, valid=jnp.arange(capacity) < count)


def _coordinate(name: str, values: ArrayLike) -> Array:
    """Floats as they are; integers as int32, because sums and comparisons of uint8 wrap."""
    if isinstance(values, jax.Array):
        integer = jnp.issubdtype(values.dtype, jnp.integer)
        return values.astype(jnp.int32) if integer else as_float(values)
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        return jnp.asarray(values, jax.dtypes.canonicalize_dtype(values.dtype))
    limits = np.iinfo(np.int32)
    if values.size and not limits.min <= int(values.min()) <= int(values.max()) <= limits.max:
        raise ValueError(f"{name}: {values.min()} to {values.max()} are no pixels of a sensor")
    return jnp.asarray(values.astype(np.int32))


def _seconds(t: ArrayLike) -> Array:
    """Relative times as floats; ValueError where float32 would blur them."""
    if isinstance(t, jax.Array):
        return as_float(t)
    t = np.asarray(t)
    dtype = jax.dtypes.canonicalize_dtype(np.promote_types(t.dtype, np.float32))
    furthest = np.max(np.abs(np.where(np.isfinite(t), t, 0).astype(np.float64)), initial=0)
    if dtype == np.float32 and furthest > TIME_LIMIT_US * 1e-6:
        raise ValueError(
            f"t: {furthest:g} s is too far from its origin for float32; subtract one near the "
            "events first, in float64 or integers, as in t - t[0]"
        )
    return jnp.asarray(t.astype(dtype))


class Halves(NamedTuple):
    """Microseconds high * 65536 + low as int32, 0 <= low < 65536: 48 bits without 64-bit integers.

    Differences and comparisons of packed times with any instant are exact in them; in 32 bits they
    would wrap after 35 minutes.
    """

    high: Array
    low: Array


def halves(us: ArrayLike) -> Halves:
    """Integer microseconds, of Python, NumPy or JAX.

    Raises:
      ValueError: floats, or (if the value is known) more than 4 years.
    """
    if not isinstance(us, jax.Array):
        values = np.asarray(us)
        within = values.dtype.kind in "iu" and (
            values.size == 0 or -_FURTHEST < int(values.min()) <= int(values.max()) < _FURTHEST
        )
        if not within:
            raise ValueError(f"times are integer microseconds below 2^47, got {us!r}")
        us = values.astype(np.int64)
        return Halves(*(jnp.asarray(v.astype(np.int32)) for v in (us >> 16, us & 0xFFFF)))
    if not jnp.issubdtype(us.dtype, jnp.integer):
        raise ValueError(f"times of packed events are integer microseconds, got {us.dtype}")
    if us.dtype.itemsize < 4:
        us = us.astype(jnp.int32)
    return Halves((us >> 16).astype(jnp.int32), (us & 0xFFFF).astype(jnp.int32))


def before(a: Halves, b: Halves) -> Array:
    """a < b."""
    return (a.high < b.high) | ((a.high == b.high) & (a.low < b.low))


def _seconds_between(start: Halves, end: Halves) -> Array:
    """float32 end - start: both products are exact, the sum is rounded once."""
    high, low = ((e - s).astype(jnp.float32) for s, e in zip(start, end, strict=True))
    return (high * 65536 + low) * jnp.float32(1e-6)


def unpack_events(
    packed: ArrayLike,
    count: ArrayLike,
    start_us: ArrayLike = 0,
    *,
    end_us: ArrayLike | None = None,
) -> Events:
    """Inverse of `pack_events`, on any device: words x | y << 14 | p << 28 and microseconds.

    Args:
      packed: uint32 [N, 2].
      count: how many of them are events; the others are padding.
      start_us: integer microseconds, also negative or beyond 2^32; the origin of the result's t.
        The difference is taken in integers and rounded once.
      end_us: integer microseconds, the end of the window that is going to be shown. float32 rounds
        the last events of a window of more than 4 s onto its end, where they would be left out;
        with `end_us` those that lie before it stay before it, by up to 4 steps of float32.

    Returns:
      Events with integer x, y and t in seconds since `start_us`.
    """
    packed = jnp.asarray(packed)
    if packed.ndim != 2 or packed.shape[1] != 2 or packed.dtype != jnp.uint32:
        raise ValueError(f"packed events are uint32 [N, 2], got {packed.dtype} {packed.shape}")
    return unpack_between(
        packed, count, halves(start_us), None if end_us is None else halves(end_us)
    )


@jax.jit
def unpack_between(packed: Array, count: ArrayLike, start: Halves, end: Halves | None) -> Events:
    """`unpack_events` of checked arguments."""
    word, time, side = packed[:, 0], halves(packed[:, 1]), MAX_SIDE - 1
    t = _seconds_between(start, time)
    if end is not None:
        latest = _seconds_between(start, end) * (1 - 2.0**-22)
        t = jnp.where(before(time, end), jnp.minimum(t, latest), t)
    return Events(
        x=(word & side).astype(jnp.int32),
        y=(word >> COORDINATE_BITS & side).astype(jnp.int32),
        t=t,
        p=(word >> 2 * COORDINATE_BITS & 1).astype(jnp.int32),
        valid=jnp.arange(len(packed)) < count,
    )


def on_sensor(events: Events, sensor_size: tuple[int, int]) -> Array:
    """[N] bool: the event's position lies on the sensor of (height, width) pixels. NaN does not."""
    height, width = sensor_size

    def within(x, size):
        if jnp.issubdtype(x.dtype, jnp.integer):
            x = x.astype(jnp.int32)  # uint8 cannot be compared with 256: it would become 0
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
