"""The training engine around a step: rate, overhead, compile time, data wait, checkpoint stall.

    python -m benchmarks.train_step [--config FILE] [--steps 50] [--latency] [--json FILE]

Each number and what it should be: benchmarks/README.md.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from posejax import cli
from posejax.config import Experiment, NonFinite
from posejax.data import pipeline
from posejax.program import keep_memory
from posejax.train import Checkpoints, compilation, runtime, setup
from posejax.train.console import Quiet
from posejax.train.journal import Journal
from posejax.train.prefetch import Prefetcher

ROOT = Path(__file__).resolve().parents[1]
TOY = ROOT / "tests" / "train" / "toy" / "beacons_config.py"


def compile_times(parts: setup.Parts) -> tuple[compilation.Program, list[str], dict[str, float]]:
    """Seconds to compile without a cache, and with a cache that holds the program."""
    jax.config.update("jax_compilation_cache_dir", None)
    step, names = compilation.packed_step(parts, stage=0)
    program = compilation.compile_step(step, parts)
    with tempfile.TemporaryDirectory() as folder:
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.clear_caches()
        compilation.compile_step(step, parts)
        jax.clear_caches()
        cached = compilation.compile_step(step, parts)
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()
    return program, names, {"compile_cold_s": program.seconds, "compile_cached_s": cached.seconds}


def measure(experiment: Experiment, steps: int) -> dict[str, Any]:
    """All numbers of one experiment on this machine."""
    parts = setup.assemble(experiment)
    program, names, row = compile_times(parts)
    state = parts.init()
    host = parts.first_batch()
    fixed = parts.place(host)
    state, out = program.call(state, fixed)
    jax.block_until_ready(out)

    def bare(state: Any) -> tuple[Any, float]:
        begin = time.perf_counter()
        for _ in range(steps):
            state, out = program.call(state, fixed)
        jax.block_until_ready((state, out))
        return state, (time.perf_counter() - begin) / steps

    def engine(state: Any, batches: Any) -> tuple[Any, float, float]:
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(10, NonFinite(), Path(folder), Quiet(), lambda line: None, dict)
            journal.names = names
            ahead = parts.train.data.device_prefetch
            with Prefetcher(batches, parts.placement, ahead, parts.resident) as stream:
                for i in range(3):
                    loaded = next(stream)
                    state, out = program.call(state, loaded.device)
                    journal.add(i, out, loaded)
                journal.drain()
                stream.reset()
                begin = time.perf_counter()
                for i in range(steps):
                    loaded = next(stream)
                    state, out = program.call(state, loaded.device)
                    journal.add(i, out, loaded)
                journal.drain()
                seconds = time.perf_counter() - begin
                return state, seconds / steps, stream.wait / seconds

    bares, engines = [], []
    for _ in range(3):  # interleaved, so that a busy moment of the machine hits both
        state, seconds = bare(state)
        bares.append(seconds)
        state, seconds, _ = engine(state, itertools.repeat(host))
        engines.append(seconds)
    data = parts.train.data
    batches = pipeline.train_batches(
        parts.examples, seed=experiment.seed, batch_size=parts.train.batch_size
    )
    with pipeline.iterate(
        batches, workers=data.workers, threads=data.threads, prefetch=data.prefetch
    ) as iterator:
        state, real, wait = engine(state, iterator)
    stall, write = checkpoint_times(parts, state)
    memory = runtime.memory()
    return {
        "experiment": experiment.name,
        "batch": parts.train.batch_size,
        "step_ms": 1e3 * min(bares),
        "host_overhead_ms": 1e3 * (min(engines) - min(bares)),
        "with_data_ms": 1e3 * real,
        "examples_per_s": parts.train.batch_size / real,
        "data_wait": wait,
        **row,
        "gflop": program.flops / 1e9,
        "temporary_mb": program.temporary / 2**20,
        "memory_mb": memory.get("device_peak", memory.get("host", 0)) / 2**20,
        "checkpoint_stall_ms": 1e3 * stall,
        "checkpoint_write_ms": 1e3 * write,
    }


def checkpoint_times(parts: setup.Parts, state: Any) -> tuple[float, float]:
    """Seconds that a save holds up the loop, and until it is on disk (medians of five)."""
    stalls, writes = [], []
    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder)) as checkpoints:
        for i in range(6):
            begin = time.perf_counter()
            checkpoints.save(state, i, {})
            stalls.append(time.perf_counter() - begin)
            checkpoints.wait()
            writes.append(time.perf_counter() - begin)
    return float(np.median(stalls[1:])), float(np.median(writes[1:]))


def first_step_latency(config: str) -> dict[str, float]:
    """Seconds from the shell to the end of a one-step run, without and with the compile cache.

    The data are made beforehand: their generation is a one-time cost of its own.
    """
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("warm-up", "first_step_cold_s", "first_step_cached_s"):
            cache = "off" if name == "warm-up" else f"{folder}/cache"
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, "train_main.py", "--config", config, "--workdir",
                 f"{folder}/{name}", "--train.steps", "1", "--train.evaluation.examples", "8",
                 "--cache", cache, "--log.view", "quiet"],
                check=True, cwd=ROOT,
            )  # fmt: skip
            seconds[name] = time.perf_counter() - begin
    del seconds["warm-up"]
    return seconds


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Measure and print; the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", action="append", help="config file (repeatable)")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--latency", action="store_true", help="also time whole programs")
    parser.add_argument("--json", type=Path, help="write the rows there")
    options = parser.parse_args(list(arguments))
    rows = []
    for config in options.config or [str(TOY), str(ROOT / "configs" / "georeg_sim.py")]:
        found = cli.load_config(config)
        if not isinstance(found, Experiment):
            raise SystemExit(f"{config}: a sweep; give one of its experiments")
        row = measure(found, options.steps)
        if options.latency:
            row |= first_step_latency(config)
        rows.append(row)
        print(
            "  ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            ),
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return rows


if __name__ == "__main__":  # data workers import this module
    keep_memory()  # as the programs do
    main(sys.argv[1:])
