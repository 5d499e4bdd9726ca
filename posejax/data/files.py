"""What all readers and writers of files have in common.

Bytes, text, JSON and names out of files that others wrote are used, or refused with a `DataError`.
A file is read whole before it is decoded, so that the sizes that its headers claim can be compared
with the bytes that are there. Files of our own appear whole or not at all.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from posejax.data.errors import DataError

MAX_BYTES = 1 << 32  # 4 GiB: larger than any file that is read whole


@contextlib.contextmanager
def decoding(path: str | Path, field: str, expected: str) -> Iterator[None]:
    """Whatever a decoder raises on damaged bytes becomes one `DataError`.

    Decoders document little of that: Pillow alone raises a dozen classes, up to SyntaxError and
    MemoryError. Wrap the call into the decoder and nothing else.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        found = f"unreadable ({type(error).__name__}: {str(error)[:200]})"
        raise DataError(path, field, found, expected) from error


def read_bytes(path: str | Path, expected: str, limit: int = MAX_BYTES) -> bytes:
    """A whole file.

    Raises:
      DataError: no such file, no regular file (a pipe would block), or more than `limit` bytes.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise DataError(
                path, "file", "not a regular file" if path.exists() else "not found", expected
            )
        size = path.stat().st_size
        if size > limit:
            raise DataError(path, "size", f"{size} bytes", f"at most {limit}")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        if isinstance(error, DataError):
            raise
        raise DataError(path, "file", f"cannot be read ({error})", expected) from error


def read_text(path: str | Path, expected: str, limit: int = MAX_BYTES) -> str:
    """A whole text file in UTF-8, without the mark that may start it.

    Raises:
      DataError: see `read_bytes`; other bytes than UTF-8, or a NUL.
    """
    raw = read_bytes(path, expected, limit)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(path, "file", f"no text ({error})", expected) from error
    if "\0" in text:
        raise DataError(path, f"character {text.index(chr(0))}", "NUL", expected)
    return text


def read_json(
    path: str | Path, expected: str = "a JSON object", *, constants: bool = False
) -> dict[str, Any]:
    """A JSON object; a key that is there twice is refused, as are NaN and infinities unless
    `constants`: Python writes them, and `json_number` refuses those that are used.

    Raises:
      DataError: see `read_text`; no JSON, or another value than an object.
    """
    value = _parsed(path, expected, constants)
    if not isinstance(value, dict):
        raise DataError(path, "top level", type(value).__name__, expected)
    return value


def read_json_rows(
    path: str | Path, expected: str = "a JSON array of objects", *, constants: bool = False
) -> list[dict[str, Any]]:
    """A table as JSON: an array of objects. See `read_json`.

    Raises:
      DataError: see `read_text`; no JSON, another value than an array, or an item in it that is no
        object.
    """
    value = _parsed(path, expected, constants)
    if not isinstance(value, list):
        raise DataError(path, "top level", type(value).__name__, expected)
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise DataError(path, f"[{number}]", type(item).__name__, expected)
    return value


def json_number(path: str | Path, field: str, value: Any) -> float:
    """`value` of a JSON file as a float.

    Raises:
      DataError: it is no number, or not finite in float64.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
    raise DataError(path, field, repr(value)[:80], "a finite number")


def text_number(word: str) -> float:
    """A number as files write it; Python's own extras (1_000, other alphabets' digits) are none.

    Raises:
      ValueError: not a number.
    """
    if "_" in word or not word.isascii():
        raise ValueError(f"no number: {word[:40]!r}")
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"no number: {word[:40]!r}") from None


def path_inside(folder: Path, name: str) -> Path | None:
    """FOLDER/NAME, or None for a name that leads out of the folder.

    That is one that is absolute or has a "..", on any system, or goes through a link to elsewhere:
    a table that came with a data set must not make its reader open other files.
    """
    parts = PurePosixPath(name), PureWindowsPath(name)
    absolute = any(path.is_absolute() or path.drive or path.root for path in parts)
    if absolute or "\0" in name or any(".." in path.parts for path in parts):
        return None
    try:
        within = (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, names that no disk takes
        return None
    return folder / name if within else None


def root_folder(root: str, holds: str) -> Path:
    """The folder that the option --data.root names.

    Raises:
      DataError: none given (which must not mean the current folder), or no such folder.
    """
    folder = Path(root).expanduser()
    if root and folder.is_dir():
        return folder
    found = "no such folder" if root else "not given"
    raise DataError(root or "data source", "root", found, holds, "set it with --data.root FOLDER")


def is_file(path: Path) -> bool:
    """Whether there is such a file; False for names that no disk takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write to instead of `path`; becomes `path` when the block ends without error.

    Every process has its own, and no reader takes it for a file of the kind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """`sync` for a file, or for every file and folder below a folder, then for the folder."""
    if path.is_dir():
        for entry in path.iterdir():
            sync_tree(entry)
    sync(path)


def _parsed(path: str | Path, expected: str, constants: bool) -> Any:
    text = read_text(path, expected)
    try:
        refuse = None if constants else _no_constant
        return json.loads(text, object_pairs_hook=_unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(path, "file", f"no JSON ({error})", expected) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"{twice!r} twice in one object")
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON")
