"""The usual mistakes of a rig's calibration, each as the function that mends it.

A mistake made by hand in float64 NumPy is cheap to undo: `MISTAKES[name].mend(rig, evidence)` is
the rig as it would be, had that mistake been made. `check_rig` tries them all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import jax
import numpy as np

from posejax.geometry import matrix_to_quat_xyzw, quat_xyzw_to_matrix


@dataclass(frozen=True, eq=False)
class Rig:
    """A calibration and the boxes that it is judged by, as they were given.

    Attributes:
      intrinsics: [C, 3, 3] pixels.
      ego_from_camera: [C, 4, 4].
      size: [N, 3] length, width, height of boxes.
      ego_from_box: [N, 4, 4].
      ego_motion: [C, 4, 4], from the ego frame of each camera's time to that of the boxes; None
        if it is not known.
      world_from_ego: [4, 4], or None.
    """

    intrinsics: np.ndarray
    ego_from_camera: np.ndarray
    size: np.ndarray
    ego_from_box: np.ndarray
    ego_motion: np.ndarray | None = None
    world_from_ego: np.ndarray | None = None


class Evidence(Protocol):
    """What the mending of a mistake with many variants chooses by."""

    def by_camera(self, rig: Rig, poses: np.ndarray) -> np.ndarray:
        """Scores [n, C] of variants of the poses, [n, C, 4, 4]."""
        ...

    def exchanged(self, rig: Rig) -> np.ndarray:
        """Scores [C, C] of image i with the calibration of camera j."""
        ...


@dataclass(frozen=True)
class Mistake:
    """How a mistake is undone, and what to tell who made it."""

    mend: Callable[[Rig, Evidence], Rig]
    advice: str


def _axes(*rows: tuple[int, int, int]) -> np.ndarray:
    turn = np.eye(4)
    turn[:3, :3] = rows
    return turn


BODY_FROM_CAMERA = _axes((0, 0, 1), (-1, 0, 0), (0, -1, 0))
UNREAL_FROM_CAMERA = _axes((0, 0, 1), (1, 0, 0), (0, -1, 0))
FLIP_Y = np.diag([1.0, -1, 1, 1])
FLIP_YZ = np.diag([1.0, -1, -1, 1])


def _poses(change: Callable[[np.ndarray], np.ndarray], advice: str) -> Mistake:
    return Mistake(lambda rig, _: replace(rig, ego_from_camera=change(rig.ego_from_camera)), advice)


def _boxes(change: Callable[[np.ndarray], np.ndarray], advice: str) -> Mistake:
    return Mistake(lambda rig, _: replace(rig, ego_from_box=change(rig.ego_from_box)), advice)


def _sizes(change: Callable[[np.ndarray], np.ndarray], advice: str) -> Mistake:
    return Mistake(lambda rig, _: replace(rig, size=change(rig.size)), advice)


def _intrinsics(change: Callable[[np.ndarray], np.ndarray], advice: str) -> Mistake:
    return Mistake(lambda rig, _: replace(rig, intrinsics=change(rig.intrinsics)), advice)


def _with(rotation: np.ndarray, pose: np.ndarray) -> np.ndarray:
    out = pose.copy()
    out[..., :3, :3] = rotation
    return out


def _moved(scale: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(pose: np.ndarray) -> np.ndarray:
        out = pose.copy()
        out[..., :3, 3] *= scale
        return out

    return change


def _transposed(pose: np.ndarray) -> np.ndarray:
    return _with(np.swapaxes(pose[..., :3, :3], -1, -2), pose)


def _untransposed(k: np.ndarray) -> np.ndarray:
    out = np.swapaxes(k, -1, -2).copy()
    out[..., :2, 2] += k[..., :2, 2]  # what was added later, where cx and cy were thought to be
    out[..., 2, :2] = 0
    return out


def _reread_quaternion(order: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    """In single precision: a hundred-millionth of a turn, far below a pixel."""
    reread = jax.jit(lambda m: quat_xyzw_to_matrix(matrix_to_quat_xyzw(m)[..., np.array(order)]))
    return lambda pose: _with(np.asarray(reread(pose[..., :3, :3])), pose)


def euler_matrix(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rz(yaw) Ry(pitch) Rx(roll), [...] -> [..., 3, 3]."""
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def turn(angle, rows):
        c, s = np.cos(angle), np.sin(angle)
        named = {"c": c, "s": s, "-": -s, "0": zero, "1": one}
        return np.stack([named[r] for r in rows], -1).reshape(*yaw.shape, 3, 3)

    return turn(yaw, "c-0sc0001") @ turn(pitch, "c0s010-0c") @ turn(roll, "1000c-0sc")


def euler_angles(m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(yaw, pitch, roll) of `euler_matrix`, pitch within a quarter turn."""
    pitch = np.arctan2(-m[..., 2, 0], np.hypot(m[..., 0, 0], m[..., 1, 0]))
    return (
        np.arctan2(m[..., 1, 0], m[..., 0, 0]), pitch, np.arctan2(m[..., 2, 1], m[..., 2, 2])
    )  # fmt: skip


def _mount(pose: np.ndarray) -> np.ndarray:
    """The turn of a camera's mount: what its angles in body axes make, camera axes aside."""
    return pose[..., :3, :3] @ BODY_FROM_CAMERA[:3, :3].T


def _unmount(rotation: np.ndarray, pose: np.ndarray) -> np.ndarray:
    return _with(rotation @ BODY_FROM_CAMERA[:3, :3], pose)


def _from_degrees_read_as_radians(rig: Rig, evidence: Evidence) -> Rig:
    """An angle of a number of degrees, taken for radians, is known up to whole turns."""
    yaw, pitch, roll = euler_angles(_mount(rig.ego_from_camera))
    turns = 2 * np.pi * np.arange(-29, 30)
    nods = 2 * np.pi * np.arange(-5, 6)  # up to 30 degrees
    yaws, pitches = (v.reshape(-1) for v in np.meshgrid(turns, nods))
    variants = []
    # Beyond a quarter turn of pitch, the same matrix has other angles.
    for a, b, c in ((yaw, pitch, roll), (yaw + np.pi, np.pi - pitch, roll + np.pi)):
        a, b = a[None] + yaws[:, None], b[None] + pitches[:, None]
        c = np.broadcast_to((c + np.pi) % (2 * np.pi) - np.pi, a.shape)
        angles = [np.deg2rad(v) for v in (a, b, c)]
        variants.append(_unmount(euler_matrix(*angles), np.broadcast_to(
            rig.ego_from_camera, (*a.shape, 4, 4)
        )))  # fmt: skip
    poses = np.concatenate(variants)
    best = evidence.by_camera(rig, poses).argmax(0)
    return replace(rig, ego_from_camera=poses[best, np.arange(len(best))])


def _from_radians_read_as_degrees(pose: np.ndarray) -> np.ndarray:
    return _unmount(euler_matrix(*(np.rad2deg(v) for v in euler_angles(_mount(pose)))), pose)


def _stale(rig: Rig, _: Evidence) -> Rig:
    if rig.ego_motion is None:
        return rig
    return replace(rig, ego_from_camera=rig.ego_motion @ rig.ego_from_camera)


def _world(rig: Rig, _: Evidence) -> Rig:
    if rig.world_from_ego is None:
        return rig
    pose = np.linalg.inv(rig.world_from_ego) @ rig.ego_from_camera
    return replace(rig, ego_from_camera=pose)


def _swapped(rig: Rig, evidence: Evidence) -> Rig:
    """Cameras exchanged in pairs, greedily by what the exchange gains."""
    scores = evidence.exchanged(rig)
    order = np.arange(len(scores))
    own = np.diag(scores)
    gain = scores + scores.T - own[:, None] - own[None]
    for _ in range(len(order) // 2):
        i, j = np.unravel_index(gain.argmax(), gain.shape)
        if gain[i, j] <= 0:
            break
        order[[i, j]] = order[[j, i]]
        gain[[i, j]] = gain[:, [i, j]] = -1
    return replace(
        rig, intrinsics=rig.intrinsics[order], ego_from_camera=rig.ego_from_camera[order]
    )


def _raised(rig: Rig, _: Evidence) -> Rig:
    pose = rig.ego_from_box.copy()
    pose[:, :3, 3] += pose[:, :3, 2] * rig.size[:, 2:] / 2
    return replace(rig, ego_from_box=pose)


MISTAKES: dict[str, Mistake] = {
    "inverse": _poses(
        np.linalg.inv, "the poses are camera_from_ego; ego_from_camera is their inverse"
    ),
    "transposed_rotation": _poses(_transposed, "the rotations are transposed"),
    "body_axes": _poses(
        lambda p: p @ BODY_FROM_CAMERA,
        "the camera frames have x forward, y left, z up; change their axes to x right, y down, z "
        "forward (change_axes)",
    ),
    "opengl_axes": _poses(
        lambda p: p @ FLIP_YZ, "the camera frames are OpenGL's: negate their y and z axes"
    ),
    "unreal_axes": _poses(
        lambda p: FLIP_Y @ p @ UNREAL_FROM_CAMERA,
        "the poses are left-handed as CARLA's and Unreal's: convert both ends (pose_from_unreal)",
    ),
    "left_handed_ego": _poses(
        lambda p: FLIP_Y @ p, "the ego frame's y points right: negate it, at both ends of a pose"
    ),
    "mirrored_camera": _poses(
        lambda p: p @ np.diag([-1.0, 1, 1, 1]), "the cameras' x axis points left: negate it"
    ),
    "negated_translation": _poses(_moved(-1), "the translations have the wrong sign"),
    "translation_in_centimetres": _poses(_moved(0.01), "the translations are in centimetres"),
    "translation_in_millimetres": _poses(_moved(0.001), "the translations are in millimetres"),
    "degrees_as_radians": Mistake(
        _from_degrees_read_as_radians, "angles in degrees were used as radians (np.deg2rad)"
    ),
    "radians_as_degrees": _poses(
        _from_radians_read_as_degrees, "angles in radians were converted as if from degrees"
    ),
    "quat_xyzw_as_wxyz": _poses(
        _reread_quaternion([3, 0, 1, 2]), "the quaternions are xyzw and were read as wxyz"
    ),
    "quat_wxyz_as_xyzw": _poses(
        _reread_quaternion([1, 2, 3, 0]), "the quaternions are wxyz and were read as xyzw"
    ),
    "camera_to_world": Mistake(
        _world, "the poses lead to the world, not to the vehicle: multiply by ego_from_world"
    ),
    "stale_ego_pose": Mistake(
        _stale,
        "the vehicle moved between the stamps of cameras and boxes: compose with the ego motion",
    ),
    "swapped_cameras": Mistake(_swapped, "calibrations belong to other cameras' images"),
    "transposed_intrinsics": _intrinsics(
        _untransposed, "the intrinsics are transposed (MATLAB's IntrinsicMatrix)"
    ),
    "swapped_intrinsics": _intrinsics(
        lambda k: k[:, [1, 0, 2]][:, :, [1, 0, 2]], "fx and cx are exchanged with fy and cy"
    ),
    "intrinsics_of_half_size": _intrinsics(
        lambda k: k * [[2.0], [2.0], [1.0]], "the intrinsics are those of images half as large"
    ),
    "intrinsics_of_double_size": _intrinsics(
        lambda k: k * [[0.5], [0.5], [1.0]], "the intrinsics are those of images twice as large"
    ),
    "half_extents": _sizes(lambda s: 2 * s, "the boxes have half extents: double them"),
    "double_extents": _sizes(lambda s: s / 2, "the boxes are twice too large"),
    "width_before_length": _sizes(
        lambda s: s[:, [1, 0, 2]],
        "length and width are exchanged (nuScenes has width first), or the yaw of boxes counts "
        "from their side",
    ),
    "bottom_origin": Mistake(
        _raised, "the boxes' origin is at their bottom: raise it by half their height"
    ),
    "negated_yaw": _boxes(
        lambda b: _with(FLIP_Y[:3, :3] @ b[:, :3, :3] @ FLIP_Y[:3, :3], b),
        "the boxes' yaw turns the other way",
    ),
    "left_handed_boxes": _boxes(
        lambda b: FLIP_Y @ b @ FLIP_Y, "the boxes are in a left-handed frame: negate y and yaw"
    ),
}
