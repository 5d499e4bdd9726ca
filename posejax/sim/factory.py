"""Generated data sets on disk: made on first use, found again, never half there.

    root/<kind>-<hash>/settings.json       what the hash stands for: every setting, the version
    root/<kind>-<hash>/<split>/...         the items: folders, or files of one name
    root/<kind>-<hash>/index-<split>.jsonl one line per item: name, number of files, bytes

Other settings are another folder, the same settings are found again. An item is made in a scratch
folder, synced and moved into its place whole; its line follows. A run that was killed, or lost its
power, goes on where it stopped: an item without a line is made again. Opening a data set counts the
files of every item and their bytes: so is one that was emptied or cut. Empty files count as none.
"""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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

from posejax.data.dataset import SPLITS
from posejax.data.files import sync, sync_tree, whole


@dataclass(frozen=True)
class Dataset:
    """The place of one kind of items under one group of settings.

    Attributes:
      folder: root/<kind>-<hash>.
      settings: the text that is hashed, and written to settings.json.
    """

    folder: Path
    settings: str


def open_dataset(root: str | Path | None, kind: str, settings: str) -> Dataset:
    """The data set of a kind and a settings text (JSON); nothing is read or written yet.

    Args:
      root: folder of all generated data sets; None: $XDG_CACHE_HOME/posejax or ~/.cache/posejax.
    """
    digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posejax"
    base = base if root is None else Path(root).expanduser()
    return Dataset(base / f"{kind}-{digest}", settings)


def world_seed(seed: int, split: str, number: int) -> tuple[int, int, int]:
    """Seed of a world: worlds of two splits never share one.

    Raises:
      ValueError: an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    return seed, SPLITS.index(split), number


def ensure_items(
    dataset: Dataset,
    split: str,
    names: Sequence[str],
    make: Callable[[int, Path], None],
    *,
    parts: Sequence[str] = ("",),
    files: int,
    title: str,
    executor: Callable[[int], concurrent.futures.Executor | None] = lambda missing: None,
    first_alone: bool = False,
    quiet: bool = False,
) -> list[Path]:
    """Make sure that the items of a split are on disk, whole.

    Args:
      names: of the items, without a dot; number k is the k-th.
      make: called as make(k, place): writes `place` + each of `parts`, files or folders.
      parts: suffixes of what an item consists of; the last one appears last.
      files: number of files of a whole item.
      title: what the progress line says.
      executor: from the number of missing items to where they are made; None: here, one by one.
      first_alone: make the first one here before the others, so that what they share is compiled
        once.
      quiet: no progress line.

    Returns:
      Paths of the last part of every item.

    Raises:
      ValueError: `make` wrote another number of files.
      OSError: the folder cannot be written. Whatever `make` raises.
    """
    folder, scratch = dataset.folder / split, dataset.folder / ".scratch"
    index = dataset.folder / f"index-{split}.jsonl"

    def survey() -> tuple[list[int], dict[str, tuple[int, int]]]:
        """Items that are missing, and the lines of the others."""
        counts = {name: _measure(folder / name, parts) for name in names}
        known = _read_index(index)
        if known is None:  # a set of the first release, which had none
            known = {name: count for name, count in counts.items() if count[0] == files}
        return [k for k, name in enumerate(names) if counts[name] != known.get(name)], known

    def finish(k: int) -> None:
        count = _measure(scratch / names[k], parts)
        if count[0] != files:
            raise ValueError(f"{names[k]}: {count[0]} files were made, expected {files}")
        for part in parts:
            sync_tree(scratch / f"{names[k]}{part}")
            _move(scratch / f"{names[k]}{part}", folder / f"{names[k]}{part}")
        sync(folder)
        with index.open("a") as file:
            file.write(_index_line(names[k], count))
        sync(index)

    if survey()[0]:
        folder.mkdir(parents=True, exist_ok=True)
        with _folder_lock(dataset.folder / ".lock"):
            # Whoever held the lock before may have done the work.
            jobs, known = survey()
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            with whole(dataset.folder / "settings.json") as temporary:
                temporary.write_text(dataset.settings)
            # Written anew: the line at which a run was killed may be cut.
            with whole(index) as temporary:
                temporary.write_text("".join(_index_line(*item) for item in known.items()))
            with contextlib.ExitStack() as stack:
                pool = executor(len(jobs))
                if pool is not None:
                    stack.enter_context(pool)
                places = [(k, scratch / names[k]) for k in jobs]
                _run(make, places, finish, pool, title, first_alone, quiet)
            shutil.rmtree(scratch, ignore_errors=True)
    return [folder / f"{name}{parts[-1]}" for name in names]


def _run(make, places, finish, pool, title: str, first_alone: bool, quiet: bool) -> None:
    """Make every item and show how far it is; the first error ends it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    here = len(places) if pool is None else min(int(first_alone), len(places))
    with Progress(*columns, disable=quiet) as progress:
        task = progress.add_task(title, total=len(places))
        for k, place in places[:here]:
            make(k, place)
            finish(k)
            progress.advance(task)
        if pool is None:
            return
        futures = {pool.submit(make, k, place): k for k, place in places[here:]}
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                finish(futures[future])
                progress.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _measure(place: Path, parts: Sequence[str]) -> tuple[int, int]:
    """Number of files of an item that hold anything, and their bytes."""
    sizes = []
    for path in (place.with_name(place.name + part) for part in parts):
        if path.is_file():
            sizes.append(path.stat().st_size)
        else:
            sizes += [
                (Path(at) / name).stat().st_size for at, _, files in os.walk(path) for name in files
            ]
    return sum(size > 0 for size in sizes), sum(sizes)


def _index_line(name: str, count: tuple[int, int]) -> str:
    return json.dumps({"name": name, "files": count[0], "bytes": count[1]}) + "\n"


def _read_index(path: Path) -> dict[str, tuple[int, int]] | None:
    if not path.is_file():
        return None
    known = {}
    for text in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            line: dict[str, Any] = json.loads(text)
            known[line["name"]] = line["files"], line["bytes"]
    return known


def _move(source: Path, target: Path) -> None:
    if target.is_dir():  # a damaged one
        shutil.rmtree(target)
    os.replace(source, target)


@contextlib.contextmanager
def _folder_lock(path: Path) -> Iterator[None]:
    """One generating process at a time; the others wait and then find the work done."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
