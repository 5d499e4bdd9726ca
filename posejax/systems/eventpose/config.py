"""Every choice of the pose system: data, input, network, objective, trajectory layer."""

import dataclasses
from typing import TYPE_CHECKING, Literal

from posejax.config import ConfigError
from posejax.systems.eventpose.data import EventposeData, Simulated
from posejax.systems.eventpose.inputs import InputConfig
from posejax.systems.eventpose.objective import ObjectiveConfig

if TYPE_CHECKING:
    from posejax.systems.eventpose.system import EventposeSystem

Backbone = Literal[
    "event_resnet", "voxel_cnn", "resnet18", "resnet34", "resnet50", "efficientnet_b0"
]
FROM_SCRATCH = ("event_resnet", "voxel_cnn")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture.

    Attributes:
      backbone: "event_resnet" or "voxel_cnn", a small residual or plain network for training from
        scratch, or a published architecture, whose weights `weights` names.
      widths: channels of the stages of "event_resnet" and "voxel_cnn".
      pool: "mean" over the last feature map, or "flatten", which keeps where things are in it.
      hidden: width of the layer before the heads.
      dropout: rate before the heads, in training.
      bfloat16: activations in bfloat16; geometry, heads and losses stay float32.
      weights: file of backbone weights under PyTorch's names (.safetensors or .npz): torchvision or
        timm for residual networks, timm for "efficientnet_b0". Its three-channel first convolution
        is averaged over the colours and repeated.
    """

    backbone: Backbone = "event_resnet"
    widths: tuple[int, ...] = (32, 64, 96, 128)
    pool: Literal["mean", "flatten"] = "mean"
    hidden: int = 256
    dropout: float = 0.0
    bfloat16: bool = False
    weights: str | None = None


@dataclasses.dataclass(frozen=True)
class TrajectoryConfig:
    """Smoothing of a sequence's estimates at evaluation time; numbers are given before and after.

    Attributes:
      method: "rts" (Kalman smoother of a body with nearly constant velocity), "spline" (cubic
        B-spline on SE(3)), "twist" (one screw motion per sequence, true of helix sequences only),
        or "none".
      position_sigma: spread of the network's positions along each axis (m).
      rotation_sigma: spread of its rotations about each axis (deg).
      drift: by how much each axis of the velocity wanders in one second (m/s); rts, spline.
      turn_drift: by how much each axis of the turn rate wanders in one second (deg/s).
      spacing: spline: seconds between knots.
    """

    method: Literal["none", "rts", "spline", "twist"] = "rts"
    position_sigma: float = 0.1
    rotation_sigma: float = 10.0
    drift: float = 0.01
    turn_drift: float = 0.5
    spacing: float = 2.0


@dataclasses.dataclass(frozen=True)
class EventposeConfig:
    """6-DoF pose of a spacecraft from the events of a short window."""

    data: EventposeData = dataclasses.field(default_factory=Simulated)
    input: InputConfig = dataclasses.field(default_factory=InputConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    trajectory: TrajectoryConfig = dataclasses.field(default_factory=TrajectoryConfig)

    def build(self) -> "EventposeSystem":
        """The system; imported here, so that reading a config stays quick.

        Raises:
          ConfigError: settings that do not fit together.
        """
        if self.model.weights and self.model.backbone in FROM_SCRATCH:
            raise ConfigError(
                f"system.model.weights: {self.model.backbone!r} has no published weights; choose "
                "another --system.model.backbone or leave the weights out"
            )
        if self.objective.stats == "spades" and self.input.view != "full":
            raise ConfigError(
                "system.objective.stats: 'spades' are metres in the camera; the canonical view has "
                "its own scale: use --system.input.view full, or stats 'train'"
            )
        if self.model.pool == "flatten" and min(self.input.size) % 32:
            raise ConfigError(
                f"system.input.size: {self.input.size}; expected multiples of 32 with "
                "system.model.pool 'flatten'"
            )
        from posejax.systems.eventpose.system import EventposeSystem

        return EventposeSystem(self)
