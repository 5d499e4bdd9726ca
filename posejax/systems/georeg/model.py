"""Two encoders and one score: from a pair of rasters to logits over (yaw, y, x).

The modules only hold parameters; everything that is geometry lives in `posejax.registration`.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.nn import UNet
from posejax.registration import (
    orientation_cost,
    pose_volume,
    pose_volume_with_overlap,
    translation_cost,
)
from posejax.registration.lattice import IMPOSSIBLE
from posejax.systems.georeg.config import ModelConfig

MIN_TEMPERATURE = 1e-4
# Of a pose whose rasters overlap too little to be scored: as far below any score as the readers of
# volumes take for excluded, at every temperature up to 2, and finite for sums and pictures.
IMPOSSIBLE_LOGIT = 2 * IMPOSSIBLE


class Features(NamedTuple):
    """What is correlated, per example of a batch.

    online, geo: [B, h, w, C] and [B, hg, wg, C] float32.
    online_weight, geo_weight: [B, h, w] and [B, hg, wg] in [0, 1]; 0 where nothing is known.
    temperature: scalar the scores are divided by.
    """

    online: jax.Array
    geo: jax.Array
    online_weight: jax.Array
    geo_weight: jax.Array
    temperature: jax.Array


class RegistrationNet(nn.Module):
    """Encodes both rasters; masks enter as an extra channel and as weights of the result.

    stride: raster cells per feature cell, along each axis.
    """

    config: ModelConfig
    stride: int = 1

    @nn.compact
    def __call__(
        self,
        online: jax.Array,
        online_mask: jax.Array,
        geo: jax.Array,
        geo_mask: jax.Array,
        train: bool,
    ) -> Features:
        config = self.config
        initial = jnp.log(jnp.float32(config.temperature))
        if config.encoder == "identity":
            if online.shape[-1] != geo.shape[-1]:
                raise ValueError(
                    "encoder 'identity' correlates the rasters themselves: online has "
                    f"{online.shape[-1]} channels, geo {geo.shape[-1]}; choose matching channels"
                )
            if not config.masked:
                online_mask, geo_mask = jnp.ones_like(online_mask), jnp.ones_like(geo_mask)
            return Features(online, geo, online_mask, geo_mask, jnp.exp(initial))
        dtype = jnp.bfloat16 if config.bfloat16 else jnp.float32
        online_map, geo_map = (
            jnp.concatenate([raster, mask[..., None]], axis=-1).astype(dtype)
            for raster, mask in ((online, online_mask), (geo, geo_mask))
        )
        if config.shared:
            online_map = nn.Conv(config.widths[0], (3, 3), dtype=dtype, name="online_stem")(
                online_map
            )
            geo_map = nn.Conv(config.widths[0], (3, 3), dtype=dtype, name="geo_stem")(geo_map)
            online_encoder = geo_encoder = self._encoder("encoder")
        else:
            online_encoder = self._encoder("online_encoder")
            geo_encoder = self._encoder("geo_encoder")
        online_map, online_logit = self._split(online_encoder(online_map, train))
        geo_map, geo_logit = self._split(geo_encoder(geo_map, train))
        online_weight = _pool(online_mask, self.stride)
        geo_weight = _pool(geo_mask, self.stride)
        if config.confidence:
            # The encoder sees beyond the measured cells, so what it fills in may count; the geo
            # raster ends where the map ends, which no context can mend.
            online_weight = jax.nn.sigmoid(online_logit)
            geo_weight = geo_weight * jax.nn.sigmoid(geo_logit)
        log_temperature = self.param("log_temperature", lambda _: initial)
        temperature = jnp.maximum(jnp.exp(log_temperature), MIN_TEMPERATURE)
        return Features(online_map, geo_map, online_weight, geo_weight, temperature)

    def _encoder(self, name: str) -> UNet:
        config = self.config
        return UNet(
            features=config.features + 1,
            widths=config.widths,
            blocks=config.blocks,
            out_stride=self.stride,
            norm=config.norm,
            dtype=jnp.bfloat16 if config.bfloat16 else jnp.float32,
            name=name,
        )

    def _split(self, encoded: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Features [B,h,w,C] and confidence logits [B,h,w] of an encoder's output."""
        encoded = encoded.astype(jnp.float32)
        features, logit = encoded[..., :-1], encoded[..., -1]
        return (_unit(features) if self.config.score == "dot" else features), logit


def _unit(x: jax.Array) -> jax.Array:
    """Unit length along the last axis; zero, with a finite gradient, where `x` is zero."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)


def _pool(mask: jax.Array, stride: int) -> jax.Array:
    """Valid fraction of every feature cell: [B,H,W] -> [B,H/s,W/s]."""
    if stride == 1:
        return mask
    b, h, w = mask.shape
    return mask.reshape(b, h // stride, stride, w // stride, stride).mean((2, 4))


def score_volume(
    features: Features, config: ModelConfig, angles: jax.Array, radius: int
) -> jax.Array:
    """Logits [B, K, 2r+1, 2r+1] of every pose of the lattice, for a batch of features.

    Poses at which masked ZNCC has no score are `IMPOSSIBLE_LOGIT`. The decoupled head returns the
    sum of its two one-sided log-probabilities, so everything downstream (estimators, loss, report)
    reads one kind of volume.
    """
    score = _decoupled_score if config.head == "decoupled" else _joint_score
    volume = jax.vmap(lambda o, g, wo, wg: score(config, angles, radius, o, g, wo, wg))(
        features.online, features.geo, features.online_weight, features.geo_weight
    )
    return jnp.maximum(volume / features.temperature, IMPOSSIBLE_LOGIT)


def _joint_score(config, angles, radius, online, geo, online_weight, geo_weight):
    chunk = config.yaw_chunk or None
    if config.score == "zncc":
        found = pose_volume_with_overlap(
            online,
            geo,
            angles,
            radius,
            online_mask=online_weight,
            geo_mask=geo_weight,
            score="zncc",
            min_overlap=config.min_overlap,
            yaw_chunk=chunk,
        )
        return jnp.where(found.valid, found.score, -jnp.inf)
    online, geo = _weighted(online, geo, online_weight, geo_weight)
    return pose_volume(online, geo, angles, radius, score="dot", yaw_chunk=chunk)


def _decoupled_score(config, angles, radius, online, geo, online_weight, geo_weight):
    online, geo = _weighted(online, geo, online_weight, geo_weight)
    shift = translation_cost(online, geo, radius)
    turn = orientation_cost(online, geo, angles)
    return turn[:, None, None] + shift[None]


def _weighted(online, geo, online_weight, geo_weight):
    """Weighted rasters whose dot product is a mean over the online raster's weight."""
    total = jnp.maximum(jnp.sum(online_weight), 1.0)
    return online * (online_weight / total)[..., None], geo * geo_weight[..., None]
