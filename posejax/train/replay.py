"""Why a batch gave a non-finite loss: its entries, its examples, the operation at fault."""

from pathlib import Path

import jax
import numpy as np
from jax.experimental import checkify

from posejax.config import ConfigError
from posejax.data.arrays import read_npz
from posejax.data.errors import DataError
from posejax.data.pipeline import Examples
from posejax.train.setup import Parts
from posejax.train.step import TrainState, progress_of
from posejax.train.system import Batch


def load(path: Path, examples: Examples) -> dict[str, np.ndarray]:
    """A batch that was kept under replay/ by a run on such examples.

    Raises:
      ConfigError: no such file, another kind of file, or a batch of other examples.
    """
    if not path.is_file():
        raise ConfigError(f"--debug.replay {path}: no such file; batches are in RUN/replay/*.npz")
    spec = examples.spec or {}
    try:
        batch = read_npz(path, names=spec)
    except DataError as error:
        raise ConfigError(f"--debug.replay: no batch of this run: {error}") from None
    count = max((v.shape[:1] for v in batch.values()), default=())
    for name, value in batch.items():
        shape, dtype = spec.get(name, (None, None))
        if not count or value.shape[:1] != count or value.shape[1:] != shape:
            raise ConfigError(
                f"--debug.replay {path}: no batch of this run: entry {name!r} is "
                f"{value.dtype}{list(value.shape)}; its examples have "
                + ("none" if shape is None else f"{dtype}{list(shape)}")
            )
    return batch


def explain(parts: Parts, state: TrainState, path: Path) -> str:
    """What is wrong with a batch, given the parameters of `state`, in a few lines."""
    batch = load(path, parts.examples)
    lines = [f"{path}: {len(batch['index'])} examples, parameters of step {int(state.step)}"]
    for name, value in batch.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            rows = np.flatnonzero(~np.isfinite(value.reshape(len(value), -1)).all(axis=1))
            records = batch["index"][rows].tolist()
            lines.append(f"entry {name!r} is not finite in records {records}")

    key = jax.random.fold_in(parts.step_key(), state.step)
    progress = progress_of(state.step, parts.steps)

    def loss(params, examples):
        batch = Batch(examples, parts.resident)
        return parts.system.loss(params, state.model_state, batch, key, progress, True)[0]

    gradient = jax.jit(jax.value_and_grad(loss))
    for i, index in enumerate(batch["index"]):
        one = {k: v[i : i + 1] for k, v in batch.items()}
        value, grads = gradient(state.params, one)
        bad = [n for n, x in (("loss", value), ("gradient", grads)) if not _finite(x)]
        if bad:
            lines.append(f"record {int(index)} alone: {' and '.join(bad)} not finite")
    checks = checkify.float_checks | checkify.index_checks
    error, _ = jax.jit(checkify.checkify(jax.value_and_grad(loss), errors=checks))(
        state.params, batch
    )
    lines.append(f"first operation at fault: {error.get() or 'none, with these parameters'}")
    return "\n".join(lines)


def _finite(tree: object) -> bool:
    return all(bool(np.isfinite(x).all()) for x in jax.tree.leaves(jax.device_get(tree)))
