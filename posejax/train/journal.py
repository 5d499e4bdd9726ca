"""The host's account of the steps: means, metric lines, non-finite steps. Always a little behind.

Reading a step's scalars would make the host wait for the device. So they are read `LAG` steps late,
when they have long been ready, and all of them before anything that must know them (a checkpoint).
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from posejax.config import NonFinite
from posejax.train import logging, sharding
from posejax.train.console import Display
from posejax.train.prefetch import LoadedBatch
from posejax.train.weights import write_npz

LAG = 2


class NonFiniteError(FloatingPointError):
    """Too many steps in a row without a finite loss and gradient."""


@dataclass(frozen=True)
class Pending:
    step: int
    packed: jax.Array
    loaded: LoadedBatch


class Journal:
    """Collects what the steps report.

    Args:
      every: steps between lines of kind "train".
      rule: what to do about non-finite steps.
      folder: of the run.
      view: told about everything worth knowing.
      write: receives the lines of metrics.jsonl.
      rates: gives the current speed for the screen.
    """

    def __init__(
        self,
        every: int,
        rule: NonFinite,
        folder: Path,
        view: Display,
        write: Callable[[Mapping[str, Any]], None],
        rates: Callable[[], Mapping[str, float]],
    ):
        self.every, self.rule, self.folder = max(1, every), rule, folder
        self.names: list[str] = []  # of the packed scalars, sorted; set when a step is compiled
        self.view, self._write, self._rates = view, write, rates
        self.interval, self.epoch = logging.Means(), logging.Means()
        self.failures = 0
        self._pending: deque[Pending] = deque()

    def add(self, step: int, packed: jax.Array, loaded: LoadedBatch) -> None:
        """Take note of a dispatched step, read one that has finished."""
        self._pending.append(Pending(step, packed, loaded))
        if len(self._pending) > LAG:
            self._read(self._pending.popleft())

    def drain(self) -> None:
        """Read everything dispatched so far; waits for the devices."""
        while self._pending:
            self._read(self._pending.popleft())

    def save(self) -> dict[str, Any]:
        """What a checkpoint keeps; call `drain` first."""
        return {
            "interval": self.interval.save(),
            "epoch": self.epoch.save(),
            "failures": self.failures,
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        self.interval.load(saved["interval"])
        self.epoch.load(saved["epoch"])
        self.failures = saved["failures"]

    def _read(self, done: Pending) -> None:
        scalars = dict(zip(self.names, np.asarray(done.packed).tolist(), strict=True))
        for text in done.loaded.failures:
            self.failures += 1
            self._write({"kind": "data_error", "step": done.step, "error": text})
            self.view.message(f"step {done.step}: skipped {text}")
        in_a_row, skipped = scalars.pop("in_a_row"), scalars.pop("skipped")
        if scalars.pop("finite"):
            self.interval.add(scalars)
            self.epoch.add(scalars)
        else:
            self._not_finite(done, scalars, int(in_a_row), int(skipped))
        if done.step % self.every == 0:
            line = {"kind": "train", "step": done.step, "skipped": int(skipped)}
            if self.interval.count:
                line |= self.interval.pop()
            self._write(line)
            self.view.step(done.step, {k: v for k, v in line.items() if k != "kind"}, self._rates())

    def _not_finite(
        self, done: Pending, scalars: Mapping[str, float], in_a_row: int, skipped: int
    ) -> None:
        indices = np.asarray(sharding.to_host(done.loaded.device.examples["index"])).tolist()
        bad = [k for k in ("loss", "grad_norm") if not np.isfinite(scalars[k])]
        line = {"kind": "nonfinite", "step": done.step, "what": bad, "indices": indices}
        self._write({**line, "in_a_row": in_a_row, "skipped": skipped})
        path = self._keep(done)
        kept = sorted((self.folder / "replay").glob("*.npz"))
        self.view.message(
            f"step {done.step}: {' and '.join(bad)} not finite, update skipped "
            f"({in_a_row} in a row, {skipped} in all); records {indices}"
            + (f"; batch kept in {path}" if path else "")
        )
        if self.rule.stop_after and in_a_row >= self.rule.stop_after:
            raise NonFiniteError(
                f"stopped at step {done.step}: {in_a_row} steps in a row had a non-finite "
                f"{' and '.join(bad)} (train.nonfinite.stop_after); the last batch held the "
                f"records {indices}. The parameters are those before the first of them. "
                + (f"Look at a batch with --debug.replay {kept[-1]}; a" if kept else "A")
                + " smaller learning rate or train.optimizer.clip_norm often helps"
            )

    def _keep(self, done: Pending) -> Path | None:
        """Write the batch of this process to replay/, unless there are enough."""
        folder = self.folder / "replay"
        path = folder / f"step_{done.step:08d}_{jax.process_index()}.npz"
        if len(list(folder.glob("*.npz"))) >= self.rule.replay_files and not path.exists():
            return None
        folder.mkdir(exist_ok=True)
        write_npz(path, done.loaded.host)
        return path
