"""Windows of a recording on the device: which events, and the pose at the query.

A recording may stay on the device as packed events (8 bytes each, `pack_events`), sorted by time;
several recordings may lie one after another in one array, each in its range of rows. The bounds of
a window come from `window_bounds`, on the host or inside the step.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.events.events import Events, Halves, before, halves, unpack_between
from posejax.events.packing import TIME_LIMIT_US
from posejax.geometry import as_float, interpolate_pose

_FAR = TIME_LIMIT_US * 1e-6  # s; beyond it float32 resolves half a millisecond


class Slice(NamedTuple):
    """Events of a window and the number of those that did not fit."""

    events: Events
    left_out: Array


def row_at(
    packed: ArrayLike, t_us: ArrayLike, rows: tuple[ArrayLike, ArrayLike] | None = None
) -> Array:
    """First row of packed events that is not before `t_us`.

    Args:
      packed: uint32 [M, 2], sorted by time within `rows`.
      t_us: integer microseconds since the start of the recording, of Python, NumPy or JAX.
        Negative is before all, 2^32 and more after all.
      rows: [first, last) of the recording in `packed`; all by default.

    Returns:
      int32 row in [first, last].
    """
    packed = jnp.asarray(packed)
    return _row_at(packed, halves(t_us), _range(packed, rows))


def _range(packed: Array, rows: tuple[ArrayLike, ArrayLike] | None) -> tuple[Array, Array]:
    low, high = (0, len(packed)) if rows is None else rows
    return _int32_row(low), _int32_row(high)


@jax.jit
def _row_at(packed: Array, t: Halves, rows: tuple[Array, Array]) -> Array:
    low, high = rows

    def halve(_, span):
        low, high = span
        middle = low + (high - low) // 2
        later = before(halves(packed[middle, 1]), t)
        open_ = low < high
        return (
            jnp.where(open_ & later, middle + 1, low),
            jnp.where(open_ & ~later, middle, high),
        )

    return lax.fori_loop(0, len(packed).bit_length(), halve, (low, high))[0]


def slice_rows(
    packed: ArrayLike, first: ArrayLike, last: ArrayLike, *, capacity: int, origin_us: ArrayLike
) -> Slice:
    """Events of the rows [first, last).

    Args:
      packed: uint32 [M, 2] on the device.
      first, last: int32 rows.
      capacity: N, static. Of more rows the newest are kept.
      origin_us: integer microseconds, the zero of the result's t.

    Returns:
      Events [N], oldest first, and how many were left out.
    """
    first, last = _int32_row(first), _int32_row(last)
    return _slice(jnp.asarray(packed), first, last, halves(origin_us), None, int(capacity))


def _int32_row(row: ArrayLike) -> Array:
    """A row of any integer type; one beyond all arrays stays beyond."""
    if isinstance(row, jax.Array):
        return row
    limits = np.iinfo(np.int32)
    return jnp.asarray(np.clip(row, limits.min, limits.max).astype(np.int32))


@partial(jax.jit, static_argnames="capacity")
def _slice(
    packed: Array,
    first: ArrayLike,
    last: ArrayLike,
    origin: Halves,
    end: Halves | None,
    capacity: int,
) -> Slice:
    total = len(packed)
    if total < capacity:
        packed = jnp.pad(packed, ((0, capacity - total), (0, 0)))
    first, last = jnp.clip(first, 0, total), jnp.clip(last, 0, total)
    kept = jnp.maximum(first, last - capacity)
    begin = jnp.minimum(kept, len(packed) - capacity)
    rows = lax.dynamic_slice_in_dim(packed, begin, capacity)
    events = unpack_between(rows, capacity, origin, end)
    row = begin + jnp.arange(capacity)
    return Slice(events._replace(valid=(row >= kept) & (row < last)), kept - first)


def slice_window(
    packed: ArrayLike,
    t0_us: ArrayLike,
    t1_us: ArrayLike,
    *,
    capacity: int,
    rows: tuple[ArrayLike, ArrayLike] | None = None,
) -> Slice:
    """Events with t0_us <= t < t1_us of a recording that lies on the device.

    Args:
      packed: uint32 [M, 2] (`pack_events`), sorted by time within `rows`.
      t0_us, t1_us: integer microseconds of Python, NumPy or JAX (there int32 reaches 35 minutes,
        uint32 71). t0_us may be negative.
      capacity: N, static. Of more events the newest are kept.
      rows: [first, last) of the recording in `packed`; all by default.

    Returns:
      Events [N] with t in seconds since t0_us, before the end of the window also where float32
      would round them onto it, and how many were left out. All comparisons are of integers.
      `jax.vmap(..., (None, 0, 0))` cuts many windows at once.
    """
    packed, start, end = jnp.asarray(packed), halves(t0_us), halves(t1_us)
    first, last = (_row_at(packed, t, _range(packed, rows)) for t in (start, end))
    return _slice(packed, first, last, start, end, int(capacity))


def pose_at(query: ArrayLike, t: ArrayLike, poses: ArrayLike) -> tuple[Array, Array]:
    """Pose of a track at any instant, on the screw motion between its neighbours.

    Args:
      query: scalar, seconds.
      t: [M] sorted instants of the track, M >= 2, same zero. NumPy's float64 may count from any
        zero, such as 1970: differences are taken before they become float32.
      poses: [M, 4, 4], camera_from_body or any other.

    Returns:
      [4, 4], and whether the query lies within the track; outside, the nearest end.

    Raises:
      ValueError: a float32 query in a track that starts more than 71 minutes from its zero.
    """
    query, t = _near_zero(query, t)
    return _pose_at(query, t, as_float(poses))


def _near_zero(query: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
    """Both from the start of a track: float32 holds Unix times to two minutes only."""
    if isinstance(t, jax.Array):
        return jnp.asarray(query, as_float(t).dtype), as_float(t)
    t = np.asarray(t, np.float64)
    zero = t[0]
    if isinstance(query, jax.Array) and query.dtype != np.float64 and abs(zero) > _FAR:
        raise ValueError(
            f"t starts at {zero:g} s, which float32 queries cannot resolve: subtract a start from "
            "both, in float64"
        )
    since = query - zero if isinstance(query, jax.Array) else np.asarray(query, np.float64) - zero
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    return jnp.asarray(since, dtype), jnp.asarray(t - zero, dtype)


@jax.jit
def _pose_at(query: Array, t: Array, poses: Array) -> tuple[Array, Array]:
    after = jnp.clip(jnp.searchsorted(t, query), 1, len(t) - 1)
    start, end = t[after - 1], t[after]
    alpha = jnp.clip((query - start) / jnp.where(end > start, end - start, 1), 0, 1)
    inside = (query >= t[0]) & (query <= t[-1])
    return interpolate_pose(poses[after - 1], poses[after], alpha), inside
