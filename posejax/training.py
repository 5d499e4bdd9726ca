"""The command line of a training: one run, or the runs of a sweep and their table."""

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from posejax import cli
from posejax.config import RunResult

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def main(arguments: Sequence[str]) -> int:
    """What the arguments ask for; the exit status of the program."""
    try:
        request = cli.parse_train(arguments)
        if request.print_config:
            print("\n\n".join(cli.describe(e) for e in request.experiments))
            return 0
        cli.check_trainable(request)
    except cli.ConfigError as error:
        cli.fail(error)
    return run(request)


def run(request: cli.Request) -> int:
    """Train everything that was asked for; the exit status of the program."""
    # Here, so that a mistake on the command line is answered before jax is loaded.
    from posejax.data.errors import DataError
    from posejax.data.pipeline import WorkerError
    from posejax.train import CheckpointError, InUseError, NonFiniteError, ResumeError

    try:
        return _train_all(request)
    except CheckpointError as error:
        # A failed write leaves orbax's threads behind, whose tracebacks at the interpreter's end
        # would bury the one line that helps. Everything of ours is closed by now.
        with contextlib.suppress(SystemExit):
            cli.fail(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    # What the user can act on is told in one line; anything else keeps its traceback.
    except (
        NonFiniteError, InUseError, ResumeError, WorkerError, DataError, cli.ConfigError,
    ) as error:  # fmt: skip
        cli.fail(error)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        cli.fail(
            f"cannot write the run's files: {error}; make room and run the same command again: "
            "the checkpoints are intact"
        )


def _train_all(request: cli.Request) -> int:
    import jax

    from posejax.train import train

    if request.sweep is None:
        return _end(train(request.experiments[0], request.run))
    results: list[RunResult] = []
    for experiment in request.experiments:
        options = cli.sweep_options(request.run, request.sweep, experiment)
        results.append(train(experiment, options))
        if results[-1].interrupted:
            return _end(results[-1])
    if request.sweep.table and jax.process_index() == 0:
        text = request.sweep.table(results)
        folder = request.run.workdir or Path("runs") / request.sweep.name
        (folder / "table.md").write_text(text + "\n")
        print(text)
    return 0


def _end(result: RunResult) -> int:
    """Exit status of a run; an interrupted one ends here, whatever its readers still do."""
    import jax

    if result.interrupted and jax.process_count() == 1:
        # A reader that hangs in a thread would keep the interpreter from ending.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0
