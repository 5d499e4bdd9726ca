"""Every function of the room takes NumPy's numbers as they are and compiles once."""

import numpy as np
import pytest

from posejax import keypoints
from tests.eager import check, example, public_functions
from tests.keypoints.scenes import BOX, K, normal_logits, projected

POSE = np.eye(4)
POSE[2, 3] = 3.0
XY = projected(POSE)
LOGITS = normal_logits(XY)
INFORMATION = np.tile(np.eye(2), (26, 1, 1))
EDGES = keypoints.edges_of(
    BOX, np.array([(0, 1)]), np.array([[[-0.8, -0.3, -0.5], [0.8, 0.3, 0.5]]])
)
EXAMPLES = {
    "align_pose": example(
        POSE,
        EDGES,
        np.ones((64, 64)),
        BOX,
        keypoints.local_peaks(LOGITS),
        K,
        weight=np.float64(0.1),
        iterations=np.int64(1),
    ),
    "edges_of": example(BOX, np.array([(0, 1)]), np.zeros((1, 2, 3)), spacing=np.float64(0.1)),
    "heatmap_nll": example(LOGITS, XY, np.ones(26), sigma=np.float64(1.5)),
    "heatmap_targets": example(XY, (np.int64(64), np.int64(64)), sigma=np.float64(1.5)),
    "local_peaks": example(LOGITS, modes=np.int64(2), radius=np.int64(4)),
    "pose_hypotheses": example(
        LOGITS, BOX, K, stride=np.int64(1), modes=np.int64(2), sharpness=np.float64(2)
    ),
    "refine_pose": example(POSE, BOX, XY, INFORMATION, K, iterations=np.int64(3)),
    "rotation_grid": example(np.int64(10)),
    "solve_pnp": example(BOX, XY, np.ones(26), K, sigma=np.float64(1.5)),
}


def test_the_table_is_complete():
    assert EXAMPLES.keys() == public_functions(keypoints).keys()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_eager_call(name):
    check(public_functions(keypoints)[name], EXAMPLES[name])
