"""Options of the pose system but its data: input, network, objective, trajectory layer."""

import dataclasses
import math
from typing import Literal

from posejax.events import AugmentRule

Backbone = Literal[
    "event_unet", "event_resnet", "voxel_cnn", "resnet18", "resnet34", "resnet50", "efficientnet_b0"
]
Heads = Literal["direct", "keypoints", "both"]
Representation = Literal["voxel", "histogram", "time_surface", "lnes"]
PointKind = Literal["box", "surface", "wireframe"]
FROM_SCRATCH = ("event_unet", "event_resnet", "voxel_cnn")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture.

    Attributes:
      heads: "direct" regresses the pose; "keypoints" says where points of the body are in the view,
        from which a solver finds the pose (`KeypointConfig`); "both" trains the two on one
        backbone and answers by the keypoints.
      backbone: "event_unet", "event_resnet" or "voxel_cnn", small networks for training from
        scratch, or a published architecture, whose weights `weights` names.
      widths: channels of the stages of the small networks.
      pool: "mean" over the last feature map, or "flatten", which keeps where things are in it.
      hidden: width of the layer before the heads.
      dropout: rate before the heads, in training.
      bfloat16: activations in bfloat16; geometry, heads and losses stay float32.
      weights: file of backbone weights under PyTorch's names (.safetensors or .npz): torchvision or
        timm for residual networks, timm for "efficientnet_b0". Its three-channel first convolution
        is averaged over the colours and repeated.
    """

    heads: Heads = "direct"
    backbone: Backbone = "event_resnet"
    widths: tuple[int, ...] = (32, 64, 96, 128)
    pool: Literal["mean", "flatten"] = "mean"
    hidden: int = 256
    dropout: float = 0.0
    bfloat16: bool = False
    weights: str | None = None


@dataclasses.dataclass(frozen=True)
class KeypointConfig:
    """Points of the body, their heatmaps, and the pose that explains them.

    `use`, `hypotheses`, `grid`, `iterations`, `align`, `half_turn`, `answer` change no parameter:
    an evaluation may ask a trained network for any of them.

    Attributes:
      points: kinds, taken together. "box": the 8 corners, 12 edge middles and 6 face centres of a
        box, which need no model of the craft, since the labels say where they project to.
        "surface", "wireframe": points of the simulated craft, as far from one another as they can.
      half: half sizes of the box, body frame (m).
      middle: of the box, body frame (m).
      count: points of "surface" and of "wireframe".
      stride: pixels of the grid along a cell of the heatmaps.
      sigma: spread of the targets in cells.
      outside: weight of the loss of points out of the view: the cross-entropy (nats) that spreads
        their heatmaps evenly, so that the solver asks them nothing; 0 leaves them what they are.
      direct_weight: with heads "both", of the direct loss beside the mean of the points'
        cross-entropies (nats).
      use: kinds of `points` that the pose is computed from; none means all.
      hypotheses: poses that are kept, 1 for a single one.
      grid: rotations that the solver starts from.
      iterations: of the poses' refinement to the heatmaps, in each of three stages, and twice as
        many more of those that may become hypotheses; 0 leaves them where the grid's rotations put
        them.
      align: weight of a point of the simulated craft's edges, which are aligned to the events of
        the view, against a heatmap's; 0 for no alignment. Scores, weights, order and covariance
        stay those of the poses before it.
      half_turn: heatmaps are averaged with those of the view turned by half a turn, in evaluation.
      answer: "solver", poses from the heatmaps, or "direct", that of the pose heads beside them
        (heads "both").
    """

    points: tuple[PointKind, ...] = ("box",)
    half: tuple[float, float, float] = (0.8, 0.3, 0.52)
    middle: tuple[float, float, float] = (0.0, 0.0, 0.0)
    count: int = 20
    stride: int = 2
    sigma: float = 1.0
    outside: float = 0.0
    direct_weight: float = 0.3
    use: tuple[PointKind, ...] = ()
    hypotheses: int = 8
    grid: int = 1024
    iterations: int = 4
    align: float = 0.0
    half_turn: bool = True
    answer: Literal["solver", "direct"] = "solver"

    def __post_init__(self):
        if not self.points or min(*self.half, self.sigma) <= 0 or self.count < 4:
            raise ValueError(
                "keypoints need at least one kind of points, positive half sizes and sigma, and a "
                f"count of 4: {self}"
            )
        if not set(self.use) <= set(self.points):
            raise ValueError(f"keypoints.use is of keypoints.points, {self.points}: {self.use}")
        least = {"hypotheses": 1, "grid": 1}
        for name in ("hypotheses", "grid", "iterations", "outside", "direct_weight", "align"):
            value = getattr(self, name)
            if not value >= least.get(name, 0):
                raise ValueError(f"keypoints.{name} is at least {least.get(name, 0)}: {value}")


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """What the network sees.

    Attributes:
      size: (H, W) of the grid.
      view: "canonical" looks at the events and zooms to their extent (see `view.py`); "full" is the
        whole sensor, stretched to the grid.
      representation: of the events; frames have none.
      bins: time bins of "voxel"; the grid has twice as many channels, OFF before ON.
      time: "nearest" bin, or "linear" between two.
      tau: decay of "time_surface", as a fraction of the window.
      fill: canonical view: spread of the events as a fraction of the grid's height.
      augment: changes of the events in training, each with its exact change of the pose.
      upright: canonical view: turned so that the events' longest axis lies along the rows, and in
        training by another half turn half of the time (the axis has no sign).
      roll: canonical view: in training, turned about its axis by up to +-roll rad.
      aim: canonical view: in training, aimed up to this many spreads beside the centre.
      zoom: canonical view: in training, zoomed by up to exp(+-zoom).
      border: canonical view: where the picture's border cuts what is seen, centre and size are
        those of a whole that looks like the visible part, and cells of the grid beyond the border
        hold -`View.cut` instead of 0. Changes nothing where nothing touches the border.
      supersample: frames: samples per pixel and axis when they are brought into the view.
      noise: frames: standard deviation of the noise added in training (grey values are 0 to 1).
    """

    size: tuple[int, int] = (256, 256)
    view: Literal["canonical", "full"] = "canonical"
    representation: Representation = "voxel"
    bins: int = 5
    time: Literal["nearest", "linear"] = "linear"
    tau: float = 0.3
    fill: float = 0.2
    augment: AugmentRule = AugmentRule(roll=0.0)
    upright: bool = False
    roll: float = math.pi
    aim: float = 0.15
    zoom: float = 0.1
    border: bool = False
    supersample: int = 2
    noise: float = 0.02

    def __post_init__(self):
        turned = self.augment.roll or self.augment.pan or self.augment.tilt
        if self.border and (self.view == "full" or turned):
            raise ValueError(
                "border is for the canonical view, which turns by `roll`; augment.roll, pan and "
                "tilt would turn the picture's border as well"
            )

    @property
    def channels(self) -> int:
        """Channels of the grid of events."""
        return 2 * self.bins if self.representation == "voxel" else 2


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
      doubt: of several poses per window: the probability that its weights say nothing of which one
        is right. Neighbouring windows see the same and err alike: however sure each is, together
        they must not outvote the motion.
    """

    method: Literal["none", "rts", "spline", "twist"] = "rts"
    position_sigma: float = 0.1
    rotation_sigma: float = 10.0
    drift: float = 0.01
    turn_drift: float = 0.5
    spacing: float = 2.0
    doubt: float = 0.05

    def __post_init__(self):
        if not 0 <= self.doubt < 1:
            raise ValueError(f"doubt is a probability below 1, got {self.doubt}")


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
