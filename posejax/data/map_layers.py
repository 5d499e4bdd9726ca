"""Layers of a log's map (aerial photograph, lane paint, drivable area, ...) as one map raster."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posejax.data.av2_map import VectorMap, read_orthophoto, read_vector_map
from posejax.data.drawing import bounds, polygon_coverage, stroke
from posejax.data.errors import DataError
from posejax.data.rasters import MapRaster, reduce_raster

AERIAL_LAYERS = ("aerial", "gray")  # three channels of colour; one of luminance
VECTOR_LAYERS = ("marks", "drivable", "non_drivable", "crossings")
_MAX_CELLS = 1 << 27  # of a drawn map, a kilometre and a half square in cells of 12.5 cm
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def layer_channels(layers: Sequence[str]) -> int:
    """Number of channels that `layers` take together."""
    return sum(3 if layer == "aerial" else 1 for layer in layers)


def check_layers(layers: Sequence[str]) -> None:
    """ValueError unless `layers` is a non-empty list of known names."""
    known = AERIAL_LAYERS + VECTOR_LAYERS
    unknown = [layer for layer in layers if layer not in known]
    if unknown or not layers:
        raise ValueError(f"unknown map layers {unknown}; choose from {', '.join(known)}")


def read_map_raster(
    log_dir: str | Path,
    layers: Sequence[str],
    *,
    cell_size: float,
    mark_width: float = 0.2,
    margin: float = 10.0,
) -> MapRaster:
    """Map of an Argoverse-2-like log as a uint8 raster in the city frame.

    With an aerial layer the raster has the photograph's extent and cells (reduced by whole
    factors towards `cell_size`) and is valid everywhere. Without one it covers the vector map
    plus `margin` with cells of half `cell_size`, and is valid within `margin` of the drivable
    area: beyond that the map says nothing, which is not the same as "not drivable".

    Args:
      log_dir: folder of the log.
      layers: names out of `AERIAL_LAYERS` and `VECTOR_LAYERS`, in channel order.
      cell_size: of the crops that will be cut (m).
      mark_width: stroke of single lane marks (m); see `draw_marks`.
      margin: see above (m).

    Raises:
      DataError: the log's map or photograph cannot be used.
      ValueError: unknown layer.
    """
    check_layers(layers)
    planes: dict[str, np.ndarray] = {}
    mask = None
    vector_map = None
    if set(layers) & set(VECTOR_LAYERS):
        vector_map = read_vector_map(log_dir)
    if set(layers) & set(AERIAL_LAYERS):
        photo = read_orthophoto(log_dir)
        frame = MapRaster(photo.rgb, None, photo.x_min, photo.y_min, photo.cell_size)
        factor = max(1, round(cell_size / photo.cell_size))
        if factor > min(photo.rgb.shape[:2]):
            found = f"{photo.rgb.shape[:2]} cells of {photo.cell_size:g} m"
            raise DataError(log_dir, "photograph", found, f"at least one cell of {cell_size:g} m")
        frame = reduce_raster(frame, factor)
        planes["aerial"] = frame.values
        planes["gray"] = np.rint(frame.values @ _LUMINANCE).astype(np.uint8)[..., None]
    else:
        assert vector_map is not None
        frame, mask = _vector_frame(log_dir, vector_map, cell_size / 2, margin)
    for layer in set(layers) & set(VECTOR_LAYERS):
        assert vector_map is not None
        coverage = draw_layer(vector_map, layer, frame, mark_width)
        planes[layer] = np.rint(255 * coverage).astype(np.uint8)[..., None]
    values = np.concatenate([planes[layer] for layer in layers], axis=2)
    return frame._replace(values=values, mask=mask)


def draw_layer(
    vector_map: VectorMap, layer: str, frame: MapRaster, mark_width: float
) -> np.ndarray:
    """One vector layer as coverage [H, W] float32 on the cells of `frame`."""
    if layer == "marks":
        return draw_marks(vector_map, frame, mark_width)
    if layer in ("drivable", "non_drivable"):
        polygons = vector_map.drivable_areas
    else:
        polygons = [crossing_polygon(*edges) for edges in vector_map.crossings]
    coverage = _cover(polygons, frame)
    return 1 - coverage if layer == "non_drivable" else coverage


def draw_marks(
    vector_map: VectorMap, frame: MapRaster, width: float, dashed: float = 0.6
) -> np.ndarray:
    """Painted lane marks, [H, W] float32: single lines `width` wide, double ones 2.5 times that.

    A double line is two strokes and the gap between them (0.45 to 0.5 m in all against 0.2 m for
    a single one). Drawing both alike shifts them against each other, which a slanting double line
    turns into an error along the road. The map does not say where dashes lie: the whole line is
    drawn, at the value `dashed`.
    """
    kinds: dict[str, list[np.ndarray]] = {"DASH": [], "SOLID": [], "DOUBLE": []}
    for line, mark in painted_lines(vector_map):
        kind = "DOUBLE" if mark.count("_") == 2 else "DASH" if "DASH" in mark else "SOLID"
        kinds[kind] += stroke(line, 2.5 * width if kind == "DOUBLE" else width)
    marks = dashed * _cover(kinds["DASH"], frame)
    return np.maximum(
        marks, np.maximum(_cover(kinds["SOLID"], frame), _cover(kinds["DOUBLE"], frame))
    )


def _cover(polygons: list[np.ndarray], frame: MapRaster) -> np.ndarray:
    return polygon_coverage(
        polygons,
        shape=frame.values.shape[:2],
        x_min=frame.x_min,
        y_min=frame.y_min,
        cell_size=frame.cell_size,
    )


def painted_lines(vector_map: VectorMap) -> list[tuple[np.ndarray, str]]:
    """Lane boundaries that carry paint and their mark types, each once (neighbours share them)."""
    lines: dict[tuple, tuple[np.ndarray, str]] = {}
    for lane in vector_map.lane_segments:
        for line, mark in ((lane.left, lane.left_mark_type), (lane.right, lane.right_mark_type)):
            if mark not in ("NONE", "UNKNOWN"):
                ends = sorted(tuple(np.round(p, 1)) for p in (line[0, :2], line[-1, :2]))
                lines.setdefault((*ends, len(line)), (line, mark))
    return list(lines.values())


def crossing_polygon(edge1: np.ndarray, edge2: np.ndarray) -> np.ndarray:
    """Quadrilateral [4, 2] between two edges [2, >=2] that may run in opposite directions."""
    a, b = np.asarray(edge1)[:, :2], np.asarray(edge2)[:, :2]
    same = np.linalg.norm(a - b, axis=1).sum() <= np.linalg.norm(a - b[::-1], axis=1).sum()
    return np.concatenate([a, b[::-1] if same else b])


def _vector_frame(
    log_dir: str | Path, vector_map: VectorMap, cell_size: float, margin: float
) -> tuple[MapRaster, np.ndarray]:
    points = [*vector_map.drivable_areas, *(lane.left for lane in vector_map.lane_segments)]
    if not points:
        raise DataError(log_dir, "map", "no lanes and no drivable areas", "at least one")
    x_min, y_min, x_max, y_max = bounds(points, margin)
    shape = (int(np.ceil((y_max - y_min) / cell_size)), int(np.ceil((x_max - x_min) / cell_size)))
    if shape[0] * shape[1] > _MAX_CELLS:
        found = f"{x_max - x_min:.0f} x {y_max - y_min:.0f} m, {shape[0]} x {shape[1]} cells"
        raise DataError(log_dir, "map's extent", found, f"at most {_MAX_CELLS} cells")
    frame = MapRaster(np.zeros((*shape, 0), np.uint8), None, x_min, y_min, cell_size)
    wide = [p for area in vector_map.drivable_areas for p in (area, *_outline(area, 2 * margin))]
    mask = polygon_coverage(wide, shape=shape, x_min=x_min, y_min=y_min, cell_size=cell_size)
    return frame, mask > 0.5


def _outline(area: np.ndarray, width: float) -> list[np.ndarray]:
    return stroke(np.concatenate([area, area[:2]]), width)
