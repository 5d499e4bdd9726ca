"""Modes, weak directions, lock-on, calibration and priors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from posejax.registration import (
    assess,
    disc_prior,
    find_modes,
    fit_temperature,
    gaussian_prior,
    lattice_poses,
    lock_on_score,
    principal_axes,
    softmax_expectation,
    von_mises_prior,
)

CELL = 0.5
ANGLES = jnp.deg2rad(jnp.arange(-4.0, 5.0))


def bumps(*entries, shape=(9, 15, 15), width=1.0):
    """Log of a sum of Gaussians in index space, entries (k, i, j, weight)."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    p = sum(w * np.exp(-((grid - np.array(c)) ** 2).sum(-1) / 2 / width**2) for *c, w in entries)
    return jnp.asarray(np.log(p + 1e-9), jnp.float32)


def test_modes_are_found_in_order():
    modes = find_modes(bumps((2, 3, 4, 1.0), (6, 10, 12, 0.5)), ANGLES, CELL, count=4)
    np.testing.assert_array_equal(modes.valid[:2], True)
    want = [[(4 - 7) * CELL, (3 - 7) * CELL, ANGLES[2]], [(12 - 7) * CELL, 3 * CELL, ANGLES[6]]]
    np.testing.assert_allclose(modes.pose[:2], want, atol=1e-5)
    assert float(modes.mass[1] / modes.mass[0]) == pytest.approx(0.5, rel=0.05)
    assert (modes.mass[2:] < 1e-3).all()


def test_modes_over_the_seam_are_one():
    angles = jnp.linspace(0, 2 * np.pi, 13)[:-1]
    volume = jnp.full((12, 5, 5), -20.0).at[0, 2, 2].set(0.0).at[11, 2, 2].set(-0.1)
    modes = find_modes(volume, angles, CELL, count=3)
    assert modes.mass[0] > 0.99 and modes.mass[1] < 1e-3


def test_flat_volume_has_modes_and_abstains():
    report = assess(jnp.zeros((9, 15, 15)), ANGLES, CELL)
    assert report.entropy == pytest.approx(1, abs=1e-4) and report.abstain
    assert np.isfinite(report.modes.mass).all()


def test_report_tells_corridor_from_corner():
    poses = np.asarray(lattice_poses(ANGLES, 7, CELL))
    along = np.array([np.cos(0.6), np.sin(0.6)])
    across = poses[..., :2] @ np.array([-along[1], along[0]])
    corridor = assess(jnp.asarray(-20 * across**2), ANGLES, CELL)
    assert abs(float(jnp.asarray(along) @ corridor.direction)) > 0.99
    assert corridor.anisotropy > 0.8
    sharp = assess(bumps((4, 7, 7, 1.0)), ANGLES, CELL, max_sigma=1.0)
    assert sharp.anisotropy < 0.01 and not sharp.abstain and sharp.peak_ratio < 0.01
    assert float(sharp.sigma_major) == pytest.approx(CELL, rel=0.01)
    two = assess(bumps((4, 3, 3, 1.0), (4, 11, 11, 0.9)), ANGLES, CELL)
    assert two.peak_ratio == pytest.approx(0.9, rel=0.05) and two.abstain


def test_principal_axes():
    rng = np.random.default_rng(1)
    for _ in range(10):
        a = rng.standard_normal((2, 2))
        covariance = a @ a.T
        values, vectors = np.linalg.eigh(covariance)
        major, minor, axis = principal_axes(jnp.asarray(covariance, jnp.float32))
        np.testing.assert_allclose([minor, major], values, rtol=1e-3, atol=1e-4)
        assert abs(float(axis @ jnp.asarray(vectors[:, 1], jnp.float32))) > 0.999
    for isotropic in (jnp.eye(2), jnp.zeros((2, 2))):
        jacobian = jax.jacobian(
            lambda c: jnp.hstack([jnp.stack(principal_axes(c)[:2]), principal_axes(c)[2]])
        )(isotropic)
        assert np.isfinite(jacobian).all()


def test_report_gradients_are_finite():
    def total(volume):
        r = assess(volume, ANGLES, CELL)
        return r.entropy + r.anisotropy + r.sigma_major + r.sigma_minor + r.sigma_yaw + r.peak_ratio

    for volume in (jnp.zeros((9, 15, 15)), jnp.zeros((9, 15, 15)).at[4, 7, 7].set(1e4)):
        assert np.isfinite(jax.jit(jax.grad(total))(volume)).all()


def test_lock_on_score():
    truth = jnp.array([4 * CELL, -3 * CELL, 0.0])
    at_truth, at_zero = jnp.exp(bumps((4, 4, 11, 1.0))), jnp.exp(bumps((4, 7, 7, 1.0)))
    assert lock_on_score(at_truth, ANGLES, CELL, truth) < 0.05
    assert lock_on_score(at_zero, ANGLES, CELL, truth) > 0.95
    assert lock_on_score(jnp.zeros((9, 15, 15)), ANGLES, CELL, truth) == 0.5
    assert lock_on_score(at_zero, ANGLES, CELL, jnp.zeros(3)) == 0.5


def test_lock_on_score_is_periodic_in_yaw():
    """Evidence one step over the seam of a full circle lies within reach of a pose at the seam."""
    circle = jnp.linspace(0, 2 * np.pi, 13)[:-1]
    volume = jnp.zeros((12, 15, 15)).at[11, 7, 7].set(1.0)
    assert lock_on_score(volume, circle, CELL, jnp.array([2.0, 2.0, 0.0])) > 0.95
    volume = jnp.zeros((12, 15, 15)).at[0, 11, 11].set(1.0)
    pose = jnp.array([2.0, 2.0, -0.4])
    assert lock_on_score(volume, circle, CELL, pose) < 0.05


def test_temperature_is_recovered(rng):
    """Truths drawn from softmax(volume / 3) are best explained by temperature 3."""
    volumes = rng.standard_normal((300, 3, 5, 5)) * 5
    angles = jnp.array([-0.1, 0.0, 0.1])
    poses = np.asarray(lattice_poses(angles, 2, CELL)).reshape(-1, 3)
    p = np.exp(volumes.reshape(300, -1) / 3)
    drawn = [rng.choice(75, p=q / q.sum()) for q in p]
    args = jnp.asarray(volumes, jnp.float32), jnp.asarray(poses[drawn]), angles, CELL
    assert float(fit_temperature(*args)) == pytest.approx(3, rel=0.1)


def test_priors_are_normalised_and_centred():
    mean, covariance = jnp.array([1.0, -0.5]), jnp.array([[0.6, 0.2], [0.2, 0.5]])
    gaussian = gaussian_prior(ANGLES, 12, CELL, mean=mean, covariance=covariance)
    estimate = softmax_expectation(gaussian, ANGLES, CELL)
    np.testing.assert_allclose(estimate.pose, [1.0, -0.5, 0.0], atol=1e-3)
    np.testing.assert_allclose(estimate.covariance[:2, :2], covariance, atol=1e-2)
    circle = jnp.linspace(-np.pi, np.pi, 361)[:-1]
    yaw = von_mises_prior(circle, 1, mean=3.1, concentration=50.0)
    want = stats.vonmises.logpdf(np.asarray(circle), 50.0, loc=3.1)
    got = np.asarray(yaw[:, 0, 0])
    np.testing.assert_allclose(got - got.max(), want - want.max(), atol=1e-3)
    disc = disc_prior(ANGLES, 4, CELL, mean=jnp.zeros(2), disc_radius=1.01)
    assert int((disc[0] > -100).sum()) == 13  # lattice points within two cells
    for prior in (
        gaussian,
        yaw,
        disc,
        disc_prior(ANGLES, 4, CELL, mean=mean + 99, disc_radius=1.0),
    ):
        assert np.isfinite(prior).all()
        assert float(jnp.exp(prior).sum()) == pytest.approx(1, abs=1e-3)
