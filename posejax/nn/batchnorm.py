"""Batch normalisation with the running statistics of PyTorch, which published weights rely on."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


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
      dtype: of the output; `None` keeps the input's.
      zero_scale: start from scale 0, so that a residual branch starts as the identity.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
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
        dtype = x.dtype if self.dtype is None else self.dtype
        if train:
            y = x.astype(jnp.float32)
            axes = tuple(range(x.ndim - 1))
            batch_mean = jnp.mean(y, axes)
            batch_var = jnp.mean(jnp.square(y - jnp.expand_dims(batch_mean, axes)), axes)
            if not self.is_initializing():
                count = x.size // channels
                unbiased = batch_var * (count / max(count - 1, 1))
                keep = self.momentum
                mean.value = keep * mean.value + (1 - keep) * batch_mean
                var.value = keep * var.value + (1 - keep) * unbiased
        else:
            batch_mean, batch_var = mean.value, var.value
        gain = scale * jax.lax.rsqrt(batch_var + self.epsilon)
        batch_mean, gain, bias = (
            v.reshape((1,) * (x.ndim - 1) + (-1,)) for v in (batch_mean, gain, bias)
        )
        y = (x.astype(jnp.float32) - batch_mean) * gain + bias
        return y.astype(dtype)
