"""Every function of the room takes NumPy's numbers as they are and compiles once."""

import numpy as np
import pytest

from posejax import bev
from tests.bev.rigs import GRID, IMAGE, SIZE, rig
from tests.eager import check, example, public_functions

RNG = np.random.default_rng(0)
K, POSES = rig()
FEATURES = RNG.standard_normal((4, *SIZE, 3))
PLAN = bev.make_lift_plan(K, POSES, grid=GRID, image_size=IMAGE, feature_size=SIZE)
SHAPES = {"grid": GRID, "image_size": np.array(IMAGE)}

EXAMPLES = {
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
