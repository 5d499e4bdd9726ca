"""The command line of `python -m posejax map`: recordings through a system that makes maps."""

import inspect
from collections.abc import Sequence

from posejax import cli
from posejax.config import ConfigError
from posejax.data.errors import DataError
from posejax.train import CheckpointError, rundir, weights

_WEIGHTS = "--weights RUN|FILE|NAME (or --workdir RUN)"


def main(arguments: Sequence[str]) -> int:
    """What the arguments ask for; the exit status of the program."""
    try:
        return _run(arguments)
    except (ConfigError, CheckpointError, DataError, rundir.ResumeError) as error:
        cli.fail(error)


def _run(arguments: Sequence[str]) -> int:
    program = cli.command("map")
    source, rest = cli.take_option(arguments, "--weights")
    run, rest = cli.take_option(rest, "--workdir")
    # Before the options of the experiment are known, which is saved with the weights.
    which, rest = cli.take_option(rest, "--which")
    if bool(source) == bool(run):
        usage = f"usage: {program} {_WEIGHTS} [--which best|latest|STEP] [OPTION VALUE ...]"
        if {"-h", "--help"} & set(rest):
            print(f"{usage}\n\nWith weights, --help lists all options.")
            raise SystemExit(0)
        raise ConfigError(usage)
    source = source or run or ""
    found = weights.load(source, which or "best")
    if found.experiment is None:
        raise ConfigError(f"{source}: no experiment is saved with these weights")
    system = found.experiment.system
    mapping = system.mapping()
    if mapping is None:
        raise ConfigError(f"{source}: weights of {type(system).__name__}, which makes no maps")
    options, run_maps = mapping
    experiment, options = cli.parse_with(
        found.experiment,
        options,
        rest,
        program=f"{program} --weights {source}",
        about=inspect.cleandoc(type(options).__doc__ or "").partition("Attributes:")[0].strip(),
    )
    run_maps(source, found.params, found.state, experiment, options)
    return 0
