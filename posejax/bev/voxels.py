"""The volume around a rig that features are lifted into, and the level frame it may lie in."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import as_float, normalize, se3_from_rotation_translation
from posejax.geometry.numerics import cross


@dataclass(frozen=True)
class VoxelGrid:
    """Boxes of equal size in a frame with a camera's axes: x right, y down, z forward.

    Arrays over it are [Z, Y, X, ...]; its bird's-eye maps are [Z, X, ...]: rows go forward (row 0
    is rearmost), columns to the right. Continuous indices count voxels from the corner, so that
    the first voxel's centre is 0.5, as pixels do. Frozen and hashable: a static argument.

    The frame is the reference camera's own, or `level_frame`'s: a camera pitched by 15 degrees
    tilts its own plane 13 m out of the road 50 m ahead.

    Attributes:
      shape: (Z, Y, X) voxels. The default is Simple-BEV's.
      lower: (x, y, z) of the first corner, metres.
      upper: (x, y, z) of the last corner, metres.

    Raises:
      ValueError: sizes that are not positive whole numbers, or bounds that are not increasing.
    """

    shape: tuple[int, int, int] = (200, 8, 200)
    lower: tuple[float, float, float] = (-50.0, -4.0, -50.0)
    upper: tuple[float, float, float] = (50.0, 6.0, 50.0)

    def __post_init__(self):
        shape, lower, upper = tuple(self.shape), tuple(self.lower), tuple(self.upper)
        if len(shape) != 3 or any(int(n) != n or n < 1 for n in shape):
            raise ValueError(f"shape is (Z, Y, X), three positive whole numbers, got {self.shape}")
        bounds = len(lower) == len(upper) == 3 and all(math.isfinite(v) for v in lower + upper)
        if not bounds or any(a >= b for a, b in zip(lower, upper, strict=True)):
            raise ValueError(f"bounds are (x, y, z), lower < upper, got {lower} and {upper}")
        # Lists and NumPy scalars would make equal grids unequal or unhashable.
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))
        object.__setattr__(self, "lower", tuple(float(v) for v in lower))
        object.__setattr__(self, "upper", tuple(float(v) for v in upper))

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Metres along (x, y, z)."""
        counts = self.shape[::-1]
        x, y, z = ((b - a) / n for a, b, n in zip(self.lower, self.upper, counts, strict=True))
        return x, y, z

    @property
    def map_shape(self) -> tuple[int, int]:
        """(Z, X) of its bird's-eye maps."""
        return self.shape[0], self.shape[2]

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centres along x [X], y [Y] and z [Z], float64 metres."""
        x, y, z = (
            low + (np.arange(n) + 0.5) * size
            for low, n, size in zip(self.lower, self.shape[::-1], self.voxel_size, strict=True)
        )
        return x, y, z

    def centers(self) -> np.ndarray:
        """[Z, Y, X, 3] float64: (x, y, z) of every voxel's centre in metres."""
        x, y, z = self.axes()
        return np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1)

    def index_from_xyz(self, points: ArrayLike) -> Array:
        """Metres [..., 3] = (x, y, z) to continuous indices [..., 3] = (column, level, row)."""
        points = as_float(points)
        return (points - self._row(self.lower, points)) / self._row(self.voxel_size, points)

    def xyz_from_index(self, index: ArrayLike) -> Array:
        """Inverse of `index_from_xyz`."""
        index = as_float(index)
        return index * self._row(self.voxel_size, index) + self._row(self.lower, index)

    def _row(self, values: tuple[float, float, float], like: Array) -> Array:
        return jnp.asarray(values, like.dtype).reshape((1,) * (like.ndim - 1) + (3,))


@jax.jit
def level_frame(ego_from_camera: ArrayLike) -> Array:
    """The frame at a camera that looks where it looks, but level: ego_from_level [4, 4].

    Args:
      ego_from_camera: [4, 4]; the ego frame's z points up (against gravity, as far as the vehicle
        knows), the camera's along its optical axis.

    Returns:
      ego_from_level: the same origin; y down along -z of the ego frame, z forward along the
      horizontal part of the optical axis (along x of the ego frame where there is none), x right.
    """
    pose = as_float(ego_from_camera)
    if pose.shape != (4, 4):
        raise ValueError(f"a pose is [4, 4], got {pose.shape}; use jax.vmap")
    down = jnp.array([0, 0, -1], pose.dtype)
    ahead = jnp.array([1, 0, 0], pose.dtype)
    forward = normalize(pose[:3, 2] * jnp.array([1, 1, 0], pose.dtype), ahead)
    rotation = jnp.stack([cross(down, forward), down, forward], axis=-1)
    return se3_from_rotation_translation(rotation, pose[:3, 3])
