"""Position from noisy ranges to four beacons: the smallest system that uses the whole engine."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Beacons:
    """All options of the system; `build` makes it."""

    hidden: int = 16
    """Width of the hidden layer."""
    norm: Literal["none", "batch"] = "none"
    """Normalisation of the hidden layer."""
    noise: float = 0.05
    """Standard deviation of a range (m)."""
    examples: int = 256
    """Examples of the train split; the others have a quarter of it."""
    root: str = ""
    """Folder with <split>.npy files of positions `[N, 2]`; made up if empty."""

    def build(self):
        from beacons.system import BeaconSystem

        return BeaconSystem(self)
