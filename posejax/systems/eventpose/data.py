"""Where examples come from: real recordings, simulated ones, or pictures; frozen dataclasses.

Each kind of data answers the same questions: the source of a split, its example of a record, the
camera, and what a report should call it. No jax here: this runs in data workers.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from posejax.data.dataset import SPLITS, Dataset
from posejax.data.errors import DataError
from posejax.data.event_files import SparkFile
from posejax.data.files import root_folder
from posejax.systems.eventpose.frames import (
    Camera,
    FrameSource,
    crop_camera,
    frame_example,
    picture_size,
    read_camera,
)
from posejax.systems.eventpose.simulated import SimulatedSequences, SimulatedWindows
from posejax.systems.eventpose.spades import as_spark, spades_tables
from posejax.systems.eventpose.windows import WindowRule, WindowSource, window_example

SPADES_INTRINSICS = (1258.6057531097028, 1258.6057531097028, 640.0, 360.0)
"""fx, fy, cx, cy of the SPADES camera, pixels counted from the corner of the sensor."""


class EventWindows(Dataset):
    """Examples of recordings, wherever they come from: the events of a window, and its pose."""

    rule: WindowRule

    def transform(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> dict[str, np.ndarray]:
        return window_example(record, self.rule, rng if train else None)

    def still(self, source: WindowSource, index: int) -> dict[str, np.ndarray]:
        """One example as in evaluation, carrying its events, at the price of its window alone."""
        return window_example(source.peek(index), replace(self.rule, resident=False), None)


@dataclass(frozen=True)
class Recordings(EventWindows):
    """SPARK-2026 or SPADES recordings of a folder.

    Attributes:
      root: folder with the recordings: *.h5, or train/*.h5 and so on, or SPADES' events/*.csv and
        labels/*.csv (converted to HDF5 in the cache on first use).
      split: sequences of train, val and test, in name order, where the folder has no such
        subfolders; a folder with fewer sequences is divided in the same proportions.
      sensor_size: (H, W) of the sensor.
      intrinsics: fx, fy, cx, cy in pixels counted from the sensor's corner.
      label_rate: labels per second, against which the files' time unit is checked.
      tick: seconds per tick; None to infer it.
      rule: how windows are cut.
    """

    root: str = ""
    split: tuple[int, int, int] = (240, 30, 30)
    sensor_size: tuple[int, int] = (720, 1280)
    intrinsics: tuple[float, float, float, float] = SPADES_INTRINSICS
    label_rate: float = 10.0
    tick: float | None = None
    rule: WindowRule = field(default_factory=WindowRule)

    simulated: ClassVar[bool] = False

    def source(self, split: str) -> WindowSource:
        rate = self.label_rate
        files = [SparkFile(p, tick_seconds=self.tick, label_rate=rate) for p in self.files(split)]
        for file in files:
            if tuple(file.sensor_size) != tuple(self.sensor_size):
                raise DataError(
                    file.path, "attribute sensor_size_wh", f"{file.sensor_size} (H, W)",
                    f"system.data.sensor_size, {self.sensor_size}", "intrinsics go with the sensor",
                )  # fmt: skip
        return WindowSource(files, self.rule)

    def files(self, split: str) -> list[Path]:
        """Recordings of a split.

        Raises:
          DataError: no such folder, or too few recordings in it.
        """
        root = root_folder(self.root, "a folder of recordings")
        if (root / split).is_dir():
            return h5_files(root / split)
        if found := [name for name in SPLITS if (root / name).is_dir()]:
            raise DataError(root, f"split {split!r}", "no such folder", " or ".join(found))
        tables = spades_tables(root)
        if not tables:
            return divide(h5_files(root), self.split)[SPLITS.index(split)]
        labels = dict(tables)
        chosen = divide([events for events, _ in tables], self.split)[SPLITS.index(split)]
        settings = (self.label_rate, self.tick, self.sensor_size)
        return [as_spark(events, labels[events], *settings) for events in chosen]

    def camera(self) -> Camera:
        return camera_of(self.intrinsics, self.sensor_size)

    @property
    def title(self) -> str:
        return f"recordings of {Path(self.root).resolve().name}"


@dataclass(frozen=True)
class Simulated(EventWindows):
    """Simulated recordings, made on first use.

    Attributes:
      sequences: how many, and how they are made.
      windows: independent windows to train with instead; None: the windows of the sequences.
      rule: how windows are cut.
    """

    sequences: SimulatedSequences = field(default_factory=SimulatedSequences)
    windows: SimulatedWindows | None = None
    rule: WindowRule = field(default_factory=WindowRule)

    simulated: ClassVar[bool] = True

    def source(self, split: str) -> WindowSource:
        if self.windows is not None and self.windows.count(split):
            files, lights = self.windows.files(split, self.rule.window)
        else:
            files, lights = self.sequences.files(split)
        return WindowSource([SparkFile(path) for path in files], self.rule, lights)

    def camera(self) -> Camera:
        return camera_of(SPADES_INTRINSICS, (720, 1280))

    @property
    def title(self) -> str:
        return "simulated spacecraft"


@dataclass(frozen=True)
class Frames(Dataset):
    """Pictures made from events, one folder in time order (see `frames.py`).

    Attributes:
      root: the folder with labels.csv, camera.json and frames/.
      train: the first frames are the train split.
      gap: frames left out between the two splits.
      label_rate: labels per second.
    """

    root: str = ""
    train: int = 400
    gap: int = 0
    label_rate: float = 10.0

    simulated: ClassVar[bool] = False
    splits: ClassVar[tuple[str, ...]] = SPLITS[:2]

    def source(self, split: str) -> FrameSource:
        """Raises DataError for any other split than "train" and "val"."""
        root = self._folder()
        if split not in self.splits:
            found, expected = "not part of a single sequence", " or ".join(self.splits)
            raise DataError(root, f"split {split!r}", found, expected)
        rows = (0, self.train) if split == "train" else (self.train + self.gap, 10**9)
        return FrameSource(root, rows, self.label_rate)

    def camera(self) -> Camera:
        root = self._folder()
        return crop_camera(read_camera(root / "camera.json"), picture_size(root))

    def transform(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> dict[str, np.ndarray]:
        return frame_example(record)

    def still(self, source: FrameSource, index: int) -> dict[str, np.ndarray]:
        """One example as in evaluation."""
        return frame_example(source[index])

    def _folder(self) -> Path:
        return root_folder(self.root, "a folder with labels.csv and frames/")

    @property
    def title(self) -> str:
        return f"frames of {Path(self.root).resolve().name}"


def h5_files(folder: Path) -> list[Path]:
    """Recordings in a folder or its h5/, by name."""
    files = sorted(folder.glob("*.h5")) or sorted(folder.glob("h5/*.h5"))
    if not files:
        raise DataError(folder, "*.h5", "no such file", "SPARK-2026 recordings")
    return files


def divide(files: list[Path], split: tuple[int, int, int]) -> list[list[Path]]:
    """Files in name order, divided as `split` says or, if there are fewer, in its proportions.

    Raises:
      DataError: so few that a split would be empty.
    """
    wanted = np.array(split, float)
    if len(files) >= wanted.sum():
        counts = wanted.astype(int)
    else:
        counts = np.maximum(np.floor(wanted / wanted.sum() * len(files)).astype(int), wanted > 0)
        counts[0] += len(files) - counts.sum()
        if counts[0] < 1:
            found = f"{len(files)} recordings"
            raise DataError(files[0].parent, "*.h5", found, f"at least {(wanted > 0).sum()}")
    ends = np.cumsum(counts)
    return [files[end - n : end] for n, end in zip(counts, ends, strict=True)]


def camera_of(
    intrinsics: tuple[float, float, float, float], sensor_size: tuple[int, int]
) -> Camera:
    fx, fy, cx, cy = intrinsics
    return Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), sensor_size)
