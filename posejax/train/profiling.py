"""A closer look at the step: a profiler trace of a few steps, its phases measured apart.

The trace is for Perfetto (trace.json.gz) or xprof (xplane.pb).
"""

import contextlib
import time
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp

from posejax.config import Profile
from posejax.train.step import TrainState
from posejax.train.system import System


class StepTrace:
    """Traces the steps [start, start + steps) of this process."""

    def __init__(self, rule: Profile, workdir: Path):
        self._rule, self._folder = rule, workdir / "profile"
        self._active = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()  # a run shorter than the window still leaves its trace

    @contextlib.contextmanager
    def step(self, count: int, step: int):
        """Around the dispatch of a step; `count` is its number in this process."""
        if self._rule.steps <= 0:
            yield
            return
        if count == self._rule.start:
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._active = True
        elif count == self._rule.start + self._rule.steps:
            self._stop()
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def _stop(self) -> None:
        if self._active:
            self._active = False
            # The last steps may still run on the device.
            jax.effects_barrier()
            jax.profiler.stop_trace()


def measure_phases(
    system: System, state: TrainState, batch: Any, key: jax.Array, repeats: int = 3
) -> dict[str, float]:
    """Milliseconds of `predict`, of the `loss` with its forward pass, and what `backward` adds.

    The three run as separate programs, since the train step is one fused program: the compiler
    shares and reorders work across their borders, so the parts need not add up to the step.
    `predict` is no part of the loss: what it reads out for people may cost more than a loss.
    """

    def loss(params: Any, model_state: Any, batch: Any) -> jax.Array:
        return system.loss(params, model_state, batch, key, jnp.float32(0), True)[0]

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
