"""All kinds of image pairs that a config names; no jax here, this runs in data workers."""

from posejax.systems.tinyroma.augment import Augment
from posejax.systems.tinyroma.pairs import MixedPairs, Pairs
from posejax.systems.tinyroma.sources.homographies import HomographyPairs
from posejax.systems.tinyroma.sources.megadepth import MegaDepth
from posejax.systems.tinyroma.sources.rgbd_folder import RgbdFolder
from posejax.systems.tinyroma.sources.scannet import ScanNetPairs
from posejax.systems.tinyroma.sources.simulated import SimulatedPairs, Worlds
from posejax.systems.tinyroma.sources.stereo import StereoFolder

__all__ = [
    "Augment",
    "HomographyPairs",
    "MegaDepth",
    "MixedPairs",
    "Pairs",
    "RgbdFolder",
    "ScanNetPairs",
    "SimulatedPairs",
    "StereoFolder",
    "Worlds",
]
