"""How far an estimate can be trusted: modes, entropy, weak directions, abstention, lock-on."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.geometry import as_float
from posejax.registration.estimate import log_probabilities, softmax_expectation
from posejax.registration.lattice import (
    index_to_pose,
    is_full_circle,
    pose_to_index,
    volume_radius,
)
from posejax.registration.peak import scored_cells


class Modes(NamedTuple):
    """The strongest local maxima of a volume, best first; entries beyond the last are invalid."""

    pose: Array
    """[N, 3] = (x, y, yaw)."""
    log_probability: Array
    """[N], of the cell at the maximum."""
    mass: Array
    """[N], probability within the suppression distance and not claimed by a better mode."""
    valid: Array
    """[N] bool."""


@partial(jax.jit, static_argnames=("count", "separation"))
def find_modes(
    volume: Array,
    angles: Array,
    cell_size: float | Array,
    *,
    count: int = 5,
    separation: tuple[int, int, int] = (2, 2, 2),
    temperature: float | Array = 1.0,
) -> Modes:
    """Local maxima of a volume with non-maximum suppression.

    Args:
      volume: [K, 2r+1, 2r+1] scores.
      angles: [K] radians; the yaw axis is periodic if they go once round.
      cell_size: metres per cell.
      count: N, number of modes wanted (static).
      separation: (k, i, j) cells within which a better mode suppresses others (static).
      temperature: divides the scores.

    A plateau counts as one mode per suppressed box. Not differentiable in the positions.
    """
    radius = volume_radius(volume)
    log_p = log_probabilities(volume, temperature=temperature)
    window = tuple(2 * s + 1 for s in separation)
    full = is_full_circle(angles)
    # Neighbours over the end of a periodic yaw axis: pad by the other end instead of by nothing.
    wrap = min(separation[0], log_p.shape[0])
    below = jnp.where(full, log_p[log_p.shape[0] - wrap :], -jnp.inf)
    above = jnp.where(full, log_p[:wrap], -jnp.inf)
    pads = [(separation[0] - wrap,) * 2, *((s, s) for s in separation[1:])]
    highest = lax.reduce_window(
        jnp.concatenate([below, log_p, above]), -jnp.inf, lax.max, window, (1, 1, 1), pads
    )
    candidates = jnp.where(log_p >= highest, log_p, -jnp.inf)
    axes = [jnp.arange(n) for n in log_p.shape]

    def near(best):
        """Bool [K, 2r+1, 2r+1]: within the separation of the cell with this index."""
        distance = jnp.abs(axes[0] - best[0])
        distance = jnp.where(full, jnp.minimum(distance, log_p.shape[0] - distance), distance)
        k = distance <= separation[0]
        i, j = (jnp.abs(axes[a] - best[a]) <= separation[a] for a in (1, 2))
        return k[:, None, None] & i[None, :, None] & j[None, None, :]

    def next_mode(state, _):
        candidates, free = state
        flat = jnp.argmax(candidates)
        best = jnp.stack(jnp.unravel_index(flat, log_p.shape))
        valid = candidates.reshape(-1)[flat] > -jnp.inf
        box = near(best) & valid
        mass = jnp.where(box & free, jnp.exp(log_p), 0.0).sum()
        state = jnp.where(box, -jnp.inf, candidates), free & ~box
        return state, (best, log_p.reshape(-1)[flat], mass, valid)

    start = (candidates, jnp.ones(log_p.shape, bool))
    _, (index, log_probability, mass, valid) = lax.scan(next_mode, start, None, length=count)
    pose = index_to_pose(index, angles, radius, cell_size)
    return Modes(pose, jnp.where(valid, log_probability, -jnp.inf), mass, valid)


class Confidence(NamedTuple):
    """What `assess` reports about one volume."""

    entropy: Array
    """Entropy over log(number of cells): 0 = one cell has all the mass, 1 = uniform."""
    peak_ratio: Array
    """Mass of the second mode over that of the first: 0 = unimodal, 1 = two equal modes."""
    sigma_major: Array
    """Largest standard deviation of (x, y) over all directions, metres."""
    sigma_minor: Array
    """Smallest one, metres."""
    anisotropy: Array
    """1 - minor / major in [0, 1]: 0 = same in all directions, near 1 = sliding along one."""
    direction: Array
    """[2], unit vector of the weakest direction in (x, y) (its sign means nothing)."""
    sigma_yaw: Array
    """Standard deviation of yaw, radians."""
    modes: Modes
    abstain: Array
    """Bool: some limit given to `assess` is exceeded, or not known to be kept (NaN)."""


def principal_axes(covariance: Array) -> tuple[Array, Array, Array]:
    """Eigenvalues (large, small) and the unit eigenvector of the large one, of a 2x2 covariance.

    In closed form from atan2 of the deviator, so that gradients stay finite for equal eigenvalues,
    where the axis is undefined: it is then (1, 0), and both eigenvalues have the mean's gradient.
    """
    half_trace = (covariance[0, 0] + covariance[1, 1]) / 2
    difference = (covariance[0, 0] - covariance[1, 1]) / 2
    product = covariance[0, 1]
    squared = difference**2 + product**2
    isotropic = squared <= 1e-12 * half_trace**2
    spread = jnp.where(isotropic, 0.0, jnp.sqrt(jnp.where(isotropic, 1.0, squared)))
    half_angle = 0.5 * jnp.arctan2(
        jnp.where(isotropic, 0.0, product), jnp.where(isotropic, 1.0, difference)
    )
    axis = jnp.stack([jnp.cos(half_angle), jnp.sin(half_angle)])
    return half_trace + spread, jnp.maximum(half_trace - spread, 0.0), axis


def _safe_sqrt(value: Array) -> Array:
    zero = value <= 0  # NaN stays NaN
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, value)))


@partial(jax.jit, static_argnames=("modes", "separation"))
def assess(
    volume: Array,
    angles: Array,
    cell_size: float | Array,
    *,
    temperature: float | Array = 1.0,
    modes: int = 5,
    separation: tuple[int, int, int] = (2, 2, 2),
    max_entropy: float = 0.9,
    max_peak_ratio: float = 0.7,
    max_sigma: float = math.inf,
    max_sigma_yaw: float = math.inf,
) -> Confidence:
    """Confidence report of a volume, and whether to abstain from using its estimate.

    Args:
      volume: [K, 2r+1, 2r+1] scores.
      angles: [K] radians.
      cell_size: metres per cell.
      temperature: divides the scores. Calibrate it first (`fit_temperature`), or no limit means
        anything.
      modes, separation: see `find_modes`.
      max_entropy, max_peak_ratio, max_sigma (metres, weakest direction), max_sigma_yaw (radians):
        limits above which the report says abstain.

    Cells with score -inf are excluded; a NaN in the volume makes the report NaN, and abstain true.
    """
    log_p = log_probabilities(volume, temperature=temperature)
    p = jnp.exp(log_p)
    surprise = jnp.where(jnp.isneginf(log_p), 0.0, -log_p)  # 0 log 0 = 0
    entropy = (p * surprise).sum() / math.log(max(volume.size, 2))
    estimate = softmax_expectation(volume, angles, cell_size, temperature=temperature)
    major, minor, axis = principal_axes(estimate.covariance[:2, :2])
    sigma_major, sigma_minor = _safe_sqrt(major), _safe_sqrt(minor)
    point = sigma_major <= 0
    anisotropy = jnp.where(point, 0.0, 1 - sigma_minor / jnp.where(point, 1.0, sigma_major))
    found = find_modes(
        volume, angles, cell_size, count=modes, separation=separation, temperature=temperature
    )
    ordered = jnp.sort(jnp.where(found.valid, found.mass, 0.0), descending=True)
    peak_ratio = ordered[1] / jnp.maximum(ordered[0], 1e-12) if modes > 1 else jnp.zeros(())
    peak_ratio = jnp.where(jnp.isnan(entropy), jnp.nan, peak_ratio)
    sigma_yaw = _safe_sqrt(estimate.covariance[2, 2])
    trusted = (
        (entropy <= max_entropy)
        & (peak_ratio <= max_peak_ratio)
        & (sigma_major <= max_sigma)
        & (sigma_yaw <= max_sigma_yaw)
    )
    return Confidence(
        entropy, peak_ratio, sigma_major, sigma_minor, anisotropy, axis, sigma_yaw, found, ~trusted
    )


@jax.jit
def lock_on_score(
    volume: Array, angles: Array, cell_size: float | Array, pose: Array, *, reach: float = 1.5
) -> Array:
    """How much of the evidence at the true pose and at zero motion lies at zero motion, in [0, 1].

    A scanning sensor leaves its own sampling pattern (rings of a spinning LiDAR) in the raster. Two
    rasters of different places then match best where their *patterns* coincide, at zero motion,
    with a high score. The audit compares the best contrast (score minus mean of the volume) within
    `reach` cells of zero motion with that around the true pose:

        max(zero, 0) / (max(zero, 0) + max(true, 0))

    0.5: equally good; towards 1: locked on the pattern; towards 0: on the scene. Average it over
    pairs whose true motion is more than 2 * reach cells; for smaller motions it is 0.5 by
    construction. A volume without contrast gives 0.5.

    Args:
      volume: [K, 2r+1, 2r+1] scores (not log-probabilities).
      angles: [K] radians; the yaw axis is periodic if they go once round.
      cell_size: metres per cell.
      pose: [3] true geo_from_online.
      reach: half width of the neighbourhood, in cells and yaw steps.
    """
    radius, volume, angles = volume_radius(volume), as_float(volume), as_float(angles)
    known, possible = scored_cells(volume, None)
    # Too few to be a prior's doing: a sharp peak, in large uncalibrated scores.
    excluded = ~jnp.where(possible.sum() < 10, known, possible)
    contrast = jnp.where(excluded, -jnp.inf, volume - volume.mean(where=~excluded))
    axes = [jnp.arange(n, dtype=jnp.float32) for n in volume.shape]

    def best_near(pose):
        index = pose_to_index(pose, angles, radius, cell_size)
        k, i, j = (jnp.abs(axis - at) for axis, at in zip(axes, index, strict=True))
        k = jnp.where(is_full_circle(angles), jnp.minimum(k, jnp.abs(len(angles) - k)), k)
        box = (
            (k <= reach)[:, None, None] & (i <= reach)[None, :, None] & (j <= reach)[None, None, :]
        )
        best = jnp.maximum(jnp.where(box, contrast, 0.0).max(), 0.0)
        return jnp.where(jnp.isnan(index).any(), jnp.nan, best)

    zero, true = best_near(jnp.zeros(3)), best_near(pose)
    none = zero + true <= 0
    return jnp.where(none, 0.5, zero / jnp.where(none, 1.0, zero + true))
