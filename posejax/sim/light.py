"""Light on what the rays met: the sun and the sky outdoors, a lamp indoors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from posejax.sim.raycast import Hits, cast_rays
from posejax.sim.scene import Scene


class Light(NamedTuple):
    """Sunlight plus an even sky.

    Attributes:
      direction: [3] from the ground towards the sun (any length), or [..., 3] for each ray.
      sun: strength on a surface that faces the sun.
      sky: strength everywhere.
      shadows: whether solids cast shadows.
    """

    direction: tuple[float, float, float] | jax.Array = (0.4, 0.3, 0.85)
    sun: float = 0.75
    sky: float = 0.35
    shadows: bool = True


class Lamp(NamedTuple):
    """A point light plus what walls and ceiling scatter.

    Attributes:
      position: [3] metres, world frame.
      strength: on a surface near it that faces it; half of that at `reach`.
      reach: metres.
      ambient: strength everywhere.
      shadows: whether solids cast shadows.
    """

    position: tuple[float, float, float] | jax.Array
    strength: float = 0.9
    reach: float = 3.0
    ambient: float = 0.35
    shadows: bool = True


def shade(scene: Scene, origins, directions, hits: Hits, light: Light | Lamp) -> jax.Array:
    """Diffuse shading of hits: linear RGB [..., 3] in [0, 1]."""
    light_here = illumination(scene, origins, directions, hits, light)
    return jnp.clip(hits.colour * light_here[..., None], 0.0, 1.0)


def illumination(scene: Scene, origins, directions, hits: Hits, light: Light | Lamp) -> jax.Array:
    """Light on the hits of rays [...]: even + direct * cos(incidence) outside of shadows.

    Args:
      origins, directions: [..., 3] of the rays, in metres.
      hits: what they met.
    """
    directions = jnp.broadcast_to(jnp.asarray(directions, jnp.float32), hits.normal.shape)
    length = jnp.maximum(jnp.linalg.norm(directions, axis=-1, keepdims=True), 1e-20)
    origins = jnp.broadcast_to(jnp.asarray(origins, jnp.float32), hits.normal.shape)
    point = origins + hits.distance[..., None] * directions / length
    if isinstance(light, Lamp):
        position = jnp.asarray(light.position, jnp.float32)
        towards = jnp.broadcast_to(position, point.shape) - point
        far = jnp.linalg.norm(towards, axis=-1)
        towards = towards / jnp.maximum(far, 1e-6)[..., None]
        strength, even = light.strength / (1.0 + (far / light.reach) ** 2), light.ambient
    else:
        towards = jnp.asarray(light.direction, jnp.float32)
        towards = towards / jnp.linalg.norm(towards, axis=-1, keepdims=True)
        towards = jnp.broadcast_to(towards, point.shape)
        strength, even = light.sun, light.sky
    lit = jnp.maximum(jnp.sum(hits.normal * towards, axis=-1), 0.0)
    if light.shadows:
        # Only lit points ask for their shadow; the others send no ray (zero direction).
        ask = (hits.valid & (lit > 0))[..., None]
        rays = jnp.where(ask, towards, 0.0)
        if isinstance(light, Lamp):
            # From the lamp: rays out of one point skip most of the scene, rays into it do not.
            blocked = cast_rays(scene, position, -rays, 200.0)
            hidden = blocked.valid & (blocked.distance < far - 0.02)
        else:
            hidden = cast_rays(scene, point + 0.01 * hits.normal, rays, 200.0).valid
        lit = jnp.where(hidden, 0.0, lit)
    return even + strength * lit
