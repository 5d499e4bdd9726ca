"""Instance normalisation without scale, bias or running statistics: PyTorch's default."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from posejax.nn.batchnorm import Activation, normalise


class InstanceNorm(nn.Module):
    """Normalises `[B, ..., C]` over space, per example and channel; statistics in float32.

    No variables: the same in training and inference. The variance is that of the deviations from
    the mean, so that a large mean costs no digits.

    Attributes:
      activation: applied after the norm, see `posejax.nn.BatchNorm`.
      dtype: of the output; `None` keeps the input's.
    """

    epsilon: float = 1e-5
    activation: Activation = "none"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        one, zero = jnp.ones(x.shape[-1]), jnp.zeros(x.shape[-1])

        def one_example(v: jax.Array) -> jax.Array:
            return cast(tuple, normalise(v, one, zero, self.epsilon, self.activation))[0]

        y = jax.vmap(one_example)(x)
        return y.astype(x.dtype if self.dtype is None else self.dtype)
