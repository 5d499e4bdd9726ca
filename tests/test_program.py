"""How programs begin: freed memory is kept for the next step."""

import os
import platform
import subprocess
import sys

import pytest

from posejax import program

# 32 MiB taken and given back by a thread, as XLA's do, 20 times: page faults of the last ten.
CODE = """
import resource, threading
from posejax import program
kept, faults = program.keep_memory(), []
def work():
    for turn in range(20):
        bytearray(1 << 25)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
thread = threading.Thread(target=work)
thread.start(); thread.join()
print(kept, faults[-1] - faults[9])
"""


def kept_and_faults(**tunables):
    rest = {k: v for k, v in os.environ.items() if not k.startswith(("GLIBC_TUN", "MALLOC_"))}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=rest | tunables)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc's malloc")
@pytest.mark.skipif((os.cpu_count() or 1) > program._MOST_CORES, reason="for few cores")
def test_large_blocks_are_kept_unless_the_user_tunes_the_allocator():
    kept, faults = kept_and_faults()
    assert kept == "True" and faults < 100
    kept, faults = kept_and_faults(GLIBC_TUNABLES="glibc.rtld.optional_static_tls=512")
    assert kept == "True" and faults < 100
    for told in ({"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}, {"MALLOC_ARENA_MAX": "2"}):
        assert kept_and_faults(**told)[0] == "False"
