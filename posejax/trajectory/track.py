"""A track of measured poses made fit for computing: sorted, padded, without NaN; local medoids and
twists.

Tracks have a fixed capacity M and a mask, so that sequences of different length go through one
`jax.vmap`. Times may be irregular and in any order.
"""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.typing import ArrayLike

from posejax.geometry import (
    as_float,
    einsum,
    interpolate_pose,
    matmul,
    rotation_angle,
    safe_norm,
    se3_exp,
    se3_inverse,
    se3_log,
)
from posejax.trajectory.robust import (
    masked_quantile,
    pose_residual,
    quartile_scale,
    residual_lengths,
)

Result = TypeVar("Result")

# Below a tenth of a millimetre, or of a milliradian, no camera measures; without a floor, exact
# poses would outweigh every motion prior.
NOISE_FLOOR = 1e-4
# Times too coarse to tell: digits worth more than 0.1 ms and more than a tenth of a mean step.
_COARSE, _SHARE = 1e-4, 0.1
# Entries of R^T R - I of what is no rotation.
_SKEWED = 0.05
# Pairs that propose a twist are so many measurements apart (none: rest); the wider ones are less
# noisy, but only as long as they turn by less than 180 degrees. Deviations end at `_FAR` sigma;
# a screw has to beat rest by `_CLEARLY` in the sum of their logarithms.
_LAGS, _FAR, _CLEARLY = (0, 1, 3), 1e4, 15.0


class Track(NamedTuple):
    """Measurements in time order, the usable ones first.

    Attributes:
      t: [M] s; entries past the usable ones repeat the last usable time.
      poses: [M, 4, 4]; entries past the usable ones are identities.
      valid: [M] the first `count` are True.
      order: [M] index in the input of each entry.
      count: scalar.
      resolved: False where the numbers of t are too coarse for its steps.
    """

    t: Array
    poses: Array
    valid: Array
    order: Array
    count: Array
    resolved: Array


def rebase(
    t: ArrayLike,
    poses: ArrayLike,
    valid: ArrayLike | None,
    t_query: ArrayLike | None = None,
) -> tuple[float, ArrayLike, ArrayLike | None]:
    """Count times from a whole second within the track: (that second, t, t_query).

    float32 numbers of Unix time are 128 s apart. In an eager call the start is taken off in
    float64, before JAX rounds; times that came rounded are refused. Within a `jax.jit`, `jax.vmap`
    or `jax.grad` of the times JAX has rounded already: take the start off before. Tracks whose
    steps rounding has swallowed come back as NaN there (`refuse_unless`).

    Raises:
      ValueError: the times are of a type too coarse for their steps.
    """
    if isinstance(t, Tracer) or isinstance(t_query, Tracer):
        return 0.0, t, t_query
    given = np.asarray(t)
    t = given.astype(np.float64)
    usable = np.isfinite(t)
    if valid is not None and not isinstance(valid, Tracer):
        usable = usable & np.asarray(valid, bool)
    if not isinstance(poses, Tracer) and np.ndim(poses) == t.ndim + 2:
        usable = usable & np.isfinite(np.asarray(poses)).all(axis=(-2, -1))
    if t.ndim != 1 or usable.shape != t.shape or not usable.any():
        return 0.0, t, t_query
    known = t[usable]
    if np.issubdtype(given.dtype, np.floating) or given.dtype == jnp.bfloat16:
        digit = float(jnp.finfo(given.dtype).eps) * np.abs(known).max()
        if len(known) > 1 and digit > max(_COARSE, _SHARE * np.ptp(known) / (len(known) - 1)):
            raise ValueError(
                f"times about {known[0]:.6g} s in {given.dtype} are {digit:.2g} s apart, "
                "too coarse: pass NumPy's float64, or count from the start of the track"
            )
    origin = float(np.floor(known.min()))
    return origin, t - origin, None if t_query is None else np.asarray(t_query, float) - origin


def since(t: ArrayLike, start: ArrayLike) -> ArrayLike:
    """t - start, in float64 on the host where both are numbers; NaN where float32 cannot tell."""
    if not isinstance(t, Tracer) and not isinstance(start, Tracer):
        return np.asarray(t, np.float64) - np.asarray(start, np.float64)
    start = as_float(start)
    digit = jnp.finfo(start.dtype).eps * jnp.abs(start)
    return as_float(t) - jnp.where(digit > 10 * _COARSE, jnp.nan, start)


def absolute(origin: float, t: Array) -> Array | np.ndarray:
    """A time found by a fit, on the clock of its input: NumPy's float64 in an eager call."""
    return t + origin if isinstance(t, Tracer) else origin + np.asarray(t, np.float64)


def refuse_unless(resolved: Array, result: Result) -> Result:
    """The result, or NaN for all of it."""
    return jax.tree.map(lambda x: jnp.where(resolved, x, jnp.nan), result)


def sorted_track(
    t: ArrayLike,
    poses: ArrayLike,
    valid: ArrayLike | None,
    sigma: ArrayLike | None = None,
    covariance: ArrayLike | None = None,
) -> Track:
    """Sort by time; what is masked or not finite goes to the end and out of every gradient.

    So does what no fit can use: a rotation that is none, a standard deviation per measurement or a
    covariance [M, 6, 6] that is not finite and positive (definite).
    """
    t, poses = as_float(t), as_float(poses)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or t.shape != poses.shape[:1]:
        raise ValueError(
            f"a track is times [M] and poses [M, 4, 4], got {t.shape} and {poses.shape}; "
            "use jax.vmap for several"
        )
    dtype = jnp.promote_types(t.dtype, poses.dtype)
    turns = poses[:, :3, :3]
    gram = einsum("mij,mik->mjk", turns, turns) - jnp.eye(3, dtype=poses.dtype)[None]
    usable = jnp.isfinite(t) & jnp.all(jnp.isfinite(poses), axis=(1, 2))
    usable = usable & jnp.all(jnp.abs(gram) < _SKEWED, axis=(1, 2))
    if valid is not None:
        usable = usable & jnp.asarray(valid, bool)
    if sigma is not None:
        sigma = as_float(sigma)
        if sigma.ndim == 2:
            usable = usable & jnp.all(jnp.isfinite(sigma) & (sigma > 0), axis=1)
    if covariance is not None:
        lower = jnp.linalg.cholesky(lax.stop_gradient(as_float(covariance)))
        usable = usable & jnp.all(jnp.isfinite(lower), axis=(1, 2))
    order = jnp.argsort(jnp.where(usable, t, jnp.inf))
    usable, count = usable[order], jnp.sum(usable)
    last = jnp.max(jnp.where(usable, t[order], -jnp.inf))
    t = jnp.where(usable, t[order], jnp.where(count > 0, last, 0)).astype(dtype)
    digit = jnp.finfo(dtype).eps * jnp.max(jnp.where(usable, jnp.abs(t), 0))
    mean_step = (t[-1] - t[0]) / jnp.maximum(count - 1, 1)
    resolved = (count < 2) | (digit <= jnp.maximum(_COARSE, _SHARE * mean_step))
    eye = jnp.broadcast_to(jnp.eye(4, dtype=dtype), poses.shape)
    poses = jnp.where(usable[:, None, None], poses[order].astype(dtype), eye)
    return Track(t, poses, usable, order, count, resolved)


def back_in_order(track: Track, values: Array) -> Array:
    """Values [M, ...] of a sorted track in the order of its input."""
    return jnp.zeros_like(values).at[track.order].set(values)


def per_measurement(pair: ArrayLike | None, track: Track, default: Array) -> Array:
    """Standard deviations given as None, [2] or [M, 2] for the sorted track, [M, 2]."""
    if pair is None:
        return jnp.broadcast_to(default.reshape(1, 2), (*track.t.shape, 2))
    pair = as_float(pair).astype(track.t.dtype)
    if pair.shape == (2,):
        return jnp.broadcast_to(pair.reshape(1, 2), (*track.t.shape, 2))
    if pair.shape != (*track.t.shape, 2):
        raise ValueError(f"sigma is [2] or [{len(track.t)}, 2] (m, rad), got {pair.shape}")
    return jnp.where(track.valid[:, None], pair[track.order], 1)


def local_medoids(
    track: Track, query: Array, twists: Array | None = None, *, window: int = 11
) -> Array:
    """Most central of the `window` measurements around each time: a start no outlier reaches.

    Position and attitude are each taken from the neighbour with the least sum of distances to the
    others, so that errors that do not agree with one another are passed over even in the majority.

    Args:
      track: the measurements.
      query: [Q] s.
      twists: [Q, 6] by which each neighbour is first carried to the time asked for; by default
        they stay where they are, which is right if the window turns and moves little.
      window: number of neighbours.

    Returns:
      [Q, 4, 4].
    """
    # Distances end at a hundred usual steps: beside 1e20 m the others would all be the same.
    apart = safe_norm(track.poses[1:, :3, 3] - track.poses[:-1, :3, 3])
    most = 100 * jnp.maximum(masked_quantile(apart, track.valid[1:], 0.5), NOISE_FLOOR)
    index, usable = _neighbours(track, query, window)
    around = track.poses[index]
    if twists is not None:
        ahead = query[:, None] - track.t[index]
        around = matmul(around, se3_exp(ahead[..., None] * twists[:, None, :]))

    def one(poses, usable):
        away = jnp.minimum(safe_norm(poses[:, None, :3, 3] - poses[None, :, :3, 3]), most)
        turned = rotation_angle(poses[:, None, :3, :3], poses[None, :, :3, :3])
        both = usable[:, None] & usable[None, :]
        sums = [jnp.sum(jnp.where(both, d, 0), axis=1) for d in (away, turned)]
        place, turn = (jnp.argmin(jnp.where(usable, s, jnp.inf)) for s in sums)
        return poses[turn].at[:3, 3].set(poses[place, :3, 3])

    return jax.vmap(one)(around, usable)


def local_twists(
    track: Track, query: Array, sigma: Array, drift: Array, *, window: int = 11
) -> Array:
    """Twist that most of the `window` measurements around each time obey, (v, w) in body axes.

    Candidates are rest and the screws between pairs of neighbours. Each starts at the first pose of
    its pair and is held against the whole window, across gaps too: two poses do not tell half a
    turn forwards from half a turn backwards, nor one turn from two, but the others do. Deviations
    count by their logarithm, so that gross errors have little say.

    Args:
      track: the measurements.
      query: [Q] s.
      sigma: [M, 2] standard deviations (m, rad) of the measurements of the track.
      drift: [2] by which the velocity wanders in one second.
      window: number of neighbours.

    Returns:
      [Q, 6].
    """
    index, usable = _neighbours(track, query, window)
    width = index.shape[1]
    pairs = np.array([(k, k + lag) for lag in _LAGS for k in range(width - lag)])

    def one(index, usable):
        poses, t, near = track.poses[index], track.t[index], sigma[index]
        first, second = pairs.T
        span = t[second] - t[first]
        known = usable[first] & usable[second]
        motion = matmul(se3_inverse(poses[first]), poses[second])
        apart = jnp.where(span > 0, span, 1)[:, None]
        twists = jnp.where((span > 0)[:, None], se3_log(motion) / apart, 0)
        ahead = t[None, :] - t[first][:, None]
        model = matmul(poses[first][:, None], se3_exp(ahead[..., None] * twists[:, None, :]))
        away = safe_norm(model[..., :3, 3] - poses[None, :, :3, 3])
        turned = rotation_angle(model[..., :3, :3], poses[None, :, :3, :3])
        wander = jnp.abs(ahead[..., None]) ** 3 / 3 * (drift**2)[None, None, :]
        relative = jnp.stack([away, turned], -1) / jnp.sqrt(near[None] ** 2 + wander)
        cost = jnp.sum(jnp.log1p(jnp.minimum(relative, _FAR) ** 2), axis=-1)
        cost = jnp.sum(jnp.where(usable[None, :], cost, 0), axis=1)
        # Noise alone favours one screw of many: it must be clearly better than rest.
        cost = jnp.where(second == first, cost - _CLEARLY, cost)
        return twists[jnp.argmin(jnp.where(known, cost, jnp.inf))]

    return jax.vmap(one)(index, usable)


def _neighbours(track: Track, query: Array, window: int) -> tuple[Array, Array]:
    """Indices [Q, window] of the measurements around each time, and which of them exist."""
    window = min(window, len(track.t))
    start = jnp.searchsorted(jnp.where(track.valid, track.t, jnp.inf), query) - window // 2
    start = jnp.clip(start, 0, jnp.maximum(track.count - window, 0))
    index = start[:, None] + jnp.arange(window)[None]
    return index, index < track.count


def noise_scale(track: Track) -> Array:
    """Standard deviations per axis of the measurements, [2], from their second differences.

    Each pose is compared with the screw motion between its neighbours in time. The lower quartile
    of the differences is read, because one gross error spoils three of them: at 30 % of them the
    result is at most 1.8 times too large. Slow errors, shared by neighbours, do not show in it.
    """
    before, at, after = track.poses[:-2], track.poses[1:-1], track.poses[2:]
    span = track.t[2:] - track.t[:-2]
    usable = track.valid[2:] & (span > 0)
    alpha = (track.t[1:-1] - track.t[:-2]) / jnp.where(usable, span, 1)
    between = jax.vmap(interpolate_pose)(before, after, alpha)
    lengths = residual_lengths(pose_residual(at, between))
    inflation = jnp.sqrt(1 + alpha**2 + (1 - alpha) ** 2)
    floor = jnp.full(2, NOISE_FLOOR, lengths.dtype)
    return quartile_scale(lengths / inflation[:, None], usable, floor)
