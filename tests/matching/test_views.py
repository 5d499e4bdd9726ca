"""The search over sizes and quarter turns, with features that know no turn and no scale."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.matching import Matches
from posejax.matching.views import SCALES, VIEWS, View, search_views


def features(image):
    """The pixels of every 8x8 cell, without their mean: as blind to turns as a descriptor is."""
    height, width = image.shape[0] // 8, image.shape[1] // 8
    cells = image.mean(-1).reshape(height, 8, width, 8).swapaxes(1, 2).reshape(height, width, 64)
    return cells - cells.mean(-1, keepdims=True)


def scene(rng, height=96, width=128):
    """Every cell a texture of its own."""
    coarse = rng.uniform(size=(height // 2, width // 2, 1))
    return np.repeat(coarse.repeat(2, 0).repeat(2, 1), 3, axis=2).astype(np.float32)


def agreeing(truth, limit):
    """Counts the matches that agree with a known map of A's pixels to B's."""

    def estimate(key, xy_a, xy_b, weights):
        del key
        away = jnp.sqrt(jnp.sum((truth(xy_a) - xy_b) ** 2, axis=-1))
        return SimpleNamespace(inliers=(away < limit) & (weights > 0))

    return estimate


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_turned_image_is_found_in_the_view_that_turns_it_back(rng, turns):
    image = scene(rng)
    height, width, _ = image.shape
    turned = np.rot90(image, turns)

    def truth(xy):
        x, y = xy[:, 0], xy[:, 1]
        # np.rot90 is counter-clockwise: the first row of the turned image is A's last column.
        x, y = ((x, y), (y, width - x), (width - x, height - y), (height - y, x))[turns]
        return jnp.stack([x, y], axis=-1)

    views = [View(turns=k) for k in range(4)]
    found = search_views(
        jax.random.key(0), features, image, turned, agreeing(truth, 1.0), views=views, side=128,
        count=256,
    )  # fmt: skip
    assert found.view.turns == (4 - turns) % 4
    assert found.inliers[(4 - turns) % 4] > 150
    assert sum(found.inliers) < found.inliers[(4 - turns) % 4] + 10  # no other view sees it
    assert found.matches.xy_a.shape == (256, 2)
    kept = np.asarray(found.matches.weights) > 0
    away = truth(found.matches.xy_a) - found.matches.xy_b
    assert np.median(np.linalg.norm(np.asarray(away)[kept], axis=-1)) < 0.1


def test_a_larger_image_is_found_at_half_its_size(rng):
    image = scene(rng, 128, 128)
    double = image[:64, :64].repeat(2, 0).repeat(2, 1)  # its upper left quarter, as large as all
    estimate, views = agreeing(lambda xy: 2 * xy, 3.0), (SCALES[0], SCALES[2])
    found = search_views(
        jax.random.key(0), features, image, double, estimate, views=views, side=128, count=256
    )
    assert found.view == View(1.0, 0.5) and max(found.inliers) > 50  # of 64 cells
    assert found.inliers[0] < 10


def test_views_are_compared_by_the_weights_of_what_agrees(monkeypatch):
    """Many matches that are hardly probable against a few that are sure."""
    known = {0: Matches(np.ones((9, 2)), np.ones((9, 2)), np.full(9, 0.1)),
             1: Matches(np.ones((9, 2)), np.ones((9, 2)), np.repeat([0.9, 0], [4, 5]))}  # fmt: skip
    monkeypatch.setattr(
        "posejax.matching.views._in_pixels", lambda a, b, view, *_: known[view.turns]
    )
    found = search_views(
        jax.random.key(0), features, np.zeros((64, 64, 3)), np.zeros((64, 64, 3)),
        agreeing(lambda xy: xy, 1.0), views=(View(), View(turns=1)), rank="probability",
    )  # fmt: skip
    assert found.inliers == (9, 4) and found.view == View(turns=1)


def test_the_views_are_distinct_and_a_search_needs_one():
    assert len(set(VIEWS)) == len(VIEWS) == 20
    with pytest.raises(ValueError, match="no views"):
        search_views(
            jax.random.key(0), features, np.zeros((64, 64, 3)), np.zeros((64, 64, 3)),
            agreeing(lambda xy: xy, 1.0), views=(),
        )  # fmt: skip
