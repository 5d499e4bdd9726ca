"""All kinds of RGB-D frames that a config names; no jax here, this runs in data workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from posejax.config import ConfigError, check_range
from posejax.data.cameras import PixelConvention
from posejax.data.dataset import SPLITS
from posejax.data.errors import DataError
from posejax.data.files import is_file, path_inside, root_folder
from posejax.data.images import read_image
from posejax.data.rgbd_frames import FrameFiles, list_frames, read_matrix, read_pose, tracked
from posejax.data.rigid import se3_apply
from posejax.data.scannet import read_label_table
from posejax.data.sevenscenes import INTRINSICS, list_sequences
from posejax.data.sunrgbd import CLASSES, SunRgbdFrame, read_sunrgbd, read_sunrgbd_points
from posejax.data.tables import read_words
from posejax.systems.bifusion.augment import Augment
from posejax.systems.bifusion.frames import (
    UP,
    FrameRecord,
    FrameSource,
    RecordedFrames,
    Recording,
    RgbdFrames,
)

__all__ = [
    "SIMULATED_CLASSES",
    "Augment",
    "OwnFrames",
    "RgbdFrames",
    "ScanNet",
    "SevenScenes",
    "SimulatedRooms",
    "SunRgbd",
]

#: What simulated rooms hold.
SIMULATED_CLASSES = (
    "wall", "floor", "ceiling", "cabinet", "bed", "chair", "sofa", "table", "desk", "bookshelf",
    "door", "window", "picture", "whiteboard", "box", "night stand", "bag",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SimulatedRooms(RgbdFrames):
    """Walks through simulated rooms, written in ScanNet's layout and read as that.

    Attributes:
      rooms: in train, val and test; none is in two of them.
      frames_a_room: along one walk.
      image: (height, width) that is rendered.
      lookalikes: most pieces of a room that one sense alone cannot tell apart.
      seed: of the rooms.
      root: folder of all generated data sets; the user's cache folder if empty.
    """

    size: tuple[int, int] = (240, 320)
    classes: tuple[str, ...] = SIMULATED_CLASSES
    rooms: tuple[int, int, int] = (48, 8, 12)
    frames_a_room: int = 24
    image: tuple[int, int] = (240, 320)
    lookalikes: int = 6
    seed: int = 0
    root: str = ""

    simulated: ClassVar[bool] = True

    @property
    def kind(self) -> str:
        return "simulated rooms"

    def check(self) -> None:
        super().check()
        for count in (*self.rooms, self.frames_a_room, *self.image):
            check_range("system.data.rooms, frames_a_room and image", count, 1)

    def frames(self, split: str) -> RecordedFrames:
        from posejax.sim.cameras import DepthSensor  # jax
        from posejax.sim.room_scans import ScanSettings, ensure_scans
        from posejax.sim.rooms import RoomSettings

        settings = ScanSettings(
            size=self.image,
            frames=self.frames_a_room,
            room=RoomSettings(texel=0.012, lookalikes=self.lookalikes),
            # As wide an angle as a Kinect's 640 pixels have.
            depth=DepthSensor(lateral=self.image[1] / 640),
        )
        count = self.rooms[SPLITS.index(split)]
        folders = ensure_scans(self.root or None, split, count, settings, seed=self.seed)
        return RecordedFrames(self, [Recording(f.name, list_frames(f)) for f in folders])


@dataclass(frozen=True, kw_only=True)
class ScanNet(RgbdFrames):
    """Scans as ScanNet's exporter writes them, a folder each.

    Attributes:
      root: folder of the scans, or one scan, which is then every split.
      train_scenes: text file with the names of the scans to train on, one in a line.
      val_scenes: the same of the scans to evaluate on.
      table: scannetv2-labels.combined.tsv, for label pictures of raw numbers; empty: they have
        NYU40's.
      pixels: convention of the intrinsics' files.
    """

    root: str = ""
    every: int = 20
    train_scenes: str = ""
    val_scenes: str = ""
    table: str = ""
    pixels: PixelConvention = "opencv"

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    @property
    def kind(self) -> str:
        return f"ScanNet's frames of {Path(self.root).resolve().name}"

    def check(self) -> None:
        super().check()
        if not self.root:
            raise ConfigError("system.data.root: not given; expected a folder of ScanNet's scans")

    def frames(self, split: str) -> RecordedFrames:
        """Raises DataError: no such folder, list, table or scan."""
        root = root_folder(self.root, "a folder of ScanNet's scans")
        file = self.train_scenes if split == "train" else self.val_scenes
        if (root / "color").is_dir():
            folders = [root]
        elif not file:
            name = "train_scenes" if split == "train" else "val_scenes"
            raise ConfigError(f"system.data.{name}: not given; expected a list of scans")
        else:
            folders = []
            for number, words in read_words(file, "a scan's name in a line"):
                if (folder := path_inside(root, words[0])) is None:
                    raise DataError(file, f"line {number}", words[0], f"a folder in {root}")
                folders.append(folder)
        for folder in folders:
            if not (folder / "color").is_dir():
                raise DataError(folder, "scan", "no folder color", "color, depth, pose, intrinsic")
        table = read_label_table(self.table) if self.table else None
        found = [Recording(folder.name, list_frames(folder)) for folder in folders]
        return RecordedFrames(self, found, self.pixels, table)


@dataclass(frozen=True, kw_only=True)
class SevenScenes(RgbdFrames):
    """A scene of Microsoft 7-Scenes: frames and poses without labels.

    Attributes:
      root: folder of the scene; one that holds frames itself is one recording, in every split.
      pixels: convention of the intrinsics.
    """

    root: str = ""
    pixels: PixelConvention = "opencv"

    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    @property
    def kind(self) -> str:
        return f"7-Scenes' frames of {Path(self.root).resolve().name}"

    def check(self) -> None:
        super().check()
        if not self.root:
            raise ConfigError("system.data.root: not given; expected a scene of 7-Scenes")

    def frames(self, split: str) -> RecordedFrames:
        """Raises DataError: see `list_sequences`."""
        root = root_folder(self.root, "a scene of 7-Scenes")
        found = [
            Recording(name, frames, up_of(frames)) for name, frames in list_sequences(root, split)
        ]
        return RecordedFrames(self, found, self.pixels)


@dataclass(frozen=True, kw_only=True)
class SunRgbd(RgbdFrames):
    """SUN RGB-D as MMDetection3D prepares it; a point has the class of the box that holds it.

    Attributes:
      root: folder of the lists, see `posejax.data.sunrgbd`.
      train_list: name of the list to train on.
      val_list: of the list to evaluate on.
    """

    root: str = ""
    classes: tuple[str, ...] = CLASSES
    train_list: str = "sunrgbd_infos_train.json"
    val_list: str = "sunrgbd_infos_val.json"

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    @property
    def kind(self) -> str:
        return f"SUN RGB-D's frames of {Path(self.root).resolve().name}"

    def check(self) -> None:
        super().check()
        if not self.root:
            raise ConfigError("system.data.root: not given; expected the folder of SUN RGB-D")

    def frames(self, split: str) -> "SunRgbdSource":
        """Raises DataError: see `read_sunrgbd`."""
        root = root_folder(self.root, "the folder of SUN RGB-D")
        name = self.train_list if split == "train" else self.val_list
        return SunRgbdSource(self, read_sunrgbd(root / name))


class SunRgbdSource(FrameSource):
    """The frames of a list; each is a recording of its own."""

    def __init__(self, data: SunRgbd, found: Sequence[SunRgbdFrame]):
        self.found, self.farthest = found[:: data.every], data.farthest
        self.sequence = np.arange(len(self.found), dtype=np.int32)
        place = {name: number for number, name in enumerate(data.classes)}
        # The last one is for points in no box.
        self.numbers = np.array([place.get(name, -1) for name in CLASSES] + [-1], np.int32)

    def __len__(self) -> int:
        return len(self.found)

    def describe(self, index: int) -> str:
        return self.found[index].image.name

    def recording(self, number: int) -> str:
        return self.found[number].image.stem

    def frame(self, index: int) -> FrameRecord:
        frame = self.found[index]
        points, colors = read_sunrgbd_points(frame.points)
        near = se3_apply(frame.camera_from_world, points)[:, 2] <= self.farthest
        points, colors = points[near], colors[near]
        box = frame.boxes_of(points)
        label = np.append(frame.label, len(CLASSES))  # -1, in no box, finds the last
        return FrameRecord(
            points.astype(np.float64),
            colors,
            read_image(frame.image, convert="RGB"),
            frame.intrinsics,
            frame.camera_from_world,
            self.numbers[label[box]],
            box,
            np.array(UP),
        )


@dataclass(frozen=True, kw_only=True)
class OwnFrames(RgbdFrames):
    """A recording of one's own, in 7-Scenes' names or those of ScanNet's exporter; every split.

    Attributes:
      folder: of the frames. Which way is down, gravity-direction.txt beside the poses tells (3
        numbers, in their frame); without it the z axis is up in the exporter's layout, and in
        7-Scenes' names what is up in the images is, on average.
      intrinsics: (fx, fy, cx, cy) in pixels, where no file has them.
      pixels: convention of the intrinsics.
      table: as in `ScanNet`.
    """

    folder: str = ""
    intrinsics: tuple[float, float, float, float] = INTRINSICS
    pixels: PixelConvention = "opencv"
    table: str = ""

    @property
    def kind(self) -> str:
        return f"frames of {self.folder}"

    def frames(self, split: str) -> RecordedFrames:
        """Raises DataError: no frames, none with a pose, no such table."""
        folder = Path(self.folder)
        files = list_frames(folder, self.intrinsics)
        up = up_of(files, z_up=(folder / "color").is_dir())
        recording = Recording(folder.resolve().name, files, up)
        table = read_label_table(self.table) if self.table else None
        found = RecordedFrames(self, [recording], self.pixels, table)
        if not len(found):
            every = f"unknown of all {len(found.skipped)} frames"
            raise DataError(folder, "poses", every, "one that was tracked")
        return found


def up_of(frames: Sequence[FrameFiles], *, z_up: bool = False) -> tuple[float, float, float]:
    """Against gravity: the file gravity-direction.txt beside the poses tells, or the mean of what
    is up in the images that have a pose, which people hold about level.

    Args:
      z_up: without such a file, the z axis is known to be up.
    """
    file = frames[0].pose.with_name("gravity-direction.txt")
    if is_file(file):
        up = -read_matrix(file, ((3, 1), (1, 3))).reshape(3)
    elif z_up or not (known := [files.pose for files in frames if tracked(files.pose)]):
        return UP
    else:
        few = known[:: max(len(known) // 16, 1)]
        up = -np.mean([read_pose(pose)[:3, 1] for pose in few], axis=0)
    length = float(np.linalg.norm(up))
    if length < 1e-3:
        return UP
    x, y, z = (up / length).tolist()
    return x, y, z
