"""Data sets of simulated drives in nuScenes' layout, written on first use and cached.

    root/driving-<hash>/<split>/v1.0-sim/scene.json ...     the tables of the split
    root/driving-<hash>/<split>/<scene>/samples/...         what the sensors recorded
    root/driving-<hash>/<split>/<scene>/v1.0-sim/...        the tables of one scene

`posejax.data.nuscenes.read_nuscenes(split folder, "v1.0-sim")` reads it. Every scene is a drive
through a town of its own; those of val and test are never seen in training.
"""

import concurrent.futures
import dataclasses
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from posejax.data.files import is_file, read_json_rows
from posejax.data.nuscenes_tables import write_tables
from posejax.data.nuscenes_writer import TABLE_NAMES, SceneWriter, merge_scenes
from posejax.data.radar_pcd import write_radar
from posejax.sim.driving_rigs import RIGS
from posejax.sim.driving_sensors import Radar, annotate, extents, radar_returns, sweep, take_picture
from posejax.sim.driving_towns import Town, TownSettings, build_town
from posejax.sim.factory import ensure_items, open_dataset, world_seed
from posejax.sim.sensors import Lidar

#: Raise it whenever the same settings would give other data: old caches are then left alone.
VERSION = 1
#: Name of the folder of the tables.
TABLES = "v1.0-sim"
_START_US = 1_600_000_000_000_000
_SWEEP_US = 50_000  # between two sweeps of the LiDAR
_QUALITY = 92  # of the JPEG files


@dataclass(frozen=True)
class DrivingSettings:
    """How a scene is recorded.

    Attributes:
      rig: of `posejax.sim.driving_rigs.RIGS`: "nuscenes" (6 cameras) or "van" (5, elsewhere).
      image_size: (height, width).
      frames: key frames of a scene.
      period_s: between two key frames.
      sweeps: LiDAR sweeps recorded before each key frame besides its own.
      shadows: whether the sun casts shadows; without, pictures take half the time.
    """

    rig: str = "nuscenes"
    image_size: tuple[int, int] = (128, 224)
    frames: int = 8
    period_s: float = 0.5
    sweeps: int = 0
    shadows: bool = True
    town: TownSettings = TownSettings()
    lidar: Lidar = Lidar(
        elevations_deg=tuple(np.linspace(-30.0, 10.0, 32).tolist()), azimuths=720, max_range=75.0
    )
    radar: Radar = Radar()


def ensure_driving(
    root: str | Path | None,
    split: str,
    scenes: int,
    settings: DrivingSettings = DrivingSettings(),
    *,
    seed: int = 0,
    threads: int | None = None,
    quiet: bool = False,
) -> Path:
    """Make sure that a split of simulated drives is on disk.

    Args:
      root: folder of all generated data sets; None: posejax's place in the user's cache.
      split: "train", "val" or "test"; their towns never share a seed.
      scenes: number of scenes, each in its own town.
      seed: of the whole data set. A scene is a function of (seed, split, its number, settings).
      threads: scenes made at the same time; default: the number of CPUs, at most 4.
      quiet: no progress line.

    Returns:
      The root of the split, for `read_nuscenes(..., TABLES)`.

    Raises:
      ValueError: an unknown split or rig, or a count below 1.
      OSError: `root` cannot be written.
    """
    if settings.rig not in RIGS:
        raise ValueError(f"no rig {settings.rig!r}; there are {', '.join(RIGS)}")
    if scenes < 1 or settings.frames < 1 or settings.sweeps < 0:
        raise ValueError(f"need at least 1 scene and 1 frame, got {scenes} and {settings.frames}")
    about = {"version": VERSION, "split": split, "scenes": scenes, "seed": seed}
    about |= dataclasses.asdict(settings)
    dataset = open_dataset(root, "driving", json.dumps(about, indent=2, sort_keys=True))
    keys = [world_seed(seed, split, number) for number in range(scenes)]
    names = [f"sim-{split}-{seed}-{number:04d}" for number in range(scenes)]
    rig = RIGS[settings.rig]
    recordings = len(rig.cameras) + len(rig.radars) + 1 + settings.sweeps

    def make(number: int, folder: Path) -> None:
        town = build_town(keys[number], settings.town, settings.frames * settings.period_s)
        write_scene(folder, names[number], town, keys[number], settings)

    threads = threads or min(os.cpu_count() or 1, 4)
    ensure_items(
        dataset,
        split,
        names,
        make,
        files=settings.frames * recordings + len(TABLE_NAMES),
        title=f"simulating {split} drives",
        executor=lambda missing: concurrent.futures.ThreadPoolExecutor(threads),
        first_alone=True,
        quiet=quiet,
    )
    folder = dataset.folder / split
    tables = {name: folder / TABLES / f"{name}.json" for name in TABLE_NAMES}
    # Each table is written whole, but a run may end between two of them.
    whole = all(is_file(table) for table in tables.values())
    if not whole or len(read_json_rows(tables["scene"])) != scenes:
        merge_scenes(folder, TABLES, names)
    return folder


def write_scene(
    folder: Path, name: str, town: Town, seed: tuple[int, ...], settings: DrivingSettings
) -> None:
    """Drive through a town and write everything that a scene in nuScenes' layout holds."""
    rng = np.random.default_rng(np.random.SeedSequence([*seed, 11]))
    rig = RIGS[settings.rig]
    writer = SceneWriter(name, location="simulated", description="simulated street")
    writer.add_sensor("LIDAR_TOP", "lidar", rig.ego_from_lidar)
    cameras = {mount.name: mount.camera(settings.image_size) for mount in rig.cameras}
    for mount in rig.cameras:
        writer.add_sensor(mount.name, "camera", mount.ego_from_camera, cameras[mount.name])
    for mount in rig.radars:
        writer.add_sensor(mount.name, "radar", mount.ego_from_body)
    first, sensor = _START_US + 600_000_000 * seed[-1], int(rng.integers(1 << 30))

    def record(sample: int, channel: str, time_us: int, **about) -> tuple[float, Path]:
        """The time of a recording in the town, and its file."""
        seconds = (time_us - first) * 1e-6
        pose = _placed(town, seconds)
        path = folder / writer.add_recording(sample, channel, time_us, pose, **about)
        path.parent.mkdir(parents=True, exist_ok=True)
        return seconds, path

    for number in range(settings.frames):
        # Half a second of drive lies before the first frame, for its sweeps.
        time = first + round((number + 1) * settings.period_s * 1e6)
        sample = writer.add_sample(time)
        hit = np.zeros(0, np.int32)
        for back in range(settings.sweeps, -1, -1):
            at = time - back * _SWEEP_US
            seconds, path = record(sample, "LIDAR_TOP", at, key=back == 0)
            points, hit = sweep(_key(rng), town, rig, settings.lidar, seconds, sensor)
            points.tofile(path)
        shown = {}
        for mount in rig.cameras:
            camera, at = cameras[mount.name], time + round(mount.lag_s * 1e6)
            seconds, path = record(sample, mount.name, at, size=camera.size)
            pixels, shown[mount.name, at] = take_picture(
                _key(rng), town, mount, camera, seconds, shadows=settings.shadows
            )
            _write_jpeg(path, pixels)
        for mount in rig.radars:
            seconds, path = record(sample, mount.name, time + round(mount.lag_s * 1e6))
            write_radar(path, radar_returns(rng, town, mount, settings.radar, seconds))
        seconds = (time - first) * 1e-6
        boxes = annotate(town, rig, cameras, seconds, hit)
        writer.add_boxes(sample, _placed(town, seconds), boxes)
        for (name, at), instance in shown.items():
            writer.add_image_boxes(sample, name, at, *extents(instance, boxes))
    write_tables(folder / TABLES, writer.tables())


def _placed(town: Town, seconds: float) -> np.ndarray:
    """The ego pose in the frame of the town's map: far from its origin, as in real data."""
    pose = town.drive.pose(seconds)
    pose[:3, 3] += town.world.city_offset
    return pose


def _write_jpeg(path: Path, pixels: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    path.write_bytes(buffer.getvalue())


def _key(rng: np.random.Generator) -> jax.Array:
    return jax.random.key(int(rng.integers(1 << 31)))
