"""What a system learns from: records by index, and the example made of a record.

NumPy only: both run in data workers, which must not touch a device.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SPLITS = ("train", "val", "test")


class Source(ABC):
    """Random access to raw records of one split; picklable, opens its files on first use.

    Attributes:
      skipped: (name, reason) of everything that was left out; runs and evaluations list it.
    """

    skipped: Sequence[tuple[str, str]] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def describe(self, index: int) -> str:
        """Names a record for people: its file and key, without the folder of the data set."""
        return f"record {index}"

    def resident(self) -> Mapping[str, np.ndarray]:
        """Arrays that every step reads, placed once, whole, on every device.

        A split of packed recordings, of which an example names a piece, or a plan that all
        examples share. They reach the system as `Batch.resident`.
        """
        return {}


class Dataset(ABC):
    """Splits of records and the way from a record to an example; picklable as a whole.

    Attributes:
      title: what the data is, for people.
      simulated: whether it is; reports say so before anything else.
      splits: names that `source` knows.
    """

    title: str
    simulated: bool
    splits: tuple[str, ...] = SPLITS

    @abstractmethod
    def source(self, split: str) -> Source:
        """Raw records of `split`, one of `splits`, made or read on first use."""

    @abstractmethod
    def transform(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> dict[str, np.ndarray]:
        """One example of fixed shapes and dtypes from a raw record; augments when `train`.

        Contains `index` (int32 scalar), the record's position in its source, by which logs name
        the sample. The engine's `rng` is a function of (seed, position) alone.
        """


def unused_split(dataset: Dataset, evaluation: str) -> str | None:
    """A split that neither trains nor, as `evaluation` does, chooses checkpoints; None without."""
    return next((s for s in reversed(dataset.splits) if s not in ("train", evaluation)), None)
