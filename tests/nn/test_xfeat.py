"""XFeat: the released weights reproduce the reference's maps; shapes; training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.nn import XFeat, load_state_dict, to_flax, xfeat_table
from posejax.nn.xfeat import normalized_grey


@pytest.mark.real
def test_released_weights(data_dir):
    folder = data_dir("xfeat_weights")
    z = np.load(folder / "parity.npz")
    image = np.moveaxis(z["input"], 1, -1)
    model = XFeat(folded=True)
    shapes = jax.eval_shape(lambda key: model.init(key, image, False), jax.random.key(0))
    variables = to_flax(load_state_dict(folder / "xfeat_folded.npz"), xfeat_table(model), shapes)
    assert sum(x.size for x in jax.tree.leaves(variables)) == 659_282
    out = jax.jit(lambda v, x: model.apply(v, x, False))(variables, image)
    for name, got in (
        ("x2", out.fine),
        ("descriptors", out.coarse),
        ("heatmap", out.heatmap),
        ("keypoint_logits", out.keypoint_logits),
    ):
        np.testing.assert_allclose(np.moveaxis(got, -1, 1), z[name], atol=1e-4, err_msg=name)


def test_parameters_statistics_and_wrong_sizes():
    model = XFeat()
    x = jax.ShapeDtypeStruct((2, 32, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, False), jax.random.key(0), x)
    trunk = variables["params"]["trunk"]
    assert sum(x.size for x in jax.tree.leaves(trunk)) == 633_140  # as published
    assert set(variables) == {"params", "batch_stats"}
    with pytest.raises(ValueError, match="multiples of 32"):
        jax.eval_shape(
            lambda key: model.init(key, jnp.zeros((1, 33, 64, 3)), False), jax.random.key(0)
        )


def test_grey_images_are_normalised_one_by_one(rng):
    images = rng.uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    grey = np.asarray(normalized_grey(images))
    np.testing.assert_allclose(grey.mean((1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(grey.std((1, 2)), 1, atol=1e-6)
    np.testing.assert_allclose(normalized_grey(images / 255), grey, atol=1e-3)
    flat = jax.grad(lambda x: normalized_grey(x).sum())(np.ones_like(images))
    assert np.isfinite(flat).all()
