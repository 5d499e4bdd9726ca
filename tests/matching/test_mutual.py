"""Cells that are each other's partner."""

import numpy as np

from posejax.matching.mutual import mutual_cells


def test_mutual_cells_are_padded_and_bounded_by_similarity(rng):
    unit = rng.normal(size=(5, 6, 64)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    same = mutual_cells(unit, unit, count=40)
    assert same.xy_a.shape == (40, 2) and same.weights.sum() == 30
    np.testing.assert_allclose(same.xy_a[:30], same.xy_b[:30], atol=1e-3)
    other = rng.normal(size=(5, 6, 64)).astype(np.float32)
    other /= np.linalg.norm(other, axis=-1, keepdims=True)
    assert mutual_cells(unit, other, count=40).weights.sum() == 0
