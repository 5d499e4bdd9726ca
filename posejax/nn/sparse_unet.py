"""Residual U-Net on voxels: Res16UNet34C, by the name MinkUNet34C, on posejax.sparse."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.nn.torch_weights import Entry, NameTable, batch_norm
from posejax.sparse import KernelMap, SparseMaps, masked_moments, normalize_rows, sparse_conv

# Kaiming's for rectifiers, counting all offsets, as MinkowskiEngine starts its kernels.
INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class SparseUNetFeatures(NamedTuple):
    """What a `SparseUNet` gives; rows as in the levels of its maps, zero where no voxel is.

    Attributes:
      encoder: stem (stride 1), then one for each further level.
      decoder: from the second coarsest level to the finest.
      features: [N, C], the last of the decoder.
      logits: [N, classes], or None.
    """

    encoder: tuple[jax.Array, ...]
    decoder: tuple[jax.Array, ...]
    features: jax.Array
    logits: jax.Array | None


class SparseBatchNorm(nn.Module):
    """Normalises `[N, C]` over the rows that hold voxels, of all clouds; statistics in float32.

    Variables and running statistics are those of `BatchNorm`: the variance kept is the unbiased
    one. Rows without voxel become zero.

    Attributes:
      momentum: share of the old running statistics that an update keeps (PyTorch and
        MinkowskiEngine call the rest the momentum).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        if not train:
            return normalize_rows(x, mask, mean.value, var.value, scale, bias, self.epsilon)
        batch_mean, batch_var, count = masked_moments(x, mask)
        if not self.is_initializing():
            # A batch without voxels says nothing of the statistics.
            keep = jnp.where(count > 0, self.momentum, 1.0)
            unbiased = batch_var * count / jnp.maximum(count - 1, 1)
            mean.value = keep * mean.value + (1 - keep) * jax.lax.stop_gradient(batch_mean)
            var.value = keep * var.value + (1 - keep) * jax.lax.stop_gradient(unbiased)
        return normalize_rows(x, mask, batch_mean, batch_var, scale, bias, self.epsilon)


class SparseConv(nn.Module):
    """Sparse convolution without bias; a product of matrices where there is no map."""

    channels: int

    @nn.compact
    def __call__(self, x: jax.Array, maps: KernelMap | None) -> jax.Array:
        offsets = () if maps is None else (maps.neighbours.shape[0],)
        shape = (*offsets, x.shape[1], self.channels)
        kernel = self.param("kernel", INIT, shape, jnp.float32)
        return x @ kernel.astype(x.dtype) if maps is None else sparse_conv(x, kernel, maps)


class SparseConvNorm(nn.Module):
    """Sparse convolution, batch norm and, if asked for, ReLU."""

    channels: int
    momentum: float = 0.9
    relu: bool = True

    @nn.compact
    def __call__(self, x, maps: KernelMap | None, mask, train: bool) -> jax.Array:
        x = SparseConv(self.channels, name="conv")(x, maps)
        x = SparseBatchNorm(self.momentum, name="norm")(x, mask, train)
        return nn.relu(x) if self.relu else x


class SparseResidualUnit(nn.Module):
    """Two 3^3 convolutions around a shortcut, projected where the width changes."""

    channels: int

    @nn.compact
    def __call__(self, x, maps: KernelMap, mask, train: bool) -> jax.Array:
        y = SparseConvNorm(self.channels, name="unit1")(x, maps, mask, train)
        y = SparseConvNorm(self.channels, relu=False, name="unit2")(y, maps, mask, train)
        if x.shape[1] != self.channels:
            shortcut = SparseConvNorm(self.channels, relu=False, name="shortcut")
            x = shortcut(x, None, mask, train)
        return nn.relu(x + y)


class SparseUNet(nn.Module):
    """`[N, C]` features of voxels and their maps -> `SparseUNetFeatures`.

    The defaults are Res16UNet34C (37.8 M weights). A network for small inputs or a CPU is one
    line, e.g. `SparseUNet(stem=16, widths=(16, 32, 32, 16), blocks=(1, 1, 1, 1))`.

    Attributes:
      stem: channels of the first convolution.
      widths: channels of the encoder's levels, then of the decoder's: twice as many entries as
        the maps have levels below the finest.
      blocks: residual units of each.
      classes: of a last linear layer; none by default.
      momentum: see `SparseBatchNorm`, of the norms outside residual units.
      dtype: of the activations (None: the features' type); parameters and statistics are float32.

    If a level of the maps overflowed, everything it gives is NaN.

    Source: Choy, Gwak, Savarese, 4D Spatio-Temporal ConvNets, CVPR 2019; names, offsets and
    momenta as in its code and ESAM's (`sparse_unet_table`).
    """

    stem: int = 32
    widths: Sequence[int] = (32, 64, 128, 256, 256, 128, 96, 96)
    blocks: Sequence[int] = (2, 3, 4, 6, 2, 2, 2, 2)
    classes: int = 0
    momentum: float = 0.98
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, maps: SparseMaps, train: bool) -> SparseUNetFeatures:
        depth = len(maps.down)
        if len(self.widths) != 2 * depth or len(self.blocks) != 2 * depth:
            raise ValueError(
                f"maps of {depth + 1} levels take {2 * depth} widths and blocks, got "
                f"{len(self.widths)} and {len(self.blocks)}"
            )
        masks = [level.mask for level in maps.levels]
        x = x if self.dtype is None else x.astype(self.dtype)

        def step(name, channels, x, kernels, level):
            module = SparseConvNorm(channels, self.momentum, name=name)
            return module(x, kernels, masks[level], train)

        def units(stage, x, level):
            for i in range(self.blocks[stage]):
                module = SparseResidualUnit(self.widths[stage], name=f"block{stage + 1}_{i}")
                x = module(x, maps.same[level], masks[level], train)
            return x

        x = step("stem", self.stem, x, maps.stem, 0)
        encoder, decoder = [x], []
        for i, down in enumerate(maps.down):
            x = step(f"down{i + 1}", x.shape[1], x, down, i + 1)
            x = units(i, x, i + 1)
            encoder.append(x)
        for stage in range(depth, 2 * depth):
            level = 2 * depth - 1 - stage
            x = step(f"up{stage}", self.widths[stage], x, maps.down[level].transposed, level)
            x = units(stage, jnp.concatenate([x, encoder[level]], axis=1), level)
            decoder.append(x)
        logits = None
        if self.classes:
            kernel = self.param("final_kernel", INIT, (x.shape[1], self.classes), jnp.float32)
            bias = self.param("final_bias", nn.initializers.zeros, (1, self.classes), jnp.float32)
            logits = x.astype(jnp.float32) @ kernel + bias
            logits = jnp.where(masks[0][:, None], logits, 0)
        found = SparseUNetFeatures(tuple(encoder), tuple(decoder), x, logits)
        return jax.tree.map(lambda v: jnp.where(maps.overflow, jnp.nan, v), found)


def sparse_unet_table(model: SparseUNet) -> NameTable:
    """MinkowskiEngine's names for `model` (see posejax.nn.torch_weights).

    The last layer is ignored where `model` has none.
    """

    def block(theirs: str, norm: str, *path: str) -> list[Entry]:
        kernel = Entry(f"{theirs}.kernel", ("params", *path, "conv", "kernel"))
        return [kernel, *batch_norm(f"{norm}.bn", *path, "norm")]

    depth = len(model.widths) // 2
    entries = block("conv0p1s1", "bn0", "stem")
    channels = model.stem
    for stage, width in enumerate(model.widths):
        n = stage + 1
        if stage < depth:
            entries += block(f"conv{n}p{2**stage}s2", f"bn{n}", f"down{n}")
        else:
            stride = 2 ** (2 * depth - stage)
            entries += block(f"convtr{stage}p{stride}s2", f"bntr{stage}", f"up{stage}")
            level = 2 * depth - 1 - stage
            channels = width + (model.widths[level - 1] if level else model.stem)
        for i in range(model.blocks[stage]):
            theirs, path = f"block{n}.{i}", f"block{n}_{i}"
            for k in (1, 2):
                entries += block(f"{theirs}.conv{k}", f"{theirs}.norm{k}", path, f"unit{k}")
            if channels != width:
                down = f"{theirs}.downsample"
                entries += block(f"{down}.0", f"{down}.1", path, "shortcut")
            channels = width
    ignored = [r".*\.num_batches_tracked"]
    if model.classes:
        entries += [
            Entry("final.kernel", ("params", "final_kernel")),
            Entry("final.bias", ("params", "final_bias")),
        ]
    else:
        ignored.append(r"final\..*")
    return NameTable(tuple(entries), tuple(ignored), stem="conv0p1s1.kernel")
