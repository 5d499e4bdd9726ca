"""Pairs of simulated rooms and streets: exact depth and pose, worlds no other split has.

    root/pairs-<hash>/<split>/room-0000/      frames in 7-Scenes' layout
    root/pairs-<hash>/<split>/room-0000/pairs.csv     a, b: which views belong together

A world is a pure function of (settings, split, number); asking for one more makes only that one.
"""

import concurrent.futures
import dataclasses
import itertools
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from posejax.data.rigid import rotation_angle, se3_inverse
from posejax.systems.tinyroma.pairs import Pairs
from posejax.systems.tinyroma.sources.rgbd_folder import RgbdSource, write_pair_list
from posejax.systems.tinyroma.warp_targets import overlap

#: Raise it whenever the same settings would give other data: old caches are then left alone.
VERSION = 1
_FILES = 4  # of a frame


@dataclass(frozen=True)
class Worlds:
    """How many worlds a split has, and how they are seen.

    Attributes:
      rooms: in train, val and test.
      streets: in train, val and test.
      frames: views of a world.
      pairs: most pairs of a world.
      overlap: least and greatest share of A that B sees.
      rotation_deg: greatest angle between two views; of the ground, one sees the same from ahead.
      size: (H, W) of the images.
      seed: of the whole data set.
    """

    rooms: tuple[int, int, int] = (44, 6, 6)
    streets: tuple[int, int, int] = (16, 3, 3)
    frames: int = 18
    pairs: int = 40
    overlap: tuple[float, float] = (0.15, 0.95)
    rotation_deg: float = 55.0
    size: tuple[int, int] = (256, 320)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SimulatedPairs(Pairs):
    """Simulated pairs, made on first use.

    Attributes:
      worlds: what is simulated.
      root: folder of all generated data sets; the user's cache folder if empty.
    """

    worlds: Worlds = field(default_factory=Worlds)
    root: str = ""

    simulated: ClassVar[bool] = True

    @property
    def kind(self) -> str:
        names = [n for n in ("rooms", "streets") if any(getattr(self.worlds, n))]
        return f"simulated {' and '.join(names)}"

    def source(self, split: str) -> RgbdSource:
        return RgbdSource(ensure_worlds(self.root or None, self.worlds, split), "posejax")


def ensure_worlds(
    root: str | Path | None, worlds: Worlds, split: str, *, threads: int | None = None,
    quiet: bool = False,
) -> list[Path]:  # fmt: skip
    """Make sure that the worlds of a split are on disk; their folders.

    Raises:
      ValueError: an unknown split, or no world in it.
      OSError: `root` cannot be written.
    """
    from posejax.sim.factory import SPLITS, ensure_items, open_dataset, world_seed

    world_seed(worlds.seed, split, 0)  # checks the split
    which = SPLITS.index(split)
    names = [f"room-{k:04d}" for k in range(worlds.rooms[which])]
    names += [f"street-{k:04d}" for k in range(worlds.streets[which])]
    if not names:
        raise ValueError(f"no world in split {split!r}: set worlds.rooms or worlds.streets")
    # The number of worlds is no setting of any of them.
    same = {k: v for k, v in dataclasses.asdict(worlds).items() if k not in ("rooms", "streets")}
    text = json.dumps({"version": VERSION, **same}, indent=2, sort_keys=True)
    threads = threads or min(os.cpu_count() or 1, 4)
    return ensure_items(
        open_dataset(root, "pairs", text),
        split,
        names,
        lambda k, place: _make(worlds, split, names[k], place),
        files=_FILES * worlds.frames + 1,
        title=f"simulating {split} pairs",
        executor=lambda missing: concurrent.futures.ThreadPoolExecutor(threads),
        first_alone=True,
        quiet=quiet,
    )


def _make(worlds: Worlds, split: str, name: str, folder: Path) -> None:
    """One world: rendered, and its pairs chosen."""
    from posejax.sim import Light, StreetSettings, build_street_world, room_of_split
    from posejax.sim.factory import world_seed
    from posejax.systems.tinyroma.sources import simulated_views as views
    from posejax.systems.tinyroma.sources.street_looks import dressed

    kind, number = name.split("-")
    key = world_seed(worlds.seed, split, int(number))
    rng = np.random.default_rng([*key, 0 if kind == "room" else 1])
    settings = views.ViewSettings(size=worlds.size)
    more = worlds.frames + worlds.frames // 2  # some look at a wall
    if kind == "room":
        room = room_of_split(split, int(number), worlds.seed)
        scene, light, nearest = room.scene, room.lamp, 0.5
        poses = views.room_poses(rng, room, more, settings.swing_deg)
    else:
        world = build_street_world(key, StreetSettings(40.0, ground_cell=0.05))
        scene, nearest = dressed(rng, world.scene), 1.5
        height, turn = np.deg2rad(rng.uniform(25, 70)), rng.uniform(-np.pi, np.pi)
        flat = np.cos(height)
        sun = flat * np.cos(turn), flat * np.sin(turn), np.sin(height)
        light = Light(sun, sun=rng.uniform(0.5, 0.9), sky=rng.uniform(0.3, 0.5))
        poses = views.street_poses(rng, world, more, settings.swing_deg)
    frames = views.write_world(
        folder, rng, scene, light, poses, settings, worlds.frames, nearest=nearest
    )
    write_pair_list(folder, choose_pairs(rng, frames, worlds))


def choose_pairs(
    rng: np.random.Generator,
    frames: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    worlds: Worlds,
) -> list[tuple[int, int, float]]:
    """Pairs (a, b, overlap) of views (depth, K, world_from_camera), evenly spread over the overlap.

    Either order is a pair; of both only one is taken.
    """
    found = []
    for a, (depth_a, k_a, pose_a) in enumerate(frames):
        for b, (depth_b, k_b, pose_b) in enumerate(frames):
            turn = np.rad2deg(rotation_angle(pose_a[:3, :3], pose_b[:3, :3]))
            if a == b or turn > worlds.rotation_deg:
                continue
            b_from_a = se3_inverse(pose_b) @ pose_a
            share = overlap((depth_a, depth_b), (k_a, k_b), b_from_a)
            if worlds.overlap[0] <= share < worlds.overlap[1]:
                found.append((a, b, share))
    rng.shuffle(found)
    once = list({frozenset(pair[:2]): pair for pair in found}.values())
    bands = np.linspace(*worlds.overlap, 6)
    queues = [[p for p in once if lo <= p[2] < hi] for lo, hi in itertools.pairwise(bands)]
    chosen = []
    while len(chosen) < worlds.pairs and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    return sorted(chosen[: worlds.pairs])
