"""Residual networks of any depth and width, with the published ones as settings."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax

from posejax.nn.batchnorm import Activation, BatchNorm
from posejax.nn.pointwise import Pointwise

# Blocks per stage and whether they are bottlenecks.
DEPTHS: dict[int, tuple[tuple[int, ...], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}
EXPANSION = 4
# PyTorch's default for residual networks: variance 2 / (fan out).
INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNetFeatures(NamedTuple):
    """Feature maps `[B, h, w, C]` of a `ResNet`.

    Attributes:
      stem: after the first convolution (stride 2) and, if there is one, the max pool (stride 4).
      stages: one per entry of `blocks`; the first has the stem's stride, each further one twice
        the stride of the one before.
    """

    stem: jax.Array
    stages: tuple[jax.Array, ...]


class ResidualUnit(nn.Module):
    """One residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 as a bottleneck.

    The stride sits in the first 3x3 convolution. The shortcut is projected (1x1 convolution and
    norm) where stride or width change. Zero padding is symmetric, one cell for 3x3.

    Attributes:
      width: channels of the 3x3 convolutions; a bottleneck's output has four times as many.
      zero_init_residual: start every block as its shortcut.
    """

    width: int
    stride: int = 1
    bottleneck: bool = False
    zero_init_residual: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv(features, kernel, stride, name):
            if kernel == 1:
                layer = Pointwise(features, dtype=self.dtype, name=name)
                return lambda x: layer(x[:, ::stride, ::stride])
            return nn.Conv(
                features,
                (kernel, kernel),
                (stride, stride),
                padding=kernel // 2,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=INIT,
                name=name,
            )

        def norm(name, activation: Activation = "none", zero=False):
            return BatchNorm(activation=activation, dtype=self.dtype, zero_scale=zero, name=name)

        out = self.width * (EXPANSION if self.bottleneck else 1)
        if self.bottleneck:
            plan = ((self.width, 1, 1), (self.width, 3, self.stride), (out, 1, 1))
        else:
            plan = ((out, 3, self.stride), (out, 3, 1))
        y = x
        for i, (features, kernel, stride) in enumerate(plan, start=1):
            last = i == len(plan)
            y = conv(features, kernel, stride, f"conv{i}")(y)
            if last:
                y = norm(f"norm{i}", zero=self.zero_init_residual)(y, train)
            else:
                y = norm(f"norm{i}", "relu")(y, train)
        if self.stride != 1 or x.shape[-1] != out:
            x = conv(out, 1, self.stride, "shortcut_conv")(x)
            x = norm("shortcut_norm")(x, train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """`[B, H, W, C]`, any number of channels -> `ResNetFeatures`.

    The published networks are `resnet(18)` and so on. A network for small inputs or a CPU is one
    line, e.g. `ResNet(blocks=(1, 1, 1, 1), widths=(16, 32, 64, 128), stem_width=16)`.

    Attributes:
      blocks: residual blocks of each stage. Leave out the last stages to stop early; a stage that
        is not built costs neither parameters nor time.
      widths: channels of each stage, of which as many are used as `blocks` has entries; a
        bottleneck stage has four times as many at its output.
      bottleneck: kind of block, see `ResidualUnit`.
      stem: "pool" for the 7x7 convolution of stride 2 and the 3x3 max pool of stride 2;
        "conv" without the pool; "conv3" for a 3x3 convolution of stride 2 without the pool.
      dtype: of activations and convolutions (`None`: the promoted type); parameters and norm
        statistics are float32 always.

    Its 1x1 convolutions are `Pointwise`: reverse mode alone, no `jax.jvp`, no `jax.hessian`.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, with the stride in
    the 3x3 convolution of a bottleneck as in torchvision. Module names follow torchvision's
    (posejax.nn.torch_tables.resnet_table).
    """

    blocks: Sequence[int] = (2, 2, 2, 2)
    widths: Sequence[int] = (64, 128, 256, 512)
    bottleneck: bool = False
    stem_width: int = 64
    stem: Literal["pool", "conv", "conv3"] = "pool"
    zero_init_residual: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> ResNetFeatures:
        if len(self.blocks) > len(self.widths):
            raise ValueError(f"{len(self.blocks)} stages but widths for {len(self.widths)}")
        if self.stem not in ("pool", "conv", "conv3"):
            raise ValueError(f"unknown stem {self.stem!r}; expected pool, conv or conv3")
        kernel = 3 if self.stem == "conv3" else 7
        x = nn.Conv(
            self.stem_width,
            (kernel, kernel),
            (2, 2),
            padding=kernel // 2,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=INIT,
            name="stem_conv",
        )(x)
        x = BatchNorm(activation="relu", dtype=self.dtype, name="stem_norm")(x, train)
        if self.stem == "pool":
            # Padding with -inf as in PyTorch; after the ReLU zeros would give the same.
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))  # type: ignore[arg-type]
        stem, stages = x, []
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                x = ResidualUnit(
                    self.widths[stage],
                    stride=2 if stage and block == 0 else 1,
                    bottleneck=self.bottleneck,
                    zero_init_residual=self.zero_init_residual,
                    dtype=self.dtype,
                    name=f"layer{stage + 1}_{block}",
                )(x, train)
            stages.append(x)
        return ResNetFeatures(stem, tuple(stages))


def resnet(depth: int = 18, *, stages: int = 4, dtype: Any = None, **settings) -> ResNet:
    """A published residual network.

    Args:
      depth: 18, 34, 50 or 101.
      stages: how many of the four stages to build.
      settings: further attributes of `ResNet`.

    Raises:
      ValueError: another depth, or a number of stages that is not 1 to 4.
    """
    if depth not in DEPTHS:
        raise ValueError(f"no ResNet-{depth}; expected one of {', '.join(map(str, DEPTHS))}")
    if not 1 <= stages <= 4:
        raise ValueError(f"a ResNet has 1 to 4 stages, not {stages}")
    blocks, bottleneck = DEPTHS[depth]
    return ResNet(blocks=blocks[:stages], bottleneck=bottleneck, dtype=dtype, **settings)
