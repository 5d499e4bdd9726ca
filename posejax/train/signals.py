"""SIGTERM, SIGINT and SIGHUP ask the loop to save and stop; asked twice, it leaves at once."""

import os
import signal
import threading
from typing import Any, Self

import jax


class Interrupt:
    """While open, remembers that a signal came; several processes learn of it at one step."""

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue  # started by nohup
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        if self.received is None:
            self.received = signal.Signals(number).name
            os.write(2, f"{self.received}: saving; once more leaves without\n".encode())
            return
        # What would have happened without us. Every file is whole or absent at any time.
        before = self._before[number]
        if callable(before):
            before(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def pending(self) -> bool:
        """Whether to stop waiting for data; several processes stop after a step only."""
        return self.received is not None and jax.process_count() == 1

    def reached(self, step: int) -> bool:
        """Whether to stop after `step`; the same answer on every process."""
        if jax.process_count() == 1:
            return self.received is not None
        # A collective every few steps only: the processes must agree on the step.
        if step % 16:
            return False
        import numpy as np
        from jax.experimental import multihost_utils

        flags = multihost_utils.process_allgather(np.array(self.received is not None))
        if flags.any() and self.received is None:
            self.received = "a signal on another process"
        return bool(flags.any())
