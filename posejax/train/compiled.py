"""Programs compiled ahead of the loop, with what the compiler knows about them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import checkify

from posejax.train.console import size
from posejax.train.step import TrainState
from posejax.train.system import System


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


def compile_step(step: Callable, state: Any, batch: Any, shardings: Any, out: Any) -> Program:
    """Compile `step(state, batch)`, donating the state.

    Args:
      state, batch: shapes with shardings.
      shardings: of the state, for the new one.
      out: sharding of everything else that is returned.
    """
    begin = time.perf_counter()
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings, out))
    compiled = jitted.lower(state, batch).compile()
    return _program(compiled, time.perf_counter() - begin)


def compile_checked(step: Callable) -> Callable[..., Any]:
    """`step` that raises in the operation that met a bad index, a division by zero or a NaN.

    Slow: every call waits for its result.
    """
    checked = jax.jit(checkify.checkify(step, errors=checkify.index_checks | checkify.float_checks))

    def call(state: Any, batch: Any) -> Any:
        error, result = checked(state, batch)
        error.throw()
        return result

    return call


def _program(compiled: Any, seconds: float) -> Program:
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    return Program(
        compiled,
        seconds,
        float(cost.get("flops", 0.0)),
        int(getattr(memory, "temp_size_in_bytes", 0)),
        int(getattr(memory, "argument_size_in_bytes", 0)),
    )


def measure_phases(
    system: System, state: TrainState, batch: Any, key: jax.Array, repeats: int = 3
) -> dict[str, float]:
    """Milliseconds of `predict`, of the `loss` with its forward pass, and what `backward` adds.

    The three run as separate programs, since the train step is one fused program: the compiler
    shares and reorders work across their borders, so the parts need not add up to the step.
    `predict` is no part of the loss: what it reads out for people may cost more than a loss.
    """

    def loss(params: Any, model_state: Any, batch: Any) -> jax.Array:
        return system.loss(params, model_state, batch, key, True)[0]

    times = []
    for f in (system.predict, loss, jax.value_and_grad(loss)):
        arguments = (state.params, state.model_state, batch)
        compiled = jax.jit(f).lower(*arguments).compile()
        jax.block_until_ready(compiled(*arguments))
        best = float("inf")
        for _ in range(repeats):
            begin = time.perf_counter()
            jax.block_until_ready(compiled(*arguments))
            best = min(best, time.perf_counter() - begin)
        times.append(1e3 * best)
    return {
        "predict": times[0],
        "loss": times[1],
        "backward": max(0.0, times[2] - times[1]),
    }


def parameter_table(params: Any, trained: dict[str, str], most: int | None = None) -> str:
    """Path, shape, size, spread and group of every parameter (the totals alone for `most` = 0)."""
    import numpy as np

    from posejax.train.groups import flatten

    flat = flatten(params)
    total = sum(v.size for v in flat.values())
    head = f"{total:,} parameters in {len(flat)} arrays"
    if most == 0:
        return head
    width = max((len(p) for p in flat), default=0)
    lines = []
    for path, value in list(flat.items())[:most]:
        x = np.asarray(value)
        lines.append(
            f"  {path:{width}}  {x.shape!s:20} {x.size:>10,}  "
            f"mean {x.mean():9.2e}  std {x.std():9.2e}  {trained.get(path, '')}"
        )
    return "\n".join([head, *lines])
