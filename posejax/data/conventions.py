"""Frames, poses, boxes and cameras as other programs write them, and as this library does.

A frame is told by its axes: `AXES["unreal"]` is (forward, right, up), which is left-handed. From
those words follow the matrices; what is left are each program's own habits of angles, sizes and
pixels. All in NumPy, float64, metres and radians; every pose that comes out is a rotation and a
translation, det +1, or an error.

Boxes come out as size = (length, width, height) in full and `frame_from_box` to their centre, the
box's x along its length, z up.
"""

import numpy as np
from numpy.typing import ArrayLike

from posejax.data.cameras import convert_intrinsics
from posejax.data.rigid import is_rotation, quat_xyzw_to_matrix, se3_from_rotation_translation

# Directions as (forward, left, up).
_WORDS = {
    "forward": (1, 0, 0), "back": (-1, 0, 0), "left": (0, 1, 0),
    "right": (0, -1, 0), "up": (0, 0, 1), "down": (0, 0, -1),
}  # fmt: skip
# What x, y and z of a frame point to, seen from the thing that carries it.
AXES: dict[str, tuple[str, str, str]] = {
    "body": ("forward", "left", "up"),  # also ROS base_link (REP 103), KITTI's Velodyne and IMU
    "camera": ("right", "down", "forward"),  # also OpenCV, ROS optical, KITTI, nuScenes, MATLAB
    "opengl": ("right", "up", "back"),  # also Blender, NeRF
    "nuscenes_lidar": ("right", "forward", "up"),
    "unreal": ("forward", "right", "up"),  # also CARLA; left-handed
}


def axes_matrix(target: str, source: str) -> np.ndarray:
    """[3, 3] that takes coordinates along `source`'s axes to those along `target`'s.

    Its determinant is -1 where one of the two is left-handed: apply it to both ends of a pose.

    Raises:
      ValueError: a name that is not in `AXES`.
    """
    for name in (target, source):
        if name not in AXES:
            raise ValueError(f"no axes {name!r}; there are {', '.join(AXES)}")
    rows, columns = ([_WORDS[word] for word in AXES[name]] for name in (target, source))
    return np.array(rows, np.float64) @ np.array(columns, np.float64).T


def change_axes(
    a_from_b: ArrayLike, *, a: tuple[str, str] | None = None, b: tuple[str, str] | None = None
) -> np.ndarray:
    """A pose after its frames got other axes: `a=("unreal", "body")` is from, to; [..., 4, 4].

    A left-handed world with a left-handed sensor becomes right-handed if both ends change:
    `change_axes(world_from_sensor, a=("unreal", "body"), b=("unreal", "camera"))`.

    Raises:
      ValueError: what comes out is not a rotation (one end of a left-handed pose was left out), or
        axes without a name.
    """
    pose = np.asarray(a_from_b, np.float64)
    for pair, left in ((a, True), (b, False)):
        if pair is not None:
            turn = np.eye(4)
            # At the left end, new_a_from_a; at the right one its inverse, b_from_new_b.
            turn[:3, :3] = axes_matrix(pair[1], pair[0]) if left else axes_matrix(*pair)
            pose = turn @ pose if left else pose @ turn
    if not np.all(is_rotation(pose[..., :3, :3])):
        raise ValueError(
            "the axes that come out are no rotation: change both ends of a left-handed pose, and "
            "give it as coordinates of b -> coordinates of a"
        )
    return pose


def unreal_rotation(pitch: ArrayLike, yaw: ArrayLike, roll: ArrayLike) -> np.ndarray:
    """Left-handed [..., 3, 3] of CARLA's and Unreal's angles in degrees: nose up, right, lean."""
    angles = (np.deg2rad(np.asarray(v, np.float64)) for v in (pitch, yaw, roll))
    (cp, sp), (cy, sy), (cr, sr) = ((np.cos(v), np.sin(v)) for v in angles)
    rows = [
        cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr,
        cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr,
        sp, -cp * sr, cp * cr,
    ]  # fmt: skip
    matrix = np.stack(np.broadcast_arrays(*rows), axis=-1)
    return matrix.reshape(*matrix.shape[:-1], 3, 3)


def unreal_angles(rotation: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pitch, yaw, roll) degrees of a left-handed [..., 3, 3]; the inverse, roll 0 straight up."""
    m = np.asarray(rotation, np.float64)
    level = np.hypot(m[..., 0, 0], m[..., 1, 0])
    pitch = np.arctan2(m[..., 2, 0], level)
    steep = level < 1e-9
    yaw = np.where(
        steep, np.arctan2(-m[..., 0, 1], m[..., 1, 1]), np.arctan2(m[..., 1, 0], m[..., 0, 0])
    )
    roll = np.where(steep, 0, np.arctan2(-m[..., 2, 1], m[..., 2, 2]))
    return np.rad2deg(pitch), np.rad2deg(yaw), np.rad2deg(roll)


def pose_from_unreal(
    location: ArrayLike, pitch: ArrayLike, yaw: ArrayLike, roll: ArrayLike, *, axes: str = "body"
) -> np.ndarray:
    """world_from_x [..., 4, 4], right-handed, of an actor or a sensor of CARLA's.

    Args:
      location: [..., 3] metres in the left-handed world (Unreal itself counts centimetres).
      pitch, yaw, roll: [...] degrees.
      axes: "body" for vehicles and LiDARs, "camera" for cameras.

    Returns:
      To the world with y to the left (CARLA's y negated). A sensor's `get_transform()` leads to
      the world, not to the vehicle: `se3_inverse(world_from_vehicle) @ world_from_camera`.
    """
    pose = se3_from_rotation_translation(unreal_rotation(pitch, yaw, roll), location)
    return change_axes(pose, a=("unreal", "body"), b=("unreal", axes))


def unreal_from_pose(
    world_from_x: ArrayLike, *, axes: str = "body"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inverse of `pose_from_unreal`: location [..., 3], and pitch, yaw, roll in degrees."""
    turn_a, turn_b = axes_matrix("unreal", "body"), axes_matrix(axes, "unreal")
    pose = np.asarray(world_from_x, np.float64)
    return (pose[..., :3, 3] @ turn_a.T, *unreal_angles(turn_a @ pose[..., :3, :3] @ turn_b))


def box_from_unreal(
    extent: ArrayLike, location: ArrayLike, pitch: ArrayLike, yaw: ArrayLike, roll: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Size [..., 3] and actor_from_box (or world_from_box) of a CARLA bounding box.

    `extent` is half the size; a box has its own transform within its actor.
    """
    return 2 * np.asarray(extent, np.float64), pose_from_unreal(location, pitch, yaw, roll)


def intrinsics_from_fov(fov_degrees: float, size: tuple[int, int]) -> np.ndarray:
    """K [3, 3] of CARLA's cameras: horizontal field of view, square pixels, (height, width)."""
    height, width = size
    focal = width / (2 * np.tan(np.deg2rad(fov_degrees) / 2))
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float64)


def pose_from_wxyz(quat_wxyz: ArrayLike, translation: ArrayLike) -> np.ndarray:
    """a_from_b [..., 4, 4] of nuScenes' and Argoverse's tables: quaternions with w first."""
    quat = np.asarray(quat_wxyz, np.float64)[..., [1, 2, 3, 0]]
    return se3_from_rotation_translation(quat_xyzw_to_matrix(quat), translation)


def box_from_nuscenes(
    size_wlh: ArrayLike, translation: ArrayLike, quat_wxyz: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Size (l, w, h) and world_from_box of a nuScenes annotation: width, length, height; centre."""
    return np.asarray(size_wlh, np.float64)[..., [1, 0, 2]], pose_from_wxyz(quat_wxyz, translation)


def box_from_kitti(
    size_hwl: ArrayLike, location: ArrayLike, rotation_y: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Size (l, w, h) and camera_from_box of a KITTI label.

    Args:
      size_hwl: [..., 3] height, width, length.
      location: [..., 3] in the camera frame, of the middle of the box's *bottom*.
      rotation_y: [...] radians about the camera's y (down); 0 heads to the right.
    """
    size = np.asarray(size_hwl, np.float64)[..., [2, 1, 0]]
    angle = np.asarray(rotation_y, np.float64)
    c, s, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    # Columns: the box's front, left and up, turned about y.
    rows = [c, s, zero, zero, zero, zero - 1, -s, c, zero]
    rotation = np.stack(rows, axis=-1).reshape(*angle.shape, 3, 3)
    middle = np.asarray(location, np.float64) - size[..., 2:] / 2 * [0.0, 1.0, 0.0]
    return size, se3_from_rotation_translation(rotation, middle)


def camera_from_projection(projection: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """K [3, 3] and camera_from_rectified [4, 4] of a KITTI matrix P [3, 4] = K [I | t]."""
    p = np.asarray(projection, np.float64)
    pose = se3_from_rotation_translation(np.eye(3), np.linalg.solve(p[:, :3], p[:, 3]))
    return convert_intrinsics(p[:, :3] / p[2, 2], source="opencv", target="posejax"), pose


def intrinsics_from_matlab(matrix: ArrayLike, *, transposed: bool = False) -> np.ndarray:
    """K of MATLAB's, whose first pixel has its centre at (1, 1).

    `transposed` for `IntrinsicMatrix`, which acts on row vectors; `K` does not.
    """
    k = np.asarray(matrix, np.float64)
    k = np.swapaxes(k, -1, -2) if transposed else k
    return convert_intrinsics(k, source="matlab", target="posejax")


def intrinsics_from_opengl(projection: ArrayLike, size: tuple[int, int]) -> np.ndarray:
    """K [3, 3] of an OpenGL projection [4, 4], for images (height, width) whose row 0 is on top.

    Poses of the camera: `change_axes(world_from_camera, b=("opengl", "camera"))`.
    """
    p, (height, width) = np.asarray(projection, np.float64), size
    fx, fy = p[0, 0] * width / 2, p[1, 1] * height / 2
    cx, cy = (1 - p[0, 2]) * width / 2, (1 + p[1, 2]) * height / 2
    return np.array([[fx, -p[0, 1] * width / 2, cx], [0, fy, cy], [0, 0, 1]], np.float64)
