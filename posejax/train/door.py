"""What train_main.py does with a request: one run, or the runs of a sweep and their table."""

import errno
from pathlib import Path

import jax

from posejax import cli
from posejax.config import RunResult
from posejax.data.errors import DataError
from posejax.train.checkpoint import CheckpointError
from posejax.train.journal import NonFiniteError
from posejax.train.loop import train
from posejax.train.rundir import ResumeError

# What the user can act on is told in one line; anything else keeps its traceback.
_TOLD = (CheckpointError, NonFiniteError, ResumeError, DataError, cli.ConfigError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def run(request: cli.Request) -> int:
    """Train everything that was asked for; the exit status of the program."""
    try:
        if request.sweep is None:
            train(request.experiments[0], request.run)
            return 0
        results: list[RunResult] = []
        for experiment in request.experiments:
            options = cli.sweep_options(request.run, request.sweep, experiment)
            results.append(train(experiment, options))
            if results[-1].interrupted:
                return 0
        if request.sweep.table and jax.process_index() == 0:
            text = request.sweep.table(results)
            folder = request.run.workdir or Path("runs") / request.sweep.name
            (folder / "table.md").write_text(text + "\n")
            print(text)
        return 0
    except _TOLD as error:
        cli.fail(error)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        cli.fail(
            f"cannot write the run's files: {error}; make room and run the same command again: "
            "the checkpoints are intact"
        )
