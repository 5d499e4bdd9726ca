"""6-DoF pose of a spacecraft from an event camera: all that a config file names."""

from typing import TYPE_CHECKING

from posejax.lazy import attach

if TYPE_CHECKING:
    from posejax.systems.eventpose.config import InputConfig as InputConfig
    from posejax.systems.eventpose.config import KeypointConfig as KeypointConfig
    from posejax.systems.eventpose.config import ModelConfig as ModelConfig
    from posejax.systems.eventpose.config import ObjectiveConfig as ObjectiveConfig
    from posejax.systems.eventpose.config import TrajectoryConfig as TrajectoryConfig
    from posejax.systems.eventpose.data import Frames as Frames
    from posejax.systems.eventpose.data import Recordings as Recordings
    from posejax.systems.eventpose.data import Simulated as Simulated
    from posejax.systems.eventpose.simulated import SimulatedSequences as SimulatedSequences
    from posejax.systems.eventpose.simulated import SimulatedWindows as SimulatedWindows
    from posejax.systems.eventpose.system import Eventpose as Eventpose
    from posejax.systems.eventpose.windows import WindowRule as WindowRule

__getattr__, __all__ = attach(
    __name__,
    {
        "config": (
            "InputConfig",
            "KeypointConfig",
            "ModelConfig",
            "ObjectiveConfig",
            "TrajectoryConfig",
        ),
        "data": ("Frames", "Recordings", "Simulated"),
        "simulated": ("SimulatedSequences", "SimulatedWindows"),
        "system": ("Eventpose",),
        "windows": ("WindowRule",),
    },
)
