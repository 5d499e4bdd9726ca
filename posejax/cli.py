"""The command line: a Python config file first, then typed overrides of anything in it."""

import dataclasses
import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, NoReturn, TypeVar

import tyro

from posejax import config_io
from posejax.config import ConfigError, Experiment, RunOptions, Sweep

S = TypeVar("S")
T = TypeVar("T")
STYLE = (tyro.conf.AvoidSubcommands,)


@dataclass(frozen=True)
class TrainCommand(Generic[S]):
    """Options of a training: the experiment's, then those of the run."""

    experiment: Annotated[Experiment[S], tyro.conf.arg(name="")]
    run: Annotated[RunOptions, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class EvalCommand(Generic[S, T]):
    """Options of an evaluation: the experiment's, then those of the evaluation."""

    experiment: Annotated[Experiment[S], tyro.conf.arg(name="")]
    options: Annotated[T, tyro.conf.arg(name="")]


def command(name: str) -> str:
    """How the program `name` ("train", "eval") is called here: a checkout has a script for it."""
    script = f"{name}_main.py"
    return f"python {script}" if Path(script).is_file() else f"python -m posejax {name}"


def eval_command(experiment: Experiment, options: type) -> Any:
    """`EvalCommand` typed for a given experiment."""
    return EvalCommand[type(experiment.system), options]  # type: ignore[misc]


@dataclass(frozen=True)
class Request:
    """What a command line asks for: one experiment, or several of a sweep.

    Attributes:
      config: the config file, as it was named.
    """

    experiments: tuple[Experiment, ...]
    run: RunOptions
    sweep: Sweep | None = None
    print_config: bool = False
    config: str = ""


def config_folders() -> list[Path]:
    """Where configs are found by name: the current folder's, the installed ones, a checkout's."""
    package = Path(__file__).parent
    return [Path("configs"), package / "configs", package.parent / "configs"]


def find_config(name: str | Path) -> Path:
    """The file that a name or a path stands for; a path that leads nowhere comes back as it is."""
    path = Path(name)
    if not path.is_file() and len(path.parts) == 1:
        for folder in config_folders():
            if (found := folder / f"{path.stem}.py").is_file():
                return found
    return path


def load_config(path: str | Path) -> Experiment | Sweep:
    """Result of `get_config()` of a config, given by its file or its name ("georeg_sim").

    Raises:
      ConfigError: no such file (names the closest ones), no `get_config`, or it returns something
        else than an Experiment or a Sweep.
    """
    path = find_config(path)
    if not path.is_file():
        folders = [path.parent] if len(path.parts) > 1 else []
        folder = next((f for f in [*folders, *config_folders()] if _configs(f)), Path())
        names = _configs(folder)
        close = difflib.get_close_matches(str(path), names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}"
        if not names:
            hint = "expected a Python file with get_config()"
        raise ConfigError(f"{path}: no such config file; {hint}")
    module = config_io.import_config_file(path)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path}: defines no get_config(); it returns an Experiment or a Sweep")
    found = module.get_config()
    if not isinstance(found, Experiment | Sweep):
        raise ConfigError(
            f"{path}: get_config() returned {type(found).__name__}; expected Experiment or Sweep"
        )
    return found


def _configs(folder: Path) -> list[str]:
    """Python files of a folder that define get_config()."""
    files = sorted(p for p in folder.glob("*.py") if p.is_file())
    return [str(p) for p in files if "def get_config" in p.read_text(errors="replace")]


def parse_train(arguments: Sequence[str]) -> Request:
    """Arguments of a training: `--config FILE [--OPTION VALUE ...]`."""
    path, rest = take_option(arguments, "--config")
    print_config, rest = take_flag(rest, "--print-config")
    if path is None:
        usage = (
            f"usage: {command('train')} --config FILE [--print-config] [OPTION VALUE ...]\n\n"
            "FILE is a Python file with get_config(), or the name of a config that comes with "
            "posejax; its --help lists every option:\n"
            f"  {command('train')} --config georeg_sim --help"
        )
        if {"-h", "--help"} & set(arguments):
            print(usage)
            raise SystemExit(0)
        raise ConfigError(f"--config is missing\n{usage}")
    found = load_config(path)
    if isinstance(found, Experiment):
        one = override(found, rest, path)
        return Request((one.experiment,), one.run, None, print_config, path)
    parsed = [override(e, rest, path) for e in found.experiments]
    experiments = tuple(p.experiment for p in parsed)
    names = [e.name for e in experiments]
    if len(set(names)) < len(names):
        raise ConfigError(f"{path}: experiments of a sweep need different names: {names}")
    return Request(experiments, parsed[0].run, found, print_config, path)


def check_trainable(request: Request) -> None:
    """Raise ConfigError unless every experiment says how long to train, before anything is made."""
    for experiment in request.experiments:
        if experiment.train.steps is None and experiment.train.epochs is None:
            raise ConfigError(
                f"{experiment.name}: nothing to train, its config gives no train.steps and no "
                f"train.epochs; evaluate it: {command('eval')} --config {request.config}"
            )


def override(experiment: Experiment, arguments: Sequence[str], prog: str = "") -> TrainCommand:
    """The experiment and run options with overrides such as `--train.steps 100` applied.

    Unknown options end the program with the closest ones that exist.
    """
    typed: Any = TrainCommand[type(experiment.system)]  # type: ignore[misc]
    return tyro.cli(
        typed,
        args=of_system(experiment, arguments),
        default=TrainCommand(experiment, RunOptions()),
        prog=f"{command('train')} --config {prog}",
        description=sys.modules[type(experiment.system).__module__].__doc__ or "",
        config=STYLE,
    )


def of_system(experiment: Experiment, arguments: Sequence[str]) -> list[str]:
    """Arguments with `--system.` put before options of the system that were named without it.

    `--data.root DIR` is `--system.data.root DIR`: the system is what people mean most of the time.
    """
    taken = {f.name for cls in (Experiment, RunOptions) for f in dataclasses.fields(cls)}
    own = {f.name for f in dataclasses.fields(experiment.system)} - taken
    return [
        f"--system.{item[2:]}"
        if item.startswith("--") and "." in item and item[2:].split(".")[0] in own
        else item
        for item in arguments
    ]


def take_option(arguments: Sequence[str], name: str) -> tuple[str | None, list[str]]:
    """Value of `name VALUE` or `name=VALUE`, and the other arguments."""
    rest, value, items = [], None, iter(arguments)
    for item in items:
        if item == name:
            value = next(items, None)
            if value is None:
                raise ConfigError(f"{name} needs a value")
        elif item.startswith(name + "="):
            value = item.partition("=")[2]
        else:
            rest.append(item)
    return value, rest


def take_flag(arguments: Sequence[str], name: str) -> tuple[bool, list[str]]:
    """Whether `name` is given, and the other arguments."""
    return name in arguments, [a for a in arguments if a != name]


def describe(experiment: Experiment) -> str:
    """The resolved config, one setting per line."""
    rows = config_io.flatten(experiment)
    return "\n".join(f"{k} = {v!r}" for k, v in rows.items() if not k.endswith(config_io.CLASS))


def fail(error: BaseException | str) -> NoReturn:
    """End the program with the error's message alone, exit status 1."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(1)


def sweep_options(run: RunOptions, sweep: Sweep, experiment: Experiment) -> RunOptions:
    """Run options of one experiment of a sweep: a folder of its own below the sweep's."""
    base = run.workdir or Path("runs") / sweep.name
    return dataclasses.replace(run, workdir=base / experiment.name)
