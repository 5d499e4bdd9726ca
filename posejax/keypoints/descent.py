"""Levenberg-Marquardt on a pose, for any robust measure of where projections should be.

A pose moves by `pose @ se3_exp(step)`: a twist in body axes, translation first.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from posejax.geometry import einsum, matmul, se3_exp

MIN_DEPTH = 1e-3  # metres, in units in which bodies have about one
_BEHIND = 1e3  # cost of a point behind the camera, in which no point in front comes near


class Pull(NamedTuple):
    """What is thought of P projections.

    Attributes:
      cost: [P].
      force: [P, 2] minus the slope of the cost (of half the squared error) by the projection.
      stiffness: [P, 2, 2] positive semi-definite stand-in for its second derivative.
      share: [P] how much of the point is believed, 0 to 1.
    """

    cost: Array
    force: Array
    stiffness: Array
    share: Array


Measure = Callable[[Array], Pull]
"""Of projections [P, 2] in pixels."""


class Look(NamedTuple):
    """Cost, downhill slope [6] and normal matrix [6, 6] at a pose; belief in each point [P]."""

    cost: Array
    slope: Array
    normal: Array
    share: Array


def look(pose: Array, points: Array, intrinsics: Array, measure: Measure) -> Look:
    """The cost of a pose [4, 4] of points [P, 3], and its slopes by a step of the pose."""
    turn, k = pose[:3, :3], intrinsics
    seen = einsum("pi,ji->pj", points, turn) + pose[:3, 3][None]
    front = seen[:, 2] > MIN_DEPTH
    x, y = seen[:, 0], seen[:, 1]
    inverse = 1 / jnp.where(front, seen[:, 2], 1)
    x, y, zero = x * inverse, y * inverse, jnp.zeros_like(x)
    xy = jnp.stack([k[0, 0] * x + k[0, 1] * y + k[0, 2], k[1, 1] * y + k[1, 2]], axis=-1)
    pull = measure(xy)
    # Projection by the camera frame, then by the step: R (v + w x X).
    by_seen = inverse[:, None] * jnp.stack(
        [k[0, 0] + zero, k[0, 1] + zero, -k[0, 0] * x - k[0, 1] * y, zero, k[1, 1] + zero,
         -k[1, 1] * y], axis=-1,
    )  # fmt: skip
    by_body = einsum("pij,jk->pik", by_seen.reshape(-1, 2, 3), turn)
    a, b, c = by_body[..., 0], by_body[..., 1], by_body[..., 2]
    px, py, pz = (points[:, None, i] for i in range(3))
    slopes = jnp.stack([a, b, c, c * py - b * pz, a * pz - c * px, b * px - a * py], axis=-1)
    slopes = jnp.where(front[:, None, None], slopes, 0)
    stiff = einsum("pij,pjk->pik", pull.stiffness, slopes)
    return Look(
        cost=jnp.sum(jnp.where(front, pull.cost, _BEHIND)),
        slope=einsum("pi,pik->k", pull.force, slopes),
        normal=einsum("pij,pik->jk", slopes, stiff),
        share=jnp.where(front, pull.share, 0),
    )


def solve_spd(matrix: Array, right: Array, damping: Array | float = 0.0) -> Array:
    """(A + damping diag(A))^-1 b for small A, scaled to unit diagonal; never singular.

    Written out entry by entry (L D L^T): a batch of thousands is a few vector instructions each,
    where a call of LAPACK takes microseconds for every one.

    Args:
      matrix: [n, n] positive semi-definite.
      right: [n] or [n, k].
    """
    size, dtype = len(matrix), matrix.dtype
    diagonal = jnp.diagonal(matrix)
    scale = jnp.where(diagonal > 0, lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1)), 0)
    scaled = matrix * scale[:, None] * scale[None]
    least = 4 * jnp.finfo(dtype).eps
    lower = [[jnp.zeros((), dtype)] * size for _ in range(size)]
    pivots = []
    for j in range(size):
        full = scaled[j, j] * (1 + damping) + least
        pivot = full - sum((lower[j][k] ** 2 * pivots[k] for k in range(j)), jnp.zeros((), dtype))
        pivots.append(jnp.maximum(pivot, least))
        for i in range(j + 1, size):
            rest = scaled[i, j] - sum(
                (lower[i][k] * lower[j][k] * pivots[k] for k in range(j)), jnp.zeros((), dtype)
            )
            lower[i][j] = rest / pivots[j]
    columns = (right if right.ndim > 1 else right[:, None]) * scale[:, None]
    rows = [columns[i] for i in range(size)]
    for i in range(size):
        for k in range(i):
            rows[i] = rows[i] - lower[i][k] * rows[k]
    rows = [row / pivot for row, pivot in zip(rows, pivots, strict=True)]
    for i in reversed(range(size)):
        for k in range(i + 1, size):
            rows[i] = rows[i] - lower[k][i] * rows[k]
    return (jnp.stack(rows) * scale[:, None]).reshape(right.shape)


def descend(
    pose: Array, points: Array, intrinsics: Array, measure: Measure, iterations: int
) -> tuple[Array, Look]:
    """The pose after a fixed number of trials, each taken if it lowers the cost, and its look."""
    start = look(pose, points, intrinsics, measure)

    def trial(_, state):
        pose, now, damping = state
        step = solve_spd(now.normal, now.slope, damping)
        turn = jnp.sqrt(jnp.sum(step[3:] ** 2))
        step = step / jnp.maximum(turn, 1)  # by a radian at most
        candidate = matmul(pose, se3_exp(step))
        there = look(candidate, points, intrinsics, measure)
        better = there.cost < now.cost
        pose = jnp.where(better, candidate, pose)
        now = Look(*(jnp.where(better, new, old) for new, old in zip(there, now, strict=True)))
        return pose, now, jnp.clip(jnp.where(better, damping / 8, damping * 8), 1e-6, 1e3)

    damping = jnp.asarray(1e-3, pose.dtype)
    pose, now, _ = lax.fori_loop(0, iterations, trial, (pose, start, damping))
    return pose, now
