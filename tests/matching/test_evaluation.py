"""Pose errors, AUC against its definition and the reference numbers, intervals, protocols."""

import math

import jax
import numpy as np
import pytest
from scipy import stats

from posejax.matching import (
    PROTOCOLS,
    bootstrap_auc,
    chance_models,
    pose_auc,
    relative_pose_errors,
)
from tests.matching.scenes import angle_errors, make_pair


def reference_auc(errors, thresholds):
    errors = np.sort(errors)
    recall = (np.arange(len(errors)) + 1) / len(errors)
    errors, recall = np.r_[0, errors], np.r_[0, recall]
    found = []
    for t in thresholds:
        last = np.searchsorted(errors, t)
        r, e = np.r_[recall[:last], recall[last - 1]], np.r_[errors[:last], t]
        found.append(np.trapezoid(r, e) / t)
    return found


def test_auc_equals_its_definition(rng):
    errors = rng.exponential(10, 40)
    errors[:3] = 5.0, 10.0, 0.0  # at a threshold: outside
    got = pose_auc(errors, [5, 10, 20])
    np.testing.assert_allclose(got, reference_auc(errors, [5, 10, 20]), atol=1e-6)
    np.testing.assert_allclose(pose_auc(np.zeros(4), [5.0]), [1])
    np.testing.assert_allclose(pose_auc([np.nan, np.inf], [5.0]), [0])
    np.testing.assert_allclose(pose_auc(np.zeros(0), [5.0, 10.0]), [0, 0])


@pytest.mark.golden
def test_reference_numbers(golden):
    z = golden("losses.npz")
    for i in range(3):
        got = pose_auc(z[f"auc/errors{i}"], [5, 10, 20])
        np.testing.assert_allclose(got, z[f"auc/auc{i}"], atol=1e-6)


def test_pose_errors(rng):
    first, second = (make_pair(rng, 1).b_from_a for _ in range(2))
    want = angle_errors(first, second)
    rotation, direction = relative_pose_errors(first, second, fold=False)
    np.testing.assert_allclose(np.degrees([rotation, direction]), want, atol=1e-3)
    _, folded = relative_pose_errors(first, second)
    np.testing.assert_allclose(np.degrees(folded), min(want[1], 180 - want[1]), atol=1e-3)
    for fold in (True, False):
        _, nowhere = relative_pose_errors(np.eye(4), first, fold=fold)
        np.testing.assert_allclose(nowhere, np.pi / 2)
    gradient = jax.grad(lambda p: sum(relative_pose_errors(p, first)))(first.astype(np.float32))
    assert np.isfinite(gradient).all()


def test_the_interval_holds_the_value_and_narrows(rng):
    key, thresholds = jax.random.key(0), np.array([5.0, 10])
    few, many = rng.exponential(6, 30), rng.exponential(6, 480)
    wide, narrow = (bootstrap_auc(key, e, thresholds, resamples=200) for e in (few, many))
    for found in (wide, narrow):
        assert (found.low < found.value).all() and (found.value < found.high).all()
    ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
    assert (ratio > 2.5).all() and (ratio < 6.5).all()  # 4 = sqrt(16)
    # Draws of one pair stay together: equal draws bring no information.
    repeated = bootstrap_auc(key, np.repeat(few[:, None], 5, 1), thresholds, resamples=200)
    np.testing.assert_allclose(repeated.high - repeated.low, wide.high - wide.low, rtol=0.2)


def test_protocols_name_themselves_and_their_failures():
    texts = {p.describe() for p in PROTOCOLS.values()}
    assert len(texts) == 3
    for protocol in PROTOCOLS.values():
        assert protocol.name in protocol.describe() and protocol.estimator in protocol.describe()
        np.testing.assert_allclose(protocol.auc([0.0, np.nan]), 0.5, atol=1e-6)


def test_few_inliers_are_what_chance_would_give():
    """Against the binomial of SciPy; and many inliers are none of chance, however many matches."""
    p = 2 * np.sqrt(2) * 3 * 1000 / (600 * 800)
    want = math.comb(60, 5) * 10 * stats.binom.sf(12 - 5 - 1, 55, p)
    settings = {"threshold": 3.0, "shape_b": (600, 800)}
    np.testing.assert_allclose(chance_models("pose", 12, 60, **settings), want, rtol=1e-6)
    assert want > 0.01 > chance_models("pose", 40, 60, **settings)
    assert chance_models("pose", 20_000, 20_000, **settings) == 0
    assert chance_models("fundamental", 7, 60, **settings) == np.inf
    p = np.pi * 9 / (600 * 800)
    want = math.comb(60, 4) * stats.binom.sf(7 - 4 - 1, 56, p)
    np.testing.assert_allclose(chance_models("homography", 7, 60, **settings), want, rtol=1e-6)
