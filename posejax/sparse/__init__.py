"""Sparse convolution over voxels of point clouds: pure functions, static shapes, no scatter."""

from posejax.sparse.capacity import bucket_capacity, grow_capacities, level_capacities
from posejax.sparse.convolve import sparse_conv
from posejax.sparse.groups import Groups
from posejax.sparse.instances import PointInstances, decode_point_instances
from posejax.sparse.kernel_map import KernelMap, Pairs, SparseMaps, kernel_map, make_maps
from posejax.sparse.levels import Level, coarser, find_voxels, unique_voxels
from posejax.sparse.norms import masked_layer_norm, masked_moments, normalize_rows
from posejax.sparse.pooling import sparse_pool
from posejax.sparse.voxel_map import (
    MapReading,
    VoxelMap,
    corner,
    empty_map,
    merge_frame,
    query_map,
    voxel_centers,
)
from posejax.sparse.voxelize import (
    SparseTensor,
    Trilinear,
    devoxelize,
    devoxelize_trilinear,
    trilinear_weights,
    voxelize,
)

__all__ = [
    "Groups",
    "KernelMap",
    "Level",
    "MapReading",
    "Pairs",
    "PointInstances",
    "SparseMaps",
    "SparseTensor",
    "Trilinear",
    "VoxelMap",
    "bucket_capacity",
    "coarser",
    "corner",
    "decode_point_instances",
    "devoxelize",
    "devoxelize_trilinear",
    "empty_map",
    "find_voxels",
    "grow_capacities",
    "kernel_map",
    "level_capacities",
    "make_maps",
    "masked_layer_norm",
    "masked_moments",
    "merge_frame",
    "normalize_rows",
    "query_map",
    "sparse_conv",
    "sparse_pool",
    "trilinear_weights",
    "unique_voxels",
    "voxel_centers",
    "voxelize",
]
