"""One instant of a vehicle's sensors: what the readers of driving data sets hand on."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posejax.data.av2_cameras import RigCamera


@dataclass(frozen=True, eq=False)
class Boxes:
    """Annotated boxes of one instant.

    Attributes:
      size: [N, 3] float64 m: length, width, height (along x, y, z of the box).
      ego_from_box: [N, 4, 4] float64, to the centre, in the ego frame of the instant.
      label: [N] str, the category.
      points: [N] int64, LiDAR returns inside.
    """

    size: np.ndarray
    ego_from_box: np.ndarray
    label: np.ndarray
    points: np.ndarray

    def __len__(self) -> int:
        return len(self.size)


@dataclass(frozen=True, eq=False)
class ImageBoxes:
    """Boxes annotated in an image: corners [M, 4] pixels (left, top, right, bottom), first pixel's
    centre at (0.5, 0.5), and box [M] int64, the row of the same thing in `Boxes`, or -1."""

    corners: np.ndarray
    box: np.ndarray


@dataclass(frozen=True, eq=False)
class RigFrame:
    """Cameras, LiDAR and boxes around one instant, that of the LiDAR.

    Attributes:
      time: seconds.
      cameras: by name. Their `ego_from_camera` leads to the ego frame of `time`, the vehicle's
        motion until the camera's own time included.
      mounted: by name, ego_from_camera [4, 4] as the sensor is mounted: to the ego frame of the
        camera's own time.
      times: by name, seconds.
      images: by name, the file.
      lidar: the file of the sweep.
      ego_from_lidar: [4, 4].
      world_from_ego: [4, 4] at `time`.
      boxes: what is annotated around the vehicle.
      image_boxes: by name, what is annotated in the images.
    """

    time: float
    cameras: dict[str, RigCamera]
    mounted: dict[str, np.ndarray]
    times: dict[str, float]
    images: dict[str, Path]
    lidar: Path
    ego_from_lidar: np.ndarray
    world_from_ego: np.ndarray
    boxes: Boxes
    image_boxes: dict[str, ImageBoxes] = field(default_factory=dict)
