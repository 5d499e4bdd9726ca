"""A made-up corner of a room: a floor, a wall, a picture on the wall, seen by a camera."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from posejax.data.dataset import Dataset, Source
from posejax.systems.bifusion.config import ModelConfig, PointsConfig

CLASSES = ("floor", "wall", "picture")
SIZE = (32, 48)
K = np.array([[40.0, 0, 24], [0, 40, 16], [0, 0, 1]])
#: Axes of a camera that looks along the world's y, z up.
TURN = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
TINY = ModelConfig(
    image="small",
    image_size=None,
    grid=None,
    points=PointsConfig(0.1, stem=6, widths=(6, 8), blocks=(1, 1), rows=(1.0, 0.8)),
    features=16,
    squeeze=4,
    dropout=0.0,
    early=0.2,
)


def corner(seed: int) -> dict[str, np.ndarray]:
    """Every pixel's point, class and thing, and what the camera sees."""
    rng = np.random.default_rng(seed)
    height, back = rng.uniform(0.6, 0.8), rng.uniform(2.5, 3.5)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = TURN, -TURN @ [0.0, 0.0, height]
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones(SIZE)], -1) @ TURN
    down = np.where(rays[..., 2] < -1e-6, height / np.maximum(-rays[..., 2], 1e-6), np.inf)
    depth = np.minimum(down, back)
    points = rays * depth[..., None] + [0, 0, height]
    semantic = np.where(down < back, 0, 1)
    aside = rng.uniform(-0.8, 0.2)
    on = (np.abs(points[..., 0] - aside) < 0.4) & (np.abs(points[..., 2] - height - 0.3) < 0.4)
    semantic = np.where(on & (semantic == 1), 2, semantic)
    colors = np.array([[0.5, 0.35, 0.2], [0.8, 0.8, 0.75], [0.2, 0.3, 0.7]])[semantic]
    colors = np.clip(colors + rng.normal(0, 0.03, colors.shape), 0, 1)
    return {
        "points": points.reshape(-1, 3).astype(np.float32),
        "colors": colors.reshape(-1, 3).astype(np.float32),
        "semantic": semantic.reshape(-1).astype(np.int32),
        "instance": np.where(semantic == 2, 40, -1).reshape(-1).astype(np.int32),
        "image": (255 * colors).astype(np.uint8),
        "intrinsics": K.astype(np.float32),
        "camera_from_world": pose.astype(np.float32),
    }


class Corners(Source):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"index": index}


@dataclass(frozen=True)
class MadeUp(Dataset):
    """Some of each corner's points; the last places are empty."""

    points: int = 400
    classes: tuple[str, ...] = CLASSES
    size: tuple[int, int] = SIZE

    title: ClassVar[str] = "a made-up corner"
    simulated: ClassVar[bool] = False

    def check(self) -> None: ...

    def source(self, split: str) -> Source:
        return Corners()

    def transform(self, record, rng, train):
        frame, there = corner(record["index"]), self.points - 7
        rows = np.sort(rng.choice(len(frame["points"]), there, replace=False))
        mask = np.arange(self.points) < there
        found = {"mask": mask}
        for name in ("points", "colors", "semantic", "instance"):
            value = frame.pop(name)[rows]
            fill = -1 if value.dtype == np.int32 else 0
            pad = [(0, 7)] + [(0, 0)] * (value.ndim - 1)
            found[name] = np.pad(value, pad, constant_values=fill)
        numbers = {"sequence": record["index"] // 2, "index": record["index"]}
        return found | frame | {k: np.array(v, np.int32) for k, v in numbers.items()}
