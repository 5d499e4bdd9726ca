"""Rows that belong together: reading a group's value for every member, and summing members.

The two are each other's transpose, and each is the other's gradient: reads in both directions.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.sparse.keys import lower_bound, take, take_or_zero


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Groups:
    """Which group each of M members belongs to; a pytree.

    Attributes:
      group: [M] int32; the number of groups where a member belongs to none.
      order: [M] int32, members sorted by group, in their own order within it.
      first: [G] int32, where each group begins in `order`.
      size: [G] int32, its members.
    """

    group: Array
    order: Array
    first: Array
    size: Array


def make_groups(group: Array, groups: int) -> Groups:
    """Groups from the group of each member, [M] int32 in 0..groups (the last: none)."""
    members = jnp.arange(len(group), dtype=jnp.int32)
    ordered, order = lax.sort((group, members), num_keys=1, is_stable=True)
    first = lower_bound(ordered, jnp.arange(groups + 1, dtype=group.dtype))
    return Groups(group, order, first[:-1], first[1:] - first[:-1])


@jax.custom_vjp
def spread(values: Array, groups: Groups) -> Array:
    """Each member's value of its group, [G, C] -> [M, C]; zero for members of none."""
    return take_or_zero(values, groups.group)


@jax.custom_vjp
def gathered(members: Array, groups: Groups) -> Array:
    """Sum over each group's members, [M, C] -> [G, C]; zero for empty groups.

    A tree of sums, float32 at least: the error grows with the logarithm of the members.
    """
    dtype = jnp.promote_types(members.dtype, jnp.float32)
    total = take(members, groups.order).astype(dtype)
    ordered = take(groups.group, groups.order)
    size = members.shape[0]

    # Sums over 2, 4, 8, ... members up to each, as far as the largest group asks for it.
    def double(turn, total):
        start = size - (1 << turn)
        padded = jnp.concatenate([jnp.zeros_like(total), total])
        labels = jnp.concatenate([jnp.full_like(ordered, -1), ordered])
        same = lax.dynamic_slice_in_dim(labels, start, size) == ordered
        before = lax.dynamic_slice_in_dim(padded, start, size)
        return total + jnp.where(same[:, None], before, 0)

    turns = 32 - lax.clz(jnp.maximum(jnp.max(groups.size, initial=0) - 1, 0))
    total = lax.fori_loop(0, turns, double, total)
    last = jnp.where(groups.size > 0, groups.first + groups.size - 1, size)
    return take_or_zero(total, last).astype(members.dtype)


spread.defvjp(
    lambda v, g: (spread(v, g), g),
    lambda g, cotangent: (gathered(cotangent, g), None),
)
gathered.defvjp(
    lambda m, g: (gathered(m, g), g),
    lambda g, cotangent: (spread(cotangent, g), None),
)


def mean_of_members(members: ArrayLike, groups: Groups) -> Array:
    """Mean over each group's members, [M, C] -> [G, C]; zero for empty groups.

    Sum and division in float32 at least: a sum of float16 members may exceed its range.
    """
    members = jnp.asarray(members)
    dtype = jnp.promote_types(members.dtype, jnp.float32)
    total = gathered(members.astype(dtype), groups)
    return (total / jnp.maximum(groups.size, 1)[:, None].astype(dtype)).astype(members.dtype)
