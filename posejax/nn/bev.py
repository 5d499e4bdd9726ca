"""Networks of bird's-eye segmentation: image encoder, neck, and the residual net over the map.

After Simple-BEV (Harley et al., ICRA 2023), whose released weights fit by name
(`posejax.nn.bev_tables`).
"""

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.nn.conv3 import Conv3x3, conv3
from posejax.nn.efficientnet import EfficientNet
from posejax.nn.instancenorm import InstanceNorm
from posejax.nn.pointwise import Pointwise
from posejax.nn.resnet import INIT, ResNet, resnet
from posejax.nn.unet import upsample2

Backbone = Literal["res101", "res50", "effb4", "effb0", "small"]
STRIDE = 8  # of the encoder's features
MAP_STRIDE = 8  # sides of a map are multiples of it: three levels down and up again


class Conv3(nn.Module):
    """3x3 convolution without bias, instance norm, ReLU; of one or two maps, see `Conv3x3`."""

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, coarse: jax.Array | None = None) -> jax.Array:
        x = Conv3x3(self.features, self.dtype, name="conv")(x, coarse)
        return InstanceNorm(activation="relu", dtype=self.dtype)(x)


class CameraEncoder(nn.Module):
    """Images `[B, H, W, 3]` (normalised) to features `[B, H/8, W/8, features]`.

    The trunk ends at stride 16; its last map is enlarged, joined with that of stride 8 and passed
    through two 3x3 convolutions. H and W are multiples of 16.

    Attributes:
      backbone: "res101", "res50", "effb4", "effb0" of the original; "small", 0.4 million
        parameters, for CPUs.
      drop_connect: stochastic depth of an EfficientNet's last block; needs the rng "dropout" in
        training.
    """

    backbone: Backbone = "res101"
    features: int = 128
    drop_connect: float = 0.0
    dtype: Any = None

    def setup(self):
        self.trunk = trunk(self.backbone, self.drop_connect, self.dtype)
        width = {"res101": 512, "res50": 512, "small": 64}.get(self.backbone, 128)
        self.merge = (Conv3(width, self.dtype), Conv3(width, self.dtype))
        self.out = Pointwise(self.features, bias=True, dtype=self.dtype)

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        if images.shape[1] % 16 or images.shape[2] % 16:
            raise ValueError(f"sides of images are multiples of 16, got {images.shape[1:3]}")
        stages = self.trunk(images, train).stages
        # An EfficientNet's third and fifth stage end at strides 8 and 16.
        fine, coarse = (stages[2], stages[4]) if len(stages) == 5 else stages[1:]
        return self.out(self.merge[1](self.merge[0](fine, coarse)))


def trunk(
    backbone: Backbone, drop_connect: float = 0.0, dtype: Any = None
) -> ResNet | EfficientNet:
    """The trunk of a `CameraEncoder`, cut off at stride 16."""
    match backbone:
        case "res101" | "res50":
            return resnet(int(backbone[3:]), stages=3, dtype=dtype)
        case "effb4" | "effb0":
            return EfficientNet(
                backbone[3:],
                "efficientnet_pytorch",
                stages=5,
                head=False,
                drop_connect=drop_connect,
                dtype=dtype,
            )
        case "small":
            return ResNet((1, 1, 1), (24, 48, 96), stem_width=24, dtype=dtype)
    raise ValueError(
        f"unknown backbone {backbone!r}; expected res101, res50, effb4, effb0 or small"
    )


class MapNet(nn.Module):
    """Bird's-eye features `[B, Z, X, C]` to features of the same shape that see far.

    Three levels down (the first stages of a ResNet-18, without its max pool), and up again with
    the finer maps added. Z and X are multiples of 8.

    Attributes:
      widths: channels at strides 2, 4 and 8.
    """

    widths: tuple[int, int, int] = (64, 128, 256)
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if x.shape[1] % MAP_STRIDE or x.shape[2] % MAP_STRIDE:
            raise ValueError(f"sides of a map are multiples of {MAP_STRIDE}, got {x.shape[1:3]}")
        down = ResNet(
            (2, 2, 2), self.widths, stem_width=self.widths[0], stem="conv",
            zero_init_residual=True, dtype=self.dtype, name="down",
        )(x, train).stages  # fmt: skip
        y = down[2]
        for level, skip in ((3, down[1]), (2, down[0]), (1, x)):
            # The 1x1 convolution commutes with the interpolation, and has a quarter to do before.
            y = Pointwise(skip.shape[-1], dtype=self.dtype, name=f"up{level}")(y)
            y = InstanceNorm(dtype=self.dtype)(upsample2(y).astype(y.dtype)) + skip
        return y


class MapHead(nn.Module):
    """3x3 convolution, instance norm, ReLU, and a 1x1 convolution with bias."""

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Conv3(x.shape[-1], self.dtype, name="hidden")(x)
        return Pointwise(self.features, bias=True, dtype=self.dtype, name="out")(x)


class MapOutputs(NamedTuple):
    """What the heads say, float32 but for the features.

    segmentation: `[B, Z, X]` logits. center: `[B, Z, X]` in (0, 1). offset: `[B, Z, X, 2]` cells
    (x, z). features: `[B, Z, X, C]`.
    """

    segmentation: jax.Array
    center: jax.Array
    offset: jax.Array
    features: jax.Array


class MapHeads(nn.Module):
    """The four heads over the bird's-eye features `[B, Z, X, C]`."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> MapOutputs:
        def head(name: str, features: int) -> jax.Array:
            return MapHead(features, self.dtype, name=name)(x)

        segmentation, center, offset = (
            head(name, n).astype(jnp.float32)
            for name, n in (("segmentation", 1), ("center", 1), ("offset", 2))
        )
        features = head("features", x.shape[-1])
        return MapOutputs(segmentation[..., 0], nn.sigmoid(center[..., 0]), offset, features)


class Compressor(nn.Module):
    """The volume `[B, Z, Y, X, C]`, flattened along its height, to a map `[B, Z, X, features]`.

    A 3x3 convolution over the C * Y channels, and those of other sensors' maps; without a bias, so
    that a sensor whose map is zero adds nothing. Params: `kernel` `[3, 3, C * Y + others,
    features]`, C before Y as in the original.
    """

    features: int = 128
    dtype: Any = None

    @nn.compact
    def __call__(self, volume: jax.Array, others: tuple[jax.Array, ...] = ()) -> jax.Array:
        y, c = volume.shape[2], volume.shape[4]
        inputs = y * c + sum(other.shape[-1] for other in others)
        kernel = self.param("kernel", INIT, (3, 3, inputs, self.features), jnp.float32)
        # Rows of C values stay whole if Y comes first: the small kernel is turned, not the volume.
        own = kernel[:, :, : y * c].reshape(3, 3, c, y, self.features).swapaxes(2, 3)
        own = own.reshape(3, 3, y * c, self.features)
        kernel = jnp.concatenate([own, kernel[:, :, y * c :]], axis=2)
        flat = jax.lax.platform_dependent(volume, cpu=_flat_by_rows, default=_flat)
        flat = jnp.concatenate([flat, *(o.astype(flat.dtype) for o in others)], axis=-1)
        dtype = flat.dtype if self.dtype is None else self.dtype
        maps = conv3(flat.astype(dtype), kernel.astype(dtype))
        return nn.gelu(InstanceNorm(dtype=self.dtype)(maps), approximate=False)


def _flat(volume: jax.Array) -> jax.Array:
    """`[B, Z, Y, X, C]` to `[B, Z, X, Y * C]`."""
    b, z, y, x, c = volume.shape
    return volume.transpose(0, 1, 3, 2, 4).reshape(b, z, x, y * c)


def _flat_by_rows(volume: jax.Array) -> jax.Array:
    """The same as a loop, which XLA does not fuse with what made the volume: else both readers of
    the result, the convolution and its gradient, sample the whole volume anew."""
    b, z, y, x, c = volume.shape
    rows = jax.lax.map(lambda v: v.swapaxes(0, 1).reshape(x, y * c), volume.reshape(-1, y, x, c))
    return rows.reshape(b, z, x, y * c)
