"""EfficientNet: both families' numbers, scaling rules, stochastic depth, precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.nn import EfficientNet, adapt_stem, efficientnet_table, to_flax
from posejax.nn.efficientnet import CONVENTIONS, STAGES, InvertedResidual, padding, scaled_stages

FAMILIES = ["timm", "efficientnet_pytorch"]


@pytest.fixture(scope="module")
def loaded(reference, shapes_of):
    """`loaded(family, gain, channels)`: the model, its reference weights and the numbers."""

    def make(family, gain, channels):
        z = reference("efficientnet_b0.npz")
        model = EfficientNet(compat=family, classes=1000)
        variables = to_flax(
            z.state_dict(family, gain),
            efficientnet_table(model),
            shapes_of(model, channels),
            adapt_input=True,
        )
        return z, model, variables

    return make


@pytest.mark.golden
@pytest.mark.parametrize("family", FAMILIES)
def test_reference_numbers(loaded, image, family):
    stem_conv = lambda module, _: module.name == "stem_conv"  # noqa: E731
    for channels, seed in ((3, 2101), (10, 2102)):
        x = image(seed, (2, channels, 96, 96))
        run = None
        for gain in (1.0, 1.6):
            z, model, variables = loaded(family, gain, channels)
            if run is None:
                run = jax.jit(
                    lambda v, x, model=model: model.apply(
                        v, x, False, capture_intermediates=stem_conv
                    )
                )
            out, kept = run(variables, x)
            taps = {
                "stem_conv": kept["intermediates"]["stem_conv"]["__call__"][0],
                "stem": out.stem,
                **{f"stage{i}": s for i, s in enumerate(out.stages)},
                "head": out.head,
                "pooled": out.pooled,
                "logits": out.logits,
            }
            case = f"{family}/g{gain}/in{channels}/"
            known = [t.removeprefix(case) for t in z.meta["taps"] if t.startswith(case)]
            assert len(known) == (12 if channels == 3 else 5)
            for tap in known:
                z.check(case + tap, taps[tap])


@pytest.mark.golden
@pytest.mark.parametrize("family", FAMILIES)
def test_reference_numbers_of_a_training_step(loaded, image, family):
    z, model, variables = loaded(family, 1.0, 3)
    x = image(2101, (2, 3, 96, 96))
    out, updated = jax.jit(lambda v: model.apply(v, x, True, mutable=["batch_stats"]))(variables)
    z.check(f"{family}/train/stem", out.stem)
    stats = updated["batch_stats"]["stem_norm"]
    z.check(f"{family}/train/new_running_mean", stats["mean"])
    z.check(f"{family}/train/new_running_var", stats["var"])


def test_padding_follows_the_native_image_size():
    assert padding(3, 2, 224, same=True) == (0, 1)
    assert padding(5, 2, 56, same=True) == (1, 2)
    assert padding(5, 2, 15, same=True) == (2, 2)  # an odd size, as in B1
    assert padding(5, 1, 14, same=True) == (2, 2)
    assert padding(5, 2, 56, same=False) == (2, 2)


def test_scaling_rules():
    assert [s.blocks for s in scaled_stages("b0")] == [1, 2, 2, 3, 3, 4, 1]
    assert [s.channels for s in scaled_stages("b2")] == [16, 24, 48, 88, 120, 208, 352]
    assert [s.blocks for s in scaled_stages("b3")] == [2, 3, 3, 5, 5, 6, 2]
    assert [s.channels for s in scaled_stages("b4")] == [24, 32, 56, 112, 160, 272, 448]


@pytest.mark.parametrize(
    "variant, count",
    [("b0", 5288548), ("b1", 7794184), ("b2", 9109994), ("b3", 12233232), ("b4", 19341616)],
)
def test_parameter_counts_are_the_published_ones(shapes_of, variant, count):
    shapes = shapes_of(EfficientNet(variant, classes=1000))
    assert sum(np.prod(p.shape) for p in jax.tree.leaves(shapes["params"])) == count


def test_stages_can_be_left_out(shapes_of):
    model = EfficientNet(stages=5, head=False)
    shapes = shapes_of(model, 10)
    assert "stage4_2" in shapes["params"] and "stage5_0" not in shapes["params"]
    x = jax.ShapeDtypeStruct((1, 64, 96, 10), jnp.float32)
    out = jax.eval_shape(lambda v, x: model.apply(v, x, False), shapes, x)
    assert [s.shape[1:3] for s in out.stages] == [(32, 48), (16, 24), (8, 12), (4, 6), (4, 6)]
    assert [s.shape[3] for s in out.stages] == [16, 24, 40, 80, 112]
    assert out.head is None and out.pooled is None


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"variant": "b9"}, "no EfficientNet 'b9'; expected one of b0, b1"),
        ({"compat": "tf"}, "unknown compat 'tf'; expected one of timm, efficientnet_pytorch"),
        ({"stages": 8}, "stages must be 1 to 7"),
        ({"stages": 5}, "the head needs all 7 stages"),
        ({"head": False, "classes": 3}, "a classifier needs the head"),
    ],
)
def test_settings_that_cannot_work_are_refused(shapes_of, settings, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(EfficientNet(**settings))


def small(**settings):
    return EfficientNet(stages=3, head=False, **settings)


def test_stochastic_depth_drops_whole_examples_in_training_only(variables_of, rng):
    x = jnp.asarray(rng.standard_normal((4, 32, 32, 3)), jnp.float32)
    model = small(drop_connect=0.99)
    variables = variables_of(model)

    @functools.partial(jax.jit, static_argnums=1)
    def run(key, train):
        out, _ = model.apply(variables, x, train, mutable=["batch_stats"], rngs={"dropout": key})
        return out.stages[-1]

    one, two = run(jax.random.key(1), True), run(jax.random.key(2), True)
    assert np.any(one != two)
    np.testing.assert_array_equal(one, run(jax.random.key(1), True))
    at_rest = jax.jit(lambda v: small().apply(v, x, False))(variables).stages[-1]
    np.testing.assert_allclose(run(jax.random.key(1), False), at_rest, atol=1e-6)


@pytest.mark.slow
def test_stochastic_depth_keeps_the_mean():
    """A block's branch is scaled by 1 / (1 - p) where it is kept."""
    x = jax.random.normal(jax.random.key(1), (2000, 4, 4, 16))
    block = InvertedResidual(STAGES[0]._replace(channels=16), (1, 1), CONVENTIONS["timm"], drop=0.3)
    variables = block.init(jax.random.key(0), x[:1], False)
    run = jax.jit(
        lambda v, x: block.apply(
            v, x, True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(3)}
        )[0]
    )
    branch = run(variables, x) - x
    kept = np.any(np.asarray(branch) != 0, axis=(1, 2, 3))
    assert abs(kept.mean() - 0.7) < 0.04
    full = block.clone(drop=0.0).apply(variables, x, True, mutable=["batch_stats"])[0] - x
    np.testing.assert_allclose(branch[kept], full[kept] / 0.7, atol=1e-5)


@pytest.mark.slow
def test_gradients_reach_every_parameter(variables_of, rng):
    x = jnp.asarray(rng.standard_normal((4, 32, 32, 10)), jnp.float32)
    model = small()
    variables = variables_of(model, 10)

    @jax.jit
    @jax.grad
    def gradient(params):
        out, _ = model.apply(variables | {"params": params}, x, True, mutable=["batch_stats"])
        return jnp.mean(out.stages[-1] ** 3)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(variables["params"])):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), jax.tree_util.keystr(path)


@pytest.mark.slow
def test_bfloat16_keeps_float32_parameters_and_statistics(variables_of, rng):
    x = jnp.asarray(rng.standard_normal((2, 32, 32, 3)), jnp.float32)
    low, high = small(dtype=jnp.bfloat16), small()
    variables = variables_of(low)
    assert all(v.dtype == jnp.float32 for v in jax.tree.leaves(variables))
    (got, updated), (want, _) = (
        jax.jit(lambda v, m=m: m.apply(v, x, True, mutable=["batch_stats"]))(variables)
        for m in (low, high)
    )
    assert all(s.dtype == jnp.bfloat16 for s in got.stages)
    assert all(v.dtype == jnp.float32 for v in jax.tree.leaves(updated))
    difference = got.stages[-1].astype(np.float32) - want.stages[-1]
    assert np.sqrt(np.mean(difference**2)) < 0.1 * np.std(want.stages[-1])


@pytest.mark.golden
def test_ten_channel_stem_is_the_mean_of_the_three(reference):
    z = reference("efficientnet_b0.npz")
    kernel = z.make("conv_stem.weight", (32, 3, 3, 3)).transpose(2, 3, 1, 0)
    adapted = np.asarray(adapt_stem(kernel, 10))
    np.testing.assert_allclose(adapted, np.repeat(kernel.mean(2, keepdims=True), 10, 2), atol=1e-6)
