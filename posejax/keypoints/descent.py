"""Levenberg-Marquardt on a pose, for any robust measure of where projections should be.

A pose moves by `pose @ se3_exp(step)`: a twist in body axes, translation first.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.geometry import einsum, matmul, se3_exp, skew

MIN_DEPTH = 1e-3  # metres, in units in which bodies have about one
_BEHIND = 1e3  # cost of a point behind the camera, in which no point in front comes near


class Pull(NamedTuple):
    """What is thought of P projections, by coordinates.

    Attributes:
      cost: [P].
      force: [2, P] minus the slope of the cost by (x, y).
      stiffness: [3, P] (xx, xy, yy) of a positive semi-definite stand-in for its second derivative.
      share: [P] how much of the point is believed, 0 to 1.
    """

    cost: Array
    force: Array
    stiffness: Array
    share: Array


Measure = Callable[[Array], Pull]
"""Of projections [2, P] in pixels. Rows of points are what a processor's vectors are made for."""


class Look(NamedTuple):
    """Cost, downhill slope [6] and normal matrix [6, 6] at a pose; belief in each point [P]."""

    cost: Array
    slope: Array
    normal: Array
    share: Array


def _projected(pose: Array, points: Array, k: Array) -> tuple[Array, Array, Array]:
    """Pixels [2, P], rays (x / z, y / z, 1 / z) [3, P], and which points are in front [P]."""
    px, py, pz = points.T
    x, y, z = (pose[i, 0] * px + pose[i, 1] * py + pose[i, 2] * pz + pose[i, 3] for i in range(3))
    front = z > MIN_DEPTH
    inverse = 1 / jnp.where(front, z, 1)
    x, y = x * inverse, y * inverse
    xy = jnp.stack([k[0, 0] * x + k[0, 1] * y + k[0, 2], k[1, 1] * y + k[1, 2]])
    return xy, jnp.stack([x, y, inverse]), front


def look(pose: Array, points: Array, intrinsics: Array, measure: Measure) -> Look:
    """The cost of a pose [4, 4] of points [P, 3], and its slopes by a step of the pose."""
    turn, k = pose[:3, :3], intrinsics
    xy, (x, y, inverse), front = _projected(pose, points, k)
    pull = measure(xy)
    inverse = jnp.where(front, inverse, 0)
    # The projection by the camera's axes, by the body's, and by a step: it moves a point by
    # R (v + w x X).
    right, down = k[0, 0] * inverse, k[1, 1] * inverse
    across, far = k[0, 1] * inverse, (k[0, 0] * x + k[0, 1] * y) * inverse
    px, py, pz = points.T
    rows = []
    for by in (
        [right * turn[0, i] + across * turn[1, i] - far * turn[2, i] for i in range(3)],
        [down * (turn[1, i] - y * turn[2, i]) for i in range(3)],
    ):
        a, b, c = by
        rows.append(jnp.stack([a, b, c, c * py - b * pz, a * pz - c * px, b * px - a * py]))
    u, v = rows
    xx, mixed, yy = (s[None] for s in pull.stiffness)
    slopes = jnp.concatenate(rows, axis=1)
    stiff = jnp.concatenate([xx * u + mixed * v, mixed * u + yy * v], axis=1)
    return Look(
        cost=jnp.sum(jnp.where(front, pull.cost, _BEHIND)),
        slope=einsum("ki,i->k", slopes, pull.force.reshape(-1)),
        normal=matmul(slopes, stiff.T),
        share=jnp.where(front, pull.share, 0),
    )


def solve_spd(matrix: Array, right: Array, damping: Array | float = 0.0) -> Array:
    """(A + damping diag(A))^-1 b for small A, scaled to unit diagonal; never singular.

    L D L^T, every number of it an array of its own: a batch of thousands is then a few hundred
    instructions on whole vectors, where small matrices side by side leave most of a vector empty
    (2,048 of 6x6 in 30 times the time), and a call of LAPACK takes microseconds for each. It costs
    a second of compilation.

    Args:
      matrix: [n, n] positive semi-definite; what lies above the diagonal is not read.
      right: [n] or [n, k].
    """
    size, least = len(matrix), 4 * jnp.finfo(matrix.dtype).eps
    diagonal = [matrix[i, i] for i in range(size)]
    scale = [lax.rsqrt(jnp.where(d > 0, d, 1)) for d in diagonal]
    lower: dict[tuple[int, int], Array] = {}
    pivots: list[Array] = []
    for i in range(size):
        row = [matrix[i, j] * scale[i] * scale[j] for j in range(i + 1)]  # becomes that of L D
        row[i] = row[i] * (1 + damping) + least
        for j in range(i):
            row[j] = row[j] - sum(row[k] * lower[j, k] for k in range(j))
            lower[i, j] = row[j] / pivots[j]
        pivot = row[i] - sum(row[k] * lower[i, k] for k in range(i))
        pivots.append(jnp.maximum(pivot, least))
    found = [right[i] * scale[i] for i in range(size)]
    for i in range(size):
        for k in range(i):
            found[i] = found[i] - lower[i, k] * found[k]
    found = [x / pivot for x, pivot in zip(found, pivots, strict=True)]
    for i in reversed(range(size)):
        for k in range(i + 1, size):
            found[i] = found[i] - lower[k, i] * found[k]
    return jnp.stack([x * s for x, s in zip(found, scale, strict=True)])


def _moved(pose: Array, step: Array) -> Array:
    """`pose @ se3_exp(step)` by sums: products of many 4x4 matrices are all calls, no work."""
    return jnp.sum(pose[:, :, None] * se3_exp(step)[None], axis=1)


def descend(
    pose: Array, points: Array, intrinsics: Array, measure: Measure, iterations: int
) -> tuple[Array, Look]:
    """The pose after a fixed number of trials, each taken if it lowers the cost, and its look."""

    def trial(_, state):
        pose, now, damping, candidate = state
        there = look(candidate, points, intrinsics, measure)
        better = there.cost < now.cost
        pose = jnp.where(better, candidate, pose)
        now = Look(*(jnp.where(better, new, old) for new, old in zip(there, now, strict=True)))
        damping = jnp.clip(jnp.where(better, damping / 8, damping * 8), 1e-6, 1e3)
        step = solve_spd(now.normal, now.slope, damping)
        turn = jnp.sqrt(jnp.sum(step[3:] ** 2))
        step = step / jnp.maximum(turn, 1)  # by a radian at most
        return pose, now, damping, _moved(pose, step)

    # The start is the first candidate, better than nothing: one look to compile.
    count, dtype = len(points), pose.dtype
    nothing = Look(*(jnp.zeros(n, dtype) for n in ((), 6, (6, 6), count)))
    nothing = nothing._replace(cost=jnp.asarray(jnp.inf, dtype))
    state = pose, nothing, jnp.asarray(8e-3, dtype), pose
    pose, now, *_ = lax.fori_loop(0, iterations + 1, trial, state)
    return pose, now


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def as_minimum(
    factory: Callable[[Any], Measure], pose: Array, points: Array, intrinsics: Array, data: Any
) -> Array:
    """The same pose, with the derivative of the minimum of `factory(data)` that it is.

    At a minimum the slope g of the cost vanishes whatever the data are: as they change, it moves by
    -H^-1 dg with the exact Hessian H (implicit function theorem). What the pose was found from has
    no part in it. Directions in which the cost does not curve upwards have derivative zero.

    Args:
      factory: a function of the module level; `data` a pytree of floats.
    """
    del factory, points, intrinsics, data
    return pose


@as_minimum.defjvp
def _moved_minimum(factory, given, changes):
    pose, *rest = given

    def cost(step, points, intrinsics, data):
        xy, *_, front = _projected(matmul(pose, se3_exp(step)), points, intrinsics)
        return jnp.sum(jnp.where(front, factory(data)(xy).cost, 0))

    zero = jnp.zeros(6, pose.dtype)
    hessian = jax.hessian(cost)(zero, *rest)
    _, change = jax.jvp(lambda *x: jax.grad(cost)(zero, *x), tuple(rest), tuple(changes[1:]))
    scale = lax.rsqrt(jnp.maximum(jnp.abs(jnp.diagonal(hessian)), 1e-12))
    values, vectors = jnp.linalg.eigh(hessian * scale[:, None] * scale[None])
    upward = values > 1e-6
    inverse = jnp.where(upward, 1 / jnp.where(upward, values, 1), 0)
    step = -scale * matmul(vectors, inverse * matmul(vectors.T, scale * change))
    twist = jnp.zeros((4, 4), pose.dtype).at[:3, :3].set(skew(step[3:])).at[:3, 3].set(step[:3])
    return pose, matmul(pose, twist)
