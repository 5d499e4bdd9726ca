"""Argoverse-2-like logs, real and simulated: a LiDAR sweep against the log's map."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from posejax.config import check_names, check_range
from posejax.data import av2, se2
from posejax.data.dataset import SPLITS, Source
from posejax.data.errors import DataError
from posejax.data.files import root_folder
from posejax.data.map_layers import (
    AERIAL_LAYERS,
    VECTOR_LAYERS,
    layer_channels,
    read_map_raster,
)
from posejax.data.rasters import POINT_CHANNELS, rasterize_points
from posejax.systems.georeg.data import Draw, RegistrationData
from posejax.systems.georeg.sources.base import MapCache, augment_points


@dataclass(frozen=True)
class Av2Logs(RegistrationData):
    """Argoverse 2 sensor logs: sweep against the rasterised HD map.

    Attributes:
      root: folder of `<split>/<log_id>`, or of `<log_id>` directly: then "val" and "test" are
        both the whole folder, and there is no "train" to train on.
      channels: of the online raster, out of `posejax.data.rasters.POINT_CHANNELS`.
      layers: of the geo raster, out of `posejax.data.map_layers`: "aerial" (3 channels), "gray",
        "marks" (painted lane marks), "drivable", "non_drivable", "crossings".
      mark_width: stroke of lane marks (m).
      ground_only: keep ground points alone in the online raster and its mask, for "paint" or
        "ground_intensity" against "marks".
      repeats: examples per sweep and epoch, each with its own offset.
      every: use each n-th sweep of a log.
      point_dropout: greatest share of a sweep's points dropped, drawn per example; training only.
      ring_dropout: greatest probability by which each beam is dropped, likewise.
      intensity_gain: intensity is multiplied by exp(u), u from +-this; training only.
      cache_mb: decoded maps held per process.
    """

    root: str = ""
    channels: tuple[str, ...] = ("height", "intensity", "density", "occupancy")
    layers: tuple[str, ...] = ("marks", "non_drivable", "crossings")
    mark_width: float = 0.2
    ground_only: bool = False
    repeats: int = 1
    every: int = 1
    point_dropout: float = 0.3
    ring_dropout: float = 0.2
    intensity_gain: float = 0.2
    cache_mb: int = 512

    @property
    def kind(self) -> str:
        return "Argoverse 2 sweeps against the HD map" + self._whole

    @property
    def channel_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.channels, self.layers

    def source(self, split: str) -> "LogSource":
        """Raises DataError for a missing folder, a log without sweeps, a sweep without a pose; and
        for "train" where `root` has no splits: its logs are what "val" and "test" evaluate on."""
        root = root_folder(self.root, "a folder of logs")
        if (root / split).is_dir():
            return LogSource(root / split, self)
        if found := [name for name in SPLITS if (root / name).is_dir()]:
            raise DataError(root, f"split {split!r}", "no such folder", " or ".join(found))
        if split not in SPLITS:
            raise DataError(root, f"split {split!r}", "no such folder", " or ".join(SPLITS[1:]))
        if split == "train":
            hint = (
                "move the logs to train on to train/ and the others to val/; to evaluate only, "
                "without calibration, give --calibrate 0"
            )
            raise DataError(root, "split 'train'", "no such folder", f"{root / split}", hint)
        return LogSource(root, self)

    def check(self) -> None:
        super().check()
        at = "system.data"
        check_names(f"{at}.channels", self.channels, POINT_CHANNELS)
        check_names(f"{at}.layers", self.layers, AERIAL_LAYERS + VECTOR_LAYERS)
        check_range(f"{at}.repeats", self.repeats, 1)
        check_range(f"{at}.every", self.every, 1)
        check_range(f"{at}.mark_width", self.mark_width, 0, above=True)

    @property
    def _whole(self) -> str:
        """What the title adds where a split is no selection of logs."""
        root = Path(self.root).expanduser()
        if not self.root or not root.is_dir() or any((root / name).is_dir() for name in SPLITS):
            return ""
        return " (no splits: all logs of the folder)"

    def online(self, record: dict[str, Any], draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """Sweep raster in the turned frame."""
        xyz, intensity, ring = record["xyz"], record["intensity"], record["ring"]
        if draw.rng is not None:
            xyz, intensity, ring = augment_points(
                xyz,
                intensity,
                ring,
                draw.rng,
                point_dropout=self.point_dropout,
                ring_dropout=self.ring_dropout,
                intensity_gain=self.intensity_gain,
            )
        if draw.turn:
            turned = se2.apply(np.array([0, 0, draw.turn]), xyz[:, :2])
            xyz = np.concatenate([turned, xyz[:, 2:]], axis=1)
        return rasterize_points(
            xyz,
            intensity,
            ring=ring,
            ground_only=self.ground_only,
            shape=self.online_shape,
            cell_size=self.cell_size,
            channels=self.channels,
        )


@dataclass(frozen=True)
class Streets(Av2Logs):
    """Simulated streets: sweep against the aerial photograph, made on first use.

    Attributes:
      root: folder of `<split>/<log_id>`; empty: generated below `cache`.
      cache: folder of generated data sets; empty: $XDG_CACHE_HOME/posejax or ~/.cache/posejax.
      train_worlds: logs of the train split; no world is in two splits.
      val_worlds: logs of the val split.
      test_worlds: logs of the test split.
      sweeps_per_world: LiDAR sweeps per log.
      seed: of the worlds.
    """

    layers: tuple[str, ...] = ("aerial",)
    cache: str = ""
    train_worlds: int = 48
    val_worlds: int = 8
    test_worlds: int = 8
    sweeps_per_world: int = 8
    seed: int = 0

    simulated: ClassVar[bool] = True

    @property
    def kind(self) -> str:
        return "simulated streets, sweeps against " + " + ".join(self.layers) + self._whole

    def check(self) -> None:
        super().check()
        for name in ("train_worlds", "val_worlds", "test_worlds", "sweeps_per_world"):
            check_range(f"system.data.{name}", getattr(self, name), 1)
        check_range("system.data.seed", self.seed, 0)

    def source(self, split: str) -> "LogSource":
        """Generates the streets if `root` is empty; else as `Av2Logs.source`."""
        if self.root:
            return super().source(split)
        worlds = {"train": self.train_worlds, "val": self.val_worlds, "test": self.test_worlds}
        if split not in worlds:
            raise DataError("simulated streets", "split", repr(split), " or ".join(worlds))
        # Only here: the generator needs jax, which data workers must not load.
        from posejax.sim.generate import ensure_streets

        folder = ensure_streets(
            self.cache or None, split, worlds[split], self.sweeps_per_world, self.seed
        )
        return LogSource(folder, self)


class LogSource(Source):
    """Sweeps of all logs below a folder, `repeats` records each."""

    def __init__(self, folder: Path, config: Av2Logs):
        self.config = config
        self._maps = MapCache(config.cache_mb << 20)
        kinds = [kind for kind in config.layers for _ in range(layer_channels([kind]))]
        self._pictures = [i for i, kind in enumerate(kinds) if kind in AERIAL_LAYERS]
        self._sweeps: list[Path] = []
        self._poses: list[np.ndarray] = []
        for log in av2.list_logs(folder):
            poses = av2.read_poses(log)
            for sweep in av2.list_sweeps(log)[:: config.every]:
                pose = av2.pose_at(log, av2.sweep_timestamp(sweep), poses)
                self._sweeps.append(sweep)
                self._poses.append(se2.from_se3(pose))

    def __len__(self) -> int:
        return len(self._sweeps) * self.config.repeats

    def describe(self, index: int) -> str:
        sweep = self._sweeps[index // self.config.repeats]
        return f"{sweep.parents[2].name}/{sweep.stem}#{index % self.config.repeats}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        config, i = self.config, index // self.config.repeats
        log = self._sweeps[i].parents[2]
        sweep = av2.read_sweep(self._sweeps[i])
        return {
            "index": index,
            "xyz": sweep.xyz,
            "intensity": sweep.intensity * np.float32(1 / 255),
            "ring": sweep.laser_number,
            "map_from_sensor": self._poses[i],
            "photometric": self._pictures,
            "map": self._maps.get(
                log,
                lambda: read_map_raster(
                    log, config.layers, cell_size=config.cell_size, mark_width=config.mark_width
                ),
            ),
        }
