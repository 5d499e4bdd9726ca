"""Your own data: a folder of raster pairs and one CSV of poses. See docs/data.md.

    FOLDER/poses.csv    id,online,geo,x,y,yaw,cell_size[,split]
    FOLDER/...          rasters, as named in the columns `online` and `geo`, relative to FOLDER

(x, y, yaw) is geo_from_online: a point X of the online raster (origin at its centre, x along
columns, y along rows, metres) lies at R(yaw) X + (x, y) in the geo raster, origin at its centre.
A raster is .npy ([H, W] or [H, W, C]; NaN = no data), .npz (`values`, optional `mask` [H, W]) or
.png (gray, gray + alpha, RGB, RGBA; alpha = mask).
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from posejax.data.arrays import read_npy, read_npz
from posejax.data.errors import DataError
from posejax.data.files import is_file, path_inside, text_number
from posejax.data.images import read_image
from posejax.data.tables import named_row, read_csv

INDEX_FILE = "poses.csv"
COLUMNS = ("id", "online", "geo", "x", "y", "yaw", "cell_size")
_DTYPES = ("uint8", "float16", "float32", "float64")
OnError = Literal["stop", "skip"]


@dataclass(frozen=True)
class RasterPair:
    """One row of the index: where its rasters are, and `pose` = geo_from_online (m, m, rad)."""

    id: str
    online: Path
    geo: Path
    pose: tuple[float, float, float]
    cell_size: float
    split: str = ""


@dataclass(frozen=True)
class RasterIndex:
    """The usable pairs of a folder, and (id, reason) of every row that was left out."""

    pairs: tuple[RasterPair, ...]
    skipped: tuple[tuple[str, str], ...] = ()


def read_index(folder: str | Path, split: str = "", on_error: OnError = "stop") -> RasterIndex:
    """Read and check FOLDER/poses.csv; rasters are only checked to exist.

    Args:
      folder: the data set.
      split: keep rows of this split; "" keeps all. Without a `split` column every row is kept.
      on_error: "stop" raises at the first unusable row; "skip" lists it in `skipped`.

    Raises:
      DataError: missing folder, file or column; no usable row; two cell sizes in one folder; and,
        with "stop", an unusable row: empty or repeated id, missing raster, number that is not
        finite, cell size <= 0.
    """
    path = Path(folder) / INDEX_FILE
    names, rows = read_csv(path, COLUMNS)
    pairs: dict[str, RasterPair] = {}
    skipped: list[tuple[str, str]] = []
    for number, words in rows:
        row = dict(zip(names, words, strict=False))
        if split and row.get("split", split) != split:
            continue
        try:
            pair = _pair(path, number, named_row(path, number, names, words))
            if pair.id in pairs:
                raise DataError(path, f"line {number}: id", f"{pair.id!r} twice", "unique ids")
            pairs[pair.id] = pair
        except DataError as error:
            if on_error == "stop":
                raise
            skipped.append((row.get("id") or f"line {number}", str(error)))
    if not pairs:
        where = f" of split {split!r}" if split else ""
        hint = f"{len(skipped)} rows skipped, the first: {skipped[0][1]}" if skipped else ""
        raise DataError(path, "rows", f"no usable row{where}", "at least one", hint)
    sizes = sorted({pair.cell_size for pair in pairs.values()})
    if len(sizes) > 1:
        hint = "resample the rasters to one cell size, or make a folder for each"
        raise DataError(path, "column cell_size", f"{sizes}", "one cell size in a folder", hint)
    return RasterIndex(tuple(pairs.values()), tuple(skipped))


def read_raster(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """One raster: values [H, W, C] (uint8 or float32; 0 where invalid) and mask [H, W] bool.

    Raises:
      DataError: missing or unreadable file, unknown type, wrong dtype or rank, no cells, a mask of
        another shape, infinite values, no valid cell.
    """
    path = Path(path)
    mask = None
    if path.suffix == ".npy":
        values = read_npy(path)
    elif path.suffix == ".npz":
        arrays = read_npz(path, ("values",), ("mask",))
        values, mask = arrays["values"], arrays.get("mask")
    elif path.suffix == ".png":
        values = read_image(path, modes=("L", "LA", "RGB", "RGBA"))
        if values.ndim == 3 and values.shape[-1] in (2, 4):
            values, mask = values[..., :-1], values[..., -1]
    else:
        raise DataError(path, "file type", path.suffix or "none", ".npy, .npz or .png")
    if values.dtype.name not in _DTYPES:
        raise DataError(path, "dtype", values.dtype.name, " or ".join(_DTYPES))
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or 0 in values.shape:
        raise DataError(path, "shape", values.shape, "[H, W] or [H, W, C], not empty")
    if mask is None:
        mask = ~np.isnan(values).any(-1)
    elif mask.shape != values.shape[:2] or mask.dtype.kind not in "biuf":
        found = f"shape {mask.shape} of {mask.dtype}"
        raise DataError(path, "mask", found, f"{values.shape[:2]} of bool or numbers")
    mask = np.asarray(mask) > 0
    if not mask.any():
        raise DataError(path, "mask", "no valid cell", "at least one")
    if values.dtype != np.uint8:
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
            values = np.where(mask[..., None], values.astype(np.float32), 0)
        if not np.isfinite(values).all():
            hint = "mark cells without data by NaN in a .npy, or by a mask"
            raise DataError(path, "values", "non-finite in valid cells", "finite values", hint)
    else:
        values = values * mask[..., None]
    return values, mask


def validate_folder(folder: str | Path) -> list[tuple[str, str]]:
    """(id, problem) of every unusable sample: the index and all rasters are read.

    Raises:
      DataError: the index itself cannot be used.
    """
    index = read_index(folder, on_error="skip")
    problems = list(index.skipped)
    for pair in index.pairs:
        try:
            online, geo = read_raster(pair.online)[0], read_raster(pair.geo)[0]
            if any((g - o) % 2 for g, o in zip(geo.shape[:2], online.shape[:2], strict=True)):
                found = f"{geo.shape[:2]} cells against {online.shape[:2]} online"
                raise DataError(pair.geo, "shape", found, "differences that are even")
        except DataError as error:
            problems.append((pair.id, str(error)))
    return problems


def write_folder(
    folder: str | Path,
    samples: Iterable[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    *,
    cell_size: float,
    split: str = "",
) -> None:
    """Write samples (id, online, online_mask, geo, geo_mask, pose) as .npz rasters and an index.

    An index that is there already is extended.
    """
    folder = Path(folder)
    path = folder / INDEX_FILE
    (folder / "rasters").mkdir(parents=True, exist_ok=True)
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        if new:
            table.writerow((*COLUMNS, "split"))
        for name, online, online_mask, geo, geo_mask, pose in samples:
            files = []
            for kind, values, mask in (("online", online, online_mask), ("geo", geo, geo_mask)):
                files.append(f"rasters/{name}_{kind}.npz")
                np.savez_compressed(folder / files[-1], values=values, mask=mask)
            numbers = [repr(float(v)) for v in (*pose, cell_size)]
            table.writerow((name, *files, *numbers, split))


def _pair(path: Path, number: int, row: dict[str, str]) -> RasterPair:
    def problem(column: str, found: str, expected: str) -> DataError:
        where = f"line {number} (id {row.get('id')!r}): {column}"
        return DataError(path, where, found, expected)

    if not row["id"]:
        raise problem("id", "empty", "a unique name")
    numbers = {}
    for column in ("x", "y", "yaw", "cell_size"):
        try:
            numbers[column] = text_number(row[column])
        except ValueError:
            raise problem(column, repr(row[column])[:80], "a number") from None
        if not np.isfinite(numbers[column]):
            raise problem(column, row[column], "a finite number")
    if numbers["cell_size"] <= 0:
        raise problem("cell_size", row["cell_size"], "metres > 0")
    files = {}
    for column in ("online", "geo"):
        if not row[column]:
            raise problem(column, "empty", "a file name")
        file = path_inside(path.parent, row[column])
        if file is None:
            raise problem(column, f"{row[column][:80]!r} leads out of the folder", "a name inside")
        if not is_file(file):
            raise problem(column, f"no file {row[column][:80]!r}", "a raster in the folder")
        files[column] = file
    return RasterPair(
        id=row["id"],
        online=files["online"],
        geo=files["geo"],
        pose=(numbers["x"], numbers["y"], numbers["yaw"]),
        cell_size=numbers["cell_size"],
        split=row.get("split") or "",
    )
