"""Cameras, and perhaps LiDAR and radar, to bird's-eye maps: Simple-BEV's Segnet.

Encode every camera at stride 8, lift the features into the volume without parameters, make a map
of its height and what the other sensors see, pass it through a residual net, read four heads
(Harley et al., Simple-BEV: What really matters for multi-sensor BEV perception?, ICRA 2023).
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.nn import CameraEncoder, Compressor, MapHeads, MapNet, MapOutputs, NameTable
from posejax.nn.bev_tables import compressor_entries, decoder_entries, encoder_table
from posejax.nn.torch_weights import Entry
from posejax.systems.segnet.config import RADAR_VALUES, ModelConfig

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's colours
DEVIATION = (0.229, 0.224, 0.225)

Lift = Callable[[jax.Array, jax.Array], jax.Array]
"""Features [B, N, h, w, C] and camera mask [B, N] to a volume [B, Z, Y, X, C]."""


class Sensors(NamedTuple):
    """What a batch of frames shows.

    Attributes:
      images: [B, N, H, W, 3] uint8, or float in [0, 1]; those of missing cameras may hold anything.
      mask: [B, N] bool, cameras that are there.
      lidar: [B, Z, Y, X, 1], occupancy; all zero where there was no sweep. None without.
      radar: [B, Z, Y, X, 1 + 16], occupancy and values. None without.
    """

    images: jax.Array
    mask: jax.Array
    lidar: jax.Array | None = None
    radar: jax.Array | None = None


class Flips(NamedTuple):
    """What is mirrored in training: images [B, N], volumes left to right and front to back [B]."""

    images: jax.Array
    x: jax.Array
    z: jax.Array


class SegnetNet(nn.Module):
    """The network; its parameters depend on neither the rig nor the images' size."""

    config: ModelConfig

    def setup(self):
        c = self.config
        dtype = jnp.bfloat16 if c.bfloat16 else None
        self.encoder = CameraEncoder(c.backbone, c.features, c.drop_connect, dtype)
        if c.compress:
            self.compressor = Compressor(c.features, dtype)
        self.map_net = MapNet(c.widths, dtype)
        self.heads = MapHeads(dtype)

    def __call__(
        self, sensors: Sensors, lift: Lift, train: bool, flips: Flips | None = None
    ) -> MapOutputs:
        features = self.encode(sensors, train, flips)
        with jax.named_scope("lift"):
            volume = lift(features, sensors.mask)
        return self.decode(self.compress(volume, sensors, flips), train, flips)

    def encode(self, sensors: Sensors, train: bool, flips: Flips | None = None) -> jax.Array:
        """Features [B, N, H/8, W/8, C] of every camera, whatever they are for missing ones."""
        b, n = sensors.mask.shape
        images = normalised(present_images(sensors.images, sensors.mask))
        images = images.reshape(b * n, *images.shape[2:])
        mirrored = None if flips is None else flips.images.reshape(b * n)
        features = _mirror(self.encoder(_mirror(images, mirrored, 2), train), mirrored, 2)
        return features.reshape(b, n, *features.shape[1:])

    def compress(
        self, volume: jax.Array, sensors: Sensors, flips: Flips | None = None
    ) -> jax.Array:
        """The map [B, Z, X, C] of a volume and of the other sensors; mirrored if they are to be."""
        volume = _mirror_map(volume, flips)
        if not self.config.compress:
            return jnp.sum(volume, axis=2)
        others = tuple(_mirror_map(o, flips) for o in other_maps(sensors, self.config))
        return self.compressor(volume, others)

    def decode(self, maps: jax.Array, train: bool, flips: Flips | None = None) -> MapOutputs:
        """The heads' maps, mirrored back."""
        return self.heads(self.raw(maps, train, flips))

    def raw(self, maps: jax.Array, train: bool, flips: Flips | None = None) -> jax.Array:
        """What the heads read, [B, Z, X, C]."""
        return _mirror_map(self.map_net(maps, train), flips)


def present_images(images: jax.Array, mask: jax.Array) -> jax.Array:
    """Images [B, N, H, W, 3] with the first present one in the place of every missing one.

    The batch norms' statistics are then those of images, not of what stands in for none; what is
    made of the missing ones counts in no lift.
    """
    first = jnp.argmax(mask, axis=1)
    stand_in = jnp.take_along_axis(images, first[:, None, None, None, None], axis=1)
    stand_in = jnp.where(mask.any(1)[:, None, None, None, None], stand_in, 0)
    return jnp.where(mask[:, :, None, None, None], images, stand_in)


def normalised(images: jax.Array) -> jax.Array:
    """uint8 images, or floating ones in [0, 1], with ImageNet's mean and deviation taken out."""
    if jnp.issubdtype(images.dtype, jnp.integer):
        images = images.astype(jnp.float32) / 255
    shape = (1,) * (images.ndim - 1) + (3,)
    mean, deviation = (jnp.asarray(v, images.dtype).reshape(shape) for v in (MEAN, DEVIATION))
    return (images - mean) / deviation


def other_maps(sensors: Sensors, config: ModelConfig) -> tuple[jax.Array, ...]:
    """Maps [B, Z, X, channels] of LiDAR and radar, those of a sensor that is not there zero.

    Channels as in the original: occupancy by height; of radar alone, whether there is a return at
    any height; values channel by channel, each by height.
    """
    found = []
    if config.lidar:
        assert sensors.lidar is not None
        found.append(sensors.lidar[..., 0].swapaxes(2, 3))
    if config.radar != "none":
        assert sensors.radar is not None
        if config.radar == "occupancy":
            found.append(jnp.max(sensors.radar[..., :1], axis=2))
        else:
            values = sensors.radar[..., 1:].transpose(0, 1, 3, 4, 2)  # [B, Z, X, 16, Y]
            found.append(values.reshape(*values.shape[:3], -1))
    return tuple(found)


def segnet_table(config: ModelConfig, *scope: str) -> NameTable:
    """The released state dict, without its three loss weights, for the network of a config."""
    encoder = encoder_table(config.backbone, *scope, "encoder")
    entries: list[Entry] = [*encoder.entries]
    if config.compress:
        entries += compressor_entries(*scope, "compressor")
    entries += decoder_entries((*scope, "map_net"), (*scope, "heads"))
    return NameTable(tuple(entries), encoder.ignored)


def map_channels(config: ModelConfig, height: int) -> int:
    """Channels that the compressor reads."""
    radar = {"none": 0, "occupancy": 1, "meta": RADAR_VALUES * height}[config.radar]
    return config.features * height + (height if config.lidar else 0) + radar


def _mirror(x: jax.Array, which: jax.Array | None, axis: int) -> jax.Array:
    """Those examples of [B, ...] that `which` [B] names, mirrored along an axis."""
    if which is None:
        return x
    shape = (-1,) + (1,) * (x.ndim - 1)
    return jnp.where(which.reshape(shape), jnp.flip(x, axis), x)


def _mirror_map(x: jax.Array, flips: Flips | None) -> jax.Array:
    """A map [B, Z, X, C] or a volume [B, Z, Y, X, C], mirrored along z (1) and x (last but one)."""
    if flips is None:
        return x
    return _mirror(_mirror(x, flips.z, 1), flips.x, x.ndim - 2)
