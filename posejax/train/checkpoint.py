"""Checkpoints: asynchronous, whole or absent, the newest N and the best N kept (orbax inside).

A checkpoint at step s holds the state after s steps, which is also the position in the data, and
the host's running sums; with metrics.jsonl cut back to step s it is all that a resume needs.
"""

import contextlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from posejax.config import Checkpoint
from posejax.train.step import TrainState

MODEL, TRAINER, META = "model", "trainer", "meta"
_PARTIAL = "*orbax-checkpoint-tmp*"  # folders of writes that were cut off
_MODEL_PARTS = ("params", "model_state", "ema")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message says what to do."""


class Checkpoints:
    """The checkpoints of one run, in `workdir/checkpoints/STEP`.

    Use as a context manager: leaving it waits for the write in progress and raises its error.
    """

    def __init__(self, workdir: Path, rule: Checkpoint | None = None, *, write: bool = True):
        self.folder = workdir.resolve() / "checkpoints"
        self._rule = rule or Checkpoint()
        self._writable = write
        sign = 1.0 if self._rule.best_mode == "max" else -1.0

        def quality(metrics: Mapping[str, float]) -> float:
            return sign * float(metrics["best"])

        keep: list[policies.PreservationPolicy] = [policies.LatestN(max(1, self._rule.keep_latest))]
        if self._rule.keep_best > 0:
            keep.append(
                policies.BestN(
                    get_metric_fn=quality,
                    n=self._rule.keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(keep),
            # Without it the metrics would not be written, and a resumed run would forget which
            # checkpoint was best. It does not delete: max_to_keep is not given.
            best_fn=quality,
            # Its cleaning thread outlives `close`, and at an early end prints over our one line:
            # started only where a killed run has left something to clean.
            cleanup_tmp_directories=self._writable and any(self.folder.glob(_PARTIAL)),
            read_only=not self._writable,
            save_interval_steps=1 if self._writable else 0,  # else it warns at every reading
            create=self._writable,
            enable_async_checkpointing=self._writable,
        )
        with contextlib.ExitStack() as quiet, _explained(self.folder, writing=self._writable):
            quiet.enter_context(_orbax_quiet())
            if self._writable:
                self.folder.mkdir(parents=True, exist_ok=True)
            elif not self.folder.is_dir():
                raise CheckpointError(f"{self.folder}: no checkpoints; is this a run folder?")
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_names=(MODEL, TRAINER, META)
            )
            self._quiet = quiet.pop_all()  # until closed: its threads log while it is open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            with self._quiet, _explained(self.folder, writing=self._writable):
                self._manager.close()
        except CheckpointError:
            if error is None:  # else the error that ended the run matters more
                raise

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps(read=True))

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Step of the best evaluated checkpoint, the newest one if none was evaluated."""
        sign = 1 if self._rule.best_mode == "min" else -1
        rated = []
        for step in self.steps():
            value = self.metrics(step).get("best")
            if value is not None and math.isfinite(value):
                rated.append((sign * value, step))
        return min(rated)[1] if rated else self.latest()

    def metrics(self, step: int) -> Mapping[str, float]:
        """Metrics saved with a checkpoint; `best` is the one that decides."""
        path = self.folder / str(step) / "metrics" / "metrics"
        return json.loads(path.read_text()) if path.is_file() else {}

    def save(
        self,
        state: TrainState,
        step: int,
        meta: Mapping[str, Any],
        best_metric: float | None = None,
    ) -> None:
        """Start writing the state after `step` steps; returns as soon as it is copied."""
        parts = state._asdict()
        model = {k: parts.pop(k) for k in _MODEL_PARTS}
        metrics = None
        if best_metric is not None:
            worst = math.inf if self._rule.best_mode == "min" else -math.inf
            metrics = {"best": best_metric if math.isfinite(best_metric) else worst}
        with _explained(self.folder):
            self._manager.wait_until_finished()  # raises what the previous write met
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    model=ocp.args.StandardSave(model),
                    trainer=ocp.args.StandardSave(parts),
                    meta=ocp.args.JsonSave(dict(meta)),
                ),
                metrics=metrics,
            )

    def wait(self) -> None:
        """Block until the write in progress is complete."""
        with _explained(self.folder):
            self._manager.wait_until_finished()

    def meta(self, step: int) -> dict[str, Any]:
        """What was saved beside the state."""
        path = self.folder / str(step) / META / "metadata"
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error

    def restore(self, step: int, target: TrainState) -> TrainState:
        """State of a checkpoint, laid out as `target` (shapes with shardings) asks.

        The devices may be others, and another number of them, than those it was saved from.
        """
        parts = target._asdict()
        model = {k: parts.pop(k) for k in _MODEL_PARTS}
        found = self._restore(
            step,
            model=ocp.args.StandardRestore(model),
            trainer=ocp.args.StandardRestore(parts),
        )
        return TrainState(**found[MODEL], **found[TRAINER])

    def restore_model_as_saved(self, step: int) -> dict[str, Any]:
        """`params`, `model_state` and `ema` as NumPy arrays, whatever they were saved from."""
        self._check(step)
        path = self.folder / str(step) / MODEL
        with ocp.PyTreeCheckpointer() as reader:
            saved: Any = reader.metadata(path).item_metadata
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved.tree)
            return reader.restore(path, ocp.args.PyTreeRestore(restore_args=as_numpy))

    def _check(self, step: int) -> None:
        if step not in self.steps():
            raise CheckpointError(
                f"{self.folder}: no checkpoint of step {step}; there are {self.steps()}"
            )

    def _restore(self, step: int, **items: Any) -> Any:
        self._check(step)
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self.folder / str(step)}: does not fit the model of this config, or is damaged "
                "(then remove it, and the one before it is used): " + str(error)[:300]
            ) from error


def find_checkpoint(path: Path) -> tuple[Path, int | None]:
    """Run folder and step of a user's path: RUN, RUN/checkpoints or RUN/checkpoints/STEP."""
    path = path.resolve()
    if path.name.isdigit() and path.parent.name == "checkpoints":
        return path.parent.parent, int(path.name)
    if path.name == "checkpoints":
        return path.parent, None
    if (path / "checkpoints").is_dir():
        return path, None
    raise CheckpointError(f"{path}: expected a run folder or RUN/checkpoints/STEP")


@contextlib.contextmanager
def _orbax_quiet() -> Iterator[None]:
    """Meanwhile orbax logs nothing below CRITICAL; all others log as they please.

    It warns about every default it takes, and its threads print what they raise here as well. Its
    messages go to absl's logger, so they are told apart by the file they come from.
    """

    def others(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.CRITICAL or "orbax" not in Path(record.pathname).parts

    logger = logging.getLogger("absl")
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


class _explained:
    """Turns what the file system says into what the user can do."""

    def __init__(self, folder: Path, *, writing: bool = True):
        self.folder, self.writing = folder, writing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, CheckpointError | KeyboardInterrupt):
            return
        text = f"{type(error).__name__}: {error}"
        if not isinstance(error, OSError | ValueError | RuntimeError):
            return
        if not self.writing:
            raise CheckpointError(
                f"{self.folder}: cannot read the checkpoints; is the folder readable, and whole? "
                f"({text[:300]})"
            ) from error
        hint = "the previous checkpoints are intact"
        if not os.access(_existing(self.folder), os.W_OK):
            hint = "the folder is not writable; choose another with --workdir"
        elif any(s in text for s in ("No space", "ENOSPC", "File too large", "EFBIG", "quota")):
            free = shutil.disk_usage(_existing(self.folder)).free / 2**20
            hint = (
                f"the disk is full or a quota reached ({free:.0f} MiB free); make room and run "
                "the same command again: the previous checkpoints are intact"
            )
        raise CheckpointError(
            f"{self.folder}: cannot write a checkpoint; {hint} ({text[:300]})"
        ) from error


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def abstract(state: Any, shardings: Any) -> Any:
    """Shapes, dtypes and shardings of a state: the target of a restore."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings
    )
