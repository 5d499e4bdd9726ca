"""Pieces of the network that exist in several forms over the same parameters."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.geometry import pixels_from_normalized
from posejax.image import bilinear_sample, resize
from posejax.nn.upsample import transposed_upsample
from posejax.nn.xfeat import Upsample, mean_grey, normalized_grey
from posejax.systems.tinyroma.config import Norm

Sampling = Literal["bilinear", "gather"]


class InputNorm(nn.Module):
    """Images [B, H, W, C] -> normalised grey [B, H, W, 1], float32.

    "instance" is that of the released weights. "image" is (x - mean) / std with the unbiased
    standard deviation, the same up to its constants. "batch" learns with each image's own
    statistics, as a batch norm at batch size one does, and uses their running averages at
    inference, so that it folds into the first convolution. No form passes a gradient through its
    statistics.
    """

    kind: Norm = "instance"

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        if self.kind == "instance":
            return normalized_grey(images)
        grey = mean_grey(images)
        if self.kind == "none":
            return grey
        mean = jax.lax.stop_gradient(jnp.mean(grey, axis=(1, 2), keepdims=True))
        variance = jax.lax.stop_gradient(jnp.var(grey, axis=(1, 2), keepdims=True, ddof=1))
        if self.kind == "image":
            return (grey - mean) / jnp.sqrt(jnp.maximum(variance, 1e-10))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (1,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (1,), jnp.float32)
        if train:
            if not self.is_initializing():
                running_mean.value = 0.9 * running_mean.value + 0.1 * jnp.mean(mean)
                running_var.value = 0.9 * running_var.value + 0.1 * jnp.mean(variance)
            return normalized_grey(images)
        return (grey - running_mean.value[0]) / jnp.sqrt(running_var.value[0] + 1e-5)


def nearest_sample(image: jax.Array, xy: jax.Array) -> jax.Array:
    """The pixels that points lie in, zero outside: one gather in place of four.

    Args:
      image: [H, W, C].
      xy: [..., 2] pixels, the first one's centre at (0.5, 0.5), so that pixel i covers [i, i + 1).

    Returns:
      [..., C]; passes a gradient to the image, none to the points.
    """
    height, width, channels = image.shape
    cell = jnp.floor(jnp.where(jnp.isfinite(xy), xy, -1))
    size = jnp.array([width, height], cell.dtype).reshape((1,) * (xy.ndim - 1) + (2,))
    inside = jnp.all((cell >= 0) & (cell < size), axis=-1, keepdims=True)
    # Clipped before the cast: a negative index would count from the other end.
    column, row = jnp.moveaxis(jnp.clip(cell, 0, size - 1).astype(jnp.int32), -1, 0)
    taken = image.reshape(height * width, channels).at[row * width + column]
    return jnp.where(inside, taken.get(mode="promise_in_bounds"), 0)


def look_up(a: jax.Array, b: jax.Array, flow: jax.Array, sampling: Sampling) -> jax.Array:
    """Features of A, those of B where the flow points, and the flow: a matcher's input.

    Args:
      a: [B, h, w, C].
      b: [B, h', w', C].
      flow: [B, h, w, 2] in [-1, 1], edge to edge.
    """
    xy = pixels_from_normalized(flow, (b.shape[1], b.shape[2])).astype(jnp.float32)
    if sampling == "gather":
        sampled = jax.vmap(nearest_sample)(b, xy)
    else:
        sampled, _ = jax.vmap(bilinear_sample)(b, xy)
    return jnp.concatenate([a, sampled, flow.astype(a.dtype)], axis=-1)


def enlarged(maps: jax.Array, shape: tuple[int, int], upsample: Upsample) -> jax.Array:
    """[B, h, w, C] at (H, W), bilinear; "transposed" needs an even factor."""
    if upsample == "transposed":
        return transposed_upsample(maps, shape[0] // maps.shape[1])
    return jax.vmap(lambda x: resize(x, shape, antialias=False))(maps)
