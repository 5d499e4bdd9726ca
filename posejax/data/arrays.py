"""NumPy's own files, .npy and .npz: plain arrays, or one `DataError`.

`np.load` believes what a header claims: the memory of a shape is asked for before its bytes are
looked for, and damage surfaces as one of a dozen exceptions. Here every claim is compared with the
bytes that are there first, checksums are verified, and nothing is ever unpickled.
"""

import io
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from posejax.data.archive import Archive
from posejax.data.errors import DataError
from posejax.data.files import decoding, read_bytes

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
    archive = Archive(path, raw, _EXPECTED, "array", ".npy")
    members = archive.members
    for name in names:
        if name not in members:
            found = f"missing (the file has: {', '.join(members)[:200]})"
            raise DataError(path, f"array {name}", found, f"arrays {', '.join(names)}")
    wanted = members if optional is None else dict.fromkeys([*names, *optional])
    chosen = [name for name in wanted if name in members]
    archive.check_sizes(chosen)
    arrays = {}
    for name in chosen:
        content = archive.read(name)
        with decoding(path, archive.field(name), _EXPECTED):
            arrays[name] = _array(content)
    return arrays


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
