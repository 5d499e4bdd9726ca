"""Colour and depth cameras: what an ideal one sees of a scene, and what a real one makes of it.

Camera frame: x right, y down, z forward. World: z up. The first pixel's centre is (0.5, 0.5).
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from posejax.data import cameras
from posejax.sim.light import Lamp, Light, illumination
from posejax.sim.raycast import cast_rays
from posejax.sim.scene import Array, Scene


@dataclass(frozen=True, eq=False)
class Camera(cameras.Camera):
    """A camera with a lens and an imager.

    Noise is that of a linear imager (EMVA standard 1288): its variance grows with the signal, on
    top of what reading adds. Signals are relative to the full well.

    Attributes:
      exposure: signal of a white surface under light of strength 1.
      gamma: of the encoding: value = signal ** (1 / gamma).
      shot_noise: standard deviation of a full signal: 1 / sqrt(electrons of a full well).
      read_noise: standard deviation of the dark signal.
      vignetting: share of the light that is lost in the farthest corner; grows with the square of
        the distance from the principal point.
    """

    exposure: float = 1.0
    gamma: float = 2.2
    shot_noise: float = 0.01
    read_noise: float = 0.003
    vignetting: float = 0.2

    @functools.cached_property
    def directions(self) -> np.ndarray:
        """[H, W, 3] float32 viewing rays of the pixels' centres, camera frame, unit z.

        Zero (a ray that meets nothing) where the lens is not one-to-one.
        """
        rays, valid = self.rays(self._centers())
        return np.where(valid[..., None], rays, 0.0).astype(np.float32)

    @functools.cached_property
    def falloff(self) -> np.ndarray:
        """[H, W] float32 share of the light that vignetting leaves."""
        square = ((self._centers() - self.intrinsics[:2, 2]) ** 2).sum(-1)
        return (1.0 - self.vignetting * square / square.max()).astype(np.float32)

    def _centers(self) -> np.ndarray:
        high, wide = self.size
        return np.stack(np.meshgrid(np.arange(wide) + 0.5, np.arange(high) + 0.5), axis=-1)


class Frame(NamedTuple):
    """What an ideal camera sees.

    Attributes:
      colour: [H, W, 3] linear RGB, light included; above 1 where it is bright.
      depth: [H, W] metres along the optical axis; 0 where nothing is met.
      normal: [H, W, 3] unit, camera frame, towards the camera.
      label, instance: [H, W] int32 class and object; -1 where nothing is met.
      cosine: [H, W] of the angle between the ray and the normal.
      valid: [H, W] bool.
    """

    colour: Array
    depth: Array
    normal: Array
    label: Array
    instance: Array
    cosine: Array
    valid: Array


def camera_rays(camera: cameras.Camera, world_from_camera) -> tuple[jax.Array, jax.Array]:
    """Ray bundle of a camera.

    Args:
      camera: with or without a lens.
      world_from_camera: [4, 4].

    Returns:
      origin [3], directions [H, W, 3] whose length along the optical axis is 1: a distance divided
      by its direction's length is the depth.
    """
    if not isinstance(camera, Camera):
        camera = Camera(camera.intrinsics, camera.size, camera.distortion)
    pose = jnp.asarray(world_from_camera, jnp.float32)
    rays = jnp.asarray(camera.directions)
    return pose[:3, 3], jnp.einsum("ij,hwj->hwi", pose[:3, :3], rays, precision="highest")


def render(
    scene: Scene,
    camera: cameras.Camera,
    world_from_camera,
    *,
    light: Light | Lamp = Light(),  # noqa: B008 - an immutable default
    background=(0.55, 0.7, 0.9),
    max_range: float = 300.0,
) -> Frame:
    """What an ideal camera sees: one ray through every pixel's centre, one more for its shadow.

    Textures with levels are averaged over a pixel; the borders of parts are not.

    Args:
      world_from_camera: [4, 4].
      background: colour of the sky, linear RGB.
      max_range: metres.
    """
    origin, directions = camera_rays(camera, world_from_camera)
    angle = 1.0 / float(np.sqrt(camera.intrinsics[0, 0] * camera.intrinsics[1, 1]))
    hits = cast_rays(scene, origin, directions, max_range, pixel_angle=angle)
    lit = illumination(scene, origin, directions, hits, light)
    return _frame(directions, hits, lit, jnp.asarray(background), jnp.asarray(world_from_camera))


@jax.jit
def _frame(directions, hits, lit, background, world_from_camera) -> Frame:
    length = jnp.maximum(jnp.linalg.norm(directions, axis=-1), 1e-20)
    cosine = -jnp.sum(hits.normal * directions, axis=-1) / length
    rotation, sky = world_from_camera[:3, :3], background[None, None]
    normal = jnp.einsum("hwi,ij->hwj", hits.normal, rotation, precision="highest")
    return Frame(
        colour=jnp.where(hits.valid[..., None], hits.colour * lit[..., None], sky),
        depth=jnp.where(hits.valid, hits.distance / length, 0.0),
        normal=normal.astype(jnp.float32),
        label=hits.label,
        instance=hits.instance,
        cosine=jnp.clip(cosine, 0.0, 1.0),
        valid=hits.valid,
    )


def develop(key: jax.Array, camera: Camera, colour: Array) -> jax.Array:
    """The picture [H, W, 3] uint8 that the camera makes of linear RGB [H, W, 3]."""
    numbers = camera.exposure, camera.gamma, camera.shot_noise, camera.read_noise
    return _develop(key, colour, camera.falloff, *map(np.float32, numbers))


@jax.jit
def _develop(key, colour, falloff, exposure, gamma, shot_noise, read_noise):
    signal = exposure * colour * jnp.asarray(falloff)[..., None]
    sigma = jnp.sqrt(shot_noise**2 * signal + read_noise**2)
    signal = signal + sigma * jax.random.normal(key, colour.shape)
    encoded = jnp.clip(signal, 0.0, 1.0) ** (1.0 / gamma)
    return jnp.round(encoded * 255.0).astype(jnp.uint8)


@dataclass(frozen=True)
class DepthSensor:
    """Errors of a structured-light depth camera; the defaults are those measured on a Kinect.

    Axial and lateral noise after Nguyen, Izadi and Lovell, Modeling Kinect sensor noise for
    improved 3D reconstruction and tracking, 3DIMPVT 2012: with the angle a between ray and normal,
    sigma_z = 0.0012 + 0.0019 (z - 0.4)^2 metres, beyond 60 degrees plus 0.0001 a^2 /
    (sqrt(z) (pi/2 - a)^2); sigma_xy = 0.8 + 0.035 a / (pi/2 - a) pixels. Quantisation after
    Khoshelham and Elberink, Accuracy and resolution of Kinect depth data, Sensors 2012: the inverse
    depth comes in steps, 7 cm at 5 m.

    Attributes:
      noise: factor of the axial noise; 0 for none.
      lateral: factor of the lateral noise: pixels look beside, borders fray.
      inverse_step: step of 1 / z, per metre; 0 for none.
      min_range, max_range: metres along the axis; nothing is measured outside.
      max_angle_deg: nothing is measured on surfaces that are seen more slantingly.
      edge_dropout: share lost where the depth of a neighbour differs by more than 5 %.
      dropout: share lost anywhere.
      unit: depths are multiples of it, metres.
    """

    noise: float = 1.0
    lateral: float = 1.0
    inverse_step: float = 2.85e-3
    min_range: float = 0.4
    max_range: float = 6.0
    max_angle_deg: float = 80.0
    edge_dropout: float = 0.5
    dropout: float = 0.005
    unit: float = 0.001


def axial_sigma(depth, angle, noise: float = 1.0):
    """Standard deviation of the depth (metres) at a depth and an angle of incidence [...]."""
    beyond = jnp.minimum(angle, 1.5)
    slant = 0.0001 / jnp.sqrt(jnp.maximum(depth, 0.1)) * (beyond / (jnp.pi / 2 - beyond)) ** 2
    slant = jnp.where(angle > jnp.pi / 3, slant, 0.0)
    return noise * (0.0012 + 0.0019 * (depth - 0.4) ** 2 + slant)


def measure_depth(key: jax.Array, frame: Frame, sensor: DepthSensor = DepthSensor()) -> jax.Array:
    """Depth [H, W] (metres, 0 where nothing is measured) as a real sensor gives it."""
    return _measure_depth(key, frame.depth, frame.cosine, frame.valid, sensor)


@functools.partial(jax.jit, static_argnums=4)
def _measure_depth(key, depth, cosine, valid, sensor: DepthSensor):
    aside_key, noise_key, edge_key, drop_key = jax.random.split(key, 4)
    high, wide = depth.shape
    angle = jnp.arccos(jnp.clip(cosine, 0.0, 1.0))
    beyond = jnp.minimum(angle, 1.5)
    sigma = sensor.lateral * (0.8 + 0.035 * beyond / (jnp.pi / 2 - beyond))
    aside = jnp.round(sigma[None] * jax.random.normal(aside_key, (2, high, wide))).astype(jnp.int32)
    row = jnp.clip(jnp.arange(high)[:, None] + aside[0], 0, high - 1)
    column = jnp.clip(jnp.arange(wide)[None] + aside[1], 0, wide - 1)
    z, angle, seen = depth[row, column], angle[row, column], valid[row, column]

    z = z + axial_sigma(z, angle, sensor.noise) * jax.random.normal(noise_key, z.shape)
    z = jnp.maximum(z, 1e-3)
    seen &= (z >= sensor.min_range) & (z <= sensor.max_range)
    seen &= angle <= np.deg2rad(sensor.max_angle_deg)
    lost = jax.random.uniform(edge_key, z.shape) < sensor.edge_dropout
    seen &= ~(lost & _edges(depth))
    seen &= jax.random.uniform(drop_key, z.shape) >= sensor.dropout
    if sensor.inverse_step > 0:
        steps = jnp.round(1.0 / (z * sensor.inverse_step))
        z = 1.0 / (jnp.maximum(steps, 1.0) * sensor.inverse_step)
    return jnp.where(seen, jnp.round(z / sensor.unit) * sensor.unit, 0.0)


def _edges(depth):
    """Pixels that have a neighbour, above, below, left or right, 5 % nearer or farther."""
    edge = jnp.zeros(depth.shape, bool)
    for axis in (0, 1):
        count = depth.shape[axis] - 1
        one, two = (jax.lax.slice_in_dim(depth, k, k + count, axis=axis) for k in (0, 1))
        jump = jnp.abs(one - two) > 0.05 * jnp.minimum(one, two)
        before, after = [[(0, 0), (0, 0)] for _ in range(2)]
        before[axis], after[axis] = (1, 0), (0, 1)
        edge |= jnp.pad(jump, before) | jnp.pad(jump, after)
    return edge
