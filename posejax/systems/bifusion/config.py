"""Options of 2D-3D point features but their data: the network and the objective."""

import dataclasses
from typing import Literal

from posejax.config import ConfigError, check_range

Mode = Literal["fused", "image", "points"]
Compat = Literal["none", "centers", "scaled_only"]
ImageEncoder = Literal["clip", "res101", "res50", "effb4", "effb0", "small"]
Position = Literal["none", "add", "film"]


@dataclasses.dataclass(frozen=True)
class PointsConfig:
    """The sparse U-Net over a frame's points; the defaults are Res16UNet34C at 2 cm.

    Attributes:
      voxel_size: metres.
      rounding: see `posejax.sparse.voxelize`; MinkowskiEngine's weights learnt "round".
      stem: channels of the first convolution.
      widths: of the encoder's levels, then of the decoder's.
      blocks: residual units of each.
      rows: room for voxels at each level, the finest first, as a share of a batch's points. What
        does not fit spoils the step, and the scalar `voxels` tells how full the fullest level is.
    """

    voxel_size: float = 0.02
    rounding: Literal["floor", "round"] = "floor"
    stem: int = 32
    widths: tuple[int, ...] = (32, 64, 128, 256, 256, 128, 96, 96)
    blocks: tuple[int, ...] = (2, 3, 4, 6, 2, 2, 2, 2)
    rows: tuple[float, ...] = (1.0, 0.75, 0.4, 0.2, 0.1)

    def check(self) -> None:
        """Raise ConfigError for settings that the network cannot have."""
        at = "system.model.points"
        check_range(f"{at}.voxel_size", self.voxel_size, 0, above=True)
        levels = len(self.rows) - 1
        for name in ("widths", "blocks"):
            if len(getattr(self, name)) != 2 * levels:
                found = f"{len(getattr(self, name))} entries"
                expected = f"{2 * levels}: rows are given of {levels + 1} levels"
                raise ConfigError(f"{at}.{name}: {found}; expected {expected}")
        for share in self.rows:
            check_range(f"{at}.rows", share, 0, 1, above=True)
        for width in (self.stem, *self.widths):
            check_range(f"{at}.widths", width, 1)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
      mode: "fused"; "image" or "points" leave the other branch out altogether.
      image: encoder of the image: half CLIP's ViT-B/16, or one from scratch; "small" is for CPUs.
      activation: of CLIP, see `posejax.nn.ClipTower`; must be the one of `clip_weights`.
      clip_blocks: blocks of CLIP's 12.
      image_size: (height, width) that images are resized to for the encoder, whatever that does to
        their proportions; None for their own.
      grid: (height, width) that the encoder's map is enlarged to before points sample it; None for
        its own.
      points: the sparse U-Net.
      features: channels of both branches and of the fused features.
      squeeze: the squeeze-excitation's layer is this much narrower.
      dropout: in the heads of both branches and the projection of CLIP.
      early: up to this share of a run the gate gives both branches the same weight.
      position: where a point is in the camera's frame joins both branches, added or as scale and
        shift ("film"); starts from nothing.
      compat: how published settings find a point's place on the map. "centers": points within half
        a cell of the image's edge are not valid; "scaled_only": besides, half a pixel is forgotten.
      clip_weights: OpenAI's or open_clip's weights that a training starts from.
      points_weights: MinkowskiEngine's or ESAM's weights of the sparse U-Net.
      bfloat16: activations of the encoders in bfloat16.
    """

    mode: Mode = "fused"
    image: ImageEncoder = "clip"
    activation: Literal["gelu", "quickgelu"] = "quickgelu"
    clip_blocks: int = 6
    image_size: tuple[int, int] | None = (224, 224)
    grid: tuple[int, int] | None = (30, 40)
    points: PointsConfig = PointsConfig()
    features: int = 256
    squeeze: int = 16
    dropout: float = 0.1
    early: float = 0.1
    position: Position = "none"
    compat: Compat = "none"
    clip_weights: str | None = None
    points_weights: str | None = None
    bfloat16: bool = False

    def check(self) -> None:
        """Raise ConfigError for settings out of range, or that do not fit one another."""
        at = "system.model"
        self.points.check()
        check_range(f"{at}.features", self.features, 1)
        check_range(f"{at}.squeeze", self.squeeze, 1, self.features)
        check_range(f"{at}.dropout", self.dropout, 0, 0.99)
        check_range(f"{at}.early", self.early, 0, 0.99)
        check_range(f"{at}.clip_blocks", self.clip_blocks, 1, 12)
        if self.clip_weights and (self.image != "clip" or self.mode == "points"):
            raise ConfigError(f"{at}.clip_weights: there is no CLIP; set --{at}.image clip")
        if self.points_weights and self.mode == "image":
            raise ConfigError(f"{at}.points_weights: --{at}.mode image has no points' branch")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """The loss, a sum of factors times parts. Shares of a run are in [0, 1].

    Attributes:
      semantic: factor of the points' cross-entropy.
      offset: of the absolute error (m) of the way from a point to its thing's centre.
      consistency: of the angle between fused features and the image's, of which a share `trusted`
        passes gradients into the image's branch.
      trusted: see there.
      ramp: the consistency's factor grows from nothing between these shares of a run.
      seen: and is smaller where less than this share of the points is on the image.
      balance: of the squared distance between the mean gate and `balanced`.
      balanced: see there.
    """

    semantic: float = 1.0
    offset: float = 0.5
    consistency: float = 0.05
    trusted: float = 0.05
    ramp: tuple[float, float] = (0.1, 0.2)
    seen: float = 0.6
    balance: float = 0.1
    balanced: float = 0.4

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        at = "system.objective"
        for name in ("semantic", "offset", "consistency", "balance"):
            check_range(f"{at}.{name}", getattr(self, name), 0)
        for name in ("trusted", "balanced"):
            check_range(f"{at}.{name}", getattr(self, name), 0, 1)
        check_range(f"{at}.seen", self.seen, 0, 1, above=True)
        if not 0 <= self.ramp[0] < self.ramp[1] <= 1:
            expected = "two shares of a run, the smaller first"
            raise ConfigError(f"{at}.ramp: {self.ramp}; expected {expected}")
