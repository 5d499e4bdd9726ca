"""The one ray caster: any bundle of rays against a `Scene`, nearest hit wins.

Every ray is tested against every primitive that can matter to it: rays are cut into tiles, and a
tile skips those primitives whose bounding sphere its rays cannot reach (an exact bound, see
`_reachable`). Tiles are cast in blocks of one size, so memory is bounded and one compiled program
serves any number of rays. There is no tree to build, which keeps the function pure and the same on
CPU, GPU and TPU.

The intersection tests are the textbook ones: slabs (Kay & Kajiya 1986) for boxes, quadratics for
cylinders and ellipsoids, Moeller & Trumbore (1997) for triangles. Quadratics use the discriminant
|d|^2 - |o x d|^2 of the unit sphere, which does not cancel for thin far poles as b^2 - ac does.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from posejax.sim.scene import Rectangles, Scene, Solids, Triangles
from posejax.sim.surface import pattern, sample_texture

TILE = 2048  # rays that are culled together
BLOCK = 32  # tiles of one compiled call
_EPS = 1e-4


class Hits(NamedTuple):
    """What each ray of shape [...] met first.

    Attributes:
      distance: [...] metres along the (unit) direction; `max_range` where nothing was hit.
      surface: [...] int32 primitive index in the order rectangles, boxes, cylinders, ellipsoids,
        triangles (padding counted); -1 where nothing was hit.
      label: [...] int32 label given by the scene's author; -1 where nothing was hit.
      normal: [..., 3] unit, world frame, on the side of the ray's origin; 0 where nothing was hit.
      reflectance: [...] in [0, 1].
      colour: [..., 3] linear RGB in [0, 1], unshaded.
      valid: [...] bool.
    """

    distance: jax.Array
    surface: jax.Array
    label: jax.Array
    normal: jax.Array
    reflectance: jax.Array
    colour: jax.Array
    valid: jax.Array


def cast_rays(scene: Scene, origins, directions, max_range: float) -> Hits:
    """First hit of every ray; compiled once per bucket of primitive counts, for any number of rays.

    Args:
      scene: from `SceneBuilder.build`.
      origins: [..., 3] metres, world frame (broadcast against `directions`).
      directions: [..., 3] of any length > 0; a zero direction is a ray that hits nothing.
      max_range: hits beyond this many metres do not count.

    Returns:
      `Hits` with the leading shape of the rays.

    Raises:
      ValueError: the last axis is not 3.

    Numerical notes: float32; hits nearer than 0.1 mm are ignored, so a ray may start on a surface.
    Two-dimensional bundles are cut in rectangular tiles: pass pictures as [H, W, 3] and LiDAR as
    [azimuth, beam, 3], so that a tile's rays are neighbours and most primitives are skipped. Not
    differentiable (the loop over reachable primitives has a dynamic length).
    """
    origins, directions = jnp.asarray(origins, jnp.float32), jnp.asarray(directions, jnp.float32)
    if origins.shape[-1:] != (3,) or directions.shape[-1:] != (3,):
        raise ValueError(f"rays must end in 3: {origins.shape}, {directions.shape}")
    shape = jnp.broadcast_shapes(origins.shape, directions.shape)[:-1]
    count, size = _blocks(shape)
    blocks = _cut(origins, directions, shape, count, size)
    hits = [_cast_block(scene, *block, jnp.float32(max_range)) for block in blocks]
    return _join(hits, shape)


@jax.jit
def _cast_block(scene: Scene, origins, directions, max_range) -> Hits:
    """One block of tiles: origins and directions [tiles, TILE, 3]."""
    length = jnp.linalg.norm(directions, axis=-1, keepdims=True)
    directions = directions / jnp.maximum(length, 1e-20)
    # One tile fills a CPU core; an accelerator wants the whole block at once.
    together = None if jax.default_backend() == "cpu" else len(origins)
    return jax.lax.map(
        lambda tile: _cast_tile(scene, max_range, *tile), (origins, directions), batch_size=together
    )


def _cast_tile(scene: Scene, max_range, origins, directions) -> Hits:
    rays = origins.T, directions.T  # [3, R]: the rays along the vector lanes
    cone = _cone(origins, directions)
    nearest = jnp.full(TILE, max_range), jnp.full(TILE, -1)
    alive = jnp.any(directions != 0, axis=1)
    groups = _groups(scene)
    first = 0
    for parts, radius, intersect, _ in groups:
        if len(radius):
            reachable = _reachable(cone, parts[0], radius, max_range)
            nearest = _nearest(rays, parts, reachable, intersect, first, nearest)
        first += len(radius)
    distance, surface = nearest
    surface = jnp.where(alive, surface, -1)
    distance = jnp.where(surface >= 0, distance, max_range)
    hits = _no_hits(distance)
    point = origins + distance[:, None] * directions
    first = 0
    for _, radius, _, look in groups:
        if len(radius):
            here = (surface >= first) & (surface < first + len(radius))
            index = jnp.clip(surface - first, 0, len(radius) - 1)
            # A tile that met nothing of this group skips the look-up.
            hits = jax.lax.cond(
                jnp.any(here),
                lambda hits, here, index, look=look: _merge(
                    here, look(scene.materials, point, index), hits
                ),
                lambda hits, here, index: hits,
                hits,
                here,
                index,
            )
        first += len(radius)
    label, normal, reflectance, colour = hits
    facing = jnp.sum(normal * directions, axis=1, keepdims=True)
    normal = jnp.where(facing > 0, -normal, normal)
    return Hits(distance, surface, label, normal, reflectance, colour, surface >= 0)


def _merge(here, new, old):
    return tuple(
        jnp.where(jnp.expand_dims(here, tuple(range(1, b.ndim))), a, b)
        for a, b in zip(new, old, strict=True)
    )


def _no_hits(distance):
    zero = jnp.zeros_like(distance)
    return jnp.full(zero.shape, -1), jnp.zeros((*zero.shape, 3)), zero, jnp.zeros((*zero.shape, 3))


def _groups(scene: Scene) -> list:
    """(parameters with the centre first, bounding radius [N], intersect, look) per group."""
    groups: list = [_rectangle_group(scene.rectangles)]
    for solids, hit, normal in (
        (scene.boxes, _hit_box, _normal_box),
        (scene.cylinders, _hit_cylinder, _normal_cylinder),
        (scene.ellipsoids, _hit_ellipsoid, lambda p: p),
    ):
        groups.append(_solid_group(solids, hit, normal))
    groups.append(_triangle_group(scene.triangles))
    return groups


# --- culling ---------------------------------------------------------------------------------


def _cone(origins, directions):
    """A ball around the origins and a cone around the directions of a tile's rays."""
    alive = jnp.any(directions != 0, axis=1, keepdims=True)
    low = jnp.min(jnp.where(alive, origins, jnp.inf), axis=0)
    high = jnp.max(jnp.where(alive, origins, -jnp.inf), axis=0)
    centre = jnp.where(jnp.any(alive), 0.5 * (low + high), 0.0)
    spread = jnp.max(jnp.where(alive[:, 0], jnp.linalg.norm(origins - centre[None], axis=1), 0.0))
    axis = jnp.sum(directions, axis=0)
    axis = axis / jnp.maximum(jnp.linalg.norm(axis), 1e-20)
    half_angle = jnp.arccos(
        jnp.clip(jnp.min(jnp.where(alive[:, 0], directions @ axis, 1.0)), -1.0, 1.0)
    )
    return centre, spread, axis, half_angle, jnp.any(alive)


def _reachable(cone, centre, radius, max_range):
    """[N] bool: can any ray of the tile touch the sphere (centre, radius)?

    A ray from o hits the sphere (c, r) only if the same ray moved to the ball's centre o0 hits the
    sphere (c, r + |o - o0|). Seen from o0 that sphere spans the angle asin((r + s) / |c - o0|), so
    its direction can lie at most this far outside the cone. Float rounding gets a margin.
    """
    start, spread, axis, half_angle, any_alive = cone
    reach = (radius + spread) * 1.001 + 1e-3
    offset = centre - start[None]
    distance = jnp.linalg.norm(offset, axis=1)
    angle = jnp.arccos(jnp.clip(offset @ axis / jnp.maximum(distance, 1e-9), -1.0, 1.0))
    outside = angle > half_angle + jnp.arcsin(jnp.clip(reach / distance, 0.0, 1.0)) + 2e-3
    away = distance > reach
    return any_alive & (radius > 0) & (distance - reach <= max_range) & ~(away & outside)


def _nearest(rays, parts, reachable, intersect, first: int, nearest):
    """Fold the reachable primitives of one group into (distance [R], surface [R])."""
    order = jnp.argsort(~reachable)  # stable: reachable ones first, in their own order

    def test(i, best):
        distance, surface = best
        found = intersect(*rays, *(part[order[i]] for part in parts))
        closer = found < distance
        return jnp.where(closer, found, distance), jnp.where(closer, first + order[i], surface)

    return jax.lax.fori_loop(0, jnp.sum(reachable), test, nearest)


# --- the groups ------------------------------------------------------------------------------


def _dot(a, b):
    # Three fused multiply-adds over the lanes; a matmul would leave the fused loop.
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a, b):
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def _rectangle_group(rectangles: Rectangles):
    centre, axes, half_size, texture, label = map(jnp.asarray, rectangles)
    normal = jnp.cross(axes[:, 0], axes[:, 1])

    def intersect(origin, direction, centre, axes, half_size, normal):
        offset = [origin[k] - centre[k] for k in range(3)]
        slope = _dot(direction, normal)
        distance = -_dot(offset, normal) / jnp.where(slope == 0, 1.0, slope)
        hit = [offset[k] + distance * direction[k] for k in range(3)]
        inside = (jnp.abs(_dot(hit, axes[0])) <= half_size[0]) & (
            jnp.abs(_dot(hit, axes[1])) <= half_size[1]
        )
        return jnp.where(inside & (slope != 0) & (distance > _EPS), distance, jnp.inf)

    def look(materials, point, index):
        del materials
        offset = point - centre[index]
        uv = jnp.sum(offset[:, None] * axes[index], axis=-1)
        size = jnp.array([texture.shape[2], texture.shape[1]], jnp.float32)
        pixel = (uv / jnp.maximum(half_size[index], 1e-9) + 1.0) * (0.5 * size[None])
        value = sample_texture(texture, index, pixel)
        return label[index], normal[index], value[:, 0], value[:, 1:]

    radius = jnp.linalg.norm(half_size, axis=1)
    return (centre, axes, half_size, normal), radius, intersect, look


def _solid_group(solids: Solids, hit_unit, unit_normal):
    centre, rotation, half_size, material, label = map(jnp.asarray, solids)
    # unit_from_world without the translation; zero for padding, which is never reached.
    inverse = 1.0 / jnp.where(half_size > 0, half_size, 1.0)
    to_unit = inverse[:, :, None] * jnp.swapaxes(rotation, 1, 2)

    def intersect(origin, direction, centre, to_unit):
        offset = [origin[k] - centre[k] for k in range(3)]
        o = [_dot(to_unit[k], offset) for k in range(3)]
        d = [_dot(to_unit[k], direction) for k in range(3)]
        near, far = hit_unit(o, d)
        distance = jnp.where(near > _EPS, near, far)
        return jnp.where((near <= far) & (distance > _EPS), distance, jnp.inf)

    def look(materials, point, index):
        matrix = to_unit[index]
        unit = jnp.sum(matrix * (point - centre[index])[:, None, :], axis=-1)
        n = unit_normal(unit)
        # Normals go with the transposed inverse map; to_unit^T n is that, up to length.
        normal = jnp.sum(matrix * n[:, :, None], axis=1)
        normal = normal / jnp.maximum(jnp.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
        look = pattern(materials, material[index], unit * half_size[index], n)
        return label[index], normal, *look

    # The circumscribed sphere: exact for boxes, generous for the round ones.
    radius = jnp.linalg.norm(half_size, axis=1)
    return (centre, to_unit), radius, intersect, look


def _hit_box(o, d):
    # A zero component never divides: IEEE infinities with the right sign do the slab's work.
    inverse = [jnp.where(jnp.abs(x) < 1e-12, jnp.copysign(1e12, x), 1.0 / x) for x in d]
    one = [(-1.0 - o[k]) * inverse[k] for k in range(3)]
    two = [(1.0 - o[k]) * inverse[k] for k in range(3)]
    near = functools.reduce(jnp.maximum, map(jnp.minimum, one, two))
    far = functools.reduce(jnp.minimum, map(jnp.maximum, one, two))
    return near, far


def _hit_ellipsoid(o, d):
    square = _dot(d, d)
    cross = _cross(o, d)
    discriminant = square - _dot(cross, cross)
    root = jnp.sqrt(jnp.maximum(discriminant, 0.0))
    middle = -_dot(o, d)
    square = jnp.maximum(square, 1e-20)
    near, far = (middle - root) / square, (middle + root) / square
    return jnp.where(discriminant > 0, near, jnp.inf), jnp.where(discriminant > 0, far, -jnp.inf)


def _hit_cylinder(o, d):
    """The infinite tube cut by the slab |z| <= 1."""
    square = d[0] * d[0] + d[1] * d[1]
    cross = o[0] * d[1] - o[1] * d[0]
    discriminant = square - cross * cross
    root = jnp.sqrt(jnp.maximum(discriminant, 0.0))
    middle = -(o[0] * d[0] + o[1] * d[1])
    # Along the axis the tube gives no bound: everywhere inside it, nowhere outside.
    along = square < 1e-12
    inside = o[0] * o[0] + o[1] * o[1] <= 1.0
    safe = jnp.where(along, 1.0, square)
    hit = jnp.where(along, inside, discriminant > 0)
    tube_near = jnp.where(along, -jnp.inf, (middle - root) / safe)
    tube_far = jnp.where(along, jnp.inf, (middle + root) / safe)
    slope = jnp.where(jnp.abs(d[2]) < 1e-12, jnp.copysign(1e12, d[2]), 1.0 / d[2])
    one, two = (-1.0 - o[2]) * slope, (1.0 - o[2]) * slope
    near = jnp.maximum(tube_near, jnp.minimum(one, two))
    far = jnp.minimum(tube_far, jnp.maximum(one, two))
    return jnp.where(hit, near, jnp.inf), jnp.where(hit, far, -jnp.inf)


def _normal_box(unit):
    axis = jnp.argmax(jnp.abs(unit), axis=1)
    return jax.nn.one_hot(axis, 3) * jnp.sign(unit)


def _normal_cylinder(unit):
    cap = unit[:, 2] ** 2 > unit[:, 0] ** 2 + unit[:, 1] ** 2
    side = unit * jnp.array([[1.0, 1.0, 0.0]])
    top = jnp.sign(unit) * jnp.array([[0.0, 0.0, 1.0]])
    return jnp.where(cap[:, None], top, side)


def _triangle_group(triangles: Triangles):
    corners, material, label = map(jnp.asarray, triangles)
    centre = jnp.mean(corners, axis=1)
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]

    def intersect(origin, direction, centre, corner, edge1, edge2):
        del centre
        p = _cross(direction, edge2)
        det = _dot(edge1, p)
        inverse = 1.0 / jnp.where(det == 0, 1.0, det)
        s = [origin[k] - corner[k] for k in range(3)]
        u = _dot(s, p) * inverse
        q = _cross(s, edge1)
        v = _dot(direction, q) * inverse
        distance = _dot(edge2, q) * inverse
        hit = (det != 0) & (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > _EPS)
        return jnp.where(hit, distance, jnp.inf)

    def look(materials, point, index):
        normal = jnp.cross(edge1, edge2)
        normal = normal / jnp.maximum(jnp.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
        normal = normal[index]
        return label[index], normal, *pattern(materials, material[index], point, normal)

    radius = jnp.max(jnp.linalg.norm(corners - centre[:, None], axis=2), axis=1)
    return (centre, corners[:, 0], edge1, edge2), radius, intersect, look


# --- tiles -----------------------------------------------------------------------------------


def _blocks(shape: tuple[int, ...]) -> tuple[int, int]:
    """Number of blocks and tiles per block: few sizes, so that few programs are compiled."""
    rows, cols, *_ = _tiling(shape)
    tiles = max(rows * cols, 1)
    size = min(BLOCK, 1 << (tiles - 1).bit_length())
    return -(-tiles // size), size


def _tiling(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Tile rows and columns, height and width of a tile.

    A two-dimensional bundle gets tiles of 32 x 64 (or the whole of a short axis); any other one is
    a single row of rays.
    """
    high, wide = _plane(shape)
    tile_w = TILE if high == 1 else min(64, 1 << max(wide - 1, 0).bit_length())
    tile_h = TILE // tile_w
    return -(-high // tile_h), -(-wide // tile_w), tile_h, tile_w


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _cut(origins, directions, shape, count: int, size: int):
    """Rays of `shape` -> `count` pairs of [size, TILE, 3], padded with zero directions."""
    rows, cols, tile_h, tile_w = _tiling(shape)

    def cut(rays):
        rays = jnp.broadcast_to(rays, (*shape, 3)).reshape(*_plane(shape), 3)
        high, wide, _ = rays.shape
        rays = jnp.pad(rays, ((0, rows * tile_h - high), (0, cols * tile_w - wide), (0, 0)))
        rays = rays.reshape(rows, tile_h, cols, tile_w, 3).swapaxes(1, 2)
        rays = rays.reshape(rows * cols, TILE, 3)
        rays = jnp.pad(rays, ((0, count * size - rows * cols), (0, 0), (0, 0)))
        return [rays[i * size : (i + 1) * size] for i in range(count)]

    return list(zip(cut(origins), cut(directions), strict=True))


@functools.partial(jax.jit, static_argnums=1)
def _join(blocks: list[Hits], shape) -> Hits:
    """The inverse of `_cut` for every field of the hits."""
    rows, cols, tile_h, tile_w = _tiling(shape)
    high, wide = _plane(shape)

    def join(*parts):
        x = jnp.concatenate(parts)[: rows * cols]
        tail = x.shape[2:]
        x = x.reshape(rows, cols, tile_h, tile_w, *tail).swapaxes(1, 2)
        x = x.reshape(rows * tile_h, cols * tile_w, *tail)[:high, :wide]
        return x.reshape(*shape, *tail)

    return jax.tree.map(join, *blocks)


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0], shape[1]) if len(shape) == 2 else (1, math.prod(shape))
