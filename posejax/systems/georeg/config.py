"""Options of the registration system but its data: search window, network, objective."""

import dataclasses
import math
from typing import Literal

import numpy as np

from posejax.config import ConfigError, check_range


@dataclasses.dataclass(frozen=True)
class Augment:
    """Training-time augmentation (each source adds its own to the points it rasters).

    Attributes:
      turn: the online frame is turned by a yaw from the full circle, so that streets run in all
        directions of both rasters.
      flip: half of the examples are mirrored in x, half in y, both rasters and the pose.
      gain: values of aerial channels are multiplied by exp(u gain) per channel, u from +-1.
      gamma: before, they are raised to exp(u gamma), u from +-1.
      noise: standard deviation of the Gaussian noise they get in the end.
    """

    turn: bool = True
    flip: bool = True
    gain: float = 0.15
    gamma: float = 0.2
    noise: float = 0.01


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The lattice of poses. The true pose is drawn inside the window; the lattice reaches a
    margin further, because a distribution cut off at the border has a biased mean.

    Attributes:
      max_offset: the window is +-max_offset in x and y, metres.
      max_yaw_deg: and +-max_yaw_deg in yaw, degrees.
      yaw_step_deg: spacing of the lattice's yaws, degrees.
      stride: spacing of its shifts, in cells of the rasters; a power of 2. The network's features
        have cells of this size.
      margin: lattice beyond the window, metres.
      margin_yaw_deg: lattice beyond the window, degrees.
      abstain_sigma: an estimate whose standard deviation in its weakest direction exceeds this
        (metres) is flagged `abstain`; so is one with a rival mode (see `assess`).
    """

    max_offset: float = 4.0
    max_yaw_deg: float = 10.0
    yaw_step_deg: float = 1.0
    stride: int = 1
    margin: float = 0.4
    margin_yaw_deg: float = 2.0
    abstain_sigma: float = 0.5

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        for name in ("max_offset", "max_yaw_deg", "margin", "margin_yaw_deg"):
            check_range(f"system.data.search.{name}", getattr(self, name), 0)
        check_range("system.data.search.yaw_step_deg", self.yaw_step_deg, 0, above=True)
        check_range("system.data.search.stride", self.stride, 1)

    def angles(self) -> np.ndarray:
        """[K] yaws in radians, symmetric about zero, K odd."""
        half = math.ceil((self.max_yaw_deg + self.margin_yaw_deg) / self.yaw_step_deg - 1e-9)
        return np.deg2rad(np.arange(-half, half + 1) * self.yaw_step_deg).astype(np.float32)

    def radius(self, raster_cell: float) -> int:
        """Half side of the lattice of shifts in its own steps, on rasters of `raster_cell` m."""
        return math.ceil((self.max_offset + self.margin) / (raster_cell * self.stride) - 1e-6)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of the registration network.

    Attributes:
      encoder: "unet" (residual U-Net), or "identity": the rasters themselves are the features,
        which is the learning-free baseline and has no parameters.
      features: channels that are correlated.
      widths: channels of the encoder's levels, finest first.
      blocks: residual blocks per level (0: two plain convolutions).
      norm: normalisation layer of the encoders.
      shared: both rasters pass one encoder, each behind its own first convolution.
      head: "joint" scores every (yaw, y, x); "decoupled" scores shifts at yaw 0 and yaws at shift
        0 and adds the two log-probabilities: cheaper, and exact only near the window's centre.
      score: "dot" of unit-length features over the number of valid cells, or masked "zncc".
      min_overlap: zncc only: least overlap of a pose, relative to the expected overlap.
      confidence: dot only: learn a weight per cell of either raster, so that what the map cannot
        know (cars, people) fades out.
      masked: "identity" only: the masks weight the rasters. Otherwise every cell counts, for
        rasters that carry what is unknown in their values.
      temperature: of the softmax over the volume before training; scores are divided by it.
      yaw_chunk: rotations held in memory at once; 0 means all.
      bfloat16: encoder activations in bfloat16; the volume stays float32.
    """

    encoder: Literal["unet", "identity"] = "unet"
    features: int = 8
    widths: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    norm: Literal["batch", "instance", "group", "layer", "none"] = "group"
    shared: bool = False
    head: Literal["joint", "decoupled"] = "joint"
    score: Literal["dot", "zncc"] = "dot"
    min_overlap: float = 0.5
    confidence: bool = True
    masked: bool = True
    temperature: float = 0.02
    yaw_chunk: int = 8
    bfloat16: bool = False

    def check(self) -> None:
        """Raise ConfigError for settings out of range, or that do not fit one another."""
        if self.head == "decoupled" and self.score == "zncc":
            raise ConfigError(
                "system.model.head: 'decoupled' scores with plain dot products; use 'joint' for "
                "system.model.score 'zncc'"
            )
        check_range("system.model.features", self.features, 1)
        for name in ("blocks", "yaw_chunk"):
            check_range(f"system.model.{name}", getattr(self, name), 0)
        check_range("system.model.temperature", self.temperature, 0, above=True)
        check_range("system.model.widths", min(self.widths, default=0), 1)


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Loss = nll_weight * NLL + xy_weight * |xy error| + yaw_weight * |yaw error|.

    Attributes:
      nll_weight: negative log-density of the true pose in the volume, by interpolation.
      xy_weight: L1 distance of the softmax expectation to the truth, per metre.
      yaw_weight: absolute yaw error of the expectation, per radian.
    """

    nll_weight: float = 1.0
    xy_weight: float = 0.0
    yaw_weight: float = 0.0
