"""Softmax expectation over all pairs of cells, in blocks: the volume of scores is never stored.

Attention with positions as values. A block of queries meets all keys at once, so that its softmax
needs no running maximum; only the softmax the other way round, over the queries, does. Backwards,
the scores of a block are computed again and normalised by the log-partition that forwards has left.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax


class Streamed(NamedTuple):
    """Expected positions with the logarithm of the softmax's denominator (-inf: no candidate)."""

    coords: Array
    log_partition: Array
    window: tuple[Array, Array] | None = None
    """Of the re-expectation: index of the best key, log-partition of the keys around it."""


class Plan(NamedTuple):
    """What is static."""

    shape_a: tuple[int, ...]
    shape_b: tuple[int, ...]
    refine: int | None
    reverse: bool
    block: int


def cell_centers(shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Centres of all cells [H * W, 2], row by row."""
    x, y = (jnp.arange(n, dtype=dtype) + 0.5 for n in (shape[1], shape[0]))
    return jnp.stack(jnp.meshgrid(x, y), axis=-1).reshape(-1, 2)


def dot(a: Array, b: Array) -> Array:
    """a @ b^T with float32 sums at full precision."""
    kind = jnp.promote_types(a.dtype, jnp.float32)
    return jnp.einsum(
        "ic,jc->ij", a, b, precision=lax.Precision.HIGHEST, preferred_element_type=kind
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def stream(
    plan: Plan, queries: Array, keys: Array, lines: Array | None, width: Array | None
) -> tuple[Streamed, Streamed | None]:
    """Expectation of key positions for every query, and of query positions for every key.

    Args:
      plan: shapes and choices; `reverse` excludes `refine`.
      queries: [Na, C], divided by the temperature.
      keys: [Nb, C].
      lines: [Na, 3] of unit normal, or None: keys farther from them than `width` do not count.

    Returns:
      coords [Na, 2] and log-partition [Na]; the same of the keys if asked for. Without candidates
      coords are the image's centre.
    """
    return _forward(plan, queries, keys, lines, width)


def _forward(plan, queries, keys, lines, width):
    values, center = _values(plan.shape_b, keys.dtype)
    values_a, center_a = _values(plan.shape_a, keys.dtype)

    def body(carry, inputs):
        s, index = _scores(plan, inputs, keys, width)
        top = jnp.max(s, axis=1, keepdims=True)
        peak = _finite(top)
        p = jnp.exp(s - peak)
        if plan.refine is None:
            sums, window = dot(p, values.T), None
            total = sums[:, 2]
        else:
            # The first of the largest, by two plain reductions: XLA:CPU's argmax is a slow loop.
            key = jnp.arange(keys.shape[0], dtype=jnp.int32)[None]
            best = jnp.min(jnp.where(s == top, key, keys.shape[0] - 1), axis=1)
            total = jnp.sum(p, axis=1)
            sums = dot(jnp.where(_near(plan, best), p, 0), values.T)
            window = best, _log(sums[:, 2]) + peak[:, 0]
        found = Streamed(center + _ratio(sums), _log(total) + peak[:, 0], window)
        if plan.reverse:
            carry = _merge(carry, s, values_a[index])
        return carry, found

    start = None
    if plan.reverse:
        count = keys.shape[0]
        start = jnp.full((count,), -jnp.inf, values.dtype), jnp.zeros((count, 3), values.dtype)
    carry, found = lax.scan(body, start, _blocks(plan, queries, lines))
    forward = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: queries.shape[0]], found)
    if carry is None:
        return forward, None
    peak, sums = carry
    return forward, Streamed(center_a + _ratio(sums), _log(sums[:, 2]) + _finite(peak))


def _merge(carry, s, values):
    """One more block of queries in the running softmax of every key."""
    peak, sums = carry
    new = jnp.maximum(peak, jnp.max(s, axis=0))
    p = jnp.exp(s - _finite(new)[None])
    return new, sums * jnp.exp(peak - _finite(new))[:, None] + dot(p.T, values.T)


def _stream_fwd(plan, queries, keys, lines, width):
    out = _forward(plan, queries, keys, lines, width)
    return out, (queries, keys, lines, width, out)


def _stream_bwd(plan, saved, cotangents):
    queries, keys, lines, width, (forward, backward) = saved
    values, center = _values(plan.shape_b, keys.dtype)
    values_a, center_a = _values(plan.shape_a, keys.dtype)
    to_forward, to_backward = cotangents
    from_mean = _from_mean(to_forward.coords, forward.coords - center)
    rows = jax.tree.map(
        lambda x: _split(plan, x),
        (from_mean, to_forward.log_partition, forward.log_partition, forward.window),
    )
    columns = None
    if plan.reverse:
        columns = _from_mean(to_backward.coords, backward.coords - center_a)
        columns = columns.at[:, 2].add(to_backward.log_partition)

    def body(to_keys, inputs):
        block, (from_mean, from_log, log_partition, window) = inputs
        s, index = _scores(plan, block, keys, width)
        p = jnp.exp(s - _finite(log_partition)[:, None])
        if window is None:
            to_s = p * dot(from_mean.at[:, 2].add(from_log), values)
        else:
            best, log_window = window
            q = jnp.exp(jnp.minimum(s - _finite(log_window)[:, None], 0))
            to_s = jnp.where(_near(plan, best), q * dot(from_mean, values), 0)
            to_s += p * from_log[:, None]
        if columns is not None:
            p = jnp.exp(s - _finite(backward.log_partition)[None])
            to_s += p * dot(values_a[index], columns)
        query = block[0]
        return to_keys + dot(to_s.T, query.T), dot(to_s, keys.T)

    to_keys = jnp.zeros(keys.shape, values.dtype)
    to_keys, to_queries = lax.scan(body, to_keys, (_blocks(plan, queries, lines), rows))
    to_queries = to_queries.reshape(-1, to_queries.shape[-1])[: queries.shape[0]]
    nothing = jax.tree.map(jnp.zeros_like, (lines, width))
    return to_queries.astype(queries.dtype), to_keys.astype(keys.dtype), *nothing


stream.defvjp(_stream_fwd, _stream_bwd)


def _from_mean(cotangent: Array, mean: Array) -> Array:
    """g such that the gradient of a mean of v over p is p (g . (v, 1))."""
    return jnp.concatenate([cotangent, -jnp.sum(cotangent * mean, -1, keepdims=True)], axis=1)


def _values(shape: tuple[int, ...], dtype) -> tuple[Array, Array]:
    """(x, y, 1) of all cells from the image's centre (half the rounding errors); the centre."""
    xy = cell_centers(shape, jnp.promote_types(dtype, jnp.float32))
    center = jnp.array([[shape[1] / 2, shape[0] / 2]], xy.dtype)
    return jnp.concatenate([xy - center, jnp.ones_like(xy[:, :1])], axis=1), center


def _split(plan: Plan, x: Array) -> Array:
    """[Na, ...] -> [blocks, block, ...], the rest filled up with zeros."""
    missing = -x.shape[0] % plan.block
    return jnp.pad(x, ((0, missing),) + ((0, 0),) * (x.ndim - 1)).reshape(
        -1, plan.block, *x.shape[1:]
    )


def _blocks(plan: Plan, queries: Array, lines: Array | None):
    index = _split(plan, jnp.arange(queries.shape[0]))
    known = _split(plan, jnp.ones(queries.shape[0], bool))
    return _split(plan, queries), None if lines is None else _split(plan, lines), index, known


def _scores(plan: Plan, block, keys: Array, width) -> tuple[Array, Array]:
    """Scores [block, Nb] of one block, -inf where a pair does not count, and its query indices."""
    queries, lines, index, known = block
    s = dot(queries, keys)
    counts = None
    if plan.reverse and plan.shape_a[0] * plan.shape_a[1] % plan.block:
        counts = known[:, None]
    if lines is not None:
        xy = cell_centers(plan.shape_b, lines.dtype)
        ends = jnp.concatenate([xy, jnp.ones_like(xy[:, :1])], axis=1)
        near = jnp.abs(dot(lines, ends)) <= width
        # An epipole of A has no line (zero normal): its partner may be anywhere.
        counts = near if counts is None else near & counts
    return s if counts is None else jnp.where(counts, s, -jnp.inf), index


def _near(plan: Plan, best: Array) -> Array:
    """Which keys are within `refine` columns and rows of the best one, [block] -> [block, Nb]."""
    column = jnp.arange(plan.shape_b[0] * plan.shape_b[1], dtype=jnp.int32)[None]
    best, width, most = best[:, None], plan.shape_b[1], plan.refine or 0
    near_x = jnp.abs(column % width - best % width) <= most
    return near_x & (jnp.abs(column // width - best // width) <= most)


def _ratio(sums: Array) -> Array:
    total = sums[:, 2:]
    return sums[:, :2] / jnp.where(total > 0, total, 1)


def _log(total: Array) -> Array:
    return jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1)), -jnp.inf)


def _finite(x: Array) -> Array:
    return jnp.where(jnp.isneginf(x), 0, x)
