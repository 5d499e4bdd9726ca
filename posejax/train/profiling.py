"""A profiler trace of a window of steps, for Perfetto (trace.json.gz) or xprof (xplane.pb)."""

import contextlib
from pathlib import Path
from typing import Any, Self

import jax

from posejax.config import Profile


class Window:
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
