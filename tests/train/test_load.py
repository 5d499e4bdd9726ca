"""One way in: run folders, checkpoints, files and shipped weights give the same prediction."""

import numpy as np
import pytest

import posejax
from posejax.data.errors import DataError
from posejax.train import CheckpointError, export, save_weights, weights

EXAMPLES = {"ranges": np.float32([[2.8, 2.8, 2.8, 2.8], [1.0, 3.2, 3.4, 4.6]])}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from conftest_train import TOY

    from posejax import cli, config
    from posejax.config import Log, RunOptions
    from posejax.train import train

    changes = {"train.epochs": 2, "train.ema": 0.9, "train.sharding.devices": 1}
    experiment = config.replace(cli.load_config(TOY / "beacons_config.py"), **changes)
    folder = tmp_path_factory.mktemp("load") / "run"
    return train(experiment, RunOptions(folder, cache="off", log=Log(view="quiet")))


def test_every_source_gives_the_same_prediction(trained, tmp_path):
    run = trained.workdir
    path = export(run, tmp_path / "model.npz", "latest")
    step = run / "checkpoints" / str(trained.step)
    system, predict = posejax.load(run, "latest")
    assert system == trained.experiment.system and predict.experiment == trained.experiment
    expected = predict(EXAMPLES)["xy"]
    assert expected.shape == (2, 2)
    for source in (str(path), path, step):
        np.testing.assert_array_equal(posejax.load(source).predict(EXAMPLES)["xy"], expected)


def test_half_precision_halves_the_file_and_hardly_moves_the_answer(trained, tmp_path):
    whole = export(trained.workdir, tmp_path / "whole.npz")
    half = export(trained.workdir, tmp_path / "half.npz", half=True)
    assert half.stat().st_size < whole.stat().st_size
    a, b = (posejax.load(p).predict(EXAMPLES)["xy"] for p in (whole, half))
    np.testing.assert_allclose(a, b, atol=5e-3)
    assert not np.array_equal(a, b)
    assert posejax.load(half).predict.params["head"]["kernel"].dtype == np.float32


def test_what_is_not_there_is_told_with_what_is(tmp_path):
    with pytest.raises(CheckpointError, match=r"georeg_simm: no such .* shipped weights: .*georeg"):
        posejax.load("georeg_simm")
    (tmp_path / "one" / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=rf"none: no such .*\(there are {tmp_path}/one\)"):
        export(tmp_path / "none", tmp_path / "x.npz")
    path = save_weights(tmp_path / "bare.npz", {"a": np.ones(2)}, {})
    with pytest.raises(ValueError, match="no experiment is saved"):
        posejax.load(path)
    np.savez(tmp_path / "other.npz", x=np.ones(2), y=np.ones(2))
    with pytest.raises(DataError, match=r"other\.npz: arrays: x, y; expected params/"):
        posejax.load(tmp_path / "other.npz")


@pytest.mark.parametrize("name", sorted(weights.shipped()))
def test_shipped_weights_fit_their_system(name):
    """The saved experiment is rebuilt by this version, and the parameters have its shapes."""
    found = weights.load(name)
    assert found.experiment is not None and found.experiment.system.data.simulated
    weights.check_fit(_shapes(found.experiment.system), found, name)


def _shapes(system):
    import jax

    from posejax.train import Batch

    size = system.data.online_shape if hasattr(system.data, "online_shape") else None
    if size is None:
        pair = getattr(system.data, "size", None)  # of two images
        names = ("image_a", "image_b") if pair else ()
        images = {name: np.zeros((1, *pair, 3), np.uint8) for name in names}
        return jax.eval_shape(system.init, jax.random.key(0), Batch(images))[0]
    margin = 2 * system.data.geo_margin
    channels = {"online": len(system.data.channels), "geo": 5}
    shapes = {"online": size, "geo": tuple(n + margin for n in size)}
    rows = {k: jax.ShapeDtypeStruct((1, *s, channels[k]), np.float32) for k, s in shapes.items()}
    rows |= {f"{k}_mask": jax.ShapeDtypeStruct((1, *s), np.float32) for k, s in shapes.items()}
    return jax.eval_shape(system.init, jax.random.key(0), Batch(rows))[0]
