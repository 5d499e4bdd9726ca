"""PLY files (Turk, The PLY polygon file format, 1994): vertices, and triangles where there are any.

ply
format binary_little_endian 1.0        or binary_big_endian, ascii
element vertex 8171
property float x ...                   numbers alone
element face 15789
property list uchar int vertex_indices     of three each
end_header
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posejax.data.errors import DataError
from posejax.data.files import read_bytes, whole

_EXPECTED = "a PLY file"
_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDER = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_HEADER = 1 << 16  # bytes at most


@dataclass(frozen=True, eq=False)
class Ply:
    """A file's content.

    Attributes:
      vertices: {property: [N]} in the file's types.
      triangles: [F, 3] int64 rows of vertices; None where the file has no faces.
    """

    vertices: dict[str, np.ndarray]
    triangles: np.ndarray | None = None

    def columns(self, *names: str) -> np.ndarray:
        """[N, K] float64 of those properties; KeyError for one that the file lacks."""
        return np.stack([self.vertices[name].astype(np.float64) for name in names], -1)


class _Element(NamedTuple):
    name: str
    count: int
    properties: list[tuple[str, ...]]  # (type, name) or (count's type, item's type, name)


def read_ply(path: str | Path, needs: tuple[str, ...] = ("x", "y", "z")) -> Ply:
    """Read a file.

    Args:
      needs: properties that vertices must have.

    Raises:
      DataError: missing file, a header that is none, another number of bytes or words than it
        claims, a missing property, coordinates that are not finite, faces that are no triangles of
        the vertices.
    """
    raw = read_bytes(path, _EXPECTED)
    form, elements, start = _header(path, raw)
    read: Any = _ascii if form == "ascii" else _binary
    vertices, triangles = None, None
    body: Any = raw[start:].split() if form == "ascii" else memoryview(raw)[start:]
    for element in elements:
        if element.name not in ("vertex", "face") and element is not elements[-1]:
            raise DataError(path, f"element {element.name}", "before others", "vertex and face")
        if element.name == "vertex":
            vertices, body = read(path, element, body, _ORDER[form])
        elif element.name == "face":
            faces, body = read(path, element, body, _ORDER[form])
            triangles = faces.get("vertex_indices", faces.get("vertex_index"))
    if vertices is None:
        raise DataError(path, "element vertex", "missing", _EXPECTED)
    if len(body) and elements[-1].name in ("vertex", "face"):
        raise DataError(path, "end", f"{len(body)} bytes or words too many", "the end of the file")
    for name in needs:
        if name not in vertices:
            found = f"missing (there are {', '.join(vertices)[:200]})"
            raise DataError(path, f"property {name}", found, f"{', '.join(needs)}")
        if not np.isfinite(vertices[name]).all():
            row = int(np.flatnonzero(~np.isfinite(vertices[name]))[0])
            raise DataError(path, f"vertex {row}: {name}", vertices[name][row], "a finite number")
    count = len(next(iter(vertices.values()))) if vertices else 0
    corners = np.zeros(0, np.int64) if triangles is None else triangles.reshape(-1)
    if (outside := (corners < 0) | (corners >= count)).any():
        found = f"row {corners[outside][0]}"
        raise DataError(path, "faces", found, f"rows of {count} vertices")
    return Ply(vertices, triangles)


def write_ply(path: str | Path, vertices: Mapping[str, np.ndarray]) -> None:
    """Write points as binary_little_endian; the file appears whole or not at all.

    Args:
      vertices: property -> [N], float32, float64 or integers of up to 32 bits.

    Raises:
      ValueError: arrays that do not fit, or of another type; a name that is not one word of ASCII.
      OSError: the file cannot be written.
    """
    kinds = {code: name for name, code in reversed(_TYPES.items())}
    columns = {name: np.asarray(values) for name, values in vertices.items()}
    fields, count = [], len(next(iter(columns.values()), ()))
    for name, values in columns.items():
        code = f"{values.dtype.kind}{values.dtype.itemsize}"
        if values.shape != (count,) or code not in kinds:
            found = f"{values.dtype} {values.shape}"
            raise ValueError(f"{name}: {found}; expected [{count}] of {', '.join(kinds.values())}")
        if not re.fullmatch("[!-~]+", name):
            raise ValueError(f"property {name!r}: expected one word of ASCII")
        fields.append((name, "<" + code))
    rows = np.zeros(count, fields)
    for name, values in columns.items():
        rows[name] = values
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    lines += [f"property {kinds[code[1:]]} {name}" for name, code in fields]
    with whole(Path(path)) as temporary:
        temporary.write_bytes("\n".join([*lines, "end_header", ""]).encode() + rows.tobytes())


def _header(path, raw: bytes) -> tuple[str, list[_Element], int]:
    """Format, elements, and where the body starts."""
    end = re.search(rb"(?:\n|\r)end_header[ \t]*\r?\n", raw[:_HEADER])
    if not re.match(rb"ply[ \t]*\r?\n", raw) or end is None:
        raise DataError(path, "header", f"it begins with {raw[:12]!r}", "ply ... end_header")
    form, elements = "", []
    lines = raw[: end.start()].decode("ascii", "replace").splitlines()
    for number, line in enumerate(lines[1:], start=2):
        words, at = line.split(), f"line {number}"
        kind = words[0] if words else ""
        if kind in ("", "comment", "obj_info"):
            continue
        if kind == "format" and len(words) == 3 and words[1] in _ORDER and words[2] == "1.0":
            form = words[1]
        elif kind == "element" and len(words) == 3 and re.fullmatch("[0-9]{1,10}", words[2]):
            elements.append(_Element(words[1], int(words[2]), []))
        elif kind == "property" and elements and _is_property(words[1:]):
            inside = elements[-1].properties
            if words[-1] in [p[-1] for p in inside]:
                raise DataError(path, at, f"{words[-1]!r} twice", "properties of different names")
            inside.append(tuple(words[2:] if words[1] == "list" else words[1:]))
        else:
            raise DataError(path, at, repr(line[:80]), "format, element or property of PLY 1.0")
    if not form or len({e.name for e in elements}) < len(elements):
        what = "an element twice" if form else "no format"
        raise DataError(path, "header", what, "format binary_little_endian 1.0, then elements")
    return form, elements, end.end()


def _is_property(words: list[str]) -> bool:
    if words[:1] == ["list"]:
        return len(words) == 4 and words[1] in _TYPES and words[2] in _TYPES
    return len(words) == 2 and words[0] in _TYPES


def _row(path, element: _Element, order: str) -> np.dtype:
    """A row of an element; a list is that of a triangle: its count, then three items."""
    fields = []
    for kinds in element.properties:
        name = kinds[-1]
        if len(kinds) == 2:
            fields.append((name, order + _TYPES[kinds[0]]))
        elif element.name == "face":
            fields.append((f"{name}:count", order + _TYPES[kinds[0]]))
            fields.append((name, order + _TYPES[kinds[1]], (3,)))
        else:
            raise DataError(path, f"property {name}", "a list", "numbers alone in a vertex")
    return np.dtype(fields)


def _checked(path, element: _Element, rows: np.ndarray) -> dict[str, np.ndarray]:
    for name in rows.dtype.names or ():
        if name.endswith(":count") and (rows[name] != 3).any():
            row = int(np.flatnonzero(rows[name] != 3)[0])
            raise DataError(path, f"face {row}", f"{rows[name][row]} corners", "3: triangles")
    return {
        kinds[-1]: rows[kinds[-1]].astype(
            np.int64 if len(kinds) == 3 else rows[kinds[-1]].dtype.newbyteorder("=")
        )
        for kinds in element.properties
    }


def _binary(path, element: _Element, body: memoryview, order: str):
    kind = _row(path, element, order)
    size = element.count * kind.itemsize
    if size > len(body):
        found, hint = f"{len(body)} bytes are left", "is the file cut off?"
        raise DataError(path, f"element {element.name}", found, f"{size}", hint)
    rows = np.frombuffer(body[:size], kind) if size else np.zeros(0, kind)
    return _checked(path, element, rows), body[size:]


def _ascii(path, element: _Element, words: list[bytes], order: str):
    kind = _row(path, element, order)
    flat = [(n, i) for n in kind.names or () for i in range(int(np.prod(kind[n].shape)))]
    size = element.count * len(flat)
    if size > len(words):
        found, hint = f"{len(words)} words are left", "is the file cut off, or a face no triangle?"
        raise DataError(path, f"element {element.name}", found, f"{size}", hint)
    rows = np.zeros(element.count, kind)
    try:
        values = np.array(words[:size], dtype="S40").astype(np.float64)
    except ValueError as error:
        raise DataError(path, f"element {element.name}", str(error)[:80], "numbers") from None
    values = values.reshape(element.count, len(flat))
    for column, (name, i) in enumerate(flat):
        target = rows[name][:, i] if kind[name].shape else rows[name]
        base = kind[name].base
        if base.kind in "iu":
            low, high = np.iinfo(base).min, np.iinfo(base).max
            good = (values[:, column] == np.rint(values[:, column])) & (
                (values[:, column] >= low) & (values[:, column] <= high)
            )
            if not good.all():
                row = int(np.argmin(good))
                found = values[row, column]
                raise DataError(path, f"{element.name} {row}: {name}", found, f"{base.name}")
        with np.errstate(over="ignore"):
            target[...] = values[:, column]
    return _checked(path, element, rows), words[size:]
