"""A network on images of any size: what comes back is in the pixels that were given."""

import numpy as np
import pytest

from posejax.config import ConfigError, Experiment
from posejax.data.images import resize_image
from posejax.loading import Predictor
from posejax.matching import Rows
from posejax.systems.tinyroma.inference import coarse_features, match_images, searching
from tests.systems.tinyroma.test_system import SIZE, SYSTEM, batch, predicted, started


@pytest.fixture(scope="module")
def predict():
    return Predictor(Experiment("pair", SYSTEM), *started())


def images(scale=1):
    pair = (batch().examples[f"image_{side}"][0] for side in "ab")
    return [resize_image(x, (scale * SIZE[0], scale * SIZE[1])) for x in pair]


def test_results_are_in_the_pixels_that_were_given(predict):
    """Twice the size, matched at half of it: twice the coordinates."""
    small = match_images(SYSTEM, predict, *images(), longest=SIZE[1])
    np.testing.assert_allclose(small.warp, predicted()["warp"][0], atol=1e-2)
    large = match_images(SYSTEM, predict, *images(2), longest=SIZE[1])
    near = np.abs(large.warp - 2 * small.warp).max(-1) < 8  # resized twice, not the same bits
    assert near.mean() > 0.9
    used = large.weights > 0
    assert large.matches_a[used].max() > SIZE[0] and large.b_from_a is None


def test_another_search_takes_the_same_weights(predict):
    rows = searching(predict, kind="rows", columns=(-5, 0))
    assert rows.params is predict.params
    assert rows.experiment.system.net.search == Rows((0, 5))


def test_wrong_images_are_named(predict):
    a, b = images()
    for bad in (a[..., :2], a / 255.0, a[:16]):
        with pytest.raises(ConfigError, match=r"image_b.*expected"):
            match_images(SYSTEM, predict, a, bad)
    with pytest.raises(ConfigError, match="both images"):
        match_images(SYSTEM, predict, a, b, np.eye(3))


def test_features_are_those_that_the_network_matches(predict):
    a, b = (image[None] / np.float32(255) for image in images())
    variables = {"params": predict.params, "batch_stats": predict.state["batch_stats"]}
    out = SYSTEM.net.apply(variables, a, b, False)
    found = coarse_features(predict)(b[0])
    np.testing.assert_allclose(found, out.features_b.coarse[0], rtol=1e-4, atol=1e-4)
