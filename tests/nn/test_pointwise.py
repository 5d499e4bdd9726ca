"""1x1 convolution as a product: the same as the convolution, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.nn.pointwise import Pointwise


@pytest.mark.parametrize("inputs, outputs", [(3, 5), (5, 3)])
def test_values_and_gradients_are_those_of_the_convolution(rng, inputs, outputs):
    x = jnp.asarray(rng.standard_normal((2, 3, 4, inputs)), jnp.float32)
    params = {
        "kernel": jnp.asarray(rng.standard_normal((1, 1, inputs, outputs)), jnp.float32),
        "bias": jnp.asarray(rng.standard_normal(outputs), jnp.float32),
    }

    @jax.jit
    def both(params, x):
        layers = (Pointwise(outputs, bias=True), nn.Conv(outputs, (1, 1)))
        return [
            jax.value_and_grad(lambda p, x: jnp.sum(m.apply({"params": p}, x) ** 3), (0, 1))(  # noqa: B023
                params, x
            )
            for m in layers
        ]

    got, want = both(params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), got, want)
