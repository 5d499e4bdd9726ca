"""Two processes on this machine, four devices each, against one process with eight."""

import socket

import numpy as np
import pytest
from conftest_train import TOY, params_of

from posejax.config import ConfigError, Log, RunOptions
from posejax.train import Checkpoints, logging, runtime, setup


def test_two_processes_train_as_one_and_one_restores_them(program, run, tmp_path, beacons):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    workdir = tmp_path / "two"
    both = [
        program("tests/train/two_processes.py", port, i, workdir, TOY / "beacons_config.py",
                devices=4)
        for i in range(2)
    ]  # fmt: skip
    for p in both:
        assert p.wait(200) == 0, p.output
    assert "step 12/12" in both[0].output and "step" not in both[1].output  # the first one talks

    changes = {"train.steps": 12, "train.checkpoint.every_steps": 6,
               "train.evaluation.examples": 20, "train.sharding.devices": 8,
               "train.optimizer.eps": 1e-4}  # fmt: skip
    one = run(options={"log": Log(view="quiet", every=1)}, **changes)
    lines = logging.read(workdir / "metrics.jsonl")
    for a, b in zip(one.log, lines, strict=True):
        assert a.keys() == b.keys() and a["kind"] == b["kind"]
        for key, value in a.items():
            if isinstance(value, float):
                np.testing.assert_allclose(b[key], value, rtol=1e-4, atol=1e-5, err_msg=key)
    single, double = params_of(one.workdir), params_of(workdir)
    for name, value in single.items():
        np.testing.assert_allclose(double[name], value, rtol=1e-4, atol=1e-5, err_msg=name)

    # What two wrote, one continues.
    parts = setup.assemble(beacons(**changes))
    with Checkpoints(workdir, write=False) as checkpoints:
        assert checkpoints.steps() == [6, 12]
        state = checkpoints.restore(12, parts.target)
    np.testing.assert_array_equal(state.params["head"]["kernel"], double["params/head/kernel"])


def test_processes_with_other_settings_are_told_which(program, tmp_path):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    both = [
        program("tests/train/two_processes.py", port, i, tmp_path / "two",
                TOY / "beacons_config.py", *changed)
        for i, changed in enumerate(([], ["train.optimizer.schedule.peak=0.5"]))
    ]  # fmt: skip
    for p in both:
        assert p.wait(120) == 1, p.output
        assert (
            "process 1 of 2 has other settings than process 0: "
            "train.optimizer.schedule.peak: 0.02 -> 0.5" in p.output
        )
    assert not (tmp_path / "two").exists()


def test_automatic_mode_without_a_cluster_is_told(monkeypatch):
    from posejax.config import Distributed

    def none(*_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", none)
    with pytest.raises(ConfigError, match=r"--distributed\.mode auto: no cluster found"):
        runtime.start(RunOptions(distributed=Distributed("auto")))


def test_manual_mode_asks_for_what_is_missing():
    from posejax.config import Distributed

    with pytest.raises(ValueError, match=r"--distributed\.coordinator, --distributed\.processes"):
        runtime.start(RunOptions(distributed=Distributed("manual", process=0)))


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = runtime.cache_folder("auto")
    assert folder is not None and folder.is_relative_to(tmp_path / "posejax" / "xla")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    assert runtime.cache_folder("auto") == tmp_path / "own"
    assert runtime.cache_folder("off") is None
    assert str(runtime.cache_folder("/x/y")) == "/x/y"
