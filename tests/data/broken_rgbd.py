"""Usual mistakes made on purpose, the name each must be found by, and whether points follow."""

from dataclasses import replace

import numpy as np

from posejax.data.rigid import se3_inverse


def _turned(pose: np.ndarray) -> np.ndarray:
    pose = pose.copy()
    pose[:3, :3] = pose[:3, :3].T
    return pose


def _k(frame, *factors):
    fx, fy, cx, cy = factors
    return replace(frame, intrinsics=frame.intrinsics * [[fx, 1, cx], [1, fy, cy], [1, 1, 1]])


def _moved(frame, x: float, y: float):
    return replace(frame, intrinsics=np.array([[1, 0, x], [0, 1, y], [0, 0, 1]]) @ frame.intrinsics)


def _exchanged(frame):
    k = frame.intrinsics.copy()
    k[0, 2], k[1, 2] = k[1, 2], k[0, 2]
    return replace(frame, intrinsics=k)


#: Between points that are right and what they are projected by.
IN_PROJECTION = {
    "inverted_pose": (
        "inverted_pose", lambda v: replace(v, camera_from_world=se3_inverse(v.camera_from_world))
    ),
    "transposed_rotation": (
        "transposed_rotation", lambda v: replace(v, camera_from_world=_turned(v.camera_from_world))
    ),
    "transposed_rotation_of_the_camera_pose": (
        "transposed_rotation",
        lambda v: replace(
            v, camera_from_world=se3_inverse(_turned(se3_inverse(v.camera_from_world)))
        ),
    ),
    "opengl_axes": (
        "opengl_axes",
        lambda v: replace(v, camera_from_world=np.diag([1.0, -1, -1, 1]) @ v.camera_from_world),
    ),
    "intrinsics_of_half_size": ("intrinsics_of_other_size", lambda v: _k(v, 0.5, 0.5, 0.5, 0.5)),
    "intrinsics_of_double_size": ("intrinsics_of_other_size", lambda v: _k(v, 2, 2, 2, 2)),
    "focal_length": ("focal_length", lambda v: _k(v, 0.5, 0.5, 1, 1)),
    "principal_point_of_other_size": ("principal_point", lambda v: _k(v, 1, 1, 0.5, 0.5)),
    "exchanged_principal_point": ("principal_point", _exchanged),
    "moved_principal_point": ("principal_point", lambda v: _moved(v, 23, -11)),
    "half_pixel": ("half_pixel", lambda v: _moved(v, -0.5, -0.5)),
    "one_based": ("one_based_pixels", lambda v: _moved(v, 1, 1)),
    "swapped_channels": ("swapped_channels", lambda v: replace(v, colors=v.colors[:, ::-1])),
    "zero_centred": (
        "zero_centred_points", lambda v: replace(v, points=v.points - v.points.mean(0))
    ),
    "zero_centred_without_depth": (
        "zero_centred_points",
        lambda v: replace(v, points=v.points - v.points.mean(0), depth=None),
    ),
    "points_in_millimetres": ("points_unit", lambda v: replace(v, points=1000 * v.points)),
}  # fmt: skip
#: In what is read; points are made from it.
IN_RECORDING = {
    "inverted_pose": (
        "inverted_pose",
        lambda f: replace(f, world_from_camera=se3_inverse(f.world_from_camera)),
    ),
    "transposed_rotation": (
        "transposed_rotation", lambda f: replace(f, world_from_camera=_turned(f.world_from_camera))
    ),
    "depth_in_millimetres": ("depth_unit", lambda f: replace(f, depth=1000 * f.depth)),
    "depth_in_kilometres": ("depth_unit", lambda f: replace(f, depth=f.depth / 1000)),
    "depth_of_another_scale": ("depth_unit", lambda f: replace(f, depth=5 * f.depth)),
    "pose_in_millimetres": (
        "pose_unit",
        lambda f: replace(
            f, world_from_camera=f.world_from_camera * np.array([[1, 1, 1, 1000.0]] * 3 + [[1] * 4])
        ),
    ),
    "intrinsics_of_half_size": ("intrinsics_of_other_size", lambda f: _k(f, 0.5, 0.5, 0.5, 0.5)),
    "intrinsics_of_double_size": ("intrinsics_of_other_size", lambda f: _k(f, 2, 2, 2, 2)),
    "focal_length": ("focal_length", lambda f: _k(f, 0.5, 0.5, 1, 1)),
    "principal_point_of_other_size": ("principal_point", lambda f: _k(f, 1, 1, 0.5, 0.5)),
    "exchanged_principal_point": ("principal_point", _exchanged),
}  # fmt: skip
