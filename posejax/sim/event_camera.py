"""An event camera: log-intensity pictures in, events out.

Between two pictures the log intensity of a pixel is a straight line (as in ESIM, Rebecq et al.
2018). A pixel keeps a reference level and fires when its level leaves the reference by its own
threshold: ON at +C_on, OFF at -C_off, both drawn once per pixel around the nominal contrast. Then
it rests for the refractory period, and the level at the end of the rest is the new reference. On a
line of slope s the events of a pixel are therefore evenly spaced by C / |s| + refractory period:
all of them follow in closed form, and only pixels that fire are looked at.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class EventSensor:
    """The pixels of an event camera.

    Attributes:
      size: (height, width) in pixels.
      contrast_on, contrast_off: nominal change of the natural log of intensity for an event.
      mismatch: relative standard deviation of either threshold between pixels.
      refractory_s: seconds a pixel rests after an event.
      dark: intensity that every pixel sees in the dark (dark current and stray light), where 1 is
        a white surface facing the sun.
      noise_rate_hz: mean rate of noise events per pixel (leak and shot noise); its spread between
        pixels is log-normal with a factor of e at one sigma.
      noise_on_share: share of ON among the noise events.
      hot_pixels: how many pixels fire all the time, at `hot_rate_hz` on average.
      latency_s, jitter_s: mean delay of an event's time stamp and its standard deviation.
    """

    size: tuple[int, int] = (720, 1280)
    contrast_on: float = 0.56
    contrast_off: float = 0.30
    mismatch: float = 0.04
    refractory_s: float = 1e-3
    dark: float = 0.065
    noise_rate_hz: float = 1.5e-3
    noise_on_share: float = 0.5
    hot_pixels: int = 4
    hot_rate_hz: float = 5.0
    latency_s: float = 0.0
    jitter_s: float = 0.0


class PixelEvents(NamedTuple):
    """Events in time order: pixel x and y uint16 [N], seconds t float64 [N], 1 = ON p uint8 [N]."""

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    p: np.ndarray


class EventPixels:
    """The state of all pixels between pictures.

    Args:
      rng: thresholds and the unknown history of every pixel.
      sensor: what the pixels are like.
      first: the first picture, as for `observe`.
      corner: its place.
      time_s: its time.
      unknown: share of the range between its thresholds in which a pixel may stand at first.

    Attributes:
      on, off: [H, W] float32 thresholds of every pixel.
      reference: [H, W] float32 log intensity that the next event is counted from.

    Raises:
      ValueError: a contrast that is not positive, or a picture that leaves the sensor.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        sensor: EventSensor,
        first: np.ndarray,
        corner: tuple[int, int],
        time_s: float,
        unknown: float = 1.0,
    ):
        if min(sensor.contrast_on, sensor.contrast_off) <= 0:
            raise ValueError("contrasts must be positive")
        self.sensor = sensor
        spread = 1.0 + sensor.mismatch * rng.standard_normal((2, *sensor.size), np.float32)
        nominal = np.array([[[sensor.contrast_on]], [[sensor.contrast_off]]], np.float32)
        self.on, self.off = nominal * np.maximum(spread, 0.3)
        self._background = np.float32(np.log(sensor.dark))
        self._level = np.full(sensor.size, self._background)
        self._next = self._level.copy()
        self._box = self._box_of(first, corner)
        self._level[self._box] = first
        # Where between its thresholds a pixel stands is unknown: anywhere.
        self.reference = self._level + unknown * self.off
        self.reference -= rng.random(sensor.size, np.float32) * (unknown * (self.on + self.off))
        self._resting = np.zeros(0, np.int64)  # flat indices
        self._rests = np.zeros(sensor.size[0] * sensor.size[1], bool)  # the same as a mask
        self._release = np.zeros(0)  # when they wake up
        self._time = time_s

    def observe(
        self, picture: np.ndarray, corner: tuple[int, int], time_s: float, *, listed: bool = True
    ) -> PixelEvents:
        """Events between the previous picture and this one.

        Args:
          picture: [h, w] natural log of (intensity + dark); all around it is dark.
          corner: (row, column) of its first pixel on the sensor.
          time_s: seconds, later than the previous picture.
          listed: False: pixels go on as ever, but what they fired is not listed: none are returned.

        Returns:
          The events with t in (previous time, time_s], time stamps without latency and jitter.

        Raises:
          ValueError: time stands still, or the picture leaves the sensor.
        """
        if not time_s > self._time:
            raise ValueError(f"pictures must come in time order, got {time_s} after {self._time}")
        box = self._box_of(picture, corner)
        union = tuple(
            slice(min(a.start, b.start), max(a.stop, b.stop))
            for a, b in zip(box, self._box, strict=True)
        )
        self._next[union] = self._background
        self._next[box] = picture
        change = self._next[union] - self.reference[union]
        fires = (change >= self.on[union]) | (change <= -self.off[union])
        rows, columns = np.nonzero(fires)
        width = self.sensor.size[1]
        active = (rows + union[0].start) * width + (columns + union[1].start)
        events = self._fire(active, self._time, time_s, listed)
        self._level[union] = self._next[union]
        self._box, self._time = box, time_s
        return events

    def _fire(self, active: np.ndarray, start_s: float, end_s: float, listed: bool) -> PixelEvents:
        # Pixels at rest take part as well: they get a new reference when they wake up.
        release = np.full(len(active) + len(self._resting), start_s)
        active = np.concatenate([self._resting, active[~self._rests[active]]])
        release = release[: len(active)]
        release[: len(self._resting)] = self._release
        rested = len(self._resting)
        old = self._level.reshape(-1)[active].astype(np.float64)
        new = self._next.reshape(-1)[active].astype(np.float64)
        reference = self.reference.reshape(-1)[active].astype(np.float64)
        slope = (new - old) / (end_s - start_s)
        reference[:rested] = (old + slope * (release - start_s))[:rested]
        rises = slope > 0
        threshold = np.where(rises, self.on.reshape(-1)[active], self.off.reshape(-1)[active])
        moving = slope != 0
        speed = np.where(moving, np.abs(slope), 1.0)
        gap = threshold - np.where(rises, old - reference, reference - old)
        # Rounding may find a pixel beyond its threshold already: it fires when it may.
        first = np.maximum(start_s + gap / speed, release)
        period = threshold / speed + self.sensor.refractory_s
        count = np.where(moving & (first <= end_s), np.floor((end_s - first) / period) + 1, 0)
        count = count.astype(np.int64)

        fired = count > 0
        last = first + (count - 1) * period
        wakes = np.where(fired, last + self.sensor.refractory_s, release)
        level = old + slope * (np.minimum(wakes, end_s) - start_s)
        awake = wakes <= end_s
        renewed = awake & (fired | (np.arange(len(active)) < rested))
        self.reference.reshape(-1)[active[renewed]] = level[renewed]
        self._rests[self._resting] = False
        self._resting, self._release = active[~awake], wakes[~awake]
        self._rests[self._resting] = True
        if not listed:
            count = np.zeros_like(count)
        return _expand(active, first, period, count, rises, self.sensor.size[1])

    def _box_of(self, picture: np.ndarray, corner: tuple[int, int]) -> tuple[slice, slice]:
        stop = corner[0] + picture.shape[0], corner[1] + picture.shape[1]
        if min(corner) < 0 or stop[0] > self.sensor.size[0] or stop[1] > self.sensor.size[1]:
            raise ValueError(f"picture {picture.shape} at {corner} leaves {self.sensor.size}")
        return slice(corner[0], stop[0]), slice(corner[1], stop[1])


def _expand(pixel, first, period, count, rises, width: int) -> PixelEvents:
    """`count` events of every pixel, evenly spaced from `first` on, in time order."""
    fired = np.flatnonzero(count)
    repeats = count[fired]
    which = np.repeat(fired, repeats)
    rank = np.arange(len(which)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    t = first[which] + rank * period[which]
    order = np.argsort(t, kind="stable")
    which, t = which[order], t[order]
    y, x = np.divmod(pixel[which], width)
    return PixelEvents(x.astype(np.uint16), y.astype(np.uint16), t, rises[which].astype(np.uint8))


def noise_events(rng: np.random.Generator, sensor: EventSensor, duration_s: float) -> PixelEvents:
    """Noise of the whole sensor: Poisson processes, some pixels far busier than most."""
    height, width = sensor.size
    rate = np.exp(rng.standard_normal(height * width, np.float32) - 0.5) * sensor.noise_rate_hz
    hot = rng.choice(height * width, sensor.hot_pixels, replace=False)
    rate[hot] += sensor.hot_rate_hz * rng.exponential(1.0, sensor.hot_pixels)
    count = rng.poisson(rate * duration_s)
    pixel = np.repeat(np.arange(height * width), count)
    t = rng.uniform(0.0, duration_s, len(pixel))
    order = np.argsort(t)
    y, x = np.divmod(pixel[order], width)
    p = rng.random(len(pixel)) < sensor.noise_on_share
    return PixelEvents(x.astype(np.uint16), y.astype(np.uint16), t[order], p.astype(np.uint8))


def brief_noise_events(
    rng: np.random.Generator, sensor: EventSensor, duration_s: float
) -> PixelEvents:
    """`noise_events` of so short a time that hardly any common pixel fires twice: much cheaper.

    The events of all common pixels together are Poisson, and each comes from any of them alike: who
    the busy ones are is seen by their second event alone. In 0.1 s a sensor of 921,600 pixels of
    1.5 mHz has 138 events, and 0.03 pixels that fire twice; here 0.01.
    """
    height, width = sensor.size
    common = rng.poisson(sensor.noise_rate_hz * height * width * duration_s)
    hot = rng.choice(height * width, sensor.hot_pixels, replace=False)
    rate = sensor.hot_rate_hz * rng.exponential(1.0, sensor.hot_pixels)
    repeats = rng.poisson(rate * duration_s)
    pixel = np.concatenate([rng.integers(0, height * width, common), np.repeat(hot, repeats)])
    t = np.sort(rng.uniform(0.0, duration_s, len(pixel)))
    y, x = np.divmod(rng.permutation(pixel), width)
    p = rng.random(len(pixel)) < sensor.noise_on_share
    return PixelEvents(x.astype(np.uint16), y.astype(np.uint16), t, p.astype(np.uint8))


def merge_events(
    rng: np.random.Generator, sensor: EventSensor, parts: list[PixelEvents], duration_s: float
) -> PixelEvents:
    """Put parts together in time order, with latency and jitter; events after the end are cut."""
    x, y, t, p = (np.concatenate(column) for column in zip(*parts, strict=True))
    if sensor.latency_s or sensor.jitter_s:
        t = t + sensor.latency_s + sensor.jitter_s * rng.standard_normal(len(t))
    keep = (t >= 0) & (t <= duration_s)
    # Merging sorted runs: this sort finds them.
    order = np.flatnonzero(keep)[np.argsort(t[keep], kind="stable")]
    return PixelEvents(x[order], y[order], t[order], p[order])


class EventStatistics(NamedTuple):
    """What simulated and real recordings are compared by.

    Attributes:
      rate_hz: mean events per second.
      on_share: share of ON events.
      window_events: 10th, 50th and 90th percentile of the events per 100 ms.
    """

    rate_hz: float
    on_share: float
    window_events: tuple[float, float, float]


def event_statistics(t_seconds: np.ndarray, p: np.ndarray, duration_s: float) -> EventStatistics:
    """Statistics of events at times t [N] with polarity p [N] (1 = ON) in [0, duration_s]."""
    windows = max(int(duration_s / 0.1), 1)
    counts, _ = np.histogram(t_seconds, windows, (0.0, 0.1 * windows))
    low, middle, high = np.percentile(counts, (10, 50, 90)).tolist()
    share = float(np.mean(p)) if len(p) else 0.0
    return EventStatistics(len(t_seconds) / duration_s, share, (low, middle, high))
