"""3x3 convolutions with gradients of their own: those of the plain convolution, to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.nn.conv3 import Conv3x3, conv3, conv3_enlarged, kernel_gradient
from posejax.nn.unet import upsample2


def plain(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def pulled(function, x, kernel, dy):
    """Value and gradients."""
    y, pull = jax.vjp(function, x, kernel)
    return y, *pull(dy)


def close(got, want, tolerance):
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(
    "shape, inputs, outputs",
    [((4, 8, 12), 3, 2), ((3, 5, 7), 2, 3), ((6, 45, 50), 2, 2), ((2, 97, 90), 2, 1)],
    ids=["one block", "ragged", "blocks of examples", "blocks of rows"],
)
def test_the_gradient_to_the_kernel_is_exact(rng, shape, inputs, outputs):
    with jax.enable_x64(True):
        x, dy = (jnp.asarray(rng.normal(size=(*shape, c))) for c in (inputs, outputs))
        kernel = jnp.zeros((3, 3, inputs, outputs))
        want = jax.jit(lambda x, dy: jax.vjp(plain, x, kernel)[1](dy)[1])(x, dy)
        close([kernel_gradient(x, dy)], [want], 1e-12)


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 1e-9)])
def test_wide_convolutions_are_the_plain_one(rng, dtype, tolerance):
    """64 channels: the gradient to the kernel in the other form; not in half precision."""
    x, dy = (jnp.asarray(rng.normal(size=(2, 10, 13, c)), dtype) for c in (64, 66))
    kernel = jnp.asarray(rng.normal(size=(3, 3, 64, 66)), dtype)
    got = jax.jit(lambda *a: pulled(conv3, *a))(x, kernel, dy)
    close(got, jax.jit(lambda *a: pulled(plain, *a))(x, kernel, dy), tolerance)
    text = str(jax.make_jaxpr(lambda *a: pulled(conv3, *a))(x, kernel, dy))
    assert ("kernel_gradient" in text) == (dtype == jnp.float32)


def test_examples_may_be_mapped(rng):
    x, dy = (jnp.asarray(rng.normal(size=(2, 1, 6, 9, c)), jnp.float32) for c in (64, 64))
    kernel = jnp.asarray(rng.normal(size=(3, 3, 64, 64)), jnp.float32)
    alone = jax.vmap(lambda x, dy: jax.vjp(conv3, x, kernel)[1](dy)[1])(x, dy)
    together = jax.vjp(conv3, x[:, 0], kernel)[1](dy[:, 0])[1]
    close([alone.sum(0)], [together], 1e-5)


@pytest.mark.parametrize("size", [(4, 6), (1, 3)])
def test_enlarging_and_convolving_is_one(rng, size):
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(2, *size, 3)))
        kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 5)))
        dy = jnp.asarray(rng.normal(size=(2, 2 * size[0], 2 * size[1], 5)))
        got = jax.jit(lambda *a: pulled(conv3_enlarged, *a))(x, kernel, dy)
        want = jax.jit(lambda *a: pulled(lambda x, k: plain(upsample2(x), k), *a))(x, kernel, dy)
        close(got, want, 1e-12)


def test_two_maps_are_joined(rng):
    fine, coarse = (
        jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((1, 8, 6, 2), (1, 4, 3, 3))
    )
    layer = Conv3x3(4)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), fine, coarse)
    assert jax.tree.map(lambda s: s.shape, shapes) == {"params": {"kernel": (3, 3, 5, 4)}}
    kernel = jnp.asarray(rng.normal(size=(3, 3, 5, 4)), jnp.float32)
    want = plain(jnp.concatenate([fine, upsample2(coarse)], -1), kernel)
    got = layer.apply({"params": {"kernel": kernel}}, fine, coarse)
    close([got], [want], 1e-5)
