"""Simulated worlds as RGB-D recordings: views that look at the same things from other places.

Starts jax: imported where a data set is made, never in data workers.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from posejax.sim import (
    Camera,
    Lamp,
    Light,
    Room,
    StreetWorld,
    develop,
    look_at,
    render,
    textures,
)
from posejax.sim.room_path import PathSettings
from posejax.sim.scene import Scene

_GROUP = 6  # views of one thing
_TRIES = 40


@dataclass(frozen=True)
class ViewSettings:
    """What the cameras are like.

    Attributes:
      size: (H, W) of the images.
      supersample: rays per pixel and axis; smooth borders for the price of its square.
      focal: least and greatest focal length in widths of the image.
      swing_deg: most that a view is turned around the thing it looks at, from the group's first.
      roll_sigma_deg: standard deviation of the roll.
      exposure_sigma: of the logarithm of an image's exposure.
    """

    size: tuple[int, int] = (256, 320)
    supersample: int = 2
    focal: tuple[float, float] = (0.75, 1.15)
    swing_deg: float = 28.0
    roll_sigma_deg: float = 6.0
    exposure_sigma: float = 0.25


def room_poses(rng: np.random.Generator, room: Room, count: int, swing_deg: float) -> np.ndarray:
    """world_from_camera [count, 4, 4], in groups that look at one thing each."""
    things = np.array([box.centre for box in room.boxes if box.size.max() > 0.4])
    reach = room.size[:2] / 2 - PathSettings().clearance

    def target():
        return things[rng.integers(len(things))] if len(things) else np.append(np.zeros(2), 1.0)

    def eyes(n):
        return np.column_stack([rng.uniform(-reach, reach, (n, 2)), rng.uniform(0.7, 2.0, n)])

    def clear(eye, aim):
        far = np.linalg.norm(eye[:, :2] - aim[:2], axis=1)
        return (room.clearance(eye[:, :2]) > 0.25) & (far > 1.0)

    return _grouped(rng, count, swing_deg, target, eyes, clear, aim_sigma=0.3)


def street_poses(rng, world: StreetWorld, count: int, swing_deg: float) -> np.ndarray:
    """As `room_poses`: from roads and sidewalks, at what stands beside and ahead."""
    roads = world.roads

    def place(s_range, d_range, road):
        s = rng.uniform(*s_range) * road.length
        return road.at(s, rng.uniform(*d_range) * rng.choice([-1, 1]))

    near: list[np.ndarray] = []

    def target():
        road = roads[0] if rng.random() < 0.6 else roads[rng.integers(len(roads))]
        spot = place((0.25, 0.75), (road.half_width, road.outer + 6), road)
        near[:] = [spot]
        return np.append(spot, rng.uniform(0.5, 4.0))

    def eyes(n):
        away, turn = rng.uniform(5, 22, n), rng.uniform(-np.pi, np.pi, n)
        xy = near[0] + away[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
        return np.column_stack([xy, rng.uniform(1.2, 2.6, n)])

    def clear(eye, aim):
        return np.array([_on_street(roads, xy) for xy in eye[:, :2]])

    return _grouped(rng, count, swing_deg, target, eyes, clear, aim_sigma=1.0)


def _on_street(roads, xy: np.ndarray) -> bool:
    """Whether a place is on a road or its sidewalk."""
    return any(np.linalg.norm(road.points - xy, axis=1).min() < road.outer for road in roads)


def _grouped(rng, count, swing_deg, target, eyes, clear, aim_sigma: float) -> np.ndarray:
    poses: list[np.ndarray] = []
    for _ in range(_TRIES):
        if len(poses) >= count:
            break
        aim = target()
        eye = eyes(256)
        eye = eye[clear(eye, aim)]
        if len(eye) < 2:
            continue
        off = eye[:, :2] - aim[:2]
        bearing = np.arctan2(off[:, 1], off[:, 0])
        swing = np.abs((bearing - bearing[0] + np.pi) % (2 * np.pi) - np.pi)
        eye = eye[swing <= np.deg2rad(swing_deg)][:_GROUP]
        aims = aim + rng.normal(0, aim_sigma, (len(eye), 3)) * [1, 1, 0.5]
        poses += list(look_at(eye, aims))
    if not poses:  # nothing is clear: anywhere, at the middle
        poses = list(look_at(eyes(count), np.zeros(3)))
    return np.array(poses)


def write_world(
    folder: Path, rng: np.random.Generator, scene: Scene, light: Light | Lamp, poses: np.ndarray,
    settings: ViewSettings, count: int, *, nearest: float,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:  # fmt: skip
    """Render the first `count` poses that see something, and write them in 7-Scenes' layout.

    Args:
      nearest: metres; a view of which a tenth is nearer than this is passed over while there are
        others.

    Returns:
      depth, K and pose of every frame, for choosing pairs.
    """
    folder.mkdir(parents=True)
    sky, factor = _Sky(rng), settings.supersample
    order = sorted(range(len(poses)), key=lambda k: _blocked(scene, poses[k], nearest))
    made = []
    for number, k in enumerate(sorted(order[:count])):
        camera = _camera(rng, settings)
        roll = np.deg2rad(rng.normal(0, settings.roll_sigma_deg))
        pose = poses[k] @ _about_axis(roll)
        fine = dataclasses.replace(
            camera,
            intrinsics=np.diag([factor, factor, 1]) @ camera.intrinsics,
            size=(factor * settings.size[0], factor * settings.size[1]),
        )
        frame = jax.device_get(render(scene, fine, pose, light=light))
        colour = np.where(frame.valid[..., None], frame.colour, sky.seen(fine, pose))
        colour = _mean(colour, factor)
        exposure = 0.36 / max(float(np.quantile(colour, 0.6)), 0.05)
        exposure *= float(np.exp(rng.normal(0, settings.exposure_sigma)))
        camera = dataclasses.replace(camera, exposure=exposure)
        key = jax.random.key(int(rng.integers(1 << 31)))
        image = np.asarray(develop(key, camera, colour))
        depth = pixel_depth(np.asarray(frame.depth), factor)
        _write_frame(folder / f"frame-{number:06d}", image, depth, camera.intrinsics, pose)
        made.append((depth, camera.intrinsics, pose))
    return made


def pixel_depth(depth: np.ndarray, supersample: int) -> np.ndarray:
    """Depth of pixels from that of their parts: harmonic, exact on planes; 0 on silhouettes."""
    high, wide = (side // supersample for side in depth.shape)
    parts = depth.reshape(high, supersample, wide, supersample)
    low, top = parts.min((1, 3)), parts.max((1, 3))
    whole = (low > 0) & (top <= 1.05 * low)
    inverse = (1 / np.maximum(parts, 1e-3)).mean((1, 3))
    return np.where(whole, 1 / inverse, 0).astype(np.float32)


def _mean(colour: np.ndarray, supersample: int) -> np.ndarray:
    high, wide = (side // supersample for side in colour.shape[:2])
    return colour.reshape(high, supersample, wide, supersample, 3).mean((1, 3))


def _camera(rng, settings: ViewSettings) -> Camera:
    high, wide = settings.size
    focal = rng.uniform(*settings.focal) * wide
    centre = np.array([wide, high]) / 2 + rng.normal(0, 0.01 * wide, 2)
    intrinsics = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1.0]])
    noise = rng.uniform(0.005, 0.03)
    return Camera(
        intrinsics, settings.size, gamma=rng.uniform(1.9, 2.5), shot_noise=noise,
        read_noise=noise / 4, vignetting=rng.uniform(0, 0.35),
    )  # fmt: skip


def _blocked(scene: Scene, pose: np.ndarray, nearest: float) -> tuple[bool, bool]:
    """Whether something is in front of the lens, or nothing but sky is to be seen."""
    camera = Camera(np.array([[40.0, 0, 20], [0, 40, 16], [0, 0, 1]]), (32, 40))
    depth = np.asarray(render(scene, camera, pose, light=Light(shadows=False)).depth)
    seen = depth[depth > 0]
    return bool(len(seen) and np.quantile(seen, 0.1) < nearest), len(seen) < 0.4 * depth.size


def _about_axis(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.eye(4)
    turn[:2, :2] = [[c, -s], [s, c]]
    return turn


class _Sky:
    """Clouds by direction: infinitely far, they turn with the camera and do not move with it."""

    def __init__(self, rng: np.random.Generator):
        cloud = np.clip(textures.noise(rng, (256, 512), octaves=7, slope=1.4) * 0.5, 0, 1)
        blue = np.array([0.35, 0.55, 0.9]) * rng.uniform(0.7, 1.2)
        self._map = blue + cloud[..., None] * (rng.uniform(0.7, 1.1) - blue)

    def seen(self, camera: Camera, pose: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis(camera.directions @ pose[:3, :3].T.astype(np.float32), -1, 0)
        column = (np.arctan2(y, x) / (2 * np.pi) + 0.5) * 512
        row = 256 - np.arctan2(z, np.hypot(x, y)) / (np.pi / 2) * 255
        return self._map[np.clip(row, 0, 255).astype(int), column.astype(int) % 512]


def _write_frame(place: Path, image, depth, intrinsics, pose) -> None:
    Image.fromarray(image).save(f"{place}.color.jpg", quality=95, subsampling=0)
    steps = np.where(depth < 65, np.rint(depth * 1000), 0).astype(np.uint16)
    Image.fromarray(steps).save(f"{place}.depth.png", compress_level=4)
    np.savetxt(f"{place}.intrinsics.txt", intrinsics, fmt="%.17g")
    np.savetxt(f"{place}.pose.txt", pose, fmt="%.17g")
