"""Readers, writers and rasters in NumPy for data workers; nothing here imports jax.

`posejax.data.av2` (Argoverse 2 logs), `carmen` and `kitti` are used as modules, and
`posejax.data.pipeline` feeds batches; what is used across systems is re-exported here.
"""

from posejax.data.errors import DataError
from posejax.data.ground import Ground, estimate_ground
from posejax.data.raster_folder import (
    RasterIndex,
    RasterPair,
    read_index,
    read_raster,
    validate_folder,
    write_folder,
)
from posejax.data.rasters import (
    POINT_CHANNELS,
    MapRaster,
    crop_raster,
    fill_rate,
    overlap_rate,
    rasterize_points,
    reduce_raster,
)

__all__ = [
    "POINT_CHANNELS",
    "DataError",
    "Ground",
    "MapRaster",
    "RasterIndex",
    "RasterPair",
    "crop_raster",
    "estimate_ground",
    "fill_rate",
    "overlap_rate",
    "rasterize_points",
    "read_index",
    "read_raster",
    "reduce_raster",
    "validate_folder",
    "write_folder",
]
