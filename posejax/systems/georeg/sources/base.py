"""What a source of registration examples offers: records, and the online raster of a record."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from posejax.data.errors import DataError
from posejax.data.rasters import MapRaster


class Draw(NamedTuple):
    """What the transform asks of the online raster; all of it random in training only.

    turn: the online frame is the sensor's frame turned by this yaw (rad): online_from_sensor.
    rng: generator for point-level augmentation, or None for none.
    """

    turn: float
    rng: np.random.Generator | None


class Source(Protocol):
    """Random access to raw records; numpy only, picklable, files opened when asked for.

    A record is a dict with at least
      index: position in the source;
      map: `MapRaster`, the geo-referenced raster to cut from;
      map_from_sensor: [3] float64, planar pose of the sensor in the map frame;
    and whatever `SourceConfig.online` needs to make the online raster. Optional:
      pose: [3] geo_from_online, where map and online raster are to be used as they are;
      photometric: channels of the map that are pictures, for photometric augmentation.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def describe(self, index: int) -> str:
        """Id of a record, for people: log and sweep, file name, ..."""
        ...


class SourceConfig(Protocol):
    """One kind of data: a frozen dataclass."""

    @property
    def can_turn(self) -> bool:
        """Whether `online` can raster in a turned frame (points can, finished rasters cannot)."""
        ...

    @property
    def title(self) -> str:
        """What the data is, for reports; says so when it is simulated."""
        ...

    @property
    def simulated(self) -> bool: ...

    @property
    def channel_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of the online and the geo raster, for pictures; empty where only the files know.

        "aerial" stands for three channels.
        """
        ...

    def build(self, split: str, *, cell_size: float, shape: tuple[int, int]) -> Source:
        """Records of "train", "val" or "test"."""
        ...

    def online(
        self, record: dict[str, Any], draw: Draw, *, cell_size: float, shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Online raster [H, W, C] float32 and its validity [H, W] (bool or float32)."""
        ...


def root_folder(root: str, holds: str) -> Path:
    """The folder that a source's `root` names.

    Raises:
      DataError: none given (which must not mean the current folder), or no such folder.
    """
    folder = Path(root).expanduser()
    if root and folder.is_dir():
        return folder
    found = "no such folder" if root else "not given"
    hint = "set it with --system.data.source.root FOLDER"
    raise DataError(root or "data source", "root", found, holds, hint)


class MapCache:
    """Decoded maps by key, the least recently used dropped beyond `max_bytes`; pickles empty.

    Every worker process holds its own, so memory is bounded by workers times `max_bytes` (one
    map is always kept, however large). The reader threads of a process share it: a map that two
    want at once is read twice, which costs less than waiting for each other's maps.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._maps: OrderedDict[Hashable, MapRaster] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], MapRaster]) -> MapRaster:
        """The map under `key`, read on first use."""
        with self._lock:
            if key in self._maps:
                self._maps.move_to_end(key)
                return self._maps[key]
        raster = read()
        with self._lock:
            self._maps[key] = raster
            while len(self._maps) > 1 and self.nbytes > self.max_bytes:
                self._maps.popitem(last=False)
        return raster

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return sum(
            m.values.nbytes + (0 if m.mask is None else m.mask.nbytes) for m in self._maps.values()
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["max_bytes"])


def augment_points(
    xyz: np.ndarray,
    intensity: np.ndarray,
    ring: np.ndarray,
    rng: np.random.Generator,
    *,
    point_dropout: float,
    ring_dropout: float,
    intensity_gain: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drops whole beams and single points, scales intensity: breaks the LiDAR's sampling pattern.

    Registration must not lock on to the rings that travel with the sensor; without them a
    network has only the scene to go by.

    Args:
      xyz: [N, 3]; intensity: [N] in [0, 1]; ring: [N] integer beam numbers.
      point_dropout: greatest share of points dropped; the share is drawn from [0, this].
      ring_dropout: greatest probability by which each beam is dropped, drawn likewise.
      intensity_gain: intensity is multiplied by exp(u), u from +-this, and clipped to 1.

    Returns:
      the kept xyz, intensity and ring.
    """
    keep = rng.random(len(xyz), dtype=np.float32) >= point_dropout * rng.random()
    beams = int(ring.max(initial=0)) + 1
    lost = rng.random(beams) < ring_dropout * rng.random()
    if not lost.all():
        keep &= ~lost[ring]
    gain = np.exp(intensity_gain * rng.uniform(-1, 1))
    return xyz[keep], np.minimum(intensity[keep] * np.float32(gain), 1), ring[keep]
