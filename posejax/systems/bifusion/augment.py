"""Random changes of an RGB-D frame that leave every point on its pixel.

The world is turned about gravity, mirrored and scaled together with the camera; colours of points
and image change by one function; a point's depth errs along its own ray.
"""

from dataclasses import dataclass, replace

import numpy as np

from posejax.config import check_range
from posejax.data.rigid import se3_apply, se3_inverse, so3_exp


@dataclass(frozen=True)
class Augment:
    """Training-time augmentation; 0 turns each off.

    Attributes:
      turn_deg: most that the world is turned about gravity, either way.
      flip: probability that world and image are mirrored.
      scale: the world is scaled by up to exp(+-scale).
      shift: metres by which it is moved along each axis, so that voxels fall differently.
      gain: brightness is multiplied by up to exp(+-gain), each colour by another exp(+-gain / 4).
      contrast: contrast is multiplied by up to exp(+-contrast).
      gamma: values are raised to up to exp(+-gamma).
      drop: most points, as a share, that a frame loses.
      depth_noise: standard deviation of a depth of 1 m, metres; grows with the square.
    """

    turn_deg: float = 180.0
    flip: float = 0.5
    scale: float = 0.05
    shift: float = 0.1
    gain: float = 0.3
    contrast: float = 0.2
    gamma: float = 0.2
    drop: float = 0.2
    depth_noise: float = 0.002

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        at = "system.data.augment"
        check_range(f"{at}.turn_deg", self.turn_deg, 0, 180)
        check_range(f"{at}.flip", self.flip, 0, 1)
        check_range(f"{at}.drop", self.drop, 0, 0.99)
        for name in ("scale", "shift", "gain", "contrast", "gamma", "depth_noise"):
            check_range(f"{at}.{name}", getattr(self, name), 0)


@dataclass(frozen=True, eq=False)
class View:
    """Points of a frame and the image that shows them.

    Attributes:
      points: [N, 3] float64 metres in the world.
      colors: [N, 3] in 0..1.
      image: [H, W, 3] uint8.
      intrinsics: [3, 3] of that image.
      camera_from_world: [4, 4].
    """

    points: np.ndarray
    colors: np.ndarray
    image: np.ndarray
    intrinsics: np.ndarray
    camera_from_world: np.ndarray

    def moved(self, new_from_old: np.ndarray) -> "View":
        """In another world frame [4, 4]: a rigid motion."""
        points = se3_apply(new_from_old, self.points)
        return replace(
            self,
            points=points,
            camera_from_world=self.camera_from_world @ se3_inverse(new_from_old),
        )

    def scaled(self, factor: float) -> "View":
        """In a world of another size."""
        pose = self.camera_from_world.copy()
        pose[:3, 3] *= factor
        return replace(self, points=self.points * factor, camera_from_world=pose)

    def mirrored(self, normal: np.ndarray) -> "View":
        """In a world mirrored by the plane through the origin with a unit normal [3].

        The camera sees that mirrored too: its x axis turns around, so that it stays right-handed.
        """
        mirror, aside = np.eye(4), np.diag([-1.0, 1.0, 1.0, 1.0])
        mirror[:3, :3] -= 2 * np.outer(normal, normal)
        turn = np.array([[-1.0, 0, self.image.shape[1]], [0, 1, 0], [0, 0, 1]])
        return replace(
            self,
            points=self.points @ mirror[:3, :3],
            image=self.image[:, ::-1],
            intrinsics=turn @ self.intrinsics @ aside[:3, :3],
            camera_from_world=aside @ self.camera_from_world @ mirror,
        )

    def deepened(self, errors: np.ndarray) -> "View":
        """With errors [N] (m) of the points' depths, along their rays."""
        world_from_camera = se3_inverse(self.camera_from_world)
        local = se3_apply(self.camera_from_world, self.points)
        depth = local[:, 2:]
        good = np.abs(depth) > 1e-3
        factor = np.where(good, 1 + errors[:, None] / np.where(good, depth, 1), 1)
        moved = local * np.maximum(factor, 0.1)
        return replace(self, points=se3_apply(world_from_camera, moved))

    def recoloured(self, gain: np.ndarray, contrast: float, gamma: float) -> "View":
        """Every value v, 0 to 1, of a colour becomes clip(gain (v^gamma - 0.5) contrast + 0.5)."""

        def change(v: np.ndarray) -> np.ndarray:
            return np.clip(gain * ((v**gamma - 0.5) * contrast + 0.5), 0, 1)

        levels = np.rint(255 * change(np.arange(256)[:, None] / 255)).astype(np.uint8)
        image = np.stack([levels[self.image[..., k], k] for k in range(3)], axis=-1)
        return replace(self, image=image, colors=change(self.colors))


def augmented(view: View, up: np.ndarray, rng: np.random.Generator, augment: Augment) -> View:
    """A view at random; `up` [3] is against gravity."""

    def even(most: float, size=None):
        return most * rng.uniform(-1, 1, size)

    errors = augment.depth_noise * rng.standard_normal(len(view.points))
    view = view.deepened(errors * se3_apply(view.camera_from_world, view.points)[:, 2] ** 2)
    # About where the points are: a world that lies far off does not swing around.
    middle = view.points.mean(0) if len(view.points) else np.zeros(3)
    turn = np.eye(4)
    turn[:3, :3] = so3_exp(np.deg2rad(even(augment.turn_deg)) * up)
    turn[:3, 3] = middle - turn[:3, :3] @ middle + even(augment.shift, 3)
    view = view.moved(turn).scaled(float(np.exp(even(augment.scale))))
    if rng.random() < augment.flip:
        across = np.cross(up, [1.0, 0, 0] if abs(up[0]) < 0.7 else [0, 1.0, 0])
        view = view.mirrored(across / np.linalg.norm(across))
    gain = np.exp(even(augment.gain) + even(augment.gain / 4, 3))
    contrast, gamma = np.exp(even(augment.contrast)), np.exp(even(augment.gamma))
    return view.recoloured(gain, float(contrast), float(gamma))
