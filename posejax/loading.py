"""A trained model for inference in one line: `system, predict = posejax.load("georeg_sim")`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax

from posejax.config import Experiment
from posejax.train import weights
from posejax.train.system import Batch, Params, State, System


@dataclass(frozen=True)
class Predictor:
    """`System.predict` with its weights, compiled once per shape of batch."""

    experiment: Experiment
    params: Params
    state: State

    @cached_property
    def _compiled(self) -> Any:
        return jax.jit(self.experiment.system.predict)

    def __call__(
        self, examples: Mapping[str, Any], resident: Mapping[str, Any] | None = None
    ) -> dict[str, jax.Array]:
        """Outputs of a batch, each with a leading batch axis; see the system's `predict`.

        Args:
          examples: stacked results of `system.data.transform`; what only labels are made of may
            hold anything.
          resident: see `posejax.data.dataset.Source.resident`.
        """
        return self._compiled(self.params, self.state, Batch(dict(examples), dict(resident or {})))


class Loaded(NamedTuple):
    """A system and its trained prediction."""

    system: System
    predict: Predictor


def load(source: Path | str, which: str = "best") -> Loaded:
    """A trained system from a run folder, a weights file or the name of shipped weights.

    Args:
      source: run folder, RUN/checkpoints/STEP, .npz or .safetensors file, or a name such as
        "georeg_sim".
      which: "best", "latest" or a step of a run folder.

    Raises:
      CheckpointError: nothing there to load.
      ConfigError: the file holds no experiment, or names classes of unknown modules.
      DataError: a damaged file.
    """
    found = weights.load(source, which)
    if found.experiment is None:
        raise weights.ConfigError(f"{source}: no experiment is saved with these weights")
    experiment = found.experiment
    return Loaded(experiment.system, Predictor(experiment, found.params, found.state))
