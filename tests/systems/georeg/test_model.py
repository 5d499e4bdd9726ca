"""The network: heads, scores, masks, centring; recovery of known poses without learning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.registration import argmax_pose, gaussian_peak, lock_on_score, log_probabilities
from posejax.systems.georeg.config import ModelConfig, SearchConfig
from posejax.systems.georeg.model import IMPOSSIBLE_LOGIT, RegistrationNet, score_volume

CELL = 0.2
SMALL = ModelConfig(widths=(8, 8), features=4, blocks=0)
ANGLES = jnp.deg2rad(jnp.arange(-4.0, 5.0, 2.0))


def rasters(rng, size=24, margin=6, channels=(3, 2), batch=2):
    geo = rng.standard_normal((batch, size + 2 * margin, size + 2 * margin, channels[1]))
    online = rng.standard_normal((batch, size, size, channels[0]))
    masks = np.ones(online.shape[:3]), np.ones(geo.shape[:3])
    online, geo, online_mask, geo_mask = (jnp.float32(a) for a in (online, geo, *masks))
    return online, online_mask, geo, geo_mask


def run(config, inputs, radius=6, train=False, stride=1):
    net = RegistrationNet(config, stride)
    variables = net.init(jax.random.key(0), *inputs, False)
    features = net.apply(variables, *inputs, train)
    return variables, features, score_volume(features, config, ANGLES, radius)


@pytest.mark.parametrize("head", ["joint", "decoupled"])
@pytest.mark.parametrize("score", ["dot", "zncc"])
@pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_variant_gives_finite_logits_and_gradients(rng, head, score, shared):
    if head == "decoupled" and score == "zncc":
        pytest.skip("refused, see below")
    config = dataclasses.replace(SMALL, head=head, score=score, shared=shared)
    inputs = rasters(rng)
    variables, _, volume = run(config, inputs)
    assert volume.shape == (2, 5, 13, 13)

    def loss(params):
        features = RegistrationNet(config).apply({"params": params}, *inputs, True)
        return jax.vmap(log_probabilities)(score_volume(features, config, ANGLES, 6))[
            :, 2, 6, 6
        ].sum()

    value, gradient = jax.value_and_grad(loss)(variables["params"])
    assert np.isfinite(value)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        # A batch-wide constant (the last bias) may have none; kernels must all be reached.
        if path[-1].key == "kernel":
            assert np.abs(leaf).max() > 0, path


def test_decoupled_zncc_is_refused():
    with pytest.raises(ValueError, match="decoupled"):
        ModelConfig(head="decoupled", score="zncc").check()


def test_shared_encoder_has_one_set_of_parameters(rng):
    config = dataclasses.replace(SMALL, shared=True)
    variables, _, _ = run(config, rasters(rng))
    assert {"encoder", "online_stem", "geo_stem", "log_temperature"} == set(variables["params"])


def test_identity_encoder_finds_a_known_shift_without_parameters(rng):
    """geo holds the online raster moved by (x, y) = (3, -2) cells."""
    config = ModelConfig(encoder="identity", score="zncc", confidence=False)
    _, _, geo, geo_mask = rasters(rng, channels=(2, 2))
    online = geo[:, 6 - 2 : 30 - 2, 6 + 3 : 30 + 3]
    inputs = (online, jnp.ones(online.shape[:3]), geo, geo_mask)
    variables, _, volume = run(config, inputs)
    assert "params" not in variables
    pose = jax.vmap(lambda v: argmax_pose(v, ANGLES, CELL))(volume)
    np.testing.assert_allclose(pose, [[3 * CELL, -2 * CELL, 0]] * 2, atol=1e-6)


def test_identity_encoder_needs_matching_channels(rng):
    with pytest.raises(ValueError, match="online has 3 channels, geo 2"):
        run(ModelConfig(encoder="identity"), rasters(rng))


def test_dot_scores_lie_within_one_and_ignore_masked_geo(rng):
    """Unit features and normalised weights: |score| <= 1; masked geo cells carry no weight."""
    online, online_mask, geo, geo_mask = rasters(rng)
    geo_mask = geo_mask.at[:, :, :10].set(0.0)
    _, features, volume = run(SMALL, (online, online_mask, geo, geo_mask))
    assert np.abs(volume * features.temperature).max() <= 1 + 1e-5
    assert np.all(np.asarray(features.geo_weight)[:, :, :10] == 0)


def test_peak_beside_a_map_edge_is_not_pulled_by_poses_without_a_score(rng):
    """Invalid ZNCC poses, divided by a small temperature, are no scores of a quadratic fit."""
    from scipy import ndimage

    config = ModelConfig(encoder="identity", score="zncc", min_overlap=1.09, temperature=0.02)
    geo = ndimage.gaussian_filter(rng.standard_normal((2, 44, 44, 1)), (0, 1.5, 1.5, 0))
    online = geo[:, 10:34, 16:40]  # 6 cells to the right of the middle
    masks = np.ones((2, 24, 24)), np.ones((2, 44, 44))
    masks[1][:, :, 40:] = 0  # the map ends: one cell further right overlaps too little
    inputs = tuple(jnp.float32(a) for a in (online, masks[0], geo, masks[1]))
    _, _, volume = run(config, inputs, radius=10)
    assert (volume[:, 2, 10, 17] == IMPOSSIBLE_LOGIT).all()
    for one in volume:
        peak = gaussian_peak(one / 1.3, ANGLES, 1.0)
        np.testing.assert_allclose(peak.pose[:2], [6, 0], atol=0.1)
        assert lock_on_score(one, ANGLES, 1.0, jnp.array([6.0, 0, 0])) < 0.45


def test_stride_halves_the_volume_cells(rng):
    _, features, volume = run(SMALL, rasters(rng), radius=3, stride=2)
    assert features.online.shape == (2, 12, 12, 4)
    assert volume.shape == (2, 5, 7, 7)


def test_search_lattice_covers_the_window_with_its_margin():
    search = SearchConfig(max_offset=4.0, max_yaw_deg=10, margin=0.4, margin_yaw_deg=2)
    angles = np.rad2deg(search.angles())
    np.testing.assert_allclose(angles, np.arange(-12, 13), atol=1e-5)
    assert search.radius(0.2) == 22
    assert search.radius(0.4) == 11
    assert SearchConfig(yaw_step_deg=0.7).angles().size % 2 == 1
    assert np.rad2deg(SearchConfig(yaw_step_deg=0.7).angles()).max() >= 12
