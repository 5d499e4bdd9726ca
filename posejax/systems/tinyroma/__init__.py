"""Tiny RoMa: dense matching of two images, and the relative pose of their cameras."""

from typing import TYPE_CHECKING

from posejax.lazy import attach

if TYPE_CHECKING:
    from posejax.systems.tinyroma.config import MatchConfig as MatchConfig
    from posejax.systems.tinyroma.config import ModelConfig as ModelConfig
    from posejax.systems.tinyroma.config import ObjectiveConfig as ObjectiveConfig
    from posejax.systems.tinyroma.config import SearchConfig as SearchConfig
    from posejax.systems.tinyroma.data import Augment as Augment
    from posejax.systems.tinyroma.data import HomographyPairs as HomographyPairs
    from posejax.systems.tinyroma.data import MegaDepth as MegaDepth
    from posejax.systems.tinyroma.data import MixedPairs as MixedPairs
    from posejax.systems.tinyroma.data import RgbdFolder as RgbdFolder
    from posejax.systems.tinyroma.data import ScanNetPairs as ScanNetPairs
    from posejax.systems.tinyroma.data import SimulatedPairs as SimulatedPairs
    from posejax.systems.tinyroma.data import StereoFolder as StereoFolder
    from posejax.systems.tinyroma.data import Worlds as Worlds
    from posejax.systems.tinyroma.system import Tinyroma as Tinyroma

__getattr__, __all__ = attach(
    __name__,
    {
        "config": ("MatchConfig", "ModelConfig", "ObjectiveConfig", "SearchConfig"),
        "data": (
            "Augment",
            "HomographyPairs",
            "MegaDepth",
            "MixedPairs",
            "RgbdFolder",
            "ScanNetPairs",
            "SimulatedPairs",
            "StereoFolder",
            "Worlds",
        ),
        "system": ("Tinyroma",),
    },
)
