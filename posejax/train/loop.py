"""The training loop: compile, then step, watch, evaluate, save, until done or asked to stop."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax

from posejax import cli, config_io, report
from posejax.config import ConfigError, Experiment, RunOptions, RunResult, check_range, no_such
from posejax.data import pipeline
from posejax.data.dataset import unused_split
from posejax.train import (
    compilation,
    console,
    groups,
    lock,
    logging,
    profiling,
    replay,
    rundir,
    runtime,
    setup,
    signals,
    stages,
    weights,
)
from posejax.train.checkpoint import Checkpoints
from posejax.train.evaluation import Evaluated, pick_examples
from posejax.train.journal import Journal
from posejax.train.prefetch import Prefetcher
from posejax.train.setup import Parts
from posejax.train.step import TrainState
from posejax.train.timing import IntervalTimer

_PATIENCE = 5.0  # seconds of silence that need no announcement


def train(experiment: Experiment, options: RunOptions | None = None) -> RunResult:
    """Train an experiment in its run folder; continues the run that is there.

    Args:
      experiment: everything that decides the result.
      options: where the run lives, how it is watched.

    Returns:
      What is in the folder afterwards. `interrupted` tells that SIGTERM or SIGINT ended it early.

    Raises:
      ResumeError: the folder holds another run, or cannot be written.
      InUseError: another process trains in the folder, or has taken it over from this one.
      CheckpointError: a checkpoint could not be written or read.
      NonFiniteError: too many steps in a row without a finite gradient.
      DataError: a record could not be read.
      ConfigError: a setting does not fit the data, the devices or the parameters.
    """
    options = options or RunOptions()
    runtime.start(options)
    runtime.check_same(experiment, options)
    setup.check(experiment)
    check_range("--log.every", options.log.every, 1)
    check_range("--profile.start", options.profile.start, 0)
    check_range("--profile.steps", options.profile.steps, 0)
    workdir = (options.workdir or Path("runs") / experiment.name).resolve()
    rundir.check_writable(workdir)
    rule = experiment.train

    def opened(step: int | None = None) -> Parts:
        if step is None:
            experiment.system.check_start()
        if jax.process_index() == 0 and options.log.view != "quiet":
            print(f"{experiment.name}: opening the data, setting up", flush=True)
        return setup.assemble(experiment)

    parts = None
    if runtime.as_first(not workdir.exists()):  # a start that fails leaves no folder behind
        rundir.check(workdir, experiment, options.resume, None)
        parts = opened()
    rundir.make(workdir)
    with (
        lock.Lock(workdir, enabled=jax.process_index() == 0) as held,
        Checkpoints(workdir, rule.checkpoint, rule.evaluation.split) as checkpoints,
    ):
        changes = rundir.check(workdir, experiment, options.resume, checkpoints.latest())
        with Run(parts or opened(checkpoints.latest()), options, workdir, checkpoints, held) as run:
            for line in (*checkpoints.set_aside, *run.log.remarks):
                run.view.message(line)
            for line in changes:
                run.view.message(f"config changed: {line}")
            interrupted = run.loop()
    log = logging.read(workdir / logging.METRICS)
    return RunResult(experiment, workdir, run.step, interrupted, log)


class Run:
    """One process's share of a training run; owns the logs, the display and the data readers."""

    def __init__(
        self,
        parts: Parts,
        options: RunOptions,
        workdir: Path,
        checkpoints: Checkpoints,
        held: lock.Lock,
    ):
        self._resources = contextlib.ExitStack()
        self.parts, self.options, self.workdir = parts, options, workdir
        self.checkpoints, self.held = checkpoints, held
        self.step = checkpoints.latest() or 0
        self.first = jax.process_index() == 0
        log = options.log
        saved = checkpoints.meta(self.step) if checkpoints.latest() is not None else {}
        size = saved.get("log_bytes")
        self.log = logging.RunLog(workdir, self.step, log.tensorboard, self.first, size)
        self._resources.callback(self.log.close)
        # A run may end between a checkpoint and its evaluation, which is then still to be made.
        self.due = runtime.as_first(
            bool(saved.get("evaluate")) and not self.log.has_evaluation(self.step)
        )
        self.saved = self.step
        self.view = console.make_display(
            log.view if self.first else "quiet", parts.steps, self.step, parts.train.columns
        )
        self._resources.callback(self.view.close)
        self.journal = Journal(
            log.every, parts.train.nonfinite, workdir, self.view, self.log.write, self._rates
        )
        self.evaluator = parts.evaluator()
        self.val_seconds: float | None = None  # what the last evaluation took
        self.timer: IntervalTimer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._resources.__exit__(*error)

    def loop(self) -> bool:
        """Run to the end; True if a signal ended it before."""
        parts = self.parts
        if self.options.debug.replay:
            self.view.message(replay.explain(parts, self._state(), self.options.debug.replay))
            return False
        if self.step >= parts.steps and not self.due:
            self.view.message(self._already_complete())
            return False
        state = self._state()
        if self.first:
            config_io.save(parts.experiment, self.workdir / rundir.CONFIG)
            config_io.write_json(self.workdir / "versions.json", runtime.versions())
        self._introduce(state)
        if self.due:
            self._evaluate(state)
        if self.step >= parts.steps:
            return self._complete()
        interrupt = self._resources.enter_context(signals.Interrupt())
        stage = groups.stage_of(parts.optimizer.members, self.step)
        step = self._trace(stage)
        self._check_names()
        call = self._compile(step, stage)
        phases = self._phases(state) if self.options.log.phases else {}
        if self.options.profile.stages:
            self._stages(state)
        batches = self._batches()
        self.timer = IntervalTimer(parts, batches, phases)
        self.view.message(console.legend(bool(phases)))
        profiler = self._resources.enter_context(
            profiling.StepTrace(self.options.profile, self.workdir)
        )
        began = self.step
        while self.step < parts.steps:
            if groups.stage_of(parts.optimizer.members, self.step) != stage:
                stage = groups.stage_of(parts.optimizer.members, self.step)
                call = self._compile(self._trace(stage), stage)
            loaded = batches.take(interrupt.pending)
            if loaded is None:  # asked to stop while waiting for data, which may never come
                self.journal.drain()
                if self.step > self.saved:
                    self._save(state)
                return self._leave(interrupt)
            with profiler.step(self.step - began, self.step):
                state, packed = call(state, loaded.device)
            self.step += 1
            self.held.check()
            self.journal.add(self.step, packed, loaded)
            stop = interrupt.reached(self.step) and self.step < parts.steps
            self._between(state, stop)
            if stop:
                return self._leave(interrupt)
        return self._complete()

    def _leave(self, interrupt: signals.Interrupt) -> bool:
        self.checkpoints.wait()
        self.view.message(
            f"{interrupt.received}: saved at step {self.step}; "
            "run the same command again to continue"
        )
        return True

    def _complete(self) -> bool:
        self.checkpoints.wait()
        self.view.message(
            f"{self.workdir}: complete, {self.parts.steps} steps; evaluate it: "
            f"{self._evaluation_command()}"
        )
        return False

    # ---- beginning

    def _state(self) -> TrainState:
        """From the newest checkpoint; else from `init_from`; else from scratch."""
        parts = self.parts
        if self.checkpoints.latest() is not None:
            self.journal.load(self.checkpoints.meta(self.step)["journal"])
            self.view.message(f"{self.workdir}: continue from step {self.step} of {parts.steps}")
            return self.checkpoints.restore(self.step, parts.target)
        state = parts.init()
        if parts.train.init_from is not None:
            path, system = Path(parts.train.init_from), parts.system
            name = type(system).__name__
            state, told = weights.initialize(state, path, system.calibration, name)
            self.view.message(told)
        return state

    def _introduce(self, state: TrainState) -> None:
        parts = self.parts
        where = {p: m.label for m in parts.optimizer.members for p in m.paths}
        most = None if self.options.log.parameters else 0
        text = groups.parameter_table(state.params, where, most)
        kind = parts.mesh.devices.flat[0].device_kind
        self.view.message(
            f"{parts.experiment.name}: {text}\n{len(parts.examples.source):,} examples, "
            f"{parts.steps:,} steps of {parts.train.batch_size} "
            f"({parts.epoch(parts.steps):.3g} epochs) on "
            f"{console.devices(parts.mesh.shape, kind)}; {self.workdir}"
        )
        if parts.train.batch_size > len(parts.examples.source):
            self.view.message(
                f"train.batch_size {parts.train.batch_size} is more than the split has: every "
                "batch holds some examples more than once"
            )
        for line in pipeline.left_out(parts.examples.source):
            self.view.message(line)

    def _already_complete(self) -> str:
        return (
            f"{self.workdir}: already complete at step {self.step}. Evaluate it: "
            f"{self._evaluation_command()}; train it longer: raise train.steps or train.epochs "
            "with --resume.allow-config-change; train anew: another --workdir"
        )

    def _evaluation_command(self) -> str:
        chosen = self.parts.train.evaluation.split
        split = unused_split(self.parts.system.data, chosen) or chosen
        return f"{cli.command('eval')} --workdir {self.workdir} --split {split}"

    def _trace(self, stage: int) -> compilation.Step:
        """The step of a stage of unfreezing, not compiled yet; the journal learns its scalars."""
        self.journal.drain()
        step, self.journal.names = compilation.packed_step(self.parts, stage)
        return step

    def _check_names(self) -> None:
        """Refuse a mistyped name before the first step, not at the first evaluation.

        Raises:
          ConfigError: no evaluation will have `best_metric`, or nothing fills one of `columns`.
        """
        parts, target = self.parts, self.parts.target
        measured = self.evaluator.names(target.eval_params(), target.model_state, parts.batch)
        if measured is None:
            return
        name = parts.train.checkpoint.best_metric
        if name not in measured:
            hint = no_such(name, measured, "the evaluation has")
            raise ConfigError(f"train.checkpoint.best_metric: {hint}")
        known = list(dict.fromkeys([*self.journal.names, *measured]))
        for name in parts.train.columns:
            if name not in known:
                hint = no_such(name, known, "there are")
                raise ConfigError(f"train.columns: {hint} --train.columns picks others")

    def _compile(self, step: compilation.Step, stage: int) -> compilation.Step:
        """The program of a traced step."""
        parts = self.parts
        if self.options.debug.checks:
            return compilation.compile_checked(step)
        if self.options.debug.nans:
            return jax.jit(step)  # keeps its inputs, to run them again one operation at a time
        self.view.message("compiling the train step (once; kept in the cache for the next start)")
        program = compilation.compile_step(step, parts)
        trained = ", ".join(m.label for m in parts.optimizer.trained(stage))
        name = "train step" + (f" from step {stage} on (trains {trained})" if stage else "")
        self.view.message(program.describe(name))
        self.log.note(
            {
                "kind": "compile",
                "step": self.step,
                "stage": stage,
                "seconds": program.seconds,
                "flops": program.flops,
                "temporary_bytes": program.temporary,
            }
        )
        return program.call

    def _phases(self, state: TrainState) -> dict[str, float]:
        parts = self.parts
        self.view.message("measuring predict, loss and backward (compiles three programs)")
        batch = parts.place(parts.first_batch())
        return profiling.measure_phases(parts.system, state, batch, parts.step_key())

    def _stages(self, state: TrainState) -> None:
        parts = self.parts
        self.view.message("measuring the system's stages (compiles each apart)")
        rows = stages.measure(parts.system, state, parts.place(parts.first_batch()))
        self.view.message(stages.table(rows))
        for row in rows:
            self.log.note({"kind": "stage", "step": self.step, **row._asdict()})

    def _batches(self) -> Prefetcher:
        parts, data = self.parts, self.parts.train.data
        processes = (jax.process_index(), jax.process_count())
        local = parts.train.batch_size // processes[1]
        batches = pipeline.train_batches(
            parts.examples,
            seed=parts.experiment.seed,
            batch_size=local,
            start=self.step,
            process=processes,
        )
        iterator = self._resources.enter_context(
            pipeline.iterate(
                batches, workers=data.workers, threads=data.threads, prefetch=data.prefetch
            )
        )
        return self._resources.enter_context(
            Prefetcher(iterator, parts.placement, data.device_prefetch, parts.resident)
        )

    # ---- between two steps

    def _between(self, state: TrainState, stop: bool) -> None:
        """Epoch line, evaluation, checkpoint, table row: whichever are due after this step."""
        train, step = self.parts.train, self.step
        last = step == self.parts.steps
        # A large batch may end several epochs in one step.
        before, epoch = self.parts.epochs_done(step - 1), self.parts.epochs_done(step)
        end_of_epoch = epoch > before
        due, every = train.evaluation, train.checkpoint.every_steps
        if due.every_steps:
            evaluate = last or step % due.every_steps == 0
        else:
            n = due.every_epochs
            evaluate = last or (n > 0 and epoch // n > before // n)
        save = stop or evaluate or (step % every == 0 if every else end_of_epoch)
        if not (save or end_of_epoch):
            return
        self.journal.drain()
        means: Mapping[str, float] = {}
        if end_of_epoch or last:
            means = self.journal.epoch.pop()
            self.log.write(
                {"kind": "epoch", "step": step, "epoch": self.parts.epoch(step), **means}
            )
        assert self.timer is not None
        if save:
            self.timer.timed("ckpt", self._save, state, evaluate)
        result = None
        if evaluate and not stop:  # stopped, the next start makes the evaluation
            result = self.timer.timed("eval", self._evaluate, state)
        if end_of_epoch or evaluate:
            row, line = self.timer.row(step, means, result)
            self.log.note(line)
            self.view.row(row)

    def _evaluate(self, state: TrainState) -> Evaluated:
        rule, val, step = self.parts.train.evaluation, self.parts.val, self.step
        params = state.eval_params()
        count = min(rule.examples or len(val.source), len(val.source))
        if self.val_seconds is None:
            self.view.message(f"evaluating {count:,} examples of {rule.split} (compiles first)")
        elif self.val_seconds > _PATIENCE:
            took = console.duration(self.val_seconds)
            self.view.message(f"evaluating {count:,} examples of {rule.split} (about {took})")
        begin = time.perf_counter()
        result = self.evaluator.run(params, state.model_state, val, rule.examples)
        self.val_seconds = time.perf_counter() - begin
        self.held.check()
        name = self.parts.train.checkpoint.best_metric
        if name not in result.summary:
            hint = no_such(name, list(result.summary), "the evaluation has")
            raise ConfigError(f"train.checkpoint.best_metric: {hint}")
        for text in result.failures:
            self.view.message(f"evaluation: skipped {text}")
        if rule.report:
            folder = self.workdir / "reports" / f"step_{step:08d}"
            self.view.message(f"writing the report to {folder}")
            chosen = pick_examples(result.records, worst=6, random=6)
            shown = self.evaluator.show(params, state.model_state, val, chosen)
            if self.first:
                made = self.parts.system.report(result.records, result.summary, shown)
                notes = f"{self.parts.experiment.name} on {rule.split} at step {step:,}"
                made = dataclasses.replace(made, notes=notes)
                report.write(made, folder)
                self.log.figures(made.figures(), step)
        self.checkpoints.rate(step, result.summary[name])
        # Last: the line says that nothing of the evaluation is still to be done.
        head = {"kind": "eval", "step": step, "epoch": self.parts.epoch(step), "split": rule.split}
        self.log.write({**head, **result.summary})
        return result

    def _save(self, state: TrainState, evaluate: bool = False) -> None:
        self.held.check()
        meta = {
            "journal": self.journal.save(),
            "versions": runtime.versions(),
            "log_bytes": self.log.sync(),
            "evaluate": evaluate,  # whether an evaluation of this state follows
        }
        self.checkpoints.save(state, self.step, meta)
        self.saved = self.step

    def _rates(self) -> Mapping[str, float]:
        return {} if self.timer is None else self.timer.rates()
