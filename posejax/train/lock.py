"""One run per folder: a lock that the system drops with its process, and a heartbeat for others.

The kernel's lock ends with the process, however it ends, on this host and on file systems that
share locks. For the others the file says who holds it and counts up every few seconds: a count
that stands still belongs to nobody.
"""

import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, Self

BEAT = 5.0  # seconds between two counts
WATCH = 3.2 * BEAT  # without a new count for this long, the holder is dead
NAME = "run.lock"


class InUseError(ValueError):
    """Another process works in the folder; the message says which."""


class Lock:
    """Holds a run folder while open.

    Args:
      enabled: False holds nothing: of several processes of a run the first one holds the folder.

    Raises:
      InUseError: by `__enter__`.
    """

    def __init__(self, workdir: Path, *, enabled: bool = True):
        self.path, self.enabled = workdir / NAME, enabled
        self._end = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="posejax-lock", daemon=True)
        self._me: dict[str, Any] = {
            "host": socket.gethostname(), "pid": os.getpid(), "since": time.ctime(), "count": 0,
        }  # fmt: skip

    def __enter__(self) -> Self:
        if not self.enabled:
            return self
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = False
            except BlockingIOError:
                held = True
            except OSError:  # a file system without locks: the file must do
                held = False
            holder = _read(self.path)
            if held or self._lives(holder):
                who = "another process"
                if holder:
                    who = "process {pid} on {host}, since {since}".format(**holder)
                raise InUseError(
                    f"{self.path.parent}: in use by {who}; wait for it, stop it, or choose "
                    "another --workdir"
                )
        except BaseException:
            os.close(self._file)
            raise
        self._write(self._me)
        self._beating.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.enabled:
            self._end.set()
            self._beating.join()
            self._write(None)
            os.close(self._file)

    def _lives(self, holder: dict[str, Any] | None) -> bool:
        """Whether whoever wrote the file is at work although the kernel gave us the lock."""
        if holder is None:
            return False
        if holder["host"] == self._me["host"]:
            return False  # the kernel knows better
        end = time.monotonic() + WATCH
        while time.monotonic() < end:
            time.sleep(min(1.0, BEAT))
            now = _read(self.path)
            if now != holder:
                return now is not None
        return False

    def _beat(self) -> None:
        while not self._end.wait(BEAT):
            self._me["count"] += 1
            self._write(self._me)

    def _write(self, value: dict[str, Any] | None) -> None:
        text = b"" if value is None else json.dumps(value).encode()
        try:
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))
        except OSError:
            pass  # a full disk is told by what needs the room


def _read(path: Path) -> dict[str, Any] | None:
    """Holder of a lock; None if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if isinstance(found, dict) and {"host", "pid", "since"} <= found.keys():
        return found
    return None
