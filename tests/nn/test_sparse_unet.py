"""The sparse U-Net: reference numbers of operators and network, training, names, overflow."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax import sparse
from posejax.nn import (
    SparseBatchNorm,
    SparseUNet,
    from_flax,
    sparse_unet_table,
    to_flax,
)
from tests.sparse.clouds import CAPACITY, COARSE, coords

CAPACITIES = (128, 64, 32, 16)


class SparseReference:
    """The file of reference numbers, its rows brought into the order of a level's."""

    def __init__(self, reference, capacity, case):
        self.z = reference("sparse_unet.npz")
        self.coords = self.z.arrays[f"{case}/coords1"]
        here = np.ones(len(self.coords), bool)
        self.level = sparse.unique_voxels(self.coords, here, capacity=capacity)
        self.rows = np.asarray(sparse.find_voxels(self.level, self.coords))

    def features(self, seed, channels):
        """Rows of the reference's standard normal draw, by level."""
        shape = (len(self.coords), channels)
        x = np.zeros((self.level.capacity, channels), np.float32)
        x[self.rows] = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        return x

    def check(self, tap, got):
        """Coarser levels have the level's own order; arrays without voxels are as they are."""
        got, count = np.asarray(got), self.z.meta["taps"][tap]["shape"]
        if count and len(got) == self.level.capacity:
            got = got[self.rows]
        self.z.check(tap, got[: count[0]] if count else got)


@pytest.mark.golden
def test_operators_and_their_gradients_give_the_reference_numbers(reference):
    r = SparseReference(reference, 448, "ops")
    case = r.z.meta["cases"]["ops"]
    weights = {k: r.z.make(k, shape) for k, shape in case["shapes"].items()}
    kernels = {k.split(".")[1]: v for k, v in weights.items() if k.endswith(".kernel")}
    bn = {k.split(".")[2]: v for k, v in weights.items() if ".bn." in k}
    maps = sparse.make_maps(r.level, capacities=(160, 64), stem=5)
    for level, name in zip(maps.levels, ("", "ops/coords2", "ops/coords4"), strict=True):
        if name:
            scale = {"ops/coords2": 2, "ops/coords4": 4}[name]
            want = r.z.arrays[name] // [1, scale, scale, scale]
            np.testing.assert_array_equal(level.coords[: len(want)], want)
    assert maps.same[0].counts.tolist() == case["pairs"]["subm3"]
    assert maps.down[0].counts.tolist() == case["pairs"]["down2"]
    assert int(maps.stem.counts.sum()) == case["pairs"]["stem5_total"]
    weight = r.features(case["seed"] + 1, 5)
    conv, mask = sparse.sparse_conv, r.level.mask

    def run(features, kernels):
        subm = conv(features, kernels["subm3"], maps.same[0])
        norm = (bn["running_mean"], bn["running_var"], bn["weight"], bn["bias"])
        normed = sparse.normalize_rows(subm, mask, *norm)
        down2 = conv(jax.nn.relu(normed), kernels["down2"], maps.down[0])
        down4 = conv(down2, kernels["down4"], maps.down[1])
        up2 = conv(down4, kernels["up2"], maps.down[1].transposed)
        up1 = conv(up2, kernels["up1"], maps.down[0].transposed)
        mean, var, _ = sparse.masked_moments(subm, mask)
        taps = {
            "subm3": subm,
            "bn_eval": normed,
            "bn_train_mean": mean,
            "bn_train_var": var,
            "bn_train": sparse.normalize_rows(subm, mask, mean, var, bn["weight"], bn["bias"]),
            "stem5": conv(features, kernels["stem5"], maps.stem),
            "one": features @ kernels["one"],
            "down2": down2,
            "down4": down4,
            "up2": up2,
            "up1": up1,
        }
        return jnp.sum(up1 * weight), taps

    step = jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))
    (loss, taps), (slope, slopes) = step(r.features(case["seed"], 4), kernels)
    for name, value in taps.items():
        r.check(f"ops/{name}", value)
    r.check("ops/loss", loss)
    r.check("ops/grad_feats", slope)
    for name in ("subm3", "down2", "down4", "up2", "up1"):
        r.check(f"ops/grad_{name}.kernel", slopes[name])


@pytest.mark.golden
@pytest.mark.slow
def test_network_gives_the_reference_numbers(reference):
    """Both cases, every tap. Operators compile by themselves: a level's units share theirs."""
    r = SparseReference(reference, 320, "unet")
    maps = sparse.make_maps(r.level, capacities=CAPACITIES)
    model = SparseUNet(classes=20)
    shapes = shapes_of(model, maps, 3)
    count = sum(np.prod(v.shape) for v in jax.tree.leaves(shapes["params"]))
    assert count == pytest.approx(37.86e6, rel=1e-3)
    for gain in (1, 2):
        case = r.z.meta["cases"][f"unet/g{gain}"]
        names = r.z.meta["names"]
        weights = {name: r.z.make(name, shape, gain=case["gain"]) for name, shape in names}
        variables = to_flax(weights, sparse_unet_table(model), shapes)
        out, kept = model.apply(
            variables,
            r.features(case["seed"], 3),
            maps,
            False,
            capture_intermediates=lambda m, _: m.name in ("down1", "up4"),
        )
        inner = kept["intermediates"]
        taps = dict(zip(("p1", "block1", "block2", "block3", "block4"), out.encoder, strict=True))
        taps |= dict(zip(("block5", "block6", "block7", "block8"), out.decoder, strict=True))
        taps |= {"down1": inner["down1"]["__call__"][0], "up4": inner["up4"]["__call__"][0]}
        for name, value in {**taps, "final": out.logits}.items():
            r.check(f"unet/g{gain}/{name}", value)


def shapes_of(model, maps, channels):
    x = jnp.zeros((maps.levels[0].capacity, channels))
    return jax.eval_shape(lambda key: model.init(key, x, maps, False), jax.random.key(0))


SMALL = SparseUNet(stem=4, widths=(6, 8), blocks=(1, 1), classes=3)


@functools.cache
def small_maps():
    found = coords(0)
    level = sparse.unique_voxels(found, np.ones(len(found), bool), capacity=CAPACITY)
    return sparse.make_maps(level, capacities=(COARSE,), stem=3)


@functools.cache
def small_variables():
    rng = np.random.default_rng(0)

    def start(path, shape):
        x = rng.standard_normal(shape.shape).astype(np.float32)
        kind = path[-1].key
        return 1 + 0.1 * np.abs(x) if kind in ("scale", "var") else 0.3 * x

    return jax.tree_util.tree_map_with_path(start, shapes_of(SMALL, small_maps(), 3))


@jax.jit
def train_step(variables, x, maps):
    def loss(params):
        out, updated = SMALL.apply(
            {**variables, "params": params}, x, maps, True, mutable=["batch_stats"]
        )
        return jnp.sum(out.logits**2), (out, updated)

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])


@pytest.fixture(scope="module")
def features():
    x = np.random.default_rng(1).standard_normal((CAPACITY, 3)).astype(np.float32)
    return np.where(np.asarray(small_maps().levels[0].mask)[:, None], x, 0)


def test_every_parameter_learns_and_all_statistics_move(features):
    (loss, (_, updated)), slopes = train_step(small_variables(), features, small_maps())
    for path, leaf in jax.tree_util.tree_leaves_with_path(slopes):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), jax.tree_util.keystr(path)
    pairs = zip(
        jax.tree.leaves(small_variables()["batch_stats"]),
        jax.tree.leaves(updated["batch_stats"]),
        strict=True,
    )
    assert all(np.any(np.asarray(a) != b) for a, b in pairs)
    again = train_step(small_variables(), features, small_maps())
    assert loss == again[0][0]
    for a, b in zip(jax.tree.leaves(slopes), jax.tree.leaves(again[1]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_scatter_forwards_or_backwards(features):
    program = train_step.lower(small_variables(), features, small_maps()).as_text()
    assert "stablehlo.gather" in program and "scatter" not in program


def test_an_overflow_spoils_everything(features):
    fine, coarse = small_maps().levels
    fuller = dataclasses.replace(coarse, needed=jnp.int32(COARSE + 1))
    cut = dataclasses.replace(small_maps(), levels=(fine, fuller))
    (loss, (out, _)), _ = train_step(small_variables(), features, cut)
    assert cut.overflow and np.isnan(loss)
    assert all(np.isnan(v).all() for v in jax.tree.leaves(out))


def test_names_are_minkowskis_and_come_back():
    table = sparse_unet_table(SMALL)
    state = from_flax(small_variables(), table)
    assert state["conv0p1s1.kernel"].shape == (27, 3, 4) and state["final.bias"].shape == (1, 3)
    assert {"block1.0.downsample.0.kernel", "convtr1p2s2.kernel", "bntr1.bn.running_var"} <= set(
        state
    )
    back = to_flax(state, table, small_variables())
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(small_variables()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_momentum_is_the_share_that_stays():
    mask = np.arange(8) < 5
    x = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32)
    norm = SparseBatchNorm(momentum=0.98)
    start = {"scale": jnp.ones(2), "bias": jnp.zeros(2)}
    old = {"mean": jnp.ones(2), "var": 2 * jnp.ones(2)}
    apply = functools.partial(norm.apply, {"params": start, "batch_stats": old})
    _, new = apply(x, mask, True, mutable=["batch_stats"])
    want = 0.98 * 2 + 0.02 * x[:5].var(0, ddof=1)
    np.testing.assert_allclose(new["batch_stats"]["var"], want, rtol=1e-5)
    np.testing.assert_allclose(new["batch_stats"]["mean"], 0.98 + 0.02 * x[:5].mean(0), rtol=1e-5)
    _, same = apply(x, np.zeros(8, bool), True, mutable=["batch_stats"])
    np.testing.assert_array_equal(same["batch_stats"]["var"], old["var"])


def test_settings_that_cannot_work_are_refused(features):
    with pytest.raises(ValueError, match="take 2 widths"):
        SparseUNet().init(jax.random.key(0), features, small_maps(), False)
