"""Residual networks: published numbers, shapes of any configuration, training behaviour."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.nn import ResidualUnit, ResNet, resnet, resnet_table, to_flax

SMALL = {"blocks": (1, 1), "widths": (8, 16), "stem_width": 8}


@pytest.mark.golden
@pytest.mark.parametrize("depth", [18, 50, 101])
def test_reference_numbers(reference, image, shapes_of, depth):
    z = reference("resnet.npz")
    x = image(2001, (1, 3, 64, 96))
    model = resnet(depth)
    variables = to_flax(z.state_dict(f"resnet{depth}"), resnet_table(model), shapes_of(model))

    @jax.jit
    def run(variables):
        return model.apply(
            variables, x, False, capture_intermediates=lambda m, _: m.name == "stem_conv"
        )

    features, kept = run(variables)
    z.check(f"resnet{depth}/g1/conv1", kept["intermediates"]["stem_conv"]["__call__"][0])
    z.check(f"resnet{depth}/g1/stem", features.stem)
    for i, stage in enumerate(features.stages):
        z.check(f"resnet{depth}/g1/layer{i + 1}", stage)


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("stem, stride", [("pool", 4), ("conv", 2), ("conv3", 2)])
def test_strides_and_widths(shapes_of, stem, stride, bottleneck):
    model = ResNet(**SMALL, stem=stem, bottleneck=bottleneck)
    x = jax.ShapeDtypeStruct((2, 33, 48, 5), jnp.float32)
    features = jax.eval_shape(lambda v, x: model.apply(v, x, False), shapes_of(model, 5), x)
    factor = 4 if bottleneck else 1
    assert features.stem.shape == (2, -(-33 // stride), 48 // stride, 8)
    assert features.stages[0].shape == (2, -(-33 // stride), 48 // stride, 8 * factor)
    assert features.stages[1].shape == (2, -(-33 // (2 * stride)), 24 // stride, 16 * factor)


def test_stages_that_are_not_built_have_no_parameters(shapes_of):
    names = set(shapes_of(resnet(50, stages=2))["params"])
    assert "layer2_3" in names and not any(n.startswith(("layer3", "layer4")) for n in names)


@pytest.mark.parametrize(
    "depth, millions", [(18, 11.1765), (34, 21.2847), (50, 23.5080), (101, 42.5002)]
)
def test_parameter_counts_are_the_published_ones(shapes_of, depth, millions):
    """Without the classifier, for three input channels (torchvision's counts less `fc`)."""
    count = sum(np.prod(p.shape) for p in jax.tree.leaves(shapes_of(resnet(depth))["params"]))
    assert count == pytest.approx(1e6 * millions, abs=51)


def test_training_updates_the_running_statistics_and_reaches_every_parameter(variables_of, rng):
    model = ResNet(**SMALL)
    x = jnp.asarray(rng.standard_normal((4, 32, 32, 3)), jnp.float32)
    variables = variables_of(model)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params):
        features, updated = model.apply(
            variables | {"params": params}, x, True, mutable=["batch_stats"]
        )
        return jnp.mean(features.stages[-1] ** 2), updated

    gradients, updated = gradient(variables["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), jax.tree_util.keystr(path)
    old = jax.tree.leaves(variables["batch_stats"])
    assert all(
        np.any(a != b) for a, b in zip(old, jax.tree.leaves(updated["batch_stats"]), strict=True)
    )


def test_zero_init_starts_every_block_as_its_shortcut(rng):
    x = jnp.asarray(rng.uniform(size=(1, 4, 4, 8)), jnp.float32)
    for bottleneck in (False, True):
        block = ResidualUnit(
            8 // (4 if bottleneck else 1), bottleneck=bottleneck, zero_init_residual=True
        )
        y, _ = block.init_with_output(jax.random.key(0), x, False)
        np.testing.assert_array_equal(y, x)


def test_bfloat16_keeps_float32_parameters_and_statistics(variables_of, rng):
    x = jnp.asarray(rng.standard_normal((2, 32, 32, 3)), jnp.float32)
    low, high = ResNet(**SMALL, dtype=jnp.bfloat16), ResNet(**SMALL)
    variables = variables_of(low)
    assert all(v.dtype == jnp.float32 for v in jax.tree.leaves(variables))
    (got, updated), (want, _) = (
        jax.jit(lambda v, m=m: m.apply(v, x, True, mutable=["batch_stats"]))(variables)
        for m in (low, high)
    )
    assert all(s.dtype == jnp.bfloat16 for s in got.stages)
    assert all(v.dtype == jnp.float32 for v in jax.tree.leaves(updated))
    np.testing.assert_allclose(
        got.stages[-1].astype(np.float32), want.stages[-1], atol=0.1, rtol=0.1
    )


def test_settings_that_cannot_work_are_refused():
    x = jnp.ones((1, 32, 32, 3))
    with pytest.raises(ValueError, match="no ResNet-19; expected one of 18, 34"):
        resnet(19)
    with pytest.raises(ValueError, match="1 to 4 stages"):
        resnet(18, stages=5)
    with pytest.raises(ValueError, match="3 stages but widths for 2"):
        ResNet(blocks=(1, 1, 1), widths=(8, 8)).init(jax.random.key(0), x, False)
    with pytest.raises(ValueError, match="unknown stem 'none'"):
        ResNet(stem="none").init(jax.random.key(0), x, False)  # type: ignore[arg-type]
