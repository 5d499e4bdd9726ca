"""Where to start: all of SO(3) under weak perspective, scored by the heatmaps themselves.

Nothing tells the rotation beforehand, but given it the rest follows: the heatmaps' probability has
a centre, along whose ray the body's centre lies, and a spread, which over that of the turned body
gives the distance. Both are sums over all modes of all points and need no
decision between them. What is left is to look up how probable each projected point is.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from posejax.geometry import einsum, pixel_rays
from posejax.keypoints.peaks import Blocks, Peaks, box_sum

_FLOOR = 3e-3  # probability of a point being anywhere: its heatmap may be wrong
_LEAST = 1e-4  # smallest spread on the sky, in radians, and smallest body, in metres
_ROUNDS, _REACH = 3, 6.0  # of trimming: peaks beyond sqrt(6) spreads from the centre lose their say


class Sky(NamedTuple):
    """Where the body is in the sky, and how large.

    Attributes:
      turn: [3, 3] camera_from_aimed: the aimed frame's z axis points at the centre.
      spread: mean squared distance from it, squared radians.
      middle: [3] weighted mean of the points that are seen, body frame.
      moment: [3, 3] weighted second moment of the points about it.
    """

    turn: Array
    spread: Array
    middle: Array
    moment: Array


def survey(peaks: Peaks, points: Array, intrinsics: Array) -> Sky:
    """Centre and spread of the modes of heatmaps, those far out trimmed."""
    rays = pixel_rays(peaks.xy, intrinsics)
    x, y = rays[..., 0], rays[..., 1]
    weight = peaks.weight + 1e-9
    near = weight
    for _ in range(_ROUNDS):
        total = near.sum()
        across, down = jnp.sum(near * x) / total, jnp.sum(near * y) / total
        square = (x - across) ** 2 + (y - down) ** 2
        spread = jnp.sum(near * square) / total
        near = weight / (1 + (square / (_REACH * spread + _LEAST**2)) ** 2)
    turn = _turn_to(across, down)
    aimed = _aimed(turn, x, y)
    spread = jnp.sum(near * (aimed[0] ** 2 + aimed[1] ** 2)) / near.sum()
    each = near.sum(axis=1) / near.sum()
    middle = einsum("p,pi->i", each, points)
    off = points - middle[None]
    return Sky(turn, spread + _LEAST**2, middle, einsum("p,pi,pj->ij", each, off, off))


def _turn_to(x: Array, y: Array) -> Array:
    """[3, 3] the smallest turn from the z axis to the ray (x, y, 1)."""
    z = lax.rsqrt(1 + x**2 + y**2)
    x, y, share = x * z, y * z, 1 / (1 + z)
    rows = [1 - x * x * share, -x * y * share, x, -x * y * share, 1 - y * y * share, y, -x, -y, z]
    return jnp.stack(rows).reshape(3, 3)


def _aimed(turn: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Rays (x, y, 1) in the frame that `turn` aims, by coordinates: what vectors are made for."""
    u, v, w = (turn[0, i] * x + turn[1, i] * y + turn[2, i] for i in range(3))
    w = jnp.maximum(w, 1e-2)
    return u / w, v / w


def distances(sky: Sky, rotations: Array) -> Array:
    """Depth [G] at which the turned body looks as large as what is seen."""
    return jnp.sqrt((_across(sky.moment, rotations) + _LEAST**2) / sky.spread)


def _across(moment: Array, rotations: Array) -> Array:
    """Mean square [G] of the turned body's extent across the line of sight."""
    sight = rotations[:, 2]
    pairs = (sight[:, :, None] * sight[:, None]).reshape(-1, 9)
    return jnp.trace(moment) - einsum("gi,i->g", pairs, moment.reshape(9))


def moment_scores(sky: Sky, peaks: Peaks, points: Array, intrinsics: Array, rotations: Array):
    """How well [G] one position for each point agrees with a rotation under weak perspective.

    Of all scales s the best leaves sum |x - s R X|^2 = |x|^2 - <x, R X>^2 / |R X|^2, in which x
    comes in by its correlation with X alone: two small products instead of G times P projections.
    """
    rays = pixel_rays(peaks.xy[:, 0], intrinsics)
    aimed = jnp.stack(_aimed(sky.turn, rays[:, 0], rays[:, 1]))
    near = peaks.weight[:, 0] / (1 + (jnp.sum(aimed**2, axis=0) / (_REACH * sky.spread)) ** 2)
    both = einsum("ip,pj->ij", aimed * near[None], points - sky.middle[None])
    along = einsum("gi,i->g", rotations[:, :2].reshape(-1, 6), both.reshape(6))
    return along / jnp.sqrt(_across(sky.moment, rotations) + _LEAST**2)


def placed(sky: Sky, rotations: Array, depth: Array) -> Array:
    """Poses [G, 4, 4] of rotations in the aimed frame, at depths [G] along its axis."""
    turn = einsum("ij,gjk->gik", sky.turn, rotations)
    place = sky.turn[None, :, 2] * depth[:, None] - einsum("gij,j->gi", turn, sky.middle)
    top = jnp.concatenate([turn, place[..., None]], axis=-1)
    last = jnp.broadcast_to(jnp.array([0, 0, 0, 1], top.dtype), (len(turn), 1, 4))
    return jnp.concatenate([top, last], axis=1)


def log_maps(blocks: Blocks) -> Array:
    """Logarithm of a smoothed heatmap over blocks, with a border for all outside: [H+2, W+2, P].

    Smoothed by three blocks twice: a grid of some thousand rotations misses the truth by ten
    degrees, which at the end of a body that fills the view is a tenth of its size.
    """
    wide = box_sum(box_sum(blocks.probability)) / 9
    maps = jnp.log(jnp.pad(wide, ((1, 1), (1, 1), (0, 0))) + _FLOOR)
    return lax.optimization_barrier(maps)  # or each look-up smooths its own


def lookup_scores(
    maps: Array, sky: Sky, points: Array, intrinsics: Array, rotations: Array, depth: Array
) -> Array:
    """Mean log probability [G] of the projected points; `intrinsics` in blocks."""
    height, width, count = maps.shape
    body = einsum("gij,pj->gip", rotations, points)
    middle = einsum("gij,j->gi", rotations, sky.middle)
    x = body[:, 0] - middle[:, 0, None]
    y = body[:, 1] - middle[:, 1, None]
    z = body[:, 2] + (depth - middle[:, 2])[:, None]
    h = einsum("ij,jk->ik", intrinsics, sky.turn)
    u, v, w = (h[i, 0] * x + h[i, 1] * y + h[i, 2] * z for i in range(3))
    inverse = 1 / jnp.maximum(w, 1e-3 * depth[:, None])
    column = jnp.clip(u * inverse, -0.5, width - 1.5).astype(jnp.float32)
    row = jnp.clip(v * inverse, -0.5, height - 1.5).astype(jnp.float32)
    # Counted from the border; casting rounds towards zero.
    cell = (row + 1).astype(jnp.int32) * width + (column + 1).astype(jnp.int32)
    index = cell * count + jnp.arange(count)[None]
    return maps.reshape(-1)[index].mean(axis=1)


def distinct(score: Array, rotations: Array, count: int, apart: float) -> Array:
    """Indices [count] of the best rotations, each at least `apart` rad from all better ones.

    NaN is the worst score; where there are no more such rotations, the first is repeated.
    """
    flat, index = rotations.reshape(len(rotations), 9), jnp.arange(len(rotations))

    def choose(score, _):
        # argmax, which XLA's CPU compiler makes a loop of single numbers.
        best = jnp.min(jnp.where(score == jnp.max(score), index, len(index)))
        trace = einsum("gi,i->g", flat, flat[best])
        return jnp.where(trace > 1 + 2 * jnp.cos(apart), -jnp.inf, score), best

    return lax.scan(choose, jnp.where(jnp.isnan(score), -jnp.inf, score), length=count)[1]
