"""The dense encoder: shapes, centring, normalisation kinds, precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.nn import Norm, UNet


def init_apply(model, x, train=False):
    variables = model.init(jax.random.key(0), x, train)
    return variables, model.apply(variables, x, train)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(32, 48), (20, 12)])
def test_output_has_the_asked_stride_for_any_divisible_size(stride, size):
    x = jnp.ones((2, *size, 3))
    _, y = init_apply(UNet(features=5, widths=(8, 8, 16), out_stride=stride), x)
    assert y.shape == (2, size[0] // stride, size[1] // stride, 5)


def test_sizes_and_strides_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="not divisible by 4"):
        init_apply(UNet(out_stride=4), jnp.ones((1, 30, 32, 1)))
    with pytest.raises(ValueError, match="out_stride 8"):
        init_apply(UNet(out_stride=8), jnp.ones((1, 32, 32, 1)))


@pytest.mark.parametrize("stride", [1, 2])
def test_features_are_centred_on_their_cells(stride):
    """A left-right symmetric network must map a mirrored raster to the mirrored features.

    Every kernel is made symmetric; any off-centre resampling would break the equality.
    """
    model = UNet(features=3, widths=(4, 8, 8), out_stride=stride, norm="none")
    x = jax.random.normal(jax.random.key(1), (1, 16, 16, 2))
    variables = model.init(jax.random.key(0), x, False)
    symmetric = jax.tree.map(lambda k: k + k[:, ::-1] if k.ndim == 4 else k, variables)
    y = model.apply(symmetric, x, False)
    y_mirrored = model.apply(symmetric, x[:, :, ::-1], False)
    np.testing.assert_allclose(y_mirrored, y[:, :, ::-1], atol=1e-4)


@pytest.mark.parametrize("kind", ["batch", "instance", "group", "layer"])
def test_norm_kinds_standardise_over_their_own_axes(kind):
    x = 3 + 2 * jax.random.normal(jax.random.key(2), (4, 6, 6, 16))
    axes = {"batch": (0, 1, 2), "instance": (1, 2), "group": None, "layer": (3,)}[kind]
    y, _ = Norm(kind).init_with_output(jax.random.key(0), x, True)[0], None
    if kind == "group":
        y, axes = y.reshape(4, 6, 6, 8, 2), (1, 2, 4)
    np.testing.assert_allclose(np.mean(y, axes), 0, atol=1e-3)
    np.testing.assert_allclose(np.std(y, axes), 1, atol=1e-2)


def test_batch_norm_uses_running_statistics_at_inference():
    x = 3 + 2 * jax.random.normal(jax.random.key(2), (4, 6, 6, 8))
    norm = Norm("batch", momentum=0.0)
    variables = norm.init(jax.random.key(0), x, True)
    np.testing.assert_allclose(norm.apply(variables, x, False), x, rtol=1e-3)
    _, updated = norm.apply(variables, x, True, mutable=["batch_stats"])
    y = norm.apply({**variables, **updated}, x, False)
    assert abs(float(y.mean())) < 1e-3


def test_unknown_norm_lists_the_choices():
    with pytest.raises(ValueError, match="batch, instance, group, layer, none"):
        Norm("bach").init(jax.random.key(0), jnp.ones((1, 2, 2, 8)), True)


def test_bfloat16_activations_keep_float32_parameters():
    x = jnp.ones((1, 16, 16, 2))
    variables, y = init_apply(UNet(widths=(8, 8), dtype=jnp.bfloat16), x)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables["params"])} == {jnp.dtype("float32")}
