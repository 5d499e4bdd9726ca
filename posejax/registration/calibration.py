"""Calibration of the reported uncertainty: temperature, normalised errors, ellipse coverage.

The chi-square quantiles are closed forms or a few Newton steps, so that scipy is not needed.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.registration.estimate import Pose2Estimate, pose_errors, pose_nll


def fit_temperature(
    volumes: Array,
    poses: Array,
    angles: Array,
    cell_size: float | Array,
    *,
    lowest: float = 1e-3,
    highest: float = 1e3,
    steps: int = 40,
) -> Array:
    """Temperature that minimises the mean NLL of true poses: one number for a whole data set.

    Args:
      volumes: [N, K, 2r+1, 2r+1] scores.
      poses: [N, 3] true (x, y, yaw). Fit on training data, report on validation data.
      angles: [K] radians, shared by all.
      cell_size: metres per cell.
      lowest, highest: bracket. The NLL is convex in 1 / temperature (it is the log-partition
        function minus a linear term), so golden-section search in log temperature finds the
        minimum; a minimum outside the bracket returns its end.
      steps: golden-section steps (static); 40 leave 1e-8 of the bracket.
    """

    def mean_nll(log_temperature):
        def one(item):
            volume, pose = item
            return pose_nll(volume, pose, angles, cell_size, temperature=jnp.exp(log_temperature))

        return lax.map(one, (volumes, poses), batch_size=16).mean()

    golden = (math.sqrt(5) - 1) / 2

    def shrink(_, state):
        a, b, c, d, fc, fd = state
        left = fc < fd
        a, b = jnp.where(left, a, c), jnp.where(left, d, b)
        new = jnp.where(left, b - golden * (b - a), a + golden * (b - a))
        value = mean_nll(new)
        c, d, fc, fd = (
            jnp.where(left, new, d),
            jnp.where(left, c, new),
            jnp.where(left, value, fd),
            jnp.where(left, fc, value),
        )
        return a, b, c, d, fc, fd

    a, b = jnp.float32(math.log(lowest)), jnp.float32(math.log(highest))
    c, d = b - golden * (b - a), a + golden * (b - a)
    state = lax.fori_loop(0, steps, shrink, (a, b, c, d, mean_nll(c), mean_nll(d)))
    return jnp.exp((state[0] + state[1]) / 2)


def nees(estimate: Pose2Estimate, truth: Array, *, floor: float | Array = 0.0) -> Array:
    """Normalised estimation error squared, e^T P^-1 e, with the 3x3 covariance.

    Its mean is 3 for a calibrated estimator; larger = overconfident.

    Args:
      estimate: one estimate (or a batch, with leading axes on every field).
      truth: [..., 3] = (x, y, yaw).
      floor: variances added to the diagonal, scalar or [3]. A softmax can put all its mass in one
        cell; cell_size^2 / 12 and yaw_step^2 / 12 account for the discretisation.
    """
    return _mahalanobis(pose_errors(estimate.pose, truth), estimate.covariance, floor)


def nees_xy(estimate: Pose2Estimate, truth: Array, *, floor: float | Array = 0.0) -> Array:
    """As `nees`, of (x, y) alone with its marginal 2x2 covariance; mean 2 if calibrated."""
    error = pose_errors(estimate.pose, truth)[..., :2]
    return _mahalanobis(error, estimate.covariance[..., :2, :2], floor)


def _mahalanobis(error: Array, covariance: Array, floor: float | Array) -> Array:
    n = error.shape[-1]
    # Scaled to unit diagonal first: metres and radians differ by orders of magnitude.
    diagonal = jnp.diagonal(covariance, axis1=-2, axis2=-1) + floor
    scale = lax.rsqrt(jnp.maximum(diagonal, 1e-12))
    unit = scale[..., :, None] * covariance * scale[..., None, :]
    eye = jnp.eye(n, dtype=covariance.dtype).reshape((1,) * (covariance.ndim - 2) + (n, n))
    unit = unit * (1 - eye) + eye * (1 + 1e-6)
    scaled = error * scale
    return (scaled * jnp.linalg.solve(unit, scaled[..., None])[..., 0]).sum(-1)


def chi_square_quantile(probability: float | Array, dof: int) -> Array:
    """Quantile of the chi-square distribution with 1, 2 or 3 degrees of freedom."""
    p = jnp.asarray(probability, jnp.float32)
    if dof == 1:
        return 2 * jax.scipy.special.erfinv(p) ** 2
    if dof == 2:
        return -2 * jnp.log1p(-p)
    if dof != 3:
        raise ValueError(f"dof is 1, 2 or 3, got {dof}")

    # CDF(s^2) = erf(s / sqrt 2) - sqrt(2 / pi) s exp(-s^2 / 2), density in s: sqrt(2/pi) s^2 exp.
    def newton(_, s):
        bell = math.sqrt(2 / math.pi) * jnp.exp(-(s**2) / 2)
        cdf = jax.scipy.special.erf(s / math.sqrt(2)) - s * bell
        step = (cdf - p) / jnp.maximum(s**2 * bell, 1e-12)
        return jnp.clip(s - jnp.clip(step, -0.5, 0.5), 1e-6, 8.0)

    return lax.fori_loop(0, 40, newton, jnp.full(p.shape, 1.5, jnp.float32)) ** 2


def ellipse_coverage(normalised: Array, levels: Array, dof: int) -> Array:
    """Share of errors inside the confidence ellipse (ellipsoid) of each level.

    Args:
      normalised: [N] values of `nees` (dof 3) or `nees_xy` (dof 2).
      levels: [L] probabilities, e.g. (0.5, 0.9, 0.95). Calibrated: coverage = level.
      dof: 2 or 3.

    Returns:
      [L].
    """
    limits = chi_square_quantile(jnp.asarray(levels), dof)
    return (normalised[None, :] <= limits[:, None]).mean(1)
