"""The shortest way to see a system at work: shipped weights on simulated worlds, and a report."""

from collections.abc import Sequence
from pathlib import Path

from posejax import cli
from posejax.config import no_such

_PREFIX = "demo_"  # of the configs that demos are made of


def main(arguments: Sequence[str]) -> int:
    """`demo [SYSTEM] [OPTION VALUE ...]`; the options are those of `python -m posejax eval`."""
    first = arguments[0] if arguments and not arguments[0].startswith("-") else None
    rest = list(arguments[first is not None :])
    system = first or "georeg"
    config = find(system)
    from posejax import evaluate

    out, _ = cli.take_option(rest, "--out")
    folder = Path(out) if out else Path("runs") / config.stem
    defaults = evaluate.EvalOptions(calibrate=0, out=folder, worst=4, random=4)
    program = f"{cli.command('demo')} {system}"
    status = evaluate.main(["--config", str(config), *rest], defaults, program)
    page = folder / "index.html"
    if status == 0 and page.is_file():
        print(
            "a handful of simulated examples, so the numbers scatter; those of the README are of "
            "the whole split test"
        )
        print(f"open it in a browser: {page.resolve().as_uri()}")
    return status


def find(system: str) -> Path:
    """The demo config of a system; ends the program with the names there are if it has none."""
    path = cli.find_config(_PREFIX + system)
    if path.is_file():
        return path
    known = {p.stem for f in cli.config_folders() for p in f.glob(f"{_PREFIX}*.py")}
    names = sorted(name.removeprefix(_PREFIX) for name in known)
    cli.fail(f"no demo of {no_such(system, names, 'there are')}")
