"""Windows of events around an instant: by duration or by count, before, after or around it.

A window belongs to a query instant, the time of the pose that is asked for. Its anchor says where
the query lies: at the window's end ("before": the past is seen), at its start ("after") or in its
middle. Public entries to one challenge anchored the same windows to either end of them, a tenth of
a second apart; here the anchor is always stated, and `window_bounds` is the only place that knows
what it means.

NumPy and plain arithmetic: data workers cut windows without jax, and the same functions take jax's
arrays inside a jitted step.
"""

import bisect
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

Anchor = Literal["before", "after", "centred"]
_MICROSECOND = 1e-6


@dataclass(frozen=True)
class Window:
    """Which events belong to a query instant.

    Attributes:
      anchor: the window lies before the instant, after it, or around it.
      duration: seconds; ignored if `count` is given.
      count: number of events instead of a duration: the ones nearest to the instant on the
        anchor's side (half of them on either side if centred).
      overlap: share of a window that the next one of `sliding_windows` repeats, in [0, 1).
    """

    anchor: Anchor = "after"
    duration: float = 0.1
    count: int | None = None
    overlap: float = 0.0

    def __post_init__(self):
        if not (np.isfinite(self.duration) and self.duration > 0):
            raise ValueError(f"duration is {self.duration}; expected seconds > 0")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count is {self.count}; expected at least 1")
        if self.anchor not in get_args(Anchor):
            raise ValueError(f"anchor is {self.anchor!r}; expected before, after or centred")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap is {self.overlap}; expected 0 <= overlap < 1")

    @property
    def length(self) -> float:
        """Seconds, or events."""
        return self.duration if self.count is None else self.count

    def reach(self, unit: float | None = None) -> tuple[float, float]:
        """How far the window reaches before and after the instant; the two add up to its length.

        Seconds, or events; with `unit` whole steps of so many seconds. The middle of a window of an
        odd number of steps or events lies in front of the one in the middle.
        """
        length = self.length
        if unit is not None:
            if self.count is not None:
                raise ValueError("a window of count events has no unit: its query is a row")
            length = round(length / unit)
            if length < 1:
                raise ValueError(f"a window of {self.duration} s is shorter than a step, {unit} s")
        whole = self.count is not None or unit is not None
        half = length // 2 if whole else length / 2
        before = {"before": length, "after": 0, "centred": half}[self.anchor]
        return before, length - before


def window_bounds(query: Any, window: Window, *, unit: float | None = None) -> tuple[Any, Any]:
    """Bounds [start, end) of the window of a query.

    Args:
      query: instants in seconds, or in rows of the recording for a window of `count` events;
        number or array of NumPy or JAX, whose type and precision are kept.
      window: its length and anchor.
      unit: seconds per step of `query`, if these are integers: 1e-6 for microseconds.

    Returns:
      (start, end) like `query`. Neither is cut to the recording.

    Raises:
      ValueError: unsigned queries, in which nothing lies before zero.
    """
    dtype = getattr(query, "dtype", None)
    if dtype is not None and np.dtype(dtype).kind == "u":
        raise ValueError(f"query is {dtype}: a window may start before zero; use signed integers")
    before, after = window.reach(unit)
    return query - before, query + after


def query_of(bounds: np.ndarray, window: Window) -> np.ndarray:
    """Query instants of windows [n, 2]: the inverse of `window_bounds`, [n]."""
    start, end = bounds[..., 0], bounds[..., 1]
    whole = window.count is not None
    middle = start + ((end - start) // 2 if whole else (end - start) / 2)
    return {"before": end, "after": start, "centred": middle}[window.anchor]


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


def window_rows(t_us: np.ndarray, query_us: int, window: Window) -> tuple[slice, int, int]:
    """Rows of a recording that lie in the window of a query, on the host.

    Args:
      t_us: [N] integer microseconds, sorted.
      query_us: the instant.
      window: by duration or by count.

    Returns:
      The rows; start and end of the window (us), by which time is normalised: rows are
      start <= t < end. Windows by count end at the instant and at the outermost event they hold.
    """
    # searchsorted would copy a column of packed events whole, for two look-ups.
    if window.count is None:
        start, end = window_bounds(int(query_us), window, unit=_MICROSECOND)
        return slice(*(bisect.bisect_left(t_us, limit) for limit in (start, end))), start, end
    at = bisect.bisect_left(t_us, query_us)
    first, last = window_bounds(at, window)
    first, last = max(0, first), min(len(t_us), last)
    start = int(t_us[first]) if first < at else query_us
    end = int(t_us[last - 1]) + 1 if last > at else query_us
    return slice(first, last), min(start, query_us), max(end, query_us, start + 1)
