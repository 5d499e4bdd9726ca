"""What is kept, what is restored, and what a full disk or another model is answered with."""

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.config import Checkpoint
from posejax.train import checkpoint as checkpoint_module
from posejax.train import setup
from posejax.train.checkpoint import CheckpointError, Checkpoints, find_checkpoint


@pytest.fixture
def parts(beacons):
    return setup.assemble(beacons(**{"train.ema": 0.9}))


def state_of(parts, step: int):
    state = parts.init()
    params = jax.tree.map(lambda x: x + step, state.params)
    return state._replace(step=jnp.int32(step), params=params)


def fill(parts, folder: Path, values, **rule) -> list[int]:
    with Checkpoints(folder, Checkpoint(**rule)) as checkpoints:
        for i, value in enumerate(values, 1):
            checkpoints.save(state_of(parts, i), i, {"note": i}, value)
    with Checkpoints(folder, Checkpoint(**rule), write=False) as checkpoints:
        return checkpoints.steps()


@pytest.mark.parametrize(
    ("mode", "values", "kept"),
    [
        ("min", [1.0, 2.0, 3.0, 4.0], [1, 3, 4]),  # worsening: the newest stay all the same
        ("max", [4.0, 9.0, 3.0, 1.0], [2, 3, 4]),
        ("min", [4.0, 3.0, 2.0, 1.0], [3, 4]),
        ("min", [2.0, float("nan"), 3.0, None], [1, 3, 4]),
    ],
)
def test_latest_and_best_are_kept(parts, tmp_path, mode, values, kept):
    assert fill(parts, tmp_path, values, keep_latest=2, keep_best=1, best_mode=mode) == kept
    with Checkpoints(tmp_path, Checkpoint(best_mode=mode), write=False) as checkpoints:
        assert checkpoints.latest() == 4
        assert checkpoints.best() == (kept[0] if len(kept) == 3 else 4)


def test_best_survives_a_restart(parts, tmp_path):
    """The best is known from disk, not from the process that wrote it."""
    fill(parts, tmp_path, [1.0, 2.0], keep_latest=1, keep_best=1)
    with Checkpoints(tmp_path, Checkpoint(keep_latest=1, keep_best=1)) as checkpoints:
        for step, value in ((3, 1.5), (4, 3.0)):
            checkpoints.save(state_of(parts, step), step, {}, value)
    with Checkpoints(tmp_path, Checkpoint(), write=False) as checkpoints:
        assert (checkpoints.steps(), checkpoints.best()) == ([1, 4], 1)


def test_restore_gives_the_same_bits_on_any_devices(parts, beacons, tmp_path):
    fill(parts, tmp_path, [1.0])
    saved = jax.device_get(state_of(parts, 1))
    for changes in (
        {"train.sharding.devices": 1},
        {"train.sharding.fsdp": 8, "train.sharding.fsdp_min_size": 8},
    ):
        other = setup.assemble(beacons(**{"train.ema": 0.9, **changes}))
        with Checkpoints(tmp_path, Checkpoint(), write=False) as checkpoints:
            found = checkpoints.restore(1, other.target)
            assert checkpoints.meta(1) == {"note": 1}
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), saved)
        kernel = found.params["encoder"]["kernel"]
        assert kernel.sharding == other.target.params["encoder"]["kernel"].sharding


def test_model_alone_needs_no_target(parts, tmp_path):
    fill(parts, tmp_path, [1.0])
    with Checkpoints(tmp_path, Checkpoint(), write=False) as checkpoints:
        model = checkpoints.restore_model_as_saved(1)
    assert set(model) == {"params", "model_state", "ema"}
    expected = jax.device_get(state_of(parts, 1).params)
    jax.tree.map(np.testing.assert_array_equal, model["params"], expected)


def test_another_model_is_refused(parts, beacons, tmp_path):
    fill(parts, tmp_path, [1.0])
    other = setup.assemble(beacons(**{"train.ema": 0.9, "system.hidden": 5}))
    with (
        Checkpoints(tmp_path, Checkpoint(), write=False) as checkpoints,
        pytest.raises(CheckpointError, match="does not fit the model"),
    ):
        checkpoints.restore(1, other.target)


def test_a_damaged_checkpoint_is_told_briefly(parts, tmp_path):
    fill(parts, tmp_path, [1.0])
    for data in (tmp_path / "checkpoints/1/model").rglob("d/*"):
        data.unlink()
    with (
        Checkpoints(tmp_path, Checkpoint(), write=False) as checkpoints,
        pytest.raises(CheckpointError, match="or is damaged") as error,
    ):
        checkpoints.restore(1, parts.target)
    assert len(str(error.value)) < 600


def test_missing_step_lists_those_there(parts, tmp_path):
    fill(parts, tmp_path, [1.0])
    with (
        Checkpoints(tmp_path, Checkpoint(), write=False) as checkpoints,
        pytest.raises(CheckpointError, match=r"no checkpoint of step 7; there are \[1\]"),
    ):
        checkpoints.restore(7, parts.target)
    with pytest.raises(CheckpointError, match="is this a run folder"):
        Checkpoints(tmp_path / "nowhere", Checkpoint(), write=False)


def test_paths_that_name_a_checkpoint(parts, tmp_path):
    fill(parts, tmp_path, [1.0])
    folder = tmp_path.resolve()
    assert find_checkpoint(tmp_path) == (folder, None)
    assert find_checkpoint(tmp_path / "checkpoints") == (folder, None)
    assert find_checkpoint(tmp_path / "checkpoints" / "1") == (folder, 1)
    with pytest.raises(CheckpointError, match="expected a run folder"):
        find_checkpoint(tmp_path / "other")


def test_only_orbax_is_quiet_and_only_while_open(tmp_path):
    """The process's logging is not ours: neither levels nor filters stay changed."""
    logger = logging.getLogger("absl")
    before = logger.level, list(logger.filters)

    def passes(pathname):
        return bool(
            logger.filter(logging.LogRecord("absl", logging.WARNING, pathname, 1, "", (), None))
        )

    with Checkpoints(tmp_path, Checkpoint()):
        assert not passes("/site-packages/orbax/checkpoint/manager.py")
        assert passes("/home/user/grain/reader.py")
    assert (logger.level, list(logger.filters)) == before
    with pytest.raises(CheckpointError):
        Checkpoints(tmp_path / "nowhere", Checkpoint(), write=False)
    assert (logger.level, list(logger.filters)) == before


def test_reading_says_reading(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()

    def refuse(*args, **kwargs):
        raise PermissionError("no")

    monkeypatch.setattr(checkpoint_module.ocp, "CheckpointManager", refuse)
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoints.*PermissionError: no"):
        Checkpoints(tmp_path, Checkpoint(), write=False)
    with pytest.raises(CheckpointError, match="cannot write a checkpoint"):
        Checkpoints(tmp_path, Checkpoint())
