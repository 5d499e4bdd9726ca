"""Which of several poses at each time: the chain that moves like one body.

A single view may leave a few poses open, back to front for instance; over time only one of them
moves smoothly. The most probable chain is found by dynamic programming (Viterbi). A time at which
no pose fits is left out at a fixed price, and the chain goes on from the last pose it took to any
later one within reach: the motion across the gap is judged by the poses at its ends.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum, matmul, se3_exp, so3_log
from posejax.trajectory.track import local_twists, rebase, sorted_track

_NEVER = 1e9  # price of what must not be
_WINDOW = 31  # measurements that tell a velocity: of fewer, noise hides slow turns


def choose_hypotheses(
    pose: ArrayLike,
    log_weight: ArrayLike,
    times: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    position_sigma: float = 0.1,
    rotation_sigma: float = 0.1,
    drift: float = 0.02,
    turn_drift: float = 0.02,
    speed: tuple[float, float] = (0.3, 0.3),
    outlier: float = 10.0,
    reach: int = 32,
    passes: int = 2,
) -> Array:
    """Choose one of the poses at each time, or none.

    The first pass presumes rest, with a spread of the velocity of `speed`. Each later one takes the
    velocity that most neighbours obey in the chain before, and lets it wander by `drift`: across a
    gap of seconds a body may turn round, if that is how it was turning.

    Args:
      pose: [T, M, 4, 4] camera_from_body; what is not finite is never chosen.
      log_weight: [T, M] logarithms of probabilities; -inf for what is no hypothesis.
      times: [T] s, ascending; large times (Unix): see `rts_smooth`.
      valid: [T] False for padding and gaps.
      position_sigma: standard deviation (m) per axis of the position of a right pose.
      rotation_sigma: (rad) per axis of its rotation.
      drift: m/s by which each axis of the velocity wanders in one second.
      turn_drift: rad/s by which each axis of the turn rate wanders in one second.
      speed: standard deviations (m/s, rad/s) of the velocity in the first pass.
      outlier: nats that leaving out a time costs; a pose is left out where its weight and its place
        in the chain cost more.
      reach: longest gap that a chain crosses, in numbers of times.
      passes: at least one.

    Returns:
      [T] index of the chosen pose, -1 where none is. `rts_smooth` of the chosen poses, with
      `valid = chosen >= 0`, gives the track.

    Raises:
      ValueError: shapes do not fit, or the times are too coarse.
    """
    shape = np.shape(pose)
    if len(shape) != 4 or shape[2:] != (4, 4) or np.shape(log_weight) != shape[:2]:
        raise ValueError(
            f"hypotheses are poses [T, M, 4, 4] and weights [T, M], got {shape} and "
            f"{np.shape(log_weight)}; use jax.vmap for several sequences"
        )
    if np.shape(times) != shape[:1]:
        raise ValueError(f"times are [{shape[0]}], got {np.shape(times)}")
    _, times, _ = rebase(times, np.zeros(0), valid)
    valid = jnp.ones(shape[0], bool) if valid is None else jnp.asarray(valid, bool)
    sigma = jnp.array([position_sigma, rotation_sigma], jnp.float32)
    drifts = jnp.array([drift, turn_drift], jnp.float32)
    return _choose(
        pose, log_weight, times, valid, sigma, drifts, jnp.array(speed, jnp.float32),
        as_float(outlier), reach=min(int(reach), shape[0]), passes=int(passes),
    )  # fmt: skip


@partial(jax.jit, static_argnames=("reach", "passes"))
def _choose(
    pose, log_weight, times, valid, sigma, drifts, speed, outlier, *, reach: int, passes: int
) -> Array:
    pose, log_weight, times = as_float(pose), as_float(log_weight), as_float(times)
    usable = jnp.all(jnp.isfinite(pose), axis=(2, 3)) & jnp.isfinite(log_weight)
    usable = usable & (valid & jnp.isfinite(times))[:, None]
    eye = jnp.eye(4, dtype=pose.dtype)[None, None]
    pose = jnp.where(usable[..., None, None], pose, eye)
    price = jnp.where(usable, -log_weight, _NEVER)
    # Padding stays at the last time: nothing moves there.
    last = jnp.max(jnp.where(usable.any(axis=1), times, -jnp.inf))
    times = jnp.where(usable.any(axis=1), times, jnp.where(jnp.isfinite(last), last, 0))
    twists, unsure = jnp.zeros((len(pose), 6), pose.dtype), speed
    chosen = jnp.full(len(pose), -1)
    for number in range(max(passes, 1)):
        if number:
            best = jnp.take_along_axis(pose, jnp.maximum(chosen, 0)[:, None, None, None], 1)[:, 0]
            track = sorted_track(times, best, chosen >= 0)
            scales = jnp.broadcast_to(sigma[None], (len(pose), 2))
            twists = local_twists(track, times, scales, drifts, window=_WINDOW)
            # More than of a line through so many places.
            step = jnp.maximum((track.t[-1] - track.t[0]) / jnp.maximum(track.count - 1, 1), 1e-6)
            unsure = jnp.minimum(0.1 * sigma / step, speed)
        chosen = _chain(pose, price, times, twists, sigma, drifts, unsure, outlier, reach)
    return chosen


def _chain(
    pose: Array,
    price: Array,
    times: Array,
    twists: Array,
    sigma: Array,
    drifts: Array,
    unsure: Array,
    outlier: Array,
    reach: int,
) -> Array:
    """The cheapest chain: index of its pose at each time, -1 where it passes over one."""
    count, modes = price.shape
    front = lambda x, fill: jnp.concatenate([jnp.full((reach, *x.shape[1:]), fill, x.dtype), x])  # noqa: E731
    earlier_pose, earlier_time = front(pose, 0), front(times, 0)
    earlier_twist = front(twists, 0)
    skipped = outlier * jnp.arange(reach - 1, -1, -1, dtype=price.dtype)

    def forward(costs, k):
        before = [
            lax.dynamic_slice_in_dim(x, k, reach)
            for x in (costs, earlier_pose, earlier_time, earlier_twist)
        ]
        cost, origin, time, twist = before
        span = times[k] - time
        ahead = matmul(origin, se3_exp(span[:, None] * twist)[:, None])
        away = pose[k][None, None, :, :3, 3] - ahead[:, :, None, :3, 3]
        turn = so3_log(einsum("gaij,bkj->gabik", ahead[..., :3, :3], pose[k, :, :3, :3]))
        square = jnp.stack([jnp.sum(away**2, -1), jnp.sum(turn**2, -1)], axis=-1)
        wander = (span**2)[:, None] * unsure[None] ** 2
        wander = wander + jnp.abs(span**3)[:, None] / 3 * drifts[None] ** 2
        variance = (2 * sigma[None] ** 2 + wander)[:, None, None]
        joined = jnp.sum(square / variance, axis=-1) / 2 + cost[:, :, None]
        joined = (joined + skipped[:, None, None]).reshape(reach * modes, modes)
        joined = jnp.where(jnp.isfinite(joined), joined, _NEVER)
        start = outlier * k
        least = jnp.min(joined, axis=0)
        source = jnp.where(least < start, jnp.argmin(joined, axis=0), -1)
        now = price[k] + jnp.minimum(least, start)
        return lax.dynamic_update_slice_in_dim(costs, now[None], k + reach, 0), source

    costs = jnp.full((reach + count, modes), _NEVER, price.dtype)
    costs, sources = lax.scan(forward, costs, jnp.arange(count))
    ends = costs[reach:] + outlier * jnp.arange(count - 1, -1, -1, dtype=price.dtype)[:, None]
    best = jnp.argmin(ends)
    found = ends.reshape(-1)[best] < jnp.minimum(outlier * count, _NEVER)
    place = jnp.where(found, best // modes, -1), best % modes

    def backward(place, k):
        here = place[0] == k
        chosen = jnp.where(here, place[1], -1)
        source = sources[k, place[1]]
        time = jnp.where(source < 0, -1, k - reach + source // modes)
        place = jnp.where(here, time, place[0]), jnp.where(here, source % modes, place[1])
        return place, chosen

    _, chosen = lax.scan(backward, place, jnp.arange(count), reverse=True)
    return chosen
