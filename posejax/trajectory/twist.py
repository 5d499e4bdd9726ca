"""Constant-twist (screw) motion: twelve numbers for a whole track.

    camera_from_body(t) = P_0 exp((t - t_0) xi),    xi = (v, w) in body axes, per second

A free body seen by a still camera, a helix, a circle and a straight line at constant speed are all
of this kind; every pose of the track then tells about every other.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import cho_factor, cho_solve
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum, matmul, safe_norm, se3_exp, se3_inverse, se3_log
from posejax.trajectory.robust import (
    Kernel,
    kernel_weights,
    masked_quantile,
    nudge,
    pose_residual,
    residual_lengths,
    robust_scale,
    spread,
)
from posejax.trajectory.track import (
    Track,
    absolute,
    back_in_order,
    local_medoids,
    noise_scale,
    per_measurement,
    rebase,
    refuse_unless,
    since,
    sorted_track,
)

# Shares of the track that take part in the first rounds of the fit, and rounds on each: a twist
# known to a few degrees per second cannot be held against poses many turns away.
_GROWTH, _ROUNDS, _LEAST = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0), 4, 24


class TwistFit(NamedTuple):
    """A screw motion and how well the measurements obey it.

    Attributes:
      pose0: [4, 4] camera_from_body at t0.
      twist: [6] = (v, w), m/s and rad/s in body axes.
      t0: s, a time in the middle of the track; NumPy's float64 from an eager call, so that Unix
        times keep their fractions.
      poses: [M, 4, 4] at the times of the measurements (times that are not finite get `t0`).
      residuals: [M, 2] (m, rad), zero where there is no measurement.
      weights: [M, 2] in [0, 1], the influence of position and rotation of each measurement.
      scale: [2] standard deviation per axis of the residuals (m, rad), or over `sigma` if given.
    """

    pose0: Array
    twist: Array
    t0: Array | np.ndarray
    poses: Array
    residuals: Array
    weights: Array
    scale: Array


def fit_constant_twist(
    t: ArrayLike,
    poses: ArrayLike,
    valid: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    robust: Kernel = "tukey",
    iterations: int = 10,
) -> TwistFit:
    """Fit a screw motion to measured poses, passing over gross errors.

    Gauss-Newton with iteratively reweighted residuals. It starts from medians of the twists between
    pairs of poses and from the medoid of the poses in the middle, and takes in the track from there
    outwards, so that neither a third of gross errors nor several whole turns mislead it.

    Args:
      t: [M] s, in any order. Large times (Unix): see `rebase`.
      poses: [M, 4, 4] camera_from_body.
      valid: [M] False for padding and gaps; poses that are not finite count as such.
      sigma: [2] or [M, 2] standard deviations (m, rad) of the measurements against each other;
        their overall size is estimated in any case.
      robust: weight of a residual; "none" is least squares.
      iterations: of the last stage.

    Returns:
      The fit; the gradient runs through the last stage alone.

    Raises:
      ValueError: shapes do not fit, or the times are too coarse (see `rebase`).

    Needs three usable poses. With two or fewer it stays finite: the twist is that of the pair, or
    zero.
    """
    origin, t, _ = rebase(t, poses, valid)
    fit = _fit(t, poses, valid, sigma, robust=robust, iterations=iterations)
    return fit._replace(t0=absolute(origin, fit.t0))


@partial(jax.jit, static_argnames=("robust", "iterations"))
def _fit(t, poses, valid, sigma, *, robust: Kernel, iterations: int) -> TwistFit:
    track = sorted_track(t, poses, valid, sigma)
    sigma = per_measurement(sigma, track, jnp.ones(2, track.t.dtype))
    t0 = masked_quantile(track.t, track.valid, 0.5)
    tau = jnp.where(track.valid, track.t - t0, 0)
    # The twist per half duration: turns and metres, as the pose, whatever the length of the track.
    half = jnp.max(jnp.abs(tau))
    half = jnp.where(half > 0, half, 1)
    tau = tau / half
    start = _start(track, t0, half)
    rank = jnp.argsort(jnp.argsort(jnp.where(track.valid, jnp.abs(tau), jnp.inf)))

    def advance(state, stage):
        share, final, cut = stage
        state = jax.tree.map(lambda x: jnp.where(cut, lax.stop_gradient(x), x), state)
        near = jnp.maximum(share * track.count, _LEAST).astype(rank.dtype)
        active = track.valid & (rank < near)
        kernel = lambda d: jnp.where(final, kernel_weights(d, robust), kernel_weights(d, first))  # noqa: E731
        return _step(state, tau, track, sigma, active, kernel), None

    first: Kernel = "none" if robust == "none" else "cauchy"
    grown = len(_GROWTH) * _ROUNDS
    shares = np.concatenate([np.repeat(_GROWTH, _ROUNDS), np.ones(iterations)])
    number = np.arange(grown + iterations)
    stages = jnp.asarray(shares, tau.dtype), number >= grown, number == grown
    state, _ = lax.scan(advance, lax.stop_gradient(start), stages)
    pose0, twist = state
    fit = TwistFit(pose0, twist / half, t0, track.poses, sigma, sigma, sigma[0])
    t = as_float(t).astype(tau.dtype)
    at = _move(pose0, fit.twist, jnp.where(jnp.isfinite(t), t, t0) - t0)
    residuals = residual_lengths(pose_residual(track.poses, at[track.order]))
    residuals = jnp.where(track.valid[:, None], residuals, 0)
    scale = robust_scale(residuals / sigma, track.valid, _rounding(track))
    weights = kernel_weights(residuals / (sigma * scale[None]), robust)
    weights = jnp.where(track.valid[:, None], weights, 0)
    result = fit._replace(
        poses=at,
        residuals=back_in_order(track, residuals),
        weights=back_in_order(track, weights),
        scale=scale,
    )
    return refuse_unless(track.resolved, result)


def twist_poses(fit: TwistFit, t: ArrayLike) -> Array:
    """camera_from_body at any times, [...] s -> [..., 4, 4]; exact extrapolation of a screw."""
    return _move(fit.pose0, fit.twist, since(t, fit.t0))


@jax.jit
def _move(pose0: Array, twist: Array, tau: ArrayLike) -> Array:
    tau = as_float(tau).astype(twist.dtype)
    twist = twist.reshape((1,) * tau.ndim + (6,))
    return einsum("ij,...jk->...ik", pose0, se3_exp(tau[..., None] * twist))


class ScrewResidual(NamedTuple):
    """How far a track is from a screw motion; all pairs (position in m, rotation in rad) [2].

    Attributes:
      residual: root mean square per axis of the deviation from the best screw, without outliers.
      noise: standard deviation per axis of what changes from pose to pose.
      extent: root mean square per axis of the deviation from one pose: how much it moves.
      unexplained: share of the motion no screw explains, (residual^2 - noise^2) / extent^2 within
        [0, 1]: 0 for a perfectly predictable track, 1 for one that twelve numbers do not describe.
    """

    residual: Array
    noise: Array
    extent: Array
    unexplained: Array


def screw_residual(t: ArrayLike, poses: ArrayLike, valid: ArrayLike | None = None) -> ScrewResidual:
    """Tell how predictable a track is; see `ScrewResidual`.

    On labels it says whether a screw is the right model, on estimates also how noisy they are.
    """
    _, t, _ = rebase(t, poses, valid)
    return _screw_residual(t, poses, valid)


@jax.jit
def _screw_residual(t, poses, valid) -> ScrewResidual:
    track = sorted_track(t, poses, valid)
    fit = _fit(track.t, track.poses, track.valid, None, robust="tukey", iterations=10)
    kept = fit.weights
    total = jnp.maximum(jnp.sum(kept, axis=0), 1e-6)
    square = jnp.sum(kept * fit.residuals**2, axis=0) / total / 3
    middle = local_medoids(track, fit.t0[None])[0]
    away = residual_lengths(pose_residual(track.poses, jnp.broadcast_to(middle, fit.poses.shape)))
    extent = jnp.sum(kept * away**2, axis=0) / total / 3
    noise = noise_scale(track)
    excess = jnp.maximum(square - noise**2, 0)
    unexplained = jnp.where(extent > 0, excess / jnp.where(extent > 0, extent, 1), 0)
    found = ScrewResidual(jnp.sqrt(square), noise, jnp.sqrt(extent), jnp.minimum(unexplained, 1))
    return refuse_unless(track.resolved, found)


def _start(track: Track, t0: Array, half: Array) -> tuple[Array, Array]:
    """(pose at t0, twist per `half`) from medians over pairs 1/32, 1/16, 1/8 and 1/4 apart.

    Wider pairs give finer twists, but only as long as they turn by clearly less than 180 degrees.
    """

    def widen(twist, divisor):
        lag = jnp.maximum(track.count // divisor, 1)
        other = jnp.arange(len(track.t)) + lag
        usable = other < track.count
        other = jnp.where(usable, other, 0)
        span = (track.t[other] - track.t) / half
        usable = usable & (span > 0)
        span = jnp.where(usable, span, 1)
        twists = se3_log(matmul(se3_inverse(track.poses), track.poses[other])) / span[:, None]
        turn = safe_norm(twist[3:]) * masked_quantile(span, usable, 0.5)
        found = masked_quantile(twists, usable, 0.5)
        return jnp.where((turn < 0.6 * jnp.pi) & jnp.any(usable), found, twist), None

    twist, _ = lax.scan(widen, jnp.zeros(6, track.t.dtype), jnp.array([32, 16, 8, 4]))
    # The poses of the middle, all carried to the middle.
    back = se3_exp((t0 - track.t)[:, None] / half * twist[None])
    carried = track._replace(poses=matmul(track.poses, back))
    return local_medoids(carried, t0[None], window=33)[0], twist


def _rounding(track: Track) -> Array:
    """Residuals (m, rad) that are no more than rounding, [2]."""
    eps = 4 * jnp.finfo(track.t.dtype).eps
    # Not the largest: one absurd place would make every residual pass for rounding.
    size = masked_quantile(jnp.max(jnp.abs(track.poses[:, :3, 3]), axis=1), track.valid, 0.5)
    return eps * jnp.stack([1 + size, jnp.ones_like(size)])


def _step(
    state: tuple[Array, Array],
    tau: Array,
    track: Track,
    sigma: Array,
    active: Array,
    kernel: Callable[[Array], Array],
) -> tuple[Array, Array]:
    """One reweighted Gauss-Newton step of (pose, twist)."""
    pose, twist = state

    def residual(delta, measured, time):
        moved = nudge(pose, delta[:6])
        return pose_residual(measured, matmul(moved, se3_exp(time * (twist + delta[6:]))))

    jacobian = jax.vmap(jax.jacfwd(residual), (None, 0, 0))(
        jnp.zeros(12, tau.dtype), track.poses, tau
    )
    now = jax.vmap(residual, (None, 0, 0))(jnp.zeros(12, tau.dtype), track.poses, tau)
    lengths = residual_lengths(now)
    scale = robust_scale(lengths / sigma, active, _rounding(track))
    weights = kernel(lengths / (sigma * scale[None]))
    weights = jnp.where(active[:, None], weights, 0) / (sigma * scale[None]) ** 2
    weighted = jacobian * spread(weights)[:, :, None]
    delta = damped_solve(
        einsum("mia,mib->ab", weighted, jacobian), -einsum("mia,mi->a", weighted, now)
    )
    return matmul(pose, se3_exp(delta[:6])), twist + delta[6:]


def damped_solve(matrix: Array, vector: Array) -> Array:
    """H^-1 g of a positive semi-definite H, zero in directions H does not see.

    H is scaled to unit diagonal and damped by 1e-6: of no effect on where an iteration ends.
    """
    diagonal = jnp.diagonal(matrix)
    size = jnp.where(diagonal > 0, jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1)), 1)
    eye = jnp.eye(len(vector), dtype=matrix.dtype)
    scaled = matrix / (size[:, None] * size[None, :]) + 1e-6 * eye
    return cho_solve(cho_factor(scaled), vector / size) / size
