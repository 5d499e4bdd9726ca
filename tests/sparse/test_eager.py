"""Every function of the room takes NumPy's numbers as they are and compiles once."""

import numpy as np
import pytest

from posejax import sparse
from tests.eager import check, example, public_functions
from tests.sparse.clouds import CAPACITY, COARSE, coords

RNG = np.random.default_rng(0)
COORDS = coords(0)
HERE = np.ones(len(COORDS), bool)
LEVEL = sparse.unique_voxels(COORDS, HERE, capacity=CAPACITY)
COARSER = sparse.coarser(LEVEL, capacity=COARSE)
MAP = sparse.kernel_map(LEVEL)
DOWN = sparse.kernel_map(LEVEL, COARSER, size=2)
FEATURES = RNG.standard_normal((CAPACITY, 3))
POINTS = RNG.uniform(-0.3, 0.3, (200, 3))
TENSOR = sparse.voxelize(POINTS, POINTS, voxel_size=0.1, capacity=192)
WORLD = sparse.empty_map(POINTS, voxel_size=0.1, capacity=192)
MASK, ROW = RNG.random(CAPACITY) < 0.8, RNG.random(3)

EXAMPLES = {
    "bucket_capacity": example(np.int64(1000), headroom=np.float64(1.2)),
    "coarser": example(LEVEL, capacity=np.int64(COARSE)),
    "decode_point_instances": example(POINTS, np.ones(200, bool), least=np.float64(1)),
    "devoxelize": example(RNG.standard_normal((192, 2)), TENSOR),
    "devoxelize_trilinear": example(
        RNG.standard_normal((192, 3)), sparse.trilinear_weights(TENSOR, POINTS[:50])
    ),
    "corner": example(WORLD),
    "empty_map": example(POINTS, voxel_size=np.float64(0.1), capacity=np.int64(192)),
    "find_voxels": example(LEVEL, COORDS.astype(np.int64)),
    "grow_capacities": example((np.int64(9), 9), np.array([12, 9])),
    "kernel_map": example(LEVEL, size=np.int64(3)),
    "level_capacities": example(np.int64(9000), headroom=np.float64(1.1)),
    "make_maps": example(LEVEL, capacities=np.array([COARSE, COARSE]), stem=np.int64(3)),
    "masked_layer_norm": example(FEATURES, MASK, ROW, ROW, np.float64(1e-5)),
    "masked_moments": example(FEATURES, MASK),
    "merge_frame": example(WORLD, POINTS, POINTS, np.ones(200, bool), np.float64(1)),
    "normalize_rows": example(FEATURES, MASK, ROW, ROW, ROW, ROW),
    "query_map": example(WORLD, POINTS),
    "sparse_conv": example(FEATURES, RNG.standard_normal((27, 3, 5)), MAP),
    "sparse_pool": example(FEATURES, DOWN),
    "trilinear_weights": example(TENSOR, POINTS[:50]),
    "unique_voxels": example(COORDS, HERE, capacity=np.int64(CAPACITY)),
    "voxel_centers": example(WORLD),
    "voxelize": example(POINTS, POINTS, voxel_size=np.float64(0.1), capacity=np.int64(192)),
}


def test_the_table_is_complete():
    assert EXAMPLES.keys() == public_functions(sparse).keys()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_eager_call(name):
    check(public_functions(sparse)[name], EXAMPLES[name])
