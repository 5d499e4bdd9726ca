"""Zip archives out of files that others wrote: no member is larger than its bytes can be."""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from posejax.data.errors import DataError
from posejax.data.files import decoding

_RATIO = 1032  # the most that deflate can reach
_FREE = 1 << 16


class Archive:
    """The members of a zip archive by name.

    Args:
      path: the file, for errors.
      raw: its bytes.
      expected: what it should be, for errors.
      kind: what a member is called in errors.
      suffix: taken off the members' names.

    Raises:
      DataError: no archive, or a name twice.
    """

    def __init__(self, path: str | Path, raw: bytes, expected: str, kind: str, suffix: str = ""):
        self._path, self._expected, self._kind, self._size = path, expected, kind, len(raw)
        self.members: dict[str, zipfile.ZipInfo] = {}
        with decoding(path, "file", expected):
            self._archive = zipfile.ZipFile(io.BytesIO(raw))
            infos = self._archive.infolist()
        for info in infos:
            name = info.filename.removesuffix(suffix)
            if name in self.members:
                raise DataError(path, self.field(name), "twice in the archive", expected)
            self.members[name] = info

    def field(self, name: str) -> str:
        return f"{self._kind} {name[:80]}"

    def check_sizes(self, names: Iterable[str]) -> None:
        """No more bytes than the archive can hold, in an encoding whose ratio is known.

        Raises:
          DataError: a claim beyond that, or beyond 4 GiB in all.
        """
        path, infos = self._path, {name: self.members[name] for name in names}
        for name, info in infos.items():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                found = f"compression method {info.compress_type}"
                raise DataError(path, self.field(name), found, "stored or deflated")
            if info.file_size > _FREE + info.compress_size * _RATIO:
                found = f"{info.file_size} bytes out of {info.compress_size}"
                raise DataError(path, self.field(name), found, "data for every byte")
        claimed = sum(info.file_size for info in infos.values())
        if claimed > min(1 << 32, _FREE + self._size * _RATIO):
            found = f"{claimed} bytes out of {self._size}"
            raise DataError(path, f"{self._kind}s", found, "data for every byte")

    def read(self, name: str) -> bytes:
        """A member whose size was checked; checksums are verified.

        Raises:
          DataError: it is damaged.
        """
        with decoding(self._path, self.field(name), self._expected):
            return self._archive.read(self.members[name])
