"""Kernels, scales and medoids against NumPy; cleaning of tracks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from posejax.trajectory import pose_residual
from posejax.trajectory.robust import (
    kernel_weights,
    masked_quantile,
    nudge,
    quartile_scale,
    residual_lengths,
    robust_scale,
)
from posejax.trajectory.track import back_in_order, local_medoids, noise_scale, sorted_track

sorted_track = jax.jit(sorted_track)


@pytest.mark.parametrize("kernel", ["huber", "cauchy", "tukey"])
def test_kernels_fall_from_one(kernel):
    d = jnp.array([0.0, 1e-3, 1, 3, 10, 1e6])
    weights = kernel_weights(d, kernel)
    assert weights[0] == 1 and jnp.all(jnp.diff(weights) <= 0)
    assert weights[-1] < 1e-5
    slopes = jax.vmap(jax.grad(lambda x: kernel_weights(x, kernel)))(d)
    assert jnp.all(jnp.isfinite(slopes))
    # Normal residuals keep most of their influence.
    lengths = np.sqrt(chi2(3).ppf(np.linspace(0.005, 0.995, 200)))
    assert kernel_weights(lengths, kernel).mean() > 0.75
    assert jnp.all(kernel_weights(d, "none") == 1)


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match="'tukey'; got 'l2'"):
        kernel_weights(jnp.ones(2), "l2")


def test_quantiles_pass_over_the_mask(rng):
    values, mask = rng.normal(size=(50, 2)), rng.random(50) < 0.5
    found = masked_quantile(jnp.asarray(values), jnp.asarray(mask), 0.5)
    np.testing.assert_allclose(
        found, np.quantile(values[mask], 0.5, axis=0, method="lower"), rtol=1e-6
    )
    assert jnp.all(masked_quantile(jnp.ones((5, 2)), jnp.zeros(5, bool), 0.5) == 0)


def test_scales_are_those_of_normal_residuals(rng):
    residual = rng.normal(size=(20_000, 6)) * np.repeat([0.3, 0.02], 3)
    lengths = residual_lengths(residual)
    everywhere = jnp.ones(len(residual), bool)
    for scale in (robust_scale, quartile_scale):
        np.testing.assert_allclose(scale(lengths, everywhere, jnp.zeros(2)), [0.3, 0.02], rtol=0.03)
    assert jnp.all(robust_scale(lengths, everywhere, jnp.ones(2)) == 1)


def test_the_residual_separates_position_and_rotation(rng):
    model = np.eye(4)
    model[:3, :3] = Rotation.random(rng=rng).as_matrix()
    model[:3, 3] = 1, 2, 8
    turn = np.array([0.3, -0.2, 0.9])
    measured = model.copy()
    measured[:3, :3] = Rotation.from_rotvec(turn).as_matrix() @ model[:3, :3]
    measured[:3, 3] += [0.1, 0.2, -0.4]
    np.testing.assert_allclose(pose_residual(measured, model), [0.1, 0.2, -0.4, *turn], atol=1e-5)
    # A model moved towards the measurement by the nudge leaves that much less.
    miss = lambda d: pose_residual(model, nudge(jnp.asarray(model), d))  # noqa: E731
    slope = jax.jit(jax.jacfwd(miss))(jnp.zeros(6))
    want = -np.kron(np.eye(2), model[:3, :3])
    np.testing.assert_allclose(slope, want, atol=1e-5)


def test_tracks_are_sorted_and_cleaned(rng):
    t = np.array([3.0, 1.0, np.nan, 2.0, 0.0, 4.0])
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, 0, 3] = np.arange(6)
    poses[5, 1, 1] = np.inf
    track = sorted_track(t, poses, np.array([True, True, True, True, False, True]))
    np.testing.assert_array_equal(track.t, [1, 2, 3, 3, 3, 3])
    np.testing.assert_array_equal(track.poses[:, 0, 3], [1, 3, 0, 0, 0, 0])
    np.testing.assert_array_equal(track.valid, [1, 1, 1, 0, 0, 0])
    back = back_in_order(track, track.t * track.valid)
    np.testing.assert_array_equal(back, [3, 1, 0, 2, 0, 0])
    with pytest.raises(ValueError, match=r"use jax\.vmap"):
        sorted_track(t[None], poses[None], None)


def test_medoids_ignore_gross_errors(tumbling, spoil, rng, errors):
    t, poses = tumbling
    noisy, gross = spoil(poses, rng, 2, 0.05, 0.3)
    assert gross.mean() > 0.2
    find = jax.jit(lambda t, p: local_medoids(sorted_track(t, p, None), t))
    found = np.asarray(find(t, noisy))
    assert errors(poses, noisy)[1] > 30
    away = np.linalg.norm(found[:, :3, 3] - poses[:, :3, 3], axis=1)
    assert away.max() < 0.7 and errors(poses, found)[1] < 5


def test_the_noise_is_read_off_the_track(tumbling, spoil, rng):
    t, poses = tumbling
    find = jax.jit(lambda t, p: noise_scale(sorted_track(t, p, None)))
    want = np.array([0.1, np.deg2rad(4)]) / np.sqrt(3)
    np.testing.assert_allclose(find(t, spoil(poses, rng, 4, 0.1)[0]), want, rtol=0.15)
    ratio = find(t, spoil(poses, rng, 4, 0.1, 0.3)[0]) / want
    assert np.all(ratio > 0.9) and np.all(ratio < 1.9)
