"""Who may train in a folder: the kernel's lock, and the heartbeat where there is none."""

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest_train import TOY

from posejax.train import InUseError, lock


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    monkeypatch.setattr(lock, "WATCH", 0.5)


def put(path, holder):
    """Write as a holder does: never empty."""
    text = json.dumps(holder).encode()
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(file, text, 0)
    os.ftruncate(file, len(text))
    os.close(file)


@contextlib.contextmanager
def beating(path, holder):
    """Another process that holds the lock and lives."""
    end = threading.Event()

    def beat():
        while not end.wait(0.02):
            holder["count"] += 1
            put(path, holder)

    put(path, holder)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_the_lock_of_another_host_is_taken_when_its_heart_stands_still(tmp_path):
    path = tmp_path / lock.NAME
    holder = {"host": "elsewhere", "pid": 7, "since": "monday", "count": 0}
    path.write_text(json.dumps(holder))
    with lock.Lock(tmp_path):
        end = time.monotonic() + 10
        while (mine := json.loads(path.read_text()))["count"] == 0 and time.monotonic() < end:
            time.sleep(0.02)
        assert mine["pid"] == os.getpid() and mine["count"] > 0
    assert path.read_text() == ""
    with beating(path, holder), pytest.raises(InUseError, match="process 7 on elsewhere, since m"):
        lock.Lock(tmp_path).__enter__()


def test_without_locks_of_the_kernel_the_heartbeat_decides_on_this_host_too(tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", no_locks)
    with lock.Lock(tmp_path), pytest.raises(InUseError, match=f"process {os.getpid()} on "):
        lock.Lock(tmp_path).__enter__()
    dead = {"host": socket.gethostname(), "pid": 7, "since": "monday", "count": 0}
    (tmp_path / lock.NAME).write_text(json.dumps(dead))
    with lock.Lock(tmp_path):
        pass


def test_of_two_that_take_a_dead_lock_over_one_gets_it(tmp_path, monkeypatch):
    """Both found the heart standing still; the other one writes last."""
    path = tmp_path / lock.NAME
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7, "since": "monday"}))
    original = lock.Lock._write

    def write(self, value):
        original(self, value)
        path.write_text(json.dumps({"host": "third", "pid": 8, "since": "tuesday"}))

    monkeypatch.setattr(lock.Lock, "_write", write)
    with pytest.raises(InUseError, match="in use by process 8 on third"):
        lock.Lock(tmp_path).__enter__()
    assert json.loads(path.read_text())["host"] == "third"


def test_a_lock_that_cannot_be_read_is_not_free(tmp_path, monkeypatch):
    path = tmp_path / lock.NAME
    path.write_text("{half")  # as a write in progress looks like from elsewhere
    with beating(path, {"host": "elsewhere", "pid": 7, "since": "monday", "count": 0}):
        path.write_text("{half")
        with pytest.raises(InUseError, match="in use by"):
            lock.Lock(tmp_path).__enter__()
    path.write_text("{half")  # and nobody goes on writing it
    with lock.Lock(tmp_path):
        pass
    monkeypatch.setattr(lock, "_read", lambda path: None)
    with pytest.raises(InUseError, match="in use by another process"):
        lock.Lock(tmp_path).__enter__()


def test_a_heartbeat_stops_where_another_one_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "WATCH", 100.0)  # `check` itself has no reason to look
    path = tmp_path / lock.NAME
    other = {"host": "elsewhere", "pid": 7, "since": "monday", "id": "a", "count": 3}
    with lock.Lock(tmp_path) as held:
        held.check()
        put(path, other)
        held._beating.join(10)
        with pytest.raises(InUseError, match="taken over by process 7 on elsewhere"):
            held.check()
    assert json.loads(path.read_text()) == other


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from posejax.train import lock\n"
        f"with lock.Lock(Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(TOY.parents[2])}
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InUseError, match=f"process {other.pid} on"):
        lock.Lock(tmp_path).__enter__()
    other.kill()
    other.wait()
    with lock.Lock(tmp_path):
        pass
