"""Windows of events around an instant: by duration or by count, before, after or around it.

Public entries to one challenge anchored the same windows to either end of them, a tenth of a second
apart; here the anchor is always stated.
"""

import bisect
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Anchor = Literal["before", "after", "centred"]


@dataclass(frozen=True)
class Window:
    """Which events belong to a query instant.

    Attributes:
      anchor: the window lies before the instant, after it, or around it.
      duration: seconds; ignored if `count` is given.
      count: number of events instead of a duration: the ones nearest to the instant on the
        anchor's side (half of them on either side if centred).
      overlap: share of a window that the next one of `posejax.events.sliding_windows` repeats, in
        [0, 1).
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

    @property
    def reach(self) -> tuple[float, float]:
        """Seconds that the window reaches before and after the instant."""
        before = {"before": 1.0, "after": 0.0, "centred": 0.5}[self.anchor]
        return before * self.duration, (1 - before) * self.duration

    def bounds(self, t: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Start and end (s) of windows by duration at the instants `t` (s)."""
        before, after = self.reach
        return np.asarray(t) - before, np.asarray(t) + after

    def rows(self, t_us: np.ndarray, query_us: int) -> tuple[slice, int, int]:
        """Rows of sorted times, and the bounds that time is normalised by.

        Args:
          t_us: [N] microseconds, sorted.
          query_us: the instant.

        Returns:
          The rows; start and end of the window (us): rows are start <= t < end. Windows by count
          end at the instant and at the outermost event they hold.
        """
        if self.count is None:
            before, after = (round(1e6 * s) for s in self.reach)
            start, end = query_us - before, query_us + after
            # searchsorted would copy a column of packed events whole, for two look-ups.
            first, last = (bisect.bisect_left(t_us, limit) for limit in (start, end))
            return slice(first, last), start, end
        at = bisect.bisect_left(t_us, query_us)
        left = {"before": self.count, "after": 0, "centred": self.count // 2}[self.anchor]
        first, last = max(0, at - left), min(len(t_us), at + self.count - left)
        rows = slice(first, last)
        start = int(t_us[first]) if first < at else query_us
        end = int(t_us[last - 1]) + 1 if last > at else query_us
        return rows, min(start, query_us), max(end, query_us, start + 1)
