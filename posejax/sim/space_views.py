"""Pictures of the spacecraft in black space, cast only where it can be seen.

A frame is cut into cells of 16 x 16 pixels; those that the projected surface touches are cast,
eight to a tile of the ray caster, tiles of many frames together in blocks of one size. Then the
pixels where two parts of different brightness meet are cast again with four rays each: everything
inside a part is smoothed by its blurred paint already.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posejax.geometry import einsum
from posejax.sim.light import Light, illumination
from posejax.sim.raycast import cast_rays
from posejax.sim.scene import Scene
from posejax.sim.spacecraft import spacecraft_scene
from posejax.sim.tiles import TILE

_CELL = 16  # pixels along a side
_PER_TILE = TILE // _CELL**2
_BLOCK = 32  # tiles of one call
_SPACING = 0.05  # metres between the points that tell which cells are touched
_CONTRAST = 1.2  # borders with a smaller ratio of brightness need no smoothing


@dataclass(frozen=True)
class SpaceCamera:
    """A pinhole camera; pixel centres at +0.5.

    Attributes:
      size: (height, width) in pixels.
      focal: pixels, along both axes.
      centre: (x, y) of the principal point.
    """

    size: tuple[int, int] = (720, 1280)
    focal: float = 1258.6057531097028
    centre: tuple[float, float] = (640.0, 360.0)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 3] of the camera frame -> pixels [..., 2]."""
        return points[..., :2] / points[..., 2:] * self.focal + np.asarray(self.centre)


class View(NamedTuple):
    """What one frame shows: everything outside of the patch is black.

    Attributes:
      luminance: [h, w] float32; 1 is a white surface that faces the sun.
      surface: [h, w] int32 primitive under the pixel's centre, -1 for none.
      corner: (row, column) of the patch on the sensor.
    """

    luminance: np.ndarray
    surface: np.ndarray
    corner: tuple[int, int]


def render_views(
    poses: np.ndarray,
    sun: np.ndarray,
    camera: SpaceCamera = SpaceCamera(),
    *,
    ambient: float = 0.05,
    smooth_edges: bool = True,
) -> list[View]:
    """Render the spacecraft at neighbouring poses.

    Args:
      poses: [F, 4, 4] camera_from_body; some ten at a time keep all tiles of a block busy.
      sun: [3] direction from the spacecraft to the sun, camera frame.
      ambient: light from everywhere, relative to the sun's.
      smooth_edges: four rays per pixel along the borders of parts.

    Returns:
      One `View` for each pose.
    """
    scene = _scene(scene_blur(poses, camera))
    light = np.asarray(sun, np.float32), np.float32(ambient)
    cast = functools.partial(_cast, scene, np.linalg.inv(poses), light, camera)

    cells = [_touched_cells(pose, camera) for pose in poses]
    tiles = np.array([len(c) // _PER_TILE for c in cells])
    frame = np.repeat(np.arange(len(poses)), tiles)
    corners = np.concatenate(cells).reshape(-1, _PER_TILE, 1, 2) * _CELL
    luminance, surface = cast(frame, (corners + _grid()).reshape(-1, TILE, 2))
    views = []
    for end, count, cell in zip(np.cumsum(tiles), tiles, cells, strict=True):
        mine = slice(end - count, end)
        views.append(_assemble(cell * _CELL, luminance[mine], surface[mine], camera))
    return _smooth(views, cast, ambient) if smooth_edges else views


@functools.cache
def _grid() -> np.ndarray:
    """Pixel centres [_CELL^2, 2] of a cell as (x, y)."""
    return np.stack(np.meshgrid(*[np.arange(_CELL) + 0.5] * 2), -1).reshape(-1, 2)


def _smooth(views: list[View], cast, ambient: float) -> list[View]:
    """Replace the pixels along borders of parts by the mean of four rays."""
    pixels = [_by_neighbourhood(border_pixels(view, ambient)) for view in views]
    per_tile = TILE // 4
    frames, rays = [], []
    for k, (view, pixel) in enumerate(zip(views, pixels, strict=True)):
        count = -(-len(pixel) // per_tile)
        if count:
            filled = np.resize(pixel, (count * per_tile, 2))
            rays.append((filled + view.corner)[:, ::-1].reshape(count, per_tile, 2))
            frames += [k] * count
    if not frames:
        return views
    offset = np.array([(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)])
    rays = np.concatenate(rays)[:, :, None] + offset
    luminance, _ = cast(np.array(frames), rays.reshape(len(frames), TILE, 2))
    mean = luminance.reshape(len(frames), per_tile, 4).mean(-1)
    for k, (view, pixel) in enumerate(zip(views, pixels, strict=True)):
        values = mean[np.array(frames) == k].reshape(-1)[: len(pixel)]
        view.luminance[pixel[:, 0], pixel[:, 1]] = values
    return views


def border_pixels(view: View, ambient: float) -> np.ndarray:
    """(row, column) [N, 2] of pixels that touch another part of another brightness, row by row."""
    border = np.zeros(view.surface.shape, bool)
    level = np.log(view.luminance + 0.5 * ambient)
    least = np.log(_CONTRAST)
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        step = (view.surface[a] != view.surface[b]) & (np.abs(level[a] - level[b]) > least)
        border[a] |= step
        border[b] |= step
    return np.argwhere(border)


def _by_neighbourhood(pixel: np.ndarray) -> np.ndarray:
    return pixel[np.argsort(_morton(*(pixel // _CELL).T), kind="stable")]


def _morton(row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Bits of row and column in turn: what is near in this order is near in the picture."""
    code = np.zeros_like(row)
    for bit in range(8):
        code |= (row >> bit & 1) << (2 * bit + 1) | (column >> bit & 1) << (2 * bit)
    return code


def _assemble(corners, luminance, surface, camera: SpaceCamera) -> View:
    """Cells [N] with their first pixels at (x, y) corners -> one patch, cut at the border."""
    if not len(corners):
        return View(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.int32), (0, 0))
    low = corners.min(0)
    column, row = ((corners - low) // _CELL).T
    patches = []
    for values, empty in ((luminance, np.float32(0)), (surface, np.int32(-1))):
        patch = np.full((row.max() + 1, _CELL, column.max() + 1, _CELL), empty)
        patch[row, :, column] = values.reshape(-1, _CELL, _CELL)
        patches.append(patch.reshape(patch.shape[0] * _CELL, -1))
    inside = slice(0, camera.size[0] - low[1]), slice(0, camera.size[1] - low[0])
    return View(patches[0][inside], patches[1][inside], (int(low[1]), int(low[0])))


def _touched_cells(pose: np.ndarray, camera: SpaceCamera) -> np.ndarray:
    """(column, row) [N, 2] of cells on the sensor that the surface may touch.

    N is a multiple of _PER_TILE (the last cell is repeated) and a tile's cells are neighbours.
    """
    points = surface_points() @ pose[:3, :3].T + pose[:3, 3]
    pixel = camera.project(points)
    # Any spot of the surface is that near to one of the points, in the picture.
    reach = 0.75 * _SPACING * camera.focal / points[:, 2:]
    high, wide = -(-camera.size[0] // _CELL), -(-camera.size[1] // _CELL)
    touched = np.zeros((high + high % 2, wide), bool)
    low = np.floor((pixel - reach) / _CELL).astype(np.int64)
    span = np.floor((pixel + reach) / _CELL).astype(np.int64) - low
    for dx, dy in np.ndindex(*(span.max(0) + 1)):
        x, y = low[:, 0] + dx, low[:, 1] + dy
        on = (dx <= span[:, 0]) & (dy <= span[:, 1])
        on &= (x >= 0) & (y >= 0) & (x < wide) & (y < high)
        touched[y[on], x[on]] = True
    # Pairs of rows, column by column: eight cells in a row are 64 x 32 pixels.
    pair, column, row = np.nonzero(touched.reshape(-1, 2, wide).swapaxes(1, 2))
    cells = np.stack([column, 2 * pair + row], axis=1)
    count = -(-len(cells) // _PER_TILE) * _PER_TILE
    return cells[np.minimum(np.arange(count), len(cells) - 1)]


@functools.cache
def surface_points() -> np.ndarray:
    """Points [P, 3] on the hulls of all parts, _SPACING apart."""
    scene = spacecraft_scene()
    points = []
    for centre, axes, half in zip(*scene.rectangles[:3], strict=True):
        points.append(_lattice((*half, 0.0))[:, :2] @ axes + centre)
    for solids in (scene.boxes, scene.cylinders, scene.ellipsoids):
        for centre, rotation, half in zip(*solids[:3], strict=True):
            if half.all():
                points.append(_lattice(half) @ rotation.T + centre)
    return np.unique(np.concatenate(points).astype(np.float64).round(3), axis=0)


def _lattice(half) -> np.ndarray:
    axes = [np.linspace(-h, h, int(np.ceil(2 * h / _SPACING)) + 1) for h in half]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return points[(np.abs(points) >= np.asarray(half) - 1e-6).any(1)]


def scene_blur(poses: np.ndarray, camera: SpaceCamera) -> float:
    """Blur of the paint: half a pixel at the typical distance, in steps, so that scenes are few."""
    footprint = float(np.median(poses[:, 2, 3])) / camera.focal
    return 0.5 * 2.0 ** (round(np.log2(max(footprint, 1e-4)) * 2) / 2)


@functools.cache
def _scene(blur: float) -> Scene:
    return jax.tree.map(jnp.asarray, spacecraft_scene(blur))


def _cast(scene: Scene, body_from_camera, light, camera: SpaceCamera, frame, pixels):
    """Luminance and surface [T, TILE] of pixels [T, TILE, 2] seen from the frames' poses."""
    count = len(frame)
    padded = max(-(-count // _BLOCK), 1) * _BLOCK
    poses = np.zeros((padded, 4, 4), np.float32)  # the padding casts zero directions: nothing
    poses[:count] = body_from_camera[frame]
    rays = np.zeros((padded, TILE, 2), np.float32)
    rays[:count] = (pixels - np.asarray(camera.centre)) / camera.focal
    parts = [
        _cast_block(scene, poses[k : k + _BLOCK], rays[k : k + _BLOCK], *light)
        for k in range(0, padded, _BLOCK)
    ]
    luminance, surface = zip(*jax.device_get(parts), strict=True)
    return np.concatenate(luminance)[:count], np.concatenate(surface)[:count]


@jax.jit
def _cast_block(scene: Scene, body_from_camera, rays, sun, ambient):
    tiles = len(rays)
    rays = jnp.concatenate([rays, jnp.ones((tiles, TILE, 1))], axis=-1)
    rotation = body_from_camera[:, :3, :3]
    # One long row of rays: the caster cuts it into our tiles again.
    directions = einsum("tij,trj->tri", rotation, rays).reshape(-1, 3)

    def spread(vector):
        return jnp.broadcast_to(vector[:, None], (tiles, TILE, 3)).reshape(-1, 3)

    origins = spread(body_from_camera[:, :3, 3])
    towards = spread(einsum("tij,j->ti", rotation, sun))
    hits = cast_rays(scene, origins, directions, 30.0)
    light = illumination(scene, origins, directions, hits, Light(towards, 1.0, ambient))
    luminance = jnp.where(hits.valid, hits.reflectance * light, 0.0)
    return luminance.reshape(tiles, TILE), hits.surface.reshape(tiles, TILE)
