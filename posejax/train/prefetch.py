"""Batches on the devices ahead of the step: a thread fetches and transfers, the loop takes."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jax.sharding import NamedSharding

from posejax.data import pipeline
from posejax.train import sharding
from posejax.train.system import Batch

PATIENCE = 5.0  # seconds that the end of a run waits for a reader


@dataclass(frozen=True)
class LoadedBatch:
    """One batch: on the devices, as it was on the host, and the failures it stands in for."""

    device: Batch
    host: dict[str, np.ndarray]
    failures: list[str]


class Prefetcher:
    """Iterator over `LoadedBatch`; its clocks say where the time goes (seconds, since `reset`).

    fetch: reading and decoding as the thread sees it. put: handing over to the devices.
    wait: the time the loop stood still for data, an upper bound of what the devices lost.

    resident: arrays that lie on the devices already and are part of every batch.
    """

    def __init__(
        self,
        batches: Iterator[dict[str, np.ndarray]],
        placement: NamedSharding,
        ahead: int,
        resident: Mapping[str, Any] | None = None,
    ):
        self._batches, self._placement = batches, placement
        self._resident = dict(resident or {})
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=max(1, ahead))
        self._stop = threading.Event()
        self.reset()
        self._thread = threading.Thread(target=self._run, name="posejax-prefetch", daemon=True)
        self._thread.start()

    def reset(self) -> None:
        self.fetch = self.put = self.wait = 0.0
        self.count = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LoadedBatch:
        loaded = self.take(lambda: False)
        assert loaded is not None
        return loaded

    def take(self, stop: Callable[[], bool]) -> LoadedBatch | None:
        """The next batch; None if `stop` turns true while there is none."""
        begin = time.perf_counter()
        item = None
        while item is None:
            try:
                item = self._queue.get(timeout=0.2)
            except queue.Empty:
                if stop():
                    return None
        self.wait += time.perf_counter() - begin
        if isinstance(item, BaseException):
            self._queue.put(item)  # asked again, it says the same
            raise item
        loaded, fetch, put = item
        self.fetch, self.put, self.count = self.fetch + fetch, self.put + put, self.count + 1
        return loaded

    def close(self) -> None:
        """Stop the thread; batches it holds are dropped. A reader that hangs is left behind."""
        self._stop.set()
        end = time.monotonic() + PATIENCE
        while self._thread.is_alive() and time.monotonic() < end:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(timeout=0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _run(self) -> None:
        # Whatever ends the thread must reach the loop, which would otherwise wait for ever.
        try:
            while not self._stop.is_set():
                begin = time.perf_counter()
                host, failures = pipeline.pop_skipped(next(self._batches))
                fetched = time.perf_counter()
                device = Batch(sharding.put_batch(host, self._placement), self._resident)
                done = time.perf_counter()
                loaded = LoadedBatch(device, host, failures)
                self._queue.put((loaded, fetched - begin, done - fetched))
        except BaseException as error:
            self._queue.put(error)
