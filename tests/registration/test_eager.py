"""Every function of the room takes NumPy's numbers as they are and compiles once."""

import numpy as np
import pytest

from posejax import registration
from tests.eager import check, example, public_functions

R, CELL = np.int64(2), np.float64(0.5)
ANGLES = np.deg2rad(np.array([-2.0, 0.0, 2.0]))
ONLINE = np.random.default_rng(0).standard_normal((8, 8, 1))
GEO = np.pad(ONLINE, ((2, 2), (2, 2), (0, 0)))
VOLUME = np.random.default_rng(1).standard_normal((3, 5, 5))
POSE, MEAN, COVARIANCE = np.array([0.2, 0.1, 0.01]), np.array([0.5, 0.0]), np.eye(2)
READ = (VOLUME, ANGLES, CELL)

EXAMPLES = {
    "argmax_pose": example(*READ),
    "assess": example(*READ, temperature=CELL),
    "circular_mean": example(np.ones(3), ANGLES),
    "disc_prior": example(ANGLES, R, CELL, mean=MEAN, disc_radius=CELL),
    "expectation_loss": example(POSE, POSE + 1),
    "find_modes": example(*READ, count=np.int64(2)),
    "fit_temperature": example(VOLUME[None], POSE[None], ANGLES, CELL, steps=np.int64(3)),
    "gaussian_peak": example(*READ, valid=VOLUME > -9),
    "gaussian_prior": example(ANGLES, R, CELL, mean=MEAN, covariance=COVARIANCE),
    "index_to_pose": example(np.array([1, 2, 3]), ANGLES, R, CELL),
    "lattice_poses": example(ANGLES, R, CELL),
    "lock_on_score": example(*READ, POSE),
    "log_probabilities": example(VOLUME),
    "next_fast_length": example(np.int64(11)),
    "orientation_cost": example(ONLINE, GEO, ANGLES),
    "orientation_expectation": example(VOLUME[:, 0, 0], ANGLES),
    "pose_errors": example(POSE, POSE + 1),
    "pose_in_window": example(POSE, ANGLES, R, CELL),
    "pose_nll": example(VOLUME, POSE, ANGLES, CELL),
    "pose_to_index": example(POSE, ANGLES, R, CELL),
    "pose_volume": example(ONLINE, GEO, ANGLES, R, online_mask=ONLINE[..., 0] > -1),
    "pose_volume_with_overlap": example(ONLINE, GEO, ANGLES, R, score="zncc", min_overlap=CELL),
    "principal_axes": example(COVARIANCE),
    "rotate": example(ONLINE, ANGLES),
    "rotate_transpose": example(ONLINE, ANGLES[0]),
    "search_pose": example(ONLINE, GEO, ANGLES, R, CELL, beam=np.int64(8)),
    "softmax_expectation": example(*READ),
    "translation_cost": example(ONLINE, GEO, R),
    "translation_expectation": example(VOLUME[0], CELL),
    "von_mises_prior": example(ANGLES, R, mean=CELL, concentration=CELL),
}
FUNCTIONS = public_functions(registration)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_calls_from_numpy_compile_once(name):
    check(FUNCTIONS[name], EXAMPLES[name])
