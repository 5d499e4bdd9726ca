"""Options of the pose system: network, objective, trajectory layer."""

import dataclasses
from typing import Literal

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
class ObjectiveConfig:
    """The loss.

    Attributes:
      rotation: form of the rotation head: "6d" (first two columns of the matrix, continuous) or
        "quaternion" (xyzw, which no continuous function of the attitude can equal).
      translation_beta: error, in standard deviations of the training split, at which the smooth-L1
        loss turns from square to linear.
      rot_weight: radians against normalised translation; with "kendall" the starting ratio of the
        two, with "gaussian" unused, since both terms are in nats.
      uncertainty: "none" (fixed weights), "kendall" (one learned log-variance for each of the two
        tasks), "gaussian" (predicted log standard deviations of every example).
      stats: mean and spread that the translation is normalised by: measured on the training split,
        or the published ones of SPADES (`SPADES_STATS`), for the full view only.
    """

    rotation: Literal["6d", "quaternion"] = "6d"
    translation_beta: float = 1.0
    rot_weight: float = 3.0
    uncertainty: Literal["none", "kendall", "gaussian"] = "none"
    stats: Literal["train", "spades"] = "train"

    def __post_init__(self):
        if self.translation_beta <= 0 or self.rot_weight <= 0:
            raise ValueError(
                "translation_beta and rot_weight must be positive, got "
                f"{self.translation_beta} and {self.rot_weight}"
            )

    @property
    def rotation_size(self) -> int:
        """Width of the rotation head."""
        return 6 if self.rotation == "6d" else 4
