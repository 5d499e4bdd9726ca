"""What the engine asks of a system; the engine knows nothing else about any of the five."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from posejax.data.dataset import Dataset
from posejax.deploy.program import Input, Program
from posejax.report import Report

Params = Any  # pytree of float32 arrays; `{}` for a system without parameters
State = Any  # non-trained variables, e.g. `{"batch_stats": ...}`; `{}` without


class Batch(NamedTuple):
    """What a step reads.

    examples: arrays with a leading batch axis, channels last, split over the devices.
    resident: `Source.resident`, without a batch axis, whole on every device.
    """

    examples: Mapping[str, Any]
    resident: Mapping[str, Any] = {}


def try_start(system: "System", variables: Callable[[jax.Array], tuple[Params, State]]) -> None:
    """`system.start` on zeros, for `check_start`: what a file does not fit is told at once.

    Args:
      variables: from a key to parameters and state, of which the shapes alone are asked.
    """
    shapes = jax.eval_shape(variables, jax.random.key(0))
    params, state = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    system.start(params, state)


class LossOutput(NamedTuple):
    """What `System.loss` returns beside the scalar loss.

    state: the new non-trained variables (BatchNorm statistics), same structure as the old ones.
    scalars: named scalar arrays to log (parts of the loss, training metrics), means over the batch.
    """

    state: State
    scalars: dict[str, jax.Array]


class System(ABC):
    """One localisation system: its data, and pure functions of arrays.

    By custom a frozen dataclass of its options, of which `data` is one. The engine calls
    `data.transform` in data workers, batches the examples, and compiles `loss` into the train
    step and `predict` + `metrics` into the evaluation step.

    Attributes:
      data: records and examples.
      calibration: entries of the state that `calibrate` fits. They belong to the parameters they
        were fitted for: a training that starts from other weights leaves them behind.
    """

    data: Dataset
    calibration: tuple[str, ...] = ()

    @property
    def calibrates(self) -> bool:
        """Whether `calibrate` has anything to fit; it costs a pass over train."""
        return bool(self.calibration)

    def check(self) -> None:  # noqa: B027 - most have nothing to check
        """Look at settings that must fit together; called before the data are opened.

        Raises:
          ConfigError: they do not; the message names the options.
        """

    def check_start(self) -> None:  # noqa: B027
        """Look at the files that `start` reads, before the data are opened (or simulated).

        Not called where a run goes on from a checkpoint: they may be gone by then.

        Raises:
          ConfigError: one is missing or does not fit; the message names option and file.
        """

    @abstractmethod
    def init(self, key: jax.Array, batch: Batch) -> tuple[Params, State]:
        """Parameters and non-trained variables for arrays of the shapes in `batch`.

        Traced: a pure function of the key and the shapes.
        """

    def start(self, params: Params, state: State) -> tuple[Params, State]:
        """What a run from scratch needs from files: published weights, statistics of train.

        Called once, untraced, before the first step; an evaluation never needs it.
        """
        return params, state

    @abstractmethod
    def loss(
        self,
        params: Params,
        state: State,
        batch: Batch,
        key: jax.Array,
        progress: jax.Array,
        train: bool,
    ) -> tuple[jax.Array, LossOutput]:
        """Scalar mean loss of a batch.

        Args:
          key: another one in every step (and micro-batch).
          progress: float32 scalar, the share of the run's steps that are done: 0 in the first
            step, below 1 in the last, 1 in evaluations. For ramps and temperatures.
        """

    @abstractmethod
    def predict(self, params: Params, state: State, batch: Batch) -> dict[str, jax.Array]:
        """Outputs for people and for `metrics`, each with a leading batch axis."""

    @abstractmethod
    def metrics(self, outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        """Per-example metrics, each `[B, ...]`; concatenated over the split by the engine.

        Contains `error` ([B], larger is worse), by which the worst examples are picked. If it
        has no `loss`, the engine adds `System.loss` of each example alone (train=False, vmap).
        """

    def calibrate(self, state: State, records: Mapping[str, np.ndarray]) -> State:
        """State with post-hoc calibration (a temperature, say) fitted on records of `train`.

        Called by the evaluation only, before `predict` runs on the split that is reported.
        """
        return state

    def summarize(self, records: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Numbers of a split from the concatenated `metrics` (RMS, recall, ...); host, float64.

        Model selection reads one of these by name (`train.checkpoint.best_metric`).
        """
        return {}

    def stages(self) -> Mapping[str, Callable[[Params, State, Batch, Any], Any]]:
        """Parts of the forward pass by name, in their order, for `--profile.stages`.

        Each is a traced function of the parameters, the state, a batch and what the stage before
        it returned (None for the first), as in an evaluation.
        """
        return {}

    def programs(
        self, params: Params, state: State, example: Callable[[], Batch]
    ) -> Mapping[str, Callable[[], Program]]:
        """What can be exported for other runtimes, by name, made when it is asked for.

        By default `predict` on batches of one, of the shapes that the data set has; see
        `posejax.deploy`.

        Args:
          example: makes a batch of one, for which it opens the data set.
        """

        def predict() -> Program:
            batch = example()
            examples = {k: np.asarray(v) for k, v in batch.examples.items()}
            inputs = {k: Input(v.shape, v.dtype) for k, v in examples.items()}

            def run(weights: Any, **inputs: jax.Array) -> Mapping[str, jax.Array]:
                params, state = weights
                return self.predict(params, state, Batch(inputs, batch.resident))

            return Program(run, (params, state), inputs, examples)

        return {"predict": predict}

    def mapping(self) -> tuple[Any, Callable[..., None]] | None:
        """Options (a dataclass, their defaults) and what runs `python -m posejax map` with them.

        The latter gets where the weights are from, parameters, state, experiment and options, of
        which the last two are changed by the command line. None where a system makes no maps.
        """
        return None

    def also_shown(self, records: Mapping[str, np.ndarray]) -> Sequence[int]:
        """Examples (`index`) to show in a report besides the worst and some random ones.

        Some that follow one another, say. `report` of an evaluation gets them last.
        """
        return ()

    @abstractmethod
    def report(
        self,
        records: Mapping[str, np.ndarray],
        summary: Mapping[str, float],
        examples: Sequence[Mapping[str, np.ndarray]],
    ) -> Report:
        """What a person should see of an evaluation; the engine writes it to files.

        Args:
          records: the concatenated per-example metrics of the split, and `name` [N] str: how the
            source describes each record, for people to find it by.
          summary: what `summarize` made of the records.
          examples: a few examples, each the merged dict of one example's batch entries and
            `predict` outputs (no batch axis): the worst ones, some random ones and, in an
            evaluation, those of `also_shown`.
        """
