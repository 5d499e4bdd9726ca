"""The run folder: its config.json decides whether a run may continue there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from posejax import config_io
from posejax.config import Experiment, Resume

CONFIG = "config.json"


class ResumeError(ValueError):
    """The run folder and the request do not fit together; the message says how to go on."""


def check(workdir: Path, experiment: Experiment, resume: Resume, latest: int | None) -> list[str]:
    """Whether the run in the folder, if any, may be continued as `experiment`.

    Args:
      latest: step of the newest checkpoint, None without one.

    Returns:
      Settings that differ from those the run was started with, and were allowed to.

    Raises:
      ResumeError: the resume mode or the config forbids to go on.
    """
    if resume.mode == "must" and latest is None:
        raise ResumeError(f"{workdir}: --resume.mode must, but there is no checkpoint")
    if resume.mode == "never" and latest is not None:
        raise ResumeError(
            f"{workdir}: holds a run at step {latest}; choose another --workdir or remove it"
        )
    changes: list[str] = []
    path = workdir / CONFIG
    if latest is not None and path.is_file():
        changes = config_io.diff(config_io.load(path), experiment)
        if changes and not resume.allow_config_change:
            raise ResumeError(
                f"{workdir}: the run at step {latest} was started with another config:\n  "
                + "\n  ".join(changes)
                + "\nrestore the settings, choose another --workdir, "
                "or pass --resume.allow-config-change"
            )
    return changes


def check_writable(workdir: Path, option: str = "--workdir") -> None:
    """Try to write there, or where the folder will be, before any real work; leaves nothing."""
    folder = next(p for p in (workdir, *workdir.absolute().parents) if p.exists())
    with _explained(workdir, option):
        probe = folder / f".probe{os.getpid()}"
        probe.write_text("")
        probe.unlink()


def make(workdir: Path, option: str = "--workdir") -> None:
    """Create the folder, named by `option`."""
    with _explained(workdir, option):
        workdir.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _explained(workdir: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResumeError(
            f"{workdir}: cannot write there ({error.strerror}); choose another with {option}"
        ) from error
