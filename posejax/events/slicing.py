"""Windows of a recording at any instant: which events, and the pose at the query.

A window belongs to a query instant, the time of the pose that is asked for. Its anchor says where
the query lies: at the window's end ("before": the past is seen), at its start ("after") or in its
middle. Mixing them up shifts every label by a window length, so the anchor has no silent default
elsewhere: all functions take a `Window`.

A recording may stay on the device as packed events (8 bytes each, `pack_events`), sorted by time;
several recordings may lie one after another in one array, each in its range of rows.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.data.event_files.windows import Window
from posejax.events.events import Events, as_uint32, unpack_events
from posejax.geometry import as_float, interpolate_pose


def window_bounds(query, window: Window, *, unit: float | None = None):
    """Bounds [start, end) of the window of a query.

    Args:
      query: instants in seconds, or in rows of the recording for a window of `count` events;
        number or array of NumPy or JAX, whose type and precision are kept.
      window: its length and anchor.
      unit: seconds per step of `query`, if these are integers: 1e-6 for microseconds.

    Returns:
      (start, end) like `query`. Neither is cut to the recording.
    """
    length = window.length
    if unit is not None:
        if window.count is not None:
            raise ValueError("a window of count events has no unit: its query is a row")
        length = round(length / unit)
    if window.anchor == "before":
        return query - length, query
    if window.anchor == "after":
        return query, query + length
    before = length // 2 if isinstance(length, int) else length / 2
    return query - before, query + (length - before)


def sliding_windows(start: float, stop: float, window: Window) -> np.ndarray:
    """Bounds of all windows that fit between `start` and `stop`, one after another.

    Args:
      start, stop: seconds, or rows for a window of `count` events.
      window: the next one starts (1 - overlap) * length after the last.

    Returns:
      [n, 2] float64 seconds, or int64 rows; n may be zero.
    """
    if window.count is not None:
        step = max(round(window.length * (1 - window.overlap)), 1)
    else:
        step = window.length * (1 - window.overlap)
    # A last window that ends at `stop` up to rounding belongs to them.
    number = int(np.floor((stop - start - window.length) / step + 1e-9)) + 1
    first = start + step * np.arange(max(number, 0))
    bounds = np.stack([first, first + window.length], axis=-1)
    return bounds.astype(np.int64 if window.count is not None else np.float64)


def query_of(bounds: np.ndarray, window: Window) -> np.ndarray:
    """Query instants of windows [n, 2]: the inverse of `window_bounds`, [n]."""
    start, end = bounds[..., 0], bounds[..., 1]
    middle = start + (end - start) // 2 if window.count is not None else (start + end) / 2
    return {"before": end, "after": start, "centred": middle}[window.anchor]


class Slice(NamedTuple):
    """Events of a window and the number of those that did not fit."""

    events: Events
    left_out: Array


def row_at(
    packed: Array, t_us: ArrayLike, rows: tuple[ArrayLike, ArrayLike] | None = None
) -> Array:
    """First row of packed events that is not before `t_us`.

    Args:
      packed: uint32 [M, 2], sorted by time within `rows`.
      t_us: integer microseconds since the start of the recording; negative is before all.
      rows: [first, last) of the recording in `packed`; all by default.

    Returns:
      int32 row in [first, last].
    """
    low, high = (0, len(packed)) if rows is None else rows
    low, high = jnp.asarray(low, jnp.int32), jnp.asarray(high, jnp.int32)
    key = as_uint32(jnp.maximum(t_us, 0) if not isinstance(t_us, int) else max(t_us, 0))

    def halve(_, span):
        low, high = span
        middle = low + (high - low) // 2
        later = packed[middle, 1] < key
        open_ = low < high
        return (
            jnp.where(open_ & later, middle + 1, low),
            jnp.where(open_ & ~later, middle, high),
        )

    return lax.fori_loop(0, len(packed).bit_length(), halve, (low, high))[0]


def slice_rows(
    packed: Array, first: ArrayLike, last: ArrayLike, *, capacity: int, origin_us: ArrayLike
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
    total = len(packed)
    if total < capacity:
        packed = jnp.pad(packed, ((0, capacity - total), (0, 0)))
    first, last = jnp.clip(first, 0, total), jnp.clip(last, 0, total)
    kept = jnp.maximum(first, last - capacity)
    begin = jnp.minimum(kept, len(packed) - capacity)
    events = unpack_events(lax.dynamic_slice_in_dim(packed, begin, capacity), capacity, origin_us)
    row = begin + jnp.arange(capacity)
    return Slice(events._replace(valid=(row >= kept) & (row < last)), kept - first)


def slice_window(
    packed: Array,
    t0_us: ArrayLike,
    t1_us: ArrayLike,
    *,
    capacity: int,
    rows: tuple[ArrayLike, ArrayLike] | None = None,
) -> Slice:
    """Events with t0_us <= t < t1_us of a recording that lies on the device.

    Args:
      packed: uint32 [M, 2] (`pack_events`), sorted by time within `rows`.
      t0_us, t1_us: integer microseconds, as int32 (to 35 minutes) or uint32 (to 71). t0_us may be
        negative.
      capacity: N, static. Of more events the newest are kept.
      rows: [first, last) of the recording in `packed`; all by default.

    Returns:
      Events [N] with t in seconds since t0_us, and how many were left out. All comparisons are of
      integers. `jax.vmap(..., (None, 0, 0))` cuts many windows at once.
    """
    first, last = row_at(packed, t0_us, rows), row_at(packed, t1_us, rows)
    return slice_rows(packed, first, last, capacity=capacity, origin_us=t0_us)


def pose_at(query: ArrayLike, t: ArrayLike, poses: ArrayLike) -> tuple[Array, Array]:
    """Pose of a track at any instant, on the screw motion between its neighbours.

    Args:
      query: scalar, seconds.
      t: [M] sorted instants of the track, M >= 2, same zero.
      poses: [M, 4, 4], camera_from_body or any other.

    Returns:
      [4, 4], and whether the query lies within the track; outside, the nearest end.
    """
    t, poses = as_float(t), as_float(poses)
    query = jnp.asarray(query, t.dtype)
    after = jnp.clip(jnp.searchsorted(t, query), 1, len(t) - 1)
    start, end = t[after - 1], t[after]
    alpha = jnp.clip((query - start) / jnp.where(end > start, end - start, 1), 0, 1)
    inside = (query >= t[0]) & (query <= t[-1])
    return interpolate_pose(poses[after - 1], poses[after], alpha), inside
