"""The toy system of docs/extending.md, and ways to train it in this process or in another."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOY), str(TOY.parent)]

from posejax import cli, config  # noqa: E402
from posejax.config import Experiment, Log, RunOptions, RunResult  # noqa: E402
from posejax.train import train  # noqa: E402


@pytest.fixture
def beacons():
    """`beacons(**{"train.steps": 20})` is the toy experiment with changes."""

    def make(**changes) -> Experiment:
        found = cli.load_config(TOY / "beacons_config.py")
        assert isinstance(found, Experiment)
        return config.replace(found, **changes)

    return make


@pytest.fixture
def run(tmp_path, beacons):
    """`run(**changes)` trains the toy in `tmp_path/run` without talking."""

    def go(workdir: Path | None = None, options: dict | None = None, **changes) -> RunResult:
        changes.setdefault("train.sharding.devices", 1)  # compiles faster than for eight
        options = {"cache": "off", "log": Log(view="quiet"), **(options or {})}
        experiment = changes.pop("experiment", None) or beacons(**changes)
        return train(experiment, RunOptions(workdir=workdir or tmp_path / "run", **options))

    return go


class Program:
    """train_main.py or eval_main.py in a process of its own."""

    def __init__(
        self,
        script: str,
        *arguments: object,
        cache: Path,
        devices: int = 1,
        file_limit: int | None = None,
    ):
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{TOY}",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
            "--xla_backend_optimization_level=0 "
            "--xla_cpu_use_fusion_emitters=false",  # as this process: the same bits
            "JAX_COMPILATION_CACHE_DIR": str(cache),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / script), *map(str, arguments)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=lambda: file_limit and resource.setrlimit(
                resource.RLIMIT_FSIZE, (file_limit, file_limit)
            ),
        )  # fmt: skip
        self.output = ""

    def wait(self, timeout: float = 120) -> int:
        try:
            self.output += self.process.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode

    def kill(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait_for(self, condition, timeout: float = 60) -> bool:
        """Until the condition holds or the program ends; whether it holds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end and self.process.poll() is None:
            if condition():
                return True
            time.sleep(0.002)
        return bool(condition())


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """`program("train_main.py", "--config", ...)` starts it; a shared cache saves compiling."""
    cache = tmp_path_factory.mktemp("xla")
    started = []

    def start(script: str, *arguments: object, **options) -> Program:
        started.append(Program(script, *arguments, cache=cache, **options))
        return started[-1]

    yield start
    for p in started:
        if p.process.poll() is None:
            p.process.kill()
            p.process.wait()
