"""What a run survives: power cuts, a second process, kills at bad moments, damaged logs, haste."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest_train import TOY, params_of

from posejax.config import Checkpoint, ConfigError, Evaluation, Log, NonFinite, Resume
from posejax.train import CheckpointError, InUseError, lock, logging, loop, prefetch, signals
from posejax.train.prefetch import Prefetcher

CHANGES = {
    "train.steps": 12,
    "train.checkpoint": Checkpoint(every_steps=4, keep_latest=3, best_metric="rms"),
    "train.evaluation": Evaluation(every_steps=8, examples=16),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Folder of a run of 12 steps: saved at 4, 8 and 12, evaluated at 8 and 12."""
    from posejax import cli, config
    from posejax.config import RunOptions
    from posejax.train import train

    experiment = config.replace(
        cli.load_config(TOY / "beacons_config.py"), **CHANGES, **{"train.sharding.devices": 1}
    )
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    train(experiment, RunOptions(workdir=workdir, cache="off", log=Log(view="quiet", every=3)))
    return workdir


@pytest.fixture
def copy(undisturbed, tmp_path):
    """A copy to disturb, and the same command again: `again()`."""
    import shutil

    shutil.copytree(undisturbed, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def again(run, copy):
    def go(view="quiet", **options):
        options = {"log": Log(view=view, every=3), **options}
        return run(copy, options=options, **CHANGES)

    return go


def check_same(found: Path, expected: Path):
    assert (found / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    assert (found / "ratings.json").read_bytes() == (expected / "ratings.json").read_bytes()
    a, b = params_of(found), params_of(expected)
    for name, value in b.items():
        np.testing.assert_array_equal(a[name], value, err_msg=name)


def test_checkpoints_that_are_not_whole_give_way_to_the_one_before(
    undisturbed, copy, again, capsys
):
    for step in (8, 12):
        (copy / f"checkpoints/{step}/meta/metadata").write_bytes(b"")
    assert again("plain").step == 12
    said = capsys.readouterr().out
    for step in (8, 12):
        assert f"checkpoints/{step}: not whole (meta/metadata has 0 bytes of" in said
    assert "continue from step 4 of 12" in said
    check_same(copy, undisturbed)


def test_a_checkpoint_with_damaged_bytes_gives_way_to_the_one_before(
    undisturbed, copy, again, capsys
):
    """All files are there with their right sizes, and still nothing can be restored from them."""
    for folder in (copy / "checkpoints/8/trainer", copy / "checkpoints/12/model"):
        for data in folder.rglob("d/*"):
            data.write_bytes(bytes(data.stat().st_size))
    assert again("plain").step == 12
    said = capsys.readouterr().out
    for found in ("checkpoints/8: not whole (trainer/", "checkpoints/12: not whole (model/"):
        assert found in said
    assert said.count("set aside as") == 2 and "continue from step 4 of 12" in said
    check_same(copy, undisturbed)


def test_a_kill_between_checkpoint_and_evaluation_loses_neither(undisturbed, run, tmp_path):
    """At 8 the evaluation fails, as for one bad record; at 12 the process is gone before it."""

    class Gone(Exception):
        pass

    def evaluate(self, state):
        raise Gone

    options = {"log": Log(view="quiet", every=3)}
    original = loop.Run._evaluate
    for step in (8, 12):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Gone):
            patch.setattr(
                loop.Run,
                "_evaluate",
                lambda self, state, step=step: (
                    evaluate(self, state) if self.step == step else original(self, state)
                ),
            )
            run(tmp_path / "run", options=options, **CHANGES)
        assert (tmp_path / f"run/checkpoints/{step}").is_dir()
    assert run(tmp_path / "run", options=options, **CHANGES).step == 12
    check_same(tmp_path / "run", undisturbed)


def test_a_wrong_split_is_told_before_the_first_step(run, tmp_path):
    with pytest.raises(ConfigError, match="split 'vall'; did you mean val"):
        run(**{"train.steps": 4, "train.evaluation.split": "vall"})
    assert not (tmp_path / "run").exists()


def test_a_change_that_does_not_fit_leaves_the_saved_config(copy, undisturbed, run, again):
    before = (copy / "config.json").read_text()
    with pytest.raises(CheckpointError, match="does not fit the model"):
        run(copy, options={"resume": Resume(allow_config_change=True)},
            **{**CHANGES, "train.steps": 16, "system.hidden": 5})  # fmt: skip
    assert (copy / "config.json").read_text() == before
    assert again().step == 12
    check_same(copy, undisturbed)


@pytest.mark.parametrize("damage", ["short", "missing", "garbage"])
def test_a_damaged_log_is_said_and_stops_nothing(copy, again, capsys, damage):
    path = copy / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "short":
        path.write_bytes(b"".join(lines[:2]))
    elif damage == "missing":
        path.unlink()
    else:
        lines[1] = b"\xff{garbage\n"
        path.write_bytes(b"".join(lines))
        (copy / "timing.jsonl").write_bytes(b"\xffgarbage\n{")
    result = again("plain")
    said = capsys.readouterr().out
    expected = "line 2 is damaged" if damage == "garbage" else "the log has a hole"
    assert result.step == 12 and said.count(expected) == 1
    if damage == "garbage":
        assert len(result.log) == len(lines) - 1


def test_a_folder_in_use_is_refused_and_names_who_uses_it(copy, again):
    before = (copy / "metrics.jsonl").read_bytes()
    with lock.Lock(copy), pytest.raises(InUseError, match=f"in use by process {os.getpid()} on "):
        again()
    assert (copy / "metrics.jsonl").read_bytes() == before
    assert again().step == 12


def test_who_stood_still_and_lost_the_folder_ends_and_writes_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 60.0)  # as if no thread of it had run
    monkeypatch.setattr(lock, "WATCH", 0.0)
    path = tmp_path / "run" / lock.NAME
    other = json.dumps({"host": "elsewhere", "pid": 7, "since": "monday", "id": "a", "count": 3})

    def lose(self, step):
        if step == 5:
            path.write_text(other)
        return False

    monkeypatch.setattr(signals.Interrupt, "reached", lose)
    with pytest.raises(InUseError, match=r"taken over by process 7 on elsewhere.* stood still"):
        run(**{**CHANGES, "train.checkpoint": Checkpoint(every_steps=6)})
    assert path.read_text() == other
    assert not list((tmp_path / "run/checkpoints").iterdir())


def test_asked_twice_it_does_what_would_have_happened(capfd):
    called = []
    before = signal.signal(signal.SIGINT, lambda number, frame: called.append(number))
    hung_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and so it stays
    try:
        with signals.Interrupt() as interrupt:
            signal.raise_signal(signal.SIGINT)
            assert interrupt.received == "SIGINT" and interrupt.pending() and not called
            signal.raise_signal(signal.SIGINT)
            assert called == [signal.SIGINT]
        with signals.Interrupt() as interrupt:
            signal.raise_signal(signal.SIGHUP)
            assert interrupt.received == "SIGHUP"
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGHUP, hung_up)
    assert "SIGINT: saving; once more leaves without" in capfd.readouterr().err


def test_a_reader_that_hangs_holds_up_neither_a_stop_nor_the_end(monkeypatch):
    monkeypatch.setattr(prefetch, "PATIENCE", 0.3)
    end = threading.Event()

    def hang():
        end.wait(30)
        yield {}

    batches = Prefetcher(hang(), None, 2)
    begin = time.monotonic()
    assert batches.take(lambda: True) is None
    batches.close()
    assert time.monotonic() - begin < 5
    end.set()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.ema": 2.0}, "train.ema: 2.0; expected"),
        ({"train.data.threads": -1}, "train.data.threads: -1; expected >= 1"),
        ({"train.data.workers": -1}, "train.data.workers: -1"),
        ({"train.checkpoint.every_steps": -5}, "train.checkpoint.every_steps: -5"),
        ({"train.evaluation.every_steps": 0}, "train.evaluation.every_steps: 0"),
        ({"train.evaluation.examples": 0}, "train.evaluation.examples: 0"),
        ({"train.nonfinite": NonFinite(-1)}, "train.nonfinite.stop_after: -1"),
    ],
)
def test_settings_out_of_range_are_told(run, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        run(**changes)
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_split_is_remarked(run, capsys):
    from beacons.data import Room
    from beacons.system import Beacons

    run(options={"log": Log(view="plain")},
        **{"system": Beacons(Room(examples=8)), "train.steps": 2})  # fmt: skip
    assert "train.batch_size 16 is more than the split has" in capsys.readouterr().out


def test_epochs_go_on_when_several_end_in_one_step(run, tmp_path, monkeypatch):
    """10 examples in batches of 16: step 5 ends the seventh pass and the eighth."""
    from beacons.data import Room
    from beacons.system import Beacons

    changes = {
        "system": Beacons(Room(examples=10)),
        "train.steps": 14,
        "train.evaluation.every_epochs": 3,
    }
    whole = run(tmp_path / "whole", **changes)
    assert [line["step"] for line in whole.lines("epoch")] == list(range(1, 15))
    due = [s for s in range(1, 15) if s * 16 // 30 > (s - 1) * 16 // 30 or s == 14]
    assert [line["step"] for line in whole.lines("eval")] == due and len(due) == 7
    with monkeypatch.context() as patch:
        patch.setattr(signals.Interrupt, "reached", lambda self, step: step == 7)
        assert run(tmp_path / "parts", **changes).step == 7
    assert run(tmp_path / "parts", **changes).step == 14
    log = (tmp_path / "parts/metrics.jsonl").read_bytes()
    assert log == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_workers_and_shared_memory_end_with_a_killed_parent(tmp_path):
    code = """
import time
import numpy as np
from posejax.data import pipeline
from posejax.data.dataset import Dataset, Source
class Numbers(Source):
    def __len__(self): return 64
    def __getitem__(self, i): return {"index": i}
class Squares(Dataset):
    title, simulated = "squares", True
    def source(self, split): return Numbers()
    def transform(self, record, rng, train):
        return {"index": np.int32(record["index"]), "x": np.zeros([256, 256], np.float32)}
if __name__ == "__main__":
    data = Squares()
    examples = pipeline.make_examples(data, data.source("train"), "train", train=True)
    batches = pipeline.train_batches(examples, seed=0, batch_size=4)
    with pipeline.iterate(batches, workers=2, threads=1, prefetch=2) as iterator:
        next(iterator); time.sleep(1); print("reading", flush=True); time.sleep(600)
"""
    script = tmp_path / "reads.py"
    script.write_text(code)
    memory = Path("/dev/shm")
    before = {p.name for p in memory.iterdir()}
    environment = {**os.environ, "PYTHONPATH": str(TOY.parents[2])}
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout.readline() == "reading\n"
    lists = Path(f"/proc/{parent.pid}/task").glob("*/children")  # threads start the workers
    children = [child for path in lists for child in path.read_text().split()]
    assert len(children) >= 2
    parent.kill()
    parent.wait()

    def left():
        alive = [c for c in children if Path(f"/proc/{c}/cmdline").is_file()
                 and Path(f"/proc/{c}/cmdline").read_bytes()]  # fmt: skip
        ours = {p.name for p in memory.iterdir() if p.name.startswith("psm_")} - before
        return alive, ours

    end = time.monotonic() + 30
    while any(left()) and time.monotonic() < end:
        time.sleep(0.1)
    assert left() == ([], set())


def test_config_of_another_kind_is_told(tmp_path):
    from posejax import cli, config_io

    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="holds no saved config"):
        config_io.load(tmp_path / "config.json")
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    with pytest.raises(ConfigError, match=r"broken\.py: line 1: invalid syntax"):
        cli.load_config(tmp_path / "broken.py")


def test_evaluation_of_nonsense_is_told(copy):
    from posejax import config_io, evaluate

    experiment = config_io.load(copy / "config.json")
    options = evaluate.EvalOptions(cache="off", report=False)
    for changes, said in (
        ({"examples": -5}, "--examples: -5; expected >= 1"),
        ({"split": "nonsense"}, "split 'nonsense'; there are train, val, test"),
    ):
        with pytest.raises(ConfigError, match=said):
            evaluate.evaluate(experiment, dataclasses.replace(options, **changes), copy)


def test_log_without_a_size_is_cut_by_steps(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"kind": k, "step": s} for k, s in (("train", 3), ("eval", 4), ("train", 6))]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert logging.cut(path, 4) == []
    assert logging.read(path) == rows[:2]
