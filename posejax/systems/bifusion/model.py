"""An RGB-D frame to point features: image and points encoded apart, mixed point by point.

Points go through a sparse U-Net, the image through half a CLIP or a small encoder; every point
reads the image's features where it is seen; a gate weighs the two, channels are re-weighted by what
the valid points show, and the result has unit length, the only normalisation of that kind.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.geometry import normalize
from posejax.nn import CameraEncoder, ClipProjection, ClipTower, SparseUNet, clip_normalised
from posejax.nn.clip import layer_norm
from posejax.sparse import bucket_capacity, devoxelize, make_maps, voxelize
from posejax.systems.bifusion.config import ModelConfig, PointsConfig
from posejax.systems.bifusion.gate import (
    BranchHead,
    LiteFusionGate,
    MaskedSE,
    PositionInjection,
)
from posejax.systems.bifusion.projection import Projection, project_points, sample_features


class Frames(NamedTuple):
    """A batch of RGB-D frames.

    Attributes:
      points: [B, N, 3] metres, world frame.
      colors: [B, N, 3] in [0, 1].
      mask: [B, N] bool, points that are there.
      image: [B, H, W, 3] uint8, or float in [0, 1].
      intrinsics: [B, 3, 3].
      camera_from_world: [B, 4, 4].
    """

    points: jax.Array
    colors: jax.Array
    mask: jax.Array
    image: jax.Array
    intrinsics: jax.Array
    camera_from_world: jax.Array


class Fusion(NamedTuple):
    """What `FusionHead` makes of the branches; None for one that is left out.

    Attributes:
      fused: [B, N, C] of unit length.
      alpha: [B, N] weight of the image's branch.
      f2d, f3d: [B, N, C] branches before the gate.
    """

    fused: jax.Array
    alpha: jax.Array
    f2d: jax.Array | None
    f3d: jax.Array | None


class FusionOutputs(NamedTuple):
    """All of the network.

    Attributes:
      fusion: see `Fusion`.
      projection: where the points are on the image; not valid where there is none.
      logits: [B, N, classes] of a point's class.
      offset: [B, N, 3] metres from a point to the centre of its thing.
      full: [] share of the fullest level's rows that are used; above 1 is an overflow.
    """

    fusion: Fusion
    projection: Projection
    logits: jax.Array
    offset: jax.Array
    full: jax.Array


class PointEncoder(nn.Module):
    """Points [B, N, 3] and colours to features [B, N, C] of their voxels, by a sparse U-Net."""

    config: PointsConfig
    dtype: Any = None

    @nn.compact
    def __call__(self, frames: Frames, train: bool) -> tuple[jax.Array, jax.Array]:
        c, (batch, count) = self.config, frames.mask.shape
        rows = [bucket_capacity(math.ceil(batch * count * share)) for share in c.rows]
        tensor = voxelize(
            frames.points.reshape(-1, 3),
            2 * frames.colors.reshape(-1, 3) - 1,
            frames.mask.reshape(-1),
            voxel_size=c.voxel_size,
            capacity=rows[0],
            batch=jnp.repeat(jnp.arange(batch, dtype=jnp.int32), count),
            rounding=c.rounding,
        )
        maps = make_maps(tensor.level, capacities=tuple(rows[1:]))
        net = SparseUNet(c.stem, c.widths, c.blocks, dtype=self.dtype, name="unet")
        found = devoxelize(net(tensor.features, maps, train).features, tensor)
        full = jnp.max(maps.needed / jnp.array(rows, jnp.float32))
        return found.reshape(batch, count, -1).astype(jnp.float32), full


class ImageFeatures(nn.Module):
    """Images [B, H, W, 3] to features [B, h, w, C]."""

    config: ModelConfig

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        c, x = self.config, clip_normalised(images)
        dtype = jnp.bfloat16 if c.bfloat16 else None
        if c.image_size is not None:
            x = _resized(x, c.image_size)
        if c.image == "clip":
            x = ClipTower(c.activation, c.clip_blocks, dtype=dtype, name="tower")(x).features
            x = ClipProjection(c.features, dropout=c.dropout, dtype=dtype, name="head")(x, train)
        else:
            x = CameraEncoder(c.image, c.features, dtype=dtype, name="tower")(x, train)
        x = x.astype(jnp.float32)
        return x if c.grid is None else _resized(x, c.grid)


class FusionHead(nn.Module):
    """Both branches' heads, the gate, the squeeze-excitation and the one normalisation."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        sampled: jax.Array | None,
        raw: jax.Array | None,
        valid: jax.Array,
        mask: jax.Array,
        places: jax.Array,
        progress: jax.Array,
        train: bool,
    ) -> Fusion:
        """Features [B, N, C] read from the image and of the points, one None by the mode.

        Args:
          valid, mask: [B, N] bool: points on the image, points that are there.
          places: [B, N, 3] metres, camera frame.
          progress: [] share of the run that is done.
        """
        c = self.config
        f2d = f3d = None
        if sampled is not None:
            f2d = BranchHead(c.features, c.dropout, name="head2d")(sampled, train)
        if raw is not None:
            x = layer_norm(None, "project3d_norm")(nn.Dense(c.features, name="project3d")(raw))
            f3d = BranchHead(c.features, c.dropout, name="head3d")(x, train)
        if c.position != "none":
            inject = PositionInjection(c.position, name="position")
            f2d, f3d = (None if f is None else inject(f, places) for f in (f2d, f3d))
        if f2d is not None and f3d is not None:
            gate = LiteFusionGate(c.early, name="gate")(f2d, f3d, valid & mask, progress)
            alpha, mix, counts = gate.alpha, gate.mix, valid & mask
        else:
            mix = f3d if f2d is None else f2d
            assert mix is not None
            alpha = jnp.full(mask.shape, 0.0 if f2d is None else 1.0)
            counts = mask if f2d is None else valid & mask
        excited = MaskedSE(c.squeeze, name="squeeze")(mix, counts)
        return Fusion(normalize(excited.features), alpha, f2d, f3d)


class FusionNet(nn.Module):
    """The network; its parameters depend on neither the frames' sizes nor their number."""

    config: ModelConfig
    classes: int

    def setup(self):
        c = self.config
        if c.mode != "points":
            self.image = ImageFeatures(c)
        if c.mode != "image":
            self.points = PointEncoder(c.points, jnp.bfloat16 if c.bfloat16 else None)
        self.fusion = FusionHead(c)
        self.semantic = nn.Dense(self.classes)
        self.offset_hidden = nn.Dense(c.features)
        self.offset = nn.Dense(3)

    def __call__(self, frames: Frames, progress: jax.Array, train: bool) -> FusionOutputs:
        maps = self.encode_image(frames, train)
        raw, full = self.encode_points(frames, train)
        return self.fuse(frames, maps, raw, full, progress, train)

    def encode_image(self, frames: Frames, train: bool) -> jax.Array | None:
        """Features [B, h, w, C], or None in the mode "points"."""
        with jax.named_scope("image"):
            return None if self.config.mode == "points" else self.image(frames.image, train)

    def encode_points(self, frames: Frames, train: bool) -> tuple[jax.Array | None, jax.Array]:
        """Features [B, N, C], or None in the mode "image", and how full the levels are."""
        if self.config.mode == "image":
            return None, jnp.zeros(())
        with jax.named_scope("points"):
            return self.points(frames, train)

    def fuse(
        self,
        frames: Frames,
        maps: jax.Array | None,
        raw: jax.Array | None,
        full: jax.Array,
        progress: jax.Array,
        train: bool,
    ) -> FusionOutputs:
        """Everything that follows the encoders."""
        with jax.named_scope("fusion"):
            size = (frames.image if maps is None else maps).shape[1:3]
            projection = project_frames(frames, size, self.config)
            sampled = None
            if maps is not None:
                sampled = sample_features(maps, projection.xy, projection.valid)
            found = self.fusion(
                sampled, raw, projection.valid, frames.mask, camera_points(frames), progress, train
            )
            # Of unit variance, as layers expect it, whatever the number of channels.
            x = found.fused * found.fused.shape[-1] ** 0.5
            offset = self.offset(nn.relu(self.offset_hidden(x)))
            return FusionOutputs(found, projection, self.semantic(x), offset, full)


def camera_points(frames: Frames) -> jax.Array:
    """Points [B, N, 3] in the camera's frame."""
    pose = frames.camera_from_world
    turned = jnp.einsum(
        "bij,bnj->bni", pose[:, :3, :3], frames.points, precision=jax.lax.Precision.HIGHEST
    )
    return turned + pose[:, None, :3, 3]


def project_frames(frames: Frames, map_size: tuple[int, ...], config: ModelConfig) -> Projection:
    """Where the frames' points are on maps of their images; absent points are not valid."""
    height, width = frames.image.shape[1:3]

    def one(points: jax.Array, k: jax.Array, pose: jax.Array) -> Projection:
        return project_points(
            points,
            k,
            pose,
            image_size=(height, width),
            map_size=(map_size[0], map_size[1]),
            compat=config.compat,
        )

    found = jax.vmap(one)(frames.points, frames.intrinsics, frames.camera_from_world)
    return found._replace(valid=found.valid & frames.mask)


def _resized(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """[B, H, W, C] at another size; PyTorch's align_corners=False where it is enlarged."""
    if x.shape[1:3] == tuple(size):
        return x
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear")
