"""What is set before the first computation: processes, compile cache, debug modes; versions."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from posejax import config_io
from posejax.config import ConfigError, Debug, Distributed, Experiment, RunOptions

_initialized = False


def start(options: RunOptions) -> None:
    """Join the other processes, switch the compile cache and the debug modes on."""
    _join(options.distributed)
    _use_cache(options.cache)
    _debug(options.debug)


def _join(rule: Distributed) -> None:
    global _initialized
    if rule.mode == "off" or _initialized:
        return
    if rule.mode == "manual":
        missing = [
            f"--distributed.{k}"
            for k in ("coordinator", "processes", "process")
            if getattr(rule, k) is None
        ]
        if missing:
            raise ConfigError(f"--distributed.mode manual also needs {', '.join(missing)}")
        jax.distributed.initialize(rule.coordinator, rule.processes, rule.process)
    else:
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"--distributed.mode auto: no cluster found ({str(error)[:200]}); it needs SLURM, "
                "MPI or a Cloud TPU; with anything else use --distributed.mode manual"
            ) from error
    _initialized = True


def check_same(experiment: Experiment, options: RunOptions) -> None:
    """All processes of a run must have the same settings: else they train nonsense, or hang.

    Raises:
      ConfigError: on every process; names the processes and settings that differ from the first.
    """
    if jax.process_count() == 1:
        return
    rows = {
        **config_io.flatten(experiment),
        **config_io.flatten(options.resume, prefix="resume."),
        **config_io.flatten(options.debug, prefix="debug."),
        "workdir": str(options.workdir),
    }
    mine = np.frombuffer(json.dumps(rows, sort_keys=True).encode(), np.uint8)
    gather = multihost_utils.process_allgather
    lengths = np.asarray(gather(np.int32(len(mine)))).ravel()
    texts = np.asarray(gather(np.pad(mine, (0, int(lengths.max()) - len(mine)))))
    found = [json.loads(bytes(t[:n])) for t, n in zip(texts, lengths, strict=True)]
    for process, other in enumerate(found[1:], 1):
        keys = [k for k in {**found[0], **other} if found[0].get(k) != other.get(k)]
        if keys:
            told = ", ".join(f"{k}: {found[0].get(k)!r} -> {other.get(k)!r}" for k in keys[:5])
            raise ConfigError(
                f"process {process} of {len(found)} has other settings than process 0: {told}; "
                "start all of them with the same command"
            )


def as_first(value: bool) -> bool:
    """What the first process says, on every process."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.array(value)))


def cache_folder(cache: str) -> Path | None:
    """Folder of compiled programs; `auto`: JAX_COMPILATION_CACHE_DIR, then XDG_CACHE_HOME."""
    if cache == "off":
        return None
    if cache != "auto":
        return Path(cache).expanduser()
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    # Programs are compiled for the host's CPU: a home directory shared by unlike machines must
    # not mix them.
    host = f"{platform.machine()}-{_cpu_fingerprint()}"
    return Path(base) / "posejax" / "xla" / f"jax-{jax.__version__}-{host}"


def _cpu_fingerprint() -> str:
    import hashlib

    try:
        info = Path("/proc/cpuinfo").read_text()
        lines = [x for x in info.splitlines() if x.startswith(("flags", "Features", "model name"))]
    except OSError:
        lines = [platform.processor()]
    return hashlib.sha256("\n".join(sorted(set(lines))).encode()).hexdigest()[:8]


def _use_cache(cache: str) -> None:
    folder = cache_folder(cache)
    if folder is None:
        jax.config.update("jax_compilation_cache_dir", None)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a read-only home costs compile time, not the run
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _debug(rule: Debug) -> None:
    if rule.nans:
        jax.config.update("jax_debug_nans", True)


def versions() -> dict[str, str]:
    """Versions and devices that a result was made with."""
    import flax
    import optax

    devices = jax.devices()
    return {
        "posejax": _version(),
        "python": platform.python_version(),
        **{m.__name__: m.__version__ for m in (jax, flax, optax, np)},
        "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "processes": str(jax.process_count()),
    }


def _version() -> str:
    try:
        return importlib.metadata.version("posejax")
    except importlib.metadata.PackageNotFoundError:
        return "a source folder, not installed"


def memory() -> dict[str, int]:
    """Bytes in use: of the first device where it tells, and of this process."""
    found: dict[str, Any] = jax.local_devices()[0].memory_stats() or {}
    rows = {}
    if "peak_bytes_in_use" in found:
        rows["device_peak"] = int(found["peak_bytes_in_use"])
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        rows["host"] = pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no procfs
        pass
    return rows
