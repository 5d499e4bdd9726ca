"""The challenge's submission table: write it, and find what is wrong with one before a server does.

    timestamp,Tx,Ty,Tz,Qx,Qy,Qz,Qw
    RT901_001,0.0123,-0.2034,5.1872,0.1,-0.2,0.3,0.927

One row per pose: the recording's name and the pose's number in it (from 1, three digits), the body
origin in the camera frame (m, x right, y down, z forward) and camera_from_body as a unit
quaternion, scalar last.
"""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posejax.data.errors import DataError
from posejax.data.files import whole

HEADER = ("timestamp", "Tx", "Ty", "Tz", "Qx", "Qy", "Qz", "Qw")
_ID = re.compile(r"\w+_[0-9]{3,18}")
# Six decimals of each component leave 2e-6 in the length; a forgotten normalisation leaves more.
_UNIT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Submission:
    """Rows of a table, in its order.

    Attributes:
      ids: [N] "RT901_001".
      translation: [N, 3] float64 m.
      quat_xyzw: [N, 4] float64, unit length.
    """

    ids: tuple[str, ...]
    translation: np.ndarray
    quat_xyzw: np.ndarray


def pose_ids(recording: str, count: int) -> list[str]:
    """Ids of the poses of a recording: "RT901" -> ["RT901_001", "RT901_002", ...]."""
    return [f"{recording}_{k:03d}" for k in range(1, count + 1)]


def write_submission(
    path: str | Path,
    ids: Sequence[str],
    translation: np.ndarray,
    quat_xyzw: np.ndarray,
    *,
    template: str | Path | None = None,
) -> Submission:
    """Write a table, whole or not at all, and check it as `read_submission` does.

    Args:
      path: the table; replaced only when every check has passed.
      ids: [N].
      translation: [N, 3] m.
      quat_xyzw: [N, 4] of any length but zero; normalised, with w >= 0.
      template: table whose ids are asked for; rows are then written in its order.

    Returns:
      What a reader of the file gets: nine decimals of each number.

    Raises:
      ValueError: arrays that do not fit each other.
      DataError: a row the challenge would refuse; names the row.
    """
    path = Path(path)
    translation = np.asarray(translation, np.float64)
    quat = np.asarray(quat_xyzw, np.float64)
    if translation.shape != (len(ids), 3) or quat.shape != (len(ids), 4):
        raise ValueError(
            f"{len(ids)} ids need translations [{len(ids)}, 3] and quaternions [{len(ids)}, 4], "
            f"got {translation.shape} and {quat.shape}"
        )
    length = np.linalg.norm(quat, axis=1, keepdims=True)
    # Zero and NaN stay as they are, for the check to name their row.
    quat = quat / np.where(length > 0, length, 1) * np.where(quat[:, 3:] < 0, -1, 1)
    order = range(len(ids))
    if template is not None:
        place = {name: k for k, name in enumerate(read_template(template))}
        order = sorted(order, key=lambda k: place.get(ids[k], len(place)))
    with whole(path) as temporary:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            for k in order:
                numbers = (*translation[k], *quat[k])
                writer.writerow([ids[k], *(f"{x:.9f}" for x in numbers)])
        return _read(temporary, path, template)


def read_submission(path: str | Path, *, template: str | Path | None = None) -> Submission:
    """Read and check a table.

    Raises:
      DataError: no file; another header; a row (named by its line) with a wrong number of
        fields, a malformed or repeated id, an id out of order within its recording, a number that
        is missing or not finite, a target behind the camera, a quaternion that is not of unit
        length; against the template: an id missing, unknown, or at another place.
    """
    return _read(Path(path), Path(path), template)


def read_template(path: str | Path) -> list[str]:
    """Ids a template asks for: its first column; the others may hold anything or be absent."""
    ids = []
    for line, row in _rows(Path(path), Path(path)):
        if line == 1:
            if row[:1] != list(HEADER[:1]):
                raise DataError(path, "line 1", ",".join(row), f"a first column {HEADER[0]!r}")
            continue
        _check_id(path, line, row[0], ids[-1] if ids else None)
        ids.append(row[0])
    _check_unique(path, ids)
    return ids


def _read(source: Path, name: Path, template: str | Path | None) -> Submission:
    """Read `source`; errors speak of `name`."""
    ids, numbers = [], []
    for line, row in _rows(source, name):
        if line == 1:
            if row != list(HEADER):
                raise DataError(name, "line 1", ",".join(row), ",".join(HEADER))
            continue
        if len(row) != len(HEADER):
            raise DataError(name, f"line {line}", f"{len(row)} fields", f"{len(HEADER)}")
        _check_id(name, line, row[0], ids[-1] if ids else None)
        ids.append(row[0])
        numbers.append(_numbers(name, line, row))
    if not ids:
        raise DataError(name, "rows", "none", "one row per pose")
    _check_unique(name, ids)
    if template is not None:
        _check_template(name, ids, template)
    values = np.array(numbers)
    return Submission(tuple(ids), values[:, :3], values[:, 3:])


def _rows(source: Path, name: Path) -> list[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not empty; the first one is line 1."""
    try:
        with open(source, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [field.strip() for field in row]) for row in reader if row]
    except FileNotFoundError:
        raise DataError(name, "file", "not found") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(name, "file", str(error), "a CSV table in UTF-8") from error
    if not rows or rows[0][0] != 1:
        raise DataError(name, "line 1", "empty", ",".join(HEADER))
    return rows


def _numbers(name: str | Path, line: int, row: list[str]) -> list[float]:
    values = []
    for column, text in zip(HEADER[1:], row[1:], strict=True):
        try:
            value = float(text)
        except ValueError:
            raise DataError(name, f"line {line}, {column}", repr(text), "a number") from None
        if not math.isfinite(value):
            raise DataError(name, f"line {line}, {column}", text, "a finite number")
        values.append(value)
    field = f"line {line} ({row[0]})"
    if values[2] <= 0:
        found = f"Tz = {values[2]:g} m"
        raise DataError(name, field, found, "a target in front of the camera", "are axes swapped?")
    length = math.hypot(*values[3:])
    if abs(length - 1) > _UNIT_TOLERANCE:
        raise DataError(
            name, field, f"quaternion of length {length:.6g}", "unit length", "normalise it"
        )
    return values


def _check_id(name: str | Path, line: int, text: str, previous: str | None) -> None:
    if not _ID.fullmatch(text):
        hint = "recording, underscore, number from 1 with three digits"
        raise DataError(name, f"line {line}", f"id {text[:80]!r}", "e.g. RT901_001", hint)
    recording, _, number = text.rpartition("_")
    if previous is None or previous.rpartition("_")[0] != recording:
        return
    if int(previous.rpartition("_")[2]) > int(number):
        raise DataError(name, f"line {line}", f"{text} after {previous}", "rising numbers")


def _check_unique(name: str | Path, ids: list[str]) -> None:
    seen: dict[str, int] = {}
    for row, text in enumerate(ids, start=1):
        if text in seen:
            raise DataError(name, f"row {row}", f"{text} again (first in row {seen[text]})", "once")
        seen[text] = row


def _check_template(name: str | Path, ids: list[str], template: str | Path) -> None:
    wanted = read_template(template)
    asked, given = set(wanted), set(ids)
    for row, text in enumerate(ids, start=1):
        if text not in asked:
            raise DataError(name, f"row {row}", f"{text} is not asked for", f"ids of {template}")
    missing = [text for text in wanted if text not in given]
    if missing:
        found = f"{len(missing)} of {len(wanted)} ids missing, first {missing[0]}"
        raise DataError(name, "rows", found, f"every id of {template}")
    for row, (text, want) in enumerate(zip(ids, wanted, strict=True), start=1):
        if text != want:
            raise DataError(name, f"row {row}", text, f"{want}", f"the order of {template}")
