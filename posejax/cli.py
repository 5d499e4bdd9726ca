"""The command line: a Python config file first, then typed overrides of anything in it."""

import ast
import contextlib
import dataclasses
import difflib
import io
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, NoReturn, TypeVar, get_type_hints

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


def python() -> str:
    """What to type for the Python that runs: `python` if the shell would find the same one."""
    if not sys.executable or shutil.which("python") == sys.executable:
        return "python"
    below = os.path.relpath(sys.executable)
    return sys.executable if below.startswith("..") else below


def command(name: str) -> str:
    """How the program `name` ("train", "eval", "demo") is called here.

    As `python -m posejax NAME` if this program is; else by the script that a checkout has for it.
    """
    script, called = f"{name}_main.py", Path(sys.argv[0])
    module = (called.parent.name, called.name) == ("posejax", "__main__.py")
    if module or not Path(script).is_file():
        return f"{python()} -m posejax {name}"
    return f"{python()} {script}"


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
    parsed = [override(e, rest, path, found) for e in found.experiments]
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


def override(
    experiment: Experiment, arguments: Sequence[str], prog: str = "", sweep: Sweep | None = None
) -> TrainCommand:
    """The experiment and run options with overrides such as `--train.steps 100` applied.

    Raises:
      ConfigError: an option that does not exist (names the closest ones), or a value that it
        cannot have.
    """
    about = _about(prog)
    if sweep is not None:
        names = ", ".join(e.name for e in sweep.experiments)
        about = (
            f"Sweep {sweep.name}: trains {names}, each in runs/{sweep.name}/NAME. An option given "
            f"here holds for all of them; defaults below are those of {experiment.name}, the "
            "others may have different ones (--print-config)."
        )
    return parse(
        TrainCommand[type(experiment.system)],  # type: ignore[misc]  # known at run time only
        of_system(experiment, arguments),
        TrainCommand(experiment, RunOptions()),
        program=f"{command('train')} --config {prog}",
        about=about,
    )


def _about(config: str) -> str:
    """What a config file says of itself, and how its options may be abridged."""
    path = find_config(config)
    said = (ast.get_docstring(ast.parse(path.read_bytes())) if path.is_file() else None) or ""
    short = "Options of the system need no --system: --data.x is --system.data.x."
    return f"{said}\n\n{short}".strip()


def parse(
    kind: Any, arguments: Sequence[str], default: Any = None, *, program: str, about: str = ""
) -> Any:
    """A `kind` out of options; `--help` prints them all and ends the program.

    Args:
      kind: dataclass of the options.
      default: instance that the options change; None for the defaults of `kind`.
      program: how the program is called.
      about: text above the list of options.

    Raises:
      ConfigError: one line: the option that does not exist, with the closest ones; or the value
        that it cannot have.
    """
    given = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found, unknown = tyro.cli(
                kind, args=list(arguments), prog=program, description=about, config=STYLE,
                return_unknown_args=True, **given,
            )  # fmt: skip
    except SystemExit as end:
        if not end.code:
            raise
        raise ConfigError(f"{_in_one_line(said.getvalue())}; see {program} --help") from None
    if unknown:
        name = unknown[0].partition("=")[0]
        if not name.startswith("-"):
            raise ConfigError(f"{name!r} belongs to no option; see {program} --help")
        names = _option_names(kind if default is None else default)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(close)}?" if close else ";"
        raise ConfigError(f"{name}: no such option{hint} see {program} --help")
    return found


def _in_one_line(box: str) -> str:
    """What a message of tyro's, drawn as a box, says before its first rule."""
    lines = []
    for line in box.splitlines()[1:]:
        text = line.strip("│ ")
        if text.startswith(("─", "╰", "Got errors")):
            break
        lines.append(text)
    return " ".join(filter(None, lines)).removeprefix("Error parsing ").rstrip(".")


def parse_with(
    experiment: Experiment, options: T, arguments: Sequence[str], *, program: str, about: str
) -> tuple[Experiment, T]:
    """An experiment and the options of what is done with it, as the command line changes them.

    Raises:
      ConfigError: see `parse`.
    """
    command = parse(
        EvalCommand[type(experiment.system), type(options)],  # type: ignore[misc]  # at run time
        of_system(experiment, arguments),
        EvalCommand(experiment, options),
        program=program,
        about=about,
    )
    return command.experiment, command.options


def _typed(options: Any, name: str) -> str:
    """A dotted name without the fields whose options stand on their own, `arg(name="")`."""
    parts, owner = [], options
    for part in name.split("."):
        hint = get_type_hints(type(owner), include_extras=True).get(part)
        if all(getattr(note, "name", None) != "" for note in getattr(hint, "__metadata__", ())):
            parts.append(part)
        owner = getattr(owner, part, None)
    return ".".join(parts)


def _option_names(options: Any) -> list[str]:
    """`--train.batch-size` and its like, of a dataclass or of a command with some in its fields."""
    if isinstance(options, type):
        names = [f.name for f in dataclasses.fields(options)]
    else:
        names = [_typed(options, name) for name in config_io.flatten(options)]
    names = [n for n in names if n and not f".{n}".endswith(f".{config_io.CLASS}")]
    return [f"--{name.replace('_', '-')}" for name in names]


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
