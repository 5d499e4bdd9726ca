"""What the engine asks of a system; the engine knows nothing else about any of the five."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from posejax.report import Report

Batch = Mapping[str, Any]  # arrays with a leading batch axis, channels last
Params = Any  # pytree of float32 arrays; `{}` for a system without parameters
State = Any  # non-trained variables, e.g. `{"batch_stats": ...}`; `{}` without


class LossOutput(NamedTuple):
    """What `System.loss` returns beside the scalar loss.

    state: the new non-trained variables (BatchNorm statistics), same structure as the old ones.
    scalars: named scalar arrays to log (parts of the loss, training metrics), means over the batch.
    """

    state: State
    scalars: dict[str, jax.Array]


class ExampleSource(Protocol):
    """Random access to raw records; lives in data workers: numpy only, picklable, no jax.

    May have a method `describe(index) -> str` naming a record for people (its file and key), and
    `skipped`, (name, reason) of everything that was left out: runs and evaluations list it.

    May have a method `resident() -> {name: array}`: arrays that every step reads, placed once on
    every device. Each batch then has them under the entry `resident`, without a batch axis (a
    whole split of packed recordings, say, of which an example names a piece).
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@runtime_checkable
class System(Protocol):
    """One localisation system. Every method is pure but `source`, which touches files.

    The engine calls `transform` in data workers with a generator that is a function of
    (seed, position) alone, batches the examples, and compiles `loss` into the train step and
    `predict` + `metrics` into the evaluation step.
    """

    def source(self, split: str) -> ExampleSource:
        """Raw records of `split` ("train", "val" or "test"), made or read on first use."""
        ...

    def transform(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> dict[str, np.ndarray]:
        """One example of fixed shapes and dtypes from a raw record; augments when `train`.

        Must contain `index` (int32 scalar), the record's position in its source, by which logs
        name the sample.
        """
        ...

    def init(self, key: jax.Array, batch: Batch) -> tuple[Params, State]:
        """Parameters and non-trained variables for examples of the shapes in `batch`.

        Traced: a pure function of the key and the shapes. What a run from scratch needs from files
        (published weights, statistics of the train split) goes into an optional method
        `start(params, state) -> (params, state)`, called once, untraced, before the first step;
        an evaluation never needs it.
        """
        ...

    def loss(
        self, params: Params, state: State, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, LossOutput]:
        """Scalar mean loss of a batch."""
        ...

    def predict(self, params: Params, state: State, batch: Batch) -> dict[str, jax.Array]:
        """Outputs for people and for `metrics`, each with a leading batch axis."""
        ...

    def metrics(self, outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        """Per-example metrics, each `[B, ...]`; concatenated over the split by the engine.

        Must contain `error` ([B], larger is worse), by which the worst examples are picked. If it
        has no `loss`, the engine adds `System.loss` of each example alone (train=False, vmap).
        """
        ...

    def calibrate(self, state: State, records: Mapping[str, np.ndarray]) -> State:
        """State with post-hoc calibration (a temperature, say) fitted on records of `train`.

        Called by the evaluation only, before `predict` runs on the split that is reported.
        A system with nothing to calibrate returns `state`; an attribute `calibrates` that is
        False spares it the pass over train.
        """
        ...

    def summarize(self, records: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Numbers of a split from the concatenated `metrics` (RMS, recall, ...); host, float64.

        Model selection reads one of these by name (`train.checkpoint.best_metric`). Before the
        first step it may be called with records of zeros, to learn the names.
        """
        ...

    def report(
        self,
        records: Mapping[str, np.ndarray],
        summary: Mapping[str, float],
        examples: Sequence[Mapping[str, np.ndarray]],
    ) -> Report:
        """What a person should see of an evaluation; the engine writes it to files.

        Args:
          records: the concatenated per-example metrics of the split, and, where the source has
            `describe`, `name` [N] str: how it describes each record, for people to find it by.
          summary: what `summarize` made of the records.
          examples: a few examples, each the merged dict of one example's batch entries and
            `predict` outputs (no batch axis): the worst ones and some random ones.
        """
        ...
