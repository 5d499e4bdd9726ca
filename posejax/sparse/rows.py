"""Voxels as ordered rows of three integers, found by binary search: no key, no box, no limit."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from posejax.sparse.keys import compact, running_count, take

NONE = np.int32(2**31 - 1)  # coordinate of rows without voxel; sorts last


def unique_rows(coords: Array) -> Array:
    """The different rows of [N, 3] int32 in lexicographic order, then `NONE`: [N, 3]."""
    columns = lax.sort(tuple(coords[:, k] for k in range(3)), num_keys=3)
    ordered = jnp.stack(columns, axis=1)
    other = jnp.any(ordered[1:] != ordered[:-1], axis=1)
    first = jnp.concatenate([jnp.ones(1, bool), other]) & (ordered[:, 0] != NONE)
    rows = compact(first, running_count(first), len(coords))
    return ordered.at[rows].get(mode="fill", fill_value=NONE)


def find_rows(coords: Array, queries: Array) -> tuple[Array, Array]:
    """Where queries [..., 3] stand in ordered rows [C, 3].

    Returns:
      [...] int32, the first row that is not below each, or C; [...] bool, whether it is equal.
    """
    size, digits = coords.shape[0], coords.shape[0].bit_length()
    a, b, c = (queries[..., k] for k in range(3))

    def digit(turn, row):
        probe = row + (1 << (digits - 1 - turn))
        there = take(coords, jnp.minimum(probe, size) - 1)
        x, y, z = (there[..., k] for k in range(3))
        below = (x < a) | ((x == a) & ((y < b) | ((y == b) & (z < c))))
        return jnp.where((probe <= size) & below, probe, row)

    row = lax.fori_loop(0, digits, digit, jnp.zeros(queries.shape[:-1], jnp.int32))
    return row, jnp.all(take(coords, jnp.minimum(row, size - 1)) == queries, axis=-1)
