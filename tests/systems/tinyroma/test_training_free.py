"""Matching without training: the same mutual partners as `posejax.matching` has."""

import numpy as np

from posejax.geometry import normalize
from posejax.image import resize
from posejax.matching.mutual import mutual_cells
from posejax.matching.search import Rows
from posejax.systems.tinyroma.training_free import match_by_features


def colours(image):
    """Features that tell apart the cells of a noisy image: their colours, coarse and fine."""
    height, width = image.shape[0] // 8, image.shape[1] // 8
    small = resize(image, (4 * height, 4 * width)).reshape(height, 4, width, 4, 3)
    return small.swapaxes(1, 2).reshape(height, width, 48) - 0.5


def test_matches_are_the_mutual_cells(rng):
    a = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
    b = np.roll(a, (0, 8), axis=(0, 1))
    b[:, 48:] = rng.integers(0, 255, (64, 48, 3))
    b[:, :8] = 0
    found = match_by_features(colours, a, b, count=100)
    used = found["weights"] > 0
    cells = mutual_cells(*(normalize(colours(x / np.float32(255))) for x in (a, b)), count=100)
    kept = np.asarray(cells.weights) > 0
    assert 30 < used.sum() == kept.sum() < 60
    for ours, theirs in (("matches_a", cells.xy_a), ("matches_b", cells.xy_b)):
        got, want = (sorted(map(tuple, x)) for x in (found[ours][used], 8 * theirs[kept]))
        np.testing.assert_allclose(got, want, atol=1e-2)
    shift = (found["matches_b"] - found["matches_a"])[used]
    np.testing.assert_allclose(shift, [(8, 0)] * len(shift), atol=0.5)
    assert found["warp"].shape == (8, 12, 2) and found["certainty"].max() <= 1
    assert not found["weights"][96:].any()  # padding: there are 96 cells

    rows = match_by_features(colours, a, np.roll(b, 8, axis=0), search=Rows())
    assert (rows["weights"] > 0).sum() < 3  # one row further down
