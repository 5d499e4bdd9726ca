"""Records (a position) and examples (the ranges measured from there). NumPy only."""

from pathlib import Path

import numpy as np

from posejax.data.errors import DataError

CORNERS = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])  # beacons (m)


class Positions:
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


def example(record: dict, rng: np.random.Generator, noise: float) -> dict:
    """Ranges `[4]` (m) with noise, and the truth."""
    ranges = np.linalg.norm(record["xy"] - CORNERS, axis=-1) + rng.normal(0, noise, 4)
    return {
        "index": np.int32(record["index"]),
        "ranges": ranges.astype(np.float32),
        "xy": record["xy"].astype(np.float32),
    }
