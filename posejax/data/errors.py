"""The one error of every reader: it names the file, the field and what was expected there."""

from os import PathLike, fspath
from typing import Any


class DataError(ValueError):
    """Input data that cannot be used: "FILE: FIELD: what was found; expected ...; hint".

    Args:
      file: the file (or folder) at fault.
      field: the column, key, array or line in it, e.g. `"column tx_m"` or `"line 12"`.
      found: what is there, e.g. `"dtype float16"`.
      expected: what must be there instead, e.g. `"float32 or float64"`.
      hint: how to fix it, when there is something to say.

    Survives pickling, so a worker process can raise it and the parent still sees every part.
    """

    def __init__(
        self,
        file: str | PathLike[str],
        field: str,
        found: Any,
        expected: Any = "",
        hint: str = "",
    ):
        self.file = fspath(file)
        self.field = field
        self.found = str(found)
        self.expected = str(expected)
        self.hint = hint
        message = f"{self.file}: {field}: {self.found}"
        if self.expected:
            message += f"; expected {self.expected}"
        if hint:
            message += f"; {hint}"
        super().__init__(message)

    def __reduce__(self):
        return type(self), (self.file, self.field, self.found, self.expected, self.hint)
