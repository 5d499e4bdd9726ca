"""What all benchmarks share: interleaved timing, memory of compiled functions, machine, JSON.

Two variants are timed in turns (A B A B ...), so that a slow minute of the machine hits both, and
the ratio is the median of the pairwise ratios. On a shared machine the minimum is the best estimate
of what the code itself costs; both are kept.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of repeated calls."""

    seconds: tuple[float, ...]

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass
class Row:
    """One line of a benchmark table; times in milliseconds."""

    name: str
    posejax_ms: float
    posejax_min_ms: float
    peer: str = ""
    peer_ms: float | None = None
    peer_min_ms: float | None = None
    ratio: float | None = None
    """How many times faster posejax is: median of the pairwise ratios."""
    memory_mb: float | None = None
    goal: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        peer = "-" if self.peer_ms is None else f"{self.peer_ms:9.1f}"
        ratio = "-" if self.ratio is None else f"{self.ratio:7.1f}x"
        memory = "-" if self.memory_mb is None else f"{self.memory_mb:8.1f}"
        times = f"{self.name:58s} {self.posejax_ms:9.1f} {peer:>9s}"
        return f"{times} {ratio:>8s} {memory:>8s}  {self.goal}"


HEADER = f"{'':58s} {'ms':>9s} {'peer ms':>9s} {'ratio':>8s} {'MB':>8s}  goal"


def time_interleaved(
    functions: dict[str, Callable[[], Any]], *, repeats: int = 7, budget_s: float = 20.0
) -> dict[str, Timing]:
    """Time several functions of no arguments in turns, after one warm-up call each.

    Args:
      functions: name -> function; its result is waited for (jax) or assumed complete.
      repeats: turns, at least one; fewer if `budget_s` runs out.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        jax.block_until_ready(function())
    start = time.perf_counter()
    for _ in range(repeats):
        for name, function in functions.items():
            before = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name].append(time.perf_counter() - before)
        if time.perf_counter() - start > budget_s:
            break
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def compile_with_memory(function: Callable, *args) -> tuple[Callable[[], Any], float]:
    """Compile for `args`; returns a call without arguments and the temporary memory in MB.

    Temporary memory is what the function needs beyond its arguments and results.
    """
    compiled = jax.jit(function).lower(*args).compile()
    analysis = compiled.memory_analysis()
    megabytes = float("nan") if analysis is None else analysis.temp_size_in_bytes / 1e6
    return lambda: compiled(*args), megabytes


def compare(
    name: str,
    function: Callable,
    args: tuple,
    *,
    peer: Callable[[], Any] | None = None,
    peer_name: str = "",
    goal: str = "",
    repeats: int = 7,
    budget_s: float = 20.0,
    **notes,
) -> Row:
    """Time a jax function against a peer (a call without arguments) and print the row."""
    call, memory = compile_with_memory(function, *args)
    functions = {"posejax": call} if peer is None else {"posejax": call, "peer": peer}
    times = time_interleaved(functions, repeats=repeats, budget_s=budget_s)
    ours = times["posejax"]
    row = Row(name, 1e3 * ours.median, 1e3 * ours.minimum, memory_mb=memory, goal=goal, notes=notes)
    if peer is not None:
        theirs = times["peer"]
        row.peer, row.peer_ms, row.peer_min_ms = (
            peer_name,
            1e3 * theirs.median,
            1e3 * theirs.minimum,
        )
        pairs = zip(theirs.seconds, ours.seconds, strict=True)
        row.ratio = statistics.median(t / o for t, o in pairs)
    print(row.line(), flush=True)
    return row


def machine() -> dict[str, Any]:
    """Description of where the numbers were taken."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "processor": model,
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "devices": [d.device_kind for d in jax.devices()],
    }


def commit() -> str | None:
    """Commit of the checkout, "-dirty" behind it where files differ; None outside of one."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def write_results(name: str, rows: list[Row], path: Path | None = None, **extra) -> Path:
    """Write the rows with the machine's description to benchmarks/results/NAME.json."""
    path = RESULTS / f"{name}.json" if path is None else path
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": name, "machine": machine(), **extra, "rows": [asdict(r) for r in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written to {path}")
    return path
