"""Every function of the room takes NumPy's numbers as they are and compiles once."""

import jax
import numpy as np
import pytest

from posejax import matching
from tests.eager import check, example, public_functions
from tests.matching.scenes import K, essential, make_pair, rays

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
A, B = RNG.standard_normal((4, 8, 6)), RNG.standard_normal((4, 8, 6))
PAIR = make_pair(RNG, 24)
XY_A, XY_B = (x.astype(np.float64) for x in PAIR[:2])
RAYS_A, RAYS_B = rays(XY_A), rays(XY_B)
UPRIGHT = np.c_[RAYS_A[:3], np.ones(3)]
WARP, CERTAINTY = RNG.uniform(0, 8, (6, 8, 2)), RNG.uniform(0, 1, (6, 8))
ONE = np.int64(64)
ERRORS, THRESHOLDS = RNG.uniform(0, 30, 20), np.array([5.0, 10, 20])

EXAMPLES = {
    "all_matches": example(WARP, CERTAINTY),
    "bootstrap_auc": example(KEY, ERRORS, THRESHOLDS, resamples=np.int64(8)),
    "decompose_essential": example(essential(PAIR.b_from_a)),
    "eight_point": example(RAYS_A, RAYS_B, np.ones(24)),
    "estimate_fundamental": example(KEY, XY_A, XY_B, iterations=ONE),
    "estimate_homography": example(KEY, XY_A, XY_B, iterations=ONE),
    "estimate_relative_pose": example(KEY, XY_A, XY_B, K, K, iterations=ONE),
    "expected_correspondence": example(
        A, B, search=matching.Band(np.int64(1), (-2, 2)), temperature=np.float64(2)
    ),
    "five_point": example(RAYS_A[:5], RAYS_B[:5]),
    "four_point": example(RAYS_A[:4], RAYS_B[:4]),
    "match_keypoints": example(WARP, CERTAINTY, XY_A / 80, XY_B / 80),
    "mutual_cells": example(A, B, count=np.int64(9), min_similarity=np.float64(-1)),
    "mutual_nearest_neighbours": example(RAYS_A, RAYS_B, valid_a=np.ones(24, bool)),
    "pose_auc": example(ERRORS, THRESHOLDS),
    "pose_difference": example(PAIR.b_from_a, PAIR.b_from_a),
    "pose_from_essential": example(essential(PAIR.b_from_a), RAYS_A, RAYS_B),
    "refine_relative_pose": example(PAIR.b_from_a, XY_A, XY_B, K, K),
    "relative_pose_errors": example(PAIR.b_from_a, PAIR.b_from_a),
    "sample_matches": example(KEY, WARP, CERTAINTY, np.int64(9)),
    "seven_point": example(RAYS_A[:7], RAYS_B[:7]),
    "upright_three_point": example(UPRIGHT, UPRIGHT[::-1].copy()),
}


def test_the_table_is_complete():
    # `search_views` runs the programs that it is given, each of which compiles once;
    # `chance_models` is arithmetic of Python's numbers.
    assert EXAMPLES.keys() | {"search_views", "chance_models"} == public_functions(matching).keys()


# What compiles for seconds: its own tests compile it already, for other shapes.
HEAVY = {n for n in EXAMPLES if n.startswith(("estimate", "refine")) or n.endswith("_point")}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HEAVY))
def test_heavy_calls(name):
    check(public_functions(matching)[name], EXAMPLES[name])


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - HEAVY))
def test_eager_call(name):
    check(public_functions(matching)[name], EXAMPLES[name])
