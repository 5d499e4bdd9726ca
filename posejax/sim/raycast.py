"""The one ray caster: any bundle of rays against a `Scene`, nearest hit wins.

Every ray is tested against every primitive that can matter to it: rays are cut into tiles, and a
tile skips those primitives whose bounding sphere or box its rays cannot reach (an exact bound, see
`_reachable`). Tiles are cast in blocks of one size, so memory is bounded and one compiled program
serves any number of rays. There is no tree to build, which keeps the function pure and the same on
CPU, GPU and TPU.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from posejax.sim.primitives import primitive_groups, primitive_looks
from posejax.sim.scene import Scene
from posejax.sim.tiles import TILE, block_count, cut_tiles, join_tiles


class Hits(NamedTuple):
    """What each ray of shape [...] met first.

    Attributes:
      distance: [...] metres along the (unit) direction; `max_range` where nothing was hit.
      surface: [...] int32 primitive index in the order rectangles, boxes, cylinders, ellipsoids,
        triangles (padding counted); -1 where nothing was hit.
      label: [...] int32 label given by the scene's author; -1 where nothing was hit.
      instance: [...] int32 number of the object, 0 for what is none; -1 where nothing was hit.
      normal: [..., 3] unit, world frame, on the side of the ray's origin; 0 where nothing was hit.
      reflectance: [...] in [0, 1].
      colour: [..., 3] linear RGB in [0, 1], unshaded.
      valid: [...] bool.
    """

    distance: jax.Array
    surface: jax.Array
    label: jax.Array
    instance: jax.Array
    normal: jax.Array
    reflectance: jax.Array
    colour: jax.Array
    valid: jax.Array


def cast_rays(
    scene: Scene, origins, directions, max_range: float, *, pixel_angle: float = 0.0
) -> Hits:
    """First hit of every ray; compiled once per bucket of primitive counts, for any number of rays.

    Args:
      scene: from `SceneBuilder.build`.
      origins: [..., 3] metres, world frame (broadcast against `directions`).
      directions: [..., 3] of any length > 0; a zero direction is a ray that hits nothing.
      max_range: hits beyond this many metres do not count.
      pixel_angle: radians that a ray stands for: textures with levels are averaged over it.

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
    count, size = block_count(shape)
    blocks = cut_tiles(origins, directions, shape, count, size)
    limits = jnp.float32(max_range), jnp.float32(pixel_angle)
    hits = [_cast_block(scene, *block, *limits) for block in blocks]
    return join_tiles(hits, shape)


@jax.jit
def _cast_block(scene: Scene, origins, directions, max_range, pixel_angle) -> Hits:
    """One block of tiles: origins and directions [tiles, TILE, 3]."""
    length = jnp.linalg.norm(directions, axis=-1, keepdims=True)
    directions = directions / jnp.maximum(length, 1e-20)
    # One tile fills a CPU core; an accelerator wants the whole block at once.
    together = None if jax.default_backend() == "cpu" else len(origins)
    return jax.lax.map(
        lambda tile: _cast_tile(scene, max_range, pixel_angle, *tile),
        (origins, directions),
        batch_size=together,
    )


def _cast_tile(scene: Scene, max_range, pixel_angle, origins, directions) -> Hits:
    rays = origins.T, directions.T  # [3, R]: the rays along the vector lanes
    cone = _cone(origins, directions)
    nearest = jnp.full(TILE, max_range), jnp.full(TILE, -1)
    alive = jnp.any(directions != 0, axis=1)
    first = 0
    for parts, radius, extent, intersect in primitive_groups(scene):
        if len(radius):
            reachable = _reachable(cone, parts[0], radius, extent, max_range)
            nearest = _nearest(rays, parts, reachable, intersect, first, nearest)
        first += len(radius)
    distance, surface = nearest
    surface = jnp.where(alive, surface, -1)
    distance = jnp.where(surface >= 0, distance, max_range)
    hits = _no_hits(distance)
    point = rays[0] + distance[None] * rays[1]
    footprint = distance * pixel_angle
    first = 0
    for count, look in primitive_looks(scene):
        if count:
            here = (surface >= first) & (surface < first + count)
            index = jnp.clip(surface - first, 0, count - 1)
            # A tile that met nothing of these skips the look-up.
            hits = jax.lax.cond(
                jnp.any(here),
                lambda hits, here, index, look=look: _merge(
                    here, look(point, index, footprint), hits
                ),
                lambda hits, here, index: hits,
                hits,
                here,
                index,
            )
        first += count
    label, instance, normal, reflectance, colour = hits
    facing = jnp.sum(normal * rays[1], axis=0, keepdims=True)
    normal = jnp.where(facing > 0, -normal, normal).T
    return Hits(distance, surface, label, instance, normal, reflectance, colour.T, surface >= 0)


def _merge(here, new, old):
    return tuple(
        jnp.where(here if a.ndim == 1 else here[None], a, b) for a, b in zip(new, old, strict=True)
    )


def _no_hits(distance):
    """Label, instance, normal, reflectance and colour of rays that met nothing."""
    none, zero = jnp.full(distance.shape, -1), jnp.zeros_like(distance)
    return none, none, jnp.zeros((3, *zero.shape)), zero, jnp.zeros((3, *zero.shape))


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


def _reachable(cone, centre, radius, extent, max_range):
    """[N] bool: can any ray of the tile touch the primitive?

    A ray from o hits the sphere (c, r) only if the same ray moved to the ball's centre o0 hits the
    sphere (c, r + |o - o0|). Seen from o0 that sphere spans the angle asin((r + s) / |c - o0|), so
    its direction can lie at most this far outside the cone.

    All rays lie behind the plane that touches cone and ball on the side of the primitive, so one
    whose box lies in front of it cannot be met. Float rounding gets a margin in both tests.
    """
    start, spread, axis, half_angle, any_alive = cone
    reach = (radius + spread) * 1.001 + 1e-3
    offset = centre - start[None]
    distance = jnp.linalg.norm(offset, axis=1)
    angle = jnp.arccos(jnp.clip(offset @ axis / jnp.maximum(distance, 1e-9), -1.0, 1.0))
    outside = angle > half_angle + jnp.arcsin(jnp.clip(reach / distance, 0.0, 1.0)) + 2e-3
    away = distance > reach

    side = offset - (offset @ axis)[:, None] * axis[None]
    side = side / jnp.maximum(jnp.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    normal = jnp.cos(half_angle) * side - jnp.sin(half_angle) * axis[None]
    nearest = jnp.sum(offset * normal, axis=1)
    nearest -= jnp.sum(jnp.abs(jnp.sum(extent * normal[:, None], axis=2)), axis=1)
    in_front = nearest > spread * 1.001 + 1e-3 + 2e-3 * distance
    met = ~(away & outside) & ~in_front
    return any_alive & (radius > 0) & (distance - reach <= max_range) & met


def _nearest(rays, parts, reachable, intersect, first: int, nearest):
    """Fold the reachable primitives of one group into (distance [R], surface [R])."""
    order = jnp.argsort(~reachable)  # stable: reachable ones first, in their own order

    def test(i, best):
        distance, surface = best
        found = intersect(*rays, *(part[order[i]] for part in parts))
        closer = found < distance
        return jnp.where(closer, found, distance), jnp.where(closer, first + order[i], surface)

    return jax.lax.fori_loop(0, jnp.sum(reachable), test, nearest)
