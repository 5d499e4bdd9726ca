"""The system in the engine: both modes are one, augmentation keeps the labels true, it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax import config
from posejax.config import Experiment, Optimizer, RunOptions, Schedule, TrainConfig
from posejax.config import Log as LogOptions
from posejax.data.event_files import EventRecording, PoseTrack, write_spark
from posejax.events import AugmentRule
from posejax.geometry import rotation_angle
from posejax.systems.eventpose import (
    Eventpose,
    InputConfig,
    ModelConfig,
    Recordings,
    TrajectoryConfig,
    WindowRule,
)
from posejax.train import Batch, train
from posejax.train.weights import load_model

K = np.array([[1258.6057531097028, 0, 640], [0, 1258.6057531097028, 360], [0, 0, 1]])
CORNERS = np.array([[a, b, c] for a in (-0.8, 0.8) for b in (-0.3, 0.3) for c in (-0.5, 0.5)])
POINTS = np.concatenate([CORNERS, [[0.2, 0, 0.5], [0.8, 0.1, 0.1], [-0.4, 0.3, 0.2]]])


def recording(seed: int, count: int = 4000) -> EventRecording:
    """A body of bright points turns about the camera's axis and recedes; 1 s, 11 labels."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 10_000, count))
    angle0, range0 = rng.uniform(-np.pi, np.pi), rng.uniform(3.5, 7)

    def pose(seconds):
        angle = angle0 + 0.5 * seconds
        return angle, np.stack([0.1 * seconds, 0 * seconds, range0 + 0.3 * seconds], -1)

    angle, offset = pose(t * 1e-4)
    which = rng.integers(0, len(POINTS), count)
    body = POINTS[which]
    c, s = np.cos(angle), np.sin(angle)
    p = np.stack([c * body[:, 0] - s * body[:, 1], s * body[:, 0] + c * body[:, 1], body[:, 2]], 1)
    pixel = (p + offset) @ K.T
    pixel = pixel[:, :2] / pixel[:, 2:]
    x, y = np.floor(pixel).astype(int).T
    on = (x >= 0) & (x < 1280) & (y >= 0) & (y < 720)
    label_t = np.arange(11) / 10
    label_angle, label_offset = pose(label_t)
    quat = np.stack([0 * label_t, 0 * label_t, np.sin(label_angle / 2), np.cos(label_angle / 2)], 1)
    labels = PoseTrack(label_t, label_offset, quat)
    polarity = (which % 2).astype(int)
    return EventRecording(x[on], y[on], t[on], polarity[on], 1e-4, (720, 1280), labels)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for split, seeds in (("train", range(8)), ("val", (100, 101))):
        for seed in seeds:
            write_spark(folder / split / f"RT{seed:03d}.h5", recording(seed))
    return folder


@pytest.fixture
def make(root):
    def go(**changes) -> Eventpose:
        found = Eventpose(
            data=Recordings(root=str(root), rule=WindowRule(capacity=1024)),
            input=InputConfig(size=(32, 32), bins=2),
            model=ModelConfig(widths=(8, 16), hidden=32, pool="flatten"),
            trajectory=TrajectoryConfig(method="none"),  # compiles for long; see test_summary
        )
        return config.replace(found, **changes)

    return go


def batch_of(system, indices, train=False):
    source = system.data.source("train")
    rng = np.random.default_rng(0)
    rows = [system.data.transform(source[i], rng, train) for i in indices]
    return Batch({k: np.stack([r[k] for r in rows]) for k in rows[0]}, source.resident())


def loss_of(system, params, state, batch):
    return system.loss(params, state, batch, jax.random.key(0), jnp.float32(0), True)


@pytest.mark.parametrize("capacity", [1024, 128])
def test_resident_events_give_the_same_grids(make, capacity):
    grids = []
    for resident in (False, True):
        rule = {"data.rule.resident": resident, "data.rule.capacity": capacity}
        system = make(**rule)
        batch = batch_of(system, [0, 7, 23])
        assert ("events" in batch.examples) != resident
        prepared = jax.jit(lambda b, s=system: s.prepare(b, jax.random.key(1)))(batch)
        grids.append(prepared)
    for a, b in zip(*map(jax.tree.leaves, grids), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert float(grids[0].grid.max()) > 0


@pytest.mark.parametrize("view", ["canonical", "full"])
def test_augmented_events_stay_on_the_augmented_pose(make, view):
    """Every event is near a corner of the body, projected with the pose the network is to learn."""
    rule = AugmentRule(roll=1.0, pan=0.05, tilt=0.05, keep=(0.5, 1.0), grid_noise=0.0)
    changes = {"input.view": view, "input.size": (128, 128), "input.augment": rule}
    system = make(**changes)
    batch = batch_of(system, [3, 12, 40], train=True)
    prepared = jax.jit(lambda b: system.prepare(b, jax.random.key(3)))(batch)
    for grid, pose, view_ in zip(
        prepared.grid, prepared.pose, zip(*prepared.view, strict=True), strict=True
    ):
        rotation, intrinsics, *_ = map(np.asarray, view_)
        body = POINTS @ np.asarray(pose[:3, :3]).T + np.asarray(pose[:3, 3])
        pixel = body @ rotation.T @ intrinsics.T
        pixel = pixel[:, :2] / pixel[:, 2:]
        rows, columns = np.nonzero(np.asarray(grid).sum(-1))
        seen = np.stack([columns + 0.5, rows + 0.5], 1)
        nearest = np.linalg.norm(seen[:, None] - pixel[None], axis=-1).min(1)
        # The body moves by a few sensor pixels within a window; cells round.
        assert len(seen) > 10 and np.quantile(nearest, 0.95) < 3.0


def test_predictions_are_in_the_camera_frame(make):
    """A network that says the truth in the view's terms gets the true pose back."""
    system = make()
    batch = batch_of(system, [0, 30, 50])
    prepared = system.prepare(batch, None)
    stats = system.stats()
    heads = {
        "translation": (prepared.target[:, :3, 3] - jnp.array([stats.mean]))
        / jnp.array([stats.std]),
        "rotation": jnp.concatenate([prepared.target[:, :3, 0], prepared.target[:, :3, 1]], -1),
    }
    pose = system._camera_pose(heads, prepared, stats)
    np.testing.assert_allclose(pose, prepared.pose, atol=1e-4)
    source = system.data.source("train")
    truth = np.stack([source[i]["track"].translation[i % 10] for i in (0, 30, 50)])
    np.testing.assert_allclose(prepared.pose[:, :3, 3], truth, atol=1e-5)


def test_labels_between_two_are_interpolated(make):
    system = make()
    batch = batch_of(system, [4], train=True)
    assert 0.4 < float(batch.examples["time"][0]) < 0.5
    pose = system.prepare(batch, None).pose[0]
    track = system.data.source("train")[4]["track"]
    fraction = (float(batch.examples["time"][0]) - 0.4) / 0.1
    straight = track.translation[4] + fraction * (track.translation[5] - track.translation[4])
    np.testing.assert_allclose(pose[:3, 3], straight, atol=1e-3)
    a, b = 2 * np.arctan2(track.quat_xyzw[[4, 5], 2], track.quat_xyzw[[4, 5], 3])
    middle = a + fraction * (b - a)
    expected = np.array(
        [[np.cos(middle), -np.sin(middle), 0], [np.sin(middle), np.cos(middle), 0], [0, 0, 1]]
    )
    assert float(rotation_angle(pose[:3, :3], jnp.asarray(expected, jnp.float32))) < 1e-4


def test_a_window_without_events_has_a_finite_loss_and_gradient(make):
    system = make(**{"objective.uncertainty": "gaussian"})
    batch = batch_of(system, [0, 1])
    nothing = {"events": np.zeros_like(batch.examples["events"]), "found": np.zeros(2, np.int32)}
    batch = Batch({**batch.examples, **nothing})
    params, state = system.init(jax.random.key(0), batch)
    (loss, out), grads = jax.jit(
        jax.value_and_grad(lambda p: loss_of(system, p, state, batch), has_aux=True)
    )(params)
    assert np.isfinite(float(loss)) and all(np.isfinite(float(v)) for v in out.scalars.values())
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    "changes",
    [
        {"objective.uncertainty": "kendall", "objective.rotation": "quaternion"},
        {"objective.uncertainty": "gaussian", "model.bfloat16": True, "model.dropout": 0.1},
        {"input.representation": "lnes", "input.view": "full", "model.backbone": "voxel_cnn"},
        pytest.param(
            {
                "model.backbone": "resnet18",
                "model.pool": "mean",
                "input.representation": "time_surface",
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                "input.representation": "histogram",
                "model.backbone": "efficientnet_b0",
                "model.pool": "mean",
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_variant_has_a_loss_metrics_and_numbers(make, changes):
    system = make(**changes)
    batch = batch_of(system, [0, 5, 11, 22])
    params, state = jax.jit(system.init)(jax.random.key(0), batch)
    loss, out = jax.jit(lambda p, s, b: loss_of(system, p, s, b))(params, state, batch)
    assert np.isfinite(float(loss)) and jax.tree.structure(out.state) == jax.tree.structure(state)
    outputs = jax.jit(system.predict)(params, state, batch)
    records = {**system.metrics(outputs, batch), "index": np.arange(4)}
    numbers = system.summarize(jax.device_get(records))
    assert np.isfinite(numbers["score"])
    if system.calibrates:  # spreads scaled to the errors of these records are honest on them
        again = system.predict(params, system.calibrate(state, jax.device_get(records)), batch)
        numbers = system.summarize(jax.device_get({**records, **system.metrics(again, batch)}))
        assert numbers["sigma_ratio_m"] == pytest.approx(1, rel=1e-3)
        assert numbers["sigma_ratio_rad"] == pytest.approx(1, rel=1e-3)


def test_a_run_saves_its_statistics(make, tmp_path):
    """The state that a checkpoint holds has the measured statistics; an evaluation reads them."""
    experiment = Experiment(
        name="tiny",
        system=make(),
        train=TrainConfig(
            steps=2, batch_size=16, optimizer=Optimizer(schedule=Schedule(peak=1e-3))
        ),
    )
    options = RunOptions(workdir=tmp_path / "run", cache="off", log=LogOptions(view="quiet"))
    train(config.replace(experiment, **{"train.sharding.devices": 1}), options)
    state = load_model(tmp_path / "run", experiment, "latest").state
    measured = experiment.system.stats()
    np.testing.assert_allclose(state["translation"]["mean"], measured.mean, rtol=1e-5)
    np.testing.assert_allclose(state["translation"]["std"], measured.std, rtol=1e-5)
    assert measured.std != (1.0, 1.0, 1.0)


def test_published_weights_start_a_run_but_are_not_needed_afterwards(make, tmp_path):
    """Weights under PyTorch's names, three colours: averaged and repeated over the channels."""
    from posejax.nn import from_flax, resnet_table
    from posejax.nn.resnet import resnet

    rng = np.random.default_rng(0)
    colour = jax.jit(resnet(18).init, static_argnums=2)(
        jax.random.key(1), jnp.zeros((1, 32, 32, 3)), False
    )
    names = from_flax(colour, resnet_table(resnet(18)))
    names["conv1.weight"] = rng.standard_normal((64, 3, 7, 7)).astype(np.float32)
    path = tmp_path / "resnet18.npz"
    np.savez(path, **names)
    changes = {"model.backbone": "resnet18", "model.pool": "mean", "model.weights": str(path)}
    system = make(**changes)
    batch = batch_of(system, [0])
    assert jax.eval_shape(system.init, jax.random.key(0), batch)  # shapes need no file
    params, state = system.start(*jax.jit(system.init)(jax.random.key(0), batch))
    kernel = np.asarray(params["backbone"]["stem_conv"]["kernel"])
    expected = names["conv1.weight"].mean(1)[..., None].transpose(1, 2, 3, 0)
    np.testing.assert_allclose(kernel, np.repeat(expected, 4, axis=2), rtol=1e-6)
    np.testing.assert_allclose(state["translation"]["std"], system.stats().std, rtol=1e-6)
