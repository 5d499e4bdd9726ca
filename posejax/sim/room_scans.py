"""Scans of simulated rooms with classes and things, written as ScanNet's exporter writes them.

    root/scans-<hash>/<split>/scene0000_00/color/0.jpg        8 bits
    .../depth/0.png              16 bits, millimetres, 0 = nothing measured
    .../pose/0.txt               4 x 4 world_from_camera, metres, z up
    .../intrinsic/intrinsic_color.txt, intrinsic_depth.txt    4 x 4, OpenCV's pixels
    .../label-filt/0.png         16 bits, NYU40's number
    .../instance-filt/0.png      8 bits, 0 = wall, floor or ceiling

`posejax.data.rgbd_frames` reads them as it reads ScanNet. A scan is a pure function of (settings,
seed, split, number); rooms of two splits share no seed.
"""

import concurrent.futures
import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from posejax.data.cameras import convert_intrinsics
from posejax.sim.cameras import Camera, DepthSensor, develop, measure_depth, render
from posejax.sim.factory import ensure_items, open_dataset, world_seed
from posejax.sim.room_path import PathSettings, camera_path
from posejax.sim.rooms import Room, RoomSettings, room_of_split

#: Raise it whenever the same settings would give other data: old caches are then left alone.
VERSION = 1
_FILES = 5  # of a frame
_QUALITY = 95  # of the JPEG files


@dataclass(frozen=True)
class ScanSettings:
    """How a room is scanned.

    Attributes:
      size: (height, width) of colour, depth and labels.
      focal: focal length in widths of the image; ScanNet's cameras have 0.9.
      frames: along one walk through the room.
      exposure_sigma: of the logarithm of a frame's exposure around the automatic one.
      noise: of the colours: standard deviation of a full signal.
      room: what it is furnished with.
      path: how the camera moves.
      depth: errors of its depth; borders fray by pixels of a Kinect, which has twice as many.
    """

    size: tuple[int, int] = (240, 320)
    focal: float = 0.9
    frames: int = 24
    exposure_sigma: float = 0.1
    noise: float = 0.015
    room: RoomSettings = RoomSettings(texel=0.012, lookalikes=6)
    path: PathSettings = PathSettings()
    depth: DepthSensor = DepthSensor(lateral=0.5)


def ensure_scans(
    root: str | Path | None,
    split: str,
    rooms: int,
    settings: ScanSettings = ScanSettings(),
    *,
    seed: int = 0,
    threads: int | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Make sure that scans of a split are on disk.

    Args:
      root: folder of all generated data sets; None: posejax's place in the user's cache.
      split: "train", "val" or "test".
      rooms: how many, a scan in each; one more makes only that one.
      seed: of the whole data set.
      threads: scans made at the same time; default: the number of CPUs, at most 4.
      quiet: no progress line.

    Returns:
      The folders of the scans.

    Raises:
      ValueError: an unknown split, or a count below 1.
      OSError: `root` cannot be written.
    """
    if rooms < 1 or settings.frames < 1:
        raise ValueError(f"need at least 1 room and 1 frame, got {rooms} and {settings.frames}")
    about = {"version": VERSION, "seed": seed, **dataclasses.asdict(settings)}
    dataset = open_dataset(root, "scans", json.dumps(about, indent=2, sort_keys=True))

    def make(number: int, folder: Path) -> None:
        room = room_of_split(split, number, seed, settings.room)
        write_scan(folder, room, world_seed(seed, split, number), settings)

    threads = threads or min(os.cpu_count() or 1, 4)
    return ensure_items(
        dataset,
        split,
        [f"scene{number:04d}_00" for number in range(rooms)],
        make,
        files=_FILES * settings.frames + 2,
        title=f"simulating {split} scans",
        executor=lambda missing: concurrent.futures.ThreadPoolExecutor(threads),
        first_alone=True,
        quiet=quiet,
    )


def write_scan(folder: Path, room: Room, seed: tuple[int, ...], settings: ScanSettings) -> None:
    """Walk through a room and write every frame."""
    rng = np.random.default_rng(np.random.SeedSequence([*seed, 23]))
    for name in ("color", "depth", "pose", "intrinsic", "label-filt", "instance-filt"):
        (folder / name).mkdir(parents=True)
    camera = _camera(settings)
    for kind in ("color", "depth"):
        k = convert_intrinsics(camera.intrinsics, source="posejax", target="opencv")
        full = np.eye(4)
        full[:3, :3] = k
        np.savetxt(folder / "intrinsic" / f"intrinsic_{kind}.txt", full, fmt="%.17g")
    for number, pose in enumerate(camera_path(rng, room, settings.frames, settings.path)):
        frame = render(room.scene, camera, pose, light=room.lamp)
        exposure = 0.36 / max(float(np.quantile(frame.colour, 0.6)), 0.05)
        exposure *= float(np.exp(rng.normal(0, settings.exposure_sigma)))
        one, two = jax.random.split(jax.random.key(int(rng.integers(1 << 31))))
        image = develop(one, dataclasses.replace(camera, exposure=exposure), frame.colour)
        depth = np.rint(1000 * np.asarray(measure_depth(two, frame, settings.depth)))
        image = Image.fromarray(np.asarray(image))
        image.save(folder / f"color/{number}.jpg", quality=_QUALITY, subsampling=0)
        label, instance = (np.maximum(np.asarray(x), 0) for x in (frame.label, frame.instance))
        for name, values in (
            ("depth", depth.astype(np.uint16)),
            ("label-filt", label.astype(np.uint16)),
            ("instance-filt", instance.astype(np.uint8)),
        ):
            Image.fromarray(values).save(folder / f"{name}/{number}.png", compress_level=4)
        np.savetxt(folder / f"pose/{number}.txt", pose, fmt="%.17g")


def _camera(settings: ScanSettings) -> Camera:
    high, wide = settings.size
    focal = settings.focal * wide
    intrinsics = np.array([[focal, 0, wide / 2], [0, focal, high / 2], [0, 0, 1.0]])
    return Camera(
        intrinsics, settings.size, shot_noise=settings.noise, read_noise=settings.noise / 4
    )
