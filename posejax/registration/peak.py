"""Sub-cell pose: a Gaussian fitted to the log-probabilities around the highest score.

Near its peak a log-density is a quadratic, log p(d) = a + b.d - d.L d / 2 with the information
matrix L. Its ten coefficients follow from the 3x3x3 scores around the highest one by linear least
squares with a constant design matrix, so the fit is one small matrix product, the peak is
d = L^-1 b and the covariance is L^-1.

A score that only says "not here" is not a sample of that quadratic. Excluded cells are left out,
and what the remaining ones do not determine is not estimated.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float, matmul
from posejax.registration.estimate import Pose2Estimate, log_probabilities
from posejax.registration.lattice import (
    IMPOSSIBLE,
    angle_step,
    index_to_pose,
    is_full_circle,
    volume_radius,
)


def _design_matrix(shape: tuple[int, ...]) -> np.ndarray:
    """[N, 10]: columns 1, d_a, d_a^2 / 2 and d_a d_b at the N offsets about the centre."""
    axes = [np.arange(n) - n // 2 for n in shape]
    d = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.float64)
    products = [d[:, a] * d[:, b] for a, b in ((0, 1), (0, 2), (1, 2))]
    return np.stack([np.ones(len(d)), *d.T, *(d.T**2 / 2), *products], 1)


def scored_cells(volume: Array, valid: ArrayLike | None) -> tuple[Array, Array]:
    """Cells that carry a score at all, and those of them that no prior rules out, both bool.

    Excluded are cells that are not `valid`, those at -inf, and those at exactly -1 in a volume of
    correlation coefficients, within [-1, 1]: the mark of `pose_volume(score="zncc")`. A prior rules
    out what is half of its -1e4 and more below the best score.
    """
    known = ~jnp.isneginf(volume)  # NaN is no exclusion: it goes through
    if valid is not None:
        known &= jnp.asarray(valid, bool)
    best = jnp.where(known, volume, -jnp.inf).max()
    coefficients = (volume.min(where=known, initial=0.0) >= -1) & (best > -1) & (best < 1 + 1e-3)
    rejected = coefficients & (volume == -1)
    known &= ~rejected
    return known, known & ~(volume < best + IMPOSSIBLE / 2)


def _least_squares(used: Array, size: tuple[int, ...]) -> tuple[Array, Array]:
    """Solution operator [10, N] for the `used` [N] cells, and which coefficients [10] they fix."""
    design = _design_matrix(size)
    whole = jnp.asarray(np.linalg.pinv(design), jnp.float32)
    weighted = jnp.asarray(design, jnp.float32) * used[:, None]
    # Sums of products of 0, 1/2 and 1: exact, with eigenvalues of zero or well above rounding.
    values, vectors = jnp.linalg.eigh(matmul(weighted.T, weighted))
    kept = values > 1e-3
    some = matmul(matmul(vectors * jnp.where(kept, 1 / values, 0.0)[None], vectors.T), weighted.T)
    fixed = (vectors**2 * kept[None]).sum(1) > 1 - 1e-3
    return jnp.where(used.all(), whole, some), fixed


@jax.jit
def gaussian_peak(
    volume: ArrayLike,
    angles: ArrayLike,
    cell_size: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    valid: ArrayLike | None = None,
) -> Pose2Estimate:
    """Sub-cell pose and covariance by a quadratic fit around the highest score.

    Args:
      volume: [K, 2r+1, 2r+1] scores (yaw, y, x).
      angles: [K] radians, increasing, uniform.
      cell_size: metres per cell.
      temperature: divides the scores; scales the covariance, does not move the peak.
      valid: [K, 2r+1, 2r+1] bool, cells that carry a score (`PoseVolume.valid`). None: those that
        are not marked as excluded: -inf, a prior's -1e4, or -1 among correlation coefficients.

    Returns:
      Pose2Estimate; the pose is within one cell of the centre of the fit in every axis.

    At a border of the window the neighbourhood moves inwards (a yaw axis that goes once round is
    periodic instead), and so it does by up to one cell where that leaves fewer excluded cells in
    it. Excluded cells do not enter the fit. Axes whose curvature the others do not determine are
    not refined: so are those with fewer than three entries. Their information, and that of a flat
    or saddle-shaped neighbourhood, is raised to that of a uniform density over the window, so the
    covariance is always finite and positive definite; all is NaN if a score is. Differentiable
    with respect to the scores for a fixed cell of the highest score.
    """
    volume, angles = as_float(volume), as_float(angles)
    radius = volume_radius(volume)
    known, possible = scored_cells(volume, valid)
    log_p = log_probabilities(volume, temperature=temperature)
    shape, size = log_p.shape, tuple(3 if n >= 3 else 1 for n in log_p.shape)
    count, full = shape[0], is_full_circle(angles)
    best = jnp.stack(jnp.unravel_index(jnp.argmax(jnp.where(known, volume, -jnp.inf)), shape))
    lower = np.array([s // 2 for s in size])
    upper = np.array(shape) - 1 - lower

    def inside(index):  # [..., 3] as the centre of a neighbourhood
        clipped = jnp.clip(index, *(np.broadcast_to(a, index.shape) for a in (lower, upper)))
        return clipped.at[..., 0].set(jnp.where(full, index[..., 0], clipped[..., 0]))

    # Nearest to the best cell first: the first maximum below is the least move inwards.
    moves = sorted(itertools.product(*(range(-s, s + 1) for s in lower)), key=np.linalg.norm)
    centres = inside(inside(best)[None] + np.array(moves))
    offsets = np.stack(np.meshgrid(*(np.arange(-s, s + 1) for s in lower), indexing="ij"), -1)
    cells = centres[:, None] + offsets.reshape(1, -1, 3)
    k, i, j = cells[..., 0] % count, cells[..., 1], cells[..., 2]
    found = possible[k, i, j].sum(1)
    # So steep on all sides that no prior explains it: a sharp peak, in large uncalibrated scores.
    sharp = found.max() < 10
    chosen = jnp.argmax(jnp.where(sharp, known[k, i, j].sum(1), found))
    centre, k, i, j = centres[chosen], k[chosen], i[chosen], j[chosen]
    used = jnp.where(sharp, known[k, i, j], possible[k, i, j]).astype(log_p.dtype)

    # Relative to its highest entry: a common constant would only cost digits.
    patch = jnp.where(used > 0, log_p[k, i, j], -jnp.inf)
    patch = jnp.where(used > 0, patch - lax.stop_gradient(patch.max()), 0.0)
    solve, fixed = _least_squares(used, size)
    axes = fixed[1:4] & fixed[4:7]  # slope and curvature
    c = jnp.where(fixed, matmul(solve, patch), 0.0)
    b = jnp.where(axes, c[1:4], 0.0)
    information = -jnp.stack([c[4], c[7], c[8], c[7], c[5], c[9], c[8], c[9], c[6]]).reshape(3, 3)
    floor = 12.0 / max(shape) ** 2
    information = jnp.where(axes[:, None] & axes[None, :], information, floor * jnp.eye(3))
    smallest = jnp.linalg.eigvalsh(lax.stop_gradient(information))[0]
    ridge = jnp.maximum(floor - smallest, 0.0)
    covariance = jnp.linalg.inv(information + ridge * jnp.eye(3, dtype=patch.dtype))
    step = jnp.clip(matmul(covariance, b), -1.0, 1.0)

    # Axes that are not refined stay at the best cell, wherever the neighbourhood moved.
    index = jnp.where(axes, centre + step, best.astype(step.dtype))
    pose = index_to_pose(index, angles, radius, cell_size)
    to_metric = jnp.stack([angle_step(angles), *jnp.broadcast_to(as_float(cell_size), (2,))])
    covariance = (covariance * to_metric[:, None] * to_metric[None, :])[::-1, ::-1]
    unknown = jnp.isnan(log_p).any()
    x, y, yaw = jnp.where(unknown, jnp.nan, pose)
    return Pose2Estimate(x, y, yaw, jnp.where(unknown, jnp.nan, covariance))
