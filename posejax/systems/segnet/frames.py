"""From a frame of a vehicle's sensors to an example: images, calibration, boxes, points.

NumPy only: this runs in data workers. A source hands on `RigFrame`s, whatever it reads them from;
files of images and points are opened here.
"""

import dataclasses
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from posejax.config import ConfigError, check_names, check_range
from posejax.data.dataset import Dataset, Source
from posejax.data.errors import DataError
from posejax.data.images import read_image
from posejax.data.rig_frame import RigFrame
from posejax.data.rig_points import gather_points
from posejax.data.rigid import se3_inverse
from posejax.systems.segnet.boxes import VEHICLES, padded_boxes
from posejax.systems.segnet.config import Augment, GridConfig
from posejax.systems.segnet.points import NOTHING, padded, radar_points
from posejax.systems.segnet.views import augmented_view, grid_frame, plain_view

NUSCENES_CAMERAS = (
    "CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT",
)  # fmt: skip
LIDAR, RADAR = "LIDAR", "RADAR"  # what `hide` may name besides cameras
_HIDE_RADAR = "for a network that knows radar, add RADAR to system.data.hide"
_SAME_PIXEL, _SAME_POSE = 1e-2, 1e-4  # calibrations of one plan


@dataclass(frozen=True, kw_only=True)
class RigFrames(Dataset):
    """Frames of sensors around a vehicle, wherever they come from.

    A record of a source is a dict: `frame`, a RigFrame; `scene`, the number of the drive it is
    from; `index`; and for a plan `calibration`, (intrinsics, camera_from_grid) that all share.

    Attributes:
      grid: the volume.
      size: (height, width) of the images, multiples of 16.
      cameras: their names, in the order of the batch; one that a frame lacks is missing in it.
      hide: cameras to leave out, LIDAR or RADAR, to see what each is worth.
      extrinsics: "timed" leads from each camera's own time to the frame's by way of the vehicle's
        motion (up to 0.4 m on nuScenes); "mounted" ignores the motion, as the original does.
      vehicles: regular expressions of the categories to find, matched whole.
      lidar: whether examples have the LiDAR's points.
      radar: whether they have the radars' returns.
      sweeps: of the LiDAR, the frame's own and the ones before.
      lidar_points: most points of an example; of more, an even choice is kept.
      radar_points: most returns.
      most_boxes: most boxes; of more, the nearest are kept.
      augment: random changes of training examples.
    """

    grid: GridConfig = GridConfig()
    size: tuple[int, int] = (448, 800)
    cameras: tuple[str, ...] = NUSCENES_CAMERAS
    hide: tuple[str, ...] = ()
    extrinsics: Literal["timed", "mounted"] = "timed"
    vehicles: tuple[str, ...] = VEHICLES
    lidar: bool = False
    radar: bool = False
    sweeps: int = 1
    lidar_points: int = 30_000
    radar_points: int = 700
    most_boxes: int = 150
    augment: Augment = Augment()

    simulated: ClassVar[bool] = False

    @abstractmethod
    def frames(self, split: str) -> tuple[Sequence[RigFrame], np.ndarray]:
        """Frames of a split, and the number of each one's drive [N]."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the frames are, in a few words."""

    @property
    def title(self) -> str:
        height, width = self.size
        cameras = len([name for name in self.cameras if name not in self.hide])
        others = [("LiDAR", self.lidar and LIDAR not in self.hide)]
        others += [("radar", self.radar and RADAR not in self.hide)]
        more = "".join(f", {name}" for name, there in others if there)
        return f"{self.kind}; {cameras} cameras of {width} x {height} pixels{more}"

    def source(self, split: str) -> "FrameSource":
        frames, scenes = self.frames(split)
        if self.radar and RADAR not in self.hide and not any(frame.radar for frame in frames):
            raise ConfigError(f"system.data.radar: {self.kind} have none; {_HIDE_RADAR}")
        first = frames[0].cameras
        if not any(name in first for name in self.cameras):
            found, there = ", ".join(self.cameras), ", ".join(first) or "none"
            raise ConfigError(f"system.data.cameras: {found}; the first frame has {there}")
        return FrameSource(self, frames, scenes)

    def check_single(self, kind: str) -> None:
        """Raise ConfigError where more than one sweep, or radar, is asked of what has none."""
        if self.radar and RADAR not in self.hide:
            raise ConfigError(f"system.data.radar: {kind} have none; {_HIDE_RADAR}")
        if self.sweeps > 1:
            expected = f"1: {kind} name no others"
            raise ConfigError(f"system.data.sweeps: {self.sweeps}; expected {expected}")

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        self.grid.check()
        self.augment.check()
        for side in self.size:
            check_range("system.data.size", side, 16)
            if side % 16:
                raise ConfigError(f"system.data.size: {self.size}; expected multiples of 16")
        for name in ("sweeps", "lidar_points", "radar_points", "most_boxes"):
            check_range(f"system.data.{name}", getattr(self, name), 1)
        for pattern in self.vehicles:
            try:
                re.compile(pattern)
            except re.error as error:
                found = f"{pattern!r}, {error}"
                raise ConfigError(f"system.data.vehicles: {found}; expected a regex") from None
        if not self.cameras:
            raise ConfigError("system.data.cameras: none; expected at least one")
        if self.hide:
            others = (LIDAR,) * self.lidar + (RADAR,) * self.radar
            check_names("system.data.hide", self.hide, (*self.cameras, *others))
        if self.grid.lift == "plan" and self.augment.moves_cameras:
            raise ConfigError(
                "system.data.grid.lift: 'plan' needs cameras that stay; set "
                "system.data.augment.resize 1 1, crop 0 and no-shuffle-reference"
            )

    # ---- from a record to an example

    def transform(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> dict[str, np.ndarray]:
        """One example of a frame.

        Returns:
          images [N, H, W, 3] uint8, zero where camera_mask [N] is False; intrinsics [N, 3, 3],
          camera_from_grid [N, 4, 4] (identities for missing cameras), ego_from_grid [4, 4];
          box_size [M, 3], grid_from_box [M, 4, 4], box_visible and box_present [M] bool; where
          asked for lidar_points [P, 3] (grid frame) and lidar_present [P], radar_points [R, 3],
          radar_values [R, 16] and radar_present [R]; scene and index, int32. Others float32.

        Raises:
          DataError: a file that cannot be read, no reference camera, a lens, a calibration that is
            not the plan's.
        """
        frame: RigFrame = record["frame"]
        augment = self.augment if train else None
        poses = self.poses(frame)
        ego_from_grid = self._grid(frame, poses, rng, augment)
        example = self._views(frame, poses, ego_from_grid, rng, augment)
        if "calibration" in record:
            self._check_calibration(frame, example, record["calibration"])
        example |= padded_boxes(frame.boxes, self.vehicles, ego_from_grid, self.most_boxes)
        if self.lidar:
            missing = augment is not None and rng.random() < augment.drop_lidar
            missing |= LIDAR in self.hide
            points = np.zeros((0, 3)) if missing else self.lidar_of(frame)
            example |= padded("lidar", points, None, ego_from_grid, self.lidar_points)
        if self.radar:
            missing = augment is not None and rng.random() < augment.drop_radar
            missing |= RADAR in self.hide
            found = NOTHING if missing else self.radar_of(frame)
            example |= padded("radar", *found, ego_from_grid, self.radar_points)
        example["ego_from_grid"] = ego_from_grid.astype(np.float32)
        example["scene"] = np.array(record.get("scene", 0), np.int32)
        example["index"] = np.array(record["index"], np.int32)
        return example

    def poses(self, frame: RigFrame) -> dict[str, np.ndarray]:
        """ego_from_camera of every camera of the frame, by `extrinsics`."""
        if self.extrinsics == "mounted":
            return dict(frame.mounted)
        return {name: camera.ego_from_camera for name, camera in frame.cameras.items()}

    def calibration(self, frame: RigFrame) -> tuple[np.ndarray, np.ndarray]:
        """Intrinsics [N, 3, 3] and camera_from_grid [N, 4, 4] of a frame without augmentation.

        Raises:
          DataError: a camera of `cameras` is not there.
        """
        poses = self.poses(frame)
        for name in self.cameras:
            if name not in frame.cameras:
                expected = f"all of {', '.join(self.cameras)} in the first frame of a plan"
                raise DataError(frame.file, "cameras", f"no {name}", expected)
        ego_from_grid = self._grid(frame, poses, np.random.default_rng(0), None)
        k = [frame.cameras[n].camera.resized(self.size).intrinsics for n in self.cameras]
        return np.stack(k), np.stack([se3_inverse(poses[n]) @ ego_from_grid for n in self.cameras])

    def lidar_of(self, frame: RigFrame) -> np.ndarray:
        """Points [P, 3] of the frame's sweep and those before it, in the ego frame."""
        fewer = dataclasses.replace(frame, sweeps=frame.sweeps[: self.sweeps - 1])
        return gather_points(fewer)[:, :3]

    def radar_of(self, frame: RigFrame) -> tuple[np.ndarray, np.ndarray]:
        """Returns [R, 3] of all radars in the ego frame, and what they carry [R, 16]; none where a
        frame has no sweep of any."""
        return radar_points(frame)

    def _grid(
        self,
        frame: RigFrame,
        poses: Mapping[str, np.ndarray],
        rng: np.random.Generator,
        augment: Augment | None,
    ) -> np.ndarray:
        reference = self.grid.reference
        others = [name for name in self.cameras[1:] if name in poses]
        if augment is not None and augment.shuffle_reference and others:
            reference = others[rng.integers(len(others))]
        if reference not in poses:
            found = f"no {reference}; the frame has {', '.join(poses)}"
            raise DataError(frame.file, "cameras", found, "the camera of system.data.grid")
        return grid_frame(poses[reference], self.grid.frame)

    def _views(
        self,
        frame: RigFrame,
        poses: Mapping[str, np.ndarray],
        ego_from_grid: np.ndarray,
        rng: np.random.Generator,
        augment: Augment | None,
    ) -> dict[str, np.ndarray]:
        count = len(self.cameras)
        images = np.zeros((count, *self.size, 3), np.uint8)
        k, pose = np.tile(np.eye(3), (count, 1, 1)), np.tile(np.eye(4), (count, 1, 1))
        there = [name in frame.images and name not in self.hide for name in self.cameras]
        mask = _dropped(np.array(there), rng, augment)
        for n in np.flatnonzero(mask):
            name = self.cameras[n]
            camera = frame.cameras[name].camera
            if camera.distortion is not None:
                raise DataError(frame.images[name], "camera", "a lens", "an undistorted image")
            image = read_image(frame.images[name], convert="RGB")
            if image.shape[:2] != tuple(camera.size):
                found = f"{image.shape[1]} x {image.shape[0]} pixels"
                expected = f"{camera.size[1]} x {camera.size[0]}, as the calibration says"
                raise DataError(frame.images[name], "size", found, expected)
            if augment is None:
                view = plain_view(image, camera, self.size)
            else:
                view = augmented_view(image, camera, self.size, rng, augment)
            images[n], k[n] = view.image, view.camera.intrinsics
            pose[n] = se3_inverse(poses[name]) @ ego_from_grid
        found = {"images": images, "camera_mask": mask, "intrinsics": k.astype(np.float32)}
        return found | {"camera_from_grid": pose.astype(np.float32)}

    def _check_calibration(
        self, frame: RigFrame, example: Mapping[str, np.ndarray], plan: tuple[np.ndarray, ...]
    ) -> None:
        there = example["camera_mask"]
        pairs = zip(("intrinsics", "camera_from_grid"), plan, strict=True)
        off = [np.abs(example[name] - want)[there].max(initial=0) for name, want in pairs]
        if off[0] > _SAME_PIXEL or off[1] > _SAME_POSE:
            found = f"off the plan's by {off[0]:.2g} pixels, {off[1]:.2g} m"
            hint = "set system.data.grid.lift to dynamic"
            raise DataError(frame.file, "calibration", found, "one for all frames", hint)


class FrameSource(Source):
    """Frames of a split; the plan of a rig that they share is resident."""

    def __init__(self, data: RigFrames, frames: Sequence[RigFrame], scenes: np.ndarray):
        self.data, self.frames, self.scenes = data, frames, scenes
        self.shared = data.calibration(frames[0]) if data.grid.lift == "plan" else None

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = {"frame": self.frames[index], "scene": self.scenes[index], "index": index}
        return record if self.shared is None else {**record, "calibration": self.shared}

    def describe(self, index: int) -> str:
        frame = self.frames[index]
        return frame.file.name if frame.file.name else f"{frame.time:.3f} s"

    def resident(self) -> Mapping[str, np.ndarray]:
        if self.shared is None:
            return {}
        from posejax.systems.segnet.lifting import plan_arrays  # jax: not in a worker

        return plan_arrays(self.data, *self.shared)


def _dropped(there: np.ndarray, rng: np.random.Generator, augment: Augment | None) -> np.ndarray:
    """Cameras that are left; one that is there stays."""
    if augment is None or augment.drop_camera == 0:
        return there
    kept = there & (rng.random(len(there)) >= augment.drop_camera)
    if not kept.any() and there.any():
        kept[rng.choice(np.flatnonzero(there))] = True
    return kept
