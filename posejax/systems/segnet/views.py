"""What the cameras of a frame show, resized and cropped, and the frame that the volume lies in."""

from typing import Literal, NamedTuple

import numpy as np

from posejax.data.cameras import Camera
from posejax.data.images import crop_view, resize_view
from posejax.data.rigid import se3_from_rotation_translation
from posejax.systems.segnet.config import Augment


class View(NamedTuple):
    """An image [H, W, 3] uint8 and its camera."""

    image: np.ndarray
    camera: Camera


def grid_frame(
    ego_from_camera: np.ndarray, frame: Literal["level", "ground", "camera"]
) -> np.ndarray:
    """ego_from_grid [4, 4] of the reference camera's pose: its own frame, or a level one.

    "level" is the worker-side twin of `posejax.bev.level_frame`; "ground" has its origin below the
    camera, at the vehicle's z = 0.
    """
    pose = np.asarray(ego_from_camera, np.float64)
    if frame == "camera":
        return pose
    down, forward = np.array([0.0, 0.0, -1.0]), pose[:3, 2] * [1.0, 1.0, 0.0]
    length = np.linalg.norm(forward)
    forward = forward / length if length > 1e-6 else np.array([1.0, 0.0, 0.0])
    rotation = np.stack([np.cross(down, forward), down, forward], axis=-1)
    origin = pose[:3, 3] * ([1.0, 1.0, 0.0] if frame == "ground" else 1.0)
    return se3_from_rotation_translation(rotation, origin)


def plain_view(image: np.ndarray, camera: Camera, size: tuple[int, int]) -> View:
    """At (height, width), the sides by their own factors."""
    return View(*resize_view(image, camera, size))


def augmented_view(
    image: np.ndarray,
    camera: Camera,
    size: tuple[int, int],
    rng: np.random.Generator,
    augment: Augment,
) -> View:
    """At a random size around `size`, cut out around its centre, black beyond its border."""
    factor = rng.uniform(*augment.resize)
    shift = rng.uniform(-1, 1, 2) * int(augment.crop * size[0])
    resized = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    image, camera = resize_view(image, camera, resized)
    middle = (resized[1] - size[1]) / 2, (resized[0] - size[0]) / 2
    corner = tuple(int(np.floor(m + s)) for m, s in zip(middle, shift, strict=True))
    return View(*crop_view(image, camera, (corner[0], corner[1]), size))
