"""Records (a position) and examples (the ranges measured from there). NumPy only."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from posejax.data.dataset import Dataset, Source
from posejax.data.errors import DataError

CORNERS = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])  # beacons (m)


class Positions(Source):
    """Positions (m) in a 4 m room: a file of them, or made up from the split's name."""

    def __init__(self, split: str, count: int, root: str = ""):
        self.split, self.path = split, Path(root) / f"{split}.npy"
        if root:
            self.xy = np.load(self.path, allow_pickle=False)
        else:
            seed = ["train", "val", "test"].index(split)
            self.xy = np.random.default_rng(seed).uniform(0.5, 3.5, [count, 2])

    def __len__(self) -> int:
        return len(self.xy)

    def __getitem__(self, index: int) -> dict:
        xy = self.xy[index]
        if not np.isfinite(xy).all():
            raise DataError(self.path, f"row {index}", xy, "finite numbers")
        return {"index": index, "xy": xy}


@dataclass(frozen=True)
class Room(Dataset):
    """Ranges measured in a room.

    Attributes:
      root: folder with <split>.npy files of positions `[N, 2]`; made up if empty.
      examples: of the train split, if made up; the others have a quarter of it.
      noise: standard deviation of a range in training (m).
    """

    root: str = ""
    examples: int = 256
    noise: float = 0.05

    title: ClassVar[str] = "beacons in a room"

    @property
    def simulated(self) -> bool:
        return not self.root

    def source(self, split: str) -> Positions:
        return Positions(split, self.examples // (1 if split == "train" else 4), self.root)

    def transform(self, record: dict, rng: np.random.Generator, train: bool) -> dict:
        """Ranges `[4]` (m), and the truth."""
        ranges = np.linalg.norm(record["xy"] - CORNERS, axis=-1)
        if train:
            ranges += rng.normal(0, self.noise, 4)
        return {
            "index": np.int32(record["index"]),
            "ranges": ranges.astype(np.float32),
            "xy": record["xy"].astype(np.float32),
        }
