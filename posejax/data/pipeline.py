"""From a source of records to batches, by grain: the order is a function of (seed, step) alone.

NumPy only: this module is imported by the worker processes, which must not touch a device.
"""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import grain
import numpy as np
from absl import flags

from posejax.data.dataset import Dataset, Source
from posejax.data.errors import DataError

SKIPPED = "_skipped"  # batch entry: text of the failure an example stands in for, as bytes
_TEXT = 256
_TRIES = 100
_LISTED = 20
_PATIENCE = 5.0  # seconds that closing waits for a reader
# What unreadable data raises; anything else is a fault of the program and always stops the run.
UNREADABLE = (OSError, ValueError, KeyError, EOFError)


class WorkerError(RuntimeError):
    """A worker process is gone."""


@dataclass
class Examples:
    """The function of (record index, generator) that workers run: reads, transforms, checks."""

    data: Dataset
    source: Source
    split: str
    train: bool
    skip: bool = False
    spec: Mapping[str, tuple[tuple[int, ...], np.dtype]] | None = field(default=None)

    def __call__(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        index, failed = int(index), ""
        if not self.skip:
            return self.read(index, rng)
        for attempt in range(min(_TRIES, len(self.source))):
            try:
                example = self.read((index + attempt) % len(self.source), rng)
            except UNREADABLE as error:
                failed = failed or str(error)
            else:
                text = failed.encode()[:_TEXT].ljust(_TEXT, b"\0")
                return {**example, SKIPPED: np.frombuffer(text, np.uint8)}
        raise DataError(
            f"split {self.split!r}", f"records {index} and following", "none can be read",
            hint=f"the first failed with: {failed}",
        )  # fmt: skip

    def read(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One example; errors of reading say which record they met."""
        try:
            example = self.data.transform(self.source[index], rng, self.train)
            example = {k: np.asarray(v) for k, v in example.items()}
            self.check(example)
            return example
        except UNREADABLE as error:
            record, name = f"record {index}", self.source.describe(index)
            if name != record:
                record += f" ({name})"
            what = (
                str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
            )
            raise DataError(f"split {self.split!r}", record, what) from error

    def check(self, example: Mapping[str, np.ndarray]) -> None:
        """Every example has the shapes and dtypes of the first: batches are rectangular."""
        if self.spec is None:
            return
        found = spec_of(example)
        if found != self.spec:
            for key in {**self.spec, **found}:
                a, b = self.spec.get(key), found.get(key)
                if a != b:
                    raise ValueError(
                        f"entry {key!r} is {_show(b)}; the first example's is {_show(a)}"
                    )


def left_out(source: Source) -> list[str]:
    """Lines about the records that a source left out on its own, the first few by name."""
    skipped = source.skipped
    lines = [f"{name}: {reason}" for name, reason in skipped[:_LISTED]]
    more = len(skipped) - len(lines)
    head = [f"{len(skipped)} records left out, {len(source)} kept"] if skipped else []
    return [*head, *lines, *([f"... and {more} more"] if more else [])]


def spec_of(example: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of each entry."""
    return {k: (v.shape, v.dtype) for k, v in example.items()}


def make_examples(
    data: Dataset, source: Source, split: str, *, train: bool, skip: bool = False
) -> Examples:
    """`Examples` of a split that know their spec, read from the first readable record.

    Raises:
      DataError: the split is empty, or an example lacks `index`.
    """
    if len(source) == 0:
        raise DataError(f"split {split!r}", "records", "none", "at least one")
    examples = Examples(data, source, split, train, skip)
    first = examples(0, np.random.default_rng(0))
    first.pop(SKIPPED, None)
    if "index" not in first:
        raise DataError(f"split {split!r}", "index", "missing", "an int32 scalar in every example")
    for key, value in first.items():
        if value.dtype == object or value.dtype.kind in "US":
            raise DataError(f"split {split!r}", key, f"dtype {value.dtype}", "numbers or bool")
    examples.spec = spec_of(first)
    return examples


def train_batches(
    examples: Examples,
    *,
    seed: int,
    batch_size: int,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """Endless batches in shuffled order, from batch `start` on.

    Each pass over the records is shuffled and augmented anew; a batch may span two passes, so every
    record is seen once per pass. Process i of n gets records i, i + n, ... of each global batch.

    Args:
      batch_size: examples per batch of this process.
      process: (index, count) of the processes that share each global batch.
    """
    stream = grain.MapDataset.range(len(examples.source)).seed(seed % 2**32).shuffle()
    stream = stream.random_map(examples).repeat()[process[0] :: process[1]]
    return stream.batch(batch_size, drop_remainder=True)[start:]


def eval_batches(
    examples: Examples,
    *,
    batch_size: int,
    limit: int | None = None,
    process: tuple[int, int] = (0, 1),
) -> tuple[grain.MapDataset, int]:
    """All examples in order, once; the last batch is filled up with copies of the last example.

    Args:
      batch_size: examples per global batch; process i of n gets the i-th contiguous part of it.

    Returns:
      Batches, and the number of true examples.
    """
    count = min(len(examples.source), limit or len(examples.source))
    index, processes = process
    padded = -(-count // batch_size) * batch_size
    positions = np.minimum(np.arange(padded), count - 1)
    mine = positions.reshape(-1, processes, batch_size // processes)[:, index].ravel()
    stream = grain.MapDataset.source(mine.tolist()).seed(0).random_map(examples)
    return stream.batch(batch_size // processes, drop_remainder=True), count


@contextlib.contextmanager
def iterate(
    batches: grain.MapDataset, *, workers: int, threads: int, prefetch: int
) -> Iterator[Iterator[dict[str, np.ndarray]]]:
    """Read ahead in threads or in worker processes, which see no accelerator; closes them after.

    Args:
      prefetch: batches read ahead per process.
    """
    # grain reads absl flags in its workers' set-up although nobody parses them here.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    threads = max(1, threads)
    stream = batches.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads))
    )
    if workers > 0:
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2),
            worker_init_fn=_end_with_parent,
        )
    with _hidden_accelerators() if workers > 0 else contextlib.nullcontext():
        iterator = iter(stream)
        if workers > 0:
            iterator.start_prefetch()
    try:
        yield _explained(iterator)
    finally:
        # In a thread, for at most a while: a reader that hangs must not keep a program from ending.
        closing = threading.Thread(target=iterator.close, name="posejax-close", daemon=True)
        closing.start()
        closing.join(_PATIENCE)


def _explained(iterator: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    try:
        yield from iterator
    except RuntimeError as error:
        if "Worker process was terminated" not in str(error):
            raise
        raise WorkerError(
            "a data worker process was killed (out of memory?); run the same command again to "
            "continue, with a smaller --train.data.workers if it happens again"
        ) from error


def _end_with_parent(index: int, count: int) -> None:
    """In a worker: end when the parent has ended, even by kill -9, which tells nobody.

    Then the resource tracker, which waits for the last of the family, frees the shared memory.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="posejax-parent", daemon=True).start()


@contextlib.contextmanager
def _hidden_accelerators() -> Iterator[None]:
    """Environment in which a spawned worker's jax, should anything import it, stays on the CPU."""
    hidden = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "XLA_FLAGS": ""}
    before = {k: os.environ.get(k) for k in hidden}
    os.environ.update(hidden)
    try:
        yield
    finally:
        for k, v in before.items():
            os.environ.pop(k) if v is None else os.environ.update({k: v})


def pop_skipped(batch: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The batch without its failure texts, and the texts.

    Arrays in a worker's shared memory are copied: jax on the CPU would alias them and give them
    back at a time of its own, which at the end of the program is too late to free them.
    """
    batch = {k: v if type(v) is np.ndarray else np.array(v) for k, v in batch.items()}
    rows = batch.pop(SKIPPED, None)
    texts = [] if rows is None else [bytes(r).rstrip(b"\0").decode(errors="replace") for r in rows]
    return batch, [t for t in texts if t]


def _show(entry: tuple[tuple[int, ...], np.dtype] | None) -> str:
    return "missing" if entry is None else f"{entry[1]}{list(entry[0])}"
