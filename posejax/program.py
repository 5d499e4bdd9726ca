"""How both programs begin and end: Ctrl-C and a closed pipe give one line at most, no traceback.

Only the standard library is imported here, so that nothing slow comes before the handler.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130  # what shells report for a program that SIGINT ended
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of glibc's malloc.h
_MOST_CORES = 16


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Call `main` with the program's arguments, and end with the status that it returns.

    Ctrl-C ends the process at once, unless `main` installs a handler of its own, as the training
    loop does. An exception instead would be lost where a callback swallows it (the garbage
    collector's, in jax), or crash an extension module that is half imported. Files survive it:
    all of them are written whole or not at all.
    """
    signal.signal(signal.SIGINT, _leave)
    keep_memory()
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:  # the loop's answer to a second Ctrl-C
        print("interrupted", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


def keep_memory() -> bool:
    """Have glibc keep the memory that is freed, for the next step; returns whether it will.

    By default large blocks go back to the system at once and return as new pages: on two cores a
    step of eventpose_sim took 84,000 page faults, 0.08 of its 0.47 s. One arena for all threads,
    since no other than the first can grow to the size of what a step needs. To be called before
    jax starts its threads. Nothing changes without glibc, on machines of more than 16 cores, whose
    threads would wait for the one arena, and where the environment says how to allocate
    (`MALLOC_...`, or glibc.malloc in `GLIBC_TUNABLES`).
    """
    told = "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    told = told or any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform != "linux" or told or (os.cpu_count() or 1) > _MOST_CORES:
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    wanted = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0, _ARENA_MAX: 1}
    return mallopt is not None and all([mallopt(*option) for option in wanted.items()])


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    show_cursor = b"\x1b[?25h" if os.isatty(2) else b""  # a progress bar may have hidden it
    os.write(2, show_cursor + b"interrupted\n")
    os._exit(INTERRUPTED)
