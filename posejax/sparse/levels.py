"""Sets of voxels in order, and the coarser ones above them."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.sparse.keys import (
    EMPTY,
    Packing,
    across,
    compact,
    lower_bound,
    packing,
    running_count,
    take,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Level:
    """Voxels in lexicographic order of (b, x, y, z), of static capacity; a pytree.

    Attributes:
      coords: [capacity, 4] int32: cloud, x, y, z in voxels of this level's own size; zero in rows
        that hold no voxel, which are the last.
      keys: [capacity] uint32, increasing; `EMPTY` in rows without voxel.
      needed: voxels that the clouds have; more than the capacity is an overflow.
      packing: how coordinates become keys.
    """

    coords: Array
    keys: Array
    needed: Array
    packing: Packing

    @property
    def capacity(self) -> int:
        return self.coords.shape[-2]

    @property
    def count(self) -> Array:
        """Voxels that are there, int32."""
        return jnp.minimum(self.needed, self.capacity)

    @property
    def mask(self) -> Array:
        """[capacity] bool: rows that hold a voxel."""
        rows = across(jnp.arange(self.capacity), self.keys)
        return rows < jnp.expand_dims(self.count, -1)

    @property
    def overflow(self) -> Array:
        """Voxels were left out: more than the capacity, or a box of more than 2^32 voxels."""
        return (self.needed > self.capacity) | ~self.packing.fits


@functools.partial(jax.jit, static_argnames="capacity")
def unique_voxels(coords: ArrayLike, valid: ArrayLike, *, capacity: int) -> Level:
    """The different voxels among coordinates.

    Args:
      coords: [N, 4] int32, (b, x, y, z).
      valid: [N] bool.
      capacity: rows of the result; the first in order are kept.
    """
    coords, valid = jnp.asarray(coords, jnp.int32), jnp.asarray(valid, bool)
    box = packing(coords, valid)
    keys = jnp.sort(jnp.where(valid, box.keys(coords), EMPTY))
    before = jnp.concatenate([jnp.full(1, EMPTY), keys[:-1]])
    first = (keys != before) & (keys != EMPTY)
    rows = compact(first, running_count(first), capacity)
    there = rows < len(keys)
    keys = jnp.where(there, take(keys, jnp.minimum(rows, len(keys) - 1)), EMPTY)
    coords = jnp.where(there[:, None], box.coords(keys), 0)
    return Level(coords, keys, jnp.sum(first, dtype=jnp.int32), box)


@functools.partial(jax.jit, static_argnames="capacity")
def coarser(level: Level, *, capacity: int) -> Level:
    """Voxels of twice the size: coordinates halved and rounded down."""
    return unique_voxels(halved(level.coords), level.mask, capacity=capacity)


def halved(coords: Array) -> Array:
    """(b, x, y, z) of the voxels of twice the size that hold these; the cloud stays."""
    return coords >> across(np.array([0, 1, 1, 1], np.int32), coords)


@jax.jit
def find_voxels(level: Level, coords: ArrayLike) -> Array:
    """Rows of voxels in a level.

    Args:
      level: where to look.
      coords: [..., 4] int32, (b, x, y, z) in voxels of the level.

    Returns:
      [...] int32, the capacity where there is no such voxel.
    """
    coords = jnp.asarray(coords, jnp.int32)
    keys = level.packing.keys(coords)
    row = lower_bound(level.keys, keys)
    inside = jnp.minimum(row, level.capacity - 1)
    hit = (take(level.keys, inside) == keys) & level.packing.contains(coords) & (keys != EMPTY)
    return jnp.where(hit, inside, level.capacity)


def cube_rows(level: Level, coords: Array, valid: Array, size: int) -> Array:
    """Rows of `level` at every offset of a cube: [N, 4], [N] -> [size^3, N] int32.

    Offsets in x run fastest; they are centred for an odd size and begin at 0 for an even one. One
    search serves a column of voxels: along z, neighbours are next to each other in the order.

    Returns:
      Rows, or the level's capacity where there is no voxel or `valid` is not set.
    """
    low = -(size // 2) if size % 2 else 0
    y, x = (low + o.reshape(-1) for o in np.mgrid[:size, :size])
    stride = level.packing.stride
    # Steps are whole numbers modulo 2^32; the margin of the box keeps them in it.
    steps = (
        jnp.asarray(x.astype(np.int32)).astype(jnp.uint32) * stride[1]
        + jnp.asarray(y.astype(np.int32)).astype(jnp.uint32) * stride[2]
        + jnp.asarray(low, jnp.int32).astype(jnp.uint32)
    )
    keys = jnp.expand_dims(level.packing.keys(coords), 0) + jnp.expand_dims(steps, 1)

    def upwards(row, step):
        inside = jnp.minimum(row, level.capacity - 1)
        hit = (row < level.capacity) & (take(level.keys, inside) == keys + step)
        return row + hit, jnp.where(hit & jnp.expand_dims(valid, 0), row, level.capacity)

    start = lower_bound(level.keys, keys)
    found = lax.scan(upwards, start, jnp.arange(size, dtype=jnp.uint32))[1]
    return found.reshape(-1, coords.shape[0])
