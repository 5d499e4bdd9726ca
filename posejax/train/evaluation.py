"""Metrics of a model over a split: per-example records, their summary, the worst examples."""

import contextlib
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from posejax.config import Data
from posejax.data import pipeline
from posejax.data.dataset import Source
from posejax.train import sharding
from posejax.train.prefetch import Prefetcher
from posejax.train.system import Batch, Params, State, System

Records = dict[str, np.ndarray]


@dataclass(frozen=True)
class Evaluated:
    """Outcome of one pass."""

    records: Records
    summary: dict[str, float]
    failures: list[str] = field(default_factory=list)
    batches: int = 0
    fetch_ms: float = 0.0
    put_ms: float = 0.0
    forward_ms: float = 0.0  # mean over all batches but the first, which may compile


class Evaluator:
    """Runs `predict` and `metrics`, compiled once, over splits.

    Args:
      batch_size: examples per batch over all processes; a multiple of the devices of `mesh`.
    """

    def __init__(self, system: System, mesh: Mesh, batch_size: int, data: Data):
        self.system, self.batch_size, self.data = system, batch_size, data
        self.mesh, self.placement = mesh, sharding.batch_sharding(mesh)
        self._placed: tuple[Source, dict[str, Any]] | None = None
        everywhere = sharding.replicated(mesh)
        self._metrics = jax.jit(self._measure, out_shardings=everywhere)
        self._predict = jax.jit(system.predict, out_shardings=everywhere)

    def _measure(self, params: Params, state: State, batch: Batch) -> dict[str, jax.Array]:
        metrics = dict(self.system.metrics(self.system.predict(params, state, batch), batch))
        if "loss" not in metrics:
            # One example at a time, so that the copies that fill the last batch do not count.
            def loss(example: Mapping[str, jax.Array]) -> jax.Array:
                one = Batch(jax.tree.map(lambda x: x[None], dict(example)), batch.resident)
                key, done = jax.random.key(0), jnp.float32(1)
                return self.system.loss(params, state, one, key, done, False)[0]

            metrics["loss"] = jax.vmap(loss)(batch.examples)
        metrics["index"] = jnp.asarray(batch.examples["index"])
        return metrics

    def run(
        self,
        params: Params,
        state: State,
        examples: pipeline.Examples,
        limit: int | None = None,
    ) -> Evaluated:
        """Evaluate the first `limit` examples (all if None) but those that cannot be read."""
        rows: list[Records] = []
        failures: list[str] = []
        forward: list[float] = []
        with self._prefetch(examples, limit) as (batches, count):
            for _ in range(-(-count // self.batch_size)):
                loaded = next(batches)
                failures += loaded.failures
                begin = time.perf_counter()
                rows.append(jax.device_get(self._metrics(params, state, loaded.device)))
                forward.append(time.perf_counter() - begin)
            fetch, put = batches.fetch, batches.put
        records = {k: np.concatenate([r[k] for r in rows])[:count] for k in rows[0]}
        # A record that stands in for an unreadable one would count twice.
        own = records["index"] == np.arange(count)
        records = {k: v[own] for k, v in records.items()}
        per_batch = 1e3 / len(rows)
        return Evaluated(
            records, self.summarize(records), list(dict.fromkeys(failures)), len(rows),
            fetch * per_batch, put * per_batch, 1e3 * float(np.mean(forward[1:] or forward)),
        )  # fmt: skip

    def summarize(self, records: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Mean loss and the system's own numbers."""
        loss = float(np.mean(records["loss"], dtype=np.float64))
        return {"loss": loss, **{k: float(v) for k, v in self.system.summarize(records).items()}}

    def names(self, params: Any, state: Any, batch: Batch) -> list[str] | None:
        """What `summarize` will call its numbers, found without computing any.

        Args:
          params, state, batch: shapes; the batch may have another size.

        Returns:
          The names in the summary of one record of zeros; None where there is none for zeros.
        """
        examples = {
            k: jax.ShapeDtypeStruct((self.batch_size, *v.shape[1:]), v.dtype)
            for k, v in batch.examples.items()
        }
        shapes = jax.eval_shape(self._metrics, params, state, Batch(examples, batch.resident))
        records: Records = {k: np.zeros((1, *v.shape[1:]), v.dtype) for k, v in shapes.items()}
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return list(self.summarize(records))
        except (ValueError, ArithmeticError):
            return None

    def show(
        self, params: Params, state: State, examples: pipeline.Examples, positions: Sequence[int]
    ) -> list[dict[str, np.ndarray]]:
        """The examples at `positions` merged with their predictions, for `System.report`."""
        shown: list[dict[str, np.ndarray]] = []
        rng, resident = np.random.default_rng(0), self._resident(examples.source)
        for begin in range(0, len(positions), self.batch_size):
            chosen = list(positions[begin : begin + self.batch_size])
            padded = chosen + chosen[-1:] * (self.batch_size - len(chosen))
            process, count = jax.process_index(), jax.process_count()
            mine = np.array_split(np.array(padded), count)[process]
            rows = [examples(int(i), rng) for i in mine]
            host, _ = pipeline.pop_skipped({k: np.stack([r[k] for r in rows]) for k in rows[0]})
            batch = Batch(sharding.put_batch(host, self.placement), resident)
            outputs = self._predict(params, state, batch)
            merged = {**sharding.to_host(batch.examples), **jax.device_get(outputs)}
            shown += [{k: v[i] for k, v in merged.items()} for i in range(len(chosen))]
        return shown

    def _resident(self, source: Source) -> dict[str, Any]:
        """What the batches of a source carry on the devices, placed once for the last source."""
        if self._placed is None or self._placed[0] is not source:
            self._placed = None  # the old arrays go before the new ones come
            self._placed = source, sharding.place_resident(source, self.mesh)
        return self._placed[1]

    @contextlib.contextmanager
    def _prefetch(self, examples: pipeline.Examples, limit: int | None):
        processes = (jax.process_index(), jax.process_count())
        batches, count = pipeline.eval_batches(
            examples, batch_size=self.batch_size, limit=limit, process=processes
        )
        d = self.data
        # Worker processes take seconds to start: not worth it for a short split.
        workers = d.workers if count > 50 * self.batch_size else 0
        with (
            pipeline.iterate(
                batches, workers=workers, threads=d.threads, prefetch=d.prefetch
            ) as iterator,
            Prefetcher(
                iterator,
                self.placement,
                d.device_prefetch,
                self._resident(examples.source),
            ) as batches,
        ):
            yield batches, count


def named(records: Records, source: Source) -> Records:
    """`records` with `name` [N] str, how the source describes each."""
    return {**records, "name": np.array([source.describe(int(i)) for i in records["index"]])}


def worst_examples(records: Mapping[str, np.ndarray], count: int) -> list[dict[str, Any]]:
    """`index`, `name` (if recorded) and `error` (None if not finite) of the largest errors."""
    place = {int(index): k for k, index in enumerate(records["index"])}
    rows = []
    for index in pick_examples(records, count, 0):
        error = float(records["error"][place[index]])
        name = {"name": str(records["name"][place[index]])} if "name" in records else {}
        rows.append({"index": index, **name, "error": error if np.isfinite(error) else None})
    return rows


def pick_examples(records: Mapping[str, np.ndarray], worst: int, random: int) -> list[int]:
    """Records (`index`) of the largest `error`s, not finite ones first, then some at random."""
    error = np.where(np.isfinite(records["error"]), records["error"], np.inf)
    order = np.argsort(-error, kind="stable")
    rest = np.random.default_rng(0).permutation(order[worst:])[:random]
    return [int(records["index"][i]) for i in (*order[:worst], *rest)]


def batch_size_for(mesh_size: int, wanted: int) -> int:
    """`wanted` rounded up to a multiple of the devices."""
    return -(-wanted // mesh_size) * mesh_size
