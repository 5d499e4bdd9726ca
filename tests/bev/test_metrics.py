"""Metrics as sums: against their definitions, and the decoding of single things."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.bev import (
    VoxelGrid,
    box_targets,
    decode_instances,
    distance_overlap,
    map_overlap,
    panoptic_quality,
    reliability,
)
from tests.bev.test_targets import GRID, upright

SIZE = np.array([[4.5, 2, 1.6], [4.5, 2, 1.6], [8, 2.5, 3], [4, 1.8, 1.5]])
POSES = np.stack([upright(-8, 3, 0.4), upright(-5, 2.5, 0.5), upright(6, -4, 1.9), upright(10, 7)])


@pytest.fixture(scope="module")
def maps():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((40, 60)).astype(np.float32)
    return logits, rng.random((40, 60)) < 0.3, rng.random((40, 60)) < 0.8


def test_sums_do_not_depend_on_the_batches(maps):
    logits, target, valid = maps
    whole = map_overlap(logits, target, valid)
    parts = [map_overlap(*(m[rows] for m in maps)) for rows in (slice(0, 7), slice(7, 40))]
    total = jax.tree.map(lambda *x: sum(x), *parts)
    assert total == whole
    a = (logits > 0) & valid
    b = target & valid
    assert whole.iou == pytest.approx((a & b).sum() / (a | b).sum())
    assert map_overlap(logits > 0, target, valid) == whole
    assert np.isnan(map_overlap(-np.ones(3), np.zeros(3), np.ones(3)).iou)


def test_rings(maps):
    logits, target, valid = maps
    found = distance_overlap(*maps, grid=GRID, edges=(0.0, 5.0, 12.0, 30.0))
    assert found.union.shape == (3,)
    whole = map_overlap(*maps)
    assert found.union.sum() == whole.union and found.intersection.sum() == whole.intersection
    x, z = GRID.centers()[:, 0, :, 0], GRID.centers()[:, 0, :, 2]
    ring = valid & (np.hypot(x, z) >= 5) & (np.hypot(x, z) < 12)
    assert found.intersection[1] == ((logits > 0) & target & ring).sum()
    np.testing.assert_allclose(found.iou, found.intersection / found.union)


def test_reliability_of_calibrated_and_of_overconfident_probabilities():
    rng = np.random.default_rng(1)
    p = rng.random(200_000).astype(np.float32)
    happened, valid = rng.random(200_000) < p, np.ones(200_000)
    good = reliability(p, happened, valid)
    assert good.ece < 0.01 and good.brier == pytest.approx(1 / 6, abs=0.01)
    assert good.count.sum() == 200_000 and good.count.shape == (15,)
    sure = np.clip(p * 4 - 1.5, 0, 1)
    assert reliability(sure, happened, valid).ece > 0.1
    # By hand, with a part that is not valid.
    p, t, valid = np.array([0.05, 0.95, 0.95, 0.2]), np.array([0, 1, 0, 1]), np.array([1, 1, 1, 0])
    hand = reliability(p, t, valid, bins=10)
    assert hand.brier == pytest.approx((0.05**2 + 0.05**2 + 0.95**2) / 3)
    assert hand.ece == pytest.approx((0.05 + abs(1.9 - 1)) / 3)
    assert reliability(p, t, 0 * valid).ece == 0


@pytest.mark.parametrize("compat", [None, "simple_bev"])
def test_targets_decode_to_their_boxes(compat):
    truth = box_targets(SIZE, POSES, grid=GRID, compat=compat)
    found = decode_instances(
        truth.segmentation, truth.center, truth.offset, count=10, compat=compat
    )
    assert found.valid.sum() == 4
    sums = panoptic_quality(found.label, truth.instance, truth.valid)
    assert sums.quality == 1 and (sums.matched, sums.extra, sums.missed) == (4, 0, 0)
    true = (POSES[:, [0, 2], 3] + (15, 10)) / 0.5
    away = np.linalg.norm(np.asarray(found.center)[:4, None] - true[None], axis=-1)
    assert away.min(0).max() < 1.1


def test_nothing_decodes_to_nothing():
    blank = jnp.zeros((12, 14))
    found = decode_instances(blank + 0.9, blank, jnp.zeros((12, 14, 2)), count=5)
    assert not found.valid.any() and not found.label.any()
    found = decode_instances(blank, blank + 0.7, jnp.zeros((12, 14, 2)), count=5)
    assert not found.valid.any() and (found.score > 0).sum() == 1  # one peak of a plateau
    with pytest.raises(ValueError, match="odd"):
        decode_instances(blank, blank, jnp.zeros((12, 14, 2)), window=4)


def test_panoptic_quality_by_hand():
    target = np.zeros((6, 12), int)
    target[:, 0:4], target[:, 5:7], target[:, 9:11] = 1, 2, 3
    predicted = np.zeros_like(target)
    predicted[:, 0:3] = 7  # 18 of 24: IoU 0.75
    predicted[:3, 5:7] = 2  # half of it: no match
    valid = np.ones_like(target)
    valid[:, 9:11] = 0  # the third is not counted
    found = panoptic_quality(predicted, target, valid, most_predicted=8, most_true=3)
    assert (found.matched, found.extra, found.missed) == (1, 1, 1)
    assert found.segmentation_quality == pytest.approx(0.75)
    assert found.recognition_quality == pytest.approx(0.5)
    assert found.quality == pytest.approx(0.375)


def test_default_rings_cover_the_default_grid():
    ones = np.ones((200, 200))
    found = distance_overlap(ones, ones, ones, grid=VoxelGrid())
    assert found.union.sum() == 40_000
