"""Iterated Kalman filter and Rauch-Tung-Striebel smoother of a pose and its twist.

The state is camera_from_body P and the twist xi = (v, w) in body axes; it moves by
P exp(dt xi) while white noise acts on the acceleration. Without noise that is a screw motion. The
error state (12) is (log(P^-1 P_true), xi_true - xi) about a reference track. A pass linearises
motion and measurements there with exact derivatives and solves the chain; the next one starts from
its solution. That is Gauss-Newton in linear time: where it rests is the most probable track.

Barfoot, State Estimation for Robotics, 2nd edition, 2024, chapters 3, 4 and 11; Bell, The Iterated
Kalman Smoother as a Gauss-Newton Method, SIAM J. Optimization 1994.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum, matmul, se3_exp, se3_log
from posejax.trajectory.kalman import Chain, sandwich, smooth_chain, solve
from posejax.trajectory.robust import (
    Kernel,
    nudge,
    pose_residual,
    relative_weights,
    residual_lengths,
    spread,
)
from posejax.trajectory.track import (
    back_in_order,
    local_medoids,
    local_twists,
    noise_scale,
    per_measurement,
    rebase,
    refuse_unless,
    sorted_track,
)

# The first pose is known to a thousand standard deviations and a metre or a radian; as this is
# counted from the reference track itself, it pulls the last passes nowhere.
_UNKNOWN = 1e6, 1.0


class RtsTrack(NamedTuple):
    """A smoothed track.

    Attributes:
      poses: [Q, 4, 4] camera_from_body at `t_query`, or [M, 4, 4] at the measurements.
      twists: [Q, 6] = (v, w), m/s and rad/s in body axes.
      covariance: [Q, 6, 6] of the position (m) and the rotation (rad) in camera axes.
      residuals: [M, 2] (m, rad), zero where there is no measurement.
      weights: [M, 2] in [0, 1], the influence of position and rotation of each measurement.
    """

    poses: Array
    twists: Array
    covariance: Array
    residuals: Array
    weights: Array


def rts_smooth(
    t: ArrayLike,
    poses: ArrayLike,
    valid: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    covariance: ArrayLike | None = None,
    *,
    t_query: ArrayLike | None = None,
    drift: ArrayLike | tuple[float, float] = (0.02, 0.02),
    speed: ArrayLike | tuple[float, float] = (1.0, 1.0),
    robust: Kernel = "tukey",
    passes: int = 6,
) -> RtsTrack:
    """Smooth measured poses forwards and backwards, passing over gross errors.

    Finds the most probable track: the least sum of squared residuals over `sigma`, of the noise of
    the motion over `drift` and of the first twist over `speed`; of the first pose nothing is
    presumed. The first stage starts from local screws and leaves every measurement some weight;
    the second weights them by `robust`. Neighbours may be up to half a turn apart.

    Args:
      t: [M] s, in any order. Times of gaps are answered too; those of padding are brought to the
        nearest end. Large times (Unix): see `rebase`.
      poses: [M, 4, 4] camera_from_body.
      valid: [M] False for padding and gaps; poses that are not finite count as such.
      sigma: [2] or [M, 2] standard deviations (m, rad) per axis of the measurements; by default
        estimated from their second differences, which misses errors that neighbours share.
      covariance: [M, 6, 6] of each measurement (position, rotation) in camera axes, instead of
        `sigma`; measurements with one that is not finite or not positive definite are gaps.
      t_query: [Q] s, other times to answer, also beyond the ends: exact, as they take part as times
        without a measurement.
      drift: (m/s, rad/s) by which each axis of the velocity wanders in one second.
      speed: standard deviations (m/s, rad/s) of the velocity before the first measurement.
      robust: weight of a residual; "none" is the plain smoother.
      passes: number of smoothings in each of the two stages.

    Returns:
      The track; the gradient runs through the second stage alone.

    Raises:
      ValueError: shapes do not fit, or the times are too coarse (see `rebase`).
    """
    _, t, t_query = rebase(t, poses, valid, t_query)
    return _rts_smooth(
        t, poses, valid, sigma, covariance, t_query, drift, speed, robust=robust, passes=passes
    )


@partial(jax.jit, static_argnames=("robust", "passes"))
def _rts_smooth(
    t, poses, valid, sigma, covariance, t_query, drift, speed, *, robust: Kernel, passes: int
) -> RtsTrack:
    track = sorted_track(t, poses, valid, sigma, covariance)
    usable = back_in_order(track, track.valid)
    measured = back_in_order(track, track.poses)
    dtype, count = measured.dtype, len(measured)
    if covariance is None:
        scales = per_measurement(sigma, track, noise_scale(track))
        pair = back_in_order(track, scales)
        noise = jnp.eye(6, dtype=dtype)[None] * spread(pair**2)[:, None, :]
    else:
        eye = jnp.broadcast_to(jnp.eye(6, dtype=dtype), (count, 6, 6))
        noise = jnp.where(usable[:, None, None], as_float(covariance).astype(dtype), eye)
        entries = jnp.diagonal(noise, axis1=1, axis2=2)[track.order]
        scales = jnp.sqrt(jnp.mean(entries.reshape(-1, 2, 3), axis=-1))
    t = as_float(t).astype(dtype)
    t = jnp.where(usable, t, jnp.clip(jnp.nan_to_num(t), track.t[0], track.t[-1]))
    asked = jnp.zeros(0, dtype) if t_query is None else as_float(t_query).astype(dtype)
    extra = len(asked)
    times = jnp.concatenate([t, asked])
    order = jnp.argsort(times)
    pad = lambda x: jnp.concatenate([x, jnp.zeros((extra, *x.shape[1:]), x.dtype)])  # noqa: E731
    fill = lambda x, eye: pad(x).at[count:].set(eye)  # noqa: E731
    identity = jnp.eye(4, dtype=dtype), jnp.eye(6, dtype=dtype)
    rows = fill(measured, identity[0])[order], fill(noise, identity[1])[order], pad(usable)[order]
    steps = jnp.diff(times[order])
    drift = as_float(drift).astype(dtype)
    motion_noise = _motion_noise(steps, spread(drift**2))
    variances = jnp.where(rows[2][:, None], jnp.diagonal(rows[1], axis1=1, axis2=2), 0)
    largest = spread(jnp.max(variances.reshape(-1, 2, 3), axis=(0, 2)))
    moving = spread(as_float(speed).astype(dtype) ** 2)
    start = jnp.diag(jnp.concatenate([_UNKNOWN[0] * largest + _UNKNOWN[1], moving]))
    first: Kernel = "none" if robust == "none" else "cauchy"

    def again(state, late):
        poses, twists = (jnp.where(late == 0, lax.stop_gradient(x), x) for x in state[:2])
        weights = jnp.where(late < 0, _weights(poses, *rows, first), _weights(poses, *rows, robust))
        chain = _linearised(poses, twists, steps, motion_noise, *rows, weights)
        prior = jnp.concatenate([jnp.zeros(6, dtype), -twists[0]])
        delta, covariances = smooth_chain(chain, prior, start)
        found = matmul(poses, se3_exp(delta[:, :6])), twists + delta[:, 6:]
        return (*found, covariances[:, :6, :6]), None

    twists = local_twists(track, times[order], scales, drift)
    begin = local_medoids(track, times[order], twists), twists
    state = *lax.stop_gradient(begin), jnp.zeros((len(times), 6, 6), dtype)
    (found, twists, covariances), _ = lax.scan(again, state, jnp.arange(-passes, passes))
    turn = jnp.kron(jnp.eye(2, dtype=dtype)[None], found[:, :3, :3])
    covariances = sandwich(turn, covariances)
    place = jnp.argsort(order)
    found, twists, covariances = found[place], twists[place], covariances[place]
    residuals = residual_lengths(pose_residual(measured, found[:count]))
    given = slice(count, None) if t_query is not None else slice(0, count)
    result = RtsTrack(
        poses=found[given],
        twists=twists[given],
        covariance=covariances[given],
        residuals=jnp.where(usable[:, None], residuals, 0),
        weights=_weights(found[:count], measured, noise, usable, robust),
    )
    return refuse_unless(track.resolved, result)


def _weights(
    reference: Array, measured: Array, noise: Array, usable: Array, robust: Kernel
) -> Array:
    """Weights [N, 2] of measurements by their distance from reference poses."""
    residual = pose_residual(measured, reference)
    lengths = [
        jnp.sqrt(jnp.maximum(jnp.sum(part * solve(block, part), -1), jnp.finfo(part.dtype).tiny))
        for part, block in (
            (residual[:, :3], noise[:, :3, :3]),
            (residual[:, 3:], noise[:, 3:, 3:]),
        )
    ]
    return relative_weights(jnp.stack(lengths, axis=-1), usable, robust)


def _motion_noise(steps: Array, density: Array) -> Array:
    """Covariance of white acceleration over each step, [N-1] s and [6] -> [N-1, 12, 12]."""
    cube, square = steps**3 / 3, steps**2 / 2
    blocks = jnp.stack([jnp.stack([cube, square], -1), jnp.stack([square, steps], -1)], -2)
    return jnp.kron(blocks, jnp.diag(density)[None])


def _linearised(
    poses: Array,
    twists: Array,
    steps: Array,
    motion_noise: Array,
    measured: Array,
    noise: Array,
    usable: Array,
    weights: Array,
) -> Chain:
    """The chain of the error states about a reference track."""
    dtype = poses.dtype

    # Motion: what is left of the step between neighbours, and its slopes by both error states.
    def miss(delta, pose, twist, step, after):
        moved = matmul(nudge(pose, delta[:6]), se3_exp(step * (twist + delta[6:12])))
        return se3_log(_between(moved, nudge(after, delta[12:])))

    given = poses[:-1], twists[:-1], steps, poses[1:]
    zero = jnp.zeros(18, dtype)
    left = jax.vmap(miss, (None, 0, 0, 0, 0))(zero, *given)
    slope = jax.vmap(jax.jacfwd(miss), (None, 0, 0, 0, 0))(zero, *given)
    # left + by_after delta_after + by_before delta = noise, solved for delta_after.
    eye = jnp.broadcast_to(jnp.eye(12, dtype=dtype), (len(poses), 12, 12))
    right = jnp.concatenate([-slope[..., :12], -left[..., None], eye[1:, :6, :6]], axis=-1)
    solved = jnp.linalg.solve(slope[..., 12:], right)
    move = eye.at[1:, :6].set(solved[..., :12])
    jump = jnp.concatenate([solved[..., 12], twists[:-1] - twists[1:]], axis=-1)
    shaped = eye[1:].at[:, :6, :6].set(solved[..., 13:])
    added = jnp.zeros((len(poses), 12, 12), dtype).at[1:].set(sandwich(shaped, motion_noise))

    # Measurements, scaled by the roots of their weights: without weight they say nothing at all.
    def away(delta, pose, measurement):
        return -pose_residual(measurement, nudge(pose, delta))

    counts = spread(weights) > 0
    root = jnp.where(counts, jnp.sqrt(jnp.where(counts, spread(weights), 1)), 0)
    seen = jax.vmap(jax.jacfwd(away), (None, 0, 0))(jnp.zeros(6, dtype), poses, measured)
    residual = jnp.where(counts, pose_residual(measured, poses), 0)
    return Chain(
        move=move,
        offset=jnp.zeros((len(poses), 12), dtype).at[1:].set(jump),
        noise=added,
        seen=jnp.concatenate([root[..., None] * seen, jnp.zeros_like(seen)], axis=-1),
        measured=root * residual,
        spoiled=noise,
    )


def _between(a: Array, b: Array) -> Array:
    """a^-1 b of neighbours [4, 4]; far from the origin the difference of places keeps its digits.

    Rotations may be off by a `nudge`: to first order the transpose is still the inverse.
    """
    turn = a[:3, :3].T
    relative = b.at[:3, :3].set(matmul(turn, b[:3, :3]))
    return relative.at[:3, 3].set(einsum("ij,j->i", turn, b[:3, 3] - a[:3, 3]))
