"""The network against the original's numbers at every tap, and its released names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax import bev
from posejax.data.cameras import convert_intrinsics
from posejax.nn import from_flax, to_flax
from posejax.systems.segnet.config import GridConfig, ModelConfig
from posejax.systems.segnet.model import (
    Flips,
    SegnetNet,
    Sensors,
    map_channels,
    present_images,
    segnet_table,
)
from posejax.systems.segnet.system import Segnet
from posejax.train.system import Batch
from tests.nn.conftest import Reference
from tests.systems.segnet.made_up import MadeUp, started

GRID = bev.VoxelGrid((48, 4, 48), (-12, -4, -12), (12, 6, 12))
IMAGE, SIZE = (64, 96), (8, 12)
CASES = {
    "res50": ModelConfig("res50"),
    "effb0": ModelConfig("effb0"),
    "res101": ModelConfig("res101"),
    "effb0_lidar": ModelConfig("effb0", lidar=True),
    "effb0_radar": ModelConfig("effb0", radar="occupancy"),
    "effb0_metaradar": ModelConfig("effb0", radar="meta"),
    "effb0_nocompress": ModelConfig("effb0", compress=False),
}
LOSS_WEIGHTS = ("ce_weight", "center_weight", "offset_weight")


@functools.cache
def shapes(config, grid=GRID):
    """Of the variables, without computing anything."""
    volume = jnp.zeros((1, *grid.shape, config.features))
    sensors = Sensors(
        jnp.zeros((1, 2, *IMAGE, 3)),
        jnp.ones((1, 2), bool),
        jnp.zeros((1, *grid.shape, 1)),
        jnp.zeros((1, *grid.shape, 17)),
    )
    net, other = SegnetNet(config), CASES["effb0"]
    if config != other and config.backbone == "effb0":  # which is the same but for its compressor
        same = shapes(other)
        rest = {k: v for k, v in same["params"].items() if k != "compressor"}
        own = jax.eval_shape(
            lambda key: net.init(key, volume, sensors, method="compress"), jax.random.key(0)
        )
        return {**same, "params": {**rest, **own.get("params", {})}}
    return jax.eval_shape(
        lambda key: net.init(key, sensors, lambda f, m: volume, False), jax.random.key(0)
    )


def released(reference, case):
    """Variables of the rule-made state dict, whose loss weights are set aside."""
    gain = reference.meta["cases"][case].get("gain", 1.0)
    state = reference.state_dict(case, gain)
    state = {k: v for k, v in state.items() if k not in LOSS_WEIGHTS}
    return to_flax(state, segnet_table(CASES[case]), shapes(CASES[case]))


def sensors_of(reference, case):
    about = reference.meta["cases"][case]
    b, rng = about["B"], np.random.default_rng(about["seed"])
    rgb = 0.25 * rng.standard_normal((b, 2, 3, *IMAGE), dtype=np.float32)
    rgb = np.moveaxis(np.clip(rgb, -0.5, 0.5), 2, -1) + np.float32(0.5)
    rng, shape = np.random.default_rng(about["seed"] + 7), (b, 1, *GRID.shape)
    occupancy = (rng.random(shape) < 0.05).astype(np.float32)
    values = occupancy * rng.standard_normal((b, 16, *GRID.shape), dtype=np.float32)
    occupancy, values = (jnp.moveaxis(jnp.asarray(v), 1, -1) for v in (occupancy, values))
    radar = jnp.concatenate([occupancy, values], -1)
    return Sensors(jnp.asarray(rgb), jnp.ones((b, 2), bool), occupancy, radar)


def plans_of(reference, batch):
    k = reference.arrays[f"B{batch}/pix_T_cams"][..., :3, :3]
    k = convert_intrinsics(k, source="opencv", target="posejax")
    poses = np.linalg.inv(reference.arrays[f"B{batch}/cam0_T_camXs"].astype(np.float64))
    make = {"grid": GRID, "image_size": IMAGE, "feature_size": SIZE, "compat": "simple_bev"}
    rigs = [bev.make_lift_plan(k[i], poses[i], **make) for i in range(batch)]
    return rigs, [[bev.make_lift_plan(k[i, [n]], poses[i, [n]], **make) for n in range(2)]
                  for i in range(batch)]  # fmt: skip


@pytest.fixture(scope="module")
def reference(golden):
    return Reference(golden("segnet.npz"))


@pytest.mark.golden
@pytest.mark.parametrize(
    "case", ["effb0", *(pytest.param(c, marks=pytest.mark.slow) for c in CASES if c != "effb0")]
)
def test_every_tap_of_the_original(reference, case):
    net, variables, sensors = SegnetNet(CASES[case]), released(reference, case), None
    sensors = sensors_of(reference, case)
    rigs, single = plans_of(reference, len(sensors.mask))

    def lift(features, mask):
        return jnp.stack([bev.lift(f, p, m) for f, p, m in zip(features, rigs, mask, strict=True)])

    @jax.jit
    def run(variables):
        def taps(net):
            features = net.encode(sensors, False)
            maps = net.compress(lift(features, sensors.mask), sensors)
            raw = net.raw(maps, False)
            return features, maps, raw, net.heads(raw)

        return net.apply(variables, method=taps)

    features, maps, raw, heads = run(variables)
    reference.check(f"{case}/feat_cam", features.reshape(-1, *features.shape[2:]))
    if f"{case}/vol" in reference.meta["taps"]:
        volume = np.asarray(lift(features, sensors.mask))
        each = [
            np.asarray(bev.lift(features[i][n : n + 1], plan))
            for i, plans in enumerate(single)
            for n, plan in enumerate(plans)
        ]
        check_volume(reference, f"{case}/vol", volume)
        check_volume(reference, f"{case}/vol_cam", np.stack(each))
        reference.check(f"{case}/raw", raw)
        reference.check(f"{case}/feat", heads.features)
    reference.check(f"{case}/bev", maps)
    reference.check(f"{case}/seg", heads.segmentation[..., None])
    reference.check(f"{case}/center", heads.center[..., None])
    reference.check(f"{case}/offset", heads.offset)


def check_volume(reference, tap, got):
    """[B, Z, Y, X, C] against B, C, Z, Y, X."""
    info, got = reference.meta["taps"][tap], np.moveaxis(got.astype(np.float64), -1, 1)
    assert list(got.shape) == info["shape"]
    part = got.reshape(-1)[:: info["stride"]]
    np.testing.assert_allclose(part, reference.arrays[tap].reshape(-1), rtol=0, atol=1e-4)
    assert abs(got.mean() - info["mean"]) < 1e-4


@pytest.mark.golden
@pytest.mark.slow
def test_the_training_step_of_the_original(reference):
    """Images, calibration and targets to its losses, by the system that the engine trains."""
    arrays, about = reference.arrays, reference.meta["run_model"]
    variables = released(reference, "effb0")
    given = reference.meta["losses"]["weights"]
    weights = {"segmentation": given["ce"], "center": given["center"], "offset": given["offset"]}
    params = {"network": variables.pop("params"), "log_variances": weights}
    ego_from_camera = arrays["run_model/ego_T_cams"][0].astype(np.float64)
    k = arrays["run_model/pix_T_cams"][..., :3, :3]
    examples = {
        "images": np.moveaxis(arrays["run_model/imgs"], 2, -1),
        "camera_mask": np.ones((1, 2), bool),
        "intrinsics": convert_intrinsics(k, source="opencv", target="posejax"),
        "camera_from_grid": (np.linalg.inv(ego_from_camera) @ ego_from_camera[0])[None],
    }
    names = ("seg", "valid", "center", "offset")
    target = [np.moveaxis(arrays[f"losses/tgt_{name}"][:1], 1, -1) for name in names]
    target = [np.float32(t[..., 0] if t.shape[-1] == 1 else t) for t in target]

    class Told(Segnet):
        def targets(self, batch):
            return bev.BoxTargets(*target, instance=np.zeros((1, 48, 48), np.int32))

    grid = GridConfig(GRID.shape, GRID.lower, GRID.upper, frame="camera", compat="simple_bev")
    system = Told(MadeUp(grid=grid, size=IMAGE), CASES["effb0"])

    @jax.jit
    def step(params, state, examples):
        batch, key = Batch(examples), jax.random.key(0)
        total, out = system.loss(params, state, batch, key, jnp.float32(0), False)
        return total, out.scalars, system._apply(params, state, batch, False)[0]

    examples = jax.tree.map(lambda x: x if x.dtype in (np.uint8, bool) else np.float32(x), examples)
    total, scalars, out = step(params, variables, examples)
    check = {"atol": 1e-4, "rtol": 1e-5}
    np.testing.assert_allclose(out.segmentation, arrays["run_model/seg"][:, 0], **check)
    offset = np.moveaxis(arrays["run_model/offset"], 1, -1)
    np.testing.assert_allclose(out.offset, offset, **check)
    _, terms = bev.uncertainty_weighting(
        {name: scalars[name] for name in weights}, weights,
        {"segmentation": 10.0, "center": 0.5, "offset": 0.5},
    )  # fmt: skip
    theirs = {"segmentation": "ce_loss", "center": "center_loss", "offset": "offset_loss"}
    for name, other in theirs.items():
        assert terms[name] == pytest.approx(about["metrics"][other], rel=1e-5), name
    assert total == pytest.approx(about["total"], rel=1e-5)
    assert scalars["iou"] == pytest.approx(about["metrics"]["iou"], rel=1e-5)


@pytest.mark.golden
@pytest.mark.parametrize("case", list(CASES))
def test_released_layouts_fit_by_name(reference, case):
    """Every entry of the original's state dict but the loss weights, of its very shape."""
    names = {n: s for n, s in reference.meta["names"][case] if n not in LOSS_WEIGHTS}
    table, flat = segnet_table(CASES[case]), shapes(CASES[case])
    state = {n: np.zeros(s, np.float32) for n, s in names.items()}
    found = to_flax(state, table, flat)
    assert jax.tree.structure(found) == jax.tree.structure(flat)
    counted = [n for n in names if not n.endswith("num_batches_tracked")]
    assert sorted(counted) == sorted(e.name for e in table.entries)


def test_another_layout_is_refused_in_one_error():
    """Two wrong entries are named; none of the others is loaded."""
    config = ModelConfig("effb0")
    state = from_flax(shapes_as_zeros(config), segnet_table(config))
    state["encoder.depth_layer.weights"] = state.pop("encoder.depth_layer.weight")
    state["bev_compressor.0.weight"] = np.zeros((128, 1024, 3, 3), np.float32)
    with pytest.raises(ValueError, match="the state dict does not fit") as refused:
        to_flax(state, segnet_table(config), shapes(config))
    text = str(refused.value)
    assert "did you mean encoder.depth_layer.weight?" in text
    assert "bev_compressor.0.weight: shape (3, 3, 1024, 128)" in text
    assert len(text.splitlines()) == 4


def shapes_as_zeros(config):
    return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes(config))


def test_parameter_counts_are_the_published_ones():
    """42.05 M with eight levels (res101), 23.06 M (res50); what radar and LiDAR add."""
    per_level = 9 * 128 * 128  # of the compressor; the cases here have four levels, not eight

    def count(case):
        params = shapes(CASES[case])["params"]
        return sum(np.prod(p.shape) for p in jax.tree.leaves(params)) + 4 * per_level

    assert count("res50") / 1e6 == pytest.approx(23.06, abs=0.01)
    assert count("res101") / 1e6 == pytest.approx(42.05, abs=0.01)
    assert count("effb0_metaradar") - count("effb0") == 147_456 // 2
    assert count("effb0_lidar") - count("effb0") == 9_216 // 2
    both = ModelConfig(radar="occupancy", lidar=True)
    assert map_channels(both, 8) == 1024 + 8 + 1


SMALL = ModelConfig("small", features=8, widths=(8, 16, 16))
TINY = bev.VoxelGrid((16, 2, 16), (-4, -1, -4), (4, 1, 4))


@pytest.fixture(scope="module")
def small():
    """A small network with a made-up lift, its variables, and a batch of two frames."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (2, 3, 32, 48, 3)), jnp.uint8)
    mask = jnp.array([[True, True, True], [True, False, True]])
    weights = jnp.asarray(rng.normal(size=(3, 4 * 6, np.prod(TINY.shape))), jnp.float32)

    def lift(features, mask):
        flat = features.reshape(2, 3, -1, 8)
        flat = jnp.where(mask[:, :, None, None], flat, 0)
        return jnp.einsum("bnpc,npv->bvc", flat, weights).reshape(2, *TINY.shape, 8)

    net, sensors = SegnetNet(SMALL), Sensors(images, mask)
    shapes = jax.eval_shape(lambda key: net.init(key, sensors, lift, False), jax.random.key(0))
    variables = started(shapes)

    @jax.jit
    def run(sensors, flips):
        out, _ = net.apply(variables, sensors, lift, True, flips, mutable=["batch_stats"])
        return out

    return run, sensors


def test_missing_cameras_change_nothing(small):
    run, sensors = small
    off = Flips(jnp.zeros((2, 3), bool), jnp.zeros(2, bool), jnp.zeros(2, bool))
    other = sensors.images.at[1, 1].set(7)
    a, b = run(sensors, off), run(sensors._replace(images=other), off)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    seen = run(sensors._replace(images=sensors.images.at[1, 0].set(7)), off)
    assert np.abs(seen.segmentation - a.segmentation).max() > 1e-3


def test_nothing_stands_in_where_no_camera_is_there():
    images = jnp.full((1, 2, 1, 1, 3), jnp.nan)
    assert (present_images(images, jnp.zeros((1, 2), bool)) == 0).all()


def test_flips_come_back_upright(small):
    """Flipping the maps moves what the net makes of them, not where it lies: a map's net whose
    input is symmetric gives the same, whatever is flipped."""
    run, sensors = small
    off, on = jnp.zeros(2, bool), jnp.ones(2, bool)
    plain = run(sensors, Flips(jnp.zeros((2, 3), bool), off, off))
    flipped = run(sensors, Flips(jnp.zeros((2, 3), bool), on, off))
    assert np.abs(plain.segmentation - flipped.segmentation).max() > 1e-3
    correlation = np.corrcoef(plain.segmentation.ravel(), flipped.segmentation.ravel())[0, 1]
    turned = np.corrcoef(plain.segmentation.ravel(), flipped.segmentation[..., ::-1].ravel())[0, 1]
    assert correlation > turned
