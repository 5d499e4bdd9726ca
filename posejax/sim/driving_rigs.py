"""Two vehicles full of sensors: where each sits, where it looks, when it records.

Ego frame: x forward, y left, z up, origin on the ground below the rear axle.
"""

from dataclasses import dataclass

import numpy as np

from posejax.sim.cameras import Camera


@dataclass(frozen=True)
class Mount:
    """A camera or a radar.

    Attributes:
      name: the channel.
      position: metres, ego frame.
      yaw_deg: to the left.
      lag_s: its time less that of the LiDAR.
      pitch_deg: downwards.
      focal: of a camera, in widths of its image.
    """

    name: str
    position: tuple[float, float, float]
    yaw_deg: float
    lag_s: float
    pitch_deg: float = 0.0
    focal: float = 0.79

    @property
    def ego_from_body(self) -> np.ndarray:
        """[4, 4] with x where it looks, z up: the frame of a radar."""
        yaw, pitch = np.deg2rad([self.yaw_deg, self.pitch_deg])
        cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
        pose = np.eye(4)
        pose[:3, :3] = [[cy * cp, -sy, cy * sp], [sy * cp, cy, sy * sp], [-sp, 0, cp]]
        pose[:3, 3] = self.position
        return pose

    @property
    def ego_from_camera(self) -> np.ndarray:
        """[4, 4] with x to the right, y down, z where it looks."""
        pose = self.ego_from_body
        forward, left, up = pose[:3, :3].T
        pose[:3, :3] = np.stack([-left, -up, forward], axis=1)
        return pose

    def camera(self, size: tuple[int, int]) -> Camera:
        """Of images (height, width); like a real one's, its axis lies a little below the middle."""
        height, width = size
        focal = self.focal * width
        center = 0.51 * width, 0.546 * height
        k = np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])
        return Camera(k, size, exposure=0.9)


@dataclass(frozen=True)
class DrivingRig:
    """All sensors of a vehicle; the LiDAR's axes are x right, y forward, z up, as in nuScenes."""

    cameras: tuple[Mount, ...]
    radars: tuple[Mount, ...]
    lidar_position: tuple[float, float, float]

    @property
    def ego_from_lidar(self) -> np.ndarray:
        """[4, 4]."""
        pose = np.eye(4)
        pose[:3, :3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
        pose[:3, 3] = self.lidar_position
        return pose


_RADARS = (
    Mount("RADAR_FRONT", (3.41, 0.0, 0.5), 0.0, 0.012),
    Mount("RADAR_FRONT_LEFT", (2.42, 0.8, 0.78), 90.0, -0.021),
    Mount("RADAR_FRONT_RIGHT", (2.42, -0.8, 0.77), -90.0, 0.027),
    Mount("RADAR_BACK_LEFT", (-0.56, 0.62, 0.53), 175.0, -0.008),
    Mount("RADAR_BACK_RIGHT", (-0.56, -0.62, 0.53), -175.0, 0.033),
)
RIGS: dict[str, DrivingRig] = {
    # Places, directions and focal lengths of nuScenes' vehicles; lags of its published key frame.
    "nuscenes": DrivingRig(
        (
            Mount("CAM_FRONT_LEFT", (1.52, 0.49, 1.51), 55.0, -0.043),
            Mount("CAM_FRONT", (1.70, 0.02, 1.51), 0.0, -0.035),
            Mount("CAM_FRONT_RIGHT", (1.55, -0.49, 1.50), -55.0, -0.027),
            Mount("CAM_BACK_LEFT", (1.04, 0.48, 1.59), 110.0, 0.001),
            Mount("CAM_BACK", (0.03, 0.0, 1.58), 180.0, -0.010, focal=0.51),
            Mount("CAM_BACK_RIGHT", (1.01, -0.48, 1.56), -110.0, -0.020),
        ),
        _RADARS,
        (0.94, 0.0, 1.84),
    ),
    # Higher, with other lenses, other directions, and looking down a little.
    "van": DrivingRig(
        (
            Mount("CAM_FRONT_LEFT", (1.9, 0.85, 2.05), 62.0, -0.030, 4.0, 0.62),
            Mount("CAM_FRONT", (2.2, 0.1, 2.20), 2.0, -0.018, 3.0, 0.66),
            Mount("CAM_FRONT_RIGHT", (1.9, -0.85, 2.05), -60.0, -0.006, 4.0, 0.62),
            Mount("CAM_BACK_LEFT", (-1.0, 0.8, 2.30), 134.0, 0.010, 6.0, 0.48),
            Mount("CAM_BACK_RIGHT", (-1.0, -0.8, 2.30), -136.0, 0.022, 6.0, 0.48),
        ),
        _RADARS,
        (0.6, 0.0, 2.45),
    ),
}
