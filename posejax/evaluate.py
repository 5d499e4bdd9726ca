"""Evaluation of a run, of a weights file, or of a system that has nothing to learn."""

import dataclasses
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posejax import cli, config_io, report
from posejax.config import (
    Debug,
    Distributed,
    Experiment,
    RunOptions,
    TrainConfig,
    check_range,
    no_such,
)
from posejax.data import pipeline
from posejax.data.dataset import unused_split
from posejax.data.errors import DataError
from posejax.data.pipeline import WorkerError
from posejax.train import comparison, rundir, runtime, setup, sharding, weights
from posejax.train.checkpoint import CheckpointError
from posejax.train.evaluation import named, pick_examples, worst_examples

_FEW = 12  # numbers that a person reads without being asked to


@dataclass(frozen=True)
class EvalOptions:
    """Options of an evaluation, given with --workdir RUN, or --config FILE and its overrides.

    Attributes:
      split: split to evaluate: train, val or test.
      checkpoint: best, latest or a step of the run; with --config a weights file, run or
        checkpoint folder, or the name of shipped weights; else the config's train.init_from.
      calibrate: examples, without augmentation, that System.calibrate is fitted on; 0 for none.
      calibrate_on: split that they are of; errors on train may be smaller than on any other.
      examples: evaluate the first N examples only.
      batch_size: examples per batch; the config's evaluation batch size if not given.
      worst: worst examples shown in the report.
      random: random examples shown in the report.
      report: write the system's report.
      all_numbers: print every number of the summary, not the headline alone; metrics.json has
        all.
      beside: other evaluations (their metrics.json, or its folder) to print this one's
        numbers beside.
      out: folder of the results; RUN/eval/SPLIT if not given.
      export: write the weights, with what was calibrated, to this .npz or .safetensors file.
      export_half: parameters of `export` in float16: half the size; errors of at most 5e-4 of
        each value, or 3e-8. What is evaluated is what is written.
      cache: folder of compiled programs: auto for the user's cache folder, off for none.
    """

    split: str = "val"
    checkpoint: str = "best"
    calibrate: int = 256
    calibrate_on: str = "train"
    examples: int | None = None
    batch_size: int | None = None
    worst: int = 12
    random: int = 12
    report: bool = True
    all_numbers: bool = False
    beside: tuple[Path, ...] = ()
    out: Path | None = None
    export: Path | None = None
    export_half: bool = False
    cache: str = "auto"


def evaluate(
    experiment: Experiment,
    options: EvalOptions | None = None,
    workdir: Path | None = None,
) -> dict[str, float]:
    """Evaluate an experiment on a split; writes metrics.json, records.npz and the report.

    With `options.beside` also beside.md: the numbers next to those of other evaluations.

    Args:
      experiment: config of the system; its seed gives the parameters of an untrained one.
      options: what to evaluate and where to write.
      workdir: run folder that holds the checkpoints; None for a weights file named by
        `options.checkpoint`, or a system without parameters, which needs none.

    Returns:
      The summary: mean loss, and what `System.summarize` makes of the records.

    Raises:
      CheckpointError: there are parameters, but no checkpoint to take them from.
      DataError: a record, or an evaluation named by `options.beside`, could not be read.
    """
    o = options or EvalOptions()
    folder = o.out or (workdir or Path("runs") / experiment.name) / "eval" / o.split
    for name in ("calibrate", "worst", "random"):
        check_range(f"--{name}", getattr(o, name), 0)
    for name in ("examples", "batch_size"):
        if getattr(o, name) is not None:
            check_range(f"--{name.replace('_', '-')}", getattr(o, name), 1)
    rundir.check_writable(folder, "--out")
    if o.calibrate and o.calibrate_on == o.split != "train":
        raise cli.ConfigError(
            f"--calibrate-on: {o.split} is what is evaluated; calibrate on another split"
        )
    others = [comparison.read_scores(path) for path in o.beside]
    runtime.start(RunOptions(None, o.cache, debug=Debug(), distributed=Distributed()))
    _say(f"{experiment.name}: opening {o.split}")
    parts = setup.open_split(experiment, o.split, o.batch_size)
    system, train, examples = parts.system, experiment.train, parts.examples
    evaluator = parts.evaluator(o.batch_size)
    params, state, source = _model(parts, o.checkpoint, workdir)
    rundir.make(folder, "--out")  # nothing that is mistyped comes this far
    everywhere = sharding.replicated(parts.mesh)
    if o.export and o.export_half:  # the numbers, and the calibration, of what is written
        params = jax.tree.map(lambda x: x.astype(np.float32), weights.to_half(params))
    params, state = jax.device_put((params, state), everywhere)

    calibrated = 0
    if o.calibrate > 0 and system.calibrates:
        fitted = parts.eval_examples(o.calibrate_on)
        count = min(o.calibrate, len(fitted.source))
        _say(f"calibrating on {count:,} examples of {o.calibrate_on}")
        # Twice: what is fitted second (a covariance) may depend on what is fitted first (a
        # temperature), and only a second pass sees it.
        for _ in range(2):
            fit = evaluator.run(params, state, fitted, o.calibrate).records
            found = _calibrate(system, state, fit)
            if found is state:  # nothing to fit, or nothing could be fitted
                break
            state, calibrated = jax.device_put(found, everywhere), len(fit["index"])
    if o.export:
        saved = weights.to_half(params) if o.export_half else params
        print(f"weights: {weights.save_weights(o.export, saved, state, experiment)}")
    total = min(o.examples or len(examples.source), len(examples.source))
    _say(f"evaluating {total:,} examples of {o.split}, {evaluator.batch_size:,} at a time")
    begin = time.perf_counter()
    result = evaluator.run(params, state, examples, o.examples)
    seconds = time.perf_counter() - begin
    records = named(result.records, examples.source)

    for text in (*pipeline.left_out(examples.source), *(f"skipped {t}" for t in result.failures)):
        _say(text)
    about = {
        "experiment": experiment.name,
        "split": o.split,
        "checkpoint": source,
        "examples": len(records["index"]),
        "worst": worst_examples(records, o.worst),
        "skipped": result.failures,
        "left_out": [list(pair) for pair in examples.source.skipped],
        "calibrated_on": calibrated,
        "seconds": seconds,
        "versions": runtime.versions(),
    }
    config_io.write_json(folder / comparison.METRICS, {"metrics": _finite(result.summary), **about})
    config_io.save(experiment, folder / rundir.CONFIG)
    weights.write_npz(folder / "records.npz", records)
    names = list(result.summary) if o.all_numbers else headline(result.summary, train)
    title = f"{experiment.name} on {o.split} ({source}), {len(records['index']):,} examples"
    print(table({k: result.summary[k] for k in names}, title))
    if len(names) < len(result.summary):
        more = len(result.summary) - len(names)
        print(f"  and {more} more in {comparison.METRICS}; --all-numbers prints them")
    if workdir is not None and o.checkpoint == "best" and o.split == train.evaluation.split:
        unused = unused_split(system.data, o.split)
        hint = f"; for examples that chose nothing: --split {unused}" if unused else ""
        print(f"{o.split} chose this checkpoint{hint}")
    if others:
        this = comparison.Scores(
            experiment.name, o.split, source, len(records["index"]), result.summary
        )
        text = comparison.side_by_side(this, others)
        (folder / "beside.md").write_text(text + "\n", encoding="utf-8")
        print(f"\n{text}\n")
    if o.report:
        _say("writing the report")
        positions = [*pick_examples(records, o.worst, o.random), *system.also_shown(records)]
        shown = evaluator.show(params, state, examples, positions)
        made = dataclasses.replace(system.report(records, result.summary, shown), notes=title)
        print(f"report: {report.write(made, folder)}")
    print(f"results: {folder}")
    return result.summary


def headline(summary: Mapping[str, float], train: TrainConfig) -> list[str]:
    """Names of the numbers that matter most: the loss, what selects checkpoints, and the columns.

    Without such columns the first few of the summary; a summary of up to `_FEW` numbers whole.
    """
    if len(summary) <= _FEW:
        return list(summary)
    columns = [k for k in train.columns if k in summary and k != "loss"]
    chosen = ["loss", train.checkpoint.best_metric, *(columns or list(summary)[:_FEW])]
    return [k for k in dict.fromkeys(chosen) if k in summary]


def table(summary: Mapping[str, float], title: str) -> str:
    """Names and numbers, aligned."""
    width = max(map(len, summary), default=0)
    rows = [f"  {k:{width}}  {'-' if np.isnan(v) else f'{v:.6g}'}" for k, v in summary.items()]
    return "\n".join([title, *rows])


def main(arguments: Sequence[str], defaults: EvalOptions | None = None, program: str = "") -> int:
    """The command line of an evaluation; `defaults` of its options, and how it is called."""
    try:
        experiment, options, workdir = parse(arguments, defaults, program)
        evaluate(experiment, options, workdir)
    except (cli.ConfigError, CheckpointError, DataError, WorkerError, rundir.ResumeError) as error:
        cli.fail(error)
    return 0


def parse(
    arguments: Sequence[str], defaults: EvalOptions | None = None, program: str = ""
) -> tuple[Experiment, EvalOptions, Path | None]:
    """Experiment, options and run folder that a command line asks for.

    Raises:
      ConfigError: neither --workdir nor --config, or the folder is not a run.
    """
    config, rest = cli.take_option(arguments, "--config")
    run, rest = cli.take_option(rest, "--workdir")
    workdir = Path(run) if run else None
    called, about = program or cli.command("eval"), "" if program else _usage()
    if config:
        found = cli.load_config(config)
        if not isinstance(found, Experiment):
            raise cli.ConfigError(f"{config}: is a sweep; evaluate its runs with --workdir RUN")
        experiment = found
    elif workdir:
        experiment = _of_run(workdir)
    elif {"-h", "--help"} & set(arguments):
        cli.parse(EvalOptions, ["--help"], program=called, about=about)
        raise SystemExit(0)
    else:
        raise cli.ConfigError(_usage())
    experiment, options = cli.parse_with(
        experiment, defaults or EvalOptions(), rest, program=called, about=about
    )
    return experiment, options, workdir


def _of_run(workdir: Path) -> Experiment:
    """Experiment of a run folder; anything else is answered with what it is."""
    path = workdir / rundir.CONFIG
    if not path.is_file():
        raise cli.ConfigError(
            f"{workdir}: no {rundir.CONFIG}; expected a run folder. A training makes one: "
            f"{cli.command('train')} --config NAME"
        )
    if (workdir / comparison.METRICS).is_file():
        name = comparison.read_scores(workdir).experiment
        run = workdir.parent.parent
        again = f"--workdir {run}" if (run / "checkpoints").is_dir() else f"--config {name}"
        raise cli.ConfigError(
            f"{workdir}: holds the results of an evaluation of {name}, not a run; read its "
            f"index.html, or evaluate again: {cli.command('eval')} {again}"
        )
    return config_io.load(path)


def _usage() -> str:
    program = cli.command("eval")
    return (
        f"usage: {program} --workdir RUN [--split test] [--checkpoint best|latest|STEP], or "
        f"{program} --config FILE [--checkpoint WEIGHTS|RUN|RUN/checkpoints/STEP]"
    )


def _model(parts: setup.Assembly, which: str, workdir: Path | None) -> tuple[Any, Any, str]:
    """Parameters, state and where they come from."""
    shapes, _ = parts.model_shapes
    if not jax.tree.leaves(shapes):
        return *parts.system.init(parts.init_key(), parts.batch_of_one), "no parameters"
    name, start = parts.experiment.name, parts.train.init_from
    of_run = which in ("best", "latest") or which.isdigit()
    if which == "best" and workdir is None and start is not None:
        model, source = weights.load(start, experiment=parts.experiment), start
    elif workdir is not None and of_run:
        model, source = weights.load(workdir, which, parts.experiment), which
    elif of_run:
        raise CheckpointError(
            f"{name}: the system has parameters; give --workdir RUN, or --checkpoint with a "
            f"weights file, a run folder or RUN/checkpoints/STEP (found {which!r})"
        )
    elif workdir is not None and not Path(which).exists() and which not in weights.shipped():
        known = ["best", "latest", *weights.shipped()]
        raise cli.ConfigError(
            f"--checkpoint: {no_such(which, known, 'expected a step, a path or')}"
        )
    else:
        model, source = weights.load(which, experiment=parts.experiment), which
    weights.check_fit(shapes, model, source, type(parts.system).__name__)
    return model.params, model.state, source


def _calibrate(system: Any, state: Any, records: Mapping[str, np.ndarray]) -> Any:
    """`System.calibrate`, with its warnings as lines for people."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = system.calibrate(state, records)
    for warning in caught:
        _say(f"note: {warning.message}")
    return found


def _say(text: str) -> None:
    """Progress and remarks; the results alone go to standard output."""
    if jax.process_index() == 0:
        print(text, file=sys.stderr, flush=True)


def _finite(summary: dict[str, float]) -> dict[str, float | None]:
    return {k: v if np.isfinite(v) else None for k, v in summary.items()}
