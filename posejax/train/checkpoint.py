"""Checkpoints: asynchronous, whole or absent, the newest N and the best N kept (orbax inside).

A checkpoint at step s holds the state after s steps, which is also the position in the data, and
the host's running sums; with metrics.jsonl cut back to step s it is all that a resume needs.
"""

import contextlib
import dataclasses
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from posejax import config_io
from posejax.config import Checkpoint
from posejax.train import durable
from posejax.train.step import TrainState

MODEL, TRAINER, META = "model", "trainer", "meta"
RATINGS = "ratings.json"  # of the run: what each evaluated checkpoint's best_metric was
_PARTIAL = "*orbax-checkpoint-tmp*"  # folders of writes that were cut off
_MODEL_PARTS = ("params", "model_state", "ema")


@dataclasses.dataclass
class _Keep(policies.PreservationPolicy):
    """orbax's question which checkpoints to keep, answered by a function of their steps."""

    choose: Callable[[Sequence[int]], set[int]]

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: policies.PreservationContext
    ) -> Sequence[bool]:
        kept = self.choose([c.step for c in checkpoints])
        return [c.step in kept for c in checkpoints]


class _Manager(ocp.CheckpointManager):
    """orbax's, which does not look for ratings of its own: a damaged one would stop it."""

    def metrics(self, step: int) -> None:
        return None


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message says what to do."""


class Checkpoints:
    """The checkpoints of one run, in `workdir/checkpoints/STEP`.

    Use as a context manager: leaving it waits for the write in progress and raises its error.

    Args:
      workdir: the run folder.
      rule: what to keep, and what is best; a reader goes by what the ratings there are of.
      split: the split that the evaluations rate.
      write: False changes nothing in the folder.
    """

    def __init__(
        self,
        workdir: Path,
        rule: Checkpoint | None = None,
        split: str = "val",
        *,
        write: bool = True,
    ):
        self.folder = workdir.resolve() / "checkpoints"
        self._rule, self._split = rule or Checkpoint(), split
        self._writable = write
        self._ratings: dict[int, float] = {}
        self.set_aside: list[str] = []  # lines about checkpoints that were not whole
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_Keep(self._kept),
            temporary_path_class=durable.DurablePath,
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
                self._set_aside()
            elif not self.folder.is_dir():
                raise CheckpointError(f"{self.folder}: no checkpoints; is this a run folder?")
            self._ratings = self._read_ratings()
            self._manager = _Manager(
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
        """Steps of the whole checkpoints, oldest first."""
        steps = sorted(self._manager.all_steps(read=True))
        if self._writable:  # what was not whole at the beginning is not there any more
            return steps
        return [s for s in steps if durable.fault(self.folder / str(s)) is None]

    def latest(self) -> int | None:
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """Step of the best evaluated checkpoint, the newest one if none was evaluated."""
        rated = self._best_first(self.steps())
        return rated[0] if rated else self.latest()

    def rate(self, step: int, value: float) -> None:
        """Note what the evaluation of a checkpoint gave: it decides which is best.

        The checkpoint may still be in writing. Also forgets ratings of later steps, as a run that
        was continued from an older checkpoint leaves them.
        """
        self._ratings = {k: v for k, v in self._ratings.items() if k < step} | {step: value}
        if jax.process_index() == 0:
            rows = {str(k): v if math.isfinite(v) else None for k, v in self._ratings.items()}
            with _explained(self.folder):
                path = self.folder.parent / RATINGS
                config_io.write_json(path, {**self._rated(), "ratings": rows})

    def _rated(self) -> dict[str, str]:
        """What the ratings are of: those of anything else cannot be compared with them."""
        rule = self._rule
        return {"metric": rule.best_metric, "mode": rule.best_mode, "split": self._split}

    def _read_ratings(self) -> dict[int, float]:
        """A damaged file costs the knowledge of what is best, and blocks nothing."""
        found: dict[int, float] = {}
        # Runs of posejax 0.1 kept them with each checkpoint.
        for path in self.folder.glob("[0-9]*/metrics/metrics"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found[int(path.parts[-3])] = float(json.loads(path.read_text())["best"])
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, KeyError):
            saved = json.loads((self.folder.parent / RATINGS).read_text())
            rows = saved
            if "ratings" in saved:  # else of a version that did not say what they are of
                rows, rated = saved.pop("ratings"), saved
                if self._writable and rated != self._rated():
                    return {}
                if not self._writable:
                    metric, mode = str(rated["metric"]), rated["mode"]
                    self._rule = dataclasses.replace(self._rule, best_metric=metric, best_mode=mode)
            found |= {int(k): math.nan if v is None else float(v) for k, v in rows.items()}
        return found

    def _best_first(self, steps: Sequence[int]) -> list[int]:
        """Those of the steps that have a finite rating; of equals the older one first."""
        sign = 1 if self._rule.best_mode == "min" else -1
        rated = [s for s in steps if math.isfinite(self._ratings.get(s, math.nan))]
        return sorted(rated, key=lambda s: (sign * self._ratings[s], s))

    def _kept(self, steps: Sequence[int]) -> set[int]:
        """Which of the steps to keep: the newest and the best, as the rule says."""
        newest = sorted(steps)[-max(1, self._rule.keep_latest) :]
        return {*newest, *self._best_first(steps)[: max(0, self._rule.keep_best)]}

    def _set_aside(self) -> None:
        if jax.process_index() == 0:
            self.set_aside = durable.set_aside(self.folder)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("posejax: damaged checkpoints are set aside")

    def save(
        self,
        state: TrainState,
        step: int,
        meta: Mapping[str, Any],
    ) -> None:
        """Start writing the state after `step` steps; returns as soon as it is copied."""
        parts = state._asdict()
        model = {k: parts.pop(k) for k in _MODEL_PARTS}
        with _explained(self.folder):
            self._manager.wait_until_finished()  # raises what the previous write met
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    model=ocp.args.StandardSave(model),
                    trainer=ocp.args.StandardSave(parts),
                    meta=ocp.args.JsonSave(dict(meta)),
                ),
            )

    def wait(self) -> None:
        """Block until the write in progress is complete, and only what is kept is there."""
        with _explained(self.folder):
            self._manager.wait_until_finished()
            steps = self.steps()
            for step in sorted(set(steps) - self._kept(steps)):
                self._manager.delete(step)

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
        try:
            with ocp.PyTreeCheckpointer() as reader:
                saved: Any = reader.metadata(path).item_metadata
                if saved is None:
                    raise ValueError("its list of arrays cannot be read")
                as_numpy = jax.tree.map(
                    lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved.tree
                )
                return reader.restore(path, ocp.args.PyTreeRestore(restore_args=as_numpy))
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"{path}: is damaged: {str(error)[:300]}") from error

    def _check(self, step: int) -> None:
        folder = self.folder / str(step)
        if not folder.is_dir():
            raise CheckpointError(
                f"{self.folder}: no checkpoint of step {step}; there are {self.steps()}"
            )
        # What a run continues from was compared when it set damaged ones aside.
        found = durable.fault(folder, contents=not self._writable)
        if found is not None:
            raise CheckpointError(f"{folder}: not whole ({found}); choose another checkpoint")

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
