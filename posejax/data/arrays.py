"""NumPy's own files, .npy and .npz: plain arrays, or one `DataError`.

`np.load` believes what a header claims: the memory of a shape is asked for before its bytes are
looked for, and damage surfaces as one of a dozen exceptions. Here every claim is compared with the
bytes that are there first, checksums are verified, and nothing is ever unpickled.
"""

import io
import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from posejax.data.errors import DataError
from posejax.data.files import decoding, read_bytes

_RATIO = 1032  # the most that deflate can reach
_FREE = 1 << 16
_EXPECTED = "an .npz file of plain arrays"


def read_npy(path: str | Path) -> np.ndarray:
    """The array of a .npy file.

    Raises:
      DataError: missing file, damage, another number of bytes than the header claims, Python
        objects or records.
    """
    expected = "a .npy file of a plain array"
    raw = read_bytes(path, expected)
    with decoding(path, "file", expected):
        return _array(raw)


def read_npz(
    path: str | Path, names: Iterable[str] = (), optional: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """Arrays of a .npz file by name.

    Args:
      path: the file.
      names: arrays that must be there.
      optional: arrays that are taken besides where they are there; None takes every one. What is
        not asked for is not decoded.

    Raises:
      DataError: missing file or array, damage, a name twice, an array of another number of bytes
        than its header claims, of Python objects or of records, more than 4 GiB in all.
    """
    names = tuple(names)
    raw = read_bytes(path, _EXPECTED)
    with decoding(path, "file", _EXPECTED):
        archive = zipfile.ZipFile(io.BytesIO(raw))
        members: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in members:
                raise DataError(path, f"array {name[:80]}", "twice in the archive", _EXPECTED)
            members[name] = info
    for name in names:
        if name not in members:
            found = f"missing (the file has: {', '.join(members)[:200]})"
            raise DataError(path, f"array {name}", found, f"arrays {', '.join(names)}")
    wanted = members if optional is None else dict.fromkeys([*names, *optional])
    chosen = [name for name in wanted if name in members]
    _check_sizes(path, {name: members[name] for name in chosen}, len(raw))
    arrays = {}
    for name in chosen:
        with decoding(path, f"array {name[:80]}", _EXPECTED):
            arrays[name] = _array(archive.read(members[name]))
    return arrays


def _check_sizes(path: str | Path, members: Mapping[str, zipfile.ZipInfo], there: int) -> None:
    """No more bytes than the archive can hold, in an encoding whose ratio is known."""
    for name, info in members.items():
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            found = f"compression method {info.compress_type}"
            raise DataError(path, f"array {name[:80]}", found, "stored or deflated")
        if info.file_size > _FREE + info.compress_size * _RATIO:
            found = f"{info.file_size} bytes out of {info.compress_size}"
            raise DataError(path, f"array {name[:80]}", found, "data for every byte")
    claimed = sum(info.file_size for info in members.values())
    if claimed > min(1 << 32, _FREE + there * _RATIO):
        raise DataError(path, "arrays", f"{claimed} bytes out of {there}", "data for every byte")


def _array(raw: bytes) -> np.ndarray:
    """The array of a .npy file's bytes, writable."""
    file = io.BytesIO(raw)
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f".npy version {version}")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject or dtype.names or dtype.subdtype:
        raise ValueError(f"{dtype}: Python objects or records")
    if any(not 0 <= int(side) < 1 << 62 for side in shape):
        raise ValueError(f"shape {shape}")
    count, start = math.prod(int(side) for side in shape), file.tell()
    if count * dtype.itemsize != len(raw) - start:
        raise ValueError(f"shape {shape} of {dtype} in {len(raw) - start} bytes")
    if not count:
        return np.empty(shape, dtype)
    values = np.frombuffer(bytearray(memoryview(raw)[start:]), dtype)
    return values.reshape(shape, order="F" if fortran else "C")
