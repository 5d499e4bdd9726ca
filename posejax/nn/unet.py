"""Pyramid encoders and the top-down decoder that turns a pyramid into one dense feature map."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.nn.norms import Norm, NormKind


class ConvNorm(nn.Module):
    """3x3 convolution, normalisation, optional ReLU; keeps the raster's size."""

    channels: int
    norm: NormKind = "group"
    relu: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        bias = self.norm == "none"
        x = nn.Conv(self.channels, (3, 3), use_bias=bias, dtype=self.dtype, name="conv")(x)
        x = Norm(self.norm, dtype=self.dtype, name="norm")(x, train)
        return nn.relu(x) if self.relu else x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity shortcut (a 1x1 where the width changes)."""

    channels: int
    norm: NormKind = "group"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        common = {"norm": self.norm, "dtype": self.dtype}
        y = ConvNorm(self.channels, name="conv1", **common)(x, train)
        y = ConvNorm(self.channels, relu=False, name="conv2", **common)(y, train)
        if x.shape[-1] != self.channels:
            x = nn.Conv(self.channels, (1, 1), use_bias=False, dtype=self.dtype, name="shortcut")(x)
        return nn.relu(x + y)


def downsample2(x: jax.Array) -> jax.Array:
    """Mean over 2x2 cells.

    A strided 3x3 convolution centres its output half a fine cell beside the coarse cell's centre
    (on either side, depending on the padding); registration would see that as a shift.
    """
    return nn.avg_pool(x, (2, 2), (2, 2))


def upsample2(x: jax.Array) -> jax.Array:
    """Bilinear upsampling of `[B,H,W,C]` by 2; the inverse of `downsample2` on linear ramps."""
    b, h, w, c = x.shape
    return jax.image.resize(x, (b, 2 * h, 2 * w, c), "bilinear")


class PyramidEncoder(nn.Module):
    """`[B,H,W,C]` -> feature maps at strides 1, 2, 4, ..., one per entry of `widths`.

    Attributes:
      widths: channels of each level, finest first.
      blocks: residual blocks per level after its first convolution; 0 gives the plain U-Net
        encoder of two convolutions a level.
    """

    widths: Sequence[int] = (16, 32, 64)
    blocks: int = 1
    norm: NormKind = "group"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]:
        common = {"norm": self.norm, "dtype": self.dtype}
        levels = []
        for level, width in enumerate(self.widths):
            x = downsample2(x) if level else x
            x = ConvNorm(width, name=f"level{level}_in", **common)(x, train)
            if self.blocks == 0:
                x = ConvNorm(width, name=f"level{level}_conv", **common)(x, train)
            for block in range(self.blocks):
                x = ResidualBlock(width, name=f"level{level}_block{block}", **common)(x, train)
            levels.append(x)
        return levels


class TopDownDecoder(nn.Module):
    """Merges a pyramid (finest first) from the coarsest level down to level `stop`.

    Each step upsamples by 2, concatenates the encoder's map of that level and convolves to that
    level's width; a last 1x1 convolution gives `features` channels.
    """

    features: int
    stop: int = 0
    norm: NormKind = "group"
    dtype: Any = None

    @nn.compact
    def __call__(self, levels: Sequence[jax.Array], train: bool) -> jax.Array:
        x = levels[-1]
        for level in range(len(levels) - 2, self.stop - 1, -1):
            skip = levels[level]
            x = upsample2(x)
            x = jnp.concatenate([x[:, : skip.shape[1], : skip.shape[2]], skip], axis=-1)
            x = ConvNorm(
                skip.shape[-1], norm=self.norm, dtype=self.dtype, name=f"level{level}_merge"
            )(x, train)
        return nn.Conv(self.features, (1, 1), dtype=self.dtype, name="head")(x)


class UNet(nn.Module):
    """Dense features `[B, H/s, W/s, features]` of `[B,H,W,C]`, `s = out_stride` (a power of 2).

    H and W must be divisible by `out_stride`; they are zero-padded at the high end to the
    coarsest stride and the result is cropped, so cell (i, j) always covers the same input cells.
    """

    features: int = 8
    widths: Sequence[int] = (16, 32, 64)
    blocks: int = 1
    out_stride: int = 1
    norm: NormKind = "group"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        stop = self.out_stride.bit_length() - 1
        if 2**stop != self.out_stride or stop >= len(self.widths):
            raise ValueError(
                f"out_stride {self.out_stride} must be a power of 2 up to "
                f"{2 ** (len(self.widths) - 1)} for widths {tuple(self.widths)}"
            )
        height, width = x.shape[1:3]
        if height % self.out_stride or width % self.out_stride:
            raise ValueError(f"raster {height}x{width} is not divisible by {self.out_stride}")
        coarsest = 2 ** (len(self.widths) - 1)
        x = jnp.pad(x, ((0, 0), (0, -height % coarsest), (0, -width % coarsest), (0, 0)))
        common = {"norm": self.norm, "dtype": self.dtype}
        levels = PyramidEncoder(self.widths, self.blocks, name="encoder", **common)(x, train)
        y = TopDownDecoder(self.features, stop, name="decoder", **common)(levels, train)
        return y[:, : height // self.out_stride, : width // self.out_stride]
