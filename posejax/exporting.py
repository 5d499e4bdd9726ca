"""The command line of `python -m posejax export`: a run's weights, or a program, as one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from posejax import cli
from posejax.config import ConfigError, Experiment, no_such

Platform = Literal["cpu", "cuda", "tpu"]


@dataclass(frozen=True)
class ExportCommand:
    """Write a run's weights to one file, or with --program what it computes, for other runtimes.

    Weights are for `posejax.load` and evaluations. A program (docs/deployment.md) is StableHLO: it
    is read back and run, its operators are listed in FILE.json, and checked with --rules.

    Attributes:
      run: run folder, RUN/checkpoints/STEP, weights file or name of shipped weights.
      file: .npz or .safetensors for weights; .jaxexport (for jax) or .mlirbc (portable StableHLO)
        for a program.
      which: best, latest or a step; ignored when `run` names one.
      half: weights in float16, half the size; errors of at most 5e-4 of each value, or 3e-8.
      program: predict, of every system; match or features, of tinyroma.
      size: WIDTHxHEIGHT of the images, or any; of programs that leave it open.
      platforms: of the program; operators are those of the first.
      weights: inside the program as constants, or beside it in FILE.weights.npz.
      rules: what a target compiles: npu, or a file. Exit status 1 if the program asks for more.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    which: str = "best"
    half: bool = False
    program: str | None = None
    size: str | None = None
    platforms: tuple[Platform, ...] = ("cpu", "cuda", "tpu")
    weights: Literal["inside", "beside"] = "inside"
    rules: str | None = None


def main(arguments: Sequence[str]) -> int:
    """What the arguments ask for; the exit status of the program."""
    from posejax.data.errors import DataError
    from posejax.train import CheckpointError, export

    try:
        command = cli.parse(ExportCommand, arguments, program=cli.command("export"))
        if command.program is not None:
            return export_program(command)
        if command.file.suffix in (".jaxexport", ".mlirbc"):
            raise ConfigError(f"{command.file}: holds a program; say which with --program NAME")
        print(export(command.run, command.file, command.which, half=command.half))
    except (ConfigError, CheckpointError, DataError, ImportError) as error:
        cli.fail(error)
    return 0


def export_program(command: ExportCommand) -> int:
    """Write a program, tell what it is made of; 1 if the rules object."""
    from posejax import deploy
    from posejax.train import weights

    name, size = command.program or "", parse_size(command.size)
    if command.half:
        raise ConfigError("--half: of weights alone; a program keeps its parameters as they are")
    if not command.platforms:
        raise ConfigError("--platforms: give some of cpu, cuda, tpu")
    rules = deploy.read_rules(command.rules) if command.rules else None
    found = weights.load(command.run, command.which)
    if found.experiment is None:
        raise ConfigError(f"{command.run}: no experiment is saved with these weights")
    experiment: Experiment = found.experiment
    example = partial(_example, experiment)
    programs = experiment.system.programs(found.params, found.state, example)
    if name not in programs:
        raise ConfigError(f"--program {no_such(name, list(programs), 'there are')}")
    program = programs[name]()
    if program.sized and command.size is None:
        raise ConfigError(f"--program {name}: give --size WIDTHxHEIGHT, e.g. 640x320, or any")
    if size is not None and not program.sized:
        raise ConfigError(f"--size: the inputs of {name} have the sizes of the data")
    try:
        made = deploy.write(
            command.file, program, size,
            platforms=command.platforms, weights=command.weights, rules=rules,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"--program {name}: {error}") from error
    for file in made.files:
        print(f"{file}  {file.stat().st_size / 1e6:.2f} MB")
    run = "not run here: none of its platforms"
    if made.difference is not None:
        run = f"run again: outputs differ by {made.difference:.1e} of their largest value"
    print(f"{len(made.operators)} operators; {run}")
    for finding in made.findings:
        print(f"\n{finding}")
    if rules:
        print(f"\n{len(made.findings)} findings against the rules {rules.name}")
    return 1 if made.findings or (made.difference or 0) > 1e-3 else 0


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(height, width) of "WIDTHxHEIGHT"; None for "any".

    Raises:
      ConfigError: neither.
    """
    if text is None or text == "any":
        return None
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"--size {text!r}: expected WIDTHxHEIGHT, e.g. 640x320, or any")
    return int(height), int(width)


def _example(experiment: Experiment):
    """A batch of one of the validation split."""
    from posejax.train import setup

    return setup.open_split(experiment, experiment.train.evaluation.split, 1).batch_of_one
