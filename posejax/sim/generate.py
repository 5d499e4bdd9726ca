"""Data sets of simulated streets, written in the Argoverse 2 layout on first use and cached.

    root/streets-<hash>/<split>/<log_id>/...     see `posejax.data.av2`
    root/streets-<hash>/settings.json            what the hash stands for

Another setting is another folder, see `posejax.sim.factory`: so is another number of worlds.
"""

import concurrent.futures
import dataclasses
import functools
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from posejax.data import av2
from posejax.sim.factory import ensure_items, open_dataset, world_seed
from posejax.sim.light import Light
from posejax.sim.sensors import Lidar, orthophoto, spin_lidar
from posejax.sim.streets import StreetSettings, StreetWorld, build_street_world

#: Raise it whenever the same settings would give other data: old caches are then left alone.
VERSION = 2
_MAP_FILES = 6  # of a log, besides its sweeps: poses, and two each of map, ground and photo


@dataclass(frozen=True)
class Aerial:
    """How the orthophoto is taken.

    Attributes:
      cell_size: metres.
      registration_sigma: standard deviation per axis of the photo's own offset, metres.
      blur_sigma: optical blur, cells.
      noise_sigma: colour noise on the 0-1 scale.
      sun_elevation_deg: range the sun's height is drawn from.
      tint_sigma: relative spread of exposure and of each colour's gain between photos.
    """

    cell_size: float = 0.2
    registration_sigma: float = 0.02
    blur_sigma: float = 0.5
    noise_sigma: float = 0.012
    sun_elevation_deg: tuple[float, float] = (35.0, 75.0)
    tint_sigma: float = 0.08


@dataclass(frozen=True)
class Drive:
    """How the ego vehicle drives.

    Attributes:
      margin: metres to the border of the maps that every sweep keeps.
      lateral_sigma: standard deviation of the offset from the lane's centre, metres.
      yaw_sigma_deg, tilt_sigma_deg: of the heading and of roll and pitch.
      lidar_in_ego: position of the LiDAR in the ego frame, metres.
      ego_height: height of the ego frame's origin (rear axle) above the ground, metres.
      speed: metres per second between sweeps.
    """

    margin: float = 30.0
    lateral_sigma: float = 0.25
    yaw_sigma_deg: float = 1.5
    tilt_sigma_deg: float = 0.15
    lidar_in_ego: tuple[float, float, float] = (1.35, 0.0, 1.64)
    ego_height: float = 0.33
    speed: float = 8.0


def ensure_streets(
    root: str | Path | None,
    split: str,
    worlds: int,
    sweeps_per_world: int = 8,
    seed: int = 0,
    *,
    street: StreetSettings = StreetSettings(),  # noqa: B008 - immutable defaults
    lidar: Lidar = Lidar(),  # noqa: B008
    aerial: Aerial = Aerial(),
    drive: Drive = Drive(),
    threads: int | None = None,
    quiet: bool = False,
) -> Path:
    """Make sure that a split of simulated streets is on disk.

    Args:
      root: folder of all generated data sets; None: posejax's place in the user's cache.
      split: "train", "val" or "test"; their worlds never share a seed.
      worlds: number of logs.
      sweeps_per_world: LiDAR sweeps per log.
      seed: of the whole data set.
      threads: worlds built at the same time; default: the number of CPUs, at most 4.
      quiet: no progress line.

    Returns:
      The folder of the split's logs, for `posejax.data.av2.list_logs`.

    Raises:
      ValueError: an unknown split or a count below 1.
      OSError: `root` cannot be written.
    """
    if worlds < 1 or sweeps_per_world < 1:
        raise ValueError(f"need at least 1 world and 1 sweep, got {worlds} and {sweeps_per_world}")
    parts = {"street": street, "lidar": lidar, "aerial": aerial, "drive": drive}
    settings = {
        "version": VERSION,
        "split": split,
        "worlds": worlds,
        "sweeps_per_world": sweeps_per_world,
        "seed": seed,
        **{name: dataclasses.asdict(part) for name, part in parts.items()},
    }
    dataset = open_dataset(root, "streets", json.dumps(settings, indent=2, sort_keys=True))
    keys = [world_seed(seed, split, number) for number in range(worlds)]

    def make(number: int, log_dir: Path) -> None:
        world = build_street_world(keys[number], street)
        write_log(log_dir, world, keys[number], sweeps_per_world, lidar, aerial, drive)

    threads = threads or min(os.cpu_count() or 1, 4)
    ensure_items(
        dataset,
        split,
        [f"sim-{split}-{seed}-{number:04d}" for number in range(worlds)],
        make,
        files=sweeps_per_world + _MAP_FILES,
        title=f"simulating {split} streets",
        executor=lambda missing: concurrent.futures.ThreadPoolExecutor(threads),
        first_alone=True,
        quiet=quiet,
    )
    return dataset.folder / split


def write_log(
    log_dir: Path,
    world: StreetWorld,
    seed: tuple[int, ...],
    sweeps: int,
    lidar: Lidar,
    aerial: Aerial,
    drive: Drive,
) -> None:
    """Drive through a world and write everything an Argoverse-like log holds."""
    drive_rng, aerial_rng, key_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence([*seed, 1]).spawn(3)
    )
    world_from_ego = _drive(drive_rng, world, sweeps, drive)
    ego_from_lidar = np.eye(4)
    ego_from_lidar[:3, 3] = drive.lidar_in_ego
    spacing = np.linalg.norm(np.diff(world_from_ego[:, :2, 3], axis=0), axis=1)
    seconds = np.concatenate([[0.0], np.cumsum(np.maximum(spacing / drive.speed, 0.1))])
    times = 315_970_000_000_000_000 + np.round(seconds * 1e9).astype(np.int64)
    sensor = int(key_rng.integers(1 << 30))
    for time, pose in zip(times, world_from_ego, strict=True):
        key = jax.random.key(int(key_rng.integers(1 << 31)))
        turn = spin_lidar(key, world.scene, lidar, pose @ ego_from_lidar, sensor_seed=sensor)
        xyz, intensity, azimuth, laser, valid = map(np.asarray, turn[:5])
        sweep = av2.Sweep(
            xyz=xyz[valid] + np.asarray(drive.lidar_in_ego, np.float32),
            intensity=np.round(intensity[valid] * 255).astype(np.uint8),
            laser_number=laser[valid].astype(np.uint8),
            offset_ns=(azimuth[valid] * (lidar.period_s * 1e9 / lidar.azimuths)).astype(np.int32),
        )
        av2.write_sweep(log_dir / "sensors" / "lidar" / f"{time}.feather", sweep)
    city_from_ego = world_from_ego.copy()
    city_from_ego[:, :3, 3] += world.city_offset
    av2.write_poses(log_dir, times, city_from_ego)
    av2.write_vector_map(log_dir, world.vector_map)
    av2.write_ground_height(log_dir, _ground_height(world))
    av2.write_orthophoto(log_dir, _orthophoto(aerial_rng, world, aerial))


def _drive(rng, world: StreetWorld, sweeps: int, drive: Drive) -> np.ndarray:
    """world_from_ego [sweeps, 4, 4]: along the lane, evenly spread with jitter."""
    road, d, forward = world.path
    inner = world.half_extent - drive.margin
    s = np.arange(0.0, road.length, 0.5)
    s = s[(np.abs(road.at(s)) < inner).all(-1)]
    edges = np.linspace(s[0], s[-1], sweeps + 1)
    s = rng.uniform(edges[:-1], edges[1:])
    s = s if forward else s[::-1]
    offset = d + np.clip(rng.normal(0.0, drive.lateral_sigma, sweeps), -0.9, 0.9)
    yaw = road.yaw(s) + (0.0 if forward else np.pi)
    yaw = yaw + np.deg2rad(rng.normal(0.0, drive.yaw_sigma_deg, sweeps))
    roll, pitch = np.deg2rad(rng.normal(0.0, drive.tilt_sigma_deg, (2, sweeps)))
    pose = np.tile(np.eye(4), (sweeps, 1, 1))
    pose[:, :3, :3] = _about(2, yaw) @ _about(1, pitch) @ _about(0, roll)
    pose[:, :2, 3] = road.at(s, offset)
    pose[:, 2, 3] = drive.ego_height
    return pose


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    """Rotation matrices [N, 3, 3] about a coordinate axis."""
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.tile(np.eye(3), (len(angle), 1, 1))
    matrix[:, i, i] = matrix[:, j, j] = np.cos(angle)
    matrix[:, j, i] = np.sin(angle)
    matrix[:, i, j] = -np.sin(angle)
    return matrix


def _ground_height(world: StreetWorld) -> av2.GroundHeight:
    cell = 0.3
    count = round(2 * world.half_extent / cell)
    height = np.full((count, count), world.city_offset[2], np.float32)
    corner = world.city_offset[:2] - world.half_extent
    return av2.GroundHeight(height, (np.eye(2), -corner, 1.0 / cell))


def _orthophoto(rng, world: StreetWorld, aerial: Aerial) -> av2.Orthophoto:
    half = world.half_extent
    cells = round(2 * half / aerial.cell_size)
    # The photo believes that its corner is at -half; it was taken slightly beside.
    slip = np.clip(rng.normal(0.0, aerial.registration_sigma, 2), -0.1, 0.1)
    elevation = np.deg2rad(rng.uniform(*aerial.sun_elevation_deg))
    azimuth = rng.uniform(-np.pi, np.pi)
    flat = np.cos(elevation)
    sun = (flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation))
    light = Light(sun, sun=rng.uniform(0.6, 0.95), sky=rng.uniform(0.25, 0.45))
    size = (cells, cells)
    picture, _ = orthophoto(world.aerial_scene, size, aerial.cell_size, slip - half, light=light)
    gain = np.exp(rng.normal(0.0, aerial.tint_sigma, 3) * 0.5 + rng.normal(0.0, aerial.tint_sigma))
    key = jax.random.key(int(rng.integers(1 << 31)))
    rgb = np.asarray(_develop(key, picture, gain, aerial.blur_sigma, aerial.noise_sigma))
    corner = world.city_offset[:2] - half
    return av2.Orthophoto(rgb, aerial.cell_size, float(corner[0]), float(corner[1]))


@functools.partial(jax.jit, static_argnums=(3, 4))
def _develop(key, picture, gain, blur_sigma: float, noise_sigma: float):
    """Linear RGB [H, W, 3] -> blurred, tinted, gamma-encoded, noisy uint8."""
    if blur_sigma > 0:
        reach = math.ceil(2.5 * blur_sigma)
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / blur_sigma) ** 2)
        taps = (taps / taps.sum()).tolist()
        for axis in (0, 1):
            count = picture.shape[axis]
            padding = [(reach, reach) if k == axis else (0, 0) for k in range(3)]
            padded = jnp.pad(picture, padding, mode="edge")
            picture = jnp.zeros_like(picture)
            for i, tap in enumerate(taps):
                picture += tap * jax.lax.slice_in_dim(padded, i, i + count, axis=axis)
    picture = jnp.clip(picture * gain[None, None], 0.0, 1.0) ** (1 / 2.2)
    picture = picture + noise_sigma * jax.random.normal(key, picture.shape)
    return jnp.round(jnp.clip(picture, 0.0, 1.0) * 255).astype(jnp.uint8)
