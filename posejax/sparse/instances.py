"""Single things out of points that each say where the centre of their thing is."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float
from posejax.sparse.groups import gathered, make_groups
from posejax.sparse.keys import FARTHEST, take_or_zero
from posejax.sparse.rows import NONE, find_rows, unique_rows

_CUBE = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(27, 1, 3)
_LOOKED_AT = 16  # peaks for each thing wanted, of which those near a greater one go


class PointInstances(NamedTuple):
    """A fixed number K = min(count, N) of things, the most voted for first.

    Attributes:
      center: [K, 3] metres, the mean of the votes around the peak.
      score: [K] float32, the votes' weight there; zero where there is none.
      points: [K] int32, how many points belong to it.
      label: [N] int32, 1 + the row of a point's thing, or 0.
      left_out: [] int32, peaks that are near none of these and had no row, or that were not
        looked at; where it is zero, no thing is missing.
    """

    center: Array
    score: Array
    points: Array
    label: Array
    left_out: Array

    @property
    def valid(self) -> Array:
        """[K] bool, things that have a peak and a point."""
        return (self.score > 0) & (self.points > 0)


def decode_point_instances(
    votes: ArrayLike,
    valid: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    count: int = 64,
    cell: float = 0.1,
    radius: float = 0.3,
    least: float = 20.0,
) -> PointInstances:
    """Peaks among the centres that points vote for, and for every point the peak it votes for.

    Votes are counted in cubes; a peak is a cube around which, in 3 x 3 x 3 of them, more votes lie
    than around its neighbours. Of two peaks nearer than `radius` the greater stays.

    Args:
      votes: [N, 3] metres, where each point says that its thing's centre is: point + offset.
      valid: [N] bool, points that are on things.
      weight: [N] of each vote, 1 by default.
      count: how many things at most (static).
      cell: edge of a cube, metres.
      radius: a point belongs to the nearest peak, if it is nearer than this (metres).
      least: peaks of less weight are none.

    Returns:
      Instances. All sizes are fixed; there is no loop over things but the one that thins peaks. Of
      peaks the 16 K greatest are looked at.

    Raises:
      ValueError: shapes that do not fit.

    The votes are those of VoteNet (Qi et al., ICCV 2019), the assignment that of Panoptic-DeepLab.
    """
    votes = as_float(votes)
    weight = np.ones(len(votes), np.float32) if weight is None else weight
    weight, *numbers = (jnp.asarray(x, jnp.float32) for x in (weight, cell, radius, least))
    valid, size = jnp.asarray(valid, bool), len(votes)
    if (votes.shape, valid.shape, weight.shape) != ((size, 3), (size,), (size,)):
        found = f"{votes.shape}, {valid.shape}, {weight.shape}"
        raise ValueError(f"votes are [N, 3], valid and weight [N], got {found}")
    if not size:
        none = jnp.zeros(0, jnp.int32)
        return PointInstances(votes, jnp.zeros(0), none, none, jnp.zeros((), jnp.int32))
    return _decode(votes, valid, weight, *numbers, count=int(count))


@functools.partial(jax.jit, static_argnames="count")
def _decode(votes, valid, weight, cell, radius, least, count):
    size = len(votes)
    index = jnp.floor(votes / cell)
    there = valid & jnp.all(jnp.abs(index) < FARTHEST, axis=1)  # False for NaN
    coords = jnp.where(there[:, None], index, 0).astype(jnp.int32)
    cubes = unique_rows(jnp.where(there[:, None], coords, NONE))
    real = cubes[:, 0] != NONE
    groups = make_groups(jnp.where(there, find_rows(cubes, coords)[0], size), size)
    held = jnp.where(there, weight, 0)[:, None]
    voted = jnp.where(there[:, None], votes, 0) * held
    mass = gathered(jnp.concatenate([held, voted], axis=1), groups)

    near, hit = find_rows(cubes, jnp.where(real[:, None], cubes, 0)[None] + _CUBE)
    near = jnp.where(hit & real[None], near, size)
    total = jnp.sum(take_or_zero(mass, near), axis=0)
    density = total[:, 0]
    around, own = take_or_zero(density, near), jnp.arange(size)[None]
    # A plateau has one peak: the first of its cubes.
    lower = (around < density[None]) | ((around == density[None]) & (near >= own))
    peak = real & (density >= least) & jnp.all(lower | (near == size), axis=0)
    peaks = jnp.sum(peak & (density > 0), dtype=jnp.int32)
    score, at = lax.top_k(jnp.where(peak, density, 0), min(_LOOKED_AT * count, size))
    center = take_or_zero(total[:, 1:], at) / jnp.maximum(score, 1e-9)[:, None]
    rank = jnp.arange(len(score))

    def pick(left, _):
        best = jnp.argmax(left)
        near = (_squared(center, center[best][None])[:, 0] < jnp.square(radius)) | (rank == best)
        return jnp.where(near, 0, left), (left[best], center[best])

    left, (score, center) = lax.scan(pick, score, length=min(count, size))
    left_out = jnp.sum(left > 0, dtype=jnp.int32) + jnp.maximum(peaks - len(rank), 0)
    kept = score > 0
    center = jnp.where(kept[:, None], center, 0)

    far = jnp.where(kept[None], _squared(jnp.where(there[:, None], votes, 0), center), jnp.inf)
    nearest = jnp.argmin(far, axis=1)
    on = there & (jnp.min(far, axis=1) < jnp.square(radius))
    label = jnp.where(on, nearest + 1, 0).astype(jnp.int32)
    order = jnp.arange(1, len(score) + 1)
    points = jnp.sum(label[:, None] == order[None], axis=0, dtype=jnp.int32)
    return PointInstances(center, score, points, label, left_out)


def _squared(a: Array, b: Array) -> Array:
    """[N, K] squared distances of [N, 3] and [K, 3], without cancellation."""
    parts = ((a[:, None, k] - b[None, :, k]) ** 2 for k in range(3))
    return sum(parts, start=jnp.zeros(()))
