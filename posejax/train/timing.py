"""Where the time of a run goes: rates for the screen, the table row, the lines of timing.jsonl."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from posejax.train import console, runtime
from posejax.train.evaluation import Evaluated
from posejax.train.prefetch import Prefetcher
from posejax.train.setup import Parts

T = TypeVar("T")


class IntervalTimer:
    """Clocks since the last row; begins when the loop begins, after compilation."""

    def __init__(self, parts: Parts, batches: Prefetcher, phases: Mapping[str, float]):
        self._parts, self._prefetch, self._phases = parts, batches, phases
        self._spent: dict[str, float] = {}
        self.reset()

    def reset(self) -> None:
        """Begin the next interval."""
        self._begin = time.perf_counter()
        self._spent = {"eval": 0.0, "ckpt": 0.0}
        self._prefetch.reset()

    def timed(self, name: str, call: Callable[..., T], *arguments: Any) -> T:
        """Result of the call; its duration counts as `name` ("eval" or "ckpt"), not as stepping."""
        begin = time.perf_counter()
        result = call(*arguments)
        self._spent[name] += time.perf_counter() - begin
        return result

    def _stepping(self) -> float:
        return max(1e-9, time.perf_counter() - self._begin - sum(self._spent.values()))

    def rates(self) -> dict[str, float]:
        """Speed since the last row."""
        count = self._prefetch.count
        if not count:
            return {}
        seconds = self._stepping()
        rates = {
            "examples/s": count * self._parts.train.batch_size / seconds,
            "ms/step": 1e3 * seconds / count,
            "wait %": 100 * self._prefetch.wait / seconds,
        }
        memory = runtime.memory()
        if memory:
            rates["GiB"] = memory.get("device_peak", memory.get("host", 0)) / 2**30
        return rates

    def row(
        self, step: int, train: Mapping[str, float], result: Evaluated | None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """Table row and timing line of the interval that ends at `step`; begins the next one."""
        parts, batches = self._parts, self._prefetch
        wall, stepping, count = time.perf_counter() - self._begin, self._stepping(), batches.count
        per_step = 1e3 / max(1, count)
        train_ms = {
            "fetch": batches.fetch * per_step,
            "to_dev": batches.put * per_step,
            **self._phases,
            "step": stepping * per_step,
            "batches": float(count),
        }
        eval_ms: dict[str, float] = {}
        if result is not None:
            eval_ms = {
                "fetch": result.fetch_ms,
                "to_dev": result.put_ms,
                "forward": result.forward_ms,
                "batches": float(result.batches),
            }
        seconds = {"epoch": wall, **self._spent}
        wait = min(1.0, batches.wait / stepping)
        row = console.epoch_row(
            epoch=f"{parts.epoch(step):.3g}/{parts.epoch(parts.steps):.3g}",
            train=train,
            val=None if result is None else result.summary,
            columns=parts.train.columns,
            train_ms=train_ms,
            eval_ms=eval_ms,
            seconds=seconds,
            wait=wait,
            remaining=(parts.steps - step) * wall / max(1, count),
        )
        line = {
            "kind": "epoch",
            "step": step,
            "wait": wait,
            "train_ms": train_ms,
            "eval_ms": eval_ms,
            "seconds": seconds,
            "examples_per_s": count * parts.train.batch_size / stepping,
            "memory": runtime.memory(),
        }
        self.reset()
        return row, line
