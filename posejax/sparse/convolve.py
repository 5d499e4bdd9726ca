"""Sparse convolution and its gradients as products of gathered rows: no scatter anywhere.

With pairs listed by offset, one offset at a time: the rows of its pairs are read in blocks, each
multiplied by the offset's matrix, and every output reads back the product of its own pair, if it
has one. The transposed map gives the gradient of the input in the same way; that of the kernel is
a product of the two lists. All sums run in a fixed order: equal inputs give equal bits.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.sparse.kernel_map import KernelMap
from posejax.sparse.keys import take, take_or_zero

# Below this many numbers, an output is summed in two halves that do not wait for each other: one's
# short products fill the pauses of the other's. Above, that would only take more memory.
HALVES = 2**20
ROWS = 512  # outputs whose neighbourhoods lie in memory at a time, without lists of pairs


@jax.jit
def sparse_conv(features: ArrayLike, kernel: ArrayLike, maps: KernelMap) -> Array:
    """Convolution over the voxels of a map.

    out[o] = sum over k of features[neighbours[k, o]] @ kernel[k], a cross-correlation.

    Args:
      features: [N_in, C_in]; rows without voxel are never read.
      kernel: [K, C_in, C_out], offsets as `kernel_map` numbers them.
      maps: which voxels meet; `maps.transposed` for a transposed convolution.

    Returns:
      [N_out, C_out] in the features' type, zero in rows without voxel. Sums are float32 at least.

    Raises:
      ValueError: arrays that do not fit the map.
    """
    features, kernel = jnp.asarray(features), jnp.asarray(kernel)
    if kernel.ndim != 3 or kernel.shape[:2] != (maps.neighbours.shape[0], features.shape[-1]):
        raise ValueError(
            f"a kernel for {features.shape[-1]} channels and this map is "
            f"[{maps.neighbours.shape[0]}, {features.shape[-1]}, C_out], got {kernel.shape}"
        )
    if features.shape != (maps.reverse.shape[1], features.shape[-1]):
        raise ValueError(f"features are [{maps.reverse.shape[1]}, C], got {features.shape}")
    return _convolve(features, kernel.astype(features.dtype), maps, False)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _convolve(features: Array, kernel: Array, maps: KernelMap, turned: bool) -> Array:
    """The convolution; if `turned`, by the transposed matrix of every offset."""
    if maps.pairs is None:
        return _convolve_all(features, kernel, maps, turned)
    pairs = functools.partial(_convolve_pairs, turned=turned)
    return by_platform(pairs, maps)(features, kernel, maps)


def _forward(features, kernel, maps, turned):
    return _convolve(features, kernel, maps, turned), (features, kernel, maps)


def _backward(turned, saved, cotangent):
    features, kernel, maps = saved
    back = _convolve(cotangent, kernel, maps.transposed, not turned)
    if maps.pairs is None:
        slope = _kernel_gradient_all(features, cotangent, maps)
    else:
        slope = by_platform(_kernel_gradient_pairs, maps)(features, cotangent, maps)
    return back, slope.astype(kernel.dtype), None


_convolve.defvjp(_forward, _backward)


# Offset by offset, along the lists of pairs.


def by_platform(function: Callable, maps: KernelMap) -> Callable:
    """`function` with the `block` of rows that suits the platform.

    A CPU takes as many blocks as hold pairs: few enough rows that the last block of an offset
    wastes little, enough for a product at full speed. On an accelerator, where every turn of such
    a loop waits for the host, a block is the whole list.
    """
    size = maps.neighbours.shape[1] if maps.pairs is None else maps.pairs.inputs.shape[1]
    block = 32
    while block < 512 and block * 32 < size:
        block *= 2
    return functools.partial(
        lax.platform_dependent,
        cpu=functools.partial(function, block=block),
        default=functools.partial(function, block=size),
    )


def _convolve_pairs(features, kernel, maps, *, block: int, turned: bool):
    pairs, dtype = maps.pairs, _sum_type(features)
    outputs, channels = maps.neighbours.shape[1], kernel.shape[1 if turned else 2]
    inputs = _whole_blocks(pairs.inputs, block, features.shape[0])
    size, counts = inputs.shape[1], maps.counts
    nothing = _zero_after(features, dtype)

    def offset(k, carry):
        total, products = carry
        # Read by number: a slice of the kernel as the loop's own would be a copy of it.
        matrix = lax.dynamic_index_in_dim(kernel, k, keepdims=False)
        place = lax.dynamic_index_in_dim(pairs.at_output, k, keepdims=False)

        def products_of(start, products):
            rows = lax.dynamic_slice(inputs, (k, start), (1, block))[0]
            x = take(features, jnp.minimum(rows, features.shape[0] - 1))
            y = _product(x, matrix, turned)
            return lax.dynamic_update_slice_in_dim(products, y, start, 0)

        products = _blocks(products_of, products, counts[k], block, whole=block >= size)
        # The buffer's last row stays zero, for outputs without pair; what it holds of earlier
        # offsets is beyond `count` and not read.
        place = jnp.where(place < pairs.inputs.shape[1], place, size)
        return total + take(products, place), products

    half, odd = len(kernel) // 2, len(kernel) % 2
    none = jnp.broadcast_to(nothing, (outputs, channels))
    if odd:  # every voxel is its own pair at the centre
        here = maps.neighbours[half] < features.shape[0]
        start = jnp.where(here[:, None], _product(features, kernel[half], turned), nothing)
    else:
        start = none
    products = jnp.broadcast_to(nothing, (size + 1, channels))
    first = lax.fori_loop(0, half, offset, (start, products))
    if outputs * channels < HALVES:
        second = lax.fori_loop(half + odd, len(kernel), offset, (none, products))
        return (first[0] + second[0]).astype(features.dtype)
    total, _ = lax.fori_loop(half + odd, len(kernel), offset, first)
    return total.astype(features.dtype)


def _product(x, matrix, turned: bool):
    """[N, C_in] times [C_in, C_out], or times the transposed of [C_out, C_in]."""
    axes = (((1,), (1 if turned else 0,)), ((), ()))
    return lax.dot_general(x, matrix, axes, preferred_element_type=_sum_type(x))


def _zero_after(array: Array, dtype) -> Array:
    """[1, 1], zero once `array` is known.

    Buffers of a constant zero are all made at the start of a program, and lie beside each other.
    """
    return jnp.where(array[:1, :1] > 0, jnp.asarray(0.0, dtype), jnp.asarray(-0.0, dtype))


def _kernel_gradient_pairs(features, cotangent, maps, *, block: int):
    pairs, dtype = maps.pairs, _sum_type(features)
    inputs = _whole_blocks(pairs.inputs, block, features.shape[0])
    outputs = _whole_blocks(pairs.outputs, block, cotangent.shape[0])
    nothing = _zero_after(cotangent, dtype)

    def offset(_, item):
        rows_in, rows_out, count = item

        def add(start, total):
            x = take_or_zero(features, lax.dynamic_slice_in_dim(rows_in, start, block))
            y = take_or_zero(cotangent, lax.dynamic_slice_in_dim(rows_out, start, block))
            return total + jnp.matmul(x.T, y, preferred_element_type=dtype)

        total = jnp.broadcast_to(nothing, (features.shape[1], cotangent.shape[1]))
        return None, _blocks(add, total, count, block, whole=block >= len(rows_in))

    return lax.scan(offset, None, (inputs, outputs, maps.counts))[1]


def _blocks(body, carry, count, block: int, whole: bool):
    """carry = body(start, carry) for every block that holds a pair."""
    if whole:
        return body(0, carry)
    return lax.fori_loop(0, (count + block - 1) // block, lambda i, c: body(i * block, c), carry)


def _whole_blocks(rows, block: int, nothing: int):
    return jnp.pad(rows, ((0, 0), (0, -rows.shape[1] % block)), constant_values=nothing)


def _sum_type(features):
    return jnp.promote_types(features.dtype, jnp.float32)


# All outputs times all offsets, a few hundred outputs at a time.


def _convolve_all(features, kernel, maps, turned):
    kernel = kernel.swapaxes(1, 2) if turned else kernel
    matrix = kernel.reshape(-1, kernel.shape[2])

    def rows(neighbours):
        x = take_or_zero(features, neighbours.T).reshape(-1, matrix.shape[0])
        return jnp.matmul(x, matrix, preferred_element_type=_sum_type(features))

    outputs = maps.neighbours.shape[1]
    y = lax.map(rows, _parts(maps.neighbours, features.shape[0]))
    return y.reshape(-1, matrix.shape[1])[:outputs].astype(features.dtype)


def _kernel_gradient_all(features, cotangent, maps):
    parts = _parts(maps.neighbours, features.shape[0])
    padding = parts.shape[0] * ROWS - cotangent.shape[0]
    here = jnp.any(maps.neighbours < features.shape[0], axis=0)
    cotangent = jnp.where(here[:, None], cotangent, 0)
    slopes = jnp.pad(cotangent, ((0, padding), (0, 0))).reshape(len(parts), ROWS, -1)

    def add(total, part):
        neighbours, y = part
        x = take_or_zero(features, neighbours.T).reshape(ROWS, -1)
        return total + jnp.matmul(x.T, y, preferred_element_type=total.dtype), None

    shape = maps.neighbours.shape[0] * features.shape[1], cotangent.shape[1]
    total, _ = lax.scan(add, jnp.zeros(shape, _sum_type(features)), (parts, slopes))
    return total.reshape(-1, features.shape[1], cotangent.shape[1])


def _parts(neighbours, nothing: int):
    """[K, N] -> [N / ROWS, K, ROWS]."""
    rows = _whole_blocks(neighbours, ROWS, nothing)
    return rows.reshape(len(rows), -1, ROWS).swapaxes(0, 1)
