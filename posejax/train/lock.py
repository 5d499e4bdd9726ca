"""One run per folder: a lock that the system drops with its process, and a heartbeat for others.

The kernel's lock ends with the process, however it ends, on this host and on file systems that
share locks. For the others the file says who holds it and counts up every few seconds: a count
that stands still belongs to nobody. Who stood still, and is not dead, finds another name there.
"""

import fcntl
import json
import os
import secrets
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
      InUseError: by `__enter__`, and by `check` if another process has taken the folder over.
    """

    def __init__(self, workdir: Path, *, enabled: bool = True):
        self.path, self.enabled = workdir / NAME, enabled
        self._end = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="posejax-lock", daemon=True)
        self._me: dict[str, Any] = {
            "host": socket.gethostname(), "pid": os.getpid(), "since": time.ctime(),
            "id": secrets.token_hex(8), "count": 0,
        }  # fmt: skip
        self._written = False  # whether the file says that we hold it
        self._looked = time.monotonic()  # when it was last found to
        self._lost: str | None = None  # who took it from us

    def __enter__(self) -> Self:
        if not self.enabled:
            return self
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            ours = _flock(self._file)
            found = _read(self.path)
            # Of the processes of this host the kernel knows better than the file, if it has locks.
            sure = bool(ours) and (found == b"" or _holder(found).get("host") == self._me["host"])
            if ours is False or (not sure and _beats(self.path, found)):
                self._lost = _name(_read(self.path) or found)
            else:
                self._write(self._me)
                if not sure:  # another process may have waited for the same moment
                    time.sleep(BEAT)
                self._look()
            if self._lost is not None:
                raise InUseError(
                    f"{self.path.parent}: in use by {self._lost}; wait for it, stop it, or choose "
                    "another --workdir"
                )
        except BaseException:
            os.close(self._file)
            raise
        self._beating.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.enabled:
            self._end.set()
            self._beating.join()
            self._look()
            if self._lost is None:
                self._write(None)
            os.close(self._file)

    def check(self) -> None:
        """Raise InUseError if another process has taken the folder over; costs nothing else."""
        if not self.enabled:
            return
        if time.monotonic() - self._looked > WATCH / 2:  # all of us stood still, the heart too
            self._look()
        if self._lost is not None:
            raise InUseError(
                f"{self.path.parent}: taken over by {self._lost}, since this process "
                f"({self._me['pid']} on {self._me['host']}) stood still for too long; it ends "
                "here and writes nothing more"
            )

    def _look(self) -> bool:
        """Whether the file still says what we wrote; notes who took it."""
        found = _read(self.path)
        holder = _holder(found)
        if holder.get("id") == self._me["id"] or not self._written:
            self._looked = time.monotonic()
            return True
        if holder or found == b"":  # at work, or done already; else it cannot be read right now
            self._lost = _name(found)
        return False

    def _beat(self) -> None:
        while not self._end.wait(BEAT) and self._lost is None:
            if self._look():
                self._me["count"] += 1
                self._write(self._me)

    def _write(self, value: dict[str, Any] | None) -> None:
        text = b"" if value is None else json.dumps(value).encode()
        try:
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))
            os.fsync(self._file)  # the other hosts see it now
            self._written = True
        except OSError:
            pass  # a full disk is told by what needs the room


def _flock(file: int) -> bool | None:
    """Whether the kernel gave us its lock, None where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _beats(path: Path, first: bytes | None) -> bool:
    """Whether somebody writes the file, or has it in a way that we cannot tell."""
    if first == b"":
        return False
    end, now = time.monotonic() + WATCH, first
    while time.monotonic() < end:
        time.sleep(min(1.0, BEAT))
        now = _read(path)
        if now == b"":
            return False
        if None not in (first, now) and now != first:
            return True
        first = now if first is None else first
    return now is None


def _read(path: Path) -> bytes | None:
    """Content of a lock, empty if nobody holds it; None if that cannot be known."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _holder(content: bytes | None) -> dict[str, Any]:
    """Who wrote it; {} if it is empty, or not to be understood (half written, say)."""
    try:
        found = json.loads(content or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) and {"host", "pid", "since"} <= found.keys() else {}


def _name(content: bytes | None) -> str:
    holder = _holder(content)
    if not holder:
        return "another process"
    return "process {pid} on {host}, since {since}".format(**holder)
