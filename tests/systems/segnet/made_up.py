"""A made-up rig of four cameras on a parking place: images that show its boxes, points on them."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw

from posejax.data.av2_cameras import RigCamera
from posejax.data.cameras import Camera, project
from posejax.data.rig_frame import Boxes, RigFrame
from posejax.data.rigid import se3_apply, se3_from_rotation_translation, se3_inverse, so3_exp
from posejax.systems.segnet.config import STILL, Augment, GridConfig
from posejax.systems.segnet.frames import RigFrames

NAMES = ("LEFT", "FRONT", "RIGHT", "BACK")
YAWS = dict(zip(NAMES, np.deg2rad([90.0, 0.0, -90.0, 180.0]), strict=True))
IMAGE = (64, 96)
FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # ego_from_camera
GRID = GridConfig((16, 2, 16), (-8.0, -1.0, -8.0), (8.0, 2.0, 8.0), reference="FRONT")
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2


def started(shapes: Any, seed: int = 0) -> Any:
    """Starting values of the shapes that `init` has: spares its compilation, and eager zeros."""
    rng = np.random.default_rng(seed)

    def start(path, s):
        if path[-1].key == "kernel":
            scale = np.sqrt(2 / np.prod(s.shape[:-1]))
            return np.asarray(scale * rng.standard_normal(s.shape), s.dtype)
        return np.full(s.shape, path[-1].key in ("scale", "var"), s.dtype)

    return jax.tree_util.tree_map_with_path(start, shapes)


def pose_of(yaw: float, place=(0.0, 0.0, 1.5)) -> np.ndarray:
    turn = so3_exp(np.array([0.0, 0.0, yaw]))
    return se3_from_rotation_translation(turn @ FORWARD, np.array(place))


@functools.cache
def camera() -> Camera:
    return Camera(np.array([[46.0, 0, 48], [0, 46, 32], [0, 0, 1]]), IMAGE)


def boxes_of(seed: int, count: int = 3) -> Boxes:
    rng = np.random.default_rng(seed)
    angle, far = rng.uniform(-np.pi, np.pi, count), rng.uniform(3.5, 7, count)
    place = np.stack([far * np.cos(angle), far * np.sin(angle), np.full(count, 0.75)], 1)
    turn = so3_exp(rng.uniform(-np.pi, np.pi, (count, 1)) * [0.0, 0.0, 1.0])
    size = np.tile([3.0, 2.0, 1.5], (count, 1))
    label = np.array(["vehicle.car"] * count)
    poses = se3_from_rotation_translation(turn, place)
    return Boxes(size, poses, label, np.full(count, 9))


def make_frame(folder: Path, seed: int, boxes: Boxes | None = None, moved: float = 0.0) -> RigFrame:
    """A frame whose images show every box as a patch of light; `moved` metres between the times."""
    boxes = boxes_of(seed) if boxes is None else boxes
    mounted = {name: pose_of(yaw) for name, yaw in YAWS.items()}
    motion = se3_from_rotation_translation(np.eye(3), np.array([moved, 0.0, 0.0]))
    cameras = {n: RigCamera(n, camera(), motion @ pose) for n, pose in mounted.items()}
    images = {}
    for name, rig in cameras.items():
        picture = Image.new("RGB", IMAGE[::-1], (40, 60, 40))
        for size, pose in zip(boxes.size, boxes.ego_from_box, strict=True):
            local = se3_inverse(rig.ego_from_camera) @ pose
            corners = se3_apply(local, size * CORNERS)
            xy, valid = project(corners, camera().intrinsics, min_depth=0.3)
            if valid.all():
                (left, top), (right, bottom) = xy.min(0), xy.max(0)
                ImageDraw.Draw(picture).rectangle((left, top, right, bottom), fill=(230, 220, 90))
        images[name] = folder / f"{seed}_{name}.png"
        picture.save(images[name])
    lidar = folder / f"{seed}.pcd.bin"
    points = np.zeros((50, 5), "<f4")
    rng = np.random.default_rng(seed)
    which = rng.integers(0, len(boxes), 50)
    points[:, :3] = boxes.ego_from_box[which, :3, 3] + rng.uniform(-0.5, 0.5, (50, 3))
    lidar.write_bytes(points.tobytes())
    times = dict.fromkeys(NAMES, float(seed))
    return RigFrame(
        float(seed), cameras, mounted, times, images, lidar, np.eye(4), np.eye(4), boxes
    )


@dataclass(frozen=True, kw_only=True)
class MadeUp(RigFrames):
    """Frames of a folder, made by the test."""

    folder: str = ""
    count: int = 2
    grid: GridConfig = GRID
    size: tuple[int, int] = IMAGE
    cameras: tuple[str, ...] = NAMES
    most_boxes: int = 4
    lidar_points: int = 40
    augment: Augment = STILL

    @property
    def kind(self) -> str:
        return "a made-up rig"

    def frames(self, split: str) -> tuple[Sequence[RigFrame], np.ndarray]:
        found = [make_frame(Path(self.folder), seed) for seed in range(self.count)]
        return found, np.arange(self.count)
