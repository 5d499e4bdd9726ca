"""Cubic B-splines on SE(3), fitted to noisy poses with a prior on the acceleration.

A segment between two knots blends four control poses C_0, ..., C_3,

    P(u) = C_0 exp(b_1(u) log(C_0^-1 C_1)) exp(b_2(u) log(C_1^-1 C_2)) exp(b_3(u) log(C_2^-1 C_3))

with the cumulative cubic basis b; the track has a continuous acceleration, and control poses of a
constant twist give exactly that screw motion.

Lovegrove et al., Spline Fusion, BMVC 2013; Sommer et al., Efficient Derivative Computation for
Cumulative B-Splines on Lie Groups, CVPR 2020.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum, matmul, se3_exp, se3_inverse, se3_log
from posejax.trajectory.banded import solve_windows
from posejax.trajectory.robust import (
    Kernel,
    kernel_weights,
    nudge,
    pose_residual,
    relative_weights,
    residual_lengths,
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


class SplineFit(NamedTuple):
    """A spline and how well the measurements obey it.

    Attributes:
      controls: [segments + 3, 4, 4] control poses, camera_from_body.
      start: s, the first knot, at the first usable measurement; NumPy's float64 from an eager
        call, so that Unix times keep their fractions.
      spacing: s between knots.
      poses: [M, 4, 4] at the times of the measurements (times that are not finite get `start`).
      residuals: [M, 2] (m, rad), zero where there is no measurement.
      weights: [M, 2] in [0, 1], the influence of position and rotation of each measurement.
    """

    controls: Array
    start: Array | np.ndarray
    spacing: Array
    poses: Array
    residuals: Array
    weights: Array


def spline_smooth(
    t: ArrayLike,
    poses: ArrayLike,
    valid: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    segments: int,
    drift: ArrayLike | tuple[float, float] = (0.02, 0.02),
    robust: Kernel = "tukey",
    iterations: int = 6,
) -> SplineFit:
    """Fit a spline to measured poses, passing over gross errors.

    Minimises the robust residuals over `sigma` plus the squared change of the body twist between
    control poses over what `drift` lets it change. With a small drift this is the screw fit, with a
    large one every segment follows its own measurements.

    Args:
      t: [M] s, in any order. Large times (Unix): see `rebase`.
      poses: [M, 4, 4] camera_from_body.
      valid: [M] False for padding and gaps; poses that are not finite count as such.
      sigma: [2] or [M, 2] standard deviations (m, rad) per axis of the measurements; by default
        estimated from their second differences, which misses errors that neighbours share.
      segments: number of equal pieces between the first and the last measurement: the duration
        over the time in which the acceleration changes, e.g. half a second.
      drift: (m/s, rad/s) by which each axis of the velocity wanders in one second (in T seconds:
        sqrt(T) times as much).
      robust: weight of a residual; "none" is least squares.
      iterations: of each of the two stages.

    Returns:
      The fit; the gradient runs through the second stage alone.

    Raises:
      ValueError: no segment, shapes do not fit, or the times are too coarse (see `rebase`).
    """
    if segments < 1:
        raise ValueError(f"a spline has at least one segment, got {segments}")
    origin, t, _ = rebase(t, poses, valid)
    settings = {"segments": int(segments), "robust": robust, "iterations": int(iterations)}
    fit = _fit(t, poses, valid, sigma, drift, **settings)
    return fit._replace(start=absolute(origin, fit.start))


@partial(jax.jit, static_argnames=("segments", "robust", "iterations"))
def _fit(
    t, poses, valid, sigma, drift, *, segments: int, robust: Kernel, iterations: int
) -> SplineFit:
    track = sorted_track(t, poses, valid, sigma)
    sigma = per_measurement(sigma, track, noise_scale(track))
    start, end = track.t[0], track.t[-1]
    spacing = jnp.where(end > start, (end - start) / segments, 1)
    # Change of the twist between neighbours; its increments over one spacing are metres and turns.
    allowed = as_float(drift).astype(sigma.dtype) * spacing**1.5
    first: Kernel = "none" if robust == "none" else "cauchy"
    knots = start + (jnp.arange(segments + 3) - 1) * spacing
    # In the first half every measurement keeps some weight, for the start may be wrong.
    controls, _ = lax.scan(
        lambda c, late: (
            _step(
                jnp.where(late == 0, lax.stop_gradient(c), c),
                *(start, spacing, track, sigma, allowed),
                lambda d: jnp.where(late < 0, kernel_weights(d, first), kernel_weights(d, robust)),
            ),
            None,
        ),
        lax.stop_gradient(local_medoids(track, knots)),
        jnp.arange(-iterations, iterations),
    )
    t = as_float(t).astype(sigma.dtype)
    fit = SplineFit(controls, start, spacing, track.poses, sigma, sigma)
    at = _poses(controls, spacing, jnp.where(jnp.isfinite(t), t, start) - start)
    residuals = residual_lengths(pose_residual(track.poses, at[track.order]))
    residuals = jnp.where(track.valid[:, None], residuals, 0)
    weights = relative_weights(residuals / sigma, track.valid, robust)
    result = fit._replace(
        poses=at,
        residuals=back_in_order(track, residuals),
        weights=back_in_order(track, weights),
    )
    return refuse_unless(track.resolved, result)


def spline_poses(fit: SplineFit, t: ArrayLike) -> Array:
    """camera_from_body at any times, [Q] s -> [Q, 4, 4]; constant twist beyond the ends."""
    return _poses(fit.controls, fit.spacing, since(t, fit.start))


@jax.jit
def _poses(controls: Array, spacing: Array, t: ArrayLike) -> Array:
    """Poses at times [Q] since the first knot."""
    controls, spacing = as_float(controls), as_float(spacing)
    t = as_float(t).astype(spacing.dtype)
    inside = jnp.clip(t, 0, (len(controls) - 3) * spacing)

    def one(time, beyond):
        at = lambda s: _evaluate(controls, spacing, s[None])[0]  # noqa: E731
        pose, slope = jax.jvp(at, (time,), (jnp.ones_like(time),))
        rate = matmul(se3_inverse(pose), slope)
        twist = jnp.stack([*rate[:3, 3], rate[2, 1], rate[0, 2], rate[1, 0]])
        return matmul(pose, se3_exp(beyond * twist))

    return jax.vmap(one)(inside, t - inside)


def _places(spacing: Array, t: Array, count: int) -> tuple[Array, Array]:
    """Segment of each time since the first knot and the place within it, [0, 1]."""
    u = t / spacing
    segment = jnp.clip(jnp.floor(u), 0, count - 4).astype(int)
    return segment, u - segment


def _increments(a: Array, b: Array) -> Array:
    return se3_log(matmul(se3_inverse(a), b))


def _blend(first: Array, steps: Array, u: Array) -> Array:
    """Pose at u [...] after a control pose [..., 4, 4] with three increments [..., 3, 6]."""
    basis = (5 + 3 * u - 3 * u**2 + u**3, 1 + 3 * u + 3 * u**2 - 2 * u**3, u**3)
    turns = se3_exp(jnp.stack(basis, axis=-1)[..., None] / 6 * steps)
    for k in range(3):
        first = matmul(first, turns[..., k, :, :])
    return first


def _evaluate(controls: Array, spacing: Array, t: Array) -> Array:
    segment, u = _places(spacing, t, len(controls))
    steps = _increments(controls[:-1], controls[1:])
    return _blend(controls[segment], steps[segment[:, None] + jnp.arange(3)[None]], u)


def _step(
    controls: Array,
    start: Array,
    spacing: Array,
    track: Track,
    sigma: Array,
    allowed: Array,
    kernel: Callable[[Array], Array],
) -> Array:
    """One reweighted Gauss-Newton step of all control poses."""
    count, dtype = len(controls), controls.dtype
    segment, u = _places(spacing, track.t - start, count)

    # Increments and their slopes by the motion of both control poses in body axes, once for all.
    def increment(delta, a, b):
        return _increments(nudge(a, delta[:6]), nudge(b, delta[6:]))

    pairs = controls[:-1], controls[1:]
    steps = _increments(*pairs)
    step_slopes = jax.vmap(jax.jacfwd(increment), (None, 0, 0))(jnp.zeros(12, dtype), *pairs)
    near = segment[:, None] + jnp.arange(3)[None]

    def miss(delta, first, steps, place, measured):
        moved = _blend(nudge(first, delta[:6]), steps + delta[6:].reshape(3, 6), place)
        return pose_residual(measured, moved)

    given = controls[segment], steps[near], u, track.poses
    now = jax.vmap(miss, (None, 0, 0, 0, 0))(jnp.zeros(24, dtype), *given)
    slope = jax.vmap(jax.jacfwd(miss), (None, 0, 0, 0, 0))(jnp.zeros(24, dtype), *given)
    own, by_step = slope[..., :6], slope[..., 6:].reshape(-1, 6, 3, 6)
    chained = einsum("miks,mksa->mika", by_step, step_slopes[near])
    slope = jnp.zeros_like(slope).at[..., :6].add(own)
    for k in range(3):
        slope = slope.at[..., 6 * k : 6 * k + 12].add(chained[:, :, k])

    weights = relative_weights(residual_lengths(now) / sigma, track.valid, kernel) / sigma**2
    weighted = slope * spread(weights)[:, :, None]
    terms = einsum("mia,mib->mab", weighted, slope), -einsum("mia,mi->ma", weighted, now)
    matrices, vectors = (jax.ops.segment_sum(x, segment, count) for x in terms)

    # The prior: second differences of the control poses, over what they are allowed.
    bend = steps[1:] - steps[:-1]
    slope = jnp.zeros((count - 2, 6, 18), dtype)
    slope = slope.at[..., :12].add(-step_slopes[:-1]).at[..., 6:].add(step_slopes[1:])
    weighted = slope / spread(allowed**2)[None, :, None]
    matrices = matrices.at[:-2, :18, :18].add(einsum("mia,mib->mab", weighted, slope))
    vectors = vectors.at[:-2, :18].add(-einsum("mia,mi->ma", weighted, bend))
    return matmul(controls, se3_exp(solve_windows(matrices, vectors, size=6)))
