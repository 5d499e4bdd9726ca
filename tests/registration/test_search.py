"""search_pose equals the full volume where it says so, and is never silently wrong elsewhere."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from posejax.registration import pose_volume, search_pose

ANGLES = jnp.deg2rad(jnp.array([-6.0, -2.0, 2.0, 6.0]))
RADIUS = 13


volume_of = jax.jit(lambda online, geo: pose_volume(online, geo, ANGLES, RADIUS))


def full(online, geo):
    volume = volume_of(online, geo)
    return np.unravel_index(np.argmax(volume), volume.shape), float(volume.max())


def rasters(kind, seed):
    rng = np.random.default_rng(seed)
    if kind == "sparse":  # occupancy: few cells, non-negative
        geo = (rng.random((60, 52, 2)) < 0.05).astype(np.float32)
    else:
        geo = ndimage.gaussian_filter(rng.standard_normal((60, 52, 2)), (2, 2, 0)) * 8
    online = geo[19:43, 12:34]
    return jnp.asarray(online, jnp.float32), jnp.asarray(geo, jnp.float32)


@pytest.mark.parametrize("order", ["bound", "mean"])
@pytest.mark.parametrize("beam", [1, 20, 10_000])
def test_exact_means_exact(order, beam):
    search = jax.jit(
        lambda a, b: search_pose(a, b, ANGLES, 13, 1.0, stride=3, beam=beam, order=order)
    )
    for kind, seed in itertools.product(["sparse", "smooth"], range(3)):
        online, geo = rasters(kind, seed)
        index, best = full(online, geo)
        got = search(online, geo)
        assert got.score <= best + 1e-3
        assert max(got.score, got.bound) >= best - 1e-3  # the truth is found or bounded
        if got.exact:
            assert tuple(np.asarray(got.index)) == index
            np.testing.assert_allclose(got.score, best, rtol=1e-5)
        if beam == 10_000:
            assert got.exact


def test_bound_is_useful_on_sparse_rasters():
    """2 % of the blocks settle the question for an occupancy raster found in its own map."""
    online, geo = rasters("sparse", 0)
    got = search_pose(online, geo, ANGLES, 13, 1.0, stride=2, beam=16)  # of 4 * 196 blocks
    assert got.exact


def test_mean_order_can_miss_and_says_so():
    """A lone spike that averages away below a broad plateau: the beam passes it by."""
    geo = jnp.zeros((40, 40, 1)).at[:16].set(0.3).at[33, 33, 0].set(5.0)
    online = jnp.zeros((8, 8, 1)).at[3, 3, 0].set(1.0)
    options = {"stride": 4, "beam": 4}
    missed = search_pose(online, geo, ANGLES[:1] * 0, 16, 1.0, order="mean", **options)
    assert missed.score < 1 and not missed.exact and missed.bound >= 5
    found = search_pose(online, geo, ANGLES[:1] * 0, 16, 1.0, order="bound", **options)
    assert found.score == pytest.approx(5) and found.exact


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_what_a_mask_hides_is_not_looked_at(dtype):
    online, geo = (np.array(a) for a in rasters("smooth", 1))
    mask_o, mask_g = np.ones(online.shape[:2], dtype), np.ones(geo.shape[:2], dtype)
    mask_o[:5], mask_g[:, 40:] = 0, 0
    options = {"stride": 4, "beam": 10_000, "online_mask": mask_o, "geo_mask": mask_g}
    want = search_pose(online, geo, ANGLES, 13, 1.0, **options)
    online[:5], geo[:, 40:] = np.nan, np.inf
    got = search_pose(online, geo, ANGLES, 13, 1.0, **options)
    assert np.isfinite(want.score) and got.exact
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_numpy_angles_and_64_bits_change_nothing():
    online, geo = rasters("smooth", 1)
    want = search_pose(online, geo, ANGLES, 13, 1.0, stride=4)
    angles = np.asarray(ANGLES, np.float64)
    with jax.enable_x64(True):
        wide = np.asarray(online, np.float64), np.asarray(geo, np.float64), angles
        for args in ((online, geo, angles), wide):
            got = search_pose(*args, np.int64(13), np.float64(1.0), stride=4)
            np.testing.assert_array_equal(got.index, want.index)
            np.testing.assert_allclose(got.score, want.score, rtol=1e-5)


def test_masks_and_bad_input():
    online, geo = rasters("smooth", 1)
    mask = jnp.zeros(geo.shape[:2]).at[:30].set(1.0)
    got = search_pose(online, geo, ANGLES, 13, 1.0, geo_mask=mask, stride=4, beam=10_000)
    index, best = full(online, geo * mask[..., None])
    assert tuple(np.asarray(got.index)) == index
    np.testing.assert_allclose(got.score, best, rtol=1e-5)
    with pytest.raises(ValueError, match="stride"):
        search_pose(online, geo, ANGLES, 13, 1.0, stride=0)
    with pytest.raises(ValueError, match="order"):
        search_pose(online, geo, ANGLES, 13, 1.0, order="best")
