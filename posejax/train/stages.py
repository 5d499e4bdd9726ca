"""What the stages of a system cost: FLOPs, bytes, the least time for them, the time they take.

The least time is the roofline's (Williams et al., CACM 2009): FLOPs over what the device reaches in
a large matrix product, or bytes over what it reaches in a copy, whichever is longer. Bytes are
those that have to move, arguments and results once each; what a stage writes and reads again in
between is the distance from the roof. XLA counts the body of a loop once, however often it runs:
FLOPs and least time of a stage with a scan are too small. The product is of float32: a stage that
computes in bfloat16 may pass the roof. Stages are compiled apart: in the train step the compiler
fuses across their borders.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from posejax.train.step import TrainState
from posejax.train.system import System

_SIDE = 2048  # of the matrices whose product is timed
_COPIED = 2**24  # float32 numbers


class Roof(NamedTuple):
    """What the device reaches: FLOP/s in a float32 matrix product, bytes/s in a copy."""

    flops: float
    bandwidth: float


class Stage(NamedTuple):
    """One stage; seconds. `floor` is the least time, `share` of it in what was measured."""

    name: str
    flops: float
    bytes: int
    floor: float
    seconds: float

    @property
    def share(self) -> float:
        return self.floor / self.seconds


def measure(system: System, state: TrainState, batch: Any, repeats: int = 3) -> list[Stage]:
    """The stages that `system.stages` names, on one batch; empty if it names none."""
    functions = system.stages()
    if not functions:
        return []
    roof, found, carried = measure_roof(repeats), [], None
    for name, function in functions.items():
        arguments = (state.params, state.model_state, batch, carried)
        # Arguments that a stage does not use are dropped from its program and its bytes.
        compiled = jax.jit(function).lower(*arguments).compile()
        carried, seconds = best_time(lambda c=compiled, a=arguments: c(*a), repeats)
        cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
        flops = float(cost.get("flops", 0.0))
        moved = sum(
            int(getattr(memory, f"{kind}_size_in_bytes", 0)) for kind in ("argument", "output")
        )
        floor = max(flops / roof.flops, moved / roof.bandwidth)
        found.append(Stage(name, flops, moved, floor, seconds))
    return found


def measure_roof(repeats: int = 3) -> Roof:
    """Of the default device, now: on a shared machine less than what it could."""
    square, line = jnp.ones((_SIDE, _SIDE)), jnp.ones(_COPIED)
    multiply, copied = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    _, product = best_time(lambda: multiply(square, square), repeats)
    _, copy = best_time(lambda: copied(line), repeats)
    return Roof(2 * _SIDE**3 / product, 2 * line.nbytes / copy)


def best_time(call: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """The result of a call and the shortest of several times in seconds, after one for warmth."""
    result = jax.block_until_ready(call())
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(call())
        best = min(best, time.perf_counter() - begin)
    return result, best


def table(rows: Sequence[Stage]) -> str:
    """For the terminal."""
    if not rows:
        return "stages: the system names none"
    head = f"{'stage':12s} {'GFLOP':>9s} {'MB':>9s} {'floor ms':>9s} {'ms':>9s} {'of roof':>8s}"
    lines = [
        f"{r.name:12s} {r.flops / 1e9:9.3g} {r.bytes / 1e6:9.4g} {1e3 * r.floor:9.3g} "
        f"{1e3 * r.seconds:9.4g} {100 * r.share:6.1f} %"
        for r in rows
    ]
    return "\n".join([head, *lines])
