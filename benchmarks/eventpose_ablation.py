"""What each part of the answer is worth: one trained network of keypoints asked in several ways.

    python -m benchmarks.eventpose_ablation RUN [--split val] [--fit train] [--out FILE]

The network runs once over the split and all ways answer from the same heatmaps, in one compiled
program; each is calibrated on its own on examples of the split `--fit`, which chose something else.
Printed are single windows and, after "over time", hypotheses chosen over time and smoothed (of the
direct head: smoothed).
"""

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

import posejax
from benchmarks.harness import commit, write_results
from posejax.systems.eventpose import Eventpose, KeypointConfig
from posejax.systems.eventpose.answers import pose_records
from posejax.train import setup, sharding
from posejax.train.evaluation import Evaluator

ALIGN = 0.1  # weight of an edge's point
COLUMNS = {
    "rotation, mean": ("rotation_deg", 2), "median": ("rotation_median_deg", 2),
    "< 15 deg": ("within_15deg", 3), "> 90 deg": ("beyond_90deg", 3),
    "E_t": ("relative_position", 4), "score": ("score", 3), "low": ("score_low", 3),
    "high": ("score_high", 3),
}  # fmt: skip


@dataclass(frozen=True)
class Ways(Eventpose):
    """The system asked in several ways at once; records and scales have their names in front."""

    ways: Mapping[str, KeypointConfig] = field(default_factory=dict)

    def asked(self, name: str) -> Eventpose:
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(Eventpose)}
        return Eventpose(**{**own, "keypoints": self.ways[name]})

    def predict(self, params: Any, state: Any, batch: Any) -> dict[str, Any]:
        prepared, heads = self.see(params, state, batch)
        return {
            name: self.asked(name).answer(
                {**state, "hypothesis_scale": state["hypothesis_scale"][name]}, prepared, heads
            )
            for name in self.ways
        }

    def metrics(self, outputs: Mapping[str, Any], batch: Any) -> dict[str, jax.Array]:
        found = {n: pose_records(o, batch.examples) for n, o in outputs.items()}
        first = found[next(iter(found))]
        flat = {f"{n}/{k}": v for n, records in found.items() for k, v in records.items()}
        return flat | {k: first[k] for k in ("loss", "error")}

    def summarize(self, records: Mapping[str, np.ndarray]) -> dict[str, float]:
        return {}

    def of(self, name: str, records: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The records of one way."""
        start = f"{name}/"
        own = {k.removeprefix(start): v for k, v in records.items() if k.startswith(start)}
        return {**own, "index": records["index"]}


def ways_of(system: Eventpose) -> dict[str, KeypointConfig]:
    """Keypoints as configured, and each way that leaves out one thing."""
    base = dataclasses.replace(system.keypoints, half_turn=True)
    change = lambda **x: dataclasses.replace(base, **x)  # noqa: E731
    found = {"all points": base}
    if len(base.points) > 1:
        found |= {f"{kind} points alone": change(use=(kind,)) for kind in base.points}
    found["one mode"] = change(hypotheses=1)
    found["without the half turn"] = change(half_turn=False)
    found["without refinement"] = change(iterations=0)
    if system.data.simulated:
        found["aligned to the events"] = change(align=base.align or ALIGN)
    if system.model.heads == "both":
        found["direct head"] = change(answer="direct")
    return found


def ablate(
    run: str,
    split: str,
    *,
    checkpoint: str = "best",
    fit: str = "train",
    calibrate: int = 256,
    examples: int | None = None,
) -> dict[str, dict[str, float]]:
    """Summaries of all ways on a split.

    Args:
      run: run folder, or whatever `posejax.load` takes.
      split: to be judged on.
      checkpoint: "best", "latest" or a step of a run folder.
      fit: split whose first `calibrate` examples each way's scales are fitted on.
      examples: the first so many of the split; None for all.

    Raises:
      ValueError: `fit` is `split`, or the system has no heatmaps.
    """
    if fit == split:
        raise ValueError(f"{split} is judged on; calibrate on another split")
    loaded = posejax.load(run, checkpoint).predict
    params, state, experiment = loaded.params, loaded.state, loaded.experiment
    base: Any = experiment.system
    if not base.points:
        raise ValueError(f"{run}: the network has no heatmaps")
    ways = ways_of(base)
    own = {f.name: getattr(base, f.name) for f in dataclasses.fields(Eventpose)}
    system = Ways(**{**own, "keypoints": ways["all points"]}, ways=ways)
    state = {**state, "hypothesis_scale": dict.fromkeys(ways, state["hypothesis_scale"])}
    parts, train = setup.open_split(experiment, split), experiment.train
    size = train.evaluation.batch_size or train.batch_size
    evaluator = Evaluator(system, parts.mesh, size, train.data)
    everywhere = sharding.replicated(parts.mesh)
    params, state = jax.device_put((params, state), everywhere)
    for _ in range(2 if calibrate else 0):  # as in posejax.evaluate: one scale depends on the other
        records = evaluator.run(params, state, parts.eval_examples(fit), calibrate).records
        scales = {}
        for name in ways:
            one = {**state, "hypothesis_scale": state["hypothesis_scale"][name]}
            fitted = system.asked(name).calibrate(one, system.of(name, records))
            scales[name] = fitted["hypothesis_scale"]
        state = jax.device_put({**state, "hypothesis_scale": scales}, everywhere)
    records = evaluator.run(params, state, parts.examples, examples).records
    return {name: system.asked(name).summarize(system.of(name, records)) for name in ways}


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a row for each way, single windows, then over time."""
    lines = [f"| way | {' | '.join(COLUMNS)} | over time: {' | '.join(COLUMNS)} | coverage |"]
    lines.append("|---" * (2 * len(COLUMNS) + 2) + "|")
    for name, numbers in found.items():
        after = "tracked/" if "tracked/score" in numbers else "smoothed/"
        cells = [
            f"{numbers[p + key]:.{digits}f}" if p + key in numbers else "-"
            for p in ("", after)
            for key, digits in COLUMNS.values()
        ]
        coverage = numbers.get("coverage_95")
        cells.append("-" if coverage is None else f"{coverage:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", default="", help="trained run with keypoints")
    parser.add_argument("--checkpoint", default="best", help="best, latest or a step")
    parser.add_argument("--split", default="val")
    parser.add_argument("--fit", default="train", help="split that scales are fitted on")
    parser.add_argument("--calibrate", type=int, default=256, help="examples of it; 0 for none")
    parser.add_argument("--examples", type=int, default=None, help="the first so many; else all")
    parser.add_argument("--out", type=Path, default=None)
    options, _ = parser.parse_known_args()
    if not options.run:
        print("needs a run: python -m benchmarks.eventpose_ablation RUN")
        return
    found = ablate(
        options.run, options.split, checkpoint=options.checkpoint,
        fit=options.fit, calibrate=options.calibrate, examples=options.examples,
    )  # fmt: skip
    print(table(found))
    about = {
        "commit": commit(), "run": Path(options.run).name, "checkpoint": options.checkpoint,
        "split": options.split, "fit": options.fit, "calibrate": options.calibrate,
        "examples": options.examples,
    }  # fmt: skip
    write_results("eventpose_ablation", [], options.out, **about, ways=found)


if __name__ == "__main__":
    main()
