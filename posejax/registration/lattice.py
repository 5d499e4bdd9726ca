"""The lattice of a pose volume [K, 2r+1, 2r+1] and its poses (x, y, yaw)."""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import as_float, wrap_angle

# Log-density of poses that are ruled out. Finite, so that no gradient is NaN; exp of it is zero in
# float32 beside any other score.
IMPOSSIBLE = -1e4


def volume_radius(volume: Array) -> int:
    """r of a volume [K, 2r+1, 2r+1]; ValueError for any other shape."""
    if volume.ndim != 3 or volume.shape[1] != volume.shape[2] or volume.shape[1] % 2 == 0:
        raise ValueError(
            f"a pose volume is [K, 2r+1, 2r+1] (yaw, y, x), got {volume.shape}; "
            "map over a batch with jax.vmap"
        )
    return volume.shape[1] // 2


def angle_step(angles: Array) -> Array:
    """Spacing of uniformly spaced `angles` [K] (one radian if K = 1, where no step is defined)."""
    if angles.shape[0] == 1:
        return jnp.ones((), angles.dtype)
    return (angles[-1] - angles[0]) / (angles.shape[0] - 1)


def is_full_circle(angles: Array) -> Array:
    """Whether uniformly spaced `angles` [K] go once round, so that the yaw axis is periodic."""
    count = angles.shape[0]
    if count < 3:
        return jnp.zeros((), bool)
    step = angle_step(angles)
    return jnp.abs(count * step - 2 * math.pi) < 0.5 * jnp.abs(step)


def index_to_pose(index: ArrayLike, angles: ArrayLike, radius: int, cell_size: ArrayLike) -> Array:
    """Pose of a (fractional) lattice index.

    Args:
      index: [..., 3] = (k, i, j): yaw, y and x index, real numbers.
      angles: [K] radians, increasing, uniform.
      radius: r of the volume [K, 2r+1, 2r+1].
      cell_size: metres per cell.

    Returns:
      [..., 3] = (x, y, yaw) in metres and radians; yaw is not wrapped.
    """
    angles = as_float(angles)
    index = jnp.asarray(index, angles.dtype)
    yaw = angles[0] + index[..., 0] * angle_step(angles)
    return jnp.stack(
        [(index[..., 2] - radius) * cell_size, (index[..., 1] - radius) * cell_size, yaw], -1
    )


def pose_to_index(pose: ArrayLike, angles: ArrayLike, radius: int, cell_size: ArrayLike) -> Array:
    """Inverse of `index_to_pose`: [..., 3] = (x, y, yaw) -> (k, i, j), real numbers.

    The yaw is taken as the turn nearest to the middle of `angles`, so that 359 and -1 degrees
    have the same index.
    """
    angles = as_float(angles)
    pose = jnp.asarray(pose, angles.dtype)
    middle = (angles[0] + angles[-1]) / 2
    yaw = middle + wrap_angle(pose[..., 2] - middle)
    return jnp.stack(
        [
            (yaw - angles[0]) / angle_step(angles),
            pose[..., 1] / cell_size + radius,
            pose[..., 0] / cell_size + radius,
        ],
        -1,
    )


def lattice_poses(angles: ArrayLike, radius: int, cell_size: ArrayLike) -> Array:
    """All poses of the lattice: [K, 2r+1, 2r+1, 3] = (x, y, yaw)."""
    angles = as_float(angles)
    offset = jnp.arange(-radius, radius + 1, dtype=angles.dtype) * cell_size
    yaw, y, x = jnp.meshgrid(angles, offset, offset, indexing="ij")
    return jnp.stack([x, y, yaw], -1)
