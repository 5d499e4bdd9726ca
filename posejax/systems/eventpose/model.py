"""Networks from a grid to raw pose heads: parameters only."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.nn.batchnorm import BatchNorm
from posejax.nn.efficientnet import EfficientNet, EfficientNetFeatures
from posejax.nn.resnet import ResNet, ResNetFeatures, resnet
from posejax.systems.eventpose.config import Backbone, ObjectiveConfig
from posejax.systems.eventpose.objective import initial_log_variance

_HEAD_INIT = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")


class VoxelCNN(nn.Module):
    """The plainest backbone: 3x3 convolutions of stride 2, each with batch norm and ReLU."""

    widths: tuple[int, ...]
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for k, width in enumerate(self.widths):
            x = nn.Conv(
                width, (3, 3), (2, 2), 1, use_bias=False, dtype=self.dtype, name=f"conv{k}"
            )(x)
            x = BatchNorm(activation="relu", dtype=self.dtype, name=f"norm{k}")(x, train)
        return x


class PoseNet(nn.Module):
    """Backbone, pooling and heads.

    Attributes:
      backbone: "event_resnet" is a small residual network trained from scratch (`widths`, one basic
        block each), "voxel_cnn" a plain one; the others are published and load their weights.
      widths: channels of the stages of "event_resnet".
      pool: "mean" over the last map; "flatten" keeps where things are in it, which a canonical view
        makes comparable, at the price of a larger first dense layer.
      hidden: width of the dense layer before the heads.
      dropout: rate before the heads.
      objective: decides the heads: rotation form and uncertainty.
      dtype: of the activations.
    """

    backbone: Backbone
    objective: ObjectiveConfig
    widths: tuple[int, ...] = (32, 64, 96, 128)
    pool: Literal["mean", "flatten"] = "mean"
    hidden: int = 256
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, grid: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Raw heads (see `objective.example_losses`) of grids [B, H, W, C]."""
        x = self._features(grid.astype(self.dtype), train)
        x = x.mean((1, 2)) if self.pool == "mean" else x.reshape(len(x), -1)
        x = nn.Dense(self.hidden, dtype=self.dtype, name="shared")(x)
        x = nn.relu(nn.LayerNorm(dtype=jnp.float32, name="shared_norm")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x).astype(jnp.float32)
        # Heads in float32: a bfloat16 translation of 6 m has steps of 3 cm.
        sizes = {"translation": 3, "rotation": self.objective.rotation_size}
        if self.objective.uncertainty == "gaussian":
            sizes["log_sigma"] = 4
        heads = {
            name: nn.Dense(size, kernel_init=_HEAD_INIT, name=name)(x)
            for name, size in sizes.items()
        }
        # A head near zero has no direction: start at the identity.
        identity = jnp.array([1.0, 0, 0, 0, 1.0, 0] if sizes["rotation"] == 6 else [0, 0, 0, 1.0])
        heads["rotation"] = heads["rotation"] + identity[None]
        if self.objective.uncertainty == "kendall":
            start = jnp.array(initial_log_variance(self.objective))
            heads["log_variance"] = self.param("log_variance", lambda _: start)
        return heads

    def _features(self, x: jax.Array, train: bool) -> jax.Array:
        """The last feature map of the backbone."""
        features = make_backbone(self, name="backbone")(x, train)
        if isinstance(features, EfficientNetFeatures):
            assert features.head is not None  # built with it
            return features.head
        return features.stages[-1] if isinstance(features, ResNetFeatures) else features


def make_backbone(net: PoseNet, **module: Any) -> EfficientNet | ResNet | VoxelCNN:
    """The backbone of a network as a module of its own; `module` are Flax's `name` and `parent`."""
    if net.backbone == "efficientnet_b0":
        return EfficientNet(variant="b0", dtype=net.dtype, **module)
    if net.backbone == "voxel_cnn":
        return VoxelCNN(net.widths, net.dtype, **module)
    if net.backbone == "event_resnet":
        blocks, first = (1,) * len(net.widths), net.widths[0]
        return ResNet(blocks, net.widths, stem_width=first, stem="conv3", dtype=net.dtype, **module)
    return resnet(int(net.backbone.removeprefix("resnet")), dtype=net.dtype, **module)
