"""Right rigs, simulated and real, and the usual mistakes made on purpose.

Written without `posejax.bev.mistakes`: by what a person would have done wrong, not by its inverse.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from posejax.bev import RigReport, check_rig
from posejax.data.cameras import project
from posejax.data.conventions import axes_matrix
from posejax.data.rig_frame import RigFrame
from posejax.data.rigid import (
    matrix_to_quat_xyzw,
    quat_xyzw_to_matrix,
    se3_apply,
    se3_exp,
    se3_from_rotation_translation,
    se3_inverse,
)

UNIT = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2


@dataclass(frozen=True, eq=False)
class Scene:
    k: np.ndarray
    poses: np.ndarray
    size: np.ndarray
    boxes: np.ndarray
    motion: np.ndarray
    world: np.ndarray
    camera: np.ndarray
    box: np.ndarray
    corners: np.ndarray
    image: tuple[int, int]

    def check(self, reference: int | None = None) -> RigReport:
        return check_rig(
            self.k, self.poses, self.size, self.boxes, camera=self.camera, box=self.box,
            corners=self.corners, image_size=self.image, ego_motion=self.motion,
            world_from_ego=self.world, reference=reference,
        )  # fmt: skip


def simulated(seed: int, cameras: int = 6, spread: float = 1.0) -> Scene:
    """A rig with some pitch and roll, and what it would annotate, to a pixel's noise."""
    rng = np.random.default_rng(seed)
    height, width = 480, 720
    k = np.tile(np.eye(3), (cameras, 1, 1))
    k[:, 0, 0] = k[:, 1, 1] = rng.uniform(380, 520, cameras)
    k[:, 1, 1] *= 1.03
    k[:, :2, 2] = np.array([width, height]) / 2 + rng.uniform(-12, 12, (cameras, 2))
    yaw = np.linspace(0, 2 * np.pi, cameras, endpoint=False) + rng.uniform(-0.15, 0.15, cameras)
    poses = []
    for i in range(cameras):
        turn = rotation(yaw[i], *rng.uniform(-0.07, 0.12, 1), *rng.uniform(-0.03, 0.03, 1))
        t = [1.2 * np.cos(yaw[i]) + 0.4, 0.7 * np.sin(yaw[i]), rng.uniform(1.4, 2.2)]
        turn = turn @ axes_matrix("body", "camera")
        poses.append(se3_from_rotation_translation(turn, spread * np.array(t)))
    poses = np.stack(poses)
    count = 60
    around, away = rng.uniform(0, 2 * np.pi, count), rng.uniform(6, 35, count)
    size = np.stack([rng.uniform(3.5, 9, count), rng.uniform(1.6, 2.6, count),
                     rng.uniform(1.4, 3, count)], 1)  # fmt: skip
    t = np.stack([away * np.cos(around), away * np.sin(around), size[:, 2] / 2], 1)
    turns = np.stack([rotation(a, 0, 0) for a in rng.uniform(-np.pi, np.pi, count)])
    boxes = se3_from_rotation_translation(turns, t)
    rows = []
    for c in range(cameras):
        for b in range(count):
            corners = se3_apply(se3_inverse(poses[c]) @ boxes[b], UNIT * size[b])
            xy, valid = project(corners, k[c])
            if not valid.all():
                continue
            low, high = xy.min(0) + rng.normal(0, 0.7, 2), xy.max(0) + rng.normal(0, 0.7, 2)
            limit = (width, height)
            seen = np.r_[np.clip(low, 0, limit), np.clip(high, 0, limit)]
            whole = np.prod(high - low)
            if np.prod(seen[2:] - seen[:2]) > 0.4 * whole and whole > 100:
                rows.append((c, b, seen))
    motion = se3_exp(np.r_[rng.uniform(0.3, 0.8), 0, 0, 0, 0, 0.01] * np.ones((cameras, 1)))
    world = se3_exp(np.r_[400, -900, 2, 0.01, -0.02, 2.0])
    camera, box, corners = (np.array(v) for v in zip(*rows, strict=True))
    image = (height, width)
    return Scene(k, poses, size, boxes, motion, world, camera, box, corners, image)


def real(frame: RigFrame) -> Scene:
    names = list(frame.cameras)
    cameras = list(frame.cameras.values())
    poses = np.stack([c.ego_from_camera for c in cameras])
    seen = [frame.image_boxes[name] for name in names]
    return Scene(
        k=np.stack([c.camera.intrinsics for c in cameras]),
        poses=poses,
        size=frame.boxes.size,
        boxes=frame.boxes.ego_from_box,
        motion=poses @ se3_inverse(np.stack(list(frame.mounted.values()))),
        world=frame.world_from_ego,
        camera=np.repeat(np.arange(len(names)), [len(s.box) for s in seen]),
        box=np.concatenate([s.box for s in seen]),
        corners=np.concatenate([s.corners for s in seen]),
        image=cameras[0].camera.size,
    )


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Turned by the three angles one after the other about fixed x, y, z."""
    turns = [se3_exp(np.r_[0, 0, 0, axis])[:3, :3] for axis in np.diag([roll, pitch, yaw])]
    return turns[2] @ turns[1] @ turns[0]


def angles(matrix: np.ndarray) -> np.ndarray:
    """Inverse of `rotation`."""
    yaw = np.arctan2(matrix[1, 0], matrix[0, 0])
    return np.array([yaw, np.arcsin(-matrix[2, 0]), np.arctan2(matrix[2, 1], matrix[2, 2])])


def _rotations(change: Callable[[np.ndarray], np.ndarray]):
    def make(scene: Scene) -> Scene:
        poses = scene.poses.copy()
        poses[:, :3, :3] = [change(r) for r in poses[:, :3, :3]]
        return replace(scene, poses=poses)

    return make


def _angles(unit: float):
    """A mount given by its angles in body axes, in another unit than was thought."""

    def change(r: np.ndarray) -> np.ndarray:
        mount = r @ axes_matrix("camera", "body")
        return rotation(*(unit * angles(mount))) @ axes_matrix("body", "camera")

    return _rotations(change)


def _quaternions(order: list[int]):
    return _rotations(lambda r: quat_xyzw_to_matrix(matrix_to_quat_xyzw(r)[order]))


def _scaled(scale: float):
    def make(scene: Scene) -> Scene:
        poses = scene.poses.copy()
        poses[:, :3, 3] *= scale
        return replace(scene, poses=poses)

    return make


def _axes(source: str):
    turn = np.eye(4)
    turn[:3, :3] = axes_matrix("camera", source)
    return lambda s: replace(s, poses=s.poses @ turn)


def _k(change: Callable[[np.ndarray], np.ndarray]):
    return lambda s: replace(s, k=change(s.k))


def _shifted(pixels: float):
    shift = pixels * np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]])
    return _k(lambda k: k + shift)


def _unreal(scene: Scene) -> Scene:
    """Both frames with CARLA's axes: what get_transform() gives relative to the vehicle."""
    left, right = np.eye(4), np.eye(4)
    left[:3, :3], right[:3, :3] = axes_matrix("unreal", "body"), axes_matrix("camera", "unreal")
    return replace(scene, poses=left @ scene.poses @ right)


def _sunk(scene: Scene) -> Scene:
    boxes = scene.boxes.copy()
    for box, size in zip(boxes, scene.size, strict=True):
        box[:3, 3] = se3_apply(box, [0, 0, -size[2] / 2])
    return replace(scene, boxes=boxes)


def _yaw_negated(scene: Scene) -> Scene:
    boxes = scene.boxes.copy()
    boxes[:, :3, :3] = [rotation(*(angles(r) * (-1, 1, -1))) for r in boxes[:, :3, :3]]
    return replace(scene, boxes=boxes)


def _mirrored_boxes(scene: Scene) -> Scene:
    out = _yaw_negated(scene)
    out.boxes[:, 1, 3] *= -1
    return out


def _exchanged(scene: Scene) -> Scene:
    order = np.arange(len(scene.poses))
    order[[1, 2]] = 2, 1
    return replace(scene, k=scene.k[order], poses=scene.poses[order])


FLIP = np.diag([1.0, -1, 1, 1])

# Name that is expected -> how the mistake is made.
MADE: dict[str, Callable[[Scene], Scene]] = {
    "inverse": lambda s: replace(s, poses=se3_inverse(s.poses)),
    "transposed_rotation": _rotations(np.transpose),
    "body_axes": _axes("body"),
    "opengl_axes": _axes("opengl"),
    "unreal_axes": _unreal,
    "left_handed_ego": lambda s: replace(s, poses=FLIP @ s.poses),
    "mirrored_camera": lambda s: replace(s, poses=s.poses @ np.diag([-1.0, 1, 1, 1])),
    "negated_translation": _scaled(-1),
    "translation_in_centimetres": _scaled(100),
    "translation_in_millimetres": _scaled(1000),
    "no_translation": _scaled(0),
    "degrees_as_radians": _angles(180 / np.pi),
    "radians_as_degrees": _angles(np.pi / 180),
    "quat_xyzw_as_wxyz": _quaternions([1, 2, 3, 0]),
    "quat_wxyz_as_xyzw": _quaternions([3, 0, 1, 2]),
    "camera_to_world": lambda s: replace(s, poses=s.world @ s.poses),
    "stale_ego_pose": lambda s: replace(s, poses=se3_inverse(s.motion) @ s.poses),
    "swapped_cameras": _exchanged,
    "transposed_intrinsics": _k(lambda k: np.swapaxes(k, 1, 2)),
    "swapped_intrinsics": _k(lambda k: k[:, [1, 0, 2]][:, :, [1, 0, 2]]),
    "intrinsics_of_half_size": _k(lambda k: k * [[0.5], [0.5], [1]]),
    "intrinsics_of_double_size": _k(lambda k: k * [[2], [2], [1]]),
    "half_extents": lambda s: replace(s, size=s.size / 2),
    "double_extents": lambda s: replace(s, size=s.size * 2),
    "width_before_length": lambda s: replace(s, size=s.size[:, [1, 0, 2]]),
    "bottom_origin": _sunk,
    "negated_yaw": _yaw_negated,
    "left_handed_boxes": _mirrored_boxes,
    "half_pixel": _shifted(-0.5),
    "one_based": _shifted(0.5),
}
