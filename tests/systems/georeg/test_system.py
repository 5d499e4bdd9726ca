"""The georeg system as the engine uses it, on raster pairs in a folder that the test makes."""

import dataclasses
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import ndimage

from posejax.config import ConfigError, replace
from posejax.data.raster_folder import write_folder
from posejax.report import write
from posejax.systems.georeg import (
    Georeg,
    ModelConfig,
    ObjectiveConfig,
    RasterFolder,
    SearchConfig,
    calibration,
)
from posejax.train.system import Batch, System

SIZE, MARGIN, CELL = 32, 8, 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Smooth random maps; the online raster shows the map's negative, so that scores of the raw
    rasters are wrong and something must be learned."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("pairs")

    def sample(i):
        side = SIZE + 2 * MARGIN
        geo = ndimage.gaussian_filter(rng.standard_normal((side, side)), 1.2)[..., None]
        geo = (geo / geo.std()).astype(np.float32)
        online = -geo[MARGIN:-MARGIN, MARGIN:-MARGIN]
        masks = np.ones(online.shape[:2], bool), np.ones(geo.shape[:2], bool)
        return f"pair{i}", online, masks[0], geo, masks[1], np.zeros(3)

    write_folder(path, (sample(i) for i in range(12)), cell_size=CELL, split="train")
    write_folder(path, (sample(12 + i) for i in range(4)), cell_size=CELL, split="val")
    return path


@pytest.fixture(scope="module")
def system(folder):
    search = SearchConfig(
        max_offset=1.5, max_yaw_deg=4.0, yaw_step_deg=2.0, margin=0.5, margin_yaw_deg=2.0
    )
    return Georeg(
        data=RasterFolder(
            root=str(folder), cell_size=CELL, online_shape=(SIZE, SIZE), search=search
        ),
        model=ModelConfig(widths=(8, 8), features=4, blocks=0, temperature=0.1),
    )


def batch_of(system, split, indices, train):
    source, transform = system.data.source(split), system.data.transform
    examples = [transform(source[i], np.random.default_rng(i), train) for i in indices]
    return Batch({k: jnp.stack([jnp.asarray(e[k]) for e in examples]) for k in examples[0]})


def loss_of(system, params, state, batch, train):
    return system.loss(params, state, batch, jax.random.key(0), jnp.float32(0), train)


def test_it_is_a_system(system):
    assert isinstance(system, System)


def test_settings_that_do_not_fit_name_the_option(system):
    with pytest.raises(ConfigError, match=r"search\.stride: 3; expected one of \[1, 2\]"):
        replace(system, **{"data.search.stride": 3}).check()
    changes = {"data.search.stride": 2, "data.online_shape": (33, 32)}
    with pytest.raises(ConfigError, match=r"online_shape: \(33, 32\); expected multiples"):
        replace(system, **changes).check()


def test_loss_falls_and_poses_become_right(system):
    """60 Adam steps on pairs whose raw correlation is lowest at the truth."""
    batches = [batch_of(system, "train", range(i, i + 4), True) for i in (0, 4, 8)]
    params, state = system.init(jax.random.key(0), batches[0])
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, opt_state, batch):
        def loss(p):
            value, output = loss_of(system, p, state, batch, True)
            return value, output.scalars

        (value, scalars), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state, value, scalars

    opt_state, losses = optimizer.init(params), []
    for i in range(60):
        params, opt_state, value, scalars = step(params, opt_state, batches[i % 3])
        losses.append(float(value))
    assert losses[-1] < 0.6 * losses[0]
    assert set(scalars) == {"nll", "expectation", "xy_m", "yaw_deg", "temperature"}

    batch = batch_of(system, "val", range(4), False)
    outputs = jax.jit(system.predict)(params, state, batch)
    error = np.abs(np.asarray(outputs["softmax"] - batch.examples["pose"]))
    assert np.median(error[:, :2]) < CELL


def test_metrics_feed_summary_and_report(system, tmp_path):
    batch = batch_of(system, "val", range(4), False)
    params, state = system.init(jax.random.key(0), batch)
    outputs = system.predict(params, state, batch)
    records = jax.device_get(system.metrics(outputs, batch))
    assert all(len(v) == 4 for v in records.values())
    numbers = system.summarize(records)
    assert numbers["examples"] == 4
    assert 0 <= numbers["softmax/recall_0.2m_1deg"] <= 1
    merged = {**batch.examples, **outputs}
    examples = [{k: np.asarray(v[i]) for k, v in merged.items()} for i in range(2)]
    page = write(system.report(records, numbers, examples), tmp_path).read_text()
    assert "raster pairs of" in page
    assert "imulated" not in page


def test_calibrated_state_changes_what_predict_claims(system):
    batch = batch_of(system, "val", range(4), False)
    params, state = system.init(jax.random.key(0), batch)
    calibrated = {
        **state,
        "calibration": {
            "temperature": jnp.float32(2.0),
            "softmax_scale": jnp.array([3.0, 3.0, 0.5]),
            "gaussian_scale": jnp.ones(3),
        },
    }
    hot = {**calibrated, "calibration": {**calibrated["calibration"], "softmax_scale": jnp.ones(3)}}
    predict = jax.jit(system.predict)
    plain, scaled = predict(params, hot, batch), predict(params, calibrated, batch)
    scale = np.outer([3.0, 3.0, 0.5], [3.0, 3.0, 0.5])
    np.testing.assert_allclose(
        scaled["covariance"], plain["covariance"] * scale[None], rtol=1e-4, atol=1e-9
    )
    np.testing.assert_allclose(scaled["sigma_major"], 3 * plain["sigma_major"], rtol=1e-4)
    np.testing.assert_allclose(
        scaled["sigma_major"] ** 2 + scaled["sigma_minor"] ** 2,
        jnp.trace(scaled["covariance"][:, :2, :2], axis1=1, axis2=2),
        rtol=1e-4,
    )
    assert scaled["log_prob"].std() < predict(params, state, batch)["log_prob"].std()


def test_too_few_records_leave_the_state_and_say_so(system):
    batch = batch_of(system, "val", range(4), False)
    params, state = system.init(jax.random.key(0), batch)
    records = jax.device_get(system.metrics(system.predict(params, state, batch), batch))
    with pytest.warns(UserWarning, match="stay uncalibrated.*at least 50"):
        assert system.calibrate(state, records) is state


def test_recorded_loss_is_the_training_loss_whatever_the_calibration(system):
    """So the engine need not encode every example a second time to know it."""
    objective = ObjectiveConfig(nll_weight=0.7, xy_weight=1.3, yaw_weight=5.0)
    weighted = dataclasses.replace(system, objective=objective)
    batch = batch_of(weighted, "val", range(4), False)
    params, state = weighted.init(jax.random.key(0), batch)
    fitted = {**calibration.identity(), "temperature": jnp.float32(3.0)}
    state = {**state, "calibration": fitted}

    @jax.jit
    def both(batch):
        records = weighted.metrics(weighted.predict(params, state, batch), batch)
        return records["loss"], loss_of(weighted, params, state, batch, False)[0]

    losses, mean = both(batch)
    assert losses.shape == (4,) and losses.std() > 1e-3
    np.testing.assert_allclose(losses.mean(), mean, rtol=1e-5)


def test_batch_norm_statistics_travel_through_the_state(system):
    normed = replace(system, **{"model.norm": "batch"})
    batch = batch_of(normed, "train", range(4), True)
    params, state = normed.init(jax.random.key(0), batch)
    _, output = loss_of(normed, params, state, batch, True)
    assert jax.tree.structure(output.state) == jax.tree.structure(state)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), output.state, state)
    assert max(jax.tree.leaves(moved["batch_stats"])) > 0
    assert max(jax.tree.leaves(moved["calibration"])) == 0


def test_transform_reaches_a_worker_without_jax(system, tmp_path):
    """Workers unpickle source and data; neither may pull in jax."""
    path = tmp_path / "work.pkl"
    path.write_bytes(pickle.dumps((system.data.source("val"), system.data)))
    program = (
        "import pickle, sys, numpy as np\n"
        f"source, data = pickle.load(open({str(path)!r}, 'rb'))\n"
        "example = data.transform(source[0], np.random.default_rng(0), False)\n"
        "assert 'jax' not in sys.modules, 'jax was imported'\n"
        "print(example['online'].shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"({SIZE}, {SIZE}, 1)"
