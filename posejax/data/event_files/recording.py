"""What every reader returns: events of one camera, and the poses that belong to them.

A recording that exists is valid: sorted times, pixels on the sensor, polarity 0 or 1, finite poses
with unit quaternions. Whatever breaks this is refused with the file, the field and the row.
"""

from dataclasses import InitVar, dataclass, field, replace
from typing import NamedTuple

import numpy as np

from posejax.data.errors import DataError
from posejax.data.rigid import conjugate_quat_xyzw, rotate_quat_xyzw

MAX_SIDE = 1 << 14  # 14 bits of a packed event
_NORM_TOLERANCE = 1e-3  # a quaternion is off by more: not a rounded unit quaternion
_MICROSECOND = 1e-6


class Fields(NamedTuple):
    """How errors name the columns and rows of a file: data sets and rows, or words and lines."""

    x: str = "x"
    y: str = "y"
    t: str = "t"
    p: str = "p"
    row: str = "row"
    first: int = 0


@dataclass(frozen=True)
class PoseTrack:
    """Labelled poses in time order.

    Attributes:
      t_seconds: [M] float64, strictly increasing; same zero as the events.
      translation: [M, 3] float64 m, origin of the body in the camera frame (x right, y down,
        z forward).
      quat_xyzw: [M, 4] float64 unit quaternions (scalar last) of camera_from_body: a body point X
        is at R(quat_xyzw) X + translation in the camera.
      names: M names, or none.
      file: what errors name.
      clip: seconds before and after each label that belong to it, where every label is a clip of
        its own, cut from another motion than its neighbours; nothing may be interpolated between
        them, and no window may reach further. None: one continuous motion.
    """

    t_seconds: np.ndarray
    translation: np.ndarray
    quat_xyzw: np.ndarray
    names: tuple[str, ...] = ()
    file: str = "labels"
    rows: InitVar[tuple[str, int]] = ("label", 0)
    clip: tuple[float, float] | None = None

    def __post_init__(self, rows: tuple[str, int]):
        word, first = rows
        count = np.size(self.t_seconds)
        for name, tail in (("t_seconds", ()), ("translation", (3,)), ("quat_xyzw", (4,))):
            values = np.asarray(getattr(self, name))
            if values.dtype.kind not in "iuf":
                raise DataError(self.file, name, f"dtype {values.dtype}", "numbers")
            if values.shape != (count, *tail):
                raise DataError(self.file, name, f"shape {values.shape}", f"{(count, *tail)}")
            with np.errstate(all="ignore"):  # what does not convert becomes NaN or infinite
                values = values.astype(np.float64)
            finite = np.isfinite(values) if values.ndim == 1 else np.isfinite(values).all(1)
            if not finite.all():
                row = int(np.argmin(finite))
                found = f"{values[row]} is not finite"
                raise DataError(self.file, f"{word} {row + first}: {name}", found, "finite numbers")
            object.__setattr__(self, name, values)
        if count == 0:
            raise DataError(self.file, "labels", "none", "at least one pose")
        if self.names and len(self.names) != count:
            raise DataError(self.file, "names", f"{len(self.names)} for {count} poses", "one each")
        later = np.diff(self.t_seconds) > 0
        if not later.all():
            row = int(np.argmin(later)) + 1
            found = f"{self.t_seconds[row]} s after {self.t_seconds[row - 1]} s"
            raise DataError(self.file, f"{word} {row + first}: time", found, "increasing times")
        if self.clip is not None:
            self._check_clips(f"{word} {first}", *self.clip)
        # Divided by the largest component first: squares of wild numbers would overflow.
        size = np.abs(self.quat_xyzw).max(axis=1, keepdims=True)
        norm = size[:, 0] * np.linalg.norm(self.quat_xyzw / np.where(size > 0, size, 1), axis=1)
        unit = np.abs(norm - 1) <= _NORM_TOLERANCE
        if not unit.all():
            row = int(np.argmin(unit))
            found = f"{self.quat_xyzw[row]} of norm {norm[row]:.6g}"
            hint = "quaternions are x, y, z, w"
            where = f"{word} {row + first}: quaternion"
            raise DataError(self.file, where, found, "norm 1", hint)
        # What is unit to rounding stays as it is, so that a track survives files bit for bit.
        norm = np.where(np.abs(norm - 1) < 1e-14, 1, norm)
        object.__setattr__(self, "quat_xyzw", self.quat_xyzw / norm[:, None])

    def _check_clips(self, where: str, before: float, after: float) -> None:
        if not (before >= 0 and after >= 0 and np.isfinite(before + after) and before + after > 0):
            expected = "seconds >= 0 before and after, not both 0"
            raise DataError(self.file, "clips", f"{before} and {after}", expected)
        step = np.diff(self.t_seconds).min(initial=np.inf)
        if step < (before + after) * (1 - 1e-6):
            found = f"clips of {before + after} s whose labels are {step} s apart"
            raise DataError(self.file, f"{where}: time", found, "clips beside each other")

    def __len__(self) -> int:
        return len(self.t_seconds)

    def inverse(self) -> "PoseTrack":
        """The track of body_from_camera: where the camera is in the body (or world) frame."""
        quat = conjugate_quat_xyzw(self.quat_xyzw)
        return replace(self, translation=-rotate_quat_xyzw(quat, self.translation), quat_xyzw=quat)

    def shifted(self, seconds: float) -> "PoseTrack":
        """The same poses `seconds` later."""
        return replace(self, t_seconds=self.t_seconds + seconds)


@dataclass(frozen=True)
class EventRecording:
    """Events of one camera in time order, checked and converted on construction.

    Attributes:
      x, y: [N] uint16 pixel indices; the centre of a pixel is at (x + 0.5, y + 0.5).
      t: [N] int64 ticks >= 0, sorted.
      p: [N] uint8, 1 = ON, 0 = OFF. Input of -1 and +1 is converted; other values are refused.
      tick_seconds: seconds per tick.
      sensor_size: (height, width) in pixels.
      labels: poses on the same clock, or None.
      name: of the sequence.
      path: the file read, or "".
      clock_offset: ticks to add to `t` for the time of the camera's own clock (DSEC's `t_offset`,
        or what `rebased` took off).

    Raises:
      DataError: anything else than that, with field and row.
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    p: np.ndarray
    tick_seconds: float
    sensor_size: tuple[int, int]
    labels: PoseTrack | None = None
    name: str = ""
    path: str = ""
    clock_offset: int = 0
    fields: InitVar[Fields] = field(default=Fields())

    def __post_init__(self, fields: Fields):
        file = self.path or self.name or "recording"
        tick = float(self.tick_seconds)
        if not (np.isfinite(tick) and tick > 0):
            raise DataError(file, "tick_seconds", self.tick_seconds, "seconds > 0")
        size = tuple(int(side) for side in self.sensor_size)
        if len(size) != 2 or not all(0 < side <= MAX_SIDE for side in size):
            raise DataError(file, "sensor_size", size, f"(height, width), 1 to {MAX_SIDE} each")
        count = np.size(self.x)
        columns = {key: np.asarray(getattr(self, key)) for key in "xytp"}
        for key, values in columns.items():
            check_integers(file, getattr(fields, key), values)
            if values.shape != (count,):
                found = f"shape {values.shape}"
                raise DataError(file, getattr(fields, key), found, f"({count},) as {fields.x}")
        _check_range(file, fields, fields.x, columns["x"], 0, size[1] - 1, "sensor width")
        _check_range(file, fields, fields.y, columns["y"], 0, size[0] - 1, "sensor height")
        _check_range(file, fields, fields.t, columns["t"], 0, np.iinfo(np.int64).max, "int64")
        columns["t"] = columns["t"].astype(np.int64, copy=False)
        earlier = columns["t"][1:] < columns["t"][:-1]
        if earlier.any():
            row = int(np.argmax(earlier)) + 1
            found = f"{columns['t'][row]} after {columns['t'][row - 1]} ticks"
            found += f" ({int(earlier.sum())} steps back in all)"
            where = f"{fields.t}, {fields.row} {row + fields.first}"
            raise DataError(file, where, found, "sorted times", "sort the events by time first")
        columns["p"] = _polarity(file, fields, columns["p"])
        object.__setattr__(self, "tick_seconds", tick)
        object.__setattr__(self, "sensor_size", size)
        for key, dtype in (("x", np.uint16), ("y", np.uint16), ("t", np.int64), ("p", np.uint8)):
            object.__setattr__(self, key, columns[key].astype(dtype, copy=False))

    def __len__(self) -> int:
        return len(self.t)

    @property
    def duration(self) -> float:
        """Seconds from the first event to the last."""
        return float(self.t[-1] - self.t[0]) * self.tick_seconds if len(self) else 0.0

    def t_seconds(self) -> np.ndarray:
        """[N] float64 seconds."""
        return self.t * self.tick_seconds

    def t_microseconds(self) -> np.ndarray:
        """[N] int64 microseconds: exact where a tick is a whole number of them, else rounded."""
        return ticks_to(self.t, self.tick_seconds, _MICROSECOND)

    def index_at(self, seconds: np.ndarray | float) -> np.ndarray:
        """Row of the first event at or after each instant (s)."""
        return np.searchsorted(self.t, first_tick(seconds, self.tick_seconds))

    def window(self, start: float, stop: float) -> "EventRecording":
        """Events of start <= t < stop (s), on the same clock and with the same labels."""
        return self.rows(slice(*self.index_at(np.array([start, stop]))))

    def rows(self, rows: slice) -> "EventRecording":
        """A contiguous part; arrays are views."""
        return replace(self, x=self.x[rows], y=self.y[rows], t=self.t[rows], p=self.p[rows])

    def rebased(self) -> "EventRecording":
        """The same recording with its clock set to zero at the first event, labels with it."""
        start = int(self.t[0]) if len(self) else 0
        labels = self.labels and self.labels.shifted(-start * self.tick_seconds)
        return replace(
            self, t=self.t - start, labels=labels, clock_offset=self.clock_offset + start
        )


def first_tick(seconds: np.ndarray | float, tick_seconds: float) -> np.ndarray:
    """int64 tick that starts at or after `seconds`; an instant on a tick is that tick.

    A relative 1e-12 of slack: 0.3 s is tick 3000 of 100 us, though 0.3 / 1e-4 is above 3000.
    """
    ticks = np.asarray(seconds, np.float64) / tick_seconds
    limit = float(1 << 62)
    return np.ceil(np.clip(ticks - np.abs(ticks) * 1e-12, -limit, limit)).astype(np.int64)


def ticks_to(t: np.ndarray, tick_seconds: float, new_tick_seconds: float) -> np.ndarray:
    """int64 `t` in another tick: exact for whole ratios, the tick that holds it otherwise."""
    ratio = tick_seconds / new_tick_seconds
    for whole, scale in ((round(ratio), ratio), (round(1 / ratio), 1 / ratio)):
        if whole >= 1 and abs(scale - whole) <= 1e-9 * whole:
            return t * whole if scale == ratio else t // whole
    return np.floor(t * ratio).astype(np.int64)


def check_integers(file: str, name: str, values: np.ndarray) -> None:
    """Refuses columns that are not whole numbers (bool counts as such)."""
    if values.dtype.kind not in "iub":
        raise DataError(file, name, f"dtype {values.dtype}", "an integer dtype")


def _check_range(file, fields: Fields, name, values, low: int, high: int, bound: str) -> None:
    if values.size == 0:
        return
    # Python integers compare exactly whatever the dtype: no wrap of uint64 or int8.
    if int(values.min()) >= low and int(values.max()) <= high:
        return
    wrong = np.flatnonzero((values < low) | (values > high))
    found = f"{int(values[wrong[0]])} ({len(wrong)} out of range in all)"
    where = f"{name}, {fields.row} {int(wrong[0]) + fields.first}"
    raise DataError(file, where, found, f"{low} to {high} ({bound})")


def _polarity(file, fields: Fields, p: np.ndarray) -> np.ndarray:
    """0/1 from 0/1, False/True or -1/+1."""
    if p.dtype.kind == "b" or p.size == 0:
        return p.astype(np.uint8)
    low, high = int(p.min()), int(p.max())
    if low >= 0 and high <= 1:
        return p.astype(np.uint8, copy=False)
    signed = low == -1
    wrong = np.flatnonzero((p != 1) & (p != (-1 if signed else 0)))
    if not len(wrong):
        return (p > 0).astype(np.uint8)
    where = f"{fields.p}, {fields.row} {int(wrong[0]) + fields.first}"
    expected = "-1 or 1, as elsewhere in the file" if signed else "0 or 1 (or -1 and 1)"
    raise DataError(file, where, f"polarity {int(p[wrong[0]])}", expected)
