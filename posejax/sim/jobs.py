"""Making many files: in parallel, with a progress bar, one generating process per folder."""

import concurrent.futures
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def run_jobs(
    make: Callable[[Any], Any],
    jobs: Sequence,
    pool: concurrent.futures.Executor | None,
    title: str,
    *,
    first_alone: bool = False,
    quiet: bool = False,
) -> None:
    """Call `make` on every job and show how far it is; the first error ends it.

    Args:
      pool: where the jobs run; None: one after the other, here.
      first_alone: run the first job here before the others, so that what they share is compiled
        once.
      quiet: no progress bar.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    here = len(jobs) if pool is None else min(int(first_alone), len(jobs))
    with Progress(*columns, disable=quiet) as progress:
        task = progress.add_task(title, total=len(jobs))
        for job in jobs[:here]:
            make(job)
            progress.advance(task)
        if pool is None:
            return
        futures = [pool.submit(make, job) for job in jobs[here:]]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                progress.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextlib.contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """One generating process at a time; the others wait and then find the work done."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cache_root() -> Path:
    """Default place of generated data sets: $XDG_CACHE_HOME/posejax or ~/.cache/posejax."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "posejax"
