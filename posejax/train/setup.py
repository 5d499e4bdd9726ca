"""From an experiment to the parts of a run: data, mesh, optimiser, state."""

import dataclasses
import operator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from posejax.config import ConfigError, Experiment, TrainConfig, check_range, no_such
from posejax.data import pipeline
from posejax.data.errors import DataError
from posejax.train import checkpoint, sharding, step
from posejax.train import optimizer as optimizers
from posejax.train.evaluation import Evaluator, batch_size_for
from posejax.train.step import TrainState
from posejax.train.system import System

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Parts:
    """A training run, set up but not begun. Shapes only: no parameter exists yet."""

    experiment: Experiment
    system: System
    mesh: Mesh
    examples: pipeline.Examples
    steps: int
    optimizer: optimizers.Optimizer
    target: TrainState  # shapes and shardings of the state
    examples_batch: dict[str, Any]  # shapes and shardings of a batch, without resident arrays
    placement: NamedSharding  # of a batch
    key: jax.Array

    @property
    def train(self) -> TrainConfig:
        return self.experiment.train

    @cached_property
    def resident(self) -> dict[str, Any]:
        """What every batch of the train split carries besides its examples, on the devices."""
        return sharding.place_resident(self.examples.source, self.mesh)

    @cached_property
    def batch(self) -> dict[str, Any]:
        """Shapes and shardings of a batch."""
        resident = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), self.resident
        )
        return {**self.examples_batch, **resident}

    def place(self, host: dict[str, np.ndarray]) -> dict[str, Any]:
        """A batch on the devices."""
        return {**sharding.put_batch(host, self.placement), **self.resident}

    def shardings(self) -> TrainState:
        return jax.tree.map(lambda x: x.sharding, self.target)

    def epoch_end(self, epoch: int) -> int:
        """Step at which the `epoch`-th pass over the train split is complete (0 -> 0)."""
        return -(-epoch * len(self.examples.source) // self.train.batch_size)

    def epochs_done(self, step: int) -> int:
        """Complete passes after `step` steps."""
        return step * self.train.batch_size // len(self.examples.source)

    def epoch(self, at: int) -> float:
        """Passes done after step `at`."""
        return at * self.train.batch_size / len(self.examples.source)

    def init(self) -> TrainState:
        """The state before the first step, laid out over the mesh."""
        example = _example_batch(self.examples)

        def make(key: jax.Array) -> TrainState:
            ema = self.train.ema is not None
            return step.init_state(self.system, self.optimizer, key, example, ema)

        shardings = self.shardings()
        state = jax.jit(make, out_shardings=shardings)(jax.random.fold_in(self.key, 0))
        start = getattr(self.system, "start", None)
        if start is None:
            return state
        params, model_state = start(state.params, state.model_state)
        params = jax.device_put(params, shardings.params)
        return state._replace(
            params=params,
            model_state=jax.device_put(model_state, shardings.model_state),
            ema=None if state.ema is None else jax.tree.map(jnp.copy, params),
        )

    def first_batch(self) -> dict[str, np.ndarray]:
        """This process's part of a batch, for measurements."""
        local = self.train.batch_size // jax.process_count()
        count = len(self.examples.source)
        rows = [self.examples(i % count, np.random.default_rng(i)) for i in range(local)]
        host = {k: np.stack([r[k] for r in rows]) for k in rows[0]}
        return pipeline.pop_skipped(host)[0]

    def step_key(self) -> jax.Array:
        """Key of the steps; each folds its number in."""
        return jax.random.fold_in(self.key, 1)

    def evaluator(self) -> Evaluator:
        rule = self.train.evaluation
        size = batch_size_for(self.mesh.size, rule.batch_size or self.train.batch_size)
        return Evaluator(self.system, self.mesh, size, self.train.data)

    def eval_examples(self, split: str) -> pipeline.Examples:
        return make_examples(self.system, split, self.train, train=False)


def make_examples(
    system: System, split: str, train_config: TrainConfig, *, train: bool
) -> pipeline.Examples:
    """Examples of a split, read as the config says.

    Raises:
      ConfigError: the data has no such split.
    """
    try:
        source = system.source(split)
    except (LookupError, ValueError) as error:
        if split in SPLITS or isinstance(error, ConfigError | DataError):
            raise
        raise ConfigError(f"split {no_such(split, SPLITS, 'there are')}") from error
    return pipeline.make_examples(
        source, system.transform, split, train=train, skip=train_config.data.on_error == "skip"
    )


def check(experiment: Experiment) -> None:
    """What needs neither data nor checkpoints, so that a mistake is told before they are opened.

    Raises:
      ConfigError: a setting is out of range or does not fit another one.
    """
    _check_sizes(experiment.train)
    experiment.system.build()


_LOWEST = {
    "batch_size": 1, "accumulate": 1, "data.workers": 0, "data.threads": 1, "data.prefetch": 1,
    "data.device_prefetch": 1, "evaluation.every_epochs": 0, "evaluation.every_steps": 1,
    "evaluation.examples": 1, "evaluation.batch_size": 1, "checkpoint.every_steps": 1,
    "checkpoint.keep_latest": 1, "checkpoint.keep_best": 0, "nonfinite.stop_after": 0,
    "nonfinite.replay_files": 0,
}  # fmt: skip


def _check_sizes(train: TrainConfig) -> None:
    for name, low in _LOWEST.items():
        value = operator.attrgetter(name)(train)
        if value is not None:
            check_range(f"train.{name}", value, low)
    if train.ema is not None and not 0 <= train.ema < 1:
        raise ConfigError(f"train.ema: {train.ema}; expected a decay of at least 0 and below 1")


def assemble(experiment: Experiment) -> Parts:
    """Build everything that can be checked before a long run begins.

    Raises:
      ConfigError: a setting does not fit the data, the devices or the parameters.
    """
    train = experiment.train
    _check_sizes(train)
    rule = train.sharding
    if rule.devices is None and jax.process_count() == 1:
        # A laptop's odd batch should run, on fewer devices if need be.
        micro = max(1, train.batch_size // train.accumulate)
        usable = sharding.usable_devices(len(jax.devices()), micro)
        rule = dataclasses.replace(rule, devices=usable)
    mesh = sharding.make_mesh(rule, train.batch_size, train.accumulate)
    system = experiment.system.build()
    examples = make_examples(system, "train", train, train=True)
    steps = number_of_steps(train, len(examples.source))
    key = jax.random.key(experiment.seed)
    example = _example_batch(examples)
    params, _ = jax.eval_shape(system.init, key, example)
    if not jax.tree.leaves(params):
        raise ConfigError(
            f"{experiment.name}: the system has no parameters, so there is nothing to train; "
            "evaluate it with eval_main.py --config"
        )
    optimizer = optimizers.make(train.optimizer, params, steps)
    state = jax.eval_shape(
        lambda k: step.init_state(system, optimizer, k, example, train.ema is not None), key
    )
    target = checkpoint.abstract(state, sharding.state_sharding(state, mesh, rule))
    placement = sharding.batch_sharding(mesh)
    local = train.batch_size // jax.process_count()
    batch = {k: np.broadcast_to(v, (local, *v.shape[1:])) for k, v in example.items()}
    return Parts(
        experiment, system, mesh, examples, steps, optimizer, target,
        sharding.abstract_batch(batch, placement), placement, key,
    )  # fmt: skip


def number_of_steps(train: TrainConfig, examples: int) -> int:
    """Steps of a run over `examples` records."""
    if train.steps is None and train.epochs is None:
        raise ConfigError("give train.steps or train.epochs")
    steps = train.steps
    if steps is None:
        steps = -(-(train.epochs or 0) * examples // train.batch_size)
    if steps < 1:
        raise ConfigError(f"the run has {steps} steps; expected at least one")
    return steps


def _example_batch(examples: pipeline.Examples) -> dict[str, np.ndarray]:
    """A batch of one, the same on every process: shapes for `System.init`."""
    first = examples(0, np.random.default_rng(0))
    first.pop(pipeline.SKIPPED, None)
    return {k: np.asarray(v)[None] for k, v in first.items()}
