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
      visibility: [N] int64, 1 to 4 (nuScenes): how much of it the cameras see, up to 40, 60, 80
        and 100 %. Left out: 4 for all, where a data set does not tell.
      instance: [N] str, the thing, the same in all frames of a scene. Left out: "" for all.
    """

    size: np.ndarray
    ego_from_box: np.ndarray
    label: np.ndarray
    points: np.ndarray
    visibility: np.ndarray = None  # pyright: ignore[reportAssignmentType] - as many as boxes
    instance: np.ndarray = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        if self.visibility is None:
            object.__setattr__(self, "visibility", np.full(len(self.size), 4, np.int64))
        if self.instance is None:
            object.__setattr__(self, "instance", np.full(len(self.size), "", np.str_))

    def __len__(self) -> int:
        return len(self.size)


@dataclass(frozen=True, eq=False)
class ImageBoxes:
    """Boxes annotated in an image: corners [M, 4] pixels (left, top, right, bottom), first pixel's
    centre at (0.5, 0.5), and box [M] int64, the row of the same thing in `Boxes`, or -1."""

    corners: np.ndarray
    box: np.ndarray


@dataclass(frozen=True, eq=False)
class RadarSweep:
    """One radar's returns near the instant of a frame.

    Attributes:
      file: of its returns.
      ego_from_radar: [4, 4] to the ego frame of the frame's time, the vehicle's motion between the
        two times included.
      time: seconds, the radar's own.
    """

    file: Path
    ego_from_radar: np.ndarray
    time: float


@dataclass(frozen=True, eq=False)
class LidarSweep:
    """A past sweep of the LiDAR; attributes as `RadarSweep`'s."""

    file: Path
    ego_from_lidar: np.ndarray
    time: float


@dataclass(frozen=True, eq=False)
class RigFrame:
    """Cameras, LiDAR and boxes around one instant, that of the LiDAR where there is one.

    Attributes:
      time: seconds.
      cameras: by name. Their `ego_from_camera` leads to the ego frame of `time`, the vehicle's
        motion until the camera's own time included.
      mounted: by name, ego_from_camera [4, 4] as the sensor is mounted: to the ego frame of the
        camera's own time.
      times: by name, seconds.
      images: by name, the file.
      lidar: the file of the sweep, None without a LiDAR.
      ego_from_lidar: [4, 4], the identity without one.
      world_from_ego: [4, 4] at `time`.
      boxes: what is annotated around the vehicle.
      image_boxes: by name, what is annotated in the images.
      radar: by name, the sweep nearest to `time`.
      sweeps: of the LiDAR before `time`, the latest first.
    """

    time: float
    cameras: dict[str, RigCamera]
    mounted: dict[str, np.ndarray]
    times: dict[str, float]
    images: dict[str, Path]
    lidar: Path | None
    ego_from_lidar: np.ndarray
    world_from_ego: np.ndarray
    boxes: Boxes
    image_boxes: dict[str, ImageBoxes] = field(default_factory=dict)
    radar: dict[str, RadarSweep] = field(default_factory=dict)
    sweeps: tuple[LidarSweep, ...] = ()

    @property
    def file(self) -> Path:
        """What stands for the frame in messages: its sweep, or else its first image."""
        return self.lidar or next(iter(self.images.values()), Path())
