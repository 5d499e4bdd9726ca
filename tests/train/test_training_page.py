"""docs/training.md names options that exist, and leaves none of the engine's out."""

import re
from pathlib import Path

from posejax import config_io
from posejax.config import Experiment, RunOptions

DOC = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text()


def options() -> set[str]:
    """Paths of all options, `train.optimizer.schedule.peak` and `log.view`."""
    rows = [*config_io.flatten(Experiment("x", None)), *config_io.flatten(RunOptions())]
    return {r for r in rows if not r.endswith(config_io.CLASS)}


def named() -> set[str]:
    """Options in the page's tables; `.prefetch` continues the one before it in its cell."""
    found, parent = set(), ""
    for token in re.findall(
        r"`-{0,2}([a-z0-9_.\-*]+)`", DOC.replace(" N`", "`").replace(" FILE`", "`")
    ):
        token = token.replace("-", "_")
        if token.startswith("."):
            token = parent + token
        parent = token.rpartition(".")[0]
        found.add(token)
    return found


def test_every_engine_option_is_on_the_page():
    wild = {n.removesuffix("*") for n in named() if n.endswith("*")}
    missing = {
        o for o in options()
        if o not in named() and not any(o.startswith(w) for w in wild) and o != "system"
    }  # fmt: skip
    # Both stand in one longer piece of code.
    assert missing <= {"profile.start", "profile.steps"}
    assert "--profile.steps N --profile.start 20" in DOC


def test_every_option_on_the_page_exists():
    known, prefixes = options(), ("train.", "log.", "resume.", "debug.", "profile.", "distributed.")
    parents = {o.rpartition(".")[0] for o in known}
    for name in named():
        if name.startswith(prefixes) and not name.endswith("*"):
            assert name in known or name in parents, name


def test_neutral_options_are_marked():
    neutral = options() - set(config_io.flatten(Experiment("x", None), neutral=False))
    for line in DOC.splitlines():
        cell = line.split("|")[1] if line.startswith("| `train.") else ""
        for name in re.findall(r"`(train\.[a-z_.]+)`\*", cell):
            assert name in neutral, f"{name} is marked * but decides the result"
    for name in neutral - set(config_io.flatten(RunOptions())):
        tail = name.rpartition(".")[2]
        assert re.search(rf"`(train)?[a-z_.]*\.?{tail}`\*", DOC), f"{name} lacks its *"
