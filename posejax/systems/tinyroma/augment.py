"""Views that are cut, resized and mirrored with exact geometry, and changes of their light.

A view keeps its depth map as it was read and only notes how its pixels map into it, so that no
depth is ever resampled. The random numbers come from the engine's generator alone.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from posejax.config import ConfigError, check_range
from posejax.data.images import crop_image, resize_image
from posejax.data.rigid import se3_inverse
from posejax.systems.tinyroma.config import SearchConfig

_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
_MOST = {
    "swap": 1, "crop": 0.9, "shift": math.inf, "flip": 1, "roll_deg": 180, "quarter_turns": 1,
    "gain": math.inf, "contrast": math.inf, "gamma": math.inf, "grey": 1, "noise": 1,
    "blur": math.inf,
}  # fmt: skip


@dataclass(frozen=True)
class Augment:
    """Random changes of a training pair; 0 turns each off.

    Attributes:
      swap: probability that A and B change places.
      crop: share of either side of an image that a crop may lose, for each image on its own.
      shift: most pixels by which both images are moved alike.
      flip: probability that both are mirrored, left to right.
      roll_deg: most that either camera is turned about its optical axis, each on its own; what it
        then sees beyond the image is black and unknown.
      quarter_turns: probability that one camera is also turned by one to three quarters.
      gain: brightness is multiplied by up to exp(+-gain), each colour by another exp(+-gain / 4).
      contrast: contrast is multiplied by up to exp(+-contrast).
      gamma: values are raised to up to exp(+-gamma).
      grey: probability that an image loses its colours.
      noise: greatest standard deviation of noise, values being 0 to 1.
      blur: greatest standard deviation of a Gaussian blur, pixels; every other image has none.
    """

    swap: float = 0.5
    crop: float = 0.25
    shift: int = 16
    flip: float = 0.5
    roll_deg: float = 0.0
    quarter_turns: float = 0.0
    gain: float = 0.3
    contrast: float = 0.3
    gamma: float = 0.3
    grey: float = 0.1
    noise: float = 0.03
    blur: float = 1.2

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        for name, most in _MOST.items():
            check_range(f"system.data.augment.{name}", getattr(self, name), 0, most)


@dataclass(frozen=True, eq=False)
class View:
    """An image and its camera.

    Attributes:
      image: [H, W, 3] uint8.
      intrinsics: [3, 3].
      source_from_image: [3, 3] affine map of its pixels to those it was made from.
      source_size: (H, W) of what it was made from.
      depth: of that size, 0 where unknown; None without.
    """

    image: np.ndarray
    intrinsics: np.ndarray
    source_from_image: np.ndarray
    source_size: tuple[int, int]
    depth: np.ndarray | None = None

    @classmethod
    def of(cls, image, intrinsics, depth=None) -> "View":
        """A view as it was read."""
        return cls(image, np.asarray(intrinsics, float), np.eye(3), image.shape[:2], depth)

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def cropped(self, corner: tuple[int, int], size: tuple[int, int]) -> "View":
        """The part of `size` (H, W) at `corner` (x, y); black beyond the border."""
        shift = np.array([[1.0, 0, -corner[0]], [0, 1, -corner[1]], [0, 0, 1]])
        return self._moved(crop_image(self.image, corner, size), shift)

    def resized(self, size: tuple[int, int]) -> "View":
        """At another (H, W); the two scales may differ."""
        scale = np.diag([size[1] / self.size[1], size[0] / self.size[0], 1.0])
        return self._moved(resize_image(self.image, size), scale)

    def mirrored(self) -> "View":
        """As a camera sees it in a world whose x axis (to the right) is mirrored too."""
        turn = np.array([[-1.0, 0, self.size[1]], [0, 1, 0], [0, 0, 1]])
        moved = self._moved(self.image[:, ::-1], turn)
        return replace(moved, intrinsics=moved.intrinsics @ _MIRROR[:3, :3])

    def rolled(self, turn: np.ndarray) -> "View":
        """As the camera sees it after `turn` [3, 3] (new_from_old) about its optical axis.

        A rotation about that axis leaves the third coordinate alone, so K R K^-1 is affine.
        """
        new_from_old = self.intrinsics @ turn @ np.linalg.inv(self.intrinsics)
        old_from_new = np.linalg.inv(new_from_old)
        # Pillow takes pixel centres at halves, as the library does.
        image = Image.fromarray(np.ascontiguousarray(self.image)).transform(
            (self.size[1], self.size[0]),
            Image.Transform.AFFINE,
            old_from_new[:2].reshape(-1).tolist(),
            Image.Resampling.BILINEAR,
        )
        moved = self._moved(np.asarray(image), new_from_old)
        return replace(moved, intrinsics=self.intrinsics)

    def _moved(self, image: np.ndarray, new_from_old: np.ndarray) -> "View":
        return replace(
            self,
            image=image,
            intrinsics=new_from_old @ self.intrinsics,
            source_from_image=self.source_from_image @ np.linalg.inv(new_from_old),
        )


@dataclass(frozen=True, eq=False)
class Pair:
    """Two views.

    Attributes:
      b_from_a: [4, 4]; NaN where unknown.
      homography: [3, 3] pixels of B's source from pixels of A's source; None for scenes with depth.
      overlap: share of A that B sees as the record states it; NaN where unknown.
    """

    a: View
    b: View
    b_from_a: np.ndarray
    homography: np.ndarray | None = None
    overlap: float = float("nan")

    def swapped(self) -> "Pair":
        """B to A."""
        inverse = None if self.homography is None else np.linalg.inv(self.homography)
        return Pair(self.b, self.a, se3_inverse(self.b_from_a), inverse)

    def mirrored(self) -> "Pair":
        """Both views of the mirrored world."""
        pose = _MIRROR @ self.b_from_a @ _MIRROR
        return replace(self, a=self.a.mirrored(), b=self.b.mirrored(), b_from_a=pose)

    def rolled(self, angle_a: float, angle_b: float) -> "Pair":
        """Both cameras turned about their optical axes, rad."""
        a, b = (_about_axis(angle) for angle in (angle_a, angle_b))
        pose = b @ self.b_from_a @ a.T
        return replace(self, a=self.a.rolled(a[:3, :3]), b=self.b.rolled(b[:3, :3]), b_from_a=pose)

    def image_homography(self) -> np.ndarray:
        """[3, 3] pixels of image B from pixels of image A."""
        if self.homography is None:
            raise ValueError("a pair of a scene with depth has no homography")
        image_b = np.linalg.inv(self.b.source_from_image)
        return image_b @ self.homography @ self.a.source_from_image


def augmented(
    pair: Pair, size: tuple[int, int], rng: np.random.Generator, augment: Augment
) -> Pair:
    """A random version of a pair at (H, W): geometry that both know exactly, other light."""
    if rng.random() < augment.swap:
        pair = pair.swapped()
    # Before the crop: depth is known beyond it, and the image would not be.
    if augment.roll_deg or augment.quarter_turns:
        pair = pair.rolled(*_rolls(rng, augment))
    shift = rng.integers(-augment.shift, augment.shift + 1, 2)
    a, b = (_random_crop(view, size, shift, rng, augment.crop) for view in (pair.a, pair.b))
    pair = replace(pair, a=a.resized(size), b=b.resized(size))
    if rng.random() < augment.flip:
        pair = pair.mirrored()
    a, b = (replace(view, image=photometric(view.image, rng, augment)) for view in (pair.a, pair.b))
    return replace(pair, a=a, b=b)


def check_partners(search: SearchConfig, augment: Augment) -> None:
    """Raise ConfigError for changes of a pair that take partners out of what is searched."""
    if search.kind == "full":
        return
    # Partners leave their row; mirrored or swapped ones the bounds, unless those are symmetric.
    moving = ["crop", "roll_deg", "quarter_turns"]
    if search.columns is not None and search.columns[0] != -search.columns[1]:
        moving += ["swap", "flip"]
    for name in moving:
        if value := getattr(augment, name):
            raise ConfigError(
                f"system.data.augment.{name}: {value}; expected 0 with --system.model.search.kind "
                f"{search.kind}: it takes partners out of the search"
            )


def _rolls(rng: np.random.Generator, augment: Augment) -> np.ndarray:
    """Angles of A and B, rad. A and B may have changed places: B alone takes quarters."""
    angles = np.deg2rad(augment.roll_deg * rng.uniform(-1, 1, 2))
    if augment.quarter_turns and rng.random() < augment.quarter_turns:
        angles[1] += np.pi / 2 * rng.integers(1, 4)
    return angles


def _about_axis(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.eye(4)
    turn[:2, :2] = [[c, -s], [s, c]]
    return turn


def _random_crop(view: View, size, shift, rng: np.random.Generator, loss: float) -> View:
    """A part of the view's own aspect ratio, moved by `shift` pixels of the final size."""
    kept = 1 - loss * rng.random()
    high, wide = (max(round(kept * side), 1) for side in view.size)
    corner = np.array([view.size[1] - wide, view.size[0] - high]) * rng.random(2)
    corner = np.rint(corner + shift * (wide / size[1], high / size[0])).astype(int)
    return view.cropped((int(corner[0]), int(corner[1])), (high, wide))


def photometric(image: np.ndarray, rng: np.random.Generator, augment: Augment) -> np.ndarray:
    """[H, W, 3] uint8 under other light, seen by another camera."""
    gain, contrast, gamma = (
        np.exp(reach * rng.uniform(-1, 1))
        for reach in (augment.gain, augment.contrast, augment.gamma)
    )
    tint = np.exp(augment.gain / 4 * rng.uniform(-1, 1, 3))
    value = np.linspace(0, 1, 256)[:, None]
    middle = image.mean() / 255
    curve = np.clip((value - middle) * contrast + middle, 0, 1) ** gamma * gain * tint
    grey, blurred, sigma, noise = rng.random(4)
    if grey < augment.grey:
        image = np.repeat(image.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    if augment.blur and blurred < 0.5:
        blur = ImageFilter.GaussianBlur(float(augment.blur * sigma))
        image = np.asarray(Image.fromarray(np.ascontiguousarray(image)).filter(blur))
    out = 255 * curve[image, np.arange(3)].astype(np.float32)
    if augment.noise:
        out += np.float32(255 * augment.noise * noise) * rng.standard_normal(out.shape, np.float32)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)
