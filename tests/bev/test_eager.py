"""Every function of the room takes NumPy's numbers as they are and compiles once."""

import numpy as np
import pytest

from posejax import bev
from tests.bev.broken_rigs import simulated
from tests.bev.rigs import GRID, IMAGE, SIZE, rig
from tests.eager import check, example, public_functions

RNG = np.random.default_rng(0)
K, POSES = rig()
FEATURES = RNG.standard_normal((4, *SIZE, 3))
PLAN = bev.make_lift_plan(K, POSES, grid=GRID, image_size=IMAGE, feature_size=SIZE)
SHAPES = {"grid": GRID, "image_size": np.array(IMAGE)}

BOXES = RNG.uniform(1, 4, (3, 3)), np.tile(np.eye(4), (3, 1, 1))
MAP, OFFSET = RNG.random((10, 12)), RNG.standard_normal((10, 12, 2))
MASK = RNG.random((10, 12)) < 0.8
IDS = RNG.integers(0, 5, (10, 12))

CHECKED = simulated(0, 3)

EXAMPLES = {
    "check_lidar": example(RNG.uniform(-5, 5, (40, 3)), np.eye(4), *BOXES, np.full(3, 6, np.int32)),
    "check_rig": example(
        CHECKED.k,
        CHECKED.poses,
        CHECKED.size,
        CHECKED.boxes,
        camera=CHECKED.camera,
        box=CHECKED.box,
        corners=CHECKED.corners,
        image_size=np.array(CHECKED.image),
    ),
    "box_targets": example(*BOXES, np.ones(3, bool), grid=GRID, sigma=np.float64(3)),
    "center_loss": example(MAP, MAP),
    "decode_instances": example(MAP, MAP, OFFSET, count=np.int64(5), threshold=np.float64(0.4)),
    "distance_overlap": example(MAP, MASK, MASK, grid=GRID, edges=(np.float64(0), 5.0, 9.0)),
    "map_overlap": example(MAP, MASK, MASK),
    "masked_mean": example(MAP, MASK),
    "offset_loss": example(OFFSET, OFFSET, MASK),
    "panoptic_quality": example(IDS, IDS, MASK, most_true=np.int64(5)),
    "rasterize_points": example(RNG.uniform(-5, 5, (9, 3)), RNG.random((9, 2)), grid=GRID),
    "reliability": example(MAP, MASK, MASK, bins=np.int64(10)),
    "segmentation_loss": example(MAP, MASK, MASK, pos_weight=np.float64(2)),
    "uncertainty_weighting": example({"center": np.float64(1)}, {"center": np.float64(0)}),
    "level_frame": example(POSES[0]),
    "lift": example(FEATURES, PLAN, np.ones(4, bool)),
    "lift_dynamic": example(FEATURES, K, POSES, max_cameras=np.int64(2), **SHAPES),
    "make_lift_plan": example(K, POSES, feature_size=np.array(SIZE), **SHAPES),
    "transform": example(POSES[0], "camera", "grid"),
}


def test_the_table_is_complete():
    assert EXAMPLES.keys() == public_functions(bev).keys()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_eager_call(name):
    check(public_functions(bev)[name], EXAMPLES[name])
