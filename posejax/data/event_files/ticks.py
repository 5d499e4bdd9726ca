"""How long a tick is: inferred from the labels and checked against what the file states.

Simulated recordings of a set may count 100 us and real ones 1 us under the same data set names.
A factor of 100 goes unnoticed by everything downstream, so it is settled here, at the reader.
"""

from dataclasses import dataclass
from os import PathLike

import numpy as np

from posejax.data.errors import DataError

# Labels may cover only a part of the events: a third or a thirtieth is plausible, a hundredth is
# the mismatch of two time units.
REFUSED_RATIO = 30.0
_DECADES = 10.0 ** np.arange(-9, 1)
_NEAR_DECADE = 1.5


@dataclass(frozen=True)
class TickEvidence:
    """What is known besides the stated tick.

    Attributes:
      span: t_max - t_min of the events, ticks.
      n_poses: labels of the recording, 0 = unknown.
      label_step: median distance of label timestamps in ticks, 0 = unknown.
      label_rate: labels per second.
    """

    span: int
    n_poses: int = 0
    label_step: float = 0.0
    label_rate: float = 10.0

    def estimates(self) -> dict[str, float]:
        """{kind of evidence: seconds per tick}, the more exact first."""
        found = {}
        if self.label_step > 0:
            found["label timestamps"] = 1 / (self.label_rate * self.label_step)
        if self.n_poses > 1 and self.span > 0:
            found["event span"] = self.n_poses / self.label_rate / self.span
        return found


def infer_tick(n_poses: int, span: float, label_rate: float = 10.0) -> float:
    """Seconds per tick = n_poses / label_rate / (t_max - t_min), as measured: not rounded."""
    if span <= 0 or n_poses <= 0 or label_rate <= 0:
        raise ValueError(f"{n_poses} poses at {label_rate} Hz over {span} ticks say nothing")
    return n_poses / label_rate / span


def nearest_decade(tick: float) -> float | None:
    """The power of ten seconds (1 ns to 1 s) within a factor of 1.5, or None."""
    ratio = np.abs(np.log(_DECADES / tick))
    best = int(np.argmin(ratio))
    return float(f"{_DECADES[best]:.0e}") if ratio[best] <= np.log(_NEAR_DECADE) else None


def settle_tick(
    file: str | PathLike[str], field: str, stated: float | None, evidence: TickEvidence
) -> float:
    """Seconds per tick: the stated one if nothing speaks against it, else the inferred one.

    Args:
      file, field: what errors name.
      stated: by the caller or the file; None asks for the power of ten that the labels imply.
      evidence: see `TickEvidence`.

    Raises:
      DataError: nothing is stated and the labels do not tell; or two sources differ by more than
        a factor of 30 (100 us against 1 us).
    """
    estimates = evidence.estimates()
    if stated is None:
        kind, estimate = next(iter(estimates.items()), ("", 0.0))
        if not kind:
            hint = "pass tick_seconds, or n_poses and label_rate"
            raise DataError(file, field, "the time unit is not known", "seconds per tick", hint)
        stated = nearest_decade(estimate)
        if stated is None:
            found = f"{estimate:.3g} s per tick by {kind} at {evidence.label_rate:g} labels/s"
            raise DataError(file, field, found, "a power of ten", "pass tick_seconds")
    if not (np.isfinite(stated) and stated > 0):
        raise DataError(file, field, f"tick of {stated} s", "seconds > 0")
    for kind, estimate in estimates.items():
        ratio = max(stated / estimate, estimate / stated)
        if ratio > REFUSED_RATIO:
            found = f"a tick of {stated:g} s, but {estimate:.3g} s by the {kind}"
            found += f" at {evidence.label_rate:g} labels/s: {ratio:.0f} times apart"
            hint = "simulated files often count 100 us and real ones 1 us; see docs/event_files.md"
            raise DataError(file, field, found, "one time unit", hint)
    return float(stated)
