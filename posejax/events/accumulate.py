"""The kernel behind all representations: events added up in cells, with its batching rule.

One window is one scatter over runs of cells (`Taps`). A batch of windows is

- on CPUs a loop over the windows, each of which computes its indices and scatters into its own part
  of the result: both stay in the cache. XLA's batched scatter writes the indices of all events to
  memory first and then walks through all grids;
- elsewhere one scatter over all events of all windows. It is left to `jax.vmap`, which marks the
  batch in the scatter: indices flattened by hand would hide that windows are independent, and a
  batch spread over devices would end in a sum of all grids over all devices.

The choice is made when the function is lowered for its platform. Nested `jax.vmap`s become one loop
or one scatter. The derivative by the weights is a gather at the same indices, and comes with the
same rule.

`how="fixed"` adds integers, multiples of 2^-16: sums of integers do not depend on the order, so
that results repeat to the bit on devices whose atomic additions come in any order. An event adds at
most one to a cell, so the capacity tells the largest sum there can be: from 65536 events on (32768
with signed polarity) the multiples are of a larger power of two, and no sum can wrap.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap

from posejax.events.events import Events
from posejax.events.taps import Taps

How = Literal["float", "fixed", "max"]
_FRACTION_BITS = 16
_VALID = Events._fields.index("valid")

_SCATTER = lax.ScatterDimensionNumbers(
    update_window_dims=(1,), inserted_window_dims=(), scatter_dims_to_operand_dims=(0,)
)
_GATHER = lax.GatherDimensionNumbers(
    offset_dims=(1,), collapsed_slice_dims=(), start_index_map=(0,)
)
_DROP = lax.GatherScatterMode.FILL_OR_DROP


@partial(jax.jit, static_argnames=("taps", "how"))
def accumulate(
    taps: Taps, events: Events, start: Array, end: Array, tau: Array, *, how: How = "float"
) -> Array:
    """Sum, or maximum, of the events' weights in every cell.

    Args:
      taps: cells and weights of events.
      events: fields [N].
      start, end, tau: scalars, seconds.
      how: "float"; "fixed", every weight (at most one) rounded to a multiple of 2^-16, or of a
        larger power of two for large capacities (`fixed_point`); or "max", -inf in cells without
        events.

    Returns:
      [taps.cells].

    Differentiable once in reverse mode by x, y, t (if floats), start, end and tau; "fixed" has the
    derivative of "float". A maximum passes it to the events that attain it, in equal parts.
    """
    return _kernel(taps, how)(*events, start, end, tau)


@cache
def _kernel(taps: Taps, how: How) -> Callable:
    """accumulate for one kind of taps: arrays of one window -> [cells]."""

    def one(*leaves):
        return taps(Events(*leaves[:5]), *leaves[5:])

    together = _maps(partial(_fill, one, taps, how))[1]
    forward = _batched(partial(_fill_by_loop, one, taps, how), together)
    pull = _batched(*_maps(partial(_pull, one, taps, how)))

    @jax.custom_vjp
    def kernel(*leaves):
        return forward(*leaves)

    def kernel_forward(*leaves):
        out = forward(*leaves)
        return out, (leaves, out if how == "max" else jnp.zeros((0,), out.dtype))

    def kernel_backward(residuals, g):
        leaves, out = residuals
        slopes = iter(pull(*leaves, out, g))
        return tuple(next(slopes) if _differentiable(x) else None for x in leaves)

    kernel.defvjp(kernel_forward, kernel_backward)
    return kernel


def _differentiable(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


# ---- batches ------------------------------------------------------------------------------------
# A function of a batch gets arrays with a leading axis of the batch's size, or of size one if the
# array is shared by the whole batch: maps over windows of the same events do not copy the events.


def _batched(cpu: Callable, default: Callable) -> Callable:
    """A function of one window, whose maps, nested or not, are one call of `cpu` or `default`."""

    @custom_vmap
    def run(*arrays):
        if _size(arrays) == 1:
            return default(*arrays)
        return lax.platform_dependent(*arrays, cpu=cpu, default=default)

    @run.def_vmap
    def rule(axis_size, in_batched, *arrays):
        inner = max(
            x.shape[1] if b else x.shape[0] for x, b in zip(arrays, in_batched, strict=True)
        )

        def merge(x, batched):
            if not batched and x.shape[0] == 1:
                return x
            x = x if batched else x[None]
            return jnp.broadcast_to(x, (axis_size, inner, *x.shape[2:])).reshape(-1, *x.shape[2:])

        out = run(*(merge(x, b) for x, b in zip(arrays, in_batched, strict=True)))
        out = jax.tree.map(lambda x: x.reshape(axis_size, inner, *x.shape[1:]), out)
        return out, jax.tree.map(lambda _: True, out)

    return lambda *arrays: jax.tree.map(lambda x: x[0], run(*(x[None] for x in arrays)))


def _size(arrays) -> int:
    return max(x.shape[0] for x in arrays)


def _window(arrays, k) -> list[Array]:
    """Arrays of window k of a batch."""
    return [
        x[0] if x.shape[0] == 1 else lax.dynamic_index_in_dim(x, k, 0, keepdims=False)
        for x in arrays
    ]


def _maps(function: Callable) -> tuple[Callable, Callable]:
    """One window after another, and all together."""

    def after_another(*arrays):
        return lax.map(lambda k: function(*_window(arrays, k)), jnp.arange(_size(arrays)))

    def together(*arrays):
        shared = [x.shape[0] == 1 for x in arrays]
        given = [x[0] if s else x for x, s in zip(arrays, shared, strict=True)]
        if all(shared):
            return jax.tree.map(lambda x: x[None], function(*given))
        return jax.vmap(function, [None if s else 0 for s in shared])(*given)

    return after_another, together


# ---- forward ------------------------------------------------------------------------------------

# From one run of events in so many cells on, the grid of a window is worth fetching into the cache.
_SPARSE = 32


def _fill(one: Callable, taps: Taps, how: How, *leaves) -> Array:
    """[cells] of one window."""
    index, weights = one(*leaves)
    grid = _scatter(_empty(taps.cells, how, weights.dtype), index, weights, taps, how)
    return _finish(grid, taps, how, weights)


def _fill_by_loop(one: Callable, taps: Taps, how: How, *arrays) -> Array:
    """[B, cells], window after window."""
    size, cells = _size(arrays), taps.cells
    index, weights = jax.eval_shape(one, *_window(arrays, 0))
    dtype = weights.dtype

    def apart(function: Callable, *window):
        # Nothing is fused across the border of a conditional. Fused with the slices that cut the
        # window from the batch, the index arithmetic takes four times as long.
        def none(*_):
            dropped = jnp.full(index.shape, np.iinfo(np.int32).max, jnp.int32)
            return dropped, jnp.zeros(weights.shape, weights.dtype)

        return lax.cond(jnp.any(window[_VALID]), function, none, *window)

    if size * cells >= 2**31:  # more than 32-bit indices reach: a grid of its own, then copied
        return _maps(partial(_fill, partial(apart, one), taps, how))[0](*arrays)

    dense = index.size * _SPARSE > cells

    def body(k, grids):
        def in_batch(*window):
            index, weights = one(*window)
            return jnp.where(index < cells, index + k * cells, size * cells), weights

        if dense:
            # Emptied once more, in order: later accesses, out of order, find it in the cache.
            fresh = _empty(cells, how, dtype)
            grids = lax.dynamic_update_slice(grids, fresh, (k * cells,))
        index, weights = apart(in_batch, *_window(arrays, k))
        return _scatter(grids, index, weights, taps, how)

    grids = lax.fori_loop(0, size, body, _empty(size * cells, how, dtype))
    return _finish(grids, taps, how, weights).reshape(size, cells)


def _empty(cells: int, how: How, dtype) -> Array:
    if how == "fixed":
        return jnp.zeros((cells,), jnp.int32)
    return jnp.full((cells,), -jnp.inf if how == "max" else 0, dtype)


def fixed_point(taps: Taps, capacity: int) -> int:
    """Steps per unit of "fixed" sums, a power of two: all events in one cell still fit 32 bits."""
    bits = 31 if taps.polarity == "signed" else 32  # sums without a sign are read as uint32
    return 1 << min(_FRACTION_BITS, bits - capacity.bit_length())


def _scatter(grids: Array, index: Array, weights: Array, taps: Taps, how: How) -> Array:
    if how == "fixed":
        scale = fixed_point(taps, weights.shape[0])
        weights = jnp.round(weights * scale).astype(jnp.int32)
    runs = weights.reshape(-1, weights.shape[-1])
    put = lax.scatter_max if how == "max" else lax.scatter_add
    return put(grids, index.reshape(-1, 1), runs, _SCATTER, mode=_DROP)


def _finish(grids: Array, taps: Taps, how: How, weights: Any) -> Array:
    if how != "fixed":
        return grids
    if taps.polarity != "signed":
        grids = lax.bitcast_convert_type(grids, jnp.uint32)
    return grids.astype(weights.dtype) / fixed_point(taps, weights.shape[0])


# ---- backward -----------------------------------------------------------------------------------


def _pull(one: Callable, taps: Taps, how: How, *arrays) -> list[Array]:
    """Cotangents of the differentiable leaves of one window, from that of the grid."""
    *leaves, out, g = arrays
    where = [i for i, x in enumerate(leaves) if _differentiable(x)]

    def weights_of(*values):
        full = dict(enumerate(leaves)) | dict(zip(where, values, strict=True))
        index, weights = one(*full.values())
        return weights, index

    weights, back, index = jax.vjp(weights_of, *(leaves[i] for i in where), has_aux=True)

    def at_index(grid):
        shape, run = index.shape, weights.shape[-1:]
        values = lax.gather(grid, index.reshape(-1, 1), _GATHER, run, mode=_DROP, fill_value=0)
        return values.reshape(*shape, *run)

    slope = at_index(g)
    if how == "max":
        tied = (at_index(out) == weights).astype(g.dtype)
        empty = _empty(taps.cells, "float", g.dtype)
        count = at_index(_scatter(empty, index, tied, taps, "float"))
        slope = slope * tied / jnp.maximum(count, 1)
    return list(back(slope))
