"""Depthwise convolution by shifts against the convolution of XLA, forward and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.nn import DepthwiseConv, depthwise_conv


def direct(x, kernel, stride, pad):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        (pad, pad),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
        precision=jax.lax.Precision.HIGHEST,
    )


@pytest.mark.parametrize(
    "size, k, stride, pad",
    [
        ((7, 9), 3, 1, (1, 1)),
        ((8, 5), 3, 2, (1, 1)),
        ((8, 6), 3, 2, (0, 1)),  # SAME of TensorFlow
        ((9, 8), 5, 2, (1, 2)),
        ((7, 7), 5, 2, (2, 2)),
        ((6, 3), 5, 1, (2, 2)),
        ((9, 10), 3, 3, (0, 0)),  # the last columns are never read
        ((9, 8), 2, 3, (1, 0)),  # a stride larger than the kernel
    ],
)
def test_values_and_gradients_are_those_of_the_convolution(rng, size, k, stride, pad):
    x = jnp.asarray(rng.standard_normal((6, *size, 5)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((k, k, 1, 5)), jnp.float32)

    @jax.jit
    def both(x, kernel, seed):
        results = []
        for function in (depthwise_conv, direct):
            y, pull = jax.vjp(lambda x, w: function(x, w, stride, pad), x, kernel)  # noqa: B023
            dy = jax.random.normal(seed, y.shape)
            results.append((y, *pull(dy)))
        return results

    got, want = both(x, kernel, jax.random.key(0))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("batch", [1, 17, 32])
def test_kernel_gradient_of_any_batch_size(rng, batch):
    """Examples are summed up to sixteen at a time."""
    x = jnp.asarray(rng.standard_normal((batch, 4, 4, 2)), jnp.float32)
    kernel = jnp.ones((3, 3, 1, 2))
    got, want = (
        jax.jit(jax.grad(lambda w, f=f: jnp.sum(f(x, w, 1, (1, 1)) ** 2)))(kernel)
        for f in (depthwise_conv, direct)
    )
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_bfloat16_sums_the_kernel_gradient_in_float32():
    """Sixteen thousand ones cannot be counted in bfloat16, which stops at 256."""
    layer = DepthwiseConv(1, 1, (0, 0), dtype=jnp.bfloat16)
    x = jnp.ones((4, 64, 64, 1))
    variables = layer.init(jax.random.key(0), x)
    assert variables["params"]["kernel"].dtype == jnp.float32
    y = layer.apply(variables, x)
    assert y.dtype == jnp.bfloat16
    gradient = jax.grad(lambda v: jnp.sum(layer.apply(v, x).astype(jnp.float32)))(variables)
    assert float(gradient["params"]["kernel"][0, 0, 0, 0]) == 4 * 64 * 64


def test_bfloat16_sums_the_taps_in_float32(rng):
    """Value and input gradient are the exact ones of the same inputs, rounded once."""
    x = jnp.asarray(rng.standard_normal((2, 12, 12, 8)), jnp.bfloat16)
    kernel = jnp.asarray(rng.standard_normal((5, 5, 1, 8)), jnp.bfloat16)

    def both(x, kernel):
        y, pull = jax.vjp(lambda x: depthwise_conv(x, kernel, 1, (2, 2)), x)
        return y, pull(jnp.flip(x, 0))[0]

    wide = both(x.astype(jnp.float32), kernel.astype(jnp.float32))
    for got, want in zip(jax.jit(both)(x, kernel), wide, strict=True):
        assert got.dtype == jnp.bfloat16
        # Half a unit in the last place of an 8-bit mantissa, and what float32 rounds before it.
        np.testing.assert_allclose(np.asarray(got, np.float32), want, rtol=2**-8, atol=1e-4)
