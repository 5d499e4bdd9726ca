"""Tiny RoMa: every tap of the reference, batches, the original's name table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.matching import Rows
from posejax.nn import from_flax, load_state_dict, save_state_dict, to_flax
from posejax.systems.tinyroma.model import (
    TinyRoma,
    dense_match,
    grid_normalized,
    multiple_of_32,
    tiny_roma_table,
)
from tests.nn.conftest import Reference
from tests.nn.torch_files import torch_save

CASES = ["same_fast", "odd_exact", "batch2_exact"]
SLOW = ["same_exact_g1", "same_exact", "diff_exact", "diff_fast"]


@functools.cache
def shapes():
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    model = TinyRoma()
    return jax.eval_shape(lambda key, x: model.init(key, x, x, False), jax.random.key(0), x)


@pytest.mark.golden
@pytest.mark.parametrize("case", [*CASES, *(pytest.param(c, marks=pytest.mark.slow) for c in SLOW)])
def test_reference_numbers(golden, case):
    z = Reference(golden("tiny_roma.npz"))
    given = z.meta["cases"][case]
    state = {n: z.make(n, s, gain=given["gain"]) for n, s in z.meta["names"]}
    model = TinyRoma(mode="exact" if given["exact"] else "official_fast")
    variables = to_flax(state, tiny_roma_table(model), shapes())
    a, b = (
        np.moveaxis(z.arrays[f"{given['images']}/im_{side}"], 1, -1).astype(np.float32) / 255
        for side in "AB"
    )

    @jax.jit
    def run(variables, a, b):
        pair = (jax.vmap(multiple_of_32)(x) for x in (a, b))
        out = model.apply(variables, *pair, False)
        match = jax.vmap(lambda x, y: dense_match(model, variables, x, y))(a, b)
        return out, match

    out, (warp, certainty) = run(variables, a, b)
    features = {"A": out.features_a, "B": out.features_b}
    for side, maps in features.items():
        z.check(f"{case}/x2_{side}", maps.fine)
        z.check(f"{case}/coarse_{side}", maps.coarse)
    corr = jnp.einsum("bhwc,bxyc->bxyhw", *(f.coarse / 8**0.5 for f in features.values()))
    z.check(f"{case}/corr", corr)
    z.check(f"{case}/pos_embed", out.expected)
    for scale, found in ((8, out.coarse), (4, out.fine)):
        z.check(f"{case}/flow{scale}", found.flow)
        z.check(f"{case}/certainty_logit{scale}", found.logit[..., None])
    size = np.array(b.shape[2:0:-1], np.float32)
    grid = np.broadcast_to(grid_normalized(a.shape[1:3]), warp.shape)
    both = np.concatenate([grid, 2 * np.asarray(warp) / size - 1], axis=-1)
    z.check(f"{case}/match_warp", np.moveaxis(both, 1, -1))  # channels last there, too
    z.check(f"{case}/match_certainty", certainty)


def test_the_name_table_is_the_released_layout(golden):
    """112 tensors; what is trained here can be written back."""
    z = Reference(golden("tiny_roma.npz"))
    state = {n: z.make(n, s) for n, s in z.meta["names"]}
    assert len(state) == 112
    table = tiny_roma_table(TinyRoma())
    variables = to_flax(state, table, shapes())
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 2_842_490
    back = from_flax(variables, table)
    tracked = {n for n in state if n.endswith("num_batches_tracked")}
    assert set(back) == set(state) - tracked
    for name, value in back.items():
        np.testing.assert_array_equal(value, state[name])


def test_searches_share_the_parameters():
    """A rectified pair needs no other weights; sizes stay the same."""
    x = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    model = TinyRoma(search=Rows((0, 4)))
    out = jax.eval_shape(lambda v, x: model.apply(v, x, x, False), shapes(), x)
    assert out.coarse.flow.shape == (1, 8, 12, 2) and out.fine.logit.shape == (1, 16, 24)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_the_released_file_there_and_back(golden, tmp_path, suffix):
    """From a file of PyTorch into the network, and as 112 tensors into a file for PyTorch."""
    z = Reference(golden("tiny_roma.npz"))
    state = {n: z.make(n, s) for n, s in z.meta["names"]}
    path = tmp_path / f"tiny_roma_v1_outdoor{suffix}"
    (torch_save if suffix == ".pth" else save_state_dict)(path, state)
    table = tiny_roma_table(TinyRoma())
    variables = to_flax(load_state_dict(path), table, shapes())
    back = load_state_dict(
        save_state_dict(
            tmp_path / "back.safetensors", from_flax(variables, table, batches_tracked=0)
        )
    )
    assert len(back) == 112 and set(back) == set(state)
    for name, value in state.items():
        assert back[name].shape == np.shape(value)
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(back[name], value)
