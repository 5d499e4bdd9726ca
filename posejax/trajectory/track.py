"""A track of measured poses made fit for computing: sorted, padded, without NaN; local medoids.

Tracks have a fixed capacity M and a mask, so that sequences of different length go through one
`jax.vmap`. Times may be irregular and in any order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import as_float, interpolate_pose, rotation_angle, safe_norm
from posejax.trajectory.robust import pose_residual, quartile_scale, residual_lengths

# Below a tenth of a millimetre, or of a milliradian, no camera measures; without a floor, exact
# poses would outweigh every motion prior.
NOISE_FLOOR = 1e-4


class Track(NamedTuple):
    """Measurements in time order, the usable ones first.

    Attributes:
      t: [M] s; entries past the usable ones repeat the last usable time.
      poses: [M, 4, 4]; entries past the usable ones are identities.
      valid: [M] the first `count` are True.
      order: [M] index in the input of each entry.
      count: scalar.
    """

    t: Array
    poses: Array
    valid: Array
    order: Array
    count: Array


def sorted_track(t: ArrayLike, poses: ArrayLike, valid: ArrayLike | None) -> Track:
    """Sort by time; what is masked or not finite goes to the end and out of every gradient."""
    t, poses = as_float(t), as_float(poses)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or t.shape != poses.shape[:1]:
        raise ValueError(
            f"a track is times [M] and poses [M, 4, 4], got {t.shape} and {poses.shape}; "
            "use jax.vmap for several"
        )
    dtype = jnp.promote_types(t.dtype, poses.dtype)
    usable = jnp.isfinite(t) & jnp.all(jnp.isfinite(poses), axis=(1, 2))
    if valid is not None:
        usable = usable & jnp.asarray(valid, bool)
    order = jnp.argsort(jnp.where(usable, t, jnp.inf))
    usable, count = usable[order], jnp.sum(usable)
    last = jnp.max(jnp.where(usable, t[order], -jnp.inf))
    t = jnp.where(usable, t[order], jnp.where(count > 0, last, 0)).astype(dtype)
    eye = jnp.broadcast_to(jnp.eye(4, dtype=dtype), poses.shape)
    poses = jnp.where(usable[:, None, None], poses[order].astype(dtype), eye)
    return Track(t, poses, usable, order, count)


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
    usable = track.valid[:, None] & jnp.isfinite(pair[track.order]) & (pair[track.order] > 0)
    return jnp.where(usable, pair[track.order], 1)


def local_medoids(track: Track, query: Array, *, window: int = 11) -> Array:
    """Most central of the `window` measurements around each time: a start no outlier reaches.

    Position and attitude are each taken from the neighbour with the least sum of distances to the
    others, so that errors that do not agree with one another are passed over even in the majority.

    Args:
      track: the measurements.
      query: [Q] s.
      window: number of neighbours.

    Returns:
      [Q, 4, 4].
    """
    window = min(window, len(track.t))
    places = jnp.where(track.valid, track.t, jnp.inf)

    def one(time):
        start = jnp.searchsorted(places, time) - window // 2
        start = jnp.clip(start, 0, jnp.maximum(track.count - window, 0))
        index = start + jnp.arange(window)
        poses, usable = track.poses[index], index < track.count
        away = safe_norm(poses[:, None, :3, 3] - poses[None, :, :3, 3])
        turned = rotation_angle(poses[:, None, :3, :3], poses[None, :, :3, :3])
        both = usable[:, None] & usable[None, :]
        sums = [jnp.sum(jnp.where(both, d, 0), axis=1) for d in (away, turned)]
        place, turn = (jnp.argmin(jnp.where(usable, s, jnp.inf)) for s in sums)
        return poses[turn].at[:3, 3].set(poses[place, :3, 3])

    return jax.vmap(one)(query)


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
