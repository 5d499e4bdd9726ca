"""Softmax expectation over a few candidates per cell: rows, bands and windows."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from posejax.matching.search import Band, Window
from posejax.matching.streaming import cell_centers


def soft_position(
    logits: Array, positions: Array, refine: int | None, fallback: Array
) -> tuple[Array, Array]:
    """Mean of `positions` under softmax(logits) with the log-partition.

    Args:
      logits: [..., K], -inf for what is no candidate.
      positions: [K, 2].
      refine: take the mean only over positions at most so far (in x and in y) from the best.
      fallback: [..., 2] where there is no candidate at all.

    Returns:
      [..., 2] and [...] (-inf without candidates; no gradient passes there).
    """
    peak = lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    some = peak[..., 0] > -jnp.inf
    p = jnp.exp(logits - jnp.where(peak > -jnp.inf, peak, 0))
    values = jnp.concatenate([positions, jnp.ones_like(positions[:, :1])], axis=1)

    def sums(p):
        """Of p (x, y) and of p, from one reading of p; 1 where there is no candidate."""
        found = jnp.einsum("...k,kd->...d", p, values, precision=lax.Precision.HIGHEST)
        return found[..., :2], jnp.where(some, found[..., 2], 1)

    moments, total = sums(p)
    log_partition = jnp.where(some, jnp.log(total) + peak[..., 0], -jnp.inf)
    if refine is not None:
        best = positions[jnp.argmax(logits, axis=-1)]
        all_positions = jnp.broadcast_to(positions, (*logits.shape, 2))
        away = jnp.max(jnp.abs(all_positions - best[..., None, :]), axis=-1)
        moments, total = sums(jnp.where(away <= refine, p, 0))
    fallback = jnp.broadcast_to(fallback, moments.shape)
    return jnp.where(some[..., None], moments / total[..., None], fallback), log_partition


def band(a: Array, b: Array, search: Band, refine: int | None) -> tuple[Array, Array]:
    """Candidates in the rows around, `a` [H, Wa, C] divided by the temperature, `b` [H, Wb, C]."""
    height, width, _ = a.shape
    width_b, count = b.shape[1], 2 * search.rows + 1
    padded = jnp.pad(b, ((search.rows, search.rows), (0, 0), (0, 0)))
    rows = jnp.stack([padded[d : d + height] for d in range(count)], axis=1)
    rows = rows.reshape(height, count * width_b, -1)
    kind = jnp.promote_types(a.dtype, jnp.float32)
    logits = jnp.einsum(
        "hwc,hkc->hwk", a, rows, precision=lax.Precision.HIGHEST, preferred_element_type=kind
    )
    counts = _band_counts((height, width), width_b, search)
    if counts is not None:
        logits = jnp.where(counts, logits, -jnp.inf)

    x, dy = np.meshgrid(np.arange(width_b) + 0.5, np.arange(-search.rows, search.rows + 1))
    positions = jnp.asarray(np.stack([x, dy], axis=-1).reshape(-1, 2), kind)
    row = np.stack(np.broadcast_arrays(0, np.arange(height)[:, None] + 0.5), axis=-1)
    own = np.stack(np.broadcast_arrays(np.minimum(np.arange(width) + 0.5, width_b), 0), axis=-1)
    mean, log_partition = soft_position(logits, positions, refine, jnp.asarray(own, kind))
    return mean + jnp.asarray(row, kind), log_partition


def _band_counts(shape: tuple[int, ...], width_b: int, search: Band) -> np.ndarray | None:
    """[H, Wa, (2 rows + 1) Wb]: which candidates there are; None if all."""
    height, width = shape
    counts = None
    if search.rows:
        row = np.arange(height)[:, None] + np.arange(-search.rows, search.rows + 1)
        inside = (row >= 0) & (row < height)
        counts = np.repeat(inside, width_b, axis=1)[:, None, :]
    if search.columns is not None:
        step = np.arange(width_b)[None, :] - np.arange(width)[:, None]
        allowed = (step >= search.columns[0]) & (step <= search.columns[1])
        allowed = np.tile(allowed, (1, 2 * search.rows + 1))[None]
        counts = allowed if counts is None else allowed & counts
    return counts


def window(a: Array, b: Array, search: Window, refine: int | None) -> tuple[Array, Array]:
    """Candidates around a guess, `a` [Ha, Wa, C] divided by the temperature, `b` [Hb, Wb, C]."""
    kind = jnp.promote_types(a.dtype, jnp.float32)
    height, width, _ = b.shape
    size = jnp.array([width, height], kind).reshape(1, 1, 2)
    own = cell_centers(a.shape[:2], kind).reshape(*a.shape[:2], 2)
    guess = own + lax.stop_gradient(jnp.asarray(search.flow, kind))
    known = jnp.all(jnp.isfinite(guess), axis=-1)
    # Far outside is far enough at twice the size: indices must hold it.
    beyond = size + search.radius + 1
    guess = jnp.clip(jnp.where(known[..., None], guess, 0), -beyond, size + beyond)
    base = jnp.floor(guess).astype(jnp.int32)
    side = np.arange(-search.radius, search.radius + 1)
    offsets = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    flat = b.reshape(height * width, -1)

    @jax.checkpoint  # gathered features are as many as the window has cells: gather them again
    def score(offset):
        x, y = base[..., 0] + offset[0], base[..., 1] + offset[1]
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & known
        index = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
        taken = flat.at[index].get(mode="promise_in_bounds")
        return jnp.where(inside, jnp.sum(a.astype(kind) * taken.astype(kind), axis=-1), -jnp.inf)

    logits = jnp.moveaxis(lax.map(score, jnp.asarray(offsets, jnp.int32)), 0, -1)
    outside = jnp.clip(guess, 0, size) - base - 0.5
    mean, log_partition = soft_position(logits, jnp.asarray(offsets, kind), refine, outside)
    return mean + base + 0.5, log_partition
