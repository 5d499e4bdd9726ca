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

from posejax import cli
from posejax.config import ConfigError, Experiment, TrainConfig, check_range, no_such
from posejax.data import pipeline
from posejax.data.errors import DataError
from posejax.train import checkpoint, sharding, step
from posejax.train import optimizer as optimizers
from posejax.train.evaluation import Evaluator, batch_size_for
from posejax.train.step import TrainState
from posejax.train.system import Batch, System


@dataclass(frozen=True)
class Assembly:
    """An experiment, one split of its data and the devices: what training and evaluation share."""

    experiment: Experiment
    mesh: Mesh
    examples: pipeline.Examples

    @property
    def system(self) -> System:
        return self.experiment.system

    @property
    def train(self) -> TrainConfig:
        return self.experiment.train

    @property
    def key(self) -> jax.Array:
        return jax.random.key(self.experiment.seed)

    @property
    def placement(self) -> NamedSharding:
        """Of the examples of a batch."""
        return sharding.batch_sharding(self.mesh)

    @cached_property
    def resident(self) -> dict[str, jax.Array]:
        """What every batch of the split carries besides its examples, on the devices."""
        return sharding.place_resident(self.examples.source, self.mesh)

    @cached_property
    def batch_of_one(self) -> Batch:
        """The first example, the same on every process: shapes for `System.init`."""
        first, _ = pipeline.pop_skipped(self.examples(0, np.random.default_rng(0)))
        return Batch({k: v[None] for k, v in first.items()}, self.resident)

    @cached_property
    def model_shapes(self) -> tuple[Any, Any]:
        """Shapes of parameters and non-trained variables."""
        return jax.eval_shape(self.system.init, self.key, self.batch_of_one)

    def init_key(self) -> jax.Array:
        """Key of the initial parameters."""
        return jax.random.fold_in(self.key, 0)

    def step_key(self) -> jax.Array:
        """Key of the steps; each folds its number in."""
        return jax.random.fold_in(self.key, 1)

    def evaluator(self, batch_size: int | None = None) -> Evaluator:
        """For batches of `batch_size`, or of what the config says."""
        wanted = batch_size or self.train.evaluation.batch_size or self.train.batch_size
        size = batch_size_for(self.mesh.size, wanted)
        return Evaluator(self.system, self.mesh, size, self.train.data)

    def eval_examples(self, split: str) -> pipeline.Examples:
        return make_examples(self.experiment, split, train=False)


@dataclass(frozen=True)
class Parts(Assembly):
    """A training run, set up but not begun. Shapes only: no parameter exists yet."""

    val: pipeline.Examples  # what is evaluated meanwhile
    steps: int
    optimizer: optimizers.Optimizer
    target: TrainState  # shapes and shardings of the state

    @cached_property
    def batch(self) -> Batch:
        """Shapes and shardings of a batch."""
        local = self.train.batch_size // jax.process_count()
        rows = {
            k: np.broadcast_to(v, (local, *v.shape[1:]))
            for k, v in self.batch_of_one.examples.items()
        }
        resident = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), self.resident
        )
        return Batch(sharding.abstract_batch(rows, self.placement), resident)

    def place(self, host: dict[str, np.ndarray]) -> Batch:
        """A batch on the devices."""
        return Batch(sharding.put_batch(host, self.placement), self.resident)

    def shardings(self) -> TrainState:
        return jax.tree.map(lambda x: x.sharding, self.target)

    def epochs_done(self, step: int) -> int:
        """Complete passes after `step` steps."""
        return step * self.train.batch_size // len(self.examples.source)

    def epoch(self, at: int) -> float:
        """Passes done after step `at`."""
        return at * self.train.batch_size / len(self.examples.source)

    def init(self) -> TrainState:
        """The state before the first step, laid out over the mesh."""

        def make(key: jax.Array, batch: Batch) -> TrainState:
            ema = self.train.ema is not None
            return step.init_state(self.system, self.optimizer, key, batch, ema)

        shardings = self.shardings()
        state = jax.jit(make, out_shardings=shardings)(self.init_key(), self.batch_of_one)
        params, model_state = self.system.start(state.params, state.model_state)
        if params is state.params and model_state is state.model_state:
            return state
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


def make_examples(experiment: Experiment, split: str, *, train: bool) -> pipeline.Examples:
    """Examples of a split, read as the config says.

    Raises:
      ConfigError: the data has no such split.
    """
    data, skip = experiment.system.data, experiment.train.data.on_error == "skip"
    try:
        source = data.source(split)
    except (LookupError, ValueError) as error:
        if split in data.splits or isinstance(error, ConfigError | DataError):
            raise
        raise ConfigError(f"split {no_such(split, data.splits, 'there are')}") from error
    return pipeline.make_examples(data, source, split, train=train, skip=skip)


def check(experiment: Experiment) -> None:
    """What needs neither data nor checkpoints, so that a mistake is told before they are opened.

    Raises:
      ConfigError: a setting is out of range or does not fit another one.
    """
    train = experiment.train
    for name, low in _LOWEST.items():
        value = operator.attrgetter(name)(train)
        if value is not None:
            check_range(f"train.{name}", value, low)
    if train.ema is not None and not 0 <= train.ema < 1:
        raise ConfigError(f"train.ema: {train.ema}; expected a decay of at least 0 and below 1")
    experiment.system.check()


_LOWEST = {
    "batch_size": 1, "accumulate": 1, "data.workers": 0, "data.threads": 1, "data.prefetch": 1,
    "data.device_prefetch": 1, "evaluation.every_epochs": 0, "evaluation.every_steps": 1,
    "evaluation.examples": 1, "evaluation.batch_size": 1, "checkpoint.every_steps": 1,
    "checkpoint.keep_latest": 1, "checkpoint.keep_best": 0, "nonfinite.stop_after": 0,
    "nonfinite.replay_files": 0,
}  # fmt: skip


def open_split(experiment: Experiment, split: str, batch_size: int | None = None) -> Assembly:
    """Open a split for evaluation, on as many devices as its batches divide over.

    Raises:
      ConfigError: a setting does not fit another one.
      DataError: the split cannot be read.
    """
    check(experiment)
    train = experiment.train
    size = batch_size or train.evaluation.batch_size or train.batch_size
    devices = sharding.usable_devices(len(jax.devices()), size)
    rule = dataclasses.replace(train.sharding, devices=devices, fsdp=1)
    mesh = sharding.make_mesh(rule, size)
    return Assembly(experiment, mesh, make_examples(experiment, split, train=False))


def assemble(experiment: Experiment) -> Parts:
    """Build everything that can be checked before a long run begins.

    Raises:
      ConfigError: a setting does not fit the data, the devices or the parameters.
      DataError: a split cannot be read.
    """
    check(experiment)
    train, rule = experiment.train, experiment.train.sharding
    if rule.devices is None and jax.process_count() == 1:
        # A laptop's odd batch should run, on fewer devices if need be.
        micro = max(1, train.batch_size // train.accumulate)
        usable = sharding.usable_devices(len(jax.devices()), micro)
        rule = dataclasses.replace(rule, devices=usable)
    mesh = sharding.make_mesh(rule, train.batch_size, train.accumulate)
    opened = Assembly(experiment, mesh, make_examples(experiment, "train", train=True))
    steps = number_of_steps(train, len(opened.examples.source))
    params, _ = opened.model_shapes
    if not jax.tree.leaves(params):
        raise ConfigError(
            f"{experiment.name}: the system has no parameters, so there is nothing to train; "
            f"evaluate it: {cli.command('eval')} --config ..."
        )
    optimizer = optimizers.make(train.optimizer, params, steps)
    state = jax.eval_shape(
        lambda key, batch: step.init_state(
            experiment.system, optimizer, key, batch, train.ema is not None
        ),
        opened.key,
        opened.batch_of_one,
    )
    target = checkpoint.abstract(state, sharding.state_sharding(state, mesh, rule))
    val = opened.eval_examples(train.evaluation.split)
    return Parts(experiment, mesh, opened.examples, val, steps, optimizer, target)


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
