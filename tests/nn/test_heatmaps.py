"""Networks of heatmaps: cells where they belong, layers that are the plain convolutions."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.nn.batchnorm import BatchNorm
from posejax.nn.heatmaps import (
    ConvUnit,
    HeatmapDecoder,
    PatchEncoder,
    depth_to_space,
    space_to_depth,
)


class PlainUnit(nn.Module):
    """`ConvUnit` by Flax's own convolution."""

    width: int
    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x, train):
        size, stride = (self.kernel,) * 2, (self.stride,) * 2
        padding = (self.kernel - 1) // 2
        x = nn.Conv(self.width, size, stride, padding, use_bias=False, name="conv")(x)
        return BatchNorm(activation="relu", name="norm")(x, train)


@pytest.mark.parametrize("kernel, stride", [(1, 1), (3, 1), (3, 2)])
def test_a_unit_is_flax_s_convolution_and_starts_where_it_does(rng, kernel, stride):
    x = jnp.asarray(rng.normal(size=(3, 6, 8, 64)), jnp.float32)
    ours, plain = ConvUnit(66, kernel, stride), PlainUnit(66, kernel, stride)
    variables = ours.init(jax.random.key(1), x, True)
    jax.tree.map(np.testing.assert_array_equal, variables, plain.init(jax.random.key(1), x, True))

    def loss(net, params, x):
        y, _ = net.apply(variables | {"params": params}, x, True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y))

    @jax.jit
    def both(params, x):
        return [jax.value_and_grad(partial(loss, net), (0, 1))(params, x) for net in (ours, plain)]

    got, want = both(variables["params"], x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max()),
        got, want,
    )  # fmt: skip


def test_channels_are_the_cells_of_a_patch():
    x = np.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    patches = space_to_depth(jnp.asarray(x), 2)
    assert patches.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(patches[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(depth_to_space(patches, 2), x)


@pytest.mark.parametrize("factor", [1, 2])
def test_a_cell_s_logits_answer_to_where_it_is(rng, factor):
    """An impulse in one patch changes heatmaps most about the place of this patch."""
    encoder, decoder = PatchEncoder((64, 96), patch=4), HeatmapDecoder(5, factor)
    quiet = jnp.zeros((1, 32, 48, 2))
    at = jax.random.key(0)
    levels, first = encoder.init_with_output(at, quiet, False)
    second = decoder.init(at, levels, False)

    @jax.jit
    def heatmaps(x):
        return decoder.apply(second, encoder.apply(first, x, False), False)

    calm = heatmaps(quiet)
    assert calm.shape == (1, 8 * factor, 12 * factor, 5) and calm.dtype == jnp.float32
    row, column = 2, 9
    impulse = quiet.at[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].set(3.0)
    change = np.abs(np.asarray(heatmaps(impulse) - calm)).sum(-1)[0]
    centre = [(np.indices(change.shape)[i] * change).sum() / change.sum() for i in (0, 1)]
    np.testing.assert_allclose((np.array(centre) + 0.5) / factor, (row + 0.5, column + 0.5), atol=1)
