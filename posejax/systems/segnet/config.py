"""Options of bird's-eye segmentation but its data: the volume, the network, the objective."""

import dataclasses
from typing import Literal

from posejax.config import ConfigError, check_range

Backbone = Literal["res101", "res50", "effb4", "effb0", "small"]
RADAR_VALUES = 16  # what a return carries besides its place: fields of nuScenes


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """The volume around the reference camera that features are lifted into.

    Attributes:
      shape: voxels (Z, Y, X): ahead, down, right. Z and X are multiples of 8.
      lower: of its first corner (x, y, z), metres: x right, y down, z ahead.
      upper: of its last corner.
      frame: "level": at the reference camera, but level; "ground": below it, at the vehicle's
        z = 0, so that another rig's cameras, higher or lower, leave the volume on the road (which
        is there in nuScenes and CARLA, and at z = -0.35 in Argoverse 2); "camera": its own axes,
        as the original has it, which a pitched camera tilts out of the road.
      reference: name of the camera in whose frame the volume lies.
      lift: "dynamic" for any calibration; "plan" gathers by a plan made once for a split, several
        times faster in training, where all frames have one calibration and nothing moves it.
      max_cameras: dynamic: so many cameras at most are averaged in a voxel.
      compat: "simple_bev" samples, averages and draws targets as the released weights learnt it.
    """

    shape: tuple[int, int, int] = (200, 8, 200)
    lower: tuple[float, float, float] = (-50.0, -4.0, -50.0)
    upper: tuple[float, float, float] = (50.0, 6.0, 50.0)
    frame: Literal["level", "ground", "camera"] = "level"
    reference: str = "CAM_FRONT"
    lift: Literal["dynamic", "plan"] = "dynamic"
    max_cameras: int = 2
    compat: Literal["none", "simple_bev"] = "none"

    def check(self) -> None:
        """Raise ConfigError for sizes that the network cannot have, or bounds in disorder."""
        at = "system.data.grid"
        check_range(f"{at}.max_cameras", self.max_cameras, 1)
        for n in self.shape:
            check_range(f"{at}.shape", n, 1)
        if self.shape[0] % 8 or self.shape[2] % 8:
            raise ConfigError(f"{at}.shape: {self.shape}; expected multiples of 8 for Z and X")
        if any(a >= b for a, b in zip(self.lower, self.upper, strict=True)):
            raise ConfigError(f"{at}.lower: {self.lower}; expected less than {at}.upper")


@dataclasses.dataclass(frozen=True)
class Augment:
    """Training-time augmentation; intrinsics and poses follow what the pixels do.

    Attributes:
      resize: images are resized by a factor from this range, each camera by its own.
      crop: and cut out again up to crop * height pixels off the centre.
      shuffle_reference: the volume lies in the frame of a camera drawn anew each time, but the
        first (as the original does it).
      drop_camera: probability that a camera is missing; one always stays.
      drop_lidar: that the LiDAR is missing.
      drop_radar: that the radars are.
      flip_images: half of the images are mirrored on their way through the encoder.
      flip_maps: and half of the volumes left to right, half front to back through the map's net.
    """

    resize: tuple[float, float] = (0.8, 1.2)
    crop: float = 0.2
    shuffle_reference: bool = True
    drop_camera: float = 0.0
    drop_lidar: float = 0.0
    drop_radar: float = 0.0
    flip_images: bool = True
    flip_maps: bool = True

    @property
    def moves_cameras(self) -> bool:
        """Whether calibrations differ from example to example."""
        return self.resize != (1.0, 1.0) or self.crop > 0 or self.shuffle_reference

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        at = "system.data.augment"
        for value in self.resize:
            check_range(f"{at}.resize", value, 0, above=True)
        if self.resize[0] > self.resize[1]:
            raise ConfigError(f"{at}.resize: {self.resize}; expected the smaller factor first")
        for name in ("crop", "drop_camera", "drop_lidar", "drop_radar"):
            check_range(f"{at}.{name}", getattr(self, name), 0, 1)


#: Nothing that moves a camera: a constant rig stays one.
STILL = Augment((1.0, 1.0), 0.0, False)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
      backbone: of the images: "res101", "res50", "effb4", "effb0", or "small" for CPUs, which no
        released weights fit.
      features: channels of the lifted features and of the map; the released weights fit 128 alone.
      widths: channels of the map's net at strides 2, 4 and 8.
      compress: a convolution makes a map of the volume's height; without, levels are added up and
        the network sees cameras alone.
      lidar: the map takes the LiDAR's occupancy, too.
      radar: and the radars': where there are returns ("occupancy"), or what they carry at every
        height ("meta").
      drop_connect: stochastic depth of an EfficientNet.
      weights: Simple-BEV's weights that a training starts from.
      backbone_weights: ImageNet's weights that the trunk starts from: torchvision's names for
        "res50" and "res101", efficientnet_pytorch's for "effb0" and "effb4".
      bfloat16: activations in bfloat16; the lift sums, and losses are, in float32.
    """

    backbone: Backbone = "res101"
    features: int = 128
    widths: tuple[int, int, int] = (64, 128, 256)
    compress: bool = True
    lidar: bool = False
    radar: Literal["none", "occupancy", "meta"] = "none"
    drop_connect: float = 0.2
    weights: str | None = None
    backbone_weights: str | None = None
    bfloat16: bool = False

    def check(self) -> None:
        """Raise ConfigError for settings out of range, or that do not fit one another."""
        at = "system.model"
        check_range(f"{at}.features", self.features, 1)
        check_range(f"{at}.drop_connect", self.drop_connect, 0, 1)
        for width in self.widths:
            check_range(f"{at}.widths", width, 1)
        if not self.compress and (self.lidar or self.radar != "none"):
            name = "lidar" if self.lidar else "radar"
            raise ConfigError(f"{at}.{name}: needs --{at}.compress, which is where it joins")
        if self.weights and self.backbone_weights:
            raise ConfigError(
                f"{at}.weights and {at}.backbone_weights: give one of them; the weights hold a "
                "trunk of their own"
            )
        if self.backbone == "small" and (self.weights or self.backbone_weights):
            name = "weights" if self.weights else "backbone_weights"
            raise ConfigError(f"{at}.{name}: there are none for the backbone 'small'")
        if self.weights and (self.features, *self.widths) != (128, 64, 128, 256):
            raise ConfigError(f"{at}.weights: fit features 128 and widths (64, 128, 256) alone")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """The loss: each part times its factor and exp(-w), plus w / 2, with a learnt w.

    Attributes:
      pos_weight: cells of boxes count so many times in the cross-entropy.
      segmentation: factor of the cross-entropy.
      center: of the squared error of the centres' peaks.
      offset: of the absolute error of the offsets.
      center_valid: leave the peaks out where boxes are not visible; the original does not.
      sigma: of the peaks, in cells.
    """

    pos_weight: float = 2.13
    segmentation: float = 10.0
    center: float = 0.5
    offset: float = 0.5
    center_valid: bool = False
    sigma: float = 3.0

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        for name in ("segmentation", "center", "offset"):
            check_range(f"system.objective.{name}", getattr(self, name), 0)
        for name in ("pos_weight", "sigma"):
            check_range(f"system.objective.{name}", getattr(self, name), 0, above=True)
