"""Sub-cell pose: a Gaussian fitted to the log-probabilities around the highest score.

Near its peak a log-density is a quadratic, log p(d) = a + b.d - d.L d / 2 with the information
matrix L. Its ten coefficients follow from the 3x3x3 scores around the highest one by linear least
squares with a constant design matrix, so the fit is one small matrix product, the peak is
d = L^-1 b and the covariance is L^-1.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from posejax.registration.estimate import Pose2Estimate, log_probabilities
from posejax.registration.lattice import angle_step, index_to_pose, is_full_circle, volume_radius


def _fit_matrix(shape: tuple[int, ...]) -> np.ndarray:
    """Pseudo-inverse [10, N] of the design matrix of 1, d_a, d_a^2 / 2 and d_a d_b.

    N = prod(shape) offsets d = (k, i, j) about the middle. Coefficients of an axis with one entry
    come out as zero.
    """
    axes = [np.arange(n) - n // 2 for n in shape]
    d = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.float64)
    products = [d[:, a] * d[:, b] for a, b in ((0, 1), (0, 2), (1, 2))]
    return np.linalg.pinv(np.stack([np.ones(len(d)), *d.T, *(d.T**2 / 2), *products], 1))


def gaussian_peak(
    volume: Array,
    angles: Array,
    cell_size: float | Array,
    *,
    temperature: float | Array = 1.0,
) -> Pose2Estimate:
    """Sub-cell pose and covariance by a quadratic fit around the highest score.

    Args:
      volume: [K, 2r+1, 2r+1] scores (yaw, y, x).
      angles: [K] radians, increasing, uniform.
      cell_size: metres per cell.
      temperature: divides the scores; scales the covariance, does not move the peak.

    Returns:
      Pose2Estimate; the pose is within one cell of the centre of the fit in every axis.

    At a border of the window the neighbourhood moves inwards (a yaw axis that goes once round is
    periodic instead). Axes with fewer than three entries are not refined. A flat or saddle-shaped
    neighbourhood has its information raised to that of a uniform density over the window, so the
    covariance is always finite and positive definite. Differentiable with respect to the scores
    for a fixed cell of the highest score.
    """
    radius = volume_radius(volume)
    log_p = log_probabilities(volume, temperature=temperature)
    shape, size = log_p.shape, tuple(3 if n >= 3 else 1 for n in log_p.shape)
    best = jnp.stack(jnp.unravel_index(jnp.argmax(log_p), shape))
    lower = jnp.array([s // 2 for s in size])
    upper = jnp.array([n - 1 - s // 2 for n, s in zip(shape, size, strict=True)])
    centre = jnp.clip(best, lower, upper)
    centre = centre.at[0].set(jnp.where(is_full_circle(angles), best[0], centre[0]))
    # The yaw axis is rolled so that the neighbourhood starts at its index 0, also over its ends.
    rolled = jnp.roll(log_p, lower[0] - centre[0], axis=0)
    patch = lax.dynamic_slice(rolled, (0, centre[1] - lower[1], centre[2] - lower[2]), size)

    # Relative to its highest entry: a common constant would only cost digits.
    patch = patch - lax.stop_gradient(patch.max())
    pinv = jnp.asarray(_fit_matrix(size), patch.dtype)
    c = jnp.matmul(pinv, patch.reshape(-1), precision=lax.Precision.HIGHEST)
    b = c[1:4]
    information = -jnp.stack([c[4], c[7], c[8], c[7], c[5], c[9], c[8], c[9], c[6]]).reshape(3, 3)
    floor = 12.0 / max(shape) ** 2
    smallest = jnp.linalg.eigvalsh(lax.stop_gradient(information))[0]
    ridge = jnp.maximum(floor - smallest, 0.0)
    covariance = jnp.linalg.inv(information + ridge * jnp.eye(3, dtype=patch.dtype))
    reach = jnp.array([1.0 if n >= 3 else 0.0 for n in shape], patch.dtype)
    step = jnp.clip(covariance @ b, -reach, reach)

    x, y, yaw = index_to_pose(centre + step, angles, radius, cell_size)
    to_metric = jnp.stack([angle_step(angles), jnp.asarray(cell_size), jnp.asarray(cell_size)])
    covariance = covariance * to_metric[:, None] * to_metric[None, :]
    return Pose2Estimate(x, y, yaw, covariance[::-1, ::-1])
