"""LiDAR and orthophoto: each is a bundle of rays plus a few lines (cameras: `posejax.sim.cameras`).

Frames: world z up. LiDAR and ego: x forward, y left, z up.
Every function takes NumPy or JAX arrays and returns JAX arrays; `rng`-like randomness comes in as a
typed `jax.random.key`.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posejax.sim.light import Light, shade
from posejax.sim.raycast import Hits, cast_rays
from posejax.sim.scene import Scene


@dataclass(frozen=True)
class Lidar:
    """A spinning LiDAR.

    Attributes:
      elevations_deg: elevation of every beam, from the first laser number on; negative is down.
      azimuths: firings per turn.
      max_range: metres.
      range_sigma: standard deviation of the range noise, metres.
      gain_sigma: relative spread of the beams' intensity gain (fixed for a sensor).
      intensity_sigma: relative noise of a single intensity.
      detection_range: distance in metres at which a fully reflecting surface seen head-on is
        detected half of the time; weaker returns go down with the inverse square of the range.
      dropout: share of the returns lost at random.
      period_s: time of one turn.
    """

    elevations_deg: tuple[float, ...] = tuple(
        np.concatenate([np.linspace(-26.0, -9.0, 36), np.linspace(-8.4, 12.0, 28)]).tolist()
    )
    azimuths: int = 900
    max_range: float = 60.0
    range_sigma: float = 0.015
    gain_sigma: float = 0.12
    intensity_sigma: float = 0.05
    detection_range: float = 150.0
    dropout: float = 0.02
    period_s: float = 0.1


class LidarReturn(NamedTuple):
    """One turn of a LiDAR, [azimuths, beams]; `valid` marks the returns.

    Attributes:
      xyz: [A, B, 3] metres, LiDAR frame (as if the sensor had stood still: motion-compensated).
      intensity: [A, B] in [0, 1].
      azimuth_index, laser_number: [A, B] int32.
      valid: [A, B] bool.
      hits: the noise-free hits.
    """

    xyz: jax.Array
    intensity: jax.Array
    azimuth_index: jax.Array
    laser_number: jax.Array
    valid: jax.Array
    hits: Hits


def orthophoto(
    scene: Scene,
    size: tuple[int, int],
    cell_size: float,
    corner,
    *,
    light: Light = Light(),  # noqa: B008 - an immutable default
    altitude: float = 100.0,
):
    """True orthographic aerial picture: vertical rays, row 0 at the smallest y.

    Args:
      size: (H, W) cells; cell (r, c) looks at corner + ((c + 0.5), (r + 0.5)) * cell_size.
      corner: (x_min, y_min) metres, world frame.
      altitude: where the rays start; above everything in the scene.

    Returns:
      Linear RGB [H, W, 3] and the `Hits`.
    """
    high, wide = size
    x = corner[0] + (jnp.arange(wide) + 0.5) * cell_size
    y = corner[1] + (jnp.arange(high) + 0.5) * cell_size
    origins = jnp.stack(
        [
            jnp.broadcast_to(x[None, :], size),
            jnp.broadcast_to(y[:, None], size),
            jnp.full(size, altitude),
        ],
        axis=-1,
    )
    down = jnp.array([0.0, 0.0, -1.0])
    hits = cast_rays(scene, origins, down, 2.0 * altitude)
    return shade(scene, origins, down, hits, light), hits


def spin_lidar(key, scene: Scene, lidar: Lidar, world_from_lidar, *, sensor_seed: int = 0):
    """One turn of a spinning LiDAR.

    Args:
      key: typed random key of this turn (range noise, dropout).
      world_from_lidar: [4, 4].
      sensor_seed: which individual sensor: fixes the gain of its beams.

    Returns:
      `LidarReturn`. Intensity is reflectance times cos(incidence)^0.5 (range already compensated
      as in the firmware of real sensors) times the gain of the beam.
    """
    pose = jnp.asarray(world_from_lidar, jnp.float32)
    rays = jnp.asarray(_lidar_directions(lidar))
    directions = jnp.einsum("ij,abj->abi", pose[:3, :3], rays, precision="highest")
    hits = cast_rays(scene, pose[:3, 3], directions, lidar.max_range)
    return _lidar_return(key, lidar, rays, directions, hits, sensor_seed)


def _lidar_directions(lidar: Lidar) -> np.ndarray:
    """[azimuths, beams, 3] unit directions in the LiDAR frame."""
    # Like most spinning sensors it turns clockwise seen from above, starting at the back.
    azimuth = np.pi - np.arange(lidar.azimuths)[:, None] * (2 * np.pi / lidar.azimuths)
    elevation = np.deg2rad(np.asarray(lidar.elevations_deg))[None, :]
    flat = np.cos(elevation)
    x, y = flat * np.cos(azimuth), flat * np.sin(azimuth)
    return np.stack([x, y, np.broadcast_to(np.sin(elevation), x.shape)], -1).astype(np.float32)


@functools.partial(jax.jit, static_argnums=1)
def _lidar_return(key, lidar: Lidar, rays, directions, hits: Hits, sensor_seed) -> LidarReturn:
    shape = hits.distance.shape
    range_key, intensity_key, drop_key = jax.random.split(key, 3)
    gains = jax.random.normal(jax.random.key(sensor_seed), (1, shape[1]))
    gain = jnp.exp(lidar.gain_sigma * gains)
    incidence = jnp.clip(-jnp.sum(hits.normal * directions, axis=-1), 0.0, 1.0)
    distance = hits.distance + lidar.range_sigma * jax.random.normal(range_key, shape)
    noise = 1.0 + lidar.intensity_sigma * jax.random.normal(intensity_key, shape)
    intensity = hits.reflectance * jnp.sqrt(incidence) * gain * noise
    # Energy that comes back, relative to what is detected half of the time.
    energy = hits.reflectance * incidence * (lidar.detection_range / (distance + 1.0)) ** 2
    detected = energy**2 / (1.0 + energy**2)
    chance = detected * (1.0 - lidar.dropout)
    valid = hits.valid & (jax.random.uniform(drop_key, shape) < chance)
    index = jnp.broadcast_to(jnp.arange(shape[0])[:, None], shape)
    laser = jnp.broadcast_to(jnp.arange(shape[1])[None, :], shape)
    xyz = rays * distance[..., None]
    return LidarReturn(xyz, jnp.clip(intensity, 0.0, 1.0), index, laser, valid, hits)
