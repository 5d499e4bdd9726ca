"""Fields of a JSON file that know where they are, so that every fault is named by its place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from posejax.data.errors import DataError
from posejax.data.files import json_number, path_inside, read_json


class Field:
    """A value in a JSON file; every access raises `DataError` for what is not there, or is of
    another kind."""

    def __init__(self, path: Path, where: str, value: Any):
        self.path, self.where, self.value = path, where, value

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def __getitem__(self, key: str) -> "Field":
        where = f"{self.where}.{key}" if self.where else key
        if key not in self:
            raise DataError(self.path, where, "missing", f"the key {key!r}")
        return Field(self.path, where, self.value[key])

    def items(self) -> Iterator[tuple[str, "Field"]]:
        """Keys and values of an object."""
        for key in self._kind(dict, "an object"):
            yield key, self[key]

    def rows(self) -> Iterator["Field"]:
        """Items of a list."""
        for number, value in enumerate(self._kind(list, "a list")):
            yield Field(self.path, f"{self.where}[{number}]", value)

    def text(self) -> str:
        """A text."""
        return self._kind(str, "text")

    def number(self) -> float:
        """A finite number."""
        return json_number(self.path, self.where, self.value)

    def positive(self) -> float:
        """A number above 0."""
        if (number := self.number()) <= 0:
            raise self.fault(number, "a number above 0")
        return number

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high."""
        value = self.value
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.fault(repr(value)[:80], f"a whole number from {low} to {high}")
        return value

    def vector(self, *keys: str) -> np.ndarray:
        """[K] float64: the numbers of those keys of an object."""
        return np.array([self[key].number() for key in keys], np.float64)

    def file(self) -> Path:
        """The name of a file below the folder of this one."""
        found = path_inside(self.path.parent, self.text())
        if found is None:
            raise self.fault(repr(self.value[:80]), "a file below the folder")
        return found

    def fault(self, found: Any, expected: str) -> DataError:
        """The error that names this field."""
        return DataError(self.path, self.where or "top level", found, expected)

    def _kind(self, kind: type, expected: str) -> Any:
        if not isinstance(self.value, kind):
            raise self.fault(repr(self.value)[:80], expected)
        return self.value


def json_fields(path: str | Path, expected: str) -> Field:
    """The top of a JSON file.

    Raises:
      DataError: see `read_json`.
    """
    path = Path(path)
    return Field(path, "", read_json(path, expected))
