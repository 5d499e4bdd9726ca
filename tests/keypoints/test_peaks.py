"""Modes of heatmaps against moments over all cells in float64; flat and broken heatmaps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.keypoints import local_peaks
from tests.keypoints.scenes import normal_logits

XY = np.array([[20.3, 31.8], [40.0, 12.5], [6.2, 56.3]])


def test_one_mode_has_the_moments_of_all_cells():
    logits = normal_logits(XY, sigma=1.2, flat=1e-9)
    found = local_peaks(logits, modes=2)
    p = np.exp(logits) / np.exp(logits).sum((0, 1))
    grid = np.arange(64) + 0.5
    for k in range(3):
        mean = np.array([(p[..., k].sum(0) * grid).sum(), (p[..., k].sum(1) * grid).sum()])
        y, x = np.meshgrid(grid - mean[1], grid - mean[0], indexing="ij")
        want = [[(p[..., k] * a * b).sum() for a in (x, y)] for b in (x, y)]
        np.testing.assert_allclose(found.xy[k, 0], mean, atol=0.02)
        np.testing.assert_allclose(found.covariance[k, 0], want + np.eye(2) / 12, atol=0.05)
    np.testing.assert_allclose(found.weight[:, 0], 1, atol=2e-3)
    assert np.all(np.asarray(found.weight)[:, 1] < 2e-3)


def test_a_slanting_mode_keeps_its_slant():
    grid = np.arange(64) + 0.5
    y, x = np.meshgrid(grid - 30.2, grid - 25.7, indexing="ij")
    want = np.array([[1.6, 0.9], [0.9, 1.1]])
    inverse = np.linalg.inv(want)
    logits = -0.5 * (inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y**2)
    found = local_peaks(logits[..., None], modes=1, radius=6)
    np.testing.assert_allclose(found.xy[0, 0], [25.7, 30.2], atol=1e-3)
    np.testing.assert_allclose(found.covariance[0, 0], want + np.eye(2) / 12, atol=0.02)


def test_two_modes_come_with_their_shares():
    other = 64 - XY
    p = 0.62 * np.exp(normal_logits(XY)) + 0.38 * np.exp(normal_logits(other))
    found = local_peaks(np.log(p), modes=2)
    np.testing.assert_allclose(found.xy[:, 0], XY, atol=0.2)
    np.testing.assert_allclose(found.xy[:, 1], other, atol=0.2)
    np.testing.assert_allclose(found.weight, [[0.62 * 0.95, 0.38 * 0.95]] * 3, atol=0.03)


def test_no_probability_counts_twice(rng):
    wide = normal_logits(XY, sigma=6.0) + rng.normal(size=(64, 64, 3))
    total = np.asarray(local_peaks(wide, modes=6).weight).sum(axis=1)
    assert np.all(total <= 1 + 1e-5) and np.all(total > 0.5)


@pytest.mark.parametrize("logits", [0.0, 1e4, -1e4])
def test_flat_heatmaps_are_finite(logits):
    flat = jnp.full((64, 48, 2), logits)
    total = lambda x: sum(jnp.sum(leaf) for leaf in local_peaks(x, modes=3))  # noqa: E731
    value, slope = jax.value_and_grad(total)(flat)
    assert np.isfinite(value) and np.isfinite(slope).all()
    found = local_peaks(flat, modes=3)
    # What a window of a uniform distribution holds and looks like.
    np.testing.assert_allclose(found.weight[:, 0], 9 * 9 / (64 * 48), rtol=1e-3)
    np.testing.assert_allclose(found.covariance[0, 0, 0, 0], 81 / 12, rtol=1e-3)


def test_a_single_cell_has_the_variance_of_a_cell():
    spike = jnp.zeros((40, 50, 1)).at[0, 49].set(60.0)
    found = local_peaks(spike, modes=1)
    np.testing.assert_allclose(found.xy[0, 0], [49.5, 0.5], atol=1e-4)
    np.testing.assert_allclose(found.covariance[0, 0], np.eye(2) / 12, atol=1e-4)


def test_derivatives_are_those_of_differences(rng):
    logits = normal_logits(XY[:1], sigma=1.5) + 0.3 * rng.normal(size=(64, 64, 1))
    weights = rng.normal(size=7)

    def value(x):
        found = local_peaks(x, modes=1)
        return sum(
            jnp.vdot(w, leaf)
            for w, leaf in zip((weights[:2], weights[2:6], weights[6:]), found, strict=True)
        )

    direction = rng.normal(size=logits.shape)
    with jax.enable_x64(True):
        slope = np.vdot(jax.grad(value)(jnp.asarray(logits)), direction)
        ahead, behind = (float(value(jnp.asarray(logits + s * direction))) for s in (1e-5, -1e-5))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-5)


def test_vmap_is_a_loop(rng):
    logits = jnp.asarray(normal_logits(XY) + rng.normal(size=(3, 64, 64, 3)), jnp.float32)
    together = jax.vmap(local_peaks)(logits)
    for k in range(3):
        for a, b in zip(together, local_peaks(logits[k]), strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-4, atol=1e-5)


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match="vmap"):
        local_peaks(np.zeros((2, 8, 8, 3)))
