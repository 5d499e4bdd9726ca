"""Rasters in NumPy for data workers: points to a bird's-eye raster, and crops of large rasters.

A raster `[H, W, C]` has x along columns and y along rows (both growing), its origin at the
centre: the cell of a point is (row, column) = floor(y / cell + H / 2), floor(x / cell + W / 2).
Nothing is flipped: a point ahead (+x) is at a larger column, one to the left (+y) at a larger row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from posejax.data import se2
from posejax.data.ground import Ground, estimate_ground
from posejax.data.paint import paint_contrast

POINT_CHANNELS = (
    "height",  # highest point of the cell above ground, m, clipped to [-1, max_height]
    "height_mean",  # mean height above ground, m, clipped likewise
    "intensity",  # mean intensity of all points
    "ground_intensity",  # mean intensity of the ground points; 0 where there is none
    "paint",  # mean paint contrast of the ground points (`paint_contrast`)
    "density",  # log(1 + points) / log(1 + 16)
    "occupancy",  # 1 where a raised point was seen
)
_FROM_GROUND = {"height", "height_mean", "ground_intensity", "paint", "occupancy"}
_GROUND_BAND = 0.2  # m; a point this close to the estimated ground is a ground point


class MapRaster(NamedTuple):
    """A large raster with its place in a map frame; rows grow with y, columns with x.

    values: [H, W, C] uint8 (scaled by 1/255 when cropped) or float32.
    mask: [H, W] bool or float in [0, 1], 1 = valid; None: valid everywhere.
    x_min, y_min: map coordinates of the outer corner of cell (0, 0) (m).
    cell_size: side of a cell (m).
    """

    values: np.ndarray
    mask: np.ndarray | None
    x_min: float
    y_min: float
    cell_size: float


def rasterize_points(
    xyz: np.ndarray,
    intensity: np.ndarray | None = None,
    *,
    ring: np.ndarray | None = None,
    ground_only: bool = False,
    shape: tuple[int, int],
    cell_size: float,
    channels: Sequence[str] = ("height", "intensity", "density", "occupancy"),
    ground: Ground | float | None = None,
    raised: tuple[float, float] = (0.3, 3.0),
    max_height: float = 4.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Bird's-eye raster of a sweep, and which cells hold a point.

    Args:
      xyz: [N, 3] points (m) in the raster's frame, z up. Points outside or non-finite are ignored.
      intensity: [N] in [0, 1]; needed by the intensity channels only.
      ring: [N] beam numbers; needed by "paint" only.
      ground_only: ignore points that are not on the ground, for the mask as well.
      shape: (H, W) cells.
      cell_size: side of a cell (m).
      channels: names out of `POINT_CHANNELS`, in the order of the result.
      ground: the surface heights are measured from, or a constant height; None estimates it
        from `xyz`.
      raised: heights above ground (m) that count as structure for `occupancy`.
      max_height: upper clip of the heights (m): roofs and crowns say little beyond it.

    Returns:
      raster [H, W, len(channels)] float32, zero where no point fell; mask [H, W] bool.

    Raises:
      ValueError: unknown channel, or an intensity channel without `intensity`.
    """
    unknown = [name for name in channels if name not in POINT_CHANNELS]
    if unknown:
        raise ValueError(f"unknown raster channels {unknown}; known: {', '.join(POINT_CHANNELS)}")
    if intensity is None and any("intensity" in name for name in channels):
        raise ValueError(f"channels {tuple(channels)} need the points' intensity, got None")
    if "paint" in channels and (intensity is None or ring is None):
        raise ValueError('channel "paint" needs intensity and ring of the points')
    if ground is None and (ground_only or _FROM_GROUND & set(channels)):
        ground = estimate_ground(xyz, half_size=max(shape) * cell_size / 2)
    paint = None
    if ground_only or "paint" in channels:
        on_ground = np.abs(_above(ground, xyz)) < _GROUND_BAND
        if "paint" in channels:
            assert intensity is not None and ring is not None
            paint = paint_contrast(xyz, intensity, ring, on_ground)
        if ground_only:
            xyz = xyz[on_ground]
            intensity, paint = (None if a is None else a[on_ground] for a in (intensity, paint))
    height_cells, width_cells = shape
    cells = height_cells * width_cells
    u = xyz[:, 0] * (1 / cell_size) + width_cells / 2
    v = xyz[:, 1] * (1 / cell_size) + height_cells / 2
    inside = (u >= 0) & (u < width_cells) & (v >= 0) & (v < height_cells)
    inside &= np.isfinite(xyz[:, 2])
    cell = v[inside].astype(np.int32) * width_cells + u[inside].astype(np.int32)
    count = np.bincount(cell, minlength=cells)
    inverse_count = 1 / np.maximum(count, 1)

    z = _above(ground, xyz[inside]) if _FROM_GROUND & set(channels) else np.zeros(0)

    raster = np.zeros((len(channels), cells), np.float32)
    for plane, name in zip(raster, channels, strict=True):
        if name == "height":
            highest = np.full(cells, -np.inf, z.dtype)
            np.maximum.at(highest, cell, z)
            plane[:] = np.where(count > 0, np.clip(highest, -1.0, max_height), 0)
        elif name == "height_mean":
            mean = np.bincount(cell, z, minlength=cells) * inverse_count
            plane[:] = np.clip(mean, -1.0, max_height)
        elif name == "intensity":
            assert intensity is not None
            plane[:] = np.bincount(cell, intensity[inside], minlength=cells) * inverse_count
        elif name in ("ground_intensity", "paint"):
            source = intensity if name == "ground_intensity" else paint
            assert source is not None
            low = np.abs(z) < _GROUND_BAND
            members = np.bincount(cell[low], minlength=cells)
            total = np.bincount(cell[low], source[inside][low], minlength=cells)
            plane[:] = total / np.maximum(members, 1)
        elif name == "density":
            plane[:] = np.log1p(count) / np.log1p(16)
        elif name == "occupancy":
            plane[cell[(z > raised[0]) & (z < raised[1])]] = 1
    raster = np.ascontiguousarray(raster.reshape(len(channels), *shape).transpose(1, 2, 0))
    return raster, (count > 0).reshape(shape)


def _above(ground: Ground | float | None, xyz: np.ndarray) -> np.ndarray:
    if isinstance(ground, Ground):
        return xyz[:, 2] - ground.at(xyz[:, :2])
    return xyz[:, 2] - (ground or 0.0)


def crop_raster(
    source: MapRaster, map_from_crop: np.ndarray, *, shape: tuple[int, int], cell_size: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear crop of a map raster onto a grid at a planar pose.

    The crop's frame has its origin at the crop's centre and its x axis along columns; its cell
    centre X lies at `map_from_crop` X in the map. Where the map's cells are less than half as
    large as the crop's, reduce the map first (`reduce_raster`), else fine detail aliases.

    Args:
      source: the raster to cut from.
      map_from_crop: (x, y, yaw) (m, m, rad).
      shape: (H, W) of the crop.
      cell_size: of the crop (m).

    Returns:
      values [H, W, C] float32, the mean of the valid neighbours (zero where none is valid); mask
      [H, W] float32, the share of the bilinear weight on valid cells (0 outside).
    """
    rows, columns = source.values.shape[:2]
    x, y, yaw = (float(v) for v in map_from_crop)
    step = cell_size / source.cell_size
    cos, sin = np.cos(yaw) * step, np.sin(yaw) * step
    j = np.arange(shape[1]) + 0.5 - shape[1] / 2
    i = (np.arange(shape[0]) + 0.5 - shape[0] / 2)[:, None]
    # Continuous pixel coordinates (first centre at 0.5) minus 0.5: indices of cell centres.
    u = (cos * j - sin * i + ((x - source.x_min) / source.cell_size - 0.5)).ravel()
    v = (sin * j + cos * i + ((y - source.y_min) / source.cell_size - 0.5)).ravel()
    j0, i0 = np.floor(u).astype(np.intp), np.floor(v).astype(np.intp)
    du, dv = (u - j0).astype(np.float32), (v - i0).astype(np.float32)

    flat = source.values.reshape(rows * columns, -1)
    valid = None if source.mask is None else source.mask.reshape(-1)
    total = np.zeros((len(u), flat.shape[1]), np.float32)
    weight_sum = np.zeros(len(u), np.float32)
    for di, wi in ((0, 1 - dv), (1, dv)):
        for dj, wj in ((0, 1 - du), (1, du)):
            i1, j1 = i0 + di, j0 + dj
            weight = wi * wj
            weight *= (i1 >= 0) & (i1 < rows) & (j1 >= 0) & (j1 < columns)
            k = np.clip(i1, 0, rows - 1) * columns + np.clip(j1, 0, columns - 1)
            if valid is not None:
                weight *= valid[k]
            total += flat[k] * weight[:, None]
            weight_sum += weight
    total /= np.maximum(weight_sum, 1e-6)[:, None]
    if source.values.dtype == np.uint8:
        total *= np.float32(1 / 255)
    return total.reshape(*shape, -1), np.minimum(weight_sum, 1).reshape(shape)


def reduce_raster(source: MapRaster, factor: int) -> MapRaster:
    """Map raster with cells `factor` times larger: means of the valid cells of each block.

    Rows and columns that do not fill a last block are cut off. The dtype stays (uint8 is
    rounded); the mask becomes the valid share of each block.
    """
    if factor == 1:
        return source
    rows, columns = (n // factor * factor for n in source.values.shape[:2])
    if min(rows, columns) == 0:
        raise ValueError(f"cannot reduce a raster of {source.values.shape[:2]} cells by {factor}")
    values = source.values[:rows, :columns].astype(np.float32)
    blocks = (rows // factor, factor, columns // factor, factor, values.shape[2])
    if source.mask is None:
        values, mask = values.reshape(blocks).mean((1, 3)), None
    else:
        weight = source.mask[:rows, :columns, None].astype(np.float32)
        mask = weight.reshape(*blocks[:4], 1).mean((1, 3))
        values = (values * weight).reshape(blocks).mean((1, 3)) / np.maximum(mask, 1e-6)
        mask = mask[..., 0]
    if source.values.dtype == np.uint8:
        values = np.rint(values).astype(np.uint8)
    return MapRaster(values, mask, source.x_min, source.y_min, source.cell_size * factor)


def blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of [H, W] or [H, W, C] by `sigma` cells; zero outside, truncated at 3 sigma."""
    if sigma <= 0:
        return values
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        padding = [(reach, reach) if k == axis else (0, 0) for k in range(values.ndim)]
        padded = np.pad(values.astype(np.float32), padding)
        size = values.shape[axis]
        values = np.zeros(values.shape, np.float32)
        for shift, tap in enumerate(taps):
            values += tap * (
                padded[shift : shift + size] if axis == 0 else padded[:, shift : shift + size]
            )
    return values


def fill_rate(mask: np.ndarray) -> float:
    """Share of valid cells, in [0, 1]."""
    return float(np.mean(mask, dtype=np.float64))


def overlap_rate(
    online_mask: np.ndarray, geo_mask: np.ndarray, pose: np.ndarray, cell_size: float
) -> float:
    """Share of the valid online cells that lie on valid geo cells at `pose` = geo_from_online.

    Nearest-cell lookup; 0 if no online cell is valid.
    """
    height, width = online_mask.shape
    rows, columns = np.nonzero(online_mask)
    if not len(rows):
        return 0.0
    xy = np.stack([columns + 0.5 - width / 2, rows + 0.5 - height / 2], axis=1)
    uv = se2.apply(np.array([pose[0] / cell_size, pose[1] / cell_size, pose[2]]), xy)
    j = np.floor(uv[:, 0] + geo_mask.shape[1] / 2).astype(np.intp)
    i = np.floor(uv[:, 1] + geo_mask.shape[0] / 2).astype(np.intp)
    inside = (i >= 0) & (i < geo_mask.shape[0]) & (j >= 0) & (j < geo_mask.shape[1])
    return float(np.sum(geo_mask[i[inside], j[inside]], dtype=np.float64) / len(rows))


def lay_raster(
    values: np.ndarray,
    mask: np.ndarray,
    geo_from_online: np.ndarray,
    shape: tuple[int, int],
    cell_size: float,
) -> np.ndarray:
    """A raster [H, W, C] where a pose puts it in another: [*shape, C], 0 outside or invalid.

    Args:
      values, mask: [H, W, C] and [H, W], origin at the centre.
      geo_from_online: [3] x (m), y (m), yaw (rad); nothing is laid at a pose that is not finite.
      shape: (rows, columns) of the other raster, origin at its centre.
      cell_size: of both (m).
    """
    if not np.isfinite(geo_from_online).all():
        return np.zeros((*shape, values.shape[-1]))
    y_min, x_min = (-size / 2 * cell_size for size in mask.shape)
    source = MapRaster(values.astype(np.float32), mask.astype(np.float32), x_min, y_min, cell_size)
    online_from_geo = se2.inverse(np.asarray(geo_from_online, np.float64))
    laid, weight = crop_raster(source, online_from_geo, shape=shape, cell_size=cell_size)
    return laid * weight[..., None]
