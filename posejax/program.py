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


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Call `main` with the program's arguments, and end with the status that it returns.

    Ctrl-C ends the process at once, unless `main` installs a handler of its own, as the training
    loop does. An exception instead would be lost where a callback swallows it (the garbage
    collector's, in jax), or crash an extension module that is half imported. Files survive it:
    all of them are written whole or not at all.
    """
    signal.signal(signal.SIGINT, _leave)
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


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    show_cursor = b"\x1b[?25h" if os.isatty(2) else b""  # a progress bar may have hidden it
    os.write(2, show_cursor + b"interrupted\n")
    os._exit(INTERRUPTED)
