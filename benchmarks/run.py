"""Run every benchmark here: one JSON and one markdown table with the machine's description.

python -m benchmarks.run [--only train_step ...] [--out benchmarks/results]
"""

import argparse
import importlib
import inspect
import json
import os
import platform
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

HERE = Path(__file__).parent
PARTS = {"run", "harness", "motorcycle", "segnet_torch", "sparse_peers", "__init__"}
NEED_A_RUN_OR_ROOT = {"bifusion_modes", "eventpose_ablation", "eventpose_conditions", "power_cut"}
NOT_BENCHMARKS = PARTS | NEED_A_RUN_OR_ROOT


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    devices = jax.devices()
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "system": f"{platform.system()} {platform.release()}",
    }


def names() -> list[str]:
    """Benchmarks of this folder: modules with a `main`."""
    return sorted(p.stem for p in HERE.glob("*.py") if p.stem not in NOT_BENCHMARKS)


def run_one(name: str) -> list[dict[str, Any]]:
    """Rows of a benchmark; a mistake in one must not cost the results of the others."""
    module = importlib.import_module(f"benchmarks.{name}")
    if not hasattr(module, "main"):
        raise AttributeError(f"benchmarks/{name}.py has no main()")
    found = module.main([]) if inspect.signature(module.main).parameters else module.main()
    rows = found if isinstance(found, list) else [found] if isinstance(found, Mapping) else []
    return [dict(r) for r in rows if isinstance(r, Mapping)]


def markdown(results: Mapping[str, Any], about: Mapping[str, str]) -> str:
    """Tables of all results."""
    lines = [", ".join(f"{k} {v}" for k, v in about.items()), ""]
    for name, rows in results.items():
        lines.append(f"## {name}\n")
        if isinstance(rows, str):
            lines += [f"failed: {rows}", ""]
            continue
        columns = list(dict.fromkeys(k for r in rows for k in r))
        lines.append("| " + " | ".join(columns) + " |")
        lines.append("|" + " --- |" * len(columns))
        lines += ["| " + " | ".join(cell(r.get(c, "")) for c in columns) + " |" for r in rows]
        lines.append("")
    return "\n".join(lines)


def cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str]) -> int:
    """Run, print, write; 1 if any benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=None, help="names; all if not given")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    options = parser.parse_args(list(arguments))
    unknown = set(options.only or ()) - set(names())
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    results: dict[str, Any] = {}
    failed = False
    for name in options.only or names():
        print(f"== {name}", flush=True)
        try:
            results[name] = run_one(name)
        except Exception as error:
            traceback.print_exc()
            results[name], failed = f"{type(error).__name__}: {error}", True
    about = machine()
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": about, "results": results}, indent=2, default=str)
    (options.out / "benchmarks.json").write_text(text + "\n")
    table = markdown(results, about)
    (options.out / "benchmarks.md").write_text(table + "\n")
    print(table)
    return int(failed)


if __name__ == "__main__":  # data workers import this module
    sys.exit(main(sys.argv[1:]))
