"""All kinds of frames that a config names; no jax here, this runs in data workers."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from posejax.config import ConfigError, check_range
from posejax.data.mmdet_infos import read_infos
from posejax.data.nuscenes import MINI_TRAIN, MINI_VAL, Scenes, read_names, read_nuscenes
from posejax.data.rig_frame import RigFrame
from posejax.data.rigid import se3_inverse
from posejax.systems.segnet.drives import RING_CAMERAS, Argoverse2, CarlaDrives
from posejax.systems.segnet.frames import NUSCENES_CAMERAS, VEHICLES, RigFrames

__all__ = [
    "NUSCENES_CAMERAS",
    "RING_CAMERAS",
    "VAN_CAMERAS",
    "VEHICLES",
    "Argoverse2",
    "CarlaDrives",
    "InfoFrames",
    "NuScenes",
    "RigFrames",
    "SimulatedDrives",
]

#: Of the simulator's other vehicle.
VAN_CAMERAS = tuple(name for name in NUSCENES_CAMERAS if name != "CAM_BACK")


@dataclass(frozen=True, kw_only=True)
class InfoFrames(RigFrames):
    """Key frames of MMDetection3D's info file as JSON, images and sweeps beside it.

    Attributes:
      root: folder of `infos.json`; all splits are its frames, which is for a few of them (to see
        that a network can learn one by heart).
    """

    root: str = ""

    @property
    def kind(self) -> str:
        return f"nuScenes key frames of {Path(self.root).name or 'no folder'}"

    def check(self) -> None:
        super().check()
        if not self.root:
            raise ConfigError("system.data.root: not given; expected a folder with infos.json")
        self.check_single("infos")

    def frames(self, split: str) -> tuple[Sequence[RigFrame], np.ndarray]:
        found = read_infos(Path(self.root) / "infos.json")
        return found, np.arange(len(found))


@dataclass(frozen=True, kw_only=True)
class NuScenes(RigFrames):
    """Key frames of the published data set, from its own tables.

    Attributes:
      root: folder of `samples`, `sweeps` and the tables.
      version: folder of the tables.
      train_scenes: text file with the names of the scenes to train on, one in a line; empty for
        the official split of v1.0-mini, which is known.
      val_scenes: the same of the scenes to evaluate on.
    """

    root: str = ""
    version: str = "v1.0-trainval"
    train_scenes: str = ""
    val_scenes: str = ""

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    @property
    def kind(self) -> str:
        return f"nuScenes {self.version}"

    def check(self) -> None:
        super().check()
        if not self.root:
            raise ConfigError("system.data.root: not given; expected the folder of nuScenes")
        if self.version != "v1.0-mini":
            for name in ("train_scenes", "val_scenes"):
                if not getattr(self, name):
                    expected = "a text file with the names of its scenes"
                    raise ConfigError(f"system.data.{name}: not given; expected {expected}")

    def frames(self, split: str) -> tuple[Sequence[RigFrame], np.ndarray]:
        file = self.train_scenes if split == "train" else self.val_scenes
        names = read_names(file) if file else MINI_TRAIN if split == "train" else MINI_VAL
        scenes = read_nuscenes(
            self.root, self.version, scenes=names, sweeps=self.sweeps - 1 if self.lidar else 0
        )
        return scenes, scene_numbers(scenes)


@dataclass(frozen=True, kw_only=True)
class SimulatedDrives(RigFrames):
    """Drives through simulated towns, written in nuScenes' layout and read as that.

    Attributes:
      rig: "nuscenes", six cameras where nuScenes has them, or "van", five others, elsewhere, with
        other lenses; give it `cameras` VAN_CAMERAS.
      train_scenes: towns to train on, a drive in each.
      val_scenes: towns to choose checkpoints by; none of them is trained on.
      test_scenes: towns to evaluate on; none of them is in another split.
      frames_a_scene: key frames of each, half a second apart.
      image: (height, width) that is rendered.
      calibrated_as: the rig whose calibration the frames are said to have, as after a change of the
        vehicle that nobody told; the rig's own if empty.
      seed: of the towns.
      root: folder of all generated data sets; the user's cache folder if empty.
    """

    rig: Literal["nuscenes", "van"] = "nuscenes"
    size: tuple[int, int] = (128, 224)
    train_scenes: int = 64
    val_scenes: int = 12
    test_scenes: int = 12
    frames_a_scene: int = 8
    image: tuple[int, int] = (128, 224)
    calibrated_as: Literal["", "nuscenes", "van"] = ""
    seed: int = 0
    root: str = ""

    simulated: ClassVar[bool] = True

    @property
    def kind(self) -> str:
        return f"simulated drives of the rig {self.rig!r}"

    def check(self) -> None:
        super().check()
        for name in ("train_scenes", "val_scenes", "test_scenes", "frames_a_scene"):
            check_range(f"system.data.{name}", getattr(self, name), 1)

    def frames(self, split: str) -> tuple[Sequence[RigFrame], np.ndarray]:
        from posejax.sim.driving_scenes import TABLES, DrivingSettings, ensure_driving  # jax

        settings = DrivingSettings(
            rig=self.rig,
            image_size=self.image,
            frames=self.frames_a_scene,
            sweeps=self.sweeps - 1 if self.lidar else 0,
        )
        count = {"train": self.train_scenes, "val": self.val_scenes}.get(split, self.test_scenes)
        folder = ensure_driving(self.root or None, split, count, settings, seed=self.seed)
        scenes = read_nuscenes(folder, TABLES, sweeps=settings.sweeps)
        frames: Sequence[RigFrame] = scenes
        if self.calibrated_as:
            frames = [recalibrated(frame, self.calibrated_as) for frame in scenes]
        return frames, scene_numbers(scenes)


def recalibrated(frame: RigFrame, rig: str) -> RigFrame:
    """The frame as if its cameras were those of the same names of another rig."""
    from posejax.sim.driving_rigs import RIGS

    cameras, mounted = dict(frame.cameras), dict(frame.mounted)
    for mount in RIGS[rig].cameras:
        if mount.name in cameras:
            old = cameras[mount.name]
            moved = old.ego_from_camera @ se3_inverse(mounted[mount.name])  # since it was taken
            k = mount.camera(old.camera.size).intrinsics
            camera = dataclasses.replace(old.camera, intrinsics=k)
            pose = moved @ mount.ego_from_camera
            cameras[mount.name] = dataclasses.replace(old, camera=camera, ego_from_camera=pose)
            mounted[mount.name] = mount.ego_from_camera
    return dataclasses.replace(frame, cameras=cameras, mounted=mounted)


def scene_numbers(scenes: Scenes) -> np.ndarray:
    """[N] int32: the row of each frame's scene."""
    numbers = np.zeros(len(scenes), np.int32)
    for row, scene in enumerate(scenes.scenes):
        numbers[scene.frames.start : scene.frames.stop] = row
    return numbers
