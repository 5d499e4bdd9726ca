"""The train step: one pure function of (state, batch), compiled once per stage of unfreezing."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from posejax.config import TrainConfig
from posejax.train import groups
from posejax.train.optimizer import Optimizer
from posejax.train.system import Batch, Params, State, System

Scalars = dict[str, jax.Array]


class TrainState(NamedTuple):
    """All that a step reads and writes; what a checkpoint holds."""

    step: jax.Array  # int32: steps done, which is also the position in the data
    params: Params
    model_state: State
    opt_state: dict[str, Any]
    ema: Params | None
    skipped: jax.Array  # int32: steps skipped because of non-finite values
    in_a_row: jax.Array  # int32: of these, the last ones in a row

    def eval_params(self) -> Params:
        """What evaluation and export use: the moving average if there is one."""
        return self.params if self.ema is None else self.ema


def init_state(
    system: System, optimizer: Optimizer, key: jax.Array, batch: Batch, ema: bool
) -> TrainState:
    """State before the first step."""
    params, model_state = system.init(key, batch)
    return TrainState(
        step=jnp.int32(0),
        params=params,
        model_state=model_state,
        opt_state=optimizer.init(params),
        # A copy: a donated buffer must not appear twice.
        ema=jax.tree.map(jnp.copy, params) if ema else None,
        skipped=jnp.int32(0),
        in_a_row=jnp.int32(0),
    )


def make_step(
    system: System,
    optimizer: Optimizer,
    train: TrainConfig,
    key: jax.Array,
    stage: int,
    steps: int,
) -> Callable[[TrainState, Batch], tuple[TrainState, Scalars]]:
    """Train step of the stage that begins at step `stage`, of a run of `steps` steps.

    Parameters that are frozen in this stage are constants of the differentiated function, so no
    gradient of theirs is ever formed. If the loss or the gradient norm is not finite, every part
    of the state but the counters keeps its old value.

    Returns:
      Function of (state, batch) giving the new state and scalars: `loss`, the system's own,
      `grad_norm` (before clipping), `update_norm`, `lr/GROUP`, `finite` (0 or 1), `in_a_row`,
      `skipped`.
    """
    trained = frozenset(p for m in optimizer.trained(stage) for p in m.paths)

    def gradients(params: Params, state: State, batch: Batch, rng: jax.Array, progress: jax.Array):
        flat = groups.flatten(params)
        frozen = {p: v for p, v in flat.items() if p not in trained}

        def objective(part: groups.Flat):
            whole = groups.unflatten({**frozen, **part}, params)
            value, out = system.loss(whole, state, batch, rng, progress, True)
            return value.astype(jnp.float32), out

        active = {p: v for p, v in flat.items() if p in trained}
        with jax.named_scope("gradient"):
            return jax.value_and_grad(_remat(objective, train.remat), has_aux=True)(active)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        rng, progress = jax.random.fold_in(key, state.step), progress_of(state.step, steps)
        if train.accumulate == 1:
            (loss, out), grads = gradients(state.params, state.model_state, batch, rng, progress)
            model_state, scalars = out.state, out.scalars
        else:
            loss, model_state, scalars, grads = _accumulate(
                gradients, state, batch, rng, progress, train.accumulate
            )
        flat = groups.flatten(state.params)
        with jax.named_scope("update"):
            updates, opt_state, norm = optimizer.update(
                grads, state.opt_state, {p: flat[p] for p in grads}, state.step, stage
            )
            params = groups.unflatten(
                {p: v + updates[p] if p in updates else v for p, v in flat.items()}, state.params
            )
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        ema = None if state.ema is None else _average(state.ema, params, state.step, train.ema)
        kept = _select(
            finite,
            (params, model_state, opt_state, ema),
            (state.params, state.model_state, state.opt_state, state.ema),
        )
        bad = (~finite).astype(jnp.int32)
        params, model_state, opt_state, ema = kept
        new = TrainState(
            step=state.step + 1,
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            ema=ema,
            skipped=state.skipped + bad,
            in_a_row=jnp.where(finite, 0, state.in_a_row + 1),
        )
        return new, {
            **{k: v.astype(jnp.float32) for k, v in scalars.items()},
            "loss": loss,
            "grad_norm": norm,
            "update_norm": optax.global_norm(updates),
            **{f"lr/{k}": v for k, v in optimizer.rates(state.step).items()},
            "finite": finite.astype(jnp.float32),
            "in_a_row": new.in_a_row.astype(jnp.float32),
            "skipped": new.skipped.astype(jnp.float32),
        }

    return step


def progress_of(step: jax.Array | int, steps: int) -> jax.Array:
    """Share of a run's steps that are done at `step`, in [0, 1], float32."""
    return jnp.minimum(jnp.float32(step) / steps, 1.0)


def pack(scalars: Scalars) -> jax.Array:
    """All scalars in one array, by sorted name: one transfer instead of a dozen."""
    return jnp.stack([jnp.asarray(scalars[k], jnp.float32) for k in sorted(scalars)])


def _remat(f: Callable, kind: str) -> Callable:
    if kind == "none":
        return f
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if kind == "dots" else None
    return jax.checkpoint(f, policy=policy)


def _accumulate(
    gradients: Callable,
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    progress: jax.Array,
    n: int,
):
    """Means over n micro-batches, one after the other; the non-trained state runs through them.

    Micro-batch a takes the examples a, a + n, ...: each is spread over the devices as the whole
    batch is, so the split moves no data between them.
    """
    micro = jax.tree.map(
        lambda x: x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1), batch.examples
    )

    def one(model_state: State, part: tuple[jax.Array, Any]):
        index, examples = part
        key, micro_batch = jax.random.fold_in(rng, index), Batch(examples, batch.resident)
        (loss, out), grads = gradients(state.params, model_state, micro_batch, key, progress)
        return out.state, (loss, out.scalars, grads)

    first = jax.tree.map(lambda x: x[0], micro)
    shapes = jax.eval_shape(one, state.model_state, (jnp.int32(0), first))[1]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def body(carry, part):
        model_state, total = carry
        model_state, values = one(model_state, part)
        return (model_state, jax.tree.map(jnp.add, total, values)), None

    (model_state, total), _ = jax.lax.scan(
        body, (state.model_state, zeros), (jnp.arange(n, dtype=jnp.int32), micro)
    )
    loss, scalars, grads = jax.tree.map(lambda x: x / n, total)
    return loss, model_state, scalars, grads


def _average(ema: Params, params: Params, step: jax.Array, decay: float | None) -> Params:
    """Moving average whose decay grows to `decay`, so that early values do not linger."""
    d = jnp.minimum(decay or 0.0, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: a + (1 - d).astype(a.dtype) * (p - a), ema, params)


def _select(finite: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
