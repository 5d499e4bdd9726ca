"""Voxels as sorted 32-bit keys, and finding them again: what every map of this room is made of.

A key numbers the voxels (b, x, y, z) of a box around the cloud in lexicographic order. The box is
the cloud's own, so that 32 bits reach for 4e9 voxels in any shape (a room of 20 m x 20 m x 10 m at
2 cm takes 12 % of them); a cloud that needs more is flagged. No 64-bit integers, which jax has only
by a global switch.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

EMPTY = np.uint32(0xFFFFFFFF)  # the key of no voxel; sorts last
MARGIN = 2  # voxels around the box: neighbours of its voxels have keys, and never another's
FARTHEST = 2**23  # coordinates beyond are out of range: float32 no longer counts them one by one


class Packing(NamedTuple):
    """How (b, x, y, z) become a key: key = sum((coords - origin) * stride).

    Attributes:
      origin: [4] int32, the first corner of the box.
      extent: [4] int32, voxels along each axis of the box.
      stride: [4] uint32.
      fits: whether all keys of the box are below `EMPTY`; if not, keys mean nothing.
    """

    origin: Array
    extent: Array
    stride: Array
    fits: Array

    def keys(self, coords: Array) -> Array:
        """[..., 4] int32 -> [...] uint32, of coordinates within the box."""
        apart = (coords - across(self.origin, coords)).astype(jnp.uint32)
        return jnp.sum(apart * across(self.stride, coords), axis=-1, dtype=jnp.uint32)

    def contains(self, coords: Array) -> Array:
        """[..., 4] -> [...] bool: within the box."""
        apart = coords - across(self.origin, coords)
        return jnp.all((apart >= 0) & (apart < across(self.extent, coords)), axis=-1)

    def coords(self, keys: Array) -> Array:
        """Inverse of `keys`."""
        parts, rest = [], keys
        for axis in range(3):
            parts.append(rest // self.stride[axis])
            rest = rest % self.stride[axis]
        apart = jnp.stack([*parts, rest], axis=-1).astype(jnp.int32)
        return apart + across(self.origin, apart)


def across(row: ArrayLike, like: Array) -> Array:
    """A row [C] beside an array [..., C]: of its rank."""
    return jnp.reshape(row, (1,) * (like.ndim - 1) + (-1,))


def packing(coords: Array, valid: Array) -> Packing:
    """The packing of the box around valid coordinates, [N, 4] int32 and [N] bool."""
    near = jnp.all(jnp.abs(coords) < FARTHEST, axis=-1)
    valid_near = (valid & near)[:, None]
    some = jnp.any(valid_near)
    low = jnp.min(jnp.where(valid_near, coords, FARTHEST), axis=0)
    high = jnp.max(jnp.where(valid_near, coords, -FARTHEST), axis=0)
    margin = np.array([0, MARGIN, MARGIN, MARGIN], np.int32)
    origin = jnp.where(some, low, 0) - margin
    extent = jnp.where(some, high - low, 0) + 1 + 2 * margin
    whole = jnp.prod(extent.astype(jnp.float32))
    wide = extent.astype(jnp.uint32)
    z = jnp.uint32(1)
    y = wide[3]
    x = y * wide[2]
    b = x * wide[1]
    # A float32 product of four is right to 3e-7; what lies that near the end is refused too.
    fits = jnp.all(near | ~valid) & (whole < np.float32(2.0**32 * (1 - 1e-6)))
    return Packing(origin, extent, jnp.stack([b, x, y, z]), fits)


def lower_bound(keys: Array, queries: Array) -> Array:
    """First row of sorted `keys` [N] that is not below each query, or N."""
    size, digits = keys.shape[0], keys.shape[0].bit_length()

    # A loop, not its turns one by one: fused with what reads the result, they would be computed
    # again for every reader.
    def digit(turn, row):
        probe = row + (1 << (digits - 1 - turn))
        below = take(keys, jnp.minimum(probe, size) - 1) < queries
        return jnp.where((probe <= size) & below, probe, row)

    return lax.fori_loop(0, digits, digit, jnp.zeros(queries.shape, jnp.int32))


def take(table: Array, rows: Array) -> Array:
    """table[rows] along the first axis, without a check of bounds that the caller keeps."""
    return table.at[rows].get(mode="promise_in_bounds")


def take_or_zero(table: Array, rows: Array) -> Array:
    """table[rows] along the first axis; zero where a row is not in the table."""
    return table.at[rows].get(mode="fill", fill_value=0)


def running_count(flags: Array) -> Array:
    """Flags set up to each position, itself included: [..., N] bool -> int32.

    Sums over 2, 4, 8, ... positions in a loop; `jnp.cumsum` compiles for seconds per shape.
    """
    size = flags.shape[-1]

    def double(turn, counts):
        padded = jnp.concatenate([jnp.zeros_like(counts), counts], axis=-1)
        return counts + lax.dynamic_slice_in_dim(padded, size - (1 << turn), size, axis=-1)

    return lax.fori_loop(0, (size - 1).bit_length(), double, flags.astype(jnp.int32))


def compact(flags: Array, counts: Array, size: int) -> Array:
    """Positions of the flags that are set, in order: [..., N] bool -> [..., size] int32.

    What is left over holds N. Each position moves left by the number of unset flags before it, one
    binary digit of that number at a time; positions that move keep clear of each other. All reads
    are contiguous: no scatter, and no sort.

    Args:
      flags: [..., N] bool.
      counts: their `running_count`.
      size: places for positions; those that come too late are dropped.
    """
    length = flags.shape[-1]
    order = jnp.arange(length, dtype=jnp.int32)
    moves = jnp.where(flags, across(order + 1, flags) - counts, -1)

    def digit(bit, moves):
        padded = jnp.concatenate([moves, jnp.full_like(moves, -1)], axis=-1)
        coming = lax.dynamic_slice_in_dim(padded, 1 << bit, length, axis=-1)
        arrives = (coming >= 0) & ((coming >> bit) & 1 == 1)
        leaves = (moves >> bit) & 1 == 1
        return jnp.where(arrives, coming, jnp.where(leaves, -1, moves))

    moves = lax.fori_loop(0, (length - 1).bit_length(), digit, moves)
    rows = jnp.where(moves >= 0, across(order, moves) + moves, length)
    spare = [(0, 0)] * (flags.ndim - 1) + [(0, max(size - length, 0))]
    return jnp.pad(rows, spare, constant_values=length)[..., :size]
