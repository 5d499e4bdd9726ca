"""Which voxel meets which under every offset of a kernel; all maps of a U-Net at once."""

import functools
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from posejax.sparse.keys import compact, running_count
from posejax.sparse.levels import Level, coarser, cube_rows, find_voxels, halved


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of every offset, one after the other in the order of both sides.

    Attributes:
      inputs, outputs: [K, R] int32, rows of the pair's two voxels; out of bounds beyond the last.
      at_output: [K, N_out] int32, the place among `outputs` of every row of the output, or R.
      at_input: [K, N_in] int32, the same for the input.
    """

    inputs: Array
    outputs: Array
    at_output: Array
    at_input: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class KernelMap:
    """Pairs (input voxel, output voxel) of a convolution by offset of its kernel; a pytree.

    An offset pairs a voxel with one other at most, so that both directions of the convolution
    and its gradients are reads of rows.

    Attributes:
      neighbours: [K, N_out] int32, the input's row for every output, or N_in.
      reverse: [K, N_in] int32, the output's row for every input, or N_out.
      pairs: the same as lists, or None: then `sparse_conv` takes all outputs times all offsets,
        which is the faster way for a few channels.
    """

    neighbours: Array
    reverse: Array
    pairs: Pairs | None

    @property
    def transposed(self) -> "KernelMap":
        """The map of the transposed convolution: inputs and outputs change places."""
        p = self.pairs
        if p is not None:
            p = Pairs(p.outputs, p.inputs, p.at_input, p.at_output)
        return KernelMap(self.reverse, self.neighbours, p)

    @property
    def counts(self) -> Array:
        """[K] int32: pairs of each offset."""
        return jnp.sum(self.neighbours < self.reverse.shape[-1], axis=-1, dtype=jnp.int32)


def _listed(rows: Array, inside: int, size: int) -> tuple[Array, Array]:
    """Positions of the rows that are inside a table, and the place of each row among them."""
    flags = rows < inside
    counts = running_count(flags)
    return compact(flags, counts, size), jnp.where(flags, counts - 1, size)


def kernel_map(
    level: Level, coarse: Level | None = None, *, size: int = 3, pairs: bool = True
) -> KernelMap:
    """The map of a convolution.

    Args:
      level: the input's voxels (of the finer level).
      coarse: None for a submanifold convolution, whose outputs are the inputs' voxels; or the
        voxels of twice the size, for a strided one with 2^3 kernels. Its `transposed` leads back.
      size: edge of the kernel: 1, 3 or 5, or 2 with `coarse`.
      pairs: list the pairs, too; see `KernelMap`.

    Offsets are numbered as in MinkowskiEngine: x fastest, centred for odd sizes, from 0 for 2.

    Raises:
      ValueError: a size that is not one of these.
    """
    if size not in ((1, 3, 5) if coarse is None else (2,)):  # keys have a margin of 2
        raise ValueError(f"submanifold kernels have size 1, 3 or 5, strided ones 2, got {size}")
    return _kernel_map(level, coarse, int(size), bool(pairs))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _kernel_map(level, coarse, size, pairs):
    if coarse is None:
        # The pair of an offset is, seen from its input, the pair of the opposite offset.
        rows = cube_rows(level, level.coords, level.mask, size)
        if not pairs:
            return KernelMap(rows, rows[::-1], None)
        listed, place = _listed(rows, level.capacity, level.capacity)
        return KernelMap(rows, rows[::-1], Pairs(listed[::-1], listed, place, place[::-1]))
    twice = coarse.coords * np.array([[1, 2, 2, 2]], np.int32)
    children = cube_rows(level, twice, coarse.mask, 2)
    parent = find_voxels(coarse, halved(level.coords))
    octant = (level.coords[:, 1:] & 1) @ np.array([1, 2, 4], np.int32)
    mine = (jnp.arange(8)[:, None] == octant[None]) & level.mask[None]
    parents = jnp.where(mine, parent[None], coarse.capacity)
    if not pairs:
        return KernelMap(children, parents, None)
    size = coarse.capacity
    # A shift keeps the lexicographic order: the i-th parent that has a child at an octant is the
    # parent of the i-th child that is at this octant of its own.
    outputs, at_output = _listed(children, level.capacity, size)
    inputs, at_input = _listed(parents, coarse.capacity, size)
    return KernelMap(children, parents, Pairs(inputs, outputs, at_output, at_input))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class SparseMaps:
    """All maps of a U-Net over one cloud, or several; a pytree to be computed once.

    Attributes:
      levels: voxels at strides 1, 2, 4, ...
      stem: the map of the first, larger kernel at stride 1, without lists of pairs.
      same: 3^3 maps of every level.
      down: 2^3 maps from each level to the next; their `transposed` lead up.
    """

    levels: tuple[Level, ...]
    stem: KernelMap
    same: tuple[KernelMap, ...]
    down: tuple[KernelMap, ...]

    @property
    def needed(self) -> Array:
        """[levels] int32: voxels of each level, to choose capacities by."""
        return jnp.stack([level.needed for level in self.levels], axis=-1)

    @property
    def overflow(self) -> Array:
        """Whether any level left voxels out."""
        return jnp.any(jnp.stack([level.overflow for level in self.levels], axis=-1), axis=-1)


def make_maps(level: Level, *, capacities: tuple[int, ...], stem: int = 5) -> SparseMaps:
    """Coarser levels and all kernel maps of a U-Net.

    Args:
      level: the finest voxels.
      capacities: of the coarser levels, one each, see `level_capacities`.
      stem: edge of the first kernel.

    A level whose capacity is too small is reported by `SparseMaps.overflow`; its convolutions
    leave voxels out. `needed` is exact up to the first level that overflows, and a lower bound
    from there on.
    """
    return _make_maps(level, tuple(int(c) for c in capacities), int(stem))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _make_maps(level, capacities, stem):
    levels = [level]
    for capacity in capacities:
        levels.append(coarser(levels[-1], capacity=capacity))
    return SparseMaps(
        levels=tuple(levels),
        stem=kernel_map(level, size=stem, pairs=False),
        same=tuple(kernel_map(v) for v in levels),
        down=tuple(kernel_map(a, b, size=2) for a, b in itertools.pairwise(levels)),
    )
