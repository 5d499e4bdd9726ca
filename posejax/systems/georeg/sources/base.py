"""What the sources share: a cache of maps, augmentation of points."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from posejax.data.rasters import MapRaster


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
