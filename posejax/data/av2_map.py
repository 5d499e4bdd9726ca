"""Maps of an Argoverse 2 log: lane-level vector map, ground-height raster, orthophoto.

    <log_id>/map/log_map_archive_<log_id>____<city>.json       lanes, drivable areas, crossings
    <log_id>/map/<log_id>_ground_height_surface____<city>.npy  [H, W] float16, NaN where unknown
    <log_id>/map/<log_id>___img_Sim2_city.json                 R, t, s: pixel = s (R xy + t)
    <log_id>/aerial/orthophoto.png, orthophoto.json            RGB; cell_size_m, x_min_m, y_min_m

The first three are Argoverse's own format; the orthophoto is this library's addition. Everything
is in the city frame, in metres. Rasters have row 0 at the smallest y: rows grow with y.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from posejax.data.arrays import read_npy
from posejax.data.errors import DataError
from posejax.data.files import json_number, read_json
from posejax.data.images import read_image
from posejax.data.rigid import is_rotation

_FARTHEST = 1e7  # m: city frames start within the city; UTM coordinates fit too
_HIGHEST = 1e5  # m
_CELLS = (1e-3, 1e3)  # m: sides of a raster's cells

#: Paint on a lane boundary, as named by the Argoverse 2 map format.
MARK_TYPES = frozenset(
    f"{style}_{colour}"
    for style in ("SOLID", "DASHED", "DOUBLE_SOLID", "DOUBLE_DASH", "DASH_SOLID", "SOLID_DASH")
    for colour in ("WHITE", "YELLOW", "BLUE")
) | {"NONE", "UNKNOWN"}


@dataclass(frozen=True)
class LaneSegment:
    """One lane between two boundary polylines [N, 3] float64 (city frame, in driving direction)."""

    id: int
    left: np.ndarray
    right: np.ndarray
    left_mark_type: str
    right_mark_type: str
    is_intersection: bool = False
    lane_type: str = "VEHICLE"
    successors: tuple[int, ...] = ()
    predecessors: tuple[int, ...] = ()
    left_neighbor_id: int | None = None
    right_neighbor_id: int | None = None


@dataclass(frozen=True)
class VectorMap:
    """Lane segments, drivable areas ([N, 3] polygons) and crossings (pairs of edges [2, 3])."""

    lane_segments: list[LaneSegment]
    drivable_areas: list[np.ndarray]
    crossings: list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class GroundHeight:
    """Height of the ground on a grid: `height` [H, W] float32 (NaN: unknown) in city z.

    `image_from_city` = (R [2, 2], t [2], s): continuous pixel (column, row) = s (R xy + t); cell
    (row, column) covers the unit square from there.
    """

    height: np.ndarray
    image_from_city: tuple[np.ndarray, np.ndarray, float]

    def at(self, xy: np.ndarray) -> np.ndarray:
        """Height [...] of the cell under city positions `xy` [..., 2]; NaN where unknown."""
        rotation, translation, scale = self.image_from_city
        pixel = np.floor(scale * (np.asarray(xy, np.float64) @ rotation.T + translation))
        rows, cols = self.height.shape
        inside = (pixel >= 0).all(-1) & (pixel[..., 0] < cols) & (pixel[..., 1] < rows)
        index = np.where(inside[..., None], pixel, 0).astype(np.int64)
        return np.where(inside, self.height[index[..., 1], index[..., 0]], np.float32(np.nan))


@dataclass(frozen=True)
class Orthophoto:
    """Aerial picture: `rgb` [H, W, 3] uint8; cell (r, c) is centred on the city position
    (x_min + (c + 0.5) cell_size, y_min + (r + 0.5) cell_size)."""

    rgb: np.ndarray
    cell_size: float
    x_min: float
    y_min: float


def read_vector_map(log_dir: str | Path) -> VectorMap:
    """Read the lane-level map of a log.

    Raises:
      DataError: missing file, no JSON, a missing key, a polyline that is too short or not finite,
        an unknown mark type.
    """
    path = _only(Path(log_dir) / "map", "log_map_archive_*.json")
    archive = read_json(path)
    lanes = [_lane(path, key, lane) for key, lane in _items(path, archive, "lane_segments")]
    areas = [
        _polyline(path, f"drivable_areas.{key}", area, "area_boundary", 3)
        for key, area in _items(path, archive, "drivable_areas")
    ]
    crossings = [
        (
            _polyline(path, f"pedestrian_crossings.{key}", crossing, "edge1", 2),
            _polyline(path, f"pedestrian_crossings.{key}", crossing, "edge2", 2),
        )
        for key, crossing in _items(path, archive, "pedestrian_crossings")
    ]
    return VectorMap(lanes, areas, crossings)


def write_vector_map(log_dir: str | Path, vector_map: VectorMap, city: str = "SIM") -> Path:
    """Write the map archive in Argoverse's schema (coordinates in whole centimetres, as there)."""
    lanes = {
        str(lane.id): {
            "id": lane.id,
            "is_intersection": bool(lane.is_intersection),
            "lane_type": lane.lane_type,
            "left_lane_boundary": _points(lane.left),
            "left_lane_mark_type": lane.left_mark_type,
            "right_lane_boundary": _points(lane.right),
            "right_lane_mark_type": lane.right_mark_type,
            "successors": list(lane.successors),
            "predecessors": list(lane.predecessors),
            "right_neighbor_id": lane.right_neighbor_id,
            "left_neighbor_id": lane.left_neighbor_id,
        }
        for lane in vector_map.lane_segments
    }
    areas = {
        str(i): {"area_boundary": _points(area), "id": i}
        for i, area in enumerate(vector_map.drivable_areas, start=1)
    }
    crossings = {
        str(i): {"edge1": _points(one), "edge2": _points(two), "id": i}
        for i, (one, two) in enumerate(vector_map.crossings, start=1)
    }
    archive = {
        "pedestrian_crossings": crossings,
        "lane_segments": lanes,
        "drivable_areas": areas,
    }
    folder = _map_folder(log_dir)
    path = folder / f"log_map_archive_{Path(log_dir).name}____{city}.json"
    path.write_text(json.dumps(archive))
    return path


def read_ground_height(log_dir: str | Path) -> GroundHeight:
    """Read the ground-height raster and its similarity.

    Raises:
      DataError: missing file, wrong rank or dtype, no known cell, a malformed similarity.
    """
    folder = Path(log_dir) / "map"
    path = _only(folder, "*ground_height_surface____*.npy")
    height = read_npy(path)
    if height.ndim != 2 or not np.issubdtype(height.dtype, np.floating):
        raise DataError(path, "array", f"{height.dtype}{height.shape}", "floating [H, W]")
    if not np.isfinite(height).any():
        raise DataError(path, "array", "no finite height", "NaN only where unknown")
    if not (highest := float(np.nanmax(np.abs(height)))) <= _HIGHEST:
        raise DataError(path, "array", f"{highest:g}", f"metres, at most {_HIGHEST:g}")
    path = _only(folder, "*___img_Sim2_city.json")
    sim2 = read_json(path)
    rotation = np.array([_number(path, sim2, "R", i) for i in range(4)]).reshape(2, 2)
    translation = np.array([_number(path, sim2, "t", i) for i in range(2)])
    scale = _number(path, sim2, "s")
    if not 1 / _CELLS[1] <= scale <= 1 / _CELLS[0]:
        raise DataError(path, "s", scale, "pixels per metre > 0")
    if np.abs(translation).max() > _FARTHEST:
        raise DataError(path, "t", translation.tolist(), f"at most {_FARTHEST:g} m")
    if not is_rotation(rotation):
        raise DataError(path, "R", rotation.tolist(), "a rotation")
    return GroundHeight(height.astype(np.float32), (rotation, translation, scale))


def write_ground_height(log_dir: str | Path, ground: GroundHeight, city: str = "SIM") -> None:
    """Write the ground-height raster (float16, as the real one) and its similarity."""
    folder = _map_folder(log_dir)
    log_id = Path(log_dir).name
    np.save(
        folder / f"{log_id}_ground_height_surface____{city}.npy",
        np.asarray(ground.height, np.float16),
    )
    rotation, translation, scale = ground.image_from_city
    sim2 = {"R": np.ravel(rotation).tolist(), "t": np.ravel(translation).tolist(), "s": scale}
    (folder / f"{log_id}___img_Sim2_city.json").write_text(json.dumps(sim2))


def read_orthophoto(log_dir: str | Path) -> Orthophoto:
    """Read the orthophoto of a log.

    Raises:
      DataError: missing or unreadable picture, missing or non-positive cell size or origin.
    """
    folder = Path(log_dir) / "aerial"
    path = folder / "orthophoto.json"
    frame = read_json(path)
    cell_size, x_min, y_min = (
        _number(path, frame, k) for k in ("cell_size_m", "x_min_m", "y_min_m")
    )
    if not _CELLS[0] <= cell_size <= _CELLS[1]:
        raise DataError(path, "cell_size_m", cell_size, f"{_CELLS[0]:g} to {_CELLS[1]:g} m")
    if max(abs(x_min), abs(y_min)) > _FARTHEST:
        raise DataError(path, "x_min_m, y_min_m", (x_min, y_min), f"at most {_FARTHEST:g} m")
    rgb = read_image(folder / "orthophoto.png", convert="RGB")
    return Orthophoto(rgb, cell_size, x_min, y_min)


def write_orthophoto(log_dir: str | Path, photo: Orthophoto) -> None:
    """Write the orthophoto and its frame."""
    folder = Path(log_dir) / "aerial"
    folder.mkdir(parents=True, exist_ok=True)
    # Level 1: three times faster than the default for a few per cent more bytes.
    Image.fromarray(np.asarray(photo.rgb, np.uint8)).save(
        folder / "orthophoto.png", compress_level=1
    )
    frame = {
        "cell_size_m": float(photo.cell_size),
        "x_min_m": float(photo.x_min),
        "y_min_m": float(photo.y_min),
    }
    (folder / "orthophoto.json").write_text(json.dumps(frame))


def _map_folder(log_dir: str | Path) -> Path:
    folder = Path(log_dir) / "map"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _only(folder: Path, pattern: str) -> Path:
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        found = "not found" if not files else f"{len(files)} files"
        raise DataError(folder / pattern, "file", found, "exactly one")
    return files[0]


def _number(path: Path, source: dict[str, Any], key: str, index: int | None = None) -> float:
    value = source.get(key)
    if index is not None:
        value = value[index] if isinstance(value, list) and index < len(value) else None
    return json_number(path, key if index is None else f"{key}[{index}]", value)


def _items(path: Path, archive: dict[str, Any], key: str):
    value = archive.get(key)
    if not isinstance(value, dict):
        raise DataError(
            path, key, "missing" if value is None else type(value).__name__, "an object"
        )
    for name, entry in value.items():
        if not isinstance(entry, dict):
            raise DataError(path, f"{key}.{name}", type(entry).__name__, "an object")
        yield name, entry


def _polyline(path: Path, where: str, entry: dict[str, Any], key: str, shortest: int) -> np.ndarray:
    points = entry.get(key)
    if not isinstance(points, list) or len(points) < shortest:
        found = f"{len(points)} points" if isinstance(points, list) else repr(points)
        raise DataError(path, f"{where}.{key}", found, f"at least {shortest} points")
    where = f"{where}.{key}"
    line = np.empty((len(points), 3))
    for i, point in enumerate(points):
        if not isinstance(point, dict) or not {"x", "y", "z"} <= point.keys():
            raise DataError(path, f"{where}[{i}]", f"bad point ({repr(point)[:80]})", "x, y, z")
        line[i] = [json_number(path, f"{where}[{i}].{axis}", point[axis]) for axis in "xyz"]
    if not np.abs(line).max() <= _FARTHEST:
        raise DataError(path, where, np.abs(line).max(), f"metres, at most {_FARTHEST:g}")
    return line


def _lane(path: Path, key: str, lane: dict[str, Any]) -> LaneSegment:
    where = f"lane_segments.{key}"

    def mark(side: str) -> str:
        value = lane.get(f"{side}_lane_mark_type")
        if not isinstance(value, str) or value not in MARK_TYPES:
            where_ = f"{where}.{side}_lane_mark_type"
            raise DataError(path, where_, repr(value)[:80], "a known mark type")
        return value

    for field, kind in (("id", int), ("is_intersection", bool), ("lane_type", str)):
        if type(lane.get(field)) is not kind:
            raise DataError(path, f"{where}.{field}", repr(lane.get(field))[:80], kind.__name__)
    return LaneSegment(
        id=lane["id"],
        left=_polyline(path, where, lane, "left_lane_boundary", 2),
        right=_polyline(path, where, lane, "right_lane_boundary", 2),
        left_mark_type=mark("left"),
        right_mark_type=mark("right"),
        is_intersection=lane["is_intersection"],
        lane_type=lane["lane_type"],
        successors=_ids(path, where, lane, "successors"),
        predecessors=_ids(path, where, lane, "predecessors"),
        left_neighbor_id=_neighbor(path, where, lane, "left_neighbor_id"),
        right_neighbor_id=_neighbor(path, where, lane, "right_neighbor_id"),
    )


def _ids(path: Path, where: str, lane: dict[str, Any], key: str) -> tuple[int, ...]:
    value = lane.get(key, [])
    if not isinstance(value, list) or not all(type(v) is int for v in value):
        raise DataError(path, f"{where}.{key}", repr(value)[:80], "a list of lane ids")
    return tuple(value)


def _neighbor(path: Path, where: str, lane: dict[str, Any], key: str) -> int | None:
    value = lane.get(key)
    if value is not None and type(value) is not int:
        raise DataError(path, f"{where}.{key}", repr(value)[:80], "a lane id or null")
    return value


def _points(line: np.ndarray) -> list[dict[str, float]]:
    return [{"x": x, "y": y, "z": z} for x, y, z in np.round(line, 2).tolist()]
