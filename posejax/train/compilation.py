"""The train step as a program compiled ahead of the loop, and what the compiler knows of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import checkify

from posejax.train import sharding
from posejax.train.console import size
from posejax.train.setup import Parts
from posejax.train.step import TrainState, make_step, pack

Step = Callable[[TrainState, Any], tuple[TrainState, Any]]


@dataclass(frozen=True)
class Program:
    """A compiled function and its price."""

    call: Callable[..., Any]
    seconds: float
    flops: float
    temporary: int  # bytes that come and go during a call, per device
    arguments: int  # bytes of the inputs, per device

    def describe(self, name: str) -> str:
        flops = f"{self.flops / 1e9:.3g} GFLOP" if self.flops > 0 else "unknown FLOPs"
        return (
            f"{name}: compiled in {self.seconds:.1f} s; {flops} per call and device, memory "
            f"{size(self.arguments)} arguments + {size(self.temporary)} temporary"
        )


def packed_step(parts: Parts, stage: int) -> tuple[Step, list[str]]:
    """The step of a stage of unfreezing, its scalars in one array; and their names, in order."""
    key, train = parts.step_key(), parts.train
    step = make_step(parts.system, parts.optimizer, train, key, stage, parts.steps)
    names = sorted(jax.eval_shape(step, parts.target, parts.batch)[1])

    def packed(state: TrainState, batch: Any) -> tuple[TrainState, jax.Array]:
        new, scalars = step(state, batch)
        return new, pack(scalars)

    return packed, names


def compile_step(step: Step, parts: Parts) -> Program:
    """Compile `step(state, batch)` for a run; the state is donated, the rest replicated."""
    begin = time.perf_counter()
    everywhere = sharding.replicated(parts.mesh)
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(parts.shardings(), everywhere))
    compiled = jitted.lower(parts.target, parts.batch).compile()
    seconds = time.perf_counter() - begin
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    return Program(
        compiled,
        seconds,
        float(cost.get("flops", 0.0)),
        int(getattr(memory, "temp_size_in_bytes", 0)),
        int(getattr(memory, "argument_size_in_bytes", 0)),
    )


def compile_checked(step: Step) -> Step:
    """`step` that raises in the operation that met a bad index, a division by zero or a NaN.

    Slow: every call waits for its result.
    """
    checked = jax.jit(checkify.checkify(step, errors=checkify.index_checks | checkify.float_checks))

    def call(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        error, result = checked(state, batch)
        error.throw()
        return result

    return call
