"""The usual mistakes of RGB-D data, each as the functions that undo it.

`check_rgbd` tries them all. Those of `PROJECTION` lie between a frame's points and its own image:
they show in one frame. Those of `RECORDING` are in what points are made from, so that a frame
agrees with itself whatever they are: they show between frames alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from posejax.data.rgbd_points import back_project
from posejax.data.rigid import nearest_rigid, se3_inverse


@dataclass(frozen=True, eq=False)
class RgbdView:
    """One frame as a system would use it.

    Attributes:
      points: [N, 3] metres, in the world.
      colors: [N, 3] 0..1, RGB.
      image: [H, W, 3] uint8 RGB.
      intrinsics: [3, 3] of that image, the first pixel's centre at (0.5, 0.5).
      camera_from_world: [4, 4].
      depth: [H, W] metres that the points were made from, 0 where unknown; None without.
      group: number of the recording; frames of two are never compared.
      mean: [3] of all points, where `points` are a choice of them; None: they are all.
    """

    points: np.ndarray
    colors: np.ndarray
    image: np.ndarray
    intrinsics: np.ndarray
    camera_from_world: np.ndarray
    depth: np.ndarray | None = None
    group: int = 0
    mean: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]


Mend = Callable[[RgbdView], RgbdView]


@dataclass(frozen=True)
class RgbdMistake:
    """Ways to undo a mistake, of which one is right, and what to tell who made it."""

    mends: tuple[Mend, ...]
    advice: str


#: Of image sizes that are in use together, and of depths' units.
_RATIOS = (2.0, 0.5, 1296 / 640, 640 / 1296, 4.0, 0.25, 1.5, 2 / 3, 3.0, 1 / 3)
_UNITS = (1e-3, 1e3, 0.1, 10.0, 0.01, 100.0, 0.2, 5.0)
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def shifted(xy: tuple[float, float]) -> Mend:
    """The principal point moved by (x, y) pixels."""
    move = np.array([[0, 0, xy[0]], [0, 0, xy[1]], [0, 0, 0]])
    return lambda view: replace(view, intrinsics=view.intrinsics + move)


def _pose(change: Callable[[np.ndarray], np.ndarray]) -> Mend:
    return lambda view: replace(view, camera_from_world=change(view.camera_from_world))


def _intrinsics(change: Callable[[RgbdView], np.ndarray]) -> Mend:
    return lambda view: replace(view, intrinsics=change(view))


def _transposed(pose: np.ndarray) -> np.ndarray:
    pose = pose.copy()
    pose[:3, :3] = pose[:3, :3].T
    return pose


def _principal(x: Callable[[RgbdView], float], y: Callable[[RgbdView], float]) -> Mend:
    def change(view: RgbdView) -> np.ndarray:
        k = view.intrinsics.copy()
        k[0, 2], k[1, 2] = x(view), y(view)
        return k

    return _intrinsics(change)


def _scaled(*rows_and_columns: float) -> Mend:
    """K times factors of (fx, fy, cx, cy)."""
    fx, fy, cx, cy = rows_and_columns
    factor = np.array([[fx, fx, cx], [1, fy, cy], [1, 1, 1]])
    return _intrinsics(lambda view: view.intrinsics * factor)


def _centred(view: RgbdView) -> np.ndarray:
    """How far points lie from where their depth map has them, [3]; 0 without one."""
    if view.depth is None or not (view.depth > 0).any():
        return np.zeros(3)
    pose = se3_inverse(nearest_rigid(view.camera_from_world))
    mean = view.points.mean(0) if view.mean is None else view.mean
    return back_project(view.depth, view.intrinsics, pose)[0].mean(0) - mean


def _depth(factor: float) -> Mend:
    def change(view: RgbdView) -> RgbdView:
        return view if view.depth is None else replace(view, depth=view.depth * factor)

    return change


def _translation(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(pose: np.ndarray) -> np.ndarray:
        pose = pose.copy()
        pose[:3, 3] *= factor
        return pose

    return change


_POSES = {
    "inverted_pose": RgbdMistake(
        (_pose(se3_inverse),),
        "the pose is the inverse of what is expected: files of poses hold world_from_camera, the "
        "projection needs camera_from_world",
    ),
    "transposed_rotation": RgbdMistake(
        (
            _pose(lambda p: se3_inverse(_transposed(se3_inverse(p)))),
            _pose(_transposed),
        ),
        "the rotation is transposed, the translation is not: invert the whole pose (se3_inverse), "
        "or none of it",
    ),
    "opengl_axes": RgbdMistake(
        (_pose(lambda p: _OPENGL @ p),),
        "the camera's axes are OpenGL's: negate y and z (change_axes)",
    ),
}
_CAMERAS = {
    "intrinsics_of_other_size": RgbdMistake(
        tuple(_scaled(s, s, s, s) for s in _RATIOS),
        "the intrinsics belong to images of another size: scale all of K with the image "
        "(resize_intrinsics)",
    ),
    "focal_length": RgbdMistake(
        tuple(_scaled(s, s, 1, 1) for s in _RATIOS),
        "the focal length belongs to images of another size, the principal point does not: scale "
        "all of K with the image (resize_intrinsics)",
    ),
    "principal_point": RgbdMistake(
        (
            _principal(lambda v: v.intrinsics[1, 2], lambda v: v.intrinsics[0, 2]),
            _principal(lambda v: v.size[1] / 2, lambda v: v.size[0] / 2),
            *(_scaled(1, 1, s, s) for s in _RATIOS),
        ),
        "the principal point is another image's, or cx and cy are exchanged: scale all of K with "
        "the image (resize_intrinsics)",
    ),
}
#: Between a frame's points and its own image.
PROJECTION: dict[str, RgbdMistake] = {
    "half_pixel": RgbdMistake(
        (shifted((0.5, 0.5)), shifted((-0.5, -0.5))),
        "K is off by half a pixel: here the first pixel's centre is (0.5, 0.5), OpenCV's is "
        "(0, 0), MATLAB's (1, 1) (convert_intrinsics)",
    ),
    "one_based_pixels": RgbdMistake(
        (shifted((-1.0, -1.0)), shifted((1.0, 1.0))),
        "K is off by one pixel: 1-based (MATLAB) and 0-based pixels are mixed (convert_intrinsics)",
    ),
    **_POSES,
    **_CAMERAS,
    "zero_centred_points": RgbdMistake(
        (lambda v: replace(v, points=v.points + _centred(v)),),
        "the points were moved (centred?) and the pose was not: move both, or move the points "
        "after they are projected",
    ),
    "points_unit": RgbdMistake(
        tuple(lambda v, s=s: replace(v, points=v.points * s) for s in _UNITS[:6]),
        "points and pose are in different units: both are metres",
    ),
    "swapped_channels": RgbdMistake(
        (lambda v: replace(v, colors=v.colors[:, ::-1]),),
        "points have BGR where the image has RGB, or the other way: swap the channels of one",
    ),
}
#: In what points are made from.
RECORDING: dict[str, RgbdMistake] = {
    **_POSES,
    "depth_unit": RgbdMistake(
        tuple(_depth(s) for s in _UNITS),
        "the depth is in another unit than the poses: files hold millimetres mostly (divide by "
        "1000), some 1/5000 m",
    ),
    **_CAMERAS,
    "pose_unit": RgbdMistake(
        tuple(_pose(_translation(s)) for s in _UNITS[:6]),
        "the poses' translations are in another unit than the depth: both are metres",
    ),
}
