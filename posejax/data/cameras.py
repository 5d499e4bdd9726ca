"""Cameras in float64 NumPy: projection, lens distortion, intrinsics under resizing and cropping.

The worker-side twin of `posejax.geometry`: same names and conventions, the same results. Camera
frame: x right, y down, z forward. Intrinsics K = [[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels
with the first pixel's centre at (0.5, 0.5): the image covers [0, W] x [0, H], so that resizing by s
scales K without an extra term.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

# Where a convention puts the centre of the first pixel.
_FIRST_CENTER = {"posejax": 0.5, "opencv": 0.0, "matlab": 1.0}
PixelConvention = Literal["posejax", "opencv", "matlab"]


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera, with a lens if it has one.

    Attributes:
      intrinsics: [3, 3] float64, pixels.
      size: (height, width) of its images.
      distortion: [5] = (k1, k2, p1, p2, k3) in OpenCV's order, or None for an ideal lens.
    """

    intrinsics: np.ndarray
    size: tuple[int, int]
    distortion: np.ndarray | None = None

    def resized(self, size: tuple[int, int]) -> "Camera":
        """Camera of the images resized to (height, width); the two scales may differ."""
        scale = size[1] / self.size[1], size[0] / self.size[0]
        return replace(self, intrinsics=resize_intrinsics(self.intrinsics, scale), size=size)

    def cropped(self, corner: tuple[float, float], size: tuple[int, int]) -> "Camera":
        """Camera of a crop of `size` (height, width) whose top left corner is at `corner` (x, y).

        A corner below zero, or a size beyond the border, means padding.
        """
        return replace(self, intrinsics=crop_intrinsics(self.intrinsics, corner), size=size)

    def project(
        self, points: ArrayLike, *, min_depth: float = 1e-3
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [..., 2] of points [..., 3] in the camera frame, and validity [...].

        Valid: finite, in front of the camera, and within the field in which the lens is
        one-to-one. Beyond it the polynomial folds back: such points would appear in the image.
        Whether a pixel lies on the image is `contains`.
        """
        if self.distortion is None:
            return project(points, self.intrinsics, min_depth=min_depth)
        ideal, valid = project(points, np.eye(3), min_depth=min_depth)
        valid &= np.linalg.norm(ideal, axis=-1) < lens_radius(self.distortion)
        ideal = np.where(valid[..., None], ideal, 0)
        return _pixels(distort(ideal, self.distortion), self.intrinsics), valid

    def rays(self, xy: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Viewing rays [..., 3] with unit z through pixels [..., 2], and validity [...]."""
        rays = pixel_rays(xy, self.intrinsics)
        if self.distortion is None:
            return rays, np.all(np.isfinite(rays), axis=-1)
        ideal, valid = undistort(rays[..., :2], self.distortion)
        return np.concatenate([ideal, rays[..., 2:]], axis=-1), valid

    def contains(self, xy: ArrayLike) -> np.ndarray:
        """Whether pixels [..., 2] lie on the image, [...] bool; False for NaN."""
        xy = np.asarray(xy)
        return np.all((xy >= 0) & (xy <= (self.size[1], self.size[0])), axis=-1)


def project(
    points: ArrayLike, intrinsics: ArrayLike, *, min_depth: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates of points in front of a pinhole camera.

    Args:
      points: [..., 3] in the camera frame, metres.
      intrinsics: [3, 3].
      min_depth: metres; points with z below it are not valid.

    Returns:
      xy [..., 2] pixels and valid [...] bool. Points that are not valid are projected as if at
      depth 1, those that are not finite (which are not valid) as if on the optical axis.
    """
    points = np.asarray(points, np.float64)
    finite = np.all(np.isfinite(points), axis=-1)
    points = np.where(finite[..., None], points, 0)
    valid = finite & (points[..., 2] >= min_depth)
    ray = points[..., :2] / np.where(valid, points[..., 2], 1)[..., None]
    return _pixels(ray, _intrinsics(intrinsics)), valid


def unproject(xy: ArrayLike, depth: ArrayLike, intrinsics: ArrayLike) -> np.ndarray:
    """Points [..., 3] (m) at pixels [..., 2] and depths [...] along the optical axis (m)."""
    return pixel_rays(xy, intrinsics) * np.asarray(depth, np.float64)[..., None]


def pixel_rays(xy: ArrayLike, intrinsics: ArrayLike) -> np.ndarray:
    """Viewing rays K^-1 (x, y, 1) with unit z, [..., 2] pixels -> [..., 3] in the camera frame."""
    xy, k = np.asarray(xy, np.float64), _intrinsics(intrinsics)
    y = (xy[..., 1] - k[1, 2]) / k[1, 1]
    x = (xy[..., 0] - k[0, 2] - k[0, 1] * y) / k[0, 0]
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def resize_intrinsics(intrinsics: ArrayLike, scale: ArrayLike) -> np.ndarray:
    """Intrinsics [..., 3, 3] of the resized image; scale: new / old size, a number or (x, y)."""
    return np.asarray(intrinsics, np.float64) * np.append(np.broadcast_to(scale, 2), 1)[:, None]


def crop_intrinsics(intrinsics: ArrayLike, corner: ArrayLike) -> np.ndarray:
    """Intrinsics [..., 3, 3] of a crop with its top left corner at (x, y): `image[y:, x:]`."""
    k = np.array(intrinsics, np.float64)
    k[..., :2, 2] -= np.asarray(corner)
    return k


def convert_pixels(
    xy: ArrayLike, *, source: PixelConvention, target: PixelConvention
) -> np.ndarray:
    """Pixel coordinates [..., 2] from one convention to another, see `posejax.geometry`."""
    return np.asarray(xy, np.float64) + _pixel_shift(source, target)


def convert_intrinsics(
    intrinsics: ArrayLike, *, source: PixelConvention, target: PixelConvention
) -> np.ndarray:
    """Intrinsics [..., 3, 3] from one pixel convention to another: moves the principal point."""
    return crop_intrinsics(intrinsics, -_pixel_shift(source, target))


def distort(ray: ArrayLike, coefficients: ArrayLike) -> np.ndarray:
    """Where the lens moves ideal points (X / Z, Y / Z), [..., 2] -> [..., 2].

    Brown-Conrady with OpenCV's (k1, k2, p1, p2, k3), see `posejax.geometry.distort`.
    """
    return _distort(np.asarray(ray, np.float64), _coefficients(coefficients))[0]


def undistort(
    ray: ArrayLike, coefficients: ArrayLike, *, iterations: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of `distort` by Newton's method.

    Returns:
      ideal points [..., 2], and validity [...]: the lens takes them to `ray` (to 1e-9), and they
      lie where it is one-to-one.
    """
    target, c = np.asarray(ray, np.float64), _coefficients(coefficients)
    guess = target
    with np.errstate(all="ignore"):  # what runs away is found below
        for _ in range(iterations):
            value, (a, b, d) = _distort(guess, c)
            dx, dy = np.moveaxis(target - value, -1, 0)
            det = a * d - b * b
            det = np.where(np.abs(det) < 1e-6, 1e-6, det)
            guess = guess + np.stack([(d * dx - b * dy) / det, (a * dy - b * dx) / det], axis=-1)
        off = np.linalg.norm(_distort(guess, c)[0] - target, axis=-1)
        valid = (off < 1e-9) & (np.linalg.norm(guess, axis=-1) < lens_radius(c))
    return guess, valid


def lens_radius(coefficients: ArrayLike) -> float:
    """Largest |(X / Z, Y / Z)| up to which the radial distortion grows with the radius."""
    k1, k2, _, _, k3 = _coefficients(coefficients)
    squares = np.roots([7 * k3, 5 * k2, 3 * k1, 1])  # of d/dr (r + k1 r^3 + k2 r^5 + k3 r^7)
    turns = squares.real[(np.abs(squares.imag) < 1e-12) & (squares.real > 0)]
    return float(np.sqrt(turns.min())) if len(turns) else float("inf")


def _distort(
    ray: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Distorted point and its Jacobian, the symmetric matrix [[a, b], [b, d]]."""
    k1, k2, p1, p2, k3 = c
    x, y = ray[..., 0], ray[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2 * (k1 + r2 * (2 * k2 + 3 * k3 * r2))  # d radial / dx = slope x
    moved = [
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    ]
    a = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
    b = slope * x * y + 2 * p1 * x + 2 * p2 * y
    d = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
    return np.stack(moved, axis=-1), (a, b, d)


def _pixels(ray: np.ndarray, k: np.ndarray) -> np.ndarray:
    x, y = ray[..., 0], ray[..., 1]
    return np.stack([k[0, 0] * x + k[0, 1] * y + k[0, 2], k[1, 1] * y + k[1, 2]], axis=-1)


def _intrinsics(intrinsics: ArrayLike) -> np.ndarray:
    k = np.asarray(intrinsics, np.float64)
    if k.shape != (3, 3):
        raise ValueError(f"intrinsics are [3, 3], got {k.shape}")
    return k


def _coefficients(coefficients: ArrayLike) -> np.ndarray:
    c = np.asarray(coefficients, np.float64)
    if c.shape != (5,):
        raise ValueError(f"coefficients are [5] = (k1, k2, p1, p2, k3), got {c.shape}")
    return c


def _pixel_shift(source: str, target: str) -> float:
    for name in (source, target):
        if name not in _FIRST_CENTER:
            raise ValueError(f"unknown pixel convention {name!r}; one of {sorted(_FIRST_CENTER)}")
    return _FIRST_CENTER[target] - _FIRST_CENTER[source]
