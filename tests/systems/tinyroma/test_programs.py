"""Tiny RoMa for other runtimes: folded norms compute the same, and the rules name what is left."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from posejax import deploy
from posejax.deploy.bundle import compare
from posejax.matching import Rows
from posejax.nn.folding import fold_batch_norms
from posejax.nn.xfeat import ConvBlock
from posejax.systems.tinyroma.model import TinyRoma
from posejax.systems.tinyroma.programs import network_programs


def test_folded_norms_are_the_same_function(rng):
    layers = ((6, 3, 1), (5, 1, 2))
    x = jnp.asarray(rng.standard_normal((2, 9, 8, 3)), jnp.float32)
    variables = ConvBlock(layers).init(jax.random.key(0), x, False)
    stats = jax.tree.map(
        lambda v: jnp.asarray(rng.uniform(0.5, 2, v.shape), jnp.float32), variables["batch_stats"]
    )
    for layer in stats.values():
        layer["norm"]["mean"] = layer["norm"]["mean"] - 1.25  # of either sign: ReLU lets some pass
    stats |= {"input": {"mean": jnp.ones(1)}}  # no norm of a convolution: it stays
    folded = fold_batch_norms({**variables, "batch_stats": stats})
    assert set(folded["batch_stats"]) == {"input"}
    want = ConvBlock(layers).apply({**variables, "batch_stats": stats}, x, False)
    got = ConvBlock(layers, folded=True).apply({"params": folded["params"]}, x, False)
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert np.abs(np.asarray(want)).max() > 0.1


@functools.cache
def variables(net):
    """Random weights whose norms have statistics of their own."""
    x = jnp.zeros((1, 64, 64, 3))
    made = jax.jit(lambda key: net.init(key, x, x, False))(jax.random.key(0))
    return {**made, "batch_stats": jax.tree.map(lambda v: v + 0.25, made["batch_stats"])}


@pytest.mark.slow
def test_features_are_exported_once_for_images_of_any_size():
    pytest.importorskip("flatbuffers")
    net = TinyRoma()
    image = jnp.zeros((1, 32, 32, 3))
    trunk = jax.jit(lambda key: net.init(key, image, method="trunk_features"))(jax.random.key(0))
    program = network_programs(net, trunk)["features"]()
    written = deploy.export_program(program, None, ("cpu",), "beside").serialize()
    exported = export.deserialize(bytearray(written))
    for height, width in ((32, 64), (96, 32)):
        inputs = program.examples((height, width))
        found, want = (
            call(program.weights, inputs) for call in (exported.call, jax.jit(program.call))
        )
        assert found.keys() == want.keys() == {"fine", "coarse"}
        assert found["coarse"].shape == (1, height // 8, width // 8, 64)
        for name, values in want.items():
            np.testing.assert_allclose(found[name], values, atol=1e-4 * np.abs(values).max())


@pytest.mark.slow
def test_a_full_search_is_exported_once_for_images_of_any_size():
    net = TinyRoma(matcher=8, width=0.25)
    program = network_programs(net, variables(net))["match"]()
    exported = deploy.export_program(program, None, ("cpu",), "beside")
    difference = compare(exported, program, None, "beside")
    assert difference is not None and difference < 1e-5


@pytest.mark.slow
def test_the_exported_match_is_that_of_the_network(tmp_path):
    net = TinyRoma(search=Rows(), norm="batch", fine=False, upsample="transposed")
    program = network_programs(net, variables(net))["match"]()
    made = deploy.write(
        tmp_path / "net.mlirbc",
        program,
        (64, 96),
        platforms=("cpu",),
        rules=deploy.read_rules("npu"),
    )
    assert made.difference is not None and made.difference < 1e-4
    inputs = program.examples((64, 96))
    ours = program.call(program.weights, inputs)
    out = net.apply(variables(net), inputs["image_a"], inputs["image_b"], False)
    want = (np.asarray(out.fine.flow) + 1) / 2 * np.array([96, 64], np.float32)
    np.testing.assert_allclose(ours["warp"], want, atol=1e-2)
    # The variant of the rectified rig leaves the looking up at stride 8 alone.
    assert {f.operator.name for f in made.findings} == {"gather"}
    assert all("coarse_matcher" in f.operator.scope for f in made.findings)


@pytest.mark.slow
def test_the_released_network_meets_every_known_obstacle():
    net = TinyRoma()
    program = network_programs(net, variables(net))["match"]()
    exported = deploy.export_program(program, (320, 320), ("cpu",), "beside")
    found = deploy.read_rules("npu").check(deploy.operators(exported))
    told = {(f.operator.name, f.why.split(":")[0]) for f in found}
    assert {("while", "denied"), ("gather", "denied"), ("reduce", "denied")} <= told
    assert ("reduce", "too large") in told
    scopes = {f.operator.scope for f in found if f.operator.name == "reduce"}
    assert any("input_norm" in scope for scope in scopes)
