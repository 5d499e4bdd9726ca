"""Fixtures shared by all tests: deterministic jax on the CPU and the optional real data."""

import contextlib
import ctypes
import gc
import os
import resource
from pathlib import Path

# Before jax starts: the CPU alone, split in eight virtual devices so that sharding is testable.
# Most of the suite's time is compiling, so programs are optimised little, loops come from the plain
# emitters (those by way of MLIR take twice the time) and programs are kept for the next run.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    "--xla_cpu_use_fusion_emitters=false",
)
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
# Matrices here are small; threads that wait for each other take more time than the work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np
import pytest

_ROOT = Path(__file__).resolve().parents[1]
_MOST_MEMORY = 3 * 2**29  # of a worker, before it forgets what it compiled
# Rank promotion hides shape bugs ([N] against [N, 1]); jit-time only, so it costs nothing.
jax.config.update("jax_numpy_rank_promotion", "raise")


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable, _ROOT.parent / "shared" / default))


@pytest.fixture(scope="session")
def data_dir():
    """`data_dir("radish_aces")` is the folder of a real data set; skips the test without it."""

    def get(name: str) -> Path:
        path = _folder("POSEJAX_DATA", "data") / name
        if not path.is_dir():
            pytest.skip(f"real data set {name!r} not found: {path} (set POSEJAX_DATA)")
        return path

    return get


@pytest.fixture(scope="session")
def golden():
    """`golden("losses.npz")` opens a file of reference numbers; skips the test without it."""

    def get(name: str):
        path = _folder("POSEJAX_GOLDEN", "golden") / name
        if not path.is_file():
            pytest.skip(f"reference numbers not found: {path} (set POSEJAX_GOLDEN)")
        return np.load(path, allow_pickle=False)

    return get


@pytest.fixture(scope="session")
def small_scans(tmp_path_factory) -> tuple[Path, list[Path]]:
    """Root and folders of scans of two simulated rooms, 12 frames each; to be read alone."""
    from posejax.sim.room_scans import ensure_scans
    from tests.sim.scans import SMALL_SCANS

    root = tmp_path_factory.mktemp("small_scans")
    return root, ensure_scans(root, "val", 2, SMALL_SCANS, threads=1, quiet=True)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Compiled programs of past modules go when a worker grows: they are most of its memory."""
    yield
    if _resident() > _MOST_MEMORY:
        jax.clear_caches()
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # glibc keeps what is freed
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _resident() -> int:
    """Bytes of memory in use now (the peak where the system does not tell)."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
