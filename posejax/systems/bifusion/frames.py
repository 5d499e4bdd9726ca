"""From RGB-D frames to examples: points with colours and labels, the image that shows them, a pose.

NumPy only: this runs in data workers. A source hands on `FrameRecord`s with every point that there
is; an example has a fixed number of them.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from posejax.config import check_names, check_range
from posejax.data.cameras import Camera, PixelConvention
from posejax.data.dataset import Dataset, Source
from posejax.data.errors import DataError
from posejax.data.images import resize_image
from posejax.data.rgbd_frames import FrameFiles, RgbdFrame, read_frame, tracked
from posejax.data.rgbd_points import back_project
from posejax.data.rigid import nearest_rigid, se3_apply, se3_inverse, so3_exp
from posejax.data.scannet import NYU40, SCANNET20, class_numbers
from posejax.systems.bifusion.augment import Augment, View, augmented

UP = (0.0, 0.0, 1.0)
_PIXELS = 480 * 640  # of depth cameras


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One RGB-D frame with all its points.

    Attributes:
      points: [M, 3] float64 metres, in the world.
      colors: [M, 3] float32, 0..1, RGB.
      image: [H, W, 3] uint8 RGB.
      intrinsics: [3, 3] of that image, the first pixel's centre at (0.5, 0.5).
      camera_from_world: [4, 4], camera axes x right, y down, z forward.
      semantic: [M] int32 class, -1 where there is none.
      instance: [M] int32 thing, -1 where there is none.
      up: [3] unit, against gravity.
      depth: [H, W] float32 metres as it was read, 0 where unknown; None where the points came
        without.
    """

    points: np.ndarray
    colors: np.ndarray
    image: np.ndarray
    intrinsics: np.ndarray
    camera_from_world: np.ndarray
    semantic: np.ndarray
    instance: np.ndarray
    up: np.ndarray
    depth: np.ndarray | None = None


def record_of(
    frame: RgbdFrame, numbers: np.ndarray, up: np.ndarray, farthest: float = np.inf
) -> FrameRecord:
    """The record of a frame that a reader returns.

    Args:
      numbers: from `class_numbers`.
      up: [3] against gravity.
      farthest: metres; what is farther has no depth.
    """
    near = np.where(frame.depth <= farthest, frame.depth, np.float32(0))
    pose = nearest_rigid(frame.world_from_camera)
    # Depth that was brought to a larger image says nothing new at every pixel of that.
    step = max(round(np.sqrt(near.size / _PIXELS)), 1)
    points, pixels = back_project(near, frame.intrinsics, pose, step)
    semantic = instance = np.full(len(pixels), -1, np.int32)
    if frame.semantic is not None:
        semantic = numbers[frame.semantic.reshape(-1)[pixels]]
    if frame.instance is not None:
        thing = frame.instance.reshape(-1)[pixels]
        instance = np.where(thing > 0, thing, -1).astype(np.int32)
    return FrameRecord(
        points,
        frame.image.reshape(-1, 3)[pixels].astype(np.float32) / np.float32(255),
        frame.image,
        frame.intrinsics,
        se3_inverse(pose),
        semantic,
        instance,
        np.asarray(up, np.float64),
        frame.depth,
    )


def upright_from_world(up: np.ndarray) -> np.ndarray:
    """[4, 4] the shortest turn about the world's origin that brings `up` [3], a unit vector, to z.

    Networks know which way is up by the axes of their voxels: those that learnt from ScanNet or
    simulated rooms take a floor for a wall in a world whose z axis lies.
    """
    axis = np.cross(up, UP)
    sine, cosine = float(np.linalg.norm(axis)), float(np.dot(up, UP))
    # Straight down, any level axis will do.
    axis = axis / sine if sine > 1e-9 else np.array([1.0, 0, 0])
    turn = np.eye(4)
    turn[:3, :3] = so3_exp(np.arctan2(sine, cosine) * axis)
    return turn


def moved(frame: FrameRecord, new_from_world: np.ndarray) -> FrameRecord:
    """The frame in the coordinates of another world, `new_from_world` [4, 4] rigid."""
    return replace(
        frame,
        points=se3_apply(new_from_world, frame.points),
        camera_from_world=frame.camera_from_world @ se3_inverse(new_from_world),
        up=new_from_world[:3, :3] @ frame.up,
    )


@dataclass(frozen=True, kw_only=True)
class RgbdFrames(Dataset):
    """RGB-D frames with poses, wherever they come from.

    A record of a source is a dict: `frame`, a `FrameRecord`; `sequence`, the number of the
    recording it is from, whose frames follow one another; `index`.

    Attributes:
      size: (height, width) of the images.
      points: of an example: drawn at random in training, evenly spread over the frame otherwise.
      classes: names of NYU40's; every other label is none.
      farthest: metres; depths beyond are taken for missing.
      every: takes every so many-th frame of a recording.
      augment: random changes of training examples.
      verify: judge a few frames of training before the first step, and stop at what is wrong with
        their poses, intrinsics, depths or colours.
    """

    size: tuple[int, int] = (480, 640)
    points: int = 20_000
    classes: tuple[str, ...] = SCANNET20
    farthest: float = 10.0
    every: int = 1
    augment: Augment = Augment()
    verify: bool = True

    simulated: ClassVar[bool] = False

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the frames are, in a few words."""

    @abstractmethod
    def frames(self, split: str) -> "FrameSource":
        """The records of a split."""

    @property
    def title(self) -> str:
        return f"{self.kind}; {self.size[1]} x {self.size[0]} pixels, {self.points} points"

    def source(self, split: str) -> "FrameSource":
        source = self.frames(split)
        if not len(source):
            raise DataError(self.kind, f"split {split!r}", "no frame", "at least one")
        if split == "train" and self.verify:
            from posejax.systems.bifusion.health import verify

            verify(source)
        return source

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        for side in self.size:
            check_range("system.data.size", side, 16)
        for name in ("points", "every"):
            check_range(f"system.data.{name}", getattr(self, name), 1)
        check_range("system.data.farthest", self.farthest, 0, above=True)
        check_names("system.data.classes", self.classes, NYU40)
        self.augment.check()

    def transform(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> dict[str, np.ndarray]:
        """One example of a frame, of N = `points` points.

        Returns:
          points [N, 3] metres in the world (turned, mirrored and scaled with the camera in
          training), colors [N, 3] in 0..1, mask [N] bool (0 and -1 elsewhere where it is False),
          image [H, W, 3] uint8, intrinsics [3, 3] of it, camera_from_world [4, 4], semantic [N]
          and instance [N] int32 (-1: none), sequence and index, int32. Others float32.
        """
        frame: FrameRecord = record["frame"]
        rows = self._rows(len(frame.points), rng, train)
        camera = Camera(frame.intrinsics, (frame.image.shape[0], frame.image.shape[1]))
        view = View(
            frame.points[rows],
            frame.colors[rows].astype(np.float64),
            resize_image(frame.image, self.size),
            camera.resized(self.size).intrinsics,
            frame.camera_from_world,
        )
        if train:
            view = augmented(view, frame.up, rng, self.augment)
        count = self.points - len(rows)

        def padded(values: np.ndarray, dtype, fill: float) -> np.ndarray:
            pad = [(0, count)] + [(0, 0)] * (values.ndim - 1)
            return np.pad(values.astype(dtype), pad, constant_values=fill)

        return {
            "points": padded(view.points, np.float32, 0),
            "colors": padded(view.colors, np.float32, 0),
            "mask": np.arange(self.points) < len(rows),
            "image": np.ascontiguousarray(view.image),
            "intrinsics": view.intrinsics.astype(np.float32),
            "camera_from_world": view.camera_from_world.astype(np.float32),
            "semantic": padded(frame.semantic[rows], np.int32, -1),
            "instance": padded(frame.instance[rows], np.int32, -1),
            "sequence": np.array(record.get("sequence", 0), np.int32),
            "index": np.array(record["index"], np.int32),
        }

    def _rows(self, count: int, rng: np.random.Generator, train: bool) -> np.ndarray:
        """Which of a frame's points an example has, at most `points`, in their order."""
        most = min(count, self.points)
        if not train:
            return np.arange(most) * count // max(most, 1)
        kept = most - int(rng.uniform(0, self.augment.drop) * most)
        return np.sort(rng.choice(count, kept, replace=False))


class FrameSource(Source):
    """Frames of recordings, one recording after the other.

    Attributes:
      sequence: [N] number of each frame's recording.
    """

    sequence: np.ndarray

    @abstractmethod
    def frame(self, index: int) -> FrameRecord:
        """Read a frame."""

    @abstractmethod
    def recording(self, number: int) -> str:
        """Name of a recording, unlike that of any other, by its number in `sequence`."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        sequence = int(self.sequence[index])
        return {"frame": self.frame(index), "sequence": sequence, "index": index}


class Recording(NamedTuple):
    """Frames in the order in which they were taken; `up` [3] is against gravity."""

    name: str
    frames: Sequence[FrameFiles]
    up: tuple[float, float, float] = UP


class RecordedFrames(FrameSource):
    """Frames that lie on disk as image, depth and pose; those without a pose are left out."""

    def __init__(
        self,
        data: RgbdFrames,
        recordings: Sequence[Recording],
        pixels: PixelConvention = "opencv",
        table: np.ndarray | None = None,
    ):
        self.numbers = class_numbers(data.classes, table)
        self.pixels: PixelConvention = pixels
        self.farthest = data.farthest
        self.recordings = [(recording.name, recording.up) for recording in recordings]
        self.files: list[FrameFiles] = []
        self.skipped = []
        sequence = []
        for row, recording in enumerate(recordings):
            for files in recording.frames[:: data.every]:
                if tracked(files.pose):
                    self.files.append(files)
                    sequence.append(row)
                else:
                    self.skipped.append((f"{recording.name}/{files.name}", "its pose is unknown"))
        self.sequence = np.array(sequence, np.int32)

    def __len__(self) -> int:
        return len(self.files)

    def describe(self, index: int) -> str:
        return f"{self.recording(self.sequence[index])}/{self.files[index].name}"

    def recording(self, number: int) -> str:
        return self.recordings[number][0]

    def frame(self, index: int) -> FrameRecord:
        frame = read_frame(self.files[index], self.pixels)
        up = np.array(self.recordings[self.sequence[index]][1])
        return record_of(frame, self.numbers, up, self.farthest)
