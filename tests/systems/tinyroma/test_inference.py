"""A network on images of any size: what comes back is in the pixels that were given."""

import dataclasses

import jax
import numpy as np
import pytest

from posejax.config import ConfigError, Experiment, replace
from posejax.data.images import resize_image
from posejax.loading import Predictor
from posejax.matching import Rows
from posejax.systems.tinyroma import inference
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


def test_intrinsics_follow_the_size_that_is_matched():
    """Two sizes, one of them reduced by other factors across and down: rays stay what they were."""
    image_a, image_b = (np.zeros((*size, 3), np.uint8) for size in ((64, 96), (130, 199)))
    k_a = np.array([[80.0, 0, 47], [0, 82, 33], [0, 0, 1]])
    k_b = np.array([[170.0, 0, 95], [0, 165, 70], [0, 0, 1]])
    points = np.random.default_rng(0).uniform((-1, -1, 3), (1, 1, 6), (20, 3))
    offset = np.array([0.3, 0.1, 0.05])

    def pixels(points, k):
        return points[:, :2] / points[:, 2:] @ k[:2, :2].T + k[:2, 2]

    def predict(examples):
        assert examples["image_a"].shape == examples["image_b"].shape == (1, 64, 96, 3)
        pairs = ("a", points), ("b", points + offset)
        found = {f"matches_{s}": pixels(x, examples[f"K_{s}"][0])[None] for s, x in pairs}
        warp = np.full((1, 16, 24, 2), (96, 64.0))  # the lower right corner
        names = ("certainty", "weights", "b_from_a", "covariance", "inliers")
        return found | {"warp": warp, "valid": np.ones(1)} | {k: np.ones((1, 2)) for k in names}

    found = match_images(SYSTEM, predict, image_a, image_b, k_a, k_b, longest=96)
    np.testing.assert_allclose(found.matches_a, pixels(points, k_a), rtol=1e-5)
    np.testing.assert_allclose(found.matches_b, pixels(points + offset, k_b), rtol=1e-5)
    np.testing.assert_allclose(found.warp[0, 0], (199, 130))
    assert found.b_from_a is not None and found.covariance is not None


def test_no_side_is_above_the_longest():
    def predict(examples):
        assert examples["image_a"].shape == (1, 480, 640, 3)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        match_images(SYSTEM, predict, *[np.zeros((495, 660, 3), np.uint8)] * 2, longest=660)


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


def test_a_share_of_the_features_is_that_of_their_weights(predict, monkeypatch):
    with pytest.raises(ConfigError, match=r"system\.model\.backbone: none"):
        coarse_features(predict, 0.5)
    image = images()[0] / np.float32(255)
    own = {"params": predict.params, "batch_stats": predict.state["batch_stats"]}
    before = jax.tree.map(lambda x: 0.5 * x + 0.1, own)
    monkeypatch.setattr(inference, "load_backbone", lambda path, net, variables: before)
    system = replace(SYSTEM, **{"model.backbone": "weights.npz"})
    started_from = dataclasses.replace(predict, experiment=Experiment("pair", system))
    middle = jax.tree.map(lambda x, y: 0.25 * x + 0.75 * y, own, before)
    for share, weights in ((0.0, before), (0.25, middle), (1.0, own)):
        found = coarse_features(started_from, share)(image)
        want = SYSTEM.net.apply(weights, image[None], method="trunk_features").coarse[0]
        np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-4)
