"""Heatmap logits from a pyramid of features: a top-down decoder of sums, cheap on any device."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from posejax.nn.batchnorm import BatchNorm
from posejax.nn.conv3 import Conv3x3
from posejax.nn.pointwise import Pointwise
from posejax.nn.unet import upsample2

LECUN_NORMAL = nn.initializers.lecun_normal()


def depth_to_space(x: jax.Array, factor: int) -> jax.Array:
    """`[B, H, W, f f C]` -> `[B, f H, f W, C]`: channels become the cells within a cell."""
    b, h, w, channels = x.shape
    c = channels // factor**2
    x = x.reshape(b, h, w, factor, factor, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * factor, w * factor, c)


def space_to_depth(x: jax.Array, factor: int) -> jax.Array:
    """Inverse of `depth_to_space`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // factor, factor, w // factor, factor, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // factor, w // factor, factor**2 * c)


class ConvUnit(nn.Module):
    """Convolution, batch norm, ReLU; padded so that a stride of 1 keeps the size.

    Differentiable once, in reverse mode, as `Conv3x3` and `Pointwise` are.
    """

    width: int
    kernel: int = 3
    stride: int = 1
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        common = {"dtype": self.dtype, "kernel_init": LECUN_NORMAL, "name": "conv"}
        if (self.kernel, self.stride) == (1, 1):
            x = Pointwise(self.width, **common)(x)
        elif (self.kernel, self.stride) == (3, 1):
            x = Conv3x3(self.width, **common)(x)
        else:
            size, stride = (self.kernel,) * 2, (self.stride,) * 2
            padding = (self.kernel - 1) // 2
            x = nn.Conv(self.width, size, stride, padding, use_bias=False, **common)(x)
        return BatchNorm(activation="relu", dtype=self.dtype, name="norm")(x, train)


class PatchEncoder(nn.Module):
    """`[B, H, W, C]` -> features at strides p, 2 p, 4 p, ... for patches of p x p cells.

    The patches are a space-to-depth, so that all convolutions are wide and few: on a CPU, thin
    layers at full resolution cost several times their arithmetic.

    Attributes:
      widths: channels of each level, finest first.
      patch: cells of the input along a cell of the finest level.
      blocks: residual convolutions per level.
    """

    widths: Sequence[int]
    patch: int = 4
    blocks: int = 1
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]:
        levels = []
        x = space_to_depth(x, self.patch)
        for level, width in enumerate(self.widths):
            # Patches overlap from the first block on; before it, they are a dense layer each.
            kernel, stride = (3, 2) if level else (1, 1)
            x = ConvUnit(width, kernel, stride, self.dtype, name=f"level{level}_in")(x, train)
            for block in range(self.blocks):
                name = f"level{level}_block{block}"
                x = x + ConvUnit(width, dtype=self.dtype, name=name)(x, train)
            levels.append(x)
        return levels


class HeatmapDecoder(nn.Module):
    """A pyramid (finest first, each level half the one before) -> logits `[B, f H, f W, points]`.

    From the coarsest level down, what is above is brought to a level's width and size and added to
    it, and convolved; thin levels, as published networks have, are widened first. One 1x1
    convolution at the finest level gives all points' logits at all f x f places within its cells.
    Logits are float32.

    Attributes:
      points: number of heatmaps.
      factor: f, how much finer than the finest level the heatmaps are.
      least: channels of a level at least.
    """

    points: int
    factor: int = 1
    least: int = 64
    dtype: Any = None

    @nn.compact
    def __call__(self, levels: Sequence[jax.Array], train: bool) -> jax.Array:
        def mixed(x: jax.Array, width: int, name: str) -> jax.Array:
            common = {"bias": True, "dtype": self.dtype, "kernel_init": LECUN_NORMAL}
            return Pointwise(width, name=name, **common)(x)

        x = levels[-1]
        for level in range(len(levels) - 2, -1, -1):
            skip = levels[level]
            if skip.shape[-1] < self.least:
                skip = mixed(skip, self.least, f"skip{level}")
            above = mixed(x, skip.shape[-1], f"above{level}")
            x = nn.relu(skip + upsample2(above)[:, : skip.shape[1], : skip.shape[2]])
            x = ConvUnit(skip.shape[-1], dtype=self.dtype, name=f"merge{level}")(x, train)
        x = mixed(x, self.points * self.factor**2, "logits")
        return depth_to_space(x.astype("float32"), self.factor)
