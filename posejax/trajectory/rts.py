"""Kalman filter and Rauch-Tung-Striebel smoother of a pose and its twist, each one `lax.scan`.

The state is camera_from_body P and the twist xi = (v, w) in body axes; it moves by
P exp(dt xi) while white noise acts on the acceleration. Without noise that is a screw motion. The
error state (12) is (log(P^-1 P_true), xi_true - xi); both linearisations are exact derivatives.

Barfoot, State Estimation for Robotics, 2nd edition, 2024, chapters 3 and 8.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import cho_factor, cho_solve
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum, matmul, se3_exp, se3_inverse, se3_log
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
    noise_scale,
    per_measurement,
    sorted_track,
)

# A measurement of weight zero still counts with a millionth of its information.
_LEAST_WEIGHT = 1e-6


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
    drift: tuple[float, float] = (0.02, 0.02),
    speed: tuple[float, float] = (1.0, 1.0),
    robust: Kernel = "tukey",
    passes: int = 3,
) -> RtsTrack:
    """Smooth measured poses forwards and backwards, passing over gross errors.

    The first pass weights the measurements by their distance from the local medoid, each further
    one by their distance from the track of the one before.

    Args:
      t: [M] s, in any order. Times of gaps are answered too; those of padding are brought to the
        nearest end.
      poses: [M, 4, 4] camera_from_body.
      valid: [M] False for padding and gaps; poses that are not finite count as such.
      sigma: [2] or [M, 2] standard deviations (m, rad) per axis of the measurements; by default
        estimated from their second differences, which misses errors that neighbours share.
      covariance: [M, 6, 6] of each measurement (position, rotation) in camera axes, instead of
        `sigma`.
      t_query: [Q] s, other times to answer, also beyond the ends: exact, as they take part as times
        without a measurement.
      drift: (m/s, rad/s) by which each axis of the velocity wanders in one second.
      speed: standard deviations (m/s, rad/s) of the velocity before the first measurement.
      robust: weight of a residual; "none" is the plain smoother.
      passes: number of smoothings.
    """
    track = sorted_track(t, poses, valid)
    usable = back_in_order(track, track.valid)
    measured = back_in_order(track, track.poses)
    dtype, count = measured.dtype, len(measured)
    if covariance is None:
        pair = back_in_order(track, per_measurement(sigma, track, noise_scale(track)))
        noise = jnp.eye(6, dtype=dtype)[None] * spread(pair**2)[:, None, :]
    else:
        eye = jnp.broadcast_to(jnp.eye(6, dtype=dtype), (count, 6, 6))
        noise = jnp.where(usable[:, None, None], as_float(covariance).astype(dtype), eye)
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
    steps = jnp.diff(times[order], prepend=times[order][:1])
    first = local_medoids(track, times[order][:1])[0]
    wander, moving = jnp.asarray(drift, dtype) ** 2, spread(jnp.asarray(speed, dtype) ** 2)
    # The first pose comes from the measurements and must not count twice: known to ten standard
    # deviations and a second of motion.
    variances = jnp.where(rows[2][:, None], jnp.diagonal(rows[1], axis1=1, axis2=2), 0)
    largest = spread(jnp.max(variances.reshape(-1, 2, 3), axis=(0, 2)))
    start = jnp.diag(jnp.concatenate([100 * largest + moving, moving]))

    def again(state, _):
        weights = _weights(state[0], *rows, robust)
        return _smooth(steps, *rows, weights, (first, jnp.zeros(6, dtype), start), wander), None

    state = (
        local_medoids(track, times[order]),
        jnp.zeros((len(times), 6), dtype),
        jnp.zeros((len(times), 6, 6), dtype),
    )
    (found, twists, covariances), _ = lax.scan(again, state, length=passes)
    place = jnp.argsort(order)
    found, twists, covariances = found[place], twists[place], covariances[place]
    residuals = residual_lengths(pose_residual(measured, found[:count]))
    given = slice(count, None) if t_query is not None else slice(0, count)
    return RtsTrack(
        poses=found[given],
        twists=twists[given],
        covariance=covariances[given],
        residuals=jnp.where(usable[:, None], residuals, 0),
        weights=_weights(found[:count], measured, noise, usable, robust),
    )


def _weights(
    reference: Array, measured: Array, noise: Array, usable: Array, robust: Kernel
) -> Array:
    """Weights [N, 2] of measurements by their distance from reference poses."""
    residual = pose_residual(measured, reference)
    lengths = [
        jnp.sqrt(jnp.maximum(jnp.sum(part * _solve(block, part), -1), jnp.finfo(part.dtype).tiny))
        for part, block in (
            (residual[:, :3], noise[:, :3, :3]),
            (residual[:, 3:], noise[:, 3:, 3:]),
        )
    ]
    return relative_weights(jnp.stack(lengths, axis=-1), usable, robust)


def _solve(matrix: Array, right: Array) -> Array:
    """matrix^-1 right of a covariance [..., n, n] in mixed units, right [..., n] or [..., n, k].

    Scaled to unit diagonal and damped by a few rounding errors, so that float32 serves.
    """
    columns = right.reshape(*matrix.shape[:-1], -1)
    entries = jnp.maximum(jnp.diagonal(matrix, axis1=-2, axis2=-1), jnp.finfo(matrix.dtype).tiny)
    scale = 1 / jnp.sqrt(entries)
    eye = jnp.eye(matrix.shape[-1], dtype=matrix.dtype).reshape(
        (1,) * (matrix.ndim - 2) + matrix.shape[-2:]
    )
    scaled = (
        matrix * scale[..., :, None] * scale[..., None, :] + 8 * jnp.finfo(matrix.dtype).eps * eye
    )
    found = scale[..., None] * cho_solve(cho_factor(scaled), scale[..., None] * columns)
    return found.reshape(right.shape)


def _transition(twist: Array, step: Array) -> Array:
    """How the error state moves with the motion, [12, 12]."""
    motion = se3_exp(step * twist)

    def error(delta):
        after = matmul(
            nudge(jnp.eye(4, dtype=twist.dtype), delta[:6]), se3_exp(step * (twist + delta[6:]))
        )
        moved = matmul(se3_inverse(motion), after)
        # The logarithm, to first order about the identity.
        turn = jnp.stack(
            [moved[2, 1] - moved[1, 2], moved[0, 2] - moved[2, 0], moved[1, 0] - moved[0, 1]]
        )
        return jnp.concatenate([moved[:3, 3], turn / 2, delta[6:]])

    return jax.jacfwd(error)(jnp.zeros(12, twist.dtype))


def _smooth(
    steps: Array,
    measured: Array,
    noise: Array,
    usable: Array,
    weights: Array,
    start: tuple[Array, Array, Array],
    wander: Array,
) -> tuple[Array, Array, Array]:
    """One pass forwards and backwards: poses, twists and pose covariances in camera axes."""
    density = jnp.diag(spread(wander))
    eye = jnp.eye(12, dtype=steps.dtype)

    def filtered(state, row):
        pose, twist, covariance = state
        step, measurement, spoiled, known, weight = row
        move = _transition(twist, step)
        added = jnp.block(
            [
                [step**3 / 3 * density, step**2 / 2 * density],
                [step**2 / 2 * density, step * density],
            ]
        )
        pose = matmul(pose, se3_exp(step * twist))
        covariance = _symmetric(einsum("ij,jk,lk->il", move, covariance, move) + added)
        predicted = pose, twist, covariance

        miss = lambda delta: pose_residual(measurement, nudge(pose, delta))  # noqa: E731
        zero = jnp.zeros(6, steps.dtype)
        residual, seen = miss(zero), -jax.jacfwd(miss)(zero)
        seen = jnp.concatenate([seen, jnp.zeros_like(seen)], axis=1)
        inflation = 1 / jnp.sqrt(jnp.maximum(spread(weight), _LEAST_WEIGHT))
        spoiled = spoiled * inflation[:, None] * inflation[None, :]
        cross = einsum("ij,kj->ik", covariance, seen)
        gain = _solve(_symmetric(matmul(seen, cross) + spoiled), cross.T).T
        gain = jnp.where(known, gain, 0)
        delta = einsum("ij,j->i", gain, residual)
        kept = eye - matmul(gain, seen)
        covariance = _symmetric(
            einsum("ij,jk,lk->il", kept, covariance, kept)
            + einsum("ij,jk,lk->il", gain, spoiled, gain)
        )
        state = matmul(pose, se3_exp(delta[:6])), twist + delta[6:], covariance
        return state, (*state, predicted, move)

    _, (poses, twists, covariances, predicted, moves) = lax.scan(
        filtered, start, (steps, measured, noise, usable, weights)
    )

    def smoothed(later, row):
        pose, twist, covariance, (pose_after, twist_after, covariance_after), move = row
        gain = _solve(covariance_after, matmul(move, covariance)).T
        error = jnp.concatenate(
            [se3_log(matmul(se3_inverse(pose_after), later[0])), later[1] - twist_after]
        )
        delta = einsum("ij,j->i", gain, error)
        change = einsum("ij,jk,lk->il", gain, later[2] - covariance_after, gain)
        state = (
            matmul(pose, se3_exp(delta[:6])),
            twist + delta[6:],
            _symmetric(covariance + change),
        )
        return state, state

    last = poses[-1], twists[-1], covariances[-1]
    shifted = jax.tree.map(lambda x: x[1:], (predicted, moves))
    before = poses[:-1], twists[:-1], covariances[:-1]
    _, earlier = lax.scan(smoothed, last, (*before, *shifted), reverse=True)
    poses, twists, covariances = (
        jnp.concatenate([x, y[None]]) for x, y in zip(earlier, last, strict=True)
    )
    turn = jnp.kron(jnp.eye(2, dtype=steps.dtype)[None], poses[:, :3, :3])
    covariances = einsum("nij,njk,nlk->nil", turn, covariances[:, :6, :6], turn)
    return poses, twists, covariances


def _symmetric(matrix: Array) -> Array:
    return (matrix + matrix.T) / 2
