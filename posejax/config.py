"""What an experiment is: frozen dataclasses that a config file makes and a command line overrides.

`Experiment` holds everything that decides a result; `RunOptions` holds what only decides where the
run lives and how it is watched. A resume compares the former and ignores the latter, and so do the
fields of an experiment that are marked `neutral` (worker processes, prefetch depth).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

S = TypeVar("S")


class ConfigError(ValueError):
    """A config file, a command line or a setting that cannot be used; says what could."""


def neutral(default: Any) -> Any:
    """A dataclass field that cannot change a result, so a resume may change it."""
    return field(default=default, metadata={"neutral": True})


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the steps. Durations below 1 are fractions of all steps, others steps.

    Attributes:
      kind: shape after the warm-up.
      peak: highest learning rate.
      warmup: duration of the rise from start * peak to peak: linear; half a cosine for
        one_cycle.
      start: rate at step 0 as a fraction of the peak; used when there is a warm-up.
      end: lowest rate of the cosine shapes as a fraction of the peak.
      period: cosine_restarts: duration of the first cycle.
      period_factor: cosine_restarts: each cycle is this much longer than the one before.
      restart_decay: cosine_restarts: peak of each cycle relative to the one before.
      milestones: multi_step: times at which the rate is multiplied by factor.
      factor: multi_step: multiplier at each milestone.
    """

    kind: Literal["constant", "cosine", "cosine_restarts", "one_cycle", "multi_step"] = "cosine"
    peak: float = 1e-3
    warmup: float = 0.0
    start: float = 0.0
    end: float = 0.0
    period: float = 0.25
    period_factor: float = 1.0
    restart_decay: float = 1.0
    milestones: tuple[float, ...] = (0.6, 0.85)
    factor: float = 0.1


@dataclass(frozen=True)
class Group:
    """Parameters whose path ("encoder/conv1/kernel") matches `pattern`.

    Attributes:
      pattern: regular expression, searched for in the parameter's path.
      name: name in the logs; the pattern if empty.
      lr: multiplier of the group's learning rate.
      schedule: schedule of its own instead of the optimiser's.
      frozen: never trained: no gradient is computed and the clip norm does not see it.
      unfreeze_at: frozen up to this time (fraction of all steps if below 1, else a step).
    """

    pattern: str
    name: str = ""
    lr: float = 1.0
    schedule: Schedule | None = None
    frozen: bool = False
    unfreeze_at: float = 0.0

    @property
    def label(self) -> str:
        return self.name or self.pattern


@dataclass(frozen=True)
class Optimizer:
    """Update rule.

    Attributes:
      kind: rule; weight decay is decoupled in all three.
      weight_decay: decoupled decay, multiplied by the learning rate.
      no_decay: regular expressions of parameter paths without decay.
      clip_norm: largest global norm of the gradient of the trained parameters; None for no
        clipping.
      b1: first moment (adamw, lion) or momentum (sgd).
      b2: second moment (adamw); second interpolation (lion: 0.99 is customary).
      eps: added to the root of the second moment (adamw), so that no gradient is divided by
        zero.
      nesterov: Nesterov's look-ahead of the first moment (adamw, sgd).
      groups: parameter groups; if any, every parameter must match exactly one.
    """

    kind: Literal["adamw", "sgd", "lion"] = "adamw"
    schedule: Schedule = Schedule()
    weight_decay: float = 1e-4
    no_decay: tuple[str, ...] = (r"(^|/)bias$", r"(^|/)scale$", r"(^|/)log_variance$")
    clip_norm: float | None = 1.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    nesterov: bool = False
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Data:
    """Input pipeline. Nothing here but on_error can change which examples a step sees.

    Attributes:
      workers: worker processes; 0 reads in threads of this process.
      threads: reader threads per process.
      prefetch: batches read ahead per reader process.
      device_prefetch: batches transferred to the devices ahead of the step.
      on_error: A record that cannot be read stops the run, or is counted and the next takes
        its place.
    """

    workers: int = neutral(0)
    threads: int = neutral(2)
    prefetch: int = neutral(4)
    device_prefetch: int = neutral(2)
    on_error: Literal["stop", "skip"] = "stop"


@dataclass(frozen=True)
class Sharding:
    """How the state is laid out over the devices; batches are always split over all of them.

    Attributes:
      fsdp: devices that share one copy of the large parameters; 1 replicates them, -1 for
        all.
      fsdp_min_size: parameters with fewer elements stay replicated.
      replicate: regular expressions of parameter paths that stay replicated whatever their
        size.
      devices: use the first N devices only; None for all.
    """

    fsdp: int = neutral(1)
    fsdp_min_size: int = neutral(2**16)
    replicate: tuple[str, ...] = neutral(())
    devices: int | None = neutral(None)


@dataclass(frozen=True)
class Evaluation:
    """Evaluation during training.

    Attributes:
      every_epochs: epochs between evaluations; ignored if every_steps is given; 0 for the end
        only.
      every_steps: steps between evaluations.
      split: split to evaluate.
      examples: evaluate the first N examples only; None for all.
      batch_size: examples per evaluation batch; None for the training batch size.
      report: write the system's report (pictures and tables) at every evaluation.
    """

    every_epochs: int = 1
    every_steps: int | None = None
    split: str = "val"
    examples: int | None = None
    batch_size: int | None = None
    report: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """What is kept on disk.

    Attributes:
      every_steps: steps between checkpoints; None for every epoch. What is evaluated is saved
        first, too.
      keep_latest: newest checkpoints to keep.
      keep_best: best checkpoints to keep besides.
      best_metric: number of the evaluation's summary that decides what is best.
      best_mode: whether a small or a large value is good.
    """

    every_steps: int | None = None
    keep_latest: int = neutral(2)
    keep_best: int = neutral(1)
    best_metric: str = "loss"
    best_mode: Literal["min", "max"] = "min"


@dataclass(frozen=True)
class NonFinite:
    """Steps whose loss or gradient is not finite change nothing and are counted.

    Attributes:
      stop_after: stop the run after this many in a row; 0 never stops it.
      replay_files: offending batches kept as npz files under replay/.
    """

    stop_after: int = 10
    replay_files: int = neutral(5)


@dataclass(frozen=True)
class TrainConfig:
    """Training of one experiment.

    Attributes:
      steps: optimiser steps; decides over epochs if both are given.
      epochs: passes over the train split.
      batch_size: examples per step over all devices.
      accumulate: micro-batches per step: the same update with 1/N of the activation memory.
      remat: recompute activations in the backward pass: all (full) or all but matrix products
        (dots).
      ema: decay of the moving average of the parameters, which evaluation and export then
        use.
      init_from: weights file, run folder or checkpoint that gives the initial parameters.
      columns: scalars of training and evaluation shown on screen; empty for the first few.
    """

    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 16
    accumulate: int = 1
    remat: Literal["none", "dots", "full"] = neutral("none")
    ema: float | None = None
    init_from: str | None = None
    columns: tuple[str, ...] = neutral(())
    optimizer: Optimizer = Optimizer()
    data: Data = Data()
    sharding: Sharding = Sharding()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    nonfinite: NonFinite = NonFinite()


@dataclass(frozen=True)
class Experiment(Generic[S]):
    """Everything that decides a result; `system` is the System to train.

    Attributes:
      name: name of the run folder.
      seed: initial parameters, order of the data, augmentation and noise are functions of it.
    """

    name: str
    system: S
    train: TrainConfig = TrainConfig()
    seed: int = 0


@dataclass(frozen=True)
class RunResult:
    """What a finished (or interrupted) run left behind.

    Attributes:
      log: lines of metrics.jsonl.
    """

    experiment: Experiment
    workdir: Path
    step: int
    interrupted: bool
    log: Sequence[Mapping[str, Any]]

    def lines(self, kind: str) -> list[Mapping[str, Any]]:
        """Lines of one kind: "train", "epoch", "eval", "nonfinite" or "data_error"."""
        return [line for line in self.log if line["kind"] == kind]

    def best(self) -> Mapping[str, Any] | None:
        """The evaluation line that is best by `train.checkpoint.best_metric`."""
        rule = self.experiment.train.checkpoint
        lines = [e for e in self.lines("eval") if e.get(rule.best_metric) is not None]
        pick = min if rule.best_mode == "min" else max
        return pick(lines, key=lambda e: e[rule.best_metric], default=None)


@dataclass(frozen=True)
class Sweep:
    """Experiments run one after the other, each in its own folder; then one table of all.

    Attributes:
      table: text printed, and written to table.md, when all have run.
    """

    name: str
    experiments: tuple[Experiment, ...]
    table: Callable[[Sequence[RunResult]], str] | None = None


@dataclass(frozen=True)
class Resume:
    """What to do when the run folder already holds a run.

    Attributes:
      mode: auto: continue if there is a checkpoint; never, must: an error if there is one, or
        none.
      allow_config_change: continue although the experiment differs from the one the run was
        started with.
    """

    mode: Literal["auto", "never", "must"] = "auto"
    allow_config_change: bool = False


@dataclass(frozen=True)
class Log:
    """What is written and shown.

    Attributes:
      every: steps between training lines in metrics.jsonl (means over the interval) and on
        screen.
      view: auto: live on a terminal, plain lines elsewhere.
      phases: measure predict, loss and backward separately once at the start (compiles them
        apart).
      tensorboard: write TensorBoard files, too (needs posejax[tensorboard]).
      parameters: print the table of all parameters at the start instead of its totals.
    """

    every: int = 10
    view: Literal["auto", "live", "plain", "quiet"] = "auto"
    phases: bool = False
    tensorboard: bool = False
    parameters: bool = False


@dataclass(frozen=True)
class Profile:
    """A profiler trace of a few steps, for Perfetto or xprof, and what a system's stages cost.

    Attributes:
      start: first step traced, counted from the start of this process.
      steps: steps traced; 0 for no trace.
      stages: measure the stages that the system names, each apart, once at the start: FLOPs,
        bytes, the least time that the device could need for them, and the time it takes.
    """

    start: int = 20
    steps: int = 0
    stages: bool = False


@dataclass(frozen=True)
class Debug:
    """Slow modes for finding faults.

    Attributes:
      nans: stop in the operation that makes the first NaN (jax_debug_nans).
      checks: check indices, divisions and NaNs inside the compiled step (checkify).
      replay: batch kept under replay/: say what breaks on it with the newest parameters, then
        stop.
    """

    nans: bool = False
    checks: bool = False
    replay: Path | None = None


@dataclass(frozen=True)
class Distributed:
    """Several processes, one per host or per device group.

    Attributes:
      mode: auto: SLURM, Cloud TPU and MPI tell the rest; manual: the options below do.
      coordinator: HOST:PORT of process 0.
      processes: number of processes.
      process: index of this process.
    """

    mode: Literal["off", "auto", "manual"] = "off"
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


@dataclass(frozen=True)
class RunOptions:
    """Where a run lives and how it is watched; never part of its result.

    Attributes:
      workdir: run folder; runs/NAME if not given.
      cache: folder of compiled programs: auto for the user's cache folder, off for none.
    """

    workdir: Path | None = None
    cache: str = "auto"
    resume: Resume = Resume()
    log: Log = Log()
    profile: Profile = Profile()
    debug: Debug = Debug()
    distributed: Distributed = Distributed()


def replace(config: Any, **changes: Any) -> Any:
    """`dataclasses.replace` that reaches inside: `replace(e, **{"train.steps": 10})`.

    Raises:
      KeyError: no such field; the message names the closest ones.
    """
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        if head not in {f.name for f in dataclasses.fields(config)}:
            raise KeyError(unknown_field(type(config), head))
        inner = replace(getattr(config, head), **{rest: value}) if rest else value
        config = dataclasses.replace(config, **{head: inner})
    return config


def unknown_field(cls: type, name: str) -> str:
    """Message for a field that `cls` does not have, with the closest ones that it has."""
    fields = [f.name for f in dataclasses.fields(cls)]
    return f"{cls.__name__} has no field {no_such(name, fields, 'it has')}"


def check_names(setting: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise ConfigError unless `names` are some of `known`, and at least one is given."""
    if not names:
        raise ConfigError(f"{setting}: empty; expected some of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ConfigError(f"{setting}: {no_such(name, known, 'expected some of')}")


def check_range(
    setting: str, value: float, low: float, high: float = math.inf, *, above: bool = False
) -> None:
    """Raise ConfigError unless `low` <= `value` <= `high` (`low` < with `above`).

    What is not finite never is.
    """
    if (value > low if above else value >= low) and value <= high and math.isfinite(value):
        return
    expected = f"{'more than' if above else '>='} {low}"
    if math.isfinite(high):
        expected += f" and at most {high}"
    raise ConfigError(f"{setting}: {value}; expected {expected}")


def no_such(name: str, known: Sequence[str], there_are: str) -> str:
    """`'nmae'; did you mean name?`, or what there is, the first dozen, if nothing is close."""
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"{name!r}; did you mean {' or '.join(close)}?"
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return f"{name!r}; {there_are} {', '.join(known[:12])}{more}"
