"""Killed at any instant and started again, a run ends in the same bits, and so does its log."""

import json
import random
import shutil
import signal

import numpy as np
import pytest
from conftest_train import TOY, params_of

from posejax.train import ResumeError
from posejax.train.system import System

# 96 steps, a checkpoint every 5.
ARGUMENTS = (
    "--config", TOY / "beacons_config.py", "--train.epochs", "6", "--train.ema", "0.99",
    "--train.checkpoint.every-steps", "5", "--log.every", "3", "--log.view", "quiet",
)  # fmt: skip


@pytest.fixture(scope="session")
def uninterrupted(program, tmp_path_factory):
    """Log and final parameters of a run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    done = program("train_main.py", *ARGUMENTS, "--workdir", workdir)
    assert done.wait() == 0, done.output
    return (workdir / "metrics.jsonl").read_bytes(), params_of(workdir)


def check_same(workdir, uninterrupted):
    log, params = uninterrupted
    assert (workdir / "metrics.jsonl").read_bytes() == log
    found = params_of(workdir)
    assert found.keys() == params.keys()
    for name, value in params.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def kill_and_restart(program, workdir, kills, seed):
    """Kill inside a checkpoint write, then at random moments; then let it finish."""
    draw = random.Random(seed)
    log = workdir / "metrics.jsonl"
    folder = workdir / "checkpoints"

    def writing():
        complete = [p for p in folder.glob("*") if p.name.isdigit()]
        return complete and any("tmp" in p.name for p in folder.glob("*"))

    run = program("train_main.py", *ARGUMENTS, "--workdir", workdir)
    assert run.wait_for(writing)
    assert run.kill() == -signal.SIGKILL
    hits = 1
    while hits < kills:
        begin = log.stat().st_size if log.is_file() else 0
        wanted = draw.uniform(0, 4000)
        run = program("train_main.py", *ARGUMENTS, "--workdir", workdir)

        def grown(begin=begin, wanted=wanted):
            size = log.stat().st_size if log.is_file() else 0
            # A resumed run first cuts the log back.
            return size < begin or size > begin + wanted

        run.wait_for(grown)
        # A run that was faster than the signal ended well; a fresh one is killed instead.
        code = run.kill()
        assert code in (0, -signal.SIGKILL), run.output
        if code == 0:
            shutil.rmtree(workdir)
        else:
            hits += 1
    done = program("train_main.py", *ARGUMENTS, "--workdir", workdir)
    assert done.wait() == 0, done.output


def test_two_kills_change_nothing(program, tmp_path, uninterrupted):
    kill_and_restart(program, tmp_path / "run", kills=2, seed=1)
    check_same(tmp_path / "run", uninterrupted)


@pytest.mark.slow
def test_ten_kills_change_nothing(program, tmp_path, uninterrupted):
    kill_and_restart(program, tmp_path / "run", kills=10, seed=2)
    check_same(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_polite_signals_save_and_exit_zero(program, tmp_path, uninterrupted, number):
    workdir = tmp_path / "run"
    arguments = [a if a != "quiet" else "plain" for a in ARGUMENTS]
    run = program("train_main.py", *arguments, "--workdir", workdir)
    log = workdir / "metrics.jsonl"
    assert run.wait_for(lambda: log.is_file() and log.stat().st_size > 2000)
    assert run.kill(number) == 0
    assert f"{number.name}: saved at step" in run.output
    assert "run the same command again to continue" in run.output
    done = program("train_main.py", *ARGUMENTS, "--workdir", workdir)
    assert done.wait() == 0, done.output
    check_same(workdir, uninterrupted)


def test_other_worker_count_and_log_view_are_no_change(run, tmp_path, beacons):
    first = run(**{"train.steps": 20})
    again = run(**{"train.steps": 20, "train.data.threads": 1, "train.sharding.devices": 8})
    assert (first.step, again.step) == (20, 20)
    assert first.log == again.log


def test_changed_config_is_refused_with_a_diff(run, tmp_path):
    run(**{"train.steps": 10})
    with pytest.raises(ResumeError) as error:
        run(**{"train.steps": 20, "system.hidden": 16, "train.optimizer.clip_norm": None})
    text = str(error.value)
    assert "train.steps: 10 -> 20" in text and "train.optimizer.clip_norm: 1.0 -> None" in text
    assert "hidden" not in text and "--resume.allow-config-change" in text
    # nothing was touched by the refusal
    assert json.loads((tmp_path / "run/config.json").read_text())["train"]["steps"] == 10


def test_changed_config_may_be_allowed(run, monkeypatch):
    from posejax.config import Resume

    started = []
    monkeypatch.setattr(System, "check_start", lambda system: started.append(system))
    run(**{"train.steps": 10})
    longer = run(options={"resume": Resume(allow_config_change=True)}, **{"train.steps": 14})
    assert longer.step == 14
    assert [line["step"] for line in longer.lines("epoch")] == [10, 14]
    assert len(started) == 1  # the files that a run started from may be gone when it goes on


def test_resume_modes(run, tmp_path):
    from posejax.config import Resume

    with pytest.raises(ResumeError, match="there is no checkpoint"):
        run(options={"resume": Resume("must")}, **{"train.steps": 5})
    run(options={"resume": Resume("never")}, **{"train.steps": 5})
    with pytest.raises(ResumeError, match="holds a run at step 5"):
        run(options={"resume": Resume("never")}, **{"train.steps": 5})


def test_resume_across_unfreezing_and_device_counts(run, tmp_path, beacons):
    """Cut in two on other devices, the stages and moments carry on."""
    from posejax.config import Checkpoint, Group, Optimizer

    rule = Optimizer(groups=(Group("encoder", unfreeze_at=12), Group("head")), eps=1e-4)
    changes = {"train.steps": 20, "train.optimizer": rule,
               "train.checkpoint": Checkpoint(every_steps=8, keep_latest=9)}  # fmt: skip
    whole = run(tmp_path / "whole", **changes, **{"train.sharding.devices": 8})
    cut = tmp_path / "cut"
    shutil.copytree(whole.workdir, cut)
    for step in ("16", "20"):
        shutil.rmtree(cut / "checkpoints" / step)
    resumed = run(cut, **changes, **{"train.sharding.devices": 1})
    for a, b in zip(whole.log, resumed.log, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            if isinstance(value, float):
                np.testing.assert_allclose(b[key], value, rtol=1e-4, atol=1e-5, err_msg=key)
    frozen = [x["lr/encoder"] for x in whole.lines("train")]
    assert frozen[0] == 0.0 and frozen[-1] > 0.0


def test_unwritable_folder_is_said_at_once(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResumeError, match=r"cannot write there .* --workdir"):
        run(tmp_path / "file" / "run", **{"train.steps": 5})


@pytest.mark.slow
def test_full_disk_is_said_and_the_previous_checkpoints_stay(program, tmp_path):
    """A limit on the size of files fails a write as a full disk does, at the same system call."""
    workdir = tmp_path / "run"
    arguments = (
        "--config", TOY / "beacons_config.py", "--workdir", workdir, "--system.hidden", "20000",
        "--train.steps", "40", "--train.checkpoint.every-steps", "5", "--log.view", "quiet",
    )  # fmt: skip
    run = program("train_main.py", *arguments)
    assert run.wait_for((workdir / "checkpoints" / "5").is_dir)
    run.kill()
    before = sorted(p.name for p in (workdir / "checkpoints").glob("*") if p.name.isdigit())
    assert before
    run = program("train_main.py", *arguments, file_limit=50_000)
    assert run.wait() == 1
    # A callback of the storage library may still print behind our one line.
    (said,) = [line for line in run.output.splitlines() if line.startswith("error: ")]
    assert "cannot write a checkpoint; the disk is full" in said
    assert "the previous checkpoints are intact" in said
    after = sorted(p.name for p in (workdir / "checkpoints").glob("*") if p.name.isdigit())
    assert after == before
    run = program("train_main.py", *arguments)
    assert run.wait() == 0, run.output
    assert (workdir / "checkpoints" / "40").is_dir()
