"""Published weights: the trunk starts as XFeat, the whole network goes out and comes back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.config import ConfigError
from posejax.nn.torch_weights import load_state_dict, to_flax
from posejax.nn.xfeat import XFeat, xfeat_table
from posejax.systems.tinyroma.model import TinyRoma
from posejax.systems.tinyroma.pretrained import (
    load_backbone,
    load_tiny_roma,
    to_state_dict,
    unfolded,
)
from tests.systems.tinyroma.test_variants import images, of, shapes


def zeros(model):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes(model))


@pytest.fixture(scope="module")
def folded_file(tmp_path_factory):
    """A file of random XFeat weights with folded norms, in the layout of the public export."""
    model, rng = XFeat(folded=True), np.random.default_rng(0)
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    like = jax.eval_shape(lambda k, x: model.init(k, x, False), jax.random.key(0), x)
    axes = {"conv": (3, 2, 0, 1), "same": None}
    state = {}
    for entry in xfeat_table(model).entries:
        shape = like
        for key in entry.path:
            shape = shape[key]
        shape = shape.shape
        size = [shape[i] for i in axes[entry.layout]] if axes[entry.layout] else shape
        state[entry.name] = np.float32(rng.normal(size=size) / np.sqrt(max(np.prod(size[1:]), 9)))
    path = tmp_path_factory.mktemp("weights") / "xfeat_random.npz"
    np.savez(path, **state)
    return path


def trunk_of_folded(path, image):
    """Features of the folded network itself."""
    model = XFeat(folded=True)
    x = jax.ShapeDtypeStruct(image.shape, jnp.float32)
    like = jax.eval_shape(lambda k, x: model.init(k, x, False), jax.random.key(0), x)
    loaded = to_flax(load_state_dict(path), xfeat_table(model), like)
    return jax.jit(lambda v, x: model.apply(v, x, False))(loaded, image)


def check_trunk(path, image):
    """In training with frozen norms, at step 0, the features are those of the file's network."""
    model = TinyRoma(frozen_norm=True)
    variables = load_backbone(path, model, zeros(model))
    want = trunk_of_folded(path, image)

    @jax.jit
    def features(v, x, y):
        out, updated = model.apply(v, x, y, True, mutable=["batch_stats"], method=TinyRoma.features)
        return out, updated

    (a, b), updated = features(variables, image, image)
    for got in (a, b):
        np.testing.assert_allclose(got.fine, want.fine, atol=1e-4)
        np.testing.assert_allclose(got.coarse, want.coarse, atol=1e-4)
    trunk = updated["batch_stats"]["trunk"]
    jax.tree.map(np.testing.assert_array_equal, trunk, variables["batch_stats"]["trunk"])
    return model, variables


def test_step_zero_is_the_folded_network(folded_file):
    check_trunk(folded_file, images()[0])
    # The folder of one such file is as good as the file.
    model = TinyRoma()
    one, other = (load_backbone(p, model, zeros(model)) for p in (folded_file, folded_file.parent))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_step_zero_is_xfeat(data_dir, golden):
    """The released weights, on the image of their parity numbers."""
    folder = data_dir("xfeat_weights")
    numbers = np.load(folder / "parity.npz")
    image = jnp.float32(numbers["input_u8"][None]) / 255
    model, variables = check_trunk(folder / "xfeat_folded.npz", image)
    want = np.moveaxis(numbers["descriptors"], 1, -1)
    features = jax.jit(lambda v, x: model.apply(v, x, x, False, method=TinyRoma.features))
    np.testing.assert_allclose(features(variables, image)[0].coarse, want, atol=1e-4)


def test_statistics_of_a_batch_would_lose_the_biases(folded_file):
    """Why `frozen_norm` exists: without it the network is another one from the first step on."""
    model = TinyRoma()
    v = load_backbone(folded_file, model, zeros(model))
    image = images()[0]
    want = trunk_of_folded(folded_file, image)
    (a, _), _ = jax.jit(
        lambda v, x: model.apply(v, x, x, True, mutable=["batch_stats"], method=TinyRoma.features)
    )(v, image)
    got, want = np.asarray(a.coarse), np.asarray(want.coarse)
    assert np.abs(got - want).max() > 0.1 * np.abs(want).max()


def test_unfolded_weights_load_as_they_are(folded_file, tmp_path):
    """XFeat's own state dict, under the prefix that its hub model has."""
    state = unfolded(load_state_dict(folded_file))
    path = tmp_path / "xfeat.npz"
    np.savez(path, **{f"net.{k}": v for k, v in state.items()})
    model = TinyRoma()
    one, other = (load_backbone(p, model, zeros(model)) for p in (folded_file, path))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_released_layout_out_and_back(tmp_path):
    """112 tensors; a network without its fine matcher takes those it has."""
    model = TinyRoma()
    state = to_state_dict(model, of(model))
    assert len(state) == 112
    path = tmp_path / "tiny_roma.npz"
    np.savez(path, **state)
    back = load_tiny_roma(path, model, zeros(model))
    jax.tree.map(np.testing.assert_array_equal, back, of(model))
    coarse = TinyRoma(fine=False)
    jax.tree.map(
        np.testing.assert_array_equal, load_tiny_roma(path, coarse, zeros(coarse)), of(coarse)
    )
    # Statistics of the input, which the file lacks, stay what they are; a file may have them.
    normed = TinyRoma(norm="batch")
    kept = load_tiny_roma(path, normed, of(normed))
    jax.tree.map(np.testing.assert_array_equal, kept, of(normed))
    np.savez(path, **to_state_dict(normed, of(normed)))
    jax.tree.map(
        np.testing.assert_array_equal, load_tiny_roma(path, model, zeros(model)), of(model)
    )


def test_files_that_do_not_fit_are_named(tmp_path, folded_file):
    model = TinyRoma()
    with pytest.raises(ConfigError, match=r"system.model.backbone.*nowhere.npz"):
        load_backbone(tmp_path / "nowhere.npz", model, zeros(model))
    with pytest.raises(ConfigError, match="expected one file xfeat"):
        load_backbone(tmp_path, model, zeros(model))
    with pytest.raises(
        ConfigError, match=r"system.model.weights: .*xfeat_random.npz: tensors: .* more\)"
    ):
        load_tiny_roma(folded_file, model, zeros(model))
    state = dict(np.load(folded_file))
    state["block1.0.layer.0.weight"] = np.zeros((4, 3, 3, 3), np.float32)
    np.savez(tmp_path / "xfeat.npz", **state)
    with pytest.raises(ConfigError, match=r"xfeat.npz: tensors: block1.0.layer.0.weight.*shape"):
        load_backbone(tmp_path, model, zeros(model))
