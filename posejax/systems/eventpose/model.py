"""Networks from a grid to raw pose heads and heatmaps: parameters only."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.nn.batchnorm import BatchNorm
from posejax.nn.efficientnet import EfficientNet, EfficientNetFeatures
from posejax.nn.heatmaps import HeatmapDecoder, PatchEncoder
from posejax.nn.resnet import ResNet, ResNetFeatures, resnet
from posejax.systems.eventpose.config import Backbone, Heads, ObjectiveConfig
from posejax.systems.eventpose.objective import initial_log_variance

_HEAD_INIT = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")


class VoxelCNN(nn.Module):
    """The plainest backbone: 3x3 convolutions of stride 2, each with batch norm and ReLU."""

    widths: tuple[int, ...]
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]:
        levels = []
        for k, width in enumerate(self.widths):
            x = nn.Conv(
                width, (3, 3), (2, 2), 1, use_bias=False, dtype=self.dtype, name=f"conv{k}"
            )(x)
            x = BatchNorm(activation="relu", dtype=self.dtype, name=f"norm{k}")(x, train)
            levels.append(x)
        return levels


class PoseNet(nn.Module):
    """Backbone; pooling and pose heads; a decoder to heatmaps.

    Attributes:
      backbone: "event_unet" cuts the grid into patches and convolves few wide maps, and
        "event_resnet" is a small residual network (`widths`, one basic block each), both trained
        from scratch, as is "voxel_cnn", a plain one; the others are published and load their
        weights.
      widths: channels of the stages of the small networks.
      pool: "mean" over the last map; "flatten" keeps where things are in it, which a canonical view
        makes comparable, at the price of a larger first dense layer.
      hidden: width of the dense layer before the heads.
      dropout: rate before the heads.
      objective: decides the pose heads: rotation form and uncertainty.
      heads: "direct" has pose heads, "keypoints" heatmaps, "both" the two on one backbone.
      points: number of heatmaps.
      stride: cells of the grid along a cell of the heatmaps.
      dtype: of the activations.
    """

    backbone: Backbone
    objective: ObjectiveConfig
    widths: tuple[int, ...] = (32, 64, 96, 128)
    pool: Literal["mean", "flatten"] = "mean"
    hidden: int = 256
    dropout: float = 0.0
    heads: Heads = "direct"
    points: int = 0
    stride: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, grid: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Raw heads of grids [B, H, W, C].

        Returns:
          What `objective.example_losses` names, and "heatmaps" [B, H / stride, W / stride, points],
          logits.
        """
        levels, last = self._features(grid.astype(self.dtype), train)
        heads = {} if self.heads == "keypoints" else self._pose_heads(last, train)
        if self.heads != "direct":
            levels = [x for x in levels if grid.shape[1] // x.shape[1] >= self.stride]
            factor = grid.shape[1] // levels[0].shape[1] // self.stride
            decoder = HeatmapDecoder(self.points, factor, dtype=self.dtype, name="decoder")
            heads["heatmaps"] = decoder(levels, train)
        return heads

    def _pose_heads(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
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

    def _features(self, x: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """Feature maps of falling resolution, the finest first, and the last one for the poses."""
        features = make_backbone(self, name="backbone")(x, train)
        if isinstance(features, EfficientNetFeatures):
            assert features.head is not None  # built with it
            stages, last = features.stages, features.head
        else:
            stages = features.stages if isinstance(features, ResNetFeatures) else features
            last = stages[-1]
        # Of several maps of one size, the last knows most.
        return list({stage.shape[1]: stage for stage in stages}.values()), last


def make_backbone(net: PoseNet, **module: Any) -> EfficientNet | ResNet | PatchEncoder | VoxelCNN:
    """The backbone of a network as a module of its own; `module` are Flax's `name` and `parent`."""
    if net.backbone == "efficientnet_b0":
        return EfficientNet(variant="b0", dtype=net.dtype, **module)
    if net.backbone == "event_unet":
        return PatchEncoder(net.widths, dtype=net.dtype, **module)
    if net.backbone == "voxel_cnn":
        return VoxelCNN(net.widths, net.dtype, **module)
    if net.backbone == "event_resnet":
        blocks, first = (1,) * len(net.widths), net.widths[0]
        return ResNet(blocks, net.widths, stem_width=first, stem="conv3", dtype=net.dtype, **module)
    return resnet(int(net.backbone.removeprefix("resnet")), dtype=net.dtype, **module)
