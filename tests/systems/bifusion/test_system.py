"""The system in the engine: it learns, schedules move, health is told, wrong settings refused."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from posejax.cli import load_config
from posejax.config import ConfigError, replace
from posejax.nn import ClipTower, from_flax, save_state_dict, sparse_unet_table
from posejax.nn.clip import clip_table
from posejax.nn.sparse_unet import SparseUNet
from posejax.report import write
from posejax.systems.bifusion import Bifusion, ModelConfig
from posejax.systems.bifusion.gate import PositionInjection
from posejax.systems.bifusion.objective import (
    confusion,
    consistency,
    instance_centers,
    ramp,
)
from posejax.systems.bifusion.summary import class_iou, summarize
from posejax.train import optimizer as optimizers
from posejax.train.groups import flatten
from posejax.train.system import Batch, System
from tests.systems.bifusion.made_up import TINY, MadeUp

LATE = jnp.float32(0.5)


def started(system):
    """Parameters and state as arrays of NumPy's making: `init` would compile for seconds."""
    rng = np.random.default_rng(0)

    def start(path, shape):
        match getattr(path[-1], "key", ""):
            case "kernel":
                scale = np.sqrt(1.5 / np.prod(shape.shape[:-1]))
                value = scale * rng.standard_normal(shape.shape)
            case "scale" | "var":
                value = np.ones(shape.shape)
            case _:
                value = np.zeros(shape.shape)
        return jnp.asarray(value, shape.dtype)

    shapes = jax.eval_shape(system._variables, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(start, shapes)


@pytest.fixture(scope="module")
def system():
    return Bifusion(MadeUp(), TINY)


@pytest.fixture(scope="module")
def batch(system):
    source = system.data.source("train")
    rows = [system.data.transform(source[i], np.random.default_rng(i), False) for i in range(2)]
    return Batch({k: jnp.stack([jnp.asarray(r[k]) for r in rows]) for k in rows[0]})


@pytest.fixture(scope="module")
def step(system):
    @jax.jit
    def run(params, state, batch, progress):
        def loss(p):
            return system.loss(p, state, batch, jax.random.key(0), progress, True)

        return jax.value_and_grad(loss, has_aux=True)(params)

    return run


@pytest.fixture(scope="module")
def trained(system, batch, step):
    """Parameters after some steps on two frames, the losses on the way, the last step's rest."""
    params, state = started(system)
    optimizer = optax.adam(5e-3)
    moments, losses = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for _ in range(30):
        (value, out), gradient = step(params, state, batch, LATE)
        updates, moments = update(gradient, moments)
        params, state = optax.apply_updates(params, updates), out.state
        losses.append(float(value))
    return params, state, losses, out.scalars, gradient


@pytest.fixture(scope="module")
def outputs(system, trained, batch):
    return jax.jit(system.predict)(*trained[:2], batch)


def test_it_learns_and_every_leaf_has_a_gradient(trained, system):
    _, state, losses, scalars, gradient = trained
    assert isinstance(system, System)
    assert losses[-1] < 0.4 * losses[0] and scalars["accuracy"] > 0.9
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all() and np.any(leaf != 0), name
    assert state["schedule"]["progress"] == LATE


def test_health_is_told_by_the_step(trained):
    scalars = trained[3]
    assert scalars["valid_ratio"] == 1
    bins = [float(v) for k, v in scalars.items() if k.startswith("gate/0.")]
    assert len(bins) == 10 and sum(bins) == pytest.approx(1)
    low, mean, high = (float(scalars[k]) for k in ("gate/min", "fusion_2d_ratio", "gate/max"))
    assert 0 < low < mean < high < 1 and scalars["gate/std"] > 0
    assert scalars["fusion_3d_ratio"] == pytest.approx(1 - mean)
    assert -1 <= scalars["feature_similarity"] <= 1 and 0 < scalars["voxels"] <= 1
    assert scalars["norm_2d"] > 0 and scalars["norm_3d"] > 0


def test_every_schedule_moves(trained, batch, step):
    """The gate opens, the consistency's factor grows; both by the argument alone."""
    params, state = trained[:2]
    found = {p: step(params, state, batch, jnp.float32(p)) for p in (0.0, 0.15, 0.9)}
    weights = [float(f[0][1].scalars["consistency_weight"]) for f in found.values()]
    assert weights == pytest.approx([0, 0.025, 0.05])
    early, late = found[0.0], found[0.9]
    assert early[0][1].scalars["gate/std"] == 0 and late[0][1].scalars["gate/std"] > 0
    assert early[0][1].scalars["fusion_2d_ratio"] == 0.5
    gate = [np.abs(f[1]["fusion"]["gate"]["dense1"]["kernel"]).max() for f in (early, late)]
    assert gate[0] == 0 < gate[1]
    assert [float(ramp(jnp.float32(p), 0.1, 0.2)) for p in (0, 0.1, 0.15, 0.2, 1)] == (
        pytest.approx([0, 0, 0.5, 1, 1], abs=1e-6)
    )


def test_an_evaluation_opens_the_gate_as_far_as_the_training(system, trained, batch):
    params, state = trained[:2]
    young = {**state, "schedule": {"progress": jnp.float32(0.1)}}
    gate = jax.jit(system.predict)(params, young, batch)["gate"]
    np.testing.assert_array_equal(np.unique(gate), [0, 0.5])


def test_the_consistency_carries_gradients_to_both():
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.standard_normal((5, 8)), jnp.float32) for _ in range(2))
    slopes = [jax.grad(lambda a, b, r=r: consistency(a, b, r).sum(), (0, 1))(a, b) for r in (0, 1)]
    assert np.any(slopes[0][0] != 0) and not np.any(slopes[0][1] != 0)
    part = jax.grad(lambda b: consistency(a, b, 0.05).sum())(b)
    np.testing.assert_allclose(part, 0.05 * slopes[1][1], rtol=1e-4, atol=1e-7)
    nothing = jax.grad(lambda a: consistency(a, jnp.zeros_like(b), 0.5).sum())(jnp.zeros_like(a))
    assert np.isfinite(nothing).all()


def test_centers_are_the_means_of_any_numbers():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((50, 3)).astype(np.float32)
    instance = rng.choice([-1, 3, 70000, 12], 50).astype(np.int32)
    got = np.asarray(jax.jit(instance_centers)(points, instance))
    for number in (3, 70000, 12):
        want = points[instance == number].mean(0)
        np.testing.assert_allclose(got[instance == number] - want, 0, atol=1e-6)
    assert not got[instance == -1].any()


def test_nothing_of_the_step_adds_up_what_is_scattered(system, trained, batch, step):
    text = step.lower(*trained[:2], batch, LATE).as_text()
    assert "stablehlo.gather" in text and "stablehlo.scatter" not in text


def test_what_is_not_there_and_has_no_label_changes_nothing(system, trained, batch, step):
    params, state = trained[:2]
    (loss, _), slopes = step(params, state, batch, LATE)
    gone = ~batch.examples["mask"]
    examples = {**batch.examples}
    for name in ("points", "colors"):
        examples[name] = jnp.where(gone[..., None], 1.5, examples[name])
    (other, _), others = step(params, state, Batch(examples), LATE)
    assert other == loss
    for a, b in zip(jax.tree.leaves(slopes), jax.tree.leaves(others), strict=True):
        np.testing.assert_array_equal(a, b)
    none = jnp.full_like(examples["semantic"], -1)
    empty = {**examples, "mask": jnp.zeros_like(gone), "semantic": none, "instance": none}
    (loss, out), slopes = step(params, state, Batch(empty), LATE)
    assert np.isfinite(loss) and out.scalars["semantic"] == 0
    assert all(np.isfinite(v).all() for v in jax.tree.leaves(slopes))


def test_numbers_and_pages_of_an_evaluation(system, batch, outputs, tmp_path):
    records = jax.device_get(jax.jit(system.metrics)(outputs, batch))
    assert all(len(v) == 2 for v in records.values())
    records |= {"index": np.arange(2), "name": np.array(["a", "b"])}
    numbers = system.summarize(records)
    truth, said = (np.asarray(v) for v in (batch.examples["semantic"], outputs["class"]))
    known = np.asarray(batch.examples["mask"]) & (truth >= 0)
    for c, name in enumerate(system.classes):
        both = ((truth == c) & (said == c) & known).sum()
        either = (((truth == c) | (said == c)) & known).sum()
        assert numbers[f"iou/{name}"] == pytest.approx(both / either)
    assert numbers["accuracy"] == pytest.approx((truth == said)[known].mean())
    assert numbers["valid_ratio"] == 1 and 0 < numbers["gate"] < 1 and numbers["offset_error"] > 0
    np.testing.assert_allclose(np.linalg.norm(outputs["fused"], axis=-1), 1, rtol=1e-5)
    # A frame's points lie on the pixels that they come from.
    xy, there = np.asarray(outputs["xy"]), np.asarray(outputs["valid"])
    assert (np.abs(xy[there] % 1 - 0.5) < 1e-2).all()
    merged = {**batch.examples, **outputs}
    shown = [{k: np.asarray(v[i]) for k, v in merged.items()} for i in range(2)]
    page = write(system.report(records, numbers, shown), tmp_path).read_text()
    assert "bifusion on a made-up corner" in page and "Only" not in page
    assert json.loads((tmp_path / "report.json").read_text())["summary"]["miou"] > 0
    off = system.report(records, {**numbers, "valid_ratio": 0.18}, shown)
    assert "should all" in off.remarks[0]


def test_frames_whose_voxels_did_not_fit_are_told_and_not_counted(system, batch, outputs):
    spoilt = {k: v.at[0].set(jnp.nan) for k, v in outputs.items() if v.dtype == jnp.float32}
    spoilt = {**outputs, **spoilt, "class": outputs["class"].at[0].set(0)}
    records = jax.device_get(jax.jit(system.metrics)(spoilt, batch))
    records |= {"index": np.arange(2)}
    alone = {k: np.asarray(v)[1:] for k, v in records.items()}
    numbers, second = system.summarize(records), system.summarize(alone)
    assert numbers["lost"] == 1 and second["lost"] == 0
    for name in ("miou", "accuracy", "offset_error"):
        assert numbers[name] == second[name]
    assert np.isnan(records["error"][0]) and np.isfinite(records["error"][1])
    assert "1 frames did not fit" in system.report(records, numbers, ()).remarks[0]


def test_sums_of_an_evaluation():
    truth = jnp.array([0, 0, 1, 2, -1, 1])
    said = jnp.array([0, 1, 1, 2, 0, 1])
    depth = jnp.array([0.5, 0.5, 1.5, 9.0, 1.0, 1.5])
    mask = jnp.array([True] * 5 + [False])
    got = np.asarray(confusion(said, truth, depth, mask, 4))
    assert got.shape == (5, 4, 4) and got.sum() == 4
    assert got[0, 0, 0] == got[0, 0, 1] == got[1, 1, 1] == got[4, 2, 2] == 1
    np.testing.assert_allclose(class_iou(got.sum(0)), [0.5, 0.5, 1, np.nan])
    zero = np.zeros(2)
    names = ("offset_sum", "things", "points", "valid", "gate", "lost")
    records = {"confusion": np.zeros((2, 5, 4, 4)), "sequence": zero, **dict.fromkeys(names, zero)}
    records["panoptic"] = np.zeros((2, 4))
    assert np.isnan(summarize(records, list("abcd"))["miou"])


@pytest.mark.parametrize("mode", ["image", "points"])
def test_one_branch_alone_has_no_other(system, batch, mode):
    """Fewer parameters, all with gradients; what the other branch sees changes nothing."""
    alone = replace(system, **{"model.mode": mode, "model.position": "film"})
    params, state = started(alone)
    assert ("image" in params) == (mode == "image") == ("points" not in params)
    norms = jax.jit(alone.gradient_norms)
    found = norms(params, state, batch, jax.random.key(0), LATE)
    for path, value in jax.tree_util.tree_leaves_with_path(found):
        assert value > 0, jax.tree_util.keystr(path)
    scalars = jax.eval_shape(
        lambda p: alone.loss(p, state, batch, jax.random.key(0), LATE, True)[1].scalars, params
    )
    # A column that only both branches have would stop the training of one before its first step.
    shown = load_config("bifusion_sim").train.columns
    assert set(shown) - {"loss", "miou"} <= set(scalars)
    blind = {"image": "colors", "points": "image"}[mode]
    examples = {**batch.examples, blind: jnp.zeros_like(batch.examples[blind])}
    other = norms(params, state, Batch(examples), jax.random.key(0), LATE)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_injection_starts_from_nothing():
    x, places = jnp.ones((1, 5, 8)), jnp.ones((1, 5, 3))
    for kind in ("add", "film"):
        module = PositionInjection(kind)
        variables = module.init(jax.random.key(0), x, places)
        np.testing.assert_array_equal(module.apply(variables, x, places), x)
        moved = jax.tree.map(lambda v: v + 0.1, variables)
        assert np.all(module.apply(moved, x, places) != x)


def test_the_prior_says_what_is_most_common(system, batch):
    prior = replace(system, baseline="prior")
    params, state = prior.init(jax.random.key(0), batch)
    predict = jax.jit(prior.predict)
    records = jax.device_get(jax.jit(prior.metrics)(predict(params, state, batch), batch))
    state = prior.calibrate(state, records)
    said = predict(params, state, batch)
    truth = np.asarray(batch.examples["semantic"])
    assert (said["class"] == np.bincount(truth[truth >= 0]).argmax()).all()
    with pytest.raises(ConfigError, match="nothing to train"):
        prior.loss(params, state, batch, jax.random.key(0), LATE, True)


def test_published_weights_start_the_branches_they_fit(tmp_path):
    """Names through checkpoints; the other activation and a foreign file are refused by name."""
    rng = np.random.default_rng(0)
    tower, net = ClipTower("quickgelu", blocks=1), SparseUNet(6, (6, 8), (1, 1))
    model = replace(TINY, image="clip", clip_blocks=1, image_size=(224, 224))
    system = Bifusion(MadeUp(), model)
    shapes, stats = jax.eval_shape(system._variables, jax.random.key(0))
    given = jax.tree.map(
        lambda s: 0.1 * rng.standard_normal(s.shape).astype(s.dtype), (shapes, stats)
    )
    clip = from_flax({"params": given[0]["image"]["tower"]}, clip_table(tower))
    clip |= {k: np.array(1) for k in ("input_resolution", "context_length", "vocab_size")}
    (weights, statistics), inside = given, ("points", "unet")
    unet = {"params": weights, "batch_stats": statistics["batch_stats"]}
    unet = {k: v[inside[0]][inside[1]] for k, v in unet.items()}
    unet = from_flax(unet, sparse_unet_table(net))
    esam = {f"backbone.{k}": v for k, v in unet.items()} | {"decoder.x": np.zeros(3)}
    paths = {
        "clip_weights": str(save_state_dict(tmp_path / "clip.npz", clip)),
        "points_weights": str(save_state_dict(tmp_path / "esam.npz", esam)),
    }
    ready = replace(system, model=replace(model, **paths))
    ready.check_start()
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), (shapes, stats))
    params, state = ready.start(*zeros)
    for a, b in zip(jax.tree.leaves(params["points"]["unet"]),
                    jax.tree.leaves(given[0]["points"]["unet"]), strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)
    kernels = [p["image"]["tower"]["block0"]["qkv"]["kernel"] for p in (params, weights)]
    np.testing.assert_array_equal(*kernels)
    assert not np.any(params["fusion"]["gate"]["dense1"]["kernel"])
    assert set(state) == {"batch_stats", "schedule"}
    with pytest.raises(ConfigError, match=r"clip_weights: .*trained with 'quickgelu'"):
        replace(ready, **{"model.activation": "gelu"}).check_start()
    with pytest.raises(ConfigError, match=r"points_weights: .*does not fit"):
        replace(ready, **{"model.points_weights": paths["clip_weights"]}).check_start()


def test_clip_thaws_late_at_a_tenth_of_the_rate():
    """The groups of the published training match every parameter once."""
    for name in ("bifusion_sim", "bifusion_overfit"):
        replace(load_config(name).system, data=MadeUp()).check()
    experiment: Any = load_config("bifusion_scannet")
    replace(experiment.system, data=MadeUp()).check()
    params, _ = jax.eval_shape(experiment.system._variables, jax.random.key(0))
    made = optimizers.make(experiment.train.optimizer, params, 100)
    assert {m.label for m in made.trained(0)} == {"clip, head", "rest"}
    assert {m.label for m in made.trained(30)} == {"clip, head", "rest", "clip"}
    rates = made.rates(jnp.int32(60))
    assert rates["clip"] == pytest.approx(0.1 * float(rates["rest"])) and rates["clip, deep"] == 0
    sizes = {m.label: sum(flatten(params)[p].size for p in m.paths) for m in made.members}
    assert sizes["clip"] + sizes["clip, deep"] == 43_270_656


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"model.points.widths": (8,)}, r"points\.widths: 1 entries; expected 2"),
        ({"model.image_size": (30, 48)}, r"image_size: .*multiples of 16"),
        ({"model.early": 1.0}, r"early"),
        ({"model.clip_weights": "x.npz"}, r"clip_weights: there is no CLIP"),
        ({"model.mode": "image", "model.points_weights": "x"}, r"points_weights"),
        ({"objective.ramp": (0.5, 0.2)}, r"ramp"),
    ],
)
def test_settings_that_cannot_work_are_refused(system, changes, word):
    with pytest.raises(ConfigError, match=word):
        replace(system, **changes).check()
    system.check()
    ModelConfig().check()
