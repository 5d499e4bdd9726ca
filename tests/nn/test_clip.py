"""CLIP's image tower: reference numbers, sizes, checkpoints, activations told apart."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.nn import from_flax, save_state_dict, to_flax
from posejax.nn.clip import (
    DEVIATION,
    MEAN,
    ClipProjection,
    ClipTower,
    clip_normalised,
    clip_table,
    load_clip,
)

SMALL = ClipTower("gelu", blocks=2, width=32, heads=4, patch=8, size=32)
IMAGE = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)


def shapes_of(model, side):
    image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    return jax.eval_shape(model.init, jax.random.key(0), image)


@pytest.fixture(scope="module")
def small():
    """Names and arrays of a small tower, as a checkpoint has them."""
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda s: jnp.asarray(0.3 * rng.standard_normal(s.shape), s.dtype), shapes_of(SMALL, 32)
    )
    return variables, from_flax(variables, clip_table(SMALL))


@pytest.mark.golden
def test_towers_of_both_activations_give_the_reference_numbers(reference):
    """Every tap to 1e-4; operators compile by themselves: blocks share theirs."""
    r = reference("clip_vit_b16_half.npz")
    state = {name: r.make(name, shape) for name, shape in r.meta["names"]}
    images = np.random.default_rng(2601).standard_normal((1, 3, 224, 224), dtype=np.float32)
    images = np.moveaxis(images, 1, -1)
    for case in ("gelu", "quickgelu"):
        model = ClipTower(case)
        shapes = shapes_of(model, 224)
        assert sum(s.size for s in jax.tree.leaves(shapes)) == 43_270_656
        found = model.apply(to_flax(state, clip_table(model), shapes), images)
        names = ("ln_pre", *(f"block{i}" for i in range(6)))
        taps = {"conv1": found.patches, **dict(zip(names, found.tokens, strict=True))}
        for name, value in taps.items():
            r.check(f"{case}/{name}", value)
            want = r.arrays[f"{case}/{name}"]
            stride = r.meta["taps"][f"{case}/{name}"]["stride"]
            value = np.moveaxis(value, -1, 1) if value.ndim == 4 else np.asarray(value)
            assert np.abs(value.reshape(-1)[::stride] - want.reshape(-1)).max() < 1e-4
        patches = np.asarray(found.tokens[-1])[0, 1:].reshape(14, 14, 768)
        want = np.asarray(found.patches)[0] + patches
        np.testing.assert_array_equal(found.features[0], want)


def test_positions_of_another_size_are_interpolated(small):
    """A ramp rises along its own axis alone."""
    variables, _ = small
    params = variables["params"]
    ramp = np.broadcast_to(np.arange(4.0)[:, None, None], (4, 4, 32)).reshape(16, 32)
    place = np.concatenate([np.zeros((1, 32)), ramp]).astype(np.float32)
    zero = {"kernel": jnp.zeros_like(params["patch_conv"]["kernel"])}
    norm = {"scale": jnp.ones(32), "bias": jnp.zeros(32)}
    seen = {**params, "patch_conv": zero, "class_embedding": jnp.zeros(32), "norm_pre": norm}

    def tokens(place, side):
        # A norm of equal channels shows nothing: the ramp is put on half of them.
        place = place * (np.arange(32) < 16)
        given = {"params": {**seen, "position_embedding": jnp.asarray(place, jnp.float32)}}
        return ClipTower("gelu", 0, 32, 4, 8, 32).apply(given, jnp.zeros((1, side, side, 3)))

    large = np.asarray(tokens(place, 64).tokens[0])[0, 1:].reshape(8, 8, 32)
    np.testing.assert_allclose(large, large[:, :1].repeat(8, 1), atol=1e-6)
    small_map = np.asarray(tokens(place, 32).tokens[0])[0, 1:].reshape(4, 4, 32)
    # The norm hides how far a ramp has risen, but not whether it has.
    assert (np.sign(small_map[1:, :, 0]) > 0).all() and (large[2:, :, 0] > 0.9).all()
    with pytest.raises(ValueError, match="multiples of 8"):
        tokens(place, 36)


def test_whole_checkpoints_of_openai_and_open_clip_load(small, tmp_path):
    variables, state = small
    whole = {f"visual.{k}": v.astype(np.float16) for k, v in state.items()}
    whole |= {f"visual.{k}": np.zeros(3) for k in ("proj", "ln_post.weight", "ln_post.bias")}
    whole |= {f"visual.transformer.resblocks.{i}.ln_1.weight": np.zeros(3) for i in range(2, 12)}
    # The text tower's entries have the same names, without "visual.".
    whole |= {"transformer.resblocks.0.ln_1.weight": np.zeros(5), "logit_scale": np.zeros(())}
    openai = {**whole, **{k: np.array(1) for k in ("input_resolution", "context_length")}}
    openai["vocab_size"] = np.array(49408)
    plain = save_state_dict(tmp_path / "plain.npz", whole)
    marked = save_state_dict(tmp_path / "ViT-B-16.npz", openai)
    model, loaded = load_clip(plain, shapes_of(SMALL, 32), SMALL)
    assert model is SMALL
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(variables), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=2e-3)
    quick = SMALL.clone(activation="quickgelu")
    load_clip(marked, shapes_of(SMALL, 32), quick)
    with pytest.raises(ValueError, match=r"trained with 'quickgelu', the model has .*'gelu'"):
        load_clip(marked, shapes_of(SMALL, 32), SMALL)
    with pytest.raises(ValueError, match="does not say which activation"):
        load_clip(plain)
    config = tmp_path / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": {"embed_dim": 512, "quick_gelu": False}}))
    load_clip(plain, shapes_of(SMALL, 32), SMALL)
    with pytest.raises(ValueError, match="trained with 'gelu'"):
        load_clip(plain, shapes_of(SMALL, 32), quick)
    config.write_text("[]")
    with pytest.raises(ValueError, match="not open_clip's description"):
        load_clip(plain)


def test_the_two_activations_differ_and_everything_learns(small):
    variables, _ = small
    images = np.random.default_rng(1).standard_normal((2, 32, 32, 3)).astype(np.float32)

    def energy(variables, model):
        return jnp.sum(model.apply(variables, images).features ** 2)

    slopes = jax.grad(energy)(variables, SMALL)
    for path, leaf in jax.tree_util.tree_leaves_with_path(slopes):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), jax.tree_util.keystr(path)
    quick = energy(variables, SMALL.clone(activation="quickgelu"))
    assert abs(quick / energy(variables, SMALL) - 1) > 1e-4


def test_projection_keeps_places_and_moves_its_statistics():
    model, x = ClipProjection(8, 16), np.ones((2, 3, 4, 5), np.float32)
    key = jax.random.key(0)
    variables = model.init({"params": key}, x, False)
    y, moved = model.apply(variables, x, True, mutable=["batch_stats"], rngs={"dropout": key})
    assert y.shape == (2, 3, 4, 8) and np.any(moved["batch_stats"]["norm2"]["mean"] != 0)
    same = np.asarray(model.apply(variables, x, False))
    np.testing.assert_allclose(same, np.broadcast_to(same[:1, :1, :1], same.shape), atol=1e-5)


def test_colours_are_those_of_clip():
    grey = np.full((1, 1, 3), 255, np.uint8)
    want = (1 - np.array(MEAN)) / np.array(DEVIATION)
    np.testing.assert_allclose(clip_normalised(jnp.asarray(grey))[0, 0], want, rtol=1e-5)
    np.testing.assert_allclose(
        clip_normalised(jnp.ones((1, 1, 3))), clip_normalised(jnp.asarray(grey)), rtol=1e-6
    )
