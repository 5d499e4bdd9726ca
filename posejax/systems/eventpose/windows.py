"""Labelled windows of recordings: a source of (sequence, label) records; NumPy only.

An example is a few numbers and the packed events of its window or, in device-resident mode, where
they lie in the one array of all events on the device. What acts on events (augmentation, view,
representation) happens inside the jitted step, in one implementation for both modes.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posejax.data.dataset import Source
from posejax.data.errors import DataError
from posejax.data.event_files import EventRecording, PoseTrack, SparkFile
from posejax.events import Window, pack_events, window_bounds, window_rows


@dataclass(frozen=True)
class WindowRule:
    """How windows are cut.

    Attributes:
      window: which events belong to a query instant.
      capacity: events per example; of a window with more, every k-th is taken.
      any_time: training queries fall anywhere between two labels, whose poses are interpolated,
        instead of on the labels. Labels of independent clips are never interpolated.
      resident: the packed events of a whole split lie on the device.
    """

    window: Window = Window()
    capacity: int = 32768
    any_time: bool = True
    resident: bool = False

    def __post_init__(self):
        if self.capacity < 1:
            raise ValueError(f"capacity is {self.capacity}; expected at least 1")


class WindowSource(Source):
    """Windows around the labels of several recordings.

    Records are the labels whose window lies inside the labelled time: 598 of the 599 labels of a
    SPARK sequence. Of a recording of independent clips (`PoseTrack.clip`) they are all labels, each
    of which counts as a sequence.

    Events are packed on first use and stay in memory, 8 bytes each, in every process that reads
    them: a sequence of 5 million events takes 40 MB, the 240 training sequences of SPARK 9.6 GB.

    Args:
      files: recordings with labels.
      rule: how windows are cut.
      lights: a number per recording, or one per label, that tells its illumination (NaN where
        unknown).

    Raises:
      DataError: a recording without labels, or a window that leaves the clip of its label.
    """

    def __init__(
        self,
        files: Sequence[SparkFile],
        rule: WindowRule,
        lights: Sequence[float | Sequence[float]] | None = None,
    ):
        self.files, self.rule = tuple(files), rule
        self.tracks = tuple(map(_labels, self.files))
        self.lights = tuple(lights) if lights else (float("nan"),) * len(self.files)
        # Beyond the last event of all, so that a slice of `capacity` rows never leaves the array.
        self.first_rows = np.concatenate([[0], np.cumsum([len(f) for f in self.files])])
        if rule.resident and self.first_rows[-1] + rule.capacity >= 2**31:
            raise DataError(
                self.files[0].path.parent, "events", f"{self.first_rows[-1]:,} in all",
                "fewer than 2**31 for device-resident mode", "--data.rule.no-resident",
            )  # fmt: skip
        rows = [(k, j) for k, file in enumerate(self.files) for j in _usable(file, rule.window)]
        self.index = np.array(rows, np.int32).reshape(-1, 2)
        motions = [len(track) if track.clip else 1 for track in self.tracks]
        self.first_sequences = np.concatenate([[0], np.cumsum(motions)])
        self._reset()

    def _reset(self) -> None:
        self._packed: dict[int, np.ndarray] = {}
        self._locks = [threading.Lock() for _ in self.files]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> dict[str, Any]:
        k = int(self.index[index][0])
        packed, first = self.packed(k), int(self.first_rows[k])
        return {**self._about(index), "packed": packed, "first_row": first}

    def _about(self, index: int) -> dict[str, Any]:
        k, j = (int(i) for i in self.index[index])
        track, light = self.tracks[k], np.asarray(self.lights[k])
        sequence = int(self.first_sequences[k]) + (j if track.clip else 0)
        light = float(light if light.ndim == 0 else light[j])
        return {"index": index, "sequence": sequence, "label": j, "light": light, "track": track}

    def peek(self, index: int) -> dict[str, Any]:
        """As `self[index]`, read from the file around the label alone: for a few scattered records.

        `first_row` has no meaning.
        """
        k, j = (int(i) for i in self.index[index])
        file, window = self.files[k], self.rule.window
        if window.count is not None:
            return self[index]
        start, end = window_bounds(float(self.tracks[k].t_seconds[j]), window)
        # A little more than the window, which is cut in whole microseconds.
        record = {"packed": pack_recording(file.window(start - 1e-5, end + 1e-5))}
        return {**self._about(index), **record, "first_row": 0}

    def packed(self, sequence: int) -> np.ndarray:
        """uint32 [N, 2]: all events of a recording."""
        with self._locks[sequence]:
            if sequence not in self._packed:
                file = self.files[sequence]
                self._packed[sequence] = pack_recording(file.rows())
                file.close()
            return self._packed[sequence]

    def resident(self) -> dict[str, np.ndarray]:
        """All events of the split in one array, in device-resident mode."""
        if not self.rule.resident:
            return {}
        tail = np.zeros((self.rule.capacity, 2), np.uint32)
        return {"events": np.concatenate([*map(self.packed, range(len(self.files))), tail])}

    def describe(self, index: int) -> str:
        k, j = self.index[index]
        return f"{self.files[k].name} at {self.tracks[k].t_seconds[j]:.3f} s"

    def translations(self) -> np.ndarray:
        """[N, 3] m, the labels of all records."""
        return np.stack([self.tracks[k].translation[j] for k, j in self.index])


def _labels(file: SparkFile) -> PoseTrack:
    if file.labels is None:
        raise DataError(file.path, "labels/data", "missing", "poses to train or evaluate on")
    return file.labels


def _usable(file: SparkFile, window: Window) -> list[int]:
    """Labels whose whole window lies inside the labelled time; the first or last ones are none."""
    labels = _labels(file)
    t, slack = labels.t_seconds, 1e-6
    if labels.clip is not None:
        by_count = window.count is not None
        if by_count or any(np.subtract(window.reach(), labels.clip) > slack):
            found = f"{window.count} events" if by_count else f"{window.duration} s {window.anchor}"
            expected = f"{labels.clip[0]:g} s before to {labels.clip[1]:g} s after its label"
            raise DataError(file.path, "a window of independent clips", found, expected)
        return list(range(len(t)))
    if window.count is not None:
        return list(range(len(t)))
    start, end = window_bounds(t, window)
    inside = (start >= t[0] - slack) & (end <= t[-1] + slack)
    return np.flatnonzero(inside).tolist()


def query(
    track: PoseTrack, label: int, rule: WindowRule, rng: np.random.Generator | None
) -> tuple[float, int, float]:
    """Query instant (s) of a record, the label before it, the fraction of the way to the next.

    With a generator the instant is drawn between the label and the next one, as far as the window
    stays inside the labelled time. Of independent clips it is the label itself.
    """
    t = track.t_seconds
    time, before = float(t[label]), label
    if track.clip is not None:
        return time, label, 0.0
    if rng is not None and rule.any_time and label + 1 < len(t):
        _, after = rule.window.reach() if rule.window.count is None else (0.0, 0.0)
        latest = min(float(t[label + 1]), float(t[-1]) - after)
        time += max(0.0, latest - time) * rng.random()
    before = min(before, len(t) - 2) if len(t) > 1 else 0
    span = float(t[before + 1] - t[before]) if len(t) > 1 else 1.0
    return time, before, (time - float(t[before])) / span


def window_example(
    record: dict[str, Any], rule: WindowRule, rng: np.random.Generator | None
) -> dict[str, np.ndarray]:
    """Example of fixed shapes of a record of `WindowSource`.

    Returns:
      index, sequence; time: query instant (s); poses [2, 7]: the labels around it, translation (m)
      and quaternion xyzw, and fraction: where between them; light; start_us [2]: start of the
      window, int32 as in `posejax.events.events.Halves`, and duration_us; query: the instant within
      it (s); found: events in the window; and either their packed rows, events uint32
      [capacity, 2], or, resident, first: their row in the split's array.
    """
    track, packed = record["track"], record["packed"]
    time, before, fraction = query(track, record["label"], rule, rng)
    ends = [before, before if track.clip else min(before + 1, len(track) - 1)]
    example = {
        "index": np.int32(record["index"]),
        "sequence": np.int32(record["sequence"]),
        "time": np.float32(time),
        "poses": np.concatenate([track.translation[ends], track.quat_xyzw[ends]], 1).astype("f4"),
        "fraction": np.float32(fraction),
        "light": np.float32(record["light"]),
    }
    return {**example, **cut_window(packed, round(1e6 * time), rule, record["first_row"])}


def cut_window(
    packed: np.ndarray, query_us: int, rule: WindowRule, first_row: int = 0
) -> dict[str, np.ndarray]:
    """The part of an example that names its events: see `window_example`.

    Args:
      packed: uint32 [N, 2], a recording.
      query_us: the instant, microseconds.
      rule: how windows are cut.
      first_row: of the recording in the split's array, in device-resident mode.
    """
    rows, start, end = window_rows(packed[:, 1], query_us, rule.window)
    found = rows.stop - rows.start
    part = {
        # In halves: int32 ends after 35 minutes, and uint32 has no window before the first event.
        "start_us": np.array(divmod(start, 1 << 16), np.int32),
        "duration_us": np.array(end - start, np.uint32),
        "query": np.array(1e-6 * (query_us - start), np.float32),
        "found": np.array(found, np.int32),
    }
    if rule.resident:
        return {**part, "first": np.array(first_row + rows.start, np.int32)}
    events = np.zeros((rule.capacity, 2), np.uint32)
    count = min(found, rule.capacity)
    events[:count] = packed[rows][kept_rows(found, rule.capacity)[:count]]
    return {**part, "events": events}


def kept_rows(found: Any, capacity: int, xp: Any = np) -> Any:
    """[capacity] int32 rows of a window that are taken: all, or every k-th of too many.

    Args:
      found: events in the window, an integer of `xp`.
      capacity: at most so many are taken.
      xp: numpy or jax.numpy. Both compute in float32, so that host and device take the same rows.
    """
    step = xp.maximum(xp.float32(1), xp.float32(found) / xp.float32(capacity))
    rows = xp.floor(xp.arange(capacity, dtype=xp.float32) * step).astype(xp.int32)
    return xp.minimum(rows, xp.int32(xp.where(found > capacity, found - 1, capacity)))


def pack_recording(recording: EventRecording) -> np.ndarray:
    """uint32 [N, 2]: a whole recording, times from its own zero."""
    return pack_events(recording.x, recording.y, recording.t_microseconds(), recording.p)
