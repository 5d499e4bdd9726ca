"""What is wrong, or only remarkable, with a recording: the questions to ask before training on it.

`audit` also takes bare arrays, so that it can describe what `EventRecording` refuses to hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from posejax.data.errors import DataError
from posejax.data.event_files.recording import EventRecording, PoseTrack
from posejax.data.event_files.ticks import REFUSED_RATIO, infer_tick, nearest_decade

Level = Literal["refused", "warning", "note"]
_LISTED = 8
# A pixel is hot if it fires HOT_RATIO times more than the busiest but one of its 24 neighbours:
# an edge excites many neighbours alike, a defect one pixel (or two, touching).
_HOT_RATIO = 4.0
_HOT_RATE = 20.0  # events/s below which no pixel is worth naming
_HOT_COUNT = 16  # nor one with fewer events than that
_CANDIDATES = 1000
_LARGEST = 4096  # pixels a side that are counted: wild coordinates must not ask for wild memory
_UNIT_RATIO = 1.5  # of stated and inferred tick: above it labels and events do not cover the same


@dataclass(frozen=True)
class Finding:
    """One sentence about a recording: `level` "refused" makes it unusable."""

    level: Level
    topic: str
    text: str


@dataclass(frozen=True)
class AuditReport:
    """What `audit` found.

    Attributes:
      name: of the recording.
      findings: in the order of the checks.
      events: number of events.
      tick_seconds: the stated tick, else the inferred one; NaN where neither is known.
      inferred_tick: n_poses / label_rate / (t_max - t_min); NaN without labels.
      duration: seconds from the first to the last event.
      rate: events per second.
      on_ratio: share of ON events.
      hot_pixels: [K, 2] int (x, y), the busiest first.
      empty_windows: [K] indices of windows (label k to k + 1) without an event.
      window_counts: [M - 1] events between neighbouring labels.
    """

    name: str
    findings: tuple[Finding, ...]
    events: int
    tick_seconds: float
    inferred_tick: float
    duration: float
    rate: float
    on_ratio: float
    hot_pixels: np.ndarray
    empty_windows: np.ndarray
    window_counts: np.ndarray

    @property
    def refused(self) -> tuple[Finding, ...]:
        """Findings that make the recording unusable."""
        return tuple(f for f in self.findings if f.level == "refused")

    def text(self) -> str:
        """The report for people, one line per finding."""
        head = (
            f"{self.name}: {self.events} events in {self.duration:.3f} s "
            f"({self.rate:.3g} events/s, {100 * self.on_ratio:.0f} % ON), "
            f"tick {self.tick_seconds:g} s"
        )
        lines = [f"  {f.level:<8}{f.topic}: {f.text}" for f in self.findings]
        return "\n".join([head, *(lines or ["  nothing to remark"])])


def audit(
    events: EventRecording | Mapping[str, np.ndarray],
    *,
    tick_seconds: float | None = None,
    sensor_size: tuple[int, int] | None = None,
    labels: PoseTrack | None = None,
    n_poses: int = 0,
    label_rate: float | None = None,
    name: str = "",
    refuse: bool = True,
) -> AuditReport:
    """Check a recording: time unit, order, sensor bounds, polarity, hot pixels, empty windows.

    Args:
      events: a recording, or arrays x, y, t, p [N] as they came out of a file.
      tick_seconds, sensor_size, labels, name: of bare arrays; given with a recording they replace
        its own. `sensor_size` is (height, width).
      n_poses: labels of the recording, where the poses themselves are not known.
      label_rate: labels per second, which is what the inferred tick stands on; None takes the rate
        of the labels' own times, or 10 where there are only `n_poses`. Give it where the times of
        the labels were counted in the ticks in question.
      refuse: False only reports what would be refused.

    Returns:
      the report. Windows without labels last 1 / label_rate from the first event on.

    Raises:
      DataError: (unless `refuse` is False) the tick is 30 or more times off the one that the
        labels imply; unsorted times; pixels off the sensor; a polarity that is neither 0/1 nor
        -1/+1; columns of different length.
    """
    if isinstance(events, EventRecording):
        tick_seconds = events.tick_seconds if tick_seconds is None else tick_seconds
        sensor_size = sensor_size or events.sensor_size
        labels = events.labels if labels is None else labels
        name = name or events.path or events.name
        events = {key: getattr(events, key) for key in "xytp"}
    name = name or "recording"
    x, y, t, p = (_column(name, events, key) for key in "xytp")
    if len({len(x), len(y), len(t), len(p)}) > 1:
        found = f"{len(x)}, {len(y)}, {len(t)}, {len(p)}"
        raise DataError(name, "x, y, t, p", f"lengths {found}", "one length")
    findings: list[Finding] = []
    n_poses = n_poses or (len(labels) if labels is not None else 0)
    label_rate = label_rate or _rate_of(labels)
    span = int(t.max()) - int(t.min()) if len(t) else 0
    inferred = infer_tick(n_poses, span, label_rate) if n_poses > 1 and span else np.nan
    tick = _tick(findings, tick_seconds, inferred, label_rate)
    if not len(t):
        findings.append(Finding("warning", "events", "there are none"))
    _order(findings, t)
    _bounds(findings, x, y, sensor_size)
    on = _polarity(findings, p)
    duration = span * tick
    hot = _hot_pixels(findings, x, y, duration)
    counts, empty = _windows(findings, t, tick, labels, label_rate)
    report = AuditReport(
        name=name,
        findings=tuple(findings),
        events=len(t),
        tick_seconds=tick,
        inferred_tick=float(inferred),
        duration=float(duration),
        rate=float(len(t) / duration) if duration > 0 else 0.0,
        on_ratio=on,
        hot_pixels=hot,
        empty_windows=empty,
        window_counts=counts,
    )
    if refuse and report.refused:
        first = report.refused[0]
        hint = "; ".join(f.text for f in report.refused[1:])
        raise DataError(name, first.topic, first.text, "", hint)
    return report


def _column(name: str, events: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    values = np.asarray(events[key])
    if values.ndim != 1 or values.dtype.kind not in "iub":
        found = f"{values.dtype}{values.shape}"
        raise DataError(name, key, found, "integers [N]")
    return values


def _rate_of(labels: PoseTrack | None) -> float:
    if labels is None or len(labels) < 2:
        return 10.0
    return float(1 / np.median(np.diff(labels.t_seconds)))


def _tick(findings, stated: float | None, inferred: float, label_rate: float) -> float:
    if stated is None:
        if np.isnan(inferred):
            text = "not stated, and without labels it cannot be inferred"
            findings.append(Finding("warning", "time unit", text))
            return np.nan
        decade = nearest_decade(inferred)
        text = f"{inferred:.4g} s per tick by {label_rate:g} labels/s"
        text += f", taken as {decade:g} s" if decade else ", which is no power of ten"
        findings.append(Finding("note" if decade else "warning", "time unit", text))
        return decade or inferred
    if np.isnan(inferred):
        return stated
    ratio = max(stated / inferred, inferred / stated)
    text = f"{stated:g} s per tick is stated, {inferred:.4g} s follows from the labels"
    if ratio > REFUSED_RATIO:
        text += f" at {label_rate:g}/s: {ratio:.0f} times apart"
        findings.append(Finding("refused", "time unit", text))
    elif ratio > _UNIT_RATIO:
        text += ": labels and events do not cover the same time, or the label rate is another"
        findings.append(Finding("warning", "time unit", text))
    return stated


def _order(findings, t: np.ndarray) -> None:
    back = t[1:] < t[:-1]
    if not back.any():
        return
    row = int(np.argmax(back)) + 1
    rows = np.flatnonzero(back)
    largest = max(int(t[i]) - int(t[i + 1]) for i in rows[:_CANDIDATES])
    text = f"{len(rows)} steps back, the first at row {row}, by up to {largest} ticks"
    findings.append(Finding("refused", "order", text))


def _bounds(findings, x, y, sensor_size: tuple[int, int] | None) -> None:
    if not len(x):
        return
    low, high = (int(x.min()), int(y.min())), (int(x.max()), int(y.max()))
    limits = (1 << 62, 1 << 62) if sensor_size is None else sensor_size[::-1]
    outside = (x < 0) | (x >= limits[0]) | (y < 0) | (y >= limits[1])
    if outside.any():
        row = int(np.argmax(outside))
        size = "" if sensor_size is None else f" of {limits[0]} x {limits[1]} pixels"
        text = f"{int(outside.sum())} events off the sensor{size}, the first ({int(x[row])}, "
        findings.append(Finding("refused", "pixels", f"{text}{int(y[row])}) at row {row}"))
    elif sensor_size is not None and (2 * high[0] < limits[0] or 2 * high[1] < limits[1]):
        text = f"events lie in x {low[0]}-{high[0]}, y {low[1]}-{high[1]}: less than half of"
        text += f" {limits[0]} x {limits[1]} pixels; is that the sensor?"
        findings.append(Finding("warning", "pixels", text))


def _polarity(findings, p: np.ndarray) -> float:
    if not len(p):
        return 0.0
    on = float(np.mean(p == 1))
    signed = bool(np.any(p == -1)) if p.dtype.kind == "i" else False
    other = (p != 1) & (p != (-1 if signed else 0))
    if other.any():
        row = int(np.argmax(other))
        text = f"{int(other.sum())} values beside {'-1' if signed else '0'} and 1, the first "
        findings.append(Finding("refused", "polarity", f"{text}{int(p[row])} at row {row}"))
    elif on in (0.0, 1.0):
        findings.append(Finding("warning", "polarity", "constant: it carries no information"))
    elif signed:
        findings.append(Finding("note", "polarity", "-1 and 1; readers convert it to 0 and 1"))
    return on


def _hot_pixels(findings, x, y, duration: float) -> np.ndarray:
    """[K, 2] pixels far busier than their neighbourhood; see _HOT_RATIO."""
    none = np.zeros((0, 2), np.int64)
    inside = (x >= 0) & (y >= 0) & (x < _LARGEST) & (y < _LARGEST)
    x, y = x[inside].astype(np.int64), y[inside].astype(np.int64)
    if not len(x):
        return none
    width, height = int(x.max()) + 1, int(y.max()) + 1
    counts = np.bincount(y * width + x, minlength=width * height).reshape(height, width)
    least = max(_HOT_COUNT, _HOT_RATE * duration if np.isfinite(duration) else 0)
    rows, columns = np.nonzero(counts >= least)
    if not len(rows):
        return none
    busiest = np.argsort(-counts[rows, columns], kind="stable")[:_CANDIDATES]
    rows, columns = rows[busiest], columns[busiest]
    padded = np.pad(counts, 2)
    around = np.delete(np.arange(25), 12)
    near = padded[rows[:, None] + around // 5, columns[:, None] + around % 5]
    level = np.partition(near, -2, axis=1)[:, -2]
    hot = counts[rows, columns] > _HOT_RATIO * np.maximum(level, 1)
    pixels = np.stack([columns[hot], rows[hot]], axis=1)
    if len(pixels):
        share = counts[rows[hot], columns[hot]].sum() / len(x)
        listed = ", ".join(f"({i}, {j})" for i, j in pixels[:_LISTED])
        text = f"{len(pixels)} fire {100 * share:.2g} % of the events: {listed}"
        findings.append(
            Finding("warning", "hot pixels", text + (" ..." if len(pixels) > _LISTED else ""))
        )
    return pixels


def _windows(findings, t, tick: float, labels: PoseTrack | None, label_rate: float):
    """Events per window and the indices of the empty ones."""
    if not np.isfinite(tick) or (labels is None and not len(t)):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    seconds = np.sort(t) * tick
    if labels is not None:
        edges = labels.t_seconds
        _coverage(findings, seconds, edges)
    else:
        windows = (seconds[-1] - seconds[0]) * label_rate
        edges = seconds[0] + np.arange(int(min(windows, 1e7)) + 1) / label_rate
    # A hundredth of a tick of slack: an event on the tick of a label belongs to what follows.
    counts = np.diff(np.searchsorted(seconds, edges - tick / 100))
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        text = f"{len(empty)} of {len(counts)} without an event: {_ranges(empty)}"
        findings.append(Finding("warning", "empty windows", text))
    return counts, empty


def _coverage(findings, seconds: np.ndarray, edges: np.ndarray) -> None:
    outside = int(len(seconds) - np.diff(np.searchsorted(seconds, edges[[0, -1]]))[0])
    if len(seconds) and outside > 0.05 * len(seconds):
        text = f"{100 * outside / len(seconds):.0f} % of the events lie before the first label"
        text += f" ({edges[0]:g} s) or after the last ({edges[-1]:g} s)"
        findings.append(Finding("warning", "labels", text))


def _ranges(indices: np.ndarray) -> str:
    """ "0-3, 7, 9-10", shortened."""
    parts = np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)
    texts = [f"{r[0]}" if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in parts[:_LISTED]]
    return ", ".join(texts) + (" ..." if len(parts) > _LISTED else "")
