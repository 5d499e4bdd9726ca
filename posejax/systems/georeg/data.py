"""Registration examples: a record of any source becomes one example with a known, random pose.

The transform never uses a pose it is given as the answer's neighbourhood: it draws
`pose` = geo_from_online, and cuts the geo raster where that pose is true,

    map_from_geo = map_from_online @ inverse(geo_from_online),

so the label is exact, whatever the resolution, and every training epoch sees new offsets.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from posejax.config import check_range
from posejax.data import se2
from posejax.data.dataset import Dataset
from posejax.data.rasters import crop_raster, fill_rate, overlap_rate
from posejax.systems.georeg.config import Augment, SearchConfig


class Draw(NamedTuple):
    """What the transform asks of the online raster; all of it random in training only.

    turn: the online frame is the sensor's frame turned by this yaw (rad): online_from_sensor.
    rng: generator for point-level augmentation, or None for none.
    """

    turn: float
    rng: np.random.Generator | None


@dataclass(frozen=True, kw_only=True)
class RegistrationData(Dataset):
    """Rasters of the examples, whatever they are made of.

    A record of a source is a dict with at least
      index: position in the source;
      map: `MapRaster`, the geo-referenced raster to cut from;
      map_from_sensor: [3] float64, planar pose of the sensor in the map frame;
    and whatever `online` needs to make the online raster. Optional:
      pose: [3] geo_from_online, where map and online raster are to be used as they are;
      photometric: channels of the map that are pictures, for photometric augmentation.

    Attributes:
      cell_size: of both rasters (m).
      online_shape: (H, W) of the online raster.
      search: the window in which poses are drawn, and the lattice that is searched for them.
      augment: training-time augmentation.
      pose_seed: with a sample's index, decides the offset it is evaluated at.
    """

    cell_size: float = 0.2
    online_shape: tuple[int, int] = (128, 128)
    search: SearchConfig = SearchConfig()
    augment: Augment = Augment()
    pose_seed: int = 0

    simulated: ClassVar[bool] = False
    can_turn: ClassVar[bool] = True  # points can be rastered in a turned frame, rasters cannot

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the data is, in a few words; says so when it is simulated."""

    @property
    def channel_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of the online and the geo raster, for pictures; empty where only the files know.

        "aerial" stands for three channels.
        """
        return (), ()

    @abstractmethod
    def online(self, record: dict[str, Any], draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """Online raster [H, W, C] float32 and its validity [H, W] (bool or float32)."""

    @property
    def title(self) -> str:
        rows, columns = self.online_shape
        return f"{self.kind}; {rows} x {columns} cells of {self.cell_size:g} m"

    @property
    def geo_margin(self) -> int:
        """Cells by which the geo raster is larger than the online raster on every side."""
        return self.search.radius(self.cell_size) * self.search.stride

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        check_range("system.data.cell_size", self.cell_size, 0, above=True)
        check_range("system.data.online_shape", min(self.online_shape), 1)
        check_range("system.data.pose_seed", self.pose_seed, 0)
        self.search.check()

    def transform(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> dict[str, np.ndarray]:
        """An example; without `train` a function of (pose_seed, index) alone.

        Returns:
          online [H, W, Co], online_mask [H, W], geo [Hg, Wg, Cg], geo_mask [Hg, Wg], pose [3] =
          geo_from_online (m, m, rad), fill_rate and overlap (shares of the online raster's
          cells), all float32, and index (int32).
        """
        index, augment = int(record["index"]), self.augment
        if not train:  # one offset per sample, the same in every epoch and every run
            rng = np.random.default_rng((self.pose_seed, index))
        limit = self.search.max_offset, float(np.deg2rad(self.search.max_yaw_deg))
        x, y = rng.uniform(-limit[0], limit[0], 2)
        pose = np.array([x, y, rng.uniform(-limit[1], limit[1])])
        if "pose" in record:  # the pair is used as it was stored
            pose = self._inside(record["pose"], index)

        turn = 0.0
        if train and augment.turn and self.can_turn:
            turn = float(rng.uniform(-np.pi, np.pi))
        online, online_mask = self.online(record, Draw(turn, rng if train else None))

        sensor_from_online = np.array([0.0, 0.0, -turn])
        map_from_online = se2.compose(record["map_from_sensor"], sensor_from_online)
        map_from_geo = se2.compose(map_from_online, se2.inverse(pose))
        height, width = (n + 2 * self.geo_margin for n in self.online_shape)
        geo, geo_mask = crop_raster(
            record["map"], map_from_geo, shape=(height, width), cell_size=self.cell_size
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
        overlap = overlap_rate(online_mask, geo_mask, pose, self.cell_size)
        return {
            "online": np.ascontiguousarray(online, np.float32),
            "online_mask": np.ascontiguousarray(online_mask, np.float32),
            "geo": np.ascontiguousarray(geo, np.float32),
            "geo_mask": np.ascontiguousarray(geo_mask, np.float32),
            "pose": pose.astype(np.float32),
            "index": np.array(index, np.int32),
            "fill_rate": np.array(fill_rate(online_mask), np.float32),
            "overlap": np.array(overlap, np.float32),
        }

    def _inside(self, pose: np.ndarray, index: int) -> np.ndarray:
        search = self.search
        limit = np.array([search.max_offset] * 2 + [float(np.deg2rad(search.max_yaw_deg))])
        if (np.abs(pose) > limit).any():
            raise ValueError(
                f"record {index}: stored pose {pose.tolist()} lies outside the search window "
                f"+-{limit.tolist()} (m, m, rad); widen --data.search.max-offset and "
                "--data.search.max-yaw-deg"
            )
        return pose.copy()


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
