"""Priors over the pose as log-densities on the lattice of a volume, to be added to its scores.

Each is [K, 2r+1, 2r+1] and normalised to sum to one over the lattice, so that priors from several
sources are added and `pose_volume(..., log_prior=...)` stays a log-posterior up to a constant.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum
from posejax.registration.lattice import IMPOSSIBLE, lattice_poses


def _normalise(log_density: Array) -> Array:
    return log_density - jax.nn.logsumexp(log_density)


def gaussian_prior(
    angles: ArrayLike,
    radius: int,
    cell_size: ArrayLike,
    *,
    mean: ArrayLike,
    covariance: ArrayLike,
) -> Array:
    """Gaussian over (x, y), as a satellite receiver reports it; flat in yaw.

    Args:
      angles: [K] radians.
      radius: r of the volume.
      cell_size: metres per cell.
      mean: [2] metres, in the frame of the geo raster.
      covariance: [2, 2] square metres, positive definite.
    """
    offset = lattice_poses(angles, radius, cell_size)[..., :2] - as_float(mean).reshape(1, 1, 1, 2)
    whitened = einsum("ab,kijb->kija", jnp.linalg.inv(as_float(covariance)), offset)
    return _normalise(-0.5 * (offset * whitened).sum(-1))


def von_mises_prior(
    angles: ArrayLike, radius: int, *, mean: ArrayLike, concentration: ArrayLike
) -> Array:
    """Von Mises over yaw, exp(concentration * cos(yaw - mean)); flat in x and y.

    For a small standard deviation s in radians the concentration is 1 / s^2.
    """
    side, angles = 2 * radius + 1, as_float(angles)
    # cos - 1 = -2 sin^2(half) keeps all digits for large concentrations.
    log_density = -2 * concentration * jnp.sin((angles - mean) / 2) ** 2
    return _normalise(jnp.broadcast_to(log_density[:, None, None], (len(angles), side, side)))


def disc_prior(
    angles: ArrayLike,
    radius: int,
    cell_size: ArrayLike,
    *,
    mean: ArrayLike,
    disc_radius: ArrayLike,
) -> Array:
    """Uniform over the disc of `disc_radius` metres about `mean` [2]; flat in yaw.

    Lattice poses outside get -1e4 relative to those inside (finite: gradients stay defined). A disc
    that contains no lattice pose gives the uniform distribution.
    """
    offset = lattice_poses(angles, radius, cell_size)[..., :2] - as_float(mean).reshape(1, 1, 1, 2)
    outside = (offset**2).sum(-1) > disc_radius**2
    return _normalise(jnp.where(outside, IMPOSSIBLE, 0.0))
