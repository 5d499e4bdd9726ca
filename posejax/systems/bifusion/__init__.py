"""Point features from RGB-D frames, of the image and the points: all that a config file names."""

from typing import TYPE_CHECKING

from posejax.lazy import attach

if TYPE_CHECKING:
    from posejax.systems.bifusion.config import ModelConfig as ModelConfig
    from posejax.systems.bifusion.config import ObjectiveConfig as ObjectiveConfig
    from posejax.systems.bifusion.config import PointsConfig as PointsConfig
    from posejax.systems.bifusion.data import Augment as Augment
    from posejax.systems.bifusion.data import OwnFrames as OwnFrames
    from posejax.systems.bifusion.data import RgbdFrames as RgbdFrames
    from posejax.systems.bifusion.data import ScanNet as ScanNet
    from posejax.systems.bifusion.data import SevenScenes as SevenScenes
    from posejax.systems.bifusion.data import SimulatedRooms as SimulatedRooms
    from posejax.systems.bifusion.data import SunRgbd as SunRgbd
    from posejax.systems.bifusion.system import Bifusion as Bifusion

__getattr__, __all__ = attach(
    __name__,
    {
        "config": ("ModelConfig", "ObjectiveConfig", "PointsConfig"),
        "data": (
            "Augment",
            "OwnFrames",
            "RgbdFrames",
            "ScanNet",
            "SevenScenes",
            "SimulatedRooms",
            "SunRgbd",
        ),
        "system": ("Bifusion",),
    },
)
