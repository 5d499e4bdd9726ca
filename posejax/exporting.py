"""The command line of `python -m posejax export`: a run's weights as one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from posejax import cli


@dataclass(frozen=True)
class ExportCommand:
    """Write the weights of a run to one file, which `posejax.load` and evaluations read.

    Attributes:
      run: run folder or RUN/checkpoints/STEP.
      file: .npz or .safetensors file to write.
      which: best, latest or a step; ignored when `run` names one.
      half: parameters in float16, half the size; errors of at most 5e-4 of each value, or 3e-8.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    which: str = "best"
    half: bool = False


def main(arguments: Sequence[str]) -> int:
    """What the arguments ask for; the exit status of the program."""
    from posejax.data.errors import DataError
    from posejax.train import CheckpointError, export

    try:
        command = cli.parse(ExportCommand, arguments, program=cli.command("export"))
        print(export(command.run, command.file, command.which, half=command.half))
    except (cli.ConfigError, CheckpointError, DataError) as error:
        cli.fail(error)
    return 0
