"""Batch normalisation with the running statistics of PyTorch, which published weights rely on."""

import functools
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

Activation = Literal["none", "relu", "silu"]


class BatchNorm(nn.Module):
    """Normalises `[..., C]` over all axes but the last; statistics in float32.

    Training normalises with the variance over the batch (divided by n) but keeps the unbiased one
    (divided by n - 1), as PyTorch does; `flax.linen.BatchNorm` keeps the biased one, which on small
    feature maps is a visible difference.

    Variables: params `scale`, `bias`; batch_stats `mean`, `var`; all `[C]`, float32.

    Attributes:
      momentum: share of the old running statistics that an update keeps; 0.9 is PyTorch's
        `momentum=0.1`.
      epsilon: added to the variance.
      activation: applied after scale and bias; part of the norm because the two together need
        fewer passes over memory, and only their input for the gradient.
      dtype: of the output; `None` keeps the input's.
      zero_scale: start from scale 0, so that a residual branch starts as the identity.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    activation: Activation = "none"
    dtype: Any = None
    zero_scale: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        start = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
        scale = self.param("scale", start, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if train:
            results = normalise(x, scale, bias, self.epsilon, self.activation)
            y, batch_mean, batch_var = cast(tuple[jax.Array, jax.Array, jax.Array], results)
            if not self.is_initializing():
                count = x.size // channels
                unbiased = batch_var * (count / max(count - 1, 1))
                keep = self.momentum
                mean.value = keep * mean.value + (1 - keep) * batch_mean
                var.value = keep * var.value + (1 - keep) * unbiased
        else:
            inverse = jax.lax.rsqrt(var.value + self.epsilon)
            y = _activate(_affine(x, mean.value, inverse * scale, bias), self.activation)
        return y.astype(x.dtype if self.dtype is None else self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, activation: Activation
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Batch norm and activation with the statistics of `x` itself.

    Args:
      x: `[..., C]`.
      scale, bias: `[C]`, float32.

    Returns:
      `activation(scale * (x - mean) / sqrt(var + epsilon) + bias)` in the type of `x`, and float32
      mean and (biased) variance `[C]`, through which no gradient flows. Differentiable once, in
      reverse mode; the gradient keeps `x` alone and computes the rest again.
    """
    return _normalise(x, scale, bias, epsilon, activation)[0]


def _normalise(x, scale, bias, epsilon, activation):
    axes = tuple(range(x.ndim - 1))
    x32 = x.astype(jnp.float32)
    mean = jnp.mean(x32, axes)
    var = jnp.mean(jnp.square(x32 - jnp.expand_dims(mean, axes)), axes)
    inverse = jax.lax.rsqrt(var + epsilon)
    y = _activate(_affine(x, mean, inverse * scale, bias), activation).astype(x.dtype)
    return (y, mean, var), (x, scale, bias, mean, inverse)


def _normalise_gradient(epsilon, activation, saved, cotangents):
    x, scale, bias, mean, inverse = saved
    dy = cotangents[0].astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    if activation != "none":
        z = _affine(x, mean, inverse * scale, bias)
        dy = dy * _slope(z, activation)
    centred = x.astype(jnp.float32) - jnp.expand_dims(mean, axes)
    dbias = jnp.sum(dy, axes)
    dscale = jnp.sum(dy * centred, axes) * inverse
    along, across = (jnp.expand_dims(v, axes) for v in (dscale * inverse / count, dbias / count))
    dx = (dy - across - centred * along) * jnp.expand_dims(inverse * scale, axes)
    return dx.astype(x.dtype), dscale, dbias


normalise.defvjp(_normalise, _normalise_gradient)


def _affine(x, mean, gain, bias):
    axes = tuple(range(x.ndim - 1))
    mean, gain, bias = (jnp.expand_dims(v, axes) for v in (mean, gain, bias))
    return (x.astype(jnp.float32) - mean) * gain + bias


def _activate(z, activation):
    match activation:
        case "none":
            return z
        case "relu":
            return jnp.maximum(z, 0)
        case "silu":
            return z * jax.nn.sigmoid(z)
    raise ValueError(f"unknown activation {activation!r}; expected none, relu or silu")


def _slope(z, activation):
    """Derivative of the activation; 0 for the ReLU at 0."""
    if activation == "relu":
        return (z > 0).astype(z.dtype)
    s = jax.nn.sigmoid(z)
    return s * (1 + z * (1 - s))
