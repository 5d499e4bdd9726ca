"""The system in the engine: it learns, says what it must, and refuses what cannot work."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from posejax.config import ConfigError, replace
from posejax.nn import save_state_dict
from posejax.report import write
from posejax.systems.segnet import ModelConfig, Segnet, pretrained
from posejax.systems.segnet.baselines import fit_prior
from posejax.systems.segnet.lifting import plan_of
from posejax.systems.segnet.summary import in_a_row, summarize
from posejax.train.system import Batch, System
from tests.systems.segnet.made_up import GRID, MadeUp, started

MODEL = ModelConfig("small", features=16, widths=(16, 16, 16), lidar=True)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("frames"))
    grid = replace(GRID, lift="plan")
    return Segnet(MadeUp(folder=folder, grid=grid, lidar=True), MODEL)


@pytest.fixture(scope="module")
def batch(system):
    source = system.data.source("train")
    rows = [system.data.transform(source[i], np.random.default_rng(i), False) for i in range(2)]
    examples = {k: jnp.stack([jnp.asarray(r[k]) for r in rows]) for k in rows[0]}
    return Batch(examples, {k: jnp.asarray(v) for k, v in source.resident().items()})


@pytest.fixture(scope="module")
def trained(system, batch):
    """Parameters after some steps on two frames, the losses on the way, the last scalars."""
    shapes = jax.eval_shape(lambda key: system.init(key, batch), jax.random.key(0))
    params, state = started(shapes)
    optimizer = optax.adam(5e-3)

    @jax.jit
    def step(params, state, moments, key):
        def loss(p):
            return system.loss(p, state, batch, key, jnp.float32(0), True)

        (value, out), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(gradient, moments)
        return (
            optax.apply_updates(params, updates),
            out.state,
            moments,
            value,
            out.scalars,
            gradient,
        )

    moments = jax.eval_shape(optimizer.init, params)
    moments, losses = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), moments), []
    for i in range(25):
        key = jax.random.key(i)
        params, state, moments, value, scalars, gradient = step(params, state, moments, key)
        losses.append(float(value))
    return params, state, losses, scalars, gradient


@pytest.fixture(scope="module")
def program(system):
    return jax.jit(lambda params, state, batch: system.predict(params, state, batch))


@pytest.fixture(scope="module")
def outputs(program, trained, batch):
    return program(*trained[:2], batch)


def test_it_learns_two_frames(trained, system):
    _, _, losses, scalars, gradient = trained
    assert isinstance(system, System)
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    assert set(scalars) == {
        "segmentation", "center", "offset", "iou",
        "weight_segmentation", "weight_center", "weight_offset",
    }  # fmt: skip
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all(), name
        # The head of the features is for those that come after; no loss sees it.
        assert np.any(leaf != 0) != ("features" in name), name


def test_numbers_and_pages_of_an_evaluation(system, batch, outputs, tmp_path):
    records = jax.device_get(jax.jit(system.metrics)(outputs, batch))
    assert all(len(v) == 2 for v in records.values())
    records |= {"index": np.arange(2), "name": np.array(["a", "b"])}
    numbers = system.summarize(records)
    truth, said = np.asarray(outputs["target_map"]) > 0, np.asarray(outputs["logits"]) > 0
    valid = np.asarray(outputs["valid_map"]) > 0
    both, either = (truth & said & valid).sum(), ((truth | said) & valid).sum()
    assert numbers["iou"] == pytest.approx(both / either) and numbers["examples"] == 2
    assert numbers["recall"] == pytest.approx(both / (truth & valid).sum())
    assert numbers["precision"] == pytest.approx(both / (said & valid).sum())
    np.testing.assert_array_equal(records["error"], ((truth ^ said) & valid).sum((1, 2)))
    merged = {**batch.examples, **outputs}
    shown = [{k: np.asarray(v[i]) for k, v in merged.items()} for i in range(2)]
    assert system.also_shown(records) == []  # two drives of a frame each
    report = system.report(records, numbers, shown)
    assert len(report.gallery) == 2 and not report.tracks
    records["scene"] = np.zeros(2, np.int32)
    assert system.also_shown(records) == [0, 1]
    report = system.report(records, numbers, [shown[1], *shown])
    assert len(report.gallery) == 1
    assert report.tracks[0].name == "drive 0: pictures of 2 frames in a row"
    assert report.tracks[0].row["IoU"] == pytest.approx(numbers["iou"])
    page = write(report, tmp_path).read_text()
    assert "segnet on a made-up rig" in page and "imulated" not in page
    assert json.loads((tmp_path / "report.json").read_text())["summary"]["iou"] > 0


def test_the_recorded_loss_is_the_training_loss(system, batch, outputs, trained):
    params, state = trained[:2]
    loss = jax.jit(
        lambda b: system.loss(params, state, b, jax.random.key(0), jnp.float32(1), False)
    )
    one = Batch({k: v[:1] for k, v in batch.examples.items()}, batch.resident)
    np.testing.assert_allclose(outputs["loss"][0], loss(one)[0], rtol=1e-4)


def test_a_plan_and_a_calibration_give_the_same_maps(system, batch, outputs, trained):
    dynamic = replace(system, **{"data.grid.lift": "dynamic"})
    found = jax.jit(dynamic.predict)(*trained[:2], Batch(batch.examples))
    np.testing.assert_allclose(found["logits"], outputs["logits"], atol=2e-3)
    np.testing.assert_array_equal(found["coverage"], outputs["coverage"])
    plan = plan_of(batch.resident, system.data)
    np.testing.assert_array_equal(plan.coverage().max(1), outputs["coverage"][0])


def test_a_missing_camera_may_show_anything(program, batch, outputs, trained):
    mask = batch.examples["camera_mask"].at[:, 3].set(False)
    images = batch.examples["images"]
    a, b = (
        program(*trained[:2], batch._replace(
            examples={**batch.examples, "camera_mask": mask, "images": i}))
        for i in (images, images.at[:, 3].set(255))
    )  # fmt: skip
    np.testing.assert_array_equal(a["logits"], b["logits"])
    fewer, all_four = np.asarray(a["coverage"]), np.asarray(outputs["coverage"])
    assert (fewer <= all_four).all() and (fewer < all_four).any()


def test_the_lidar_is_seen_and_may_be_missing(program, batch, outputs, trained):
    off = {**batch.examples, "lidar_present": jnp.zeros_like(batch.examples["lidar_present"])}
    blind = program(*trained[:2], batch._replace(examples=off))
    assert np.isfinite(blind["logits"]).all()
    assert np.abs(blind["logits"] - outputs["logits"]).max() > 1e-2


def test_settings_that_do_not_fit_name_the_option(system):
    for changes, message in (
        ({"data.lidar": False}, r"needs --system\.data\.lidar$"),
        ({"model.radar": "meta"}, r"needs --system\.data\.radar$"),
        ({"model.compress": False}, r"needs --system\.model\.compress,"),
        ({"model.weights": "x.pth"}, "none for the backbone 'small'"),
        ({"objective.pos_weight": 0.0}, "pos_weight"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(system, **changes).check()


def test_the_strip_is_of_frames_that_follow_one_another():
    """Of the drive that is most like all, without the gap that an unreadable frame leaves."""
    index = np.array([7, 0, 1, 2, 3, 5, 6, 8, 9])
    records = {
        "index": index,
        "scene": np.array([1, 0, 0, 0, 0, 1, 1, 1, 2]),
        "intersection": np.where(index < 4, 9, 5),
        "union": np.full(9, 10),
    }
    assert records["index"][in_a_row(records, 5)].tolist() == [5, 6, 7, 8]
    assert records["index"][in_a_row(records, 2)].tolist() == [5, 6]
    records["scene"] = np.where(index == 7, 3, records["scene"])
    assert records["index"][in_a_row(records, 5)].tolist() == [5, 6]
    records["union"] = np.where(records["scene"] == 1, 0, 10)
    records["intersection"] = np.minimum(records["intersection"], records["union"])
    assert records["index"][in_a_row(records, 5)].tolist() == [0, 1, 2, 3]
    assert not len(in_a_row({k: v[:2] for k, v in records.items()}, 5))


# ---- a network that looks at nothing


def test_the_prior_is_the_mean_with_its_best_threshold(rng):
    target = np.zeros((40, 4, 6))
    target[:30, 0, 0] = 1  # three in four
    target[:20, 1] = rng.random((20, 6)) < 0.2
    logits, threshold = fit_prior({"target_map": target, "valid_map": np.ones_like(target)})
    assert logits[0, 0] == pytest.approx(np.log(3), rel=1e-5)
    assert logits[0, 0] > threshold and (logits[2:] <= threshold).all()
    for value in (0, 1):
        same = np.full_like(target, value)
        logits, threshold = fit_prior({"target_map": same, "valid_map": np.ones_like(target)})
        assert ((logits > threshold) == value).all()


def test_the_prior_in_the_engine(system, batch):
    prior = replace(system, baseline="prior")
    params, state = prior.init(jax.random.key(0), batch)
    assert prior.calibrates and not system.calibrates and not jax.tree.leaves(params)

    @jax.jit
    def measured(state):
        return prior.metrics(prior.predict(params, state, batch), batch)

    with jax.debug_nans(True):
        first = jax.device_get(measured(state))
        fitted = prior.calibrate(state, first)
        again = jax.device_get(measured(fitted))
    assert again.keys() == first.keys() and fitted.keys() == set(prior.calibration)
    numbers = summarize(again)
    assert numbers["iou"] > 0.3  # on the two frames that it is the mean of
    assert numbers["ece"] < 0.01 and 0 < numbers["brier"] < 0.1  # and whose shares it knows
    assert np.isfinite([numbers["recall"], numbers["precision"], *again["loss"]]).all()
    assert (again["loss"] < first["loss"]).all()
    with pytest.raises(ConfigError, match="nothing to train"):
        prior.loss(params, state, batch, jax.random.key(0), jnp.float32(0), True)


# ---- published weights


@functools.cache
def released(backbone="effb0"):
    """A system, shapes of its variables, and a state dict in the released layout."""
    system = Segnet(MadeUp(grid=replace(GRID, shape=(16, 8, 16))), ModelConfig(backbone))
    params, state = jax.eval_shape(system._variables, jax.random.key(0))
    rng = np.random.default_rng(0)
    made = jax.tree.map(
        lambda s: np.float32(rng.standard_normal(s.shape, np.float32)), (params, state)
    )
    return system, made, pretrained.to_state_dict(system.model, *made)


def test_released_weights_start_a_training(tmp_path):
    system, (params, state), tensors = released()
    assert tensors["bev_compressor.0.weight"].shape == (128, 1024, 3, 3)
    assert {"ce_weight", "center_weight", "offset_weight"} < set(tensors)
    path = save_state_dict(tmp_path / "released.npz", tensors)
    loading = replace(system, **{"model.weights": str(path)})
    loading.check_start()
    zeros = jax.tree.map(np.zeros_like, (params, state))
    jax.tree.map(np.testing.assert_array_equal, loading.start(*zeros), (params, state))
    path = save_state_dict(path, {k: v for k, v in tensors.items() if "_blocks.9._bn" not in k})
    with pytest.raises(ConfigError, match=r"model\.weights: .*_blocks\.9.*more\)") as refused:
        loading.start(*zeros)
    assert len(str(refused.value).splitlines()) == 1


def test_a_trunk_of_imagenet_starts_a_training(tmp_path):
    system, (params, state), tensors = released()
    start = "encoder.backbone."
    trunk = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    trunk |= {"_fc.weight": np.zeros((1000, 1280)), "_blocks.15._bn2.bias": np.zeros(320)}
    path = save_state_dict(tmp_path / "efficientnet.npz", trunk)
    loading = replace(system, **{"model.backbone_weights": str(path)})
    zeros = jax.tree.map(np.zeros_like, (params, state))
    got = loading.start(*zeros)
    own = got[0]["network"]["encoder"]["trunk"], got[1]["batch_stats"]["encoder"]["trunk"]
    want = params["network"]["encoder"]["trunk"], state["batch_stats"]["encoder"]["trunk"]
    jax.tree.map(np.testing.assert_array_equal, own, want)
    assert not np.any(got[0]["network"]["compressor"]["kernel"])
    missing = replace(system, **{"model.backbone_weights": str(tmp_path / "none.pth")})
    with pytest.raises(ConfigError, match=r"backbone_weights: .*no such file"):
        missing.check_start()


def test_stages_make_the_maps_of_the_whole(system, batch, outputs, trained):
    carried = None
    for name, stage in system.stages().items():
        carried = jax.jit(stage)(*trained[:2], batch, carried)
        assert name in ("encoder", "lift", "compressor", "decoder")
    np.testing.assert_allclose(carried.segmentation, outputs["logits"], atol=1e-3)
