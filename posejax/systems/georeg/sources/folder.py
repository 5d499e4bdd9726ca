"""Raster pairs from a folder: anyone's own data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from posejax.data.dataset import Source
from posejax.data.errors import DataError
from posejax.data.files import root_folder
from posejax.data.raster_folder import OnError, read_index, read_raster
from posejax.data.rasters import MapRaster
from posejax.systems.georeg.data import Draw, RegistrationData


@dataclass(frozen=True)
class RasterFolder(RegistrationData):
    """A folder of raster pairs with a CSV of poses (docs/data.md).

    Attributes:
      root: folder with `poses.csv`.
      redraw: cut the geo raster anew at a random pose of the window, so that one pair gives many
        examples; geo rasters should then be larger than window and online raster together. If
        False, the example is the pair as stored, with the stored pose, which must lie in the
        window.
      on_error: "stop" at an unusable row of the index, or "skip" and list it (`source.skipped`).
    """

    root: str = ""
    redraw: bool = True
    on_error: OnError = "stop"

    can_turn: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        return f"raster pairs of {Path(self.root).name}"

    def source(self, split: str) -> "FolderSource":
        """Raises DataError: see `read_index`; also for another cell size than the config's."""
        return FolderSource(self, split)

    def online(self, record: dict[str, Any], draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """The stored raster."""
        return record["online"], record["online_mask"]


class FolderSource(Source):
    """Pairs of one split in the order of the index."""

    def __init__(self, config: RasterFolder, split: str):
        self.config = config
        root = root_folder(config.root, "a folder with poses.csv")
        index = read_index(root, split, config.on_error)
        self.pairs, self.skipped = index.pairs, index.skipped
        stored = self.pairs[0].cell_size
        if not np.isclose(stored, config.cell_size, rtol=1e-6):
            hint = f"--data.cell-size {stored:g}"
            raise DataError(config.root, "column cell_size", stored, f"{config.cell_size:g}", hint)

    def __len__(self) -> int:
        return len(self.pairs)

    def describe(self, index: int) -> str:
        return self.pairs[index].id

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair = self.pairs[index]
        online, online_mask = read_raster(pair.online)
        shape, expected = online.shape[:2], self.config.online_shape
        if shape != expected:
            hint = f"--data.online-shape {shape[0]} {shape[1]}"
            raise DataError(pair.online, "shape", shape, f"{expected} cells", hint)
        if online.dtype == np.uint8:
            online = online * np.float32(1 / 255)
        geo, geo_mask = read_raster(pair.geo)
        rows, columns = geo.shape[:2]
        corner = -columns / 2 * pair.cell_size, -rows / 2 * pair.cell_size
        record = {
            "index": index,
            "online": online,
            "online_mask": online_mask,
            "map": MapRaster(geo, geo_mask, *corner, pair.cell_size),
            "map_from_sensor": np.array(pair.pose),
        }
        if not self.config.redraw:
            record["pose"] = np.array(pair.pose)
        return record
