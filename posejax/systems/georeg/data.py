"""Registration examples: a record of any source becomes one example with a known, random pose.

The transform never uses a pose it is given as the answer's neighbourhood: it draws
`pose` = geo_from_online, and cuts the geo raster where that pose is true,

    map_from_geo = map_from_online @ inverse(geo_from_online),

so the label is exact, whatever the resolution, and every training epoch sees new offsets.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from posejax.data import se2
from posejax.data.rasters import crop_raster, fill_rate, overlap_rate
from posejax.systems.georeg.sources.base import Draw, Source
from posejax.systems.georeg.sources.folder import RasterFolder
from posejax.systems.georeg.sources.logs import Av2Logs, Streets
from posejax.systems.georeg.sources.radish import RadishLog

__all__ = [
    "Augment",
    "Av2Logs",
    "GeoregDataConfig",
    "GeoregTransform",
    "RadishLog",
    "RasterFolder",
    "Streets",
    "make_source",
    "make_transform",
]

SourceConfigs = Streets | Av2Logs | RadishLog | RasterFolder


@dataclass(frozen=True)
class Augment:
    """Training-time augmentation (each source adds its own to the points it rasters).

    Attributes:
      turn: the online frame is turned by a yaw from the full circle, so that streets run in all
        directions of both rasters.
      flip: half of the examples are mirrored in x, half in y, both rasters and the pose.
      gain: values of aerial channels are multiplied by exp(u gain) per channel, u from +-1.
      gamma: before, they are raised to exp(u gamma), u from +-1.
      noise: standard deviation of the Gaussian noise they get in the end.
    """

    turn: bool = True
    flip: bool = True
    gain: float = 0.15
    gamma: float = 0.2
    noise: float = 0.01


@dataclass(frozen=True)
class GeoregDataConfig:
    """Rasters of the examples.

    Attributes:
      source: where records come from.
      cell_size: of both rasters (m).
      online_shape: (H, W) of the online raster.
      augment: training-time augmentation.
      seed: with a sample's index, decides the offset it is evaluated at.
    """

    source: SourceConfigs = field(default_factory=Streets)
    cell_size: float = 0.2
    online_shape: tuple[int, int] = (128, 128)
    augment: Augment = field(default_factory=Augment)
    seed: int = 0

    def describe(self) -> str:
        """One line for reports."""
        rows, columns = self.online_shape
        return f"{self.source.title}; {rows} x {columns} cells of {self.cell_size:g} m"


@dataclass(frozen=True)
class GeoregTransform:
    """`transform(record, rng, train)` -> example; see `make_transform`."""

    config: GeoregDataConfig
    max_offset: float
    max_yaw: float  # rad
    geo_margin: int

    def __call__(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> dict[str, np.ndarray]:
        config, index = self.config, int(record["index"])
        augment = config.augment
        if not train:  # one offset per sample, the same in every epoch and every run
            rng = np.random.default_rng((config.seed, index))
        x, y = rng.uniform(-self.max_offset, self.max_offset, 2)
        pose = np.array([x, y, rng.uniform(-self.max_yaw, self.max_yaw)])
        if "pose" in record:  # the pair is used as it was stored
            pose = self._inside(record["pose"], index)

        turn = 0.0
        if train and augment.turn and config.source.can_turn:
            turn = float(rng.uniform(-np.pi, np.pi))
        draw = Draw(turn, rng if train else None)
        cells = {"cell_size": config.cell_size, "shape": config.online_shape}
        online, online_mask = config.source.online(record, draw, **cells)

        sensor_from_online = np.array([0.0, 0.0, -turn])
        map_from_online = se2.compose(record["map_from_sensor"], sensor_from_online)
        map_from_geo = se2.compose(map_from_online, se2.inverse(pose))
        height, width = (n + 2 * self.geo_margin for n in config.online_shape)
        geo, geo_mask = crop_raster(
            record["map"], map_from_geo, shape=(height, width), cell_size=config.cell_size
        )
        if train:
            colour = record.get("photometric", ())
            if len(colour):
                geo[..., colour] = photometric(geo[..., colour], rng, augment)
                geo *= (geo_mask > 0)[..., None]
            if augment.flip:
                rasters = (online, online_mask, geo, geo_mask)
                for axis in np.flatnonzero(rng.random(2) < 0.5):
                    rasters, pose = flip(rasters, pose, int(axis))
                online, online_mask, geo, geo_mask = rasters
        return {
            "online": np.ascontiguousarray(online, np.float32),
            "online_mask": np.ascontiguousarray(online_mask, np.float32),
            "geo": np.ascontiguousarray(geo, np.float32),
            "geo_mask": np.ascontiguousarray(geo_mask, np.float32),
            "pose": pose.astype(np.float32),
            "index": np.array(index, np.int32),
            "fill_rate": np.array(fill_rate(online_mask), np.float32),
            "overlap": np.array(
                overlap_rate(online_mask, geo_mask, pose, config.cell_size), np.float32
            ),
        }

    def _inside(self, pose: np.ndarray, index: int) -> np.ndarray:
        limit = np.array([self.max_offset, self.max_offset, self.max_yaw])
        if (np.abs(pose) > limit).any():
            raise ValueError(
                f"record {index}: stored pose {pose.tolist()} lies outside the search window "
                f"+-{limit.tolist()} (m, m, rad); widen search.max_offset and search.max_yaw_deg"
            )
        return pose.copy()


def make_source(config: GeoregDataConfig, split: str) -> Source:
    """Records of a split; raises DataError naming the file and field that cannot be used."""
    return config.source.build(split, cell_size=config.cell_size, shape=config.online_shape)


def make_transform(
    config: GeoregDataConfig, *, max_offset: float, max_yaw_deg: float, geo_margin: int
) -> GeoregTransform:
    """The function from a record to an example; picklable.

    Args:
      max_offset: true x and y are uniform within +-this (m).
      max_yaw_deg: true yaw likewise (degrees).
      geo_margin: cells by which the geo raster is larger than the online raster on every side.

    Returns:
      transform(record, rng, train) -> dict of online [H, W, Co], online_mask [H, W],
      geo [Hg, Wg, Cg], geo_mask [Hg, Wg], pose [3] = geo_from_online (m, m, rad), fill_rate and
      overlap (shares of the online raster's cells), all float32, and index (int32). Without
      `train` the result is a function of (config.seed, index) alone.
    """
    if max_offset < 0 or max_yaw_deg < 0 or geo_margin < 0:
        raise ValueError(f"negative window: {max_offset=}, {max_yaw_deg=}, {geo_margin=}")
    return GeoregTransform(config, max_offset, float(np.deg2rad(max_yaw_deg)), geo_margin)


def photometric(geo: np.ndarray, rng: np.random.Generator, augment: Augment) -> np.ndarray:
    """Random gamma and per-channel gain of values in [0, 1], and noise."""
    channels = geo.shape[-1]
    gamma = np.exp(augment.gamma * rng.uniform(-1, 1))
    gain = np.exp(augment.gain * rng.uniform(-1, 1, channels)).astype(np.float32)
    geo = np.maximum(geo, 0) ** np.float32(gamma) * gain
    if augment.noise:
        geo += np.float32(augment.noise) * rng.standard_normal(geo.shape, np.float32)
    return np.clip(geo, 0, 1)


def flip(
    rasters: tuple[np.ndarray, ...], pose: np.ndarray, axis: int
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Mirror all rasters in x (axis 0, columns) or y (axis 1, rows), and the pose with them.

    With M the mirror, M R(yaw) M = R(-yaw): the new pose is (M (x, y), -yaw).
    """
    mirrored = tuple(r[:, ::-1] if axis == 0 else r[::-1] for r in rasters)
    sign = np.array([-1, 1, -1]) if axis == 0 else np.array([1, -1, -1])
    return mirrored, pose * sign
