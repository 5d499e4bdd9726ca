"""XFeat: a small convolutional trunk for matching, with its keypoint heads.

Potje et al., XFeat: Accelerated Features for Lightweight Image Matching, CVPR 2024. Grey images in;
24 channels at stride 4 and 64 at stride 8 out. Sides are multiples of 32.
"""

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.nn.torch_weights import Entry, NameTable, conv
from posejax.nn.upsample import transposed_upsample

Upsample = Literal["bilinear", "transposed"]

# Of each block, the layers (channels, kernel, stride).
TRUNK = {
    "block1": ((4, 3, 1), (8, 3, 2), (8, 3, 1), (24, 3, 2)),
    "block2": ((24, 3, 1), (24, 3, 1)),
    "block3": ((64, 3, 2), (64, 3, 1), (64, 1, 1)),
    "block4": ((64, 3, 2), (64, 3, 1), (64, 3, 1)),
    "block5": ((128, 3, 2), (128, 3, 1), (128, 3, 1), (64, 1, 1)),
    "block_fusion": ((64, 3, 1), (64, 3, 1)),
}
HEADS = {
    "heatmap_head": ((64, 1, 1), (64, 1, 1)),
    "keypoint_head": ((64, 1, 1), (64, 1, 1), (64, 1, 1)),
}


class ConvLayer(nn.Module):
    """Convolution, batch norm without scale and bias, ReLU.

    Attributes:
      folded: the norm's statistics are folded into the convolution, which then has a bias.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    folded: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(
            self.channels,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=self.kernel // 2,
            use_bias=self.folded,
            dtype=self.dtype,
            name="conv",
        )(x)
        if not self.folded:
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                use_scale=False,
                use_bias=False,
                dtype=self.dtype,
                name="norm",
            )(x)
        return nn.relu(x)


class ConvBlock(nn.Module):
    """Layers (channels, kernel, stride) one after another."""

    layers: tuple[tuple[int, int, int], ...]
    folded: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i, (channels, kernel, stride) in enumerate(self.layers):
            layer = ConvLayer(channels, kernel, stride, self.folded, self.dtype, name=f"layer{i}")
            x = layer(x, train)
        return x


class XFeatTrunk(nn.Module):
    """Normalised grey images [B, H, W, 1] -> fine [B, H/4, W/4, 24], coarse [B, H/8, W/8, 64].

    Attributes:
      folded: see `ConvLayer`.
      width: factor of all numbers of channels; those of the released weights at 1.
      upsample: "transposed" for convolutions in place of interpolation; the values are the same.
    """

    folded: bool = False
    dtype: Any = None
    width: float = 1.0
    upsample: Upsample = "bilinear"

    @nn.compact
    def __call__(self, grey: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        height, width = grey.shape[1:3]
        if height % 32 or width % 32:
            raise ValueError(f"sides are multiples of 32, got {height}x{width}")

        def wide(channels):
            return round(channels * self.width)

        def block(name):
            layers = tuple((wide(channels), *rest) for channels, *rest in TRUNK[name])
            return ConvBlock(layers, self.folded, self.dtype, name=name)

        def enlarged(x):
            if self.upsample == "transposed":
                return transposed_upsample(x, x3.shape[1] // x.shape[1])
            return jax.image.resize(x, x3.shape, "bilinear")

        skip = nn.Conv(wide(24), (1, 1), dtype=self.dtype, name="skip1")
        x = block("block1")(grey, train) + skip(nn.avg_pool(grey, (4, 4), (4, 4)))
        fine = block("block2")(x, train)
        x3 = block("block3")(fine, train)
        x4 = block("block4")(x3, train)
        x5 = block("block5")(x4, train)
        x = block("block_fusion")(x3 + enlarged(x4) + enlarged(x5), train)
        return fine, nn.Conv(wide(64), (1, 1), dtype=self.dtype, name="fusion_out")(x)


class XFeatOutput(NamedTuple):
    """Maps of a batch: what matching and keypoint detection use.

    Attributes:
      fine: [B, H/4, W/4, 24].
      coarse: [B, H/8, W/8, 64], not normalised; its unit vectors are XFeat's descriptors.
      heatmap: [B, H/8, W/8, 1] in (0, 1), reliability of a descriptor.
      keypoint_logits: [B, H/8, W/8, 65], of the 64 pixels of a cell, row by row, and of none.
    """

    fine: jax.Array
    coarse: jax.Array
    heatmap: jax.Array
    keypoint_logits: jax.Array


class XFeat(nn.Module):
    """Images [B, H, W, C] -> `XFeatOutput`."""

    folded: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> XFeatOutput:
        grey = normalized_grey(images)
        fine, coarse = XFeatTrunk(self.folded, self.dtype, name="trunk")(grey, train)

        def head(name, x, channels):
            x = ConvBlock(HEADS[name], self.folded, self.dtype, name=name)(x, train)
            return nn.Conv(channels, (1, 1), dtype=self.dtype, name=f"{name}_out")(x)

        heatmap = nn.sigmoid(head("heatmap_head", coarse, 1))
        return XFeatOutput(fine, coarse, heatmap, head("keypoint_head", _cells(grey), 65))


def mean_grey(images: jax.Array) -> jax.Array:
    """Mean of the channels, [B, H, W, C] -> float32 [B, H, W, 1]."""
    return jnp.mean(images.astype(jnp.float32), axis=-1, keepdims=True)


def normalized_grey(images: jax.Array) -> jax.Array:
    """Mean of the channels, to zero mean and unit variance in each image, in float32.

    [B, H, W, C] of any range -> [B, H, W, 1]. The statistics pass no gradient.
    """
    grey = mean_grey(images)
    mean = jax.lax.stop_gradient(jnp.mean(grey, axis=(1, 2), keepdims=True))
    variance = jax.lax.stop_gradient(jnp.var(grey, axis=(1, 2), keepdims=True))
    return (grey - mean) / jnp.sqrt(variance + 1e-5)


def _cells(grey: jax.Array) -> jax.Array:
    """[B, H, W, 1] -> [B, H/8, W/8, 64], the pixels of each 8x8 cell row by row."""
    batch, height, width, _ = grey.shape
    cells = grey.reshape(batch, height // 8, 8, width // 8, 8).transpose(0, 1, 3, 2, 4)
    return cells.reshape(batch, height // 8, width // 8, 64)


def trunk_entries(*scope: str, folded: bool = False) -> list[Entry]:
    """Pairs of XFeat's names with the arrays of an `XFeatTrunk` inside the modules `scope`."""
    entries = conv("skip1.1", *scope, "skip1", bias=True)
    for block, layers in TRUNK.items():
        entries += block_entries(block, len(layers), *scope, block, folded=folded)
    return entries + conv("block_fusion.2", *scope, "fusion_out", bias=True)


def block_entries(name: str, count: int, *path: str, folded: bool = False) -> list[Entry]:
    """Pairs for the layers of a `ConvBlock`."""
    entries: list[Entry] = []
    for i in range(count):
        layer = f"{name}.{i}.layer"
        entries += conv(f"{layer}.0", *path, f"layer{i}", "conv", bias=folded)
        if not folded:
            norm = (*path, f"layer{i}", "norm")
            entries.append(Entry(f"{layer}.1.running_mean", ("batch_stats", *norm, "mean")))
            entries.append(Entry(f"{layer}.1.running_var", ("batch_stats", *norm, "var")))
    return entries


def xfeat_table(model: XFeat) -> NameTable:
    """XFeat's state dict, with batch norms or with them folded (see `posejax.nn.torch_weights`).

    Its `fine_matcher`, a refinement of sparse matches, has no counterpart here.
    """
    entries = trunk_entries("trunk", folded=model.folded)
    for name, layers in HEADS.items():
        entries += block_entries(name, len(layers), name, folded=model.folded)
        entries += conv(f"{name}.{len(layers)}", f"{name}_out", bias=True)
    return NameTable(tuple(entries), (r".*\.num_batches_tracked", r"fine_matcher\..*"))
