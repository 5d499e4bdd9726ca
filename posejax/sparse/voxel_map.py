"""A map of voxels that frames are merged into, one after the other: static shapes, bounded memory.

    world = empty_map(values, voxel_size=0.05, capacity=65536)
    world = merge_frame(world, points, values, valid, time)     # values: any tree of [N, ...]
    found = query_map(world, points)

A map is a pytree of arrays of constant size. Its voxels are rows in lexicographic order, found by
binary search; new ones are merged in by reads alone. Nothing is scattered and no box bounds the
map: coordinates are compared as three integers each.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float
from posejax.sparse.groups import gathered, make_groups
from posejax.sparse.keys import FARTHEST, compact, lower_bound, running_count, take, take_or_zero
from posejax.sparse.rows import NONE, find_rows, unique_rows
from posejax.sparse.voxelize import voxel_index


class VoxelMap(NamedTuple):
    """Voxels with running means; made by `empty_map`.

    Points are metres from the map's own zero, the low corner of the voxel `origin` of the world: a
    world far away keeps all digits if the caller subtracts `corner` in float64 first.

    Attributes:
      coords: [capacity, 3] int32 voxels from the origin, in lexicographic order; `NONE` in rows
        without voxel, which are the last.
      values: tree of [capacity, ...] float32, weighted means of what was merged; zero in rows
        without voxel.
      weight: [capacity] float32, the sum of weights as it was at `seen`.
      seen: [capacity] float32, when a voxel was merged last.
      evicted: [] int32, voxels so far that went for want of room.
      dropped: [] int32, points so far that had no place: not finite, or farther than 2^23 voxels
        from the origin.
      origin: [3] int32, voxel of the world that is the map's voxel 0.
      voxel_size: [2] float32, whose sum is the voxels' edge in metres.
    """

    coords: Array
    values: Any
    weight: Array
    seen: Array
    evicted: Array
    dropped: Array
    origin: Array
    voxel_size: Array

    @property
    def capacity(self) -> int:
        return self.coords.shape[0]

    @property
    def mask(self) -> Array:
        """[capacity] bool: rows that hold a voxel."""
        return self.coords[:, 0] != NONE

    @property
    def voxels(self) -> Array:
        """How many there are, int32."""
        return jnp.sum(self.mask, dtype=jnp.int32)

    @property
    def overflow(self) -> Array:
        """Whether voxels were ever evicted for want of room."""
        return self.evicted > 0

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, the same for the map's whole life."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tuple(self)))


class MapReading(NamedTuple):
    """What a map holds at N points; zero where it holds nothing.

    Attributes:
      values: tree of [N, ...].
      weight: [N] as it was when the voxel was merged last; seen: [N] when that was.
      found: [N] bool.
      row: [N] int32 of the map, the capacity where nothing is found.
    """

    values: Any
    weight: Array
    seen: Array
    found: Array
    row: Array


def empty_map(
    values: Any,
    *,
    voxel_size: float,
    capacity: int,
    origin: Sequence[int] | np.ndarray = (0, 0, 0),
) -> VoxelMap:
    """A map without voxels.

    Args:
      values: tree of arrays [N, ...] of a frame, or of their shapes.
      voxel_size: metres.
      capacity: voxels at most; see `merge_frame` for what becomes of more.
      origin: [3] int, voxel of the world that lies at the map's zero; near to what will be mapped.

    Raises:
      ValueError: a size that is not positive or beyond float32, a capacity below one, an origin
        beyond int32.
    """
    least, most = (float(x) for x in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))
    if not least <= voxel_size <= most or capacity < 1:
        raise ValueError(f"voxel_size {voxel_size}, capacity {capacity}: positive, finite expected")
    zero = np.asarray(origin, np.int64)
    if zero.shape != (3,) or (np.abs(zero) >= 2**31).any():
        raise ValueError(f"origin {origin}: three int32 expected")
    head = np.float32(voxel_size)
    return VoxelMap(
        jnp.full((capacity, 3), NONE),
        jax.tree.map(lambda v: jnp.zeros((capacity, *v.shape[1:]), jnp.float32), values),
        jnp.zeros(capacity, jnp.float32),
        jnp.zeros(capacity, jnp.float32),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), jnp.int32),
        jnp.asarray(zero, jnp.int32),
        jnp.array([head, np.float32(np.float64(voxel_size) - np.float64(head))]),
    )


def corner(world: VoxelMap) -> np.ndarray:
    """[3] float64 metres: where the map's zero lies in the world; on the host."""
    return np.asarray(world.origin, np.float64) * np.asarray(world.voxel_size, np.float64).sum()


def voxel_centers(world: VoxelMap) -> np.ndarray:
    """[voxels, 3] float64 metres in the world: the middles of the voxels, in their order; host."""
    coords = np.asarray(world.coords)[np.asarray(world.mask)].astype(np.float64)
    coords += np.asarray(world.origin, np.float64)
    return (coords + 0.5) * np.asarray(world.voxel_size, np.float64).sum()


def merge_frame(
    world: VoxelMap,
    points: ArrayLike,
    values: Any,
    valid: ArrayLike,
    time: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    half_life: ArrayLike = np.inf,
    most_age: ArrayLike = np.inf,
) -> VoxelMap:
    """The map with a frame's points merged in, of the same size.

    A voxel's values become the mean of all points that ever fell into it by their weights, of
    which older ones may have faded. Points whose position, values or weight are not finite are left
    out and counted in `dropped`. If more voxels are there than the capacity, those go that were
    not seen for longest, the lightest first among them; `evicted` counts them. A frame of no
    points is one whose points are all absent.

    Args:
      world: the map so far.
      points: [N, 3] metres from the map's zero, see `VoxelMap`.
      values: tree of [N, ...] like the map's.
      valid: [N] bool, points that are there.
      time: [] when the frame was taken, in any unit, from a zero near the recording's begin
        (float32). Of a frame earlier than what a voxel has seen, nothing fades. A frame whose time
        is not finite changes nothing; its points are counted in `dropped`.
      weight: [N], 1 by default; points of weight 0 change nothing.
      half_life: in which the weight of what was merged halves; infinite: nothing fades; not
        positive: nothing is left of frames before, where a voxel is seen again.
      most_age: voxels that were not seen for longer are forgotten altogether.

    Returns:
      A new map; the order of a frame's points matters for rounding alone.

    Raises:
      ValueError: shapes that do not fit, or values that are not a tree like the map's.
    """
    points = as_float(points)
    count = len(points) if points.ndim else 0
    # All as arrays: one program, whichever of them are given.
    weight = np.ones(count, np.float32) if weight is None else weight
    weight, *times = (jnp.asarray(x, jnp.float32) for x in (weight, time, half_life, most_age))
    valid = jnp.asarray(valid, bool)
    _check("points", points, (count, 3))
    _check("valid", valid, (count,))
    _check("weight", weight, (count,))
    for name, number in zip(("time", "half_life", "most_age"), times, strict=True):
        _check(name, number, ())
    found, wanted = (jax.tree.structure(tree) for tree in (values, world.values))
    if found != wanted:
        raise ValueError(f"values: {found}; expected {wanted}, as in the map")
    rows = jax.tree.map(lambda mean: (count, *mean.shape[1:]), world.values)
    jax.tree.map(functools.partial(_check, "values"), values, rows)
    if not count:  # sums over no members have no shape
        points, valid, weight = jnp.zeros((1, 3)), jnp.zeros(1, bool), jnp.zeros(1)
        values = jax.tree.map(lambda mean: jnp.zeros_like(mean[:1]), world.values)
    return _merge_points(world, points, values, valid, weight, *times)


def _check(name: str, found: ArrayLike, wanted: tuple[int, ...]) -> None:
    if np.shape(found) != wanted:
        raise ValueError(f"{name}: shape {np.shape(found)}, expected {wanted}")


@jax.jit
def _merge_points(world, points, values, valid, weight, now, half_life, most_age):
    count, capacity = points.shape[0], world.capacity
    values = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), values)
    coords, near = map_coords(world, points)
    finite = near & jnp.isfinite(weight) & (weight >= 0) & jnp.isfinite(now)
    now = jnp.where(jnp.isfinite(now), now, -jnp.inf)  # before all others: nothing ages
    for leaf in jax.tree.leaves(values):
        finite &= jnp.all(jnp.isfinite(leaf.reshape(count, -1)), axis=1)
    there = valid & finite & (weight > 0)

    # The frame's own voxels, in order, with sums over their points.
    seen_coords = unique_rows(jnp.where(there[:, None], coords, NONE))
    real = seen_coords[:, 0] != NONE
    groups = make_groups(jnp.where(there, find_rows(seen_coords, coords)[0], count), count)
    added = gathered(jnp.where(there, weight, 0)[:, None], groups)[:, 0]

    def sums(leaf: Array) -> Array:
        weighed = jnp.where(there[:, None], leaf.reshape(count, -1) * weight[:, None], 0)
        return gathered(weighed, groups)

    # Where they lie in the joint order of both, which has capacity + N places at most.
    row, hit = find_rows(world.coords, seen_coords)
    new = real & ~hit
    before = running_count(new)
    place = jnp.where(real, row + before - new, NONE)
    joint = jnp.arange(capacity + count, dtype=jnp.int32)
    last = lower_bound(place, joint + 1) - 1  # the last voxel of the frame up to each place
    mine = (last >= 0) & (take(place, jnp.maximum(last, 0)) == joint)
    source = jnp.where(mine, last, count)
    inserted = jnp.where(last >= 0, take(before, jnp.maximum(last, 0)), 0)
    old = jnp.where(mine & take(new, jnp.maximum(last, 0)), capacity, joint - inserted)

    stored = take_or_zero(world.weight, old)
    past = take_or_zero(world.seen, old)
    age = jnp.maximum(now - past, 0)
    half_lives = jnp.where(age > 0, age / jnp.where(half_life > 0, half_life, 0), 0)
    faded = stored * jnp.exp2(-half_lives)
    total = faded + take_or_zero(added, source)
    weights = jnp.where(mine, total, stored)
    latest = jnp.where(old < capacity, jnp.maximum(now, past), now)
    last_seen = jnp.where(mine, latest, past)
    exists = mine | (world.coords.at[old, 0].get(mode="fill", fill_value=NONE) != NONE)
    kept = exists & (now - last_seen <= most_age)
    kept, evicted = _make_room(kept, last_seen, weights, capacity)

    chosen = compact(kept, running_count(kept), capacity)
    old = old.at[chosen].get(mode="fill", fill_value=capacity)
    source = source.at[chosen].get(mode="fill", fill_value=count)
    touched = source < count
    faded, total = take_or_zero(faded, chosen), take_or_zero(total, chosen)
    divisor = jnp.where(touched, total, 1)

    def merged(mean: Array, leaf: Array) -> Array:
        fresh = take_or_zero(sums(leaf), source)
        before = take_or_zero(mean.reshape(capacity, -1), old)
        found = (before * faded[:, None] + fresh) / divisor[:, None]
        return jnp.where(touched[:, None], found, before).reshape(mean.shape)

    own = world.coords.at[old].get(mode="fill", fill_value=NONE)
    theirs = seen_coords.at[source].get(mode="fill", fill_value=NONE)
    return VoxelMap(
        jnp.where(touched[:, None], theirs, own),
        jax.tree.map(merged, world.values, values),
        take_or_zero(weights, chosen),
        take_or_zero(last_seen, chosen),
        world.evicted + evicted,
        world.dropped + jnp.sum(valid & ~finite, dtype=jnp.int32),
        world.origin,
        world.voxel_size,
    )


@jax.jit
def query_map(world: VoxelMap, points: ArrayLike, valid: ArrayLike | None = None) -> MapReading:
    """What the map holds in the voxels of points.

    Args:
      points: [N, 3] metres from the map's zero.
      valid: [N] bool; nothing is found for others.

    Raises:
      ValueError: shapes that do not fit.
    """
    points = as_float(points)
    count = len(points) if points.ndim else 0
    _check("points", points, (count, 3))
    if valid is not None:
        _check("valid", valid, (count,))
    coords, near = map_coords(world, points)
    there = near if valid is None else near & jnp.asarray(valid, bool)
    row, hit = find_rows(world.coords, coords)
    found = hit & there
    row = jnp.where(found, row, world.capacity)
    return MapReading(
        jax.tree.map(lambda v: take_or_zero(v, row), world.values),
        take_or_zero(world.weight, row),
        take_or_zero(world.seen, row),
        found,
        row,
    )


def map_coords(world: VoxelMap, points: Array) -> tuple[Array, Array]:
    """[N, 3] int32 voxels of points, and whether [N] they are within the map's reach."""
    finite = jnp.all(jnp.isfinite(points), axis=1)
    coords = voxel_index(jnp.where(finite[:, None], points, 0), tuple(world.voxel_size), "floor")
    return coords, finite & jnp.all(jnp.abs(coords) < FARTHEST, axis=1)


def _make_room(kept: Array, seen: Array, weight: Array, capacity: int) -> tuple[Array, Array]:
    """`kept` without those that are too many, and how many these are."""
    too_many = jnp.maximum(jnp.sum(kept, dtype=jnp.int32) - capacity, 0)

    def evict(kept: Array) -> Array:
        order = jnp.arange(len(kept), dtype=jnp.int32)
        late = jnp.where(kept, -seen, jnp.inf), jnp.where(kept, -weight, jnp.inf), order
        ordered = lax.sort(late, num_keys=3)
        a, b, c = (column[capacity - 1] for column in ordered)
        before = (late[1] < b) | ((late[1] == b) & (late[2] <= c))
        return kept & ((late[0] < a) | ((late[0] == a) & before))

    return lax.cond(too_many > 0, evict, lambda k: k, kept), too_many
