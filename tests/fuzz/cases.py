"""A reader of files, and how a valid one comes about."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from posejax.data.errors import DataError


@dataclasses.dataclass(frozen=True)
class Case:
    """A reader.

    Attributes:
      write: writes a valid data set into a folder and returns the file to damage.
      read: reads the data set, given that file, and checks what comes out.
      real: files of a real data set (patterns below POSEJAX_DATA), the first to be damaged.
      refusals: errors that a damaged file may end in.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    real: tuple[str, ...] = ()
    refusals: tuple[type[Exception], ...] = (DataError,)


def finite(*arrays: Any) -> None:
    for values in arrays:
        assert np.isfinite(values).all()
