"""1x1 convolution as a matrix product."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Pointwise(nn.Module):
    """1x1 convolution of `[..., I]` to `[..., O]` with the parameters of a convolution.

    Params: `kernel` `[1, 1, I, O]`, which starts as `kernel_init` says, and, with `bias`, `bias`
    `[O]`, float32. On CPUs XLA writes the kernel's gradient of a convolution with transposed copies
    of both rasters.
    """

    features: int
    bias: bool = False
    dtype: Any = None
    kernel_init: nn.initializers.Initializer = HE_NORMAL

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param(
            "kernel", self.kernel_init, (1, 1, x.shape[-1], self.features), jnp.float32
        )
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        y = pointwise(x.reshape(-1, x.shape[-1]), kernel[0, 0])
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(y.dtype)[None]
        return y.reshape(*x.shape[:-1], self.features)


@jax.custom_vjp
def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x @ kernel` for `x` `[N, I]` with N much larger than I and O. Differentiable in reverse."""
    return x @ kernel


def _forward(x, kernel):
    return x @ kernel, (x, kernel)


def _backward(saved, dy):
    """The sum over N goes through a transposed copy of one factor: here of the narrower one."""
    x, kernel = saved
    if x.shape[1] <= dy.shape[1]:
        gradient = x.T @ dy
    else:
        gradient = (dy.T @ x).T
    return dy @ kernel.T, gradient


pointwise.defvjp(_forward, _backward)
