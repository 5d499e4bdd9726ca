"""EfficientNet B0 to B4 with the conventions of both public weight families."""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.nn.batchnorm import Activation, BatchNorm
from posejax.nn.depthwise import DepthwiseConv
from posejax.nn.pointwise import Pointwise

Compat = Literal["timm", "efficientnet_pytorch"]
INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class StageSpec(NamedTuple):
    """Blocks of one stage before scaling; the stride is that of the first block."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    StageSpec(1, 3, 1, 1, 16),
    StageSpec(2, 3, 2, 6, 24),
    StageSpec(2, 5, 2, 6, 40),
    StageSpec(3, 3, 2, 6, 80),
    StageSpec(3, 5, 1, 6, 112),
    StageSpec(4, 5, 2, 6, 192),
    StageSpec(1, 3, 1, 6, 320),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
# Width factor, depth factor, native image size.
VARIANTS: dict[str, tuple[float, float, int]] = {
    "b0": (1.0, 1.0, 224),
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 300),
    "b4": (1.4, 1.8, 380),
}


@dataclasses.dataclass(frozen=True)
class Convention:
    """What the two public families do differently.

    Attributes:
      epsilon, momentum: of every batch norm (momentum: share of the old statistics that is kept).
      same_padding: pad a strided convolution so that the native image size gives ceil(n / stride),
        the odd cell at the right and bottom; else k // 2 on every side.
    """

    epsilon: float
    momentum: float
    same_padding: bool


CONVENTIONS: dict[str, Convention] = {
    "timm": Convention(1e-5, 0.9, False),
    "efficientnet_pytorch": Convention(1e-3, 0.99, True),
}


class EfficientNetFeatures(NamedTuple):
    """Outputs of `EfficientNet`, channels last.

    Attributes:
      stem: `[B, H/2, W/2, C]` after norm and SiLU.
      stages: output of each stage that was built; strides 2, 4, 8, 16, 16, 32, 32.
      head: `[B, H/32, W/32, 1280]` (B0), or None without the head.
      pooled: `[B, 1280]`, mean of `head` over space, or None.
      logits: `[B, classes]`, or None without the classifier.
    """

    stem: jax.Array
    stages: tuple[jax.Array, ...]
    head: jax.Array | None
    pooled: jax.Array | None
    logits: jax.Array | None


def scaled_channels(channels: int, width: float) -> int:
    """Channels times `width`, to the nearest multiple of 8 that loses no more than a tenth."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def scaled_stages(variant: str) -> tuple[StageSpec, ...]:
    """The seven stages of a variant, e.g. "b0"."""
    if variant not in VARIANTS:
        raise ValueError(f"no EfficientNet {variant!r}; expected one of {', '.join(VARIANTS)}")
    width, depth, _ = VARIANTS[variant]
    return tuple(
        s._replace(blocks=math.ceil(s.blocks * depth), channels=scaled_channels(s.channels, width))
        for s in STAGES
    )


def padding(kernel: int, stride: int, size: int, same: bool) -> tuple[int, int]:
    """Cells of zeros before and after a raster of `size` along one axis."""
    if not same:
        return kernel // 2, kernel // 2
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise k x k, squeeze and excite, project 1x1; shortcut where shapes allow.

    Attributes:
      spec: of the stage; its stride holds for this block.
      pad: cells of zeros before and after, on both axes, for the depthwise convolution.
      drop: probability of dropping the residual branch of an example in training
        (stochastic depth); needs the rng "dropout" where it is not 0.
    """

    spec: StageSpec
    pad: tuple[int, int]
    convention: Convention
    drop: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        spec, inputs = self.spec, x.shape[-1]
        y = x
        if spec.expand > 1:
            y = _pointwise(inputs * spec.expand, self.dtype, "expand_conv")(y)
            y = _norm(self.convention, self.dtype, "expand_norm", "silu")(y, train)
        y = DepthwiseConv(
            spec.kernel, spec.stride, self.pad, dtype=self.dtype, name="depthwise_conv"
        )(y)
        y = _norm(self.convention, self.dtype, "depthwise_norm", "silu")(y, train)
        gate = jnp.mean(y, axis=(1, 2), keepdims=True, dtype=jnp.float32).astype(y.dtype)
        gate = nn.silu(_pointwise(inputs // 4, self.dtype, "se_reduce", bias=True)(gate))
        gate = _pointwise(y.shape[-1], self.dtype, "se_expand", bias=True)(gate)
        y = _pointwise(spec.channels, self.dtype, "project_conv")(y * nn.sigmoid(gate))
        y = _norm(self.convention, self.dtype, "project_norm")(y, train)
        if spec.stride != 1 or inputs != spec.channels:
            return y
        if train and self.drop > 0:
            kept = jax.random.bernoulli(
                self.make_rng("dropout"), 1 - self.drop, (x.shape[0], 1, 1, 1)
            )
            y = jnp.where(kept, y / (1 - self.drop), 0).astype(y.dtype)
        return x + y


class EfficientNet(nn.Module):
    """`[B, H, W, C]`, any number of channels -> `EfficientNetFeatures`.

    Attributes:
      variant: "b0" to "b4".
      compat: whose weights it can take, see `Convention`; new networks take "timm".
      stages: how many of the seven stages to build, first to last.
      head: whether to build the last 1x1 convolution; only with all seven stages.
      classes: outputs of the classifier after the pooled features; 0 builds none.
      drop_connect: stochastic depth of the last block; earlier blocks have proportionally less
        (0.2 in both families). Needs the rng "dropout" in training.
      dtype: of activations and convolutions (`None`: the promoted type); parameters and norm
        statistics are float32 always.

    Source: Tan and Le, EfficientNet, ICML 2019. Names of modules map to both families'
    (posejax.nn.torch_tables.efficientnet_table).
    """

    variant: str = "b0"
    compat: Compat = "timm"
    stages: int = len(STAGES)
    head: bool = True
    classes: int = 0
    drop_connect: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> EfficientNetFeatures:
        convention = self._check()
        specs = scaled_stages(self.variant)[: self.stages]
        width, _, size = VARIANTS[self.variant]

        pad = padding(3, 2, size, convention.same_padding)
        size = math.ceil(size / 2)
        x = nn.Conv(
            scaled_channels(STEM_CHANNELS, width),
            (3, 3),
            (2, 2),
            padding=(pad, pad),
            use_bias=False,
            dtype=self.dtype,
            kernel_init=INIT,
            name="stem_conv",
        )(x)
        stem = x = _norm(convention, self.dtype, "stem_norm", "silu")(x, train)

        outputs, done, total = [], 0, sum(s.blocks for s in specs)
        for stage, spec in enumerate(specs):
            for block in range(spec.blocks):
                here = spec if block == 0 else spec._replace(stride=1)
                x = InvertedResidual(
                    here,
                    padding(here.kernel, here.stride, size, convention.same_padding),
                    convention,
                    drop=self.drop_connect * done / total,
                    dtype=self.dtype,
                    name=f"stage{stage}_{block}",
                )(x, train)
                size, done = math.ceil(size / here.stride), done + 1
            outputs.append(x)
        if not self.head:
            return EfficientNetFeatures(stem, tuple(outputs), None, None, None)

        x = _pointwise(scaled_channels(HEAD_CHANNELS, width), self.dtype, "head_conv")(x)
        head = _norm(convention, self.dtype, "head_norm", "silu")(x, train)
        pooled = jnp.mean(head, axis=(1, 2), dtype=jnp.float32).astype(head.dtype)
        logits = None
        if self.classes:
            logits = nn.Dense(self.classes, dtype=self.dtype, name="classifier")(pooled)
        return EfficientNetFeatures(stem, tuple(outputs), head, pooled, logits)

    def _check(self) -> Convention:
        if self.compat not in CONVENTIONS:
            raise ValueError(
                f"unknown compat {self.compat!r}; expected one of {', '.join(CONVENTIONS)}"
            )
        if not 1 <= self.stages <= len(STAGES):
            raise ValueError(f"stages must be 1 to {len(STAGES)}, not {self.stages}")
        if self.head and self.stages < len(STAGES):
            raise ValueError(f"the head needs all {len(STAGES)} stages; set head=False")
        if self.classes and not self.head:
            raise ValueError("a classifier needs the head")
        return CONVENTIONS[self.compat]


def _pointwise(features: int, dtype: Any, name: str, bias: bool = False) -> Pointwise:
    return Pointwise(features, bias, dtype, name=name)


def _norm(
    convention: Convention, dtype: Any, name: str, activation: Activation = "none"
) -> BatchNorm:
    return BatchNorm(convention.momentum, convention.epsilon, activation, dtype, name=name)
