"""3x3 convolutions whose gradients are fast on CPUs too, also of maps enlarged just before."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

from posejax.nn.pointwise import HE_NORMAL, pointwise

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# Winograd's F(4x4, 3x3), Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR
# 2016: conv(x, k) = A^T [(B^T x B) * (G k G^T)] A on tiles of 4x4 outputs.
TILE, WINDOW = 4, 6
INPUT = np.array(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
)  # fmt: skip
KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
OUTPUT = np.array(
    [[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]]
)
LEAST_CHANNELS = 64
TILES_TOGETHER = 512


@jax.custom_vjp
def conv3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x3 convolution of `[B, H, W, I]`, zeros around, to `[B, H, W, O]`.

    Args:
      x: `[B, H, W, I]`.
      kernel: `[3, 3, I, O]`, of the type of `x`.

    Differentiable once, in reverse mode. XLA's CPU convolution runs at the processor's peak
    forwards and for the gradient of `x`, but at a third of it for that of the kernel. There, with
    at least 64 channels on both sides, this gradient is taken in Winograd's form, exact but for
    rounding: a quarter of the work, as plain products of matrices; 2 to 5 times faster on maps of
    28x50 to 200x200 with 128 channels, 1 to 3 times with 64 or 96. Forwards the same form wins
    nothing: what it saves, its transforms cost.
    """
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS)


def _forward(x, kernel):
    return conv3(x, kernel), (x, kernel)


def _backward(saved, dy):
    x, kernel = saved

    def convolution(x, dy):
        return jax.linear_transpose(lambda k: _plain(x, k), kernel)(dy)[0]

    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    dx = _plain(dy, flipped)
    wide = min(kernel.shape[2:]) >= LEAST_CHANNELS
    if not wide or jnp.finfo(x.dtype).bits < 32:
        return dx, convolution(x, dy)
    return dx, jax.lax.platform_dependent(x, dy, cpu=kernel_gradient, default=convolution)


conv3.defvjp(_forward, _backward)


def _plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS)


@jax.jit
def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Gradient of `conv3` to its kernel, `[3, 3, I, O]`: G^T [sum (B^T x B) * (A dy A^T)] G.

    Tiles are summed in blocks of some 512: enough for fast products, few enough to stay in cache.
    """
    (batch, height, width, inputs), outputs = x.shape, dy.shape[-1]
    down, across = -(-height // TILE), -(-width // TILE)  # tiles
    if down * across <= TILES_TOGETHER:
        most = TILES_TOGETHER // (down * across)
        together = max(n for n in range(1, most + 1) if batch % n == 0)
        rows, blocks = down, 1
    else:
        blocks = -(-down * across // TILES_TOGETHER)
        together, rows = 1, -(-down // blocks)
        blocks = -(-down // rows)
    # Zeros beyond the map add nothing to the sum, so that blocks may reach beyond it.
    after = (blocks * rows * TILE - height, across * TILE - width)
    x = jnp.pad(x, ((0, 0), (1, 1 + after[0]), (1, 1 + after[1]), (0, 0)))
    dy = jnp.pad(dy, ((0, 0), (0, after[0]), (0, after[1]), (0, 0)))

    def add(turn, totals):
        first, top = turn // blocks * together, turn % blocks * rows * TILE

        def parts(image, matrix):
            """Tiles of a block, transformed: 6x6 matrices [tiles, C]."""
            size = matrix.shape[1]
            shape = (together, rows * TILE + size - TILE, *image.shape[2:])
            block = jax.lax.dynamic_slice(image, (first, top, 0, 0), shape)
            last = [TILE * (n - 1) + 1 for n in (rows, across)]
            cells = [
                [block[:, i : i + last[0] : TILE, j : j + last[1] : TILE] for j in range(size)]
                for i in range(size)
            ]
            return [[c.reshape(-1, c.shape[-1]) for c in line] for line in both(matrix, cells)]

        pairs = zip(_flat(parts(x, INPUT)), _flat(parts(dy, OUTPUT)), strict=True)
        return [t + (v.T @ u if flip else u.T @ v) for t, (u, v) in zip(totals, pairs, strict=True)]

    flip = inputs > outputs  # the narrower factor is the one that is copied transposed
    shape = (outputs, inputs) if flip else (inputs, outputs)
    zeros = [jnp.zeros(shape, x.dtype)] * WINDOW**2
    totals = jax.lax.fori_loop(0, batch // together * blocks, add, zeros)
    grid = [totals[i * WINDOW : (i + 1) * WINDOW] for i in range(WINDOW)]
    whole = jnp.stack([jnp.stack(line) for line in both(KERNEL.T, grid)])
    return whole.swapaxes(2, 3) if flip else whole


def both(matrix: np.ndarray, grid: list[list[jax.Array]]) -> list[list[jax.Array]]:
    """`matrix @ grid @ matrix.T` of a matrix of numbers and one of arrays, without the zeros."""
    half = [[_sum(row, column) for column in zip(*grid, strict=True)] for row in matrix]
    return [[_sum(row, line) for row in matrix] for line in half]


def _sum(weights, arrays):
    terms = (a if w == 1 else a * float(w) for w, a in zip(weights, arrays, strict=True) if w)
    return functools.reduce(jnp.add, terms)


def _flat(grid):
    return [value for line in grid for value in line]


def conv3_enlarged(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`conv3(upsample2(x), kernel)` with a quarter of the work, `[B, H, W, I]` to `[B, 2H, 2W, O]`.

    Mixing of channels commutes with interpolation: the nine products are taken of the coarse map.
    What is left, interpolation, shift by a tap and zeros around, is a small matrix on either axis.
    """
    b, h, w, channels = x.shape
    features = kernel.shape[-1]
    rows, columns = (jnp.asarray(_enlarged_taps(n), x.dtype) for n in (h, w))
    flat = x.reshape(-1, channels)
    lines = jnp.zeros((), x.dtype)
    for tap in range(3):
        mixing = kernel[tap].swapaxes(0, 1).reshape(channels, 3 * features)
        products = pointwise(flat, mixing).reshape(b, h, w * 3 * features)
        lines = lines + jnp.broadcast_to(rows[tap], (b, 2 * h, h)) @ products
    lines = lines.reshape(b * 2 * h, w * 3, features)
    across = columns.transpose(1, 2, 0).reshape(2 * w, w * 3)
    y = jnp.broadcast_to(across, (len(lines), *across.shape)) @ lines
    return y.reshape(b, 2 * h, 2 * w, features)


def _enlarged_taps(size: int) -> np.ndarray:
    """`[3, 2 size, size]`: tap t of fine cell i reads cell i + t - 1 of the enlarged line, or 0."""
    place = (np.arange(2 * size) + 0.5) / 2 - 0.5
    distance = np.abs(np.clip(place, 0, size - 1)[:, None] - np.arange(size))
    fine = np.pad(np.maximum(0, 1 - distance), ((1, 1), (0, 0)))
    return np.stack([fine[t : t + 2 * size] for t in range(3)])


class Conv3x3(nn.Module):
    """`conv3` with a parameter `kernel` `[3, 3, I, O]`, float32; no bias.

    Called with two maps, of the result's size and of half of it, it is the convolution of the
    first joined with the second enlarged (`upsample2`), in this order.

    Attributes:
      dtype: of the computation; `None`: the promoted type.
      kernel_init: where the kernel starts.
    """

    features: int
    dtype: Any = None
    kernel_init: nn.initializers.Initializer = HE_NORMAL

    @nn.compact
    def __call__(self, x: jax.Array, coarse: jax.Array | None = None) -> jax.Array:
        own = x.shape[-1]
        inputs = own + (0 if coarse is None else coarse.shape[-1])
        kernel = self.param("kernel", self.kernel_init, (3, 3, inputs, self.features), jnp.float32)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        y = conv3(x, kernel[:, :, :own])
        if coarse is None:
            return y
        return y + conv3_enlarged(coarse.astype(x.dtype), kernel[:, :, own:])
