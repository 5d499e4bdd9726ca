"""Modes of heatmaps: where the probability of a point gathers, how widely and how much of it.

A heatmap of 128 x 128 cells is read twice: once for the probability of blocks of cells, from which
all searching is done, and once within a small window about each mode that was found.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum

_CELL = 1 / 12  # variance of a position known to one cell
_TINY = 1e-6  # probability that a window is given besides its own, spread evenly over it


class Peaks(NamedTuple):
    """The M strongest modes of each of P heatmaps, the one with most probability first.

    Attributes:
      xy: [P, M, 2] local means, in cells.
      covariance: [P, M, 2, 2] local covariances, cells^2, at least those of a uniform cell.
      weight: [P, M] probability within the window about each mode; their sum is at most one.
    """

    xy: Array
    covariance: Array
    weight: Array


class Blocks(NamedTuple):
    """Heatmaps summed over blocks of cells.

    Attributes:
      probability: [H, W, P] of each block.
      log_total: [P] logarithm of the sum of exp(logits).
      side: cells along a block.
    """

    probability: Array
    log_total: Array
    side: int


def block_probability(logits: Array, blocks: int = 32) -> Blocks:
    """Softmax over cells, summed over square blocks, at most `blocks` along the longer side."""
    height, width, count = logits.shape
    side = max(1, -(-max(height, width) // blocks))
    top = lax.stop_gradient(jnp.max(logits, axis=(0, 1)))
    top = jnp.where(jnp.isfinite(top), top, 0)
    share = jnp.exp(logits - top[None, None])
    rows, columns = -(-height // side), -(-width // side)
    share = jnp.pad(share, ((0, rows * side - height), (0, columns * side - width), (0, 0)))
    share = share.reshape(rows, side, columns, side, count).sum(axis=(1, 3))
    share = lax.optimization_barrier(share)  # or it is computed again for each of its two uses
    total = jnp.sum(share, axis=(0, 1))
    return Blocks(share / total[None, None], top + jnp.log(total), side)


def default_radius(side: int) -> int:
    """Half the side of a mode's window: a sixteenth of the view's, and two cells at least."""
    return max(2, round(side / 16))


@partial(jax.jit, static_argnames=("modes", "radius"))
def local_peaks(logits: ArrayLike, *, modes: int = 2, radius: int | None = None) -> Peaks:
    """Modes of the softmax over the cells of each heatmap.

    Args:
      logits: [h, w, P].
      modes: number of modes M, at least one.
      radius: half the side, in cells, of the square window within which a mode has its mean and
        covariance, and no other mode its centre; by default a sixteenth of the longer side.

    Returns:
      The modes in the order of their probability. A heatmap with fewer modes has remainders with
      hardly any weight. Means, covariances and weights are differentiable, the choice of the
      windows is not. Finite for flat heatmaps too.
    """
    logits = as_float(logits)
    if logits.ndim != 3:
        raise ValueError(f"logits are [h, w, P], got {logits.shape}; use jax.vmap for several")
    return peaks_of(logits, block_probability(logits), modes=int(modes), radius=radius)


def peaks_of(logits: Array, blocks: Blocks, *, modes: int, radius: int | None) -> Peaks:
    """`local_peaks` from the sums over blocks."""
    radius = default_radius(max(logits.shape[:2])) if radius is None else int(radius)
    left = lax.stop_gradient(blocks.probability)
    height, width, _ = left.shape
    side = blocks.side
    middle = [side * (jnp.arange(n, dtype=left.dtype) + 0.5) for n in (height, width)]
    found, taken = [], []
    for _ in range(modes):
        gathered = box_sum(left)
        best = jnp.argmax(gathered.reshape(height * width, -1), axis=0)
        centre = _block_mean(left, best, side)
        mode, corner = _window(logits, blocks.log_total, centre, radius, taken)
        found.append(mode)
        taken.append(corner)
        reach = radius + side / 2
        near = [jnp.abs(m[:, None] - c[None]) <= reach for m, c in zip(middle, centre, strict=True)]
        left = jnp.where(near[0][:, None] & near[1][None], 0, left)
    return Peaks(*(jnp.stack(x, axis=1) for x in zip(*found, strict=True)))


def box_sum(x: Array) -> Array:
    """Sum over 3 x 3 neighbours of [H, W, P]."""
    x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    x = x[:-2] + x[1:-1] + x[2:]
    return x[:, :-2] + x[:, 1:-1] + x[:, 2:]


def _block_mean(share: Array, best: Array, side: int) -> tuple[Array, Array]:
    """(y, x) [P] in cells: mean of the 3 x 3 blocks about block number `best` [P]."""
    height, width, count = share.shape
    row, column = best // width, best % width
    near = [jnp.clip(x[None] + jnp.arange(-1, 2)[:, None], 0, n - 1)
            for x, n in ((row, height), (column, width))]  # fmt: skip
    values = share[near[0][:, None], near[1][None], jnp.arange(count)[None, None]] + 1e-20
    total = values.sum(axis=(0, 1))
    y = jnp.sum(values * near[0][:, None], axis=(0, 1)) / total
    x = jnp.sum(values * near[1][None], axis=(0, 1)) / total
    return side * (y + 0.5), side * (x + 0.5)


def _window(
    logits: Array,
    log_total: Array,
    centre: tuple[Array, Array],
    radius: int,
    taken: list[tuple[Array, Array]],
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
    """Mean [P, 2], covariance [P, 2, 2] and sum [P] of the probability about a centre.

    Cells of the windows whose first rows and columns are in `taken` count no more. Also returns
    the first row and column of this one.
    """
    height, width, count = logits.shape
    sides = [min(2 * radius + 1, n) for n in (height, width)]
    corner = [
        jnp.clip(jnp.floor(c).astype(jnp.int32) - radius, 0, n - s)
        for c, n, s in zip(centre, (height, width), sides, strict=True)
    ]
    rows = corner[0][None] + jnp.arange(sides[0])[:, None]
    columns = corner[1][None] + jnp.arange(sides[1])[:, None]
    values = logits[rows[:, None], columns[None], jnp.arange(count)[None, None]]
    share = jnp.exp(values - log_total[None, None])
    for row, column in taken:
        inside = [
            (x >= first[None]) & (x < first[None] + side)
            for x, first, side in ((rows, row, sides[0]), (columns, column, sides[1]))
        ]
        share = jnp.where(inside[0][:, None] & inside[1][None], 0, share)
    share = share + _TINY / (sides[0] * sides[1])
    # Sums over rows and columns first: the moments of each need no more.
    y = rows.astype(logits.dtype) + 0.5 - centre[0][None]
    x = columns.astype(logits.dtype) + 0.5 - centre[1][None]
    by_row, by_column = share.sum(axis=1), share.sum(axis=0)
    total = by_row.sum(axis=0)
    mean_y, mean_x = (by_row * y).sum(0) / total, (by_column * x).sum(0) / total
    y, x = y - mean_y[None], x - mean_x[None]
    yy, xx = (by_row * y**2).sum(0) / total, (by_column * x**2).sum(0) / total
    xy = jnp.sum(einsum("ijp,ip->jp", share, y) * x, axis=0) / total
    mean = jnp.stack([centre[1] + mean_x, centre[0] + mean_y], axis=-1)
    covariance = jnp.stack([xx + _CELL, xy, xy, yy + _CELL], axis=-1).reshape(count, 2, 2)
    return (mean, covariance, jnp.maximum(total - _TINY, 0)), (corner[0], corner[1])
