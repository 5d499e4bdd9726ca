"""Keypoints: exact targets, the truth's heatmaps give the true pose, honest spreads and weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax import config
from posejax.config import ConfigError
from posejax.data.event_files import EventRecording, PoseTrack, write_spark
from posejax.geometry import matrix_to_quat_xyzw, rotation_angle
from posejax.keypoints import heatmap_targets
from posejax.systems.eventpose import (
    Eventpose,
    InputConfig,
    KeypointConfig,
    ModelConfig,
    Recordings,
    TrajectoryConfig,
    WindowRule,
)
from posejax.systems.eventpose.answers import solved_poses
from posejax.systems.eventpose.hypotheses import (
    coverage,
)
from posejax.systems.eventpose.keypoints import (
    averaged,
    brightest_cells,
    keypoint_losses,
    projections,
    solve,
    turned,
)
from posejax.systems.eventpose.points import body_points, box_points, spread_points
from posejax.train import Batch

CONFIG = KeypointConfig(hypotheses=3, grid=512)
K = np.array([[1258.6, 0, 640], [0, 1258.6, 360], [0, 0, 1]])


def recording(seed: int) -> EventRecording:
    """Events around the centre of the picture; the labels are random attitudes 5 m away; 1 s."""
    rng = np.random.default_rng(seed)
    count = 4000
    t = np.sort(rng.integers(0, 10_000, count))
    x, y = (rng.normal([[640], [360]], [[90], [60]], (2, count))).astype(int)
    label_t = np.arange(11) / 10
    labels = PoseTrack(
        label_t, np.tile([0.0, 0.0, 5.0], (11, 1)), Rotation.random(11, rng).as_quat()
    )
    return EventRecording(x, y, t, rng.integers(0, 2, count), 1e-4, (720, 1280), labels)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for split in ("train", "val"):
        write_spark(folder / split / "RT000.h5", recording(0))
    return Eventpose(
        data=Recordings(root=str(folder), rule=WindowRule(capacity=1024)),
        input=InputConfig(size=(64, 64), bins=2),
        model=ModelConfig(heads="both", backbone="event_unet", widths=(8, 16), hidden=32),
        keypoints=CONFIG,
        trajectory=TrajectoryConfig(method="none"),  # compiles for long
    )


@pytest.fixture(scope="module")
def batch(system):
    source = system.data.source("train")
    rows = [system.data.transform(source[i], np.random.default_rng(0), False) for i in (0, 3, 7)]
    return Batch({k: np.stack([r[k] for r in rows]) for k in rows[0]})


@pytest.fixture(scope="module")
def prepared(system, batch):
    return jax.jit(lambda b: system.prepare(b, jax.random.key(1)))(batch)


@pytest.fixture(scope="module")
def perfect(system, prepared):
    """Logits [B, h, w, P] of a network that knows the truth."""
    points = jnp.asarray(body_points(system.keypoints))

    def one(view, pose):
        cells = projections(points, view, pose)[0] / CONFIG.stride
        return jnp.log(heatmap_targets(cells, (32, 32), sigma=CONFIG.sigma) + 1e-7)

    return jax.jit(jax.vmap(one))(prepared.view, prepared.pose)


def test_points_of_a_box_and_points_far_apart(rng):
    points = box_points((1.0, 2.0, 3.0), (0.5, 0.0, 0.0))
    assert len(points) == len(np.unique(points, axis=0)) == 26
    offsets = np.abs(points - [0.5, 0, 0])
    assert {tuple(p) for p in offsets[:8]} == {(1.0, 2.0, 3.0)}  # corners
    assert ((offsets > 0).sum(1) == [3] * 8 + [2] * 12 + [1] * 6).all()
    cloud = rng.normal(size=(500, 3))
    chosen = spread_points(cloud, 10)
    apart = np.linalg.norm(chosen[:, None] - chosen[None], axis=-1)[np.triu_indices(10, 1)].min()
    # No other point is further from the chosen ones than those are from one another.
    assert np.linalg.norm(cloud[:, None] - chosen[None], axis=-1).min(1).max() <= apart
    assert len(body_points(KeypointConfig(points=("box", "surface"), count=12))) == 38
    with pytest.raises(ValueError, match="asked for 501 of 500"):
        spread_points(cloud, 501)


def test_the_brightest_cell_is_the_first_of_the_largest(rng):
    logits = rng.integers(0, 5, (6, 9, 40)).astype(np.float32)  # many are equal
    flat = logits.reshape(54, 40).argmax(0)
    np.testing.assert_array_equal(brightest_cells(logits), np.stack([flat % 9, flat // 9], 1))


def test_targets_are_exact_projections_in_the_augmented_view(system, prepared):
    points = body_points(system.keypoints)
    for k in range(3):
        view = jax.tree.map(lambda x, k=k: x[k], prepared.view)
        xy, ahead = projections(jnp.asarray(points), view, prepared.pose[k])
        pose = np.asarray(prepared.pose[k], np.float64)
        seen = (points @ pose[:3, :3].T + pose[:3, 3]) @ np.asarray(view.rotation).T
        pixel = seen @ np.asarray(view.intrinsics).T
        np.testing.assert_allclose(xy, pixel[:, :2] / pixel[:, 2:], atol=1e-3)
        assert ahead.all()


def test_the_heatmaps_of_the_truth_have_no_loss_and_give_the_true_pose(system, prepared, perfect):
    points = jnp.asarray(body_points(system.keypoints))
    losses = jax.jit(jax.vmap(lambda x, p: keypoint_losses(x, points, p, CONFIG), in_axes=(0, 0)))(
        perfect, prepared
    )
    assert float(losses["keypoint_nll"].max()) < 0.01
    assert float(losses["keypoint_px"].max()) < 1.5  # within the cell of two pixels
    found = jax.jit(jax.vmap(lambda x, v: solve(x, points, v, CONFIG)))(perfect, prepared.view)
    turn = jax.vmap(rotation_angle)(found.hypotheses[:, 0, :3, :3], prepared.pose[:, :3, :3])
    assert float(turn.max()) < np.deg2rad(1.5)
    np.testing.assert_allclose(found.hypotheses[:, 0, :3, 3], prepared.pose[:, :3, 3], atol=0.1)
    np.testing.assert_allclose(found.weight.sum(1), 1, rtol=1e-5)


def test_heatmaps_of_points_out_of_the_view_learn_to_be_even(prepared, perfect):
    one = jax.tree.map(lambda x: x[0], prepared)
    points = jnp.asarray(body_points(CONFIG)).at[0].set(jnp.array([9.0, 0, 0]))
    told = dataclasses.replace(CONFIG, outside=1.0)

    def loss(logits, config=told):
        return keypoint_losses(logits, points, one, config)["keypoint_nll"]

    slope = jax.grad(loss)(perfect[0])[..., 0]
    bright = jnp.unravel_index(jnp.argmax(perfect[0, ..., 0]), slope.shape)
    assert slope[bright] > 0 > slope[0, 0]  # what stands out is to fall
    assert float(jnp.abs(jax.grad(lambda x: loss(x, CONFIG))(perfect[0])[..., 0]).max()) == 0
    even = perfect[0].at[..., 0].set(0.3)
    assert float(loss(even)) == pytest.approx(float(loss(even, CONFIG)), abs=1e-5)


def test_an_evaluation_chooses_points_modes_and_refinement(system, prepared):
    """Of a network that is wrong about the points of a box and right about others."""
    chosen = dataclasses.replace(CONFIG, points=("box", "surface"), count=8, use=("surface",))
    points = jnp.asarray(body_points(chosen))
    scale = {"covariance": jnp.float32(1), "sharpness": jnp.float32(1)}

    def heatmaps(view, pose):
        cells = projections(points, view, pose)[0] / CONFIG.stride
        return jnp.log(heatmap_targets(cells, (32, 32), sigma=CONFIG.sigma) + 1e-7)

    logits = jax.jit(jax.vmap(heatmaps))(prepared.view, prepared.pose)
    wrong = logits.at[..., :26].set(logits[:, :, ::-1, :26])

    def errors(**changes):
        changed = dataclasses.replace(chosen, **changes)
        found = jax.jit(lambda x: solved_poses(x, points, prepared, changed, scale))(wrong)
        turn = jax.vmap(rotation_angle)(found["pose"][:, :3, :3], prepared.pose[:, :3, :3])
        return np.rad2deg(turn), found

    single, found = errors(hypotheses=1)
    assert single.max() < 3 and found["keypoints"].shape[1] == 8
    assert found["hypotheses"].shape[1] == 1 and (found["hypothesis_weight"] == 1).all()
    assert errors(hypotheses=1, use=())[0].max() > 20  # the box's points outvote them
    assert errors(hypotheses=1, iterations=0)[0].max() > 3  # a grid is coarse


def test_the_answer_is_that_of_the_pose_heads_where_it_is_asked_for(system, batch):
    direct = config.replace(system, **{"keypoints.answer": "direct"})
    direct.check()
    assert not direct.calibrates
    shapes = jax.eval_shape(system.init, jax.random.key(0), batch)
    params, state = jax.tree.map(lambda x: jnp.full(x.shape, 0.01, x.dtype), shapes)
    outputs = jax.jit(direct.predict)(params, state, batch)
    assert not {"hypotheses", "keypoints", "sigma_m"} & set(outputs)
    records = direct.metrics(outputs, batch)
    assert "hypothesis_weight" not in records and np.isfinite(records["error"]).all()
    assert direct.calibrate(state, records) is state
    with pytest.raises(ConfigError, match="heads keypoints has not"):
        config.replace(direct, **{"model.heads": "keypoints"}).check()
    with pytest.raises(ConfigError, match="edges are known of the simulated craft"):
        config.replace(system, **{"keypoints.align": 0.1}).check()
    for changes in ({"model.heads": "direct"}, {"keypoints.answer": "direct"}):
        with pytest.raises(ConfigError, match="whose poses are not aligned"):
            config.replace(system, **{"keypoints.align": 0.1, **changes}).check()
    with pytest.raises(ValueError, match="use is of"):
        dataclasses.replace(CONFIG, use=("surface",))


@pytest.mark.parametrize(
    "name, value", [("align", -1), ("outside", -2), ("direct_weight", -0.1), ("grid", 0),
                    ("hypotheses", 0), ("iterations", -1), ("align", float("nan"))]
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"keypoints.{name} is at least"):
        KeypointConfig(**{name: value})


def test_the_view_turned_by_half_a_turn_sees_points_at_opposite_places(prepared, perfect):
    """A network that is right about both views: their mean is what it says of one."""
    points = jnp.asarray(body_points(CONFIG))
    half = jnp.diag(jnp.array([-1.0, -1.0, 1.0]))

    def one(view, pose):
        rolled = view._replace(rotation=half @ view.rotation)
        cells = projections(points, rolled, pose)[0] / CONFIG.stride
        return jnp.log(heatmap_targets(cells, (32, 32), sigma=CONFIG.sigma) + 1e-7)

    other = jax.jit(jax.vmap(one))(prepared.view, prepared.pose)
    mean = jnp.exp(averaged(perfect, turned(other)))
    np.testing.assert_allclose(mean, jax.nn.softmax(perfect, axis=(1, 2)), atol=1e-4)


def test_a_network_with_both_heads_learns_answers_and_is_calibrated(system, batch):
    params, state = jax.jit(system.init)(jax.random.key(0), batch)
    # A view without events has a finite loss and gradient like any other.
    examples = dict(batch.examples)
    examples["events"] = examples["events"] * np.array([1, 1, 0], np.uint32)[:, None, None]
    examples["found"] = examples["found"] * np.array([1, 1, 0], np.int32)

    def loss(p):
        return system.loss(p, state, Batch(examples), jax.random.key(0), jnp.float32(0), True)

    (value, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert np.isfinite(value) and all(np.isfinite(v) for v in out.scalars.values())
    assert {"keypoint_nll", "keypoint_px", "rotation_deg", "position_m"} <= set(out.scalars)
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
    assert jax.tree.structure(out.state) == jax.tree.structure(state)
    outputs = jax.jit(system.predict)(params, state, batch)
    assert outputs["hypotheses"].shape == (3, 3, 4, 4)
    # What the pose heads say is in both answers; one of them is the answer.
    heads_alone = config.replace(system, **{"keypoints.answer": "direct"})
    pose = jax.jit(lambda *x: heads_alone.predict(*x)["pose"])(params, state, batch)
    np.testing.assert_allclose(pose, outputs["direct_pose"], atol=1e-4)
    records = jax.device_get(system.metrics(outputs, batch))
    records["index"] = np.arange(3)
    numbers = system.summarize(records)
    assert numbers["best_of/score"] <= numbers["score"] and np.isfinite(numbers["direct/score"])
    # Events that lie on the device give what events in the batch give.
    resident = config.replace(system, **{"data.rule.resident": True})
    source = resident.data.source("train")
    rows = [resident.data.transform(source[i], np.random.default_rng(0), False) for i in (0, 3, 7)]
    lying = Batch({k: np.stack([r[k] for r in rows]) for k in rows[0]}, source.resident())
    assert "events" not in lying.examples
    prepared, heads = jax.jit(resident.see)(params, state, lying)
    np.testing.assert_allclose(prepared.grid, outputs["grid"], atol=1e-5)
    again = jax.jit(resident.answer)(state, prepared, heads)
    np.testing.assert_allclose(again["heatmap"], outputs["heatmap"], atol=1e-4)
    np.testing.assert_allclose(again["pose"], outputs["pose"], atol=1e-2)
    scale = system.calibrate(state, records)["hypothesis_scale"]
    ratio = float(scale["covariance"] / state["hypothesis_scale"]["covariance"])
    assert coverage(records, ratio * 1.001)["coverage_95"] == 1  # the least that holds 95 % of 3
    total = records["covariance_within"] + records["covariance_between"]
    np.testing.assert_allclose(total, outputs["covariance"], rtol=1e-5)


def test_points_of_the_simulated_craft_are_refused_for_other_data(system):
    changed = config.replace(system, **{"keypoints.points": ("box", "surface")})
    with pytest.raises(ConfigError, match="surface are of the simulated craft"):
        changed.check()
    system.check()


def test_quaternions_of_hypotheses_are_those_of_their_matrices():
    turns = Rotation.random(6, 0)
    quat = matrix_to_quat_xyzw(jnp.asarray(turns.as_matrix().reshape(2, 3, 3, 3)))
    back = Rotation.from_quat(np.asarray(quat).reshape(6, 4))
    assert (back.inv() * turns).magnitude().max() < 1e-3
