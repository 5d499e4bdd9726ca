"""Radar returns as nuScenes stores them: a binary PCD file of 18 fields.

x y z               m, radar frame (x forward, y left); z is 0
dyn_prop            0 moving, 1 stationary, 2 oncoming, ...
id, rcs             number of the cluster; radar cross section, dBsm
vx vy               m/s along x and y: the part of the velocity towards or away from the radar
vx_comp vy_comp     the same without the vehicle's own motion
is_quality_valid ambig_state x_rms y_rms invalid_state pdh0 vx_rms vy_rms
"""

from pathlib import Path

import numpy as np

from posejax.data.errors import DataError
from posejax.data.files import read_bytes, whole

RADAR_FIELDS = (
    "x", "y", "z", "dyn_prop", "id", "rcs", "vx", "vy", "vx_comp", "vy_comp", "is_quality_valid",
    "ambig_state", "x_rms", "y_rms", "invalid_state", "pdh0", "vx_rms", "vy_rms",
)  # fmt: skip
_TYPES = ("f4", "f4", "f4", "i1", "i2", *["f4"] * 5, *["i1"] * 8)
_EXPECTED = "a nuScenes radar sweep (.pcd)"
_KEYS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS")
_KINDS = {"F": "f", "I": "i", "U": "u"}
_LONGEST = 4096  # bytes of the header


def read_radar(path: str | Path) -> np.ndarray:
    """Returns of a sweep: [N, 18] float32, the columns `RADAR_FIELDS`.

    Rows without a position (an empty sweep has one) are left out.

    Raises:
      DataError: missing file, a header that is no PCD's, text or compressed data, a field that is
        missing, a size that is not the header's, values that are not finite.
    """
    raw = read_bytes(path, _EXPECTED)
    header, start = _header(path, raw)
    dtype, count = _layout(path, header)
    if len(raw) - start != count * dtype.itemsize:
        expected = f"{count} points of {dtype.itemsize} bytes"
        raise DataError(path, "size", f"{len(raw) - start} bytes", expected)
    rows = np.frombuffer(raw, dtype, offset=start)
    with np.errstate(over="ignore"):  # float64 that float32 does not hold: refused below
        columns = [rows[name].astype(np.float32) for name in RADAR_FIELDS]
    values = np.stack(columns, axis=1)
    values = values[~np.isnan(values[:, 0])]
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise DataError(path, f"point {row}: {RADAR_FIELDS[column]}", "not finite", "a number")
    return values


def write_radar(path: str | Path, returns: np.ndarray) -> None:
    """Write returns [N, 18], whole numbers rounded."""
    values = np.asarray(returns, np.float64).reshape(-1, len(RADAR_FIELDS))
    rows = np.zeros(len(values), list(zip(RADAR_FIELDS, _TYPES, strict=True)))
    for name, kind, column in zip(RADAR_FIELDS, _TYPES, values.T, strict=True):
        rows[name] = column if kind == "f4" else np.round(column).astype(kind)
    lines = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        f"FIELDS {' '.join(RADAR_FIELDS)}",
        f"SIZE {' '.join(kind[1] for kind in _TYPES)}",
        f"TYPE {' '.join(kind[0].upper() for kind in _TYPES)}",
        f"COUNT {' '.join('1' for _ in _TYPES)}",
        f"WIDTH {len(rows)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(rows)}",
        "DATA binary\n",
    ]
    with whole(Path(path)) as temporary:
        temporary.write_bytes("\n".join(lines).encode() + rows.tobytes())


def usable_returns(returns: np.ndarray) -> np.ndarray:
    """[N] bool of [N, 18]: valid, of unambiguous velocity, of any motion but "stopped"; nuScenes'
    own choice."""
    column = {name: returns[:, i] for i, name in enumerate(RADAR_FIELDS)}
    moves = (column["dyn_prop"] >= 0) & (column["dyn_prop"] < 7)
    return (column["invalid_state"] == 0) & (column["ambig_state"] == 3) & moves


def _header(path: str | Path, raw: bytes) -> tuple[dict[str, list[str]], int]:
    """The words after each keyword, and where the data begins."""
    found: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in found:
        end = raw.find(b"\n", start, _LONGEST)
        if end < 0:
            raise DataError(path, "header", "no line DATA", _EXPECTED)
        words = raw[start:end].decode("ascii", "replace").split()
        start = end + 1
        if words and not words[0].startswith("#"):
            if words[0] in found:
                raise DataError(path, f"header: {words[0]}", "twice", "once")
            found[words[0]] = words[1:]
    for key in _KEYS:
        if key not in found:
            raise DataError(path, f"header: {key}", "missing", _EXPECTED)
    if found["DATA"] != ["binary"]:
        raise DataError(path, "header: DATA", " ".join(found["DATA"])[:40], "binary")
    return found, start


def _layout(path: str | Path, header: dict[str, list[str]]) -> tuple[np.dtype, int]:
    """Of one point, and the number of points."""
    names = header["FIELDS"]
    missing = [name for name in RADAR_FIELDS if names.count(name) != 1]
    if missing or len(set(names)) < len(names):
        found = f"{missing[0]!r} is missing or twice" if missing else "a name twice"
        raise DataError(path, "header: FIELDS", found, ", ".join(RADAR_FIELDS))
    if not len(names) == len(header["SIZE"]) == len(header["TYPE"]) == len(header["COUNT"]):
        raise DataError(path, "header", "SIZE, TYPE or COUNT of other length", "one per field")
    if set(header["COUNT"]) != {"1"}:
        raise DataError(path, "header: COUNT", " ".join(header["COUNT"])[:80], "1 each")
    kinds = []
    for kind, size in zip(header["TYPE"], header["SIZE"], strict=True):
        known = size in ("4", "8") or (size in ("1", "2") and kind != "F")
        if kind not in _KINDS or not known:
            raise DataError(path, "header: TYPE, SIZE", f"{kind[:8]} {size[:8]}", "F 4, I 1, ...")
        kinds.append(f"<{_KINDS[kind]}{size}")
    points = header["POINTS"]
    if len(points) != 1 or not (points[0].isascii() and points[0].isdecimal()):
        raise DataError(path, "header: POINTS", " ".join(points)[:40], "their number")
    if len(points[0]) > 9:
        raise DataError(path, "header: POINTS", points[0][:40], "fewer than 1e9")
    return np.dtype(list(zip(names, kinds, strict=True))), int(points[0])
