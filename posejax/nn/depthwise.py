"""Depthwise convolution that is fast on CPUs too.

XLA on CPUs computes the weight gradient of a depthwise convolution as that of a dense one, C times
the work, and its forward pass tap by tap. Written as a sum of shifted, scaled rasters both become
plain vector loops over the channels: 10 to 100 times faster. Accelerators keep the convolution.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

Pad = tuple[int, int]
MAX_TOGETHER = 16


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_conv(x: jax.Array, kernel: jax.Array, stride: int, pad: Pad) -> jax.Array:
    """k x k convolution of every channel by itself.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[k, k, 1, C]`, of the type of `x`.
      stride: on both axes.
      pad: cells of zeros before and after, on both axes.

    Returns:
      `[B, h, w, C]`, `h = (H + pad[0] + pad[1] - k) // stride + 1`.

    Differentiable once, in reverse mode.
    """
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_shifted, stride=stride, pad=pad),
        default=functools.partial(_convolution, stride=stride, pad=pad),
    )


def _forward(x, kernel, stride, pad):
    return depthwise_conv(x, kernel, stride, pad), (x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))  # or an eager call compiles its loop anew
def _backward(stride, pad, saved, dy):
    x, kernel = saved

    def convolution(x, kernel, dy):
        _, pull = jax.vjp(functools.partial(_convolution, stride=stride, pad=pad), x, kernel)
        return pull(dy)

    def shifted(x, kernel, dy):
        return (
            _input_gradient(dy, kernel, x.shape[1:3], stride, pad),
            _kernel_gradient(x, dy, kernel, stride, pad),
        )

    return jax.lax.platform_dependent(x, kernel, dy, cpu=shifted, default=convolution)


depthwise_conv.defvjp(_forward, _backward)


def _convolution(x, kernel, stride, pad):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        (pad, pad),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _shifted(x, kernel, stride, pad):
    """Sum over taps of the padded raster, shifted and scaled per channel; sums in float32."""
    k = kernel.shape[0]
    h, w = ((n + sum(pad) - k) // stride + 1 for n in x.shape[1:3])
    wide = jnp.promote_types(x.dtype, jnp.float32)
    padded, kernel = _padded(x, pad, pad), kernel[:, :, None, None].astype(wide)
    total = jnp.zeros((x.shape[0], h, w, x.shape[3]), wide)
    for i in range(k):
        for j in range(k):
            total = total + _window(padded, i, j, h, w, stride).astype(wide) * kernel[i, j]
    return total.astype(x.dtype)


def _input_gradient(dy, kernel, size, stride, pad):
    """Input cell u = stride * q + c gets kernel[i] * dy[q + (c + pad - i) / stride] for all i that
    divide; the cells of a phase c are one sum of shifted rasters in float32, then interleaved."""
    k, (h, w) = kernel.shape[0], size
    rows, columns = -(-h // stride), -(-w // stride)
    taps = [
        [(i, (c + pad[0] - i) // stride) for i in range((c + pad[0]) % stride, k, stride)]
        for c in range(stride)
    ]
    offsets = [o for phase in taps for _, o in phase]
    low, high = max(0, -min(offsets)), max(offsets)
    padded = _padded(
        dy,
        (low, max(0, rows + high - dy.shape[1])),
        (low, max(0, columns + high - dy.shape[2])),
    )
    wide = jnp.promote_types(dy.dtype, jnp.float32)
    kernel = kernel[:, :, None, None].astype(wide)
    zero = jnp.zeros((dy.shape[0], rows, columns, dy.shape[3]), wide)

    def phase(row, column):
        parts = (
            _window(padded, low + oy, low + ox, rows, columns, 1).astype(wide) * kernel[i, j]
            for i, oy in taps[row]
            for j, ox in taps[column]
        )
        return sum(parts, zero).astype(dy.dtype)

    phases = [jnp.stack([phase(r, c) for c in range(stride)], 3) for r in range(stride)]
    whole = jnp.stack(phases, 2).reshape(dy.shape[0], rows * stride, columns * stride, dy.shape[3])
    return whole[:, :h, :w]


def _kernel_gradient(x, dy, kernel, stride, pad):
    """Sums of products of rasters, row by row of the output: what is multiplied stays in the cache.

    The examples of one row are summed first, unrolled, so that the running totals `[k, w, C]` (one
    per column of taps) are read and written once for all of them. Sums are in float32.
    """
    k, (batch, height, width, channels) = kernel.shape[0], dy.shape
    padded = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
    together = max(n for n in range(1, min(batch, MAX_TOGETHER) + 1) if batch % n == 0)
    last = stride * (width - 1) + 1

    def add_row(turn, totals):
        first, y = turn // height * together, turn % height
        size = (together, k, padded.shape[2], channels)
        rows = jax.lax.dynamic_slice(padded, (first, y * stride, 0, 0), size)
        d = jax.lax.dynamic_slice(dy, (first, y, 0, 0), (together, 1, width, channels))
        rows, d = rows.astype(jnp.float32), d.astype(jnp.float32)
        for j in range(k):
            products = (rows[n, :, j : j + last : stride] * d[n] for n in range(together))
            totals[j] = sum(products, totals[j])
        return totals

    start = [jnp.zeros((k, width, channels), jnp.float32)] * k
    totals = jax.lax.fori_loop(0, batch // together * height, add_row, start)
    return jnp.stack([jnp.sum(t, 1) for t in totals], 1)[:, :, None].astype(kernel.dtype)


def _padded(x, rows, columns):
    """Zeros around; a buffer of its own, or every tap would compute what leads to `x` again."""
    return jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), rows, columns, (0, 0))))


def _window(x, row, column, h, w, stride):
    b, _, _, c = x.shape
    end = (b, row + stride * (h - 1) + 1, column + stride * (w - 1) + 1, c)
    return jax.lax.slice(x, (0, row, column, 0), end, (1, stride, stride, 1))


class DepthwiseConv(nn.Module):
    """`depthwise_conv` with a parameter `kernel` `[k, k, 1, C]`, float32; no bias.

    Attributes:
      kernel: k.
      stride, pad: see `depthwise_conv`.
      dtype: of the computation; `None`: the promoted type.
    """

    kernel: int
    stride: int
    pad: Pad
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, 1, x.shape[-1])
        # Fan in and fan out of one channel are both k * k.
        init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        kernel = self.param("kernel", init, shape, jnp.float32)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        return depthwise_conv(x, kernel, self.stride, self.pad)
