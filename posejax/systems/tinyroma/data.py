"""All kinds of image pairs that a config names; no jax here, this runs in data workers."""

from posejax.systems.tinyroma.augment import Augment
from posejax.systems.tinyroma.pairs import MixedPairs, Pairs
from posejax.systems.tinyroma.sources.rgbd_folder import RgbdFolder
from posejax.systems.tinyroma.sources.simulated import SimulatedPairs, Worlds

__all__ = ["Augment", "MixedPairs", "Pairs", "RgbdFolder", "SimulatedPairs", "Worlds"]
