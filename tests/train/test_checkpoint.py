"""What is kept, what is restored, and what a full disk or another model is answered with."""

import json
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax import config_io
from posejax.config import Checkpoint
from posejax.train import checkpoint as checkpoint_module
from posejax.train import durable, setup
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
            checkpoints.save(state_of(parts, i), i, {"note": i})
            if value is not None:
                checkpoints.rate(i, value)
        checkpoints.wait()
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
            checkpoints.save(state_of(parts, step), step, {})
            checkpoints.rate(step, value)
        checkpoints.wait()
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
        data.write_bytes(bytes(data.stat().st_size))
    contents = tmp_path / "checkpoints/1/contents.json"
    sizes = {k: size for k, (size, _) in json.loads(contents.read_text()).items()}
    for text, said in ((None, "has other bytes than were written"), (sizes, "or is damaged")):
        if text is not None:  # as before there were checksums
            contents.write_text(json.dumps(text))
        with Checkpoints(tmp_path, Checkpoint(), write=False) as checkpoints:
            with pytest.raises(CheckpointError, match=said) as error:
                checkpoints.restore(1, parts.target)
            assert len(str(error.value)) < 600
            with pytest.raises(CheckpointError, match=said.removeprefix("or ")):
                checkpoints.restore_model_as_saved(1)


def test_one_changed_byte_is_not_read_as_another_model(parts, tmp_path):
    """The arrays' format has no checksums: a flipped bit can be another weight, unsaid."""
    fill(parts, tmp_path, [3.0, 2.0], keep_latest=2)
    data = max(
        (tmp_path / "checkpoints/2/model").rglob("d/*"), key=lambda path: path.stat().st_size
    )
    raw = bytearray(data.read_bytes())
    raw[len(raw) // 2] ^= 1
    data.write_bytes(raw)
    with (
        Checkpoints(tmp_path, Checkpoint(), write=False) as checkpoints,
        pytest.raises(CheckpointError, match="has other bytes than were written"),
    ):
        checkpoints.restore_model_as_saved(2)
    with Checkpoints(tmp_path, Checkpoint()) as checkpoints:
        (line,) = checkpoints.set_aside
        assert "has other bytes than were written" in line and "damaged/step_2" in line
        assert (checkpoints.steps(), checkpoints.latest()) == ([1], 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("meta/metadata", "meta/metadata has 0 bytes of"),
        ("model/_METADATA", "model/_METADATA has 0 bytes of"),
        ("_CHECKPOINT_METADATA", "cannot be read"),
        ("contents.json", "cannot be read"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_set_aside(parts, tmp_path, name, said):
    """As a power failure leaves files that were never synced: empty, under the final name."""
    fill(parts, tmp_path, [3.0, 2.0], keep_latest=2)
    (tmp_path / "checkpoints/2" / name).write_bytes(b"")
    with Checkpoints(tmp_path, Checkpoint(), write=False) as checkpoints:
        assert (checkpoints.steps(), checkpoints.latest(), checkpoints.best()) == ([1], 1, 1)
        with pytest.raises(CheckpointError, match=r"checkpoints/2: not whole \("):
            checkpoints.restore(2, parts.target)
    with Checkpoints(tmp_path, Checkpoint()) as checkpoints:
        (line,) = checkpoints.set_aside
        assert said in line and "set aside as" in line
        assert checkpoints.latest() == 1 and checkpoints.best() == 1
        assert int(checkpoints.restore(1, parts.target).step) == 1
    assert (tmp_path / "damaged/step_2/model").is_dir()


def test_damaged_ratings_block_nothing(parts, tmp_path):
    fill(parts, tmp_path, [1.0, 2.0])
    (tmp_path / "ratings.json").write_text('{"1": ')
    with Checkpoints(tmp_path, Checkpoint(), write=False) as checkpoints:
        assert (checkpoints.steps(), checkpoints.best()) == ([1, 2], 2)
    # Kept with each checkpoint by older versions, where a broken one stopped every start.
    for text, best in (('{"best": 0.5}', 1), ("{", 2)):
        (tmp_path / "checkpoints/1/metrics").mkdir(exist_ok=True)
        (tmp_path / "checkpoints/1/metrics/metrics").write_text(text)
        with Checkpoints(tmp_path, Checkpoint()) as checkpoints:
            assert (checkpoints.steps(), checkpoints.best()) == ([1, 2], best)


def test_reading_changes_nothing_in_the_folder(parts, tmp_path):
    fill(parts, tmp_path, [1.0, 2.0])
    path = tmp_path / "checkpoints/1/metrics/metrics"
    path.parent.mkdir()
    path.write_text("{")  # as posejax 0.1 kept ratings, and damaged
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with Checkpoints(tmp_path, write=False) as checkpoints:
        assert (checkpoints.steps(), checkpoints.best()) == ([1, 2], 1)
        assert int(checkpoints.restore(1, parts.target).step) == 1
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_ratings_of_something_else_are_no_ratings(parts, tmp_path):
    fill(parts, tmp_path, [9.0, 5.0], best_metric="recall", best_mode="max")
    assert json.loads((tmp_path / "ratings.json").read_text()) == {
        "metric": "recall", "mode": "max", "split": "val", "ratings": {"1": 9.0, "2": 5.0},
    }  # fmt: skip
    with Checkpoints(tmp_path, write=False) as checkpoints:
        assert checkpoints.best() == 1  # a reader goes by what they are of
    recall = Checkpoint(best_metric="recall", best_mode="max")
    for rule, split, best in (
        (recall, "val", 1),
        (recall, "test", 2),
        (Checkpoint(best_metric="rms", best_mode="max"), "val", 2),
        (Checkpoint(best_metric="recall"), "val", 2),
    ):
        with Checkpoints(tmp_path, rule, split) as checkpoints:
            assert checkpoints.best() == best
    # The next evaluation is the first one of its kind.
    with Checkpoints(tmp_path, Checkpoint(best_metric="rms")) as checkpoints:
        checkpoints.rate(2, 100.0)
        assert checkpoints.best() == 2
    # A version that did not say what they are of: what else could they be?
    (tmp_path / "ratings.json").write_text('{"1": 0.5, "2": null}')
    with Checkpoints(tmp_path, Checkpoint(best_metric="rms")) as checkpoints:
        assert checkpoints.best() == 1


def test_everything_is_synced_before_the_folder_has_its_name(parts, tmp_path, monkeypatch):
    folder = tmp_path.resolve() / "checkpoints"
    synced: list[str] = []  # below the checkpoint's folder, whatever that is called

    def sync(path):
        if folder in path.parents:
            synced.append("/".join(path.relative_to(folder).parts[1:]))
        original(path)

    original = config_io.sync
    monkeypatch.setattr("posejax.data.files.sync", sync)
    renamed = []
    finalize = durable.DurablePath.__mro__[1].finalize

    async def watched(self):
        renamed[:] = synced  # lastly that of the whole, after those of its parts
        await finalize(self)

    monkeypatch.setattr(durable.DurablePath.__mro__[1], "finalize", watched)
    fill(parts, tmp_path, [1.0])
    everything = [folder / "1", *(folder / "1").rglob("*")]
    paths = {"/".join(p.relative_to(folder).parts[1:]) for p in everything}
    assert {"", "model", "trainer", "meta/metadata", "contents.json"} <= paths
    assert len(paths) > 10 and paths - set(renamed) <= {"commit_success.txt"}
    assert paths <= set(synced[len(renamed) :])  # and once more under the final name


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

    monkeypatch.setattr(checkpoint_module, "_Manager", refuse)
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoints.*PermissionError: no"):
        Checkpoints(tmp_path, Checkpoint(), write=False)
    with pytest.raises(CheckpointError, match="cannot write a checkpoint"):
        Checkpoints(tmp_path, Checkpoint())
