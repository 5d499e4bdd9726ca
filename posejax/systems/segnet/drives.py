"""Recordings in folders of their own: CARLA's and Argoverse 2's; no jax, this runs in workers."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from posejax.config import ConfigError
from posejax.data.av2_frames import read_av2_frames
from posejax.data.carla import read_carla
from posejax.data.errors import DataError
from posejax.data.rig_frame import RigFrame
from posejax.systems.segnet.config import GridConfig
from posejax.systems.segnet.frames import RigFrames

RING_CAMERAS = (
    "ring_front_left", "ring_front_center", "ring_front_right", "ring_side_left",
    "ring_side_right", "ring_rear_left", "ring_rear_right",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DriveFolders(RigFrames):
    """Recordings at ROOT/SPLIT/DRIVE; all frames of a split are held in memory, some 20 kB each.

    Attributes:
      root: folder of `train`, `val` and, for a test that chooses nothing, `test`.
    """

    root: str = ""

    @abstractmethod
    def read(self, drive: Path) -> Sequence[RigFrame]:
        """Frames of the recording in a folder."""

    def check(self) -> None:
        super().check()
        if not self.root:
            raise ConfigError("system.data.root: not given; expected the folder of train and val")
        self.check_single(self.kind)

    def frames(self, split: str) -> tuple[Sequence[RigFrame], np.ndarray]:
        folder = Path(self.root) / split
        drives = sorted(path for path in folder.glob("*") if path.is_dir())
        if not drives:
            found = "no folder in it" if folder.is_dir() else "no such folder"
            raise DataError(folder, split, found, f"a folder for each drive of {self.kind}")
        frames = [list(self.read(drive)) for drive in drives]
        numbers = np.repeat(np.arange(len(drives)), [len(some) for some in frames])
        if not len(numbers):
            found = f"no frame with boxes in {len(drives)} drives"
            raise DataError(folder, split, found, "annotated frames")
        return [frame for some in frames for frame in some], numbers


@dataclass(frozen=True, kw_only=True)
class CarlaDrives(DriveFolders):
    """Recordings of CARLA's, ROOT/SPLIT/DRIVE/frames.json; see `posejax.data.carla`.

    `cameras` are the names that frames.json gives them.
    """

    cameras: tuple[str, ...] = ("FRONT", "LEFT", "RIGHT", "BACK")
    grid: GridConfig = GridConfig(reference="FRONT")

    @property
    def kind(self) -> str:
        return "recordings of CARLA"

    def read(self, drive: Path) -> Sequence[RigFrame]:
        return read_carla(drive)


@dataclass(frozen=True, kw_only=True)
class Argoverse2(DriveFolders):
    """Logs of Argoverse 2's sensor data set as published, ROOT/SPLIT/LOG; annotated sweeps, ten a
    second, with the images nearest in time."""

    cameras: tuple[str, ...] = RING_CAMERAS
    grid: GridConfig = GridConfig(reference="ring_front_center")

    splits: ClassVar[tuple[str, ...]] = ("train", "val")  # those of test have no boxes

    @property
    def kind(self) -> str:
        return "Argoverse 2"

    def read(self, drive: Path) -> Sequence[RigFrame]:
        return read_av2_frames(drive, self.cameras)
