"""Bird's-eye segmentation of the cameras around a vehicle: all that a config file names."""

from typing import TYPE_CHECKING

from posejax.lazy import attach

if TYPE_CHECKING:
    from posejax.systems.segnet.config import STILL as STILL
    from posejax.systems.segnet.config import Augment as Augment
    from posejax.systems.segnet.config import GridConfig as GridConfig
    from posejax.systems.segnet.config import ModelConfig as ModelConfig
    from posejax.systems.segnet.config import ObjectiveConfig as ObjectiveConfig
    from posejax.systems.segnet.data import VAN_CAMERAS as VAN_CAMERAS
    from posejax.systems.segnet.data import Argoverse2 as Argoverse2
    from posejax.systems.segnet.data import CarlaDrives as CarlaDrives
    from posejax.systems.segnet.data import InfoFrames as InfoFrames
    from posejax.systems.segnet.data import NuScenes as NuScenes
    from posejax.systems.segnet.data import SimulatedDrives as SimulatedDrives
    from posejax.systems.segnet.system import Segnet as Segnet

__getattr__, __all__ = attach(
    __name__,
    {
        "config": ("STILL", "Augment", "GridConfig", "ModelConfig", "ObjectiveConfig"),
        "data": (
            "VAN_CAMERAS",
            "Argoverse2",
            "CarlaDrives",
            "InfoFrames",
            "NuScenes",
            "SimulatedDrives",
        ),
        "system": ("Segnet",),
    },
)
