"""Every reader of the package, by name, and some that fail in every way that must be noticed."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posejax.data.arrays import read_npy
from posejax.data.errors import DataError
from tests.fuzz.array_readers import ARRAY_CASES, write_npy
from tests.fuzz.av2_readers import AV2_CASES
from tests.fuzz.cases import Case
from tests.fuzz.event_readers import EVENT_CASES
from tests.fuzz.pair_readers import PAIR_CASES
from tests.fuzz.rgbd_readers import RGBD_CASES
from tests.fuzz.rig_readers import RIG_CASES
from tests.fuzz.weight_readers import WEIGHT_CASES

CASES: dict[str, Case] = (
    ARRAY_CASES | AV2_CASES | EVENT_CASES | PAIR_CASES | RGBD_CASES | RIG_CASES | WEIGHT_CASES
)


def _fails(how: Callable[[], Any]) -> Case:
    def read(path: Path) -> None:
        try:
            read_npy(path)
        except DataError:
            how()

    return Case(write_npy, read)


# Readers that fail in every way that must be noticed: the test of the machinery.
BROKEN = {
    "broken_crash": _fails(os.abort),
    "broken_hang": _fails(lambda: time.sleep(1e6)),
    "broken_type": _fails(lambda: len(0)),  # type: ignore[arg-type]
    "broken_memory": _fails(lambda: bytes(1 << 50)),
}
