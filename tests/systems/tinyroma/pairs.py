"""Image pairs with exact warp and pose, without a file: a smooth surface with a texture."""

from dataclasses import dataclass

import numpy as np

from posejax.data.dataset import Dataset, Source


def texture(rng: np.random.Generator, size: float):
    """A function of pixels [..., 2] -> [..., 3] in (0, 1): waves of many lengths."""
    count = 120
    length = np.exp(rng.uniform(np.log(5), np.log(size), count))
    angle = rng.uniform(0, 2 * np.pi, count)
    wave = 2 * np.pi / length[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    weight = rng.normal(size=(count, 3)) * np.sqrt(length)[:, None]
    weight *= 1.2 / np.linalg.norm(weight, axis=0)
    phase = rng.uniform(0, 2 * np.pi, count)
    return lambda xy: 1 / (1 + np.exp(-2 * np.sin(xy @ wave.T + phase) @ weight))


def centers(shape: tuple[int, int], stride: int) -> np.ndarray:
    """[H / stride, W / stride, 2] centres of cells in pixels."""
    rows, columns = (stride * (np.arange(n // stride) + 0.5) for n in shape)
    return np.stack(np.meshgrid(columns, rows), -1)


def make_pair(seed: int, size: tuple[int, int], angle: float = 0.1) -> dict[str, np.ndarray]:
    """One example: B is the texture, A shows where a smooth surface takes each of its pixels."""
    rng = np.random.default_rng(seed)
    height, width = size
    paint = texture(rng, height)
    k = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    turn = rng.normal(size=3)
    turn *= angle * rng.uniform(0.5, 1) / np.linalg.norm(turn)
    skew = np.cross(np.eye(3), turn)
    rotation = np.linalg.inv(np.eye(3) + skew / 2) @ (np.eye(3) - skew / 2)  # Cayley
    t = np.array([*rng.normal(size=2) * 0.4, 0.1 * rng.normal()])
    bumps = 2 * np.pi * rng.uniform(0.5, 1.5, 2) / np.array([width, height])

    def to_b(xy):
        depth = 4 + np.sin(xy[..., 0] * bumps[0]) + np.sin(xy[..., 1] * bumps[1])
        rays = np.concatenate([xy, np.ones_like(xy[..., :1])], -1) @ np.linalg.inv(k).T
        p = (depth[..., None] * rays @ rotation.T + t) @ k.T
        return p[..., :2] / p[..., 2:]

    example: dict[str, np.ndarray] = {}
    for name, place in (("a", to_b), ("b", lambda xy: xy)):
        image = paint(place(centers(size, 1)))
        example[f"image_{name}"] = np.round(255 * image).astype(np.uint8)
        example[f"K_{name}"] = k.astype(np.float32)
    for stride in (8, 4):
        target = to_b(centers(size, stride))
        inside = np.all((target > 0) & (target < [width, height]), axis=-1)
        example[f"target_{stride}"] = target.astype(np.float32)
        example[f"visible_{stride}"] = inside.astype(np.float32)
        example[f"known_{stride}"] = np.ones(inside.shape, np.float32)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, t
    return example | {
        "b_from_a": pose.astype(np.float32),
        "has_pose": np.float32(1),
        "overlap": np.float32(inside.mean()),
        "rotation_deg": np.float32(np.rad2deg(2 * np.arctan(np.linalg.norm(turn) / 2))),
        "index": np.int32(seed),
    }


class PairSource(Source):
    def __init__(self, count: int, first: int):
        self.count, self.first = count, first

    def __len__(self):
        return self.count

    def __getitem__(self, index: int):
        return {"index": index, "seed": self.first + index}


@dataclass(frozen=True)
class Surfaces(Dataset):
    """Pairs of `make_pair`; each split has its own."""

    size: tuple[int, int] = (64, 96)
    count: int = 4

    title = "smooth surfaces"
    simulated = True
    splits = ("train", "val")

    def source(self, split):
        return PairSource(self.count, 1000 * self.splits.index(split))

    def transform(self, record, rng, train):
        return make_pair(record["seed"], self.size) | {"index": np.int32(record["index"])}


def batch_of(count: int, size: tuple[int, int] = (64, 96), first: int = 0):
    rows = [make_pair(first + i, size) for i in range(count)]
    return {k: np.stack([r[k] for r in rows]) for k in rows[0]}
