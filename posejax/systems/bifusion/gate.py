"""How much of a point's features comes from the image, and which channels count."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.nn.clip import layer_norm
from posejax.systems.bifusion.config import Position

HIDDEN = 64  # of the gate's perceptron
WAVES = 10  # frequencies a coordinate is described by
LONGEST, SHORTEST = 8.0, 0.25  # metres, their waves'


class Gated(NamedTuple):
    """What a `LiteFusionGate` makes of two branches.

    Attributes:
      logit: [B, N] of the weight of the image's branch.
      alpha: [B, N] that weight, zero where a point is not on the image.
      mix: [B, N, C] the weighted mean of the branches.
    """

    logit: jax.Array
    alpha: jax.Array
    mix: jax.Array


class Excited(NamedTuple):
    """squeezed: [B, C] means over the points that count; weight: [B, C]; features: [B, N, C]."""

    squeezed: jax.Array
    weight: jax.Array
    features: jax.Array


class BranchHead(nn.Module):
    """Two layers and a norm, [..., C] -> [..., features]; the same for both branches."""

    features: int
    dropout: float = 0.1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.relu(nn.Dense(self.features, name="dense1")(x))
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        return layer_norm(None, "norm")(nn.Dense(self.features, name="dense2")(x))


class LiteFusionGate(nn.Module):
    """alpha f2d + (1 - alpha) f3d with a weight for every point.

    Attributes:
      early: up to this share of a run both branches weigh the same (the share that is done is an
        argument: no state, nothing that anyone could forget to advance).
    """

    early: float = 0.0

    @nn.compact
    def __call__(
        self, f2d: jax.Array, f3d: jax.Array, valid: jax.Array, progress: jax.Array
    ) -> Gated:
        x = jnp.concatenate([f2d, f3d], axis=-1)
        x = nn.relu(nn.Dense(HIDDEN, name="dense1")(x))
        logit = nn.Dense(1, name="dense2")(x)[..., 0]
        alpha = jnp.where(progress < self.early, 0.5, nn.sigmoid(logit))
        alpha = jnp.where(valid, alpha, 0)
        weight = alpha[..., None]
        return Gated(logit, alpha, weight * f2d + (1 - weight) * f3d)


class MaskedSE(nn.Module):
    """Squeeze-excitation whose mean is over the points that count.

    Attributes:
      ratio: the middle layer has so many times fewer channels.
    """

    ratio: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, counts: jax.Array) -> Excited:
        there = counts[..., None]
        number = jnp.maximum(jnp.sum(there, axis=1), 1).astype(jnp.float32)
        squeezed = jnp.sum(jnp.where(there, x, 0), axis=1) / number
        hidden = nn.relu(nn.Dense(max(1, x.shape[-1] // self.ratio), name="dense1")(squeezed))
        weight = nn.sigmoid(nn.Dense(x.shape[-1], name="dense2")(hidden))
        return Excited(squeezed, weight, x * weight[:, None])


class PositionInjection(nn.Module):
    """Features [B, N, C] with their places [B, N, 3] (m, camera frame) worked into them.

    The last layer starts from zero: at first nothing is changed.
    """

    kind: Position

    @nn.compact
    def __call__(self, x: jax.Array, places: jax.Array) -> jax.Array:
        waves = 2 * jnp.pi / jnp.geomspace(LONGEST, SHORTEST, WAVES)
        phase = (places[..., None] * waves[None, None, None]).reshape(*places.shape[:-1], -1)
        code = jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)
        code = nn.Dense(32, name="dense2")(nn.relu(nn.Dense(64, name="dense1")(code)))
        zeros, width = nn.initializers.zeros, x.shape[-1]
        if self.kind == "add":
            return x + nn.Dense(width, kernel_init=zeros, name="shift")(code)
        scale = nn.Dense(width, kernel_init=zeros, name="scale")(code)
        return x * (1 + scale) + nn.Dense(width, kernel_init=zeros, name="shift")(code)
