"""Expectation, likelihood, peak fit and lattice: brute force, closed forms, singular points."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posejax.registration import (
    argmax_pose,
    assess,
    disc_prior,
    expectation_loss,
    fit_temperature,
    gaussian_peak,
    index_to_pose,
    lattice_poses,
    lock_on_score,
    log_probabilities,
    orientation_expectation,
    pose_in_window,
    pose_nll,
    pose_to_index,
    softmax_expectation,
    translation_expectation,
)

CELL = 0.25
ANGLES = jnp.deg2rad(jnp.linspace(-8.0, 8.0, 9))
RADIUS = 5


def gaussian_volume(mean, covariance, angles=ANGLES, radius=RADIUS):
    """log-density of a Gaussian over (x, y, yaw) on the lattice, in float64 then float32."""
    poses = np.asarray(lattice_poses(angles, radius, CELL), np.float64)
    d = poses - np.asarray(mean)
    return jnp.asarray(
        -0.5 * np.einsum("...a,ab,...b", d, np.linalg.inv(covariance), d), jnp.float32
    )


@settings(max_examples=50, deadline=None)
@given(st.tuples(st.floats(0, 8), st.floats(0, 10), st.floats(0, 10)), st.integers(-2, 2))
def test_index_and_pose_are_inverse(index, turns):
    index = np.array(index, np.float32)
    pose = index_to_pose(index, ANGLES, RADIUS, CELL)
    pose = pose.at[2].add(2 * np.pi * turns)  # whole turns name the same pose
    np.testing.assert_allclose(pose_to_index(pose, ANGLES, RADIUS, CELL), index, atol=1e-4)


def test_lattice_order():
    poses = lattice_poses(ANGLES, RADIUS, CELL)
    for k, i, j in [(0, 0, 0), (8, 10, 3), (4, 5, 5)]:
        want = [(j - RADIUS) * CELL, (i - RADIUS) * CELL, ANGLES[k]]
        np.testing.assert_allclose(poses[k, i, j], want, atol=1e-6)
        got = index_to_pose(jnp.array([k, i, j]), ANGLES, RADIUS, CELL)
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_expectation_by_brute_force(rng):
    volume = rng.standard_normal((9, 11, 11))
    p = np.exp(volume / 0.5)
    p /= p.sum()
    poses = np.asarray(lattice_poses(ANGLES, RADIUS, CELL), np.float64)
    yaw = np.arctan2((p * np.sin(poses[..., 2])).sum(), (p * np.cos(poses[..., 2])).sum())
    mean = np.array([(p * poses[..., 0]).sum(), (p * poses[..., 1]).sum(), yaw])
    d = poses - mean
    got = softmax_expectation(jnp.asarray(volume, jnp.float32), ANGLES, CELL, temperature=0.5)
    np.testing.assert_allclose(got.pose, mean, atol=1e-6)
    want = np.einsum("kij,kija,kijb->ab", p, d, d)
    np.testing.assert_allclose(got.covariance, want, atol=1e-6)


def test_expectation_over_the_seam():
    angles = jnp.linspace(-np.pi, np.pi, 37)[:-1]
    volume = jnp.full((36, 3, 3), -30.0).at[35, 1, 1].set(5.0).at[1, 1, 1].set(5.0)
    got = softmax_expectation(volume, angles, CELL)  # -190 and -170 degrees
    assert abs(abs(float(got.yaw)) - np.pi) < 1e-4
    assert float(got.covariance[2, 2]) == pytest.approx(np.deg2rad(10) ** 2, rel=1e-3)


@pytest.mark.parametrize(
    "volume",
    [
        jnp.zeros((36, 5, 5)),
        jnp.zeros((36, 5, 5)).at[3, 2, 2].set(1e6),
        jnp.full((36, 5, 5), -1e30),
        jnp.zeros((1, 5, 5)),
    ],
    ids=["uniform circle", "one cell", "very low", "one yaw"],
)
def test_gradients_finite_at_singular_volumes(volume):
    angles = jnp.linspace(-np.pi, np.pi, len(volume) + 1)[:-1]

    def everything(v):
        soft, peak = softmax_expectation(v, angles, CELL), gaussian_peak(v, angles, CELL)
        nll = pose_nll(v, jnp.array([0.1, -9.0, 0.3]), angles, CELL)
        loss = expectation_loss(soft.pose, soft.pose)
        return (
            soft.pose.sum()
            + soft.covariance.sum()
            + peak.pose.sum()
            + nll
            + loss
            + peak.covariance.sum()
        )

    value, grad = jax.jit(jax.value_and_grad(everything))(volume)
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_nll_interpolates_log_probabilities(rng):
    volume = jnp.asarray(rng.standard_normal((9, 11, 11)), jnp.float32)
    log_p = np.asarray(log_probabilities(volume), np.float64)
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-5)
    index = np.array([3.25, 7.5, 2.125])
    low = np.floor(index).astype(int)
    want = 0.0
    for corner in itertools.product((0, 1), repeat=3):
        weight = np.prod([f if c else 1 - f for c, f in zip(corner, index - low, strict=True)])
        want -= weight * log_p[tuple(low + corner)]
    pose = index_to_pose(jnp.asarray(index), ANGLES, RADIUS, CELL)
    assert float(pose_nll(volume, pose, ANGLES, CELL)) == pytest.approx(want, abs=1e-4)


def test_nll_at_and_beyond_the_border(rng):
    volume = jnp.asarray(rng.standard_normal((9, 11, 11)), jnp.float32)
    log_p = log_probabilities(volume)
    corner = index_to_pose(jnp.array([8, 10, 0]), ANGLES, RADIUS, CELL)
    beyond = corner + jnp.array([-3.0, 7.0, 0.5])
    for pose in (corner, beyond):
        assert float(pose_nll(volume, pose, ANGLES, CELL)) == pytest.approx(
            -float(log_p[8, 10, 0]), abs=1e-4
        )
    assert pose_in_window(corner, ANGLES, RADIUS, CELL)
    assert not pose_in_window(beyond, ANGLES, RADIUS, CELL)


def test_nll_is_periodic_over_a_full_circle(rng):
    angles = jnp.linspace(0, 2 * np.pi, 13)[:-1]
    volume = jnp.asarray(rng.standard_normal((12, 3, 3)), jnp.float32)
    log_p = log_probabilities(volume)
    between = jnp.array([0.0, 0.0, angles[-1] + np.pi / 12])  # half way from the last to the first
    want = -0.5 * (log_p[11, 1, 1] + log_p[0, 1, 1])
    assert float(pose_nll(volume, between, angles, CELL)) == pytest.approx(float(want), abs=1e-4)
    assert pose_in_window(between, angles, 1, CELL)


@settings(max_examples=25, deadline=None)
@given(st.floats(-1.2, 1.2), st.floats(-1.2, 1.2), st.floats(-0.13, 0.13), st.floats(-0.8, 0.8))
def test_peak_of_a_gaussian_is_exact(x, y, yaw, rho):
    s = np.array([0.3, 0.2, 0.05])
    correlation = np.array([[1, rho, 0.2], [rho, 1, -0.1], [0.2, -0.1, 1]])
    covariance = correlation * s[:, None] * s[None, :]
    got = gaussian_peak(gaussian_volume((x, y, yaw), covariance), ANGLES, CELL)
    # A strongly tilted Gaussian can peak up to a cell and more from its best lattice point.
    if np.abs(rho) < 0.6:
        np.testing.assert_allclose(got.pose, [x, y, yaw], atol=2e-3)
    np.testing.assert_allclose(got.covariance, covariance, rtol=2e-2, atol=1e-4)


def test_peak_stays_in_its_neighbourhood(rng):
    for _ in range(20):
        volume = jnp.asarray(rng.standard_normal((4, 5, 5)) * 10, jnp.float32)
        angles = ANGLES[:4]
        got = gaussian_peak(volume, angles, CELL)
        index = pose_to_index(got.pose, angles, 2, CELL)
        best = pose_to_index(argmax_pose(volume, angles, CELL), angles, 2, CELL)
        assert (np.abs(index - best) <= 2 + 1e-4).all()  # 1 from the centre, itself 1 from the best
        assert (index >= -1e-4).all() and (index <= np.array([3, 4, 4]) + 1e-4).all()
        assert np.linalg.eigvalsh(np.asarray(got.covariance, np.float64))[0] > 0


def test_peak_at_the_border_and_over_the_seam():
    cov = np.diag([0.09, 0.09, 0.0025])
    got = gaussian_peak(gaussian_volume((1.25, -1.2, 0.139), cov), ANGLES, CELL)
    np.testing.assert_allclose(got.pose, [1.25, -1.2, 0.139], atol=2e-3)
    angles = jnp.linspace(0, 2 * np.pi, 37)[:-1]
    centred = gaussian_volume((0.1, 0.0, 0.05), cov, angles=angles - np.pi)
    got = gaussian_peak(jnp.roll(centred, 18, 0), angles, CELL)  # index 0 now lies mid-peak
    np.testing.assert_allclose(got.pose, [0.1, 0.0, 0.05], atol=2e-3)


K_INDEX, I_INDEX, J_INDEX = np.meshgrid(*map(np.arange, (9, 11, 11)), indexing="ij")
EXCLUDED = {
    "left of the peak": J_INDEX < 5,
    "right of the peak": J_INDEX > 5,
    "two sides": (J_INDEX < 5) | (I_INDEX < 5),
    "two axes": (J_INDEX < 5) | (K_INDEX > 4),
    "a cell away": J_INDEX < 4,
}
peak_of = jax.jit(lambda volume, valid: gaussian_peak(volume, ANGLES, 1.0, valid=valid))


@pytest.mark.parametrize("mark", [-1e4, -np.inf, -1.0])
@pytest.mark.parametrize("where", EXCLUDED)
def test_excluded_cells_do_not_enter_the_peak(mark, where):
    """Known before as: x off by half a cell, sigma 0.01 instead of 2."""
    volume = -((J_INDEX - 5.0) ** 2 + (I_INDEX - 5.2) ** 2 + (K_INDEX - 4) ** 2) / 8
    cut = EXCLUDED[where]
    if mark == -1:  # correlation coefficients, of which a temperature makes a log-density
        marked = np.where(cut, mark, 0.9 + volume / 100)
        got = gaussian_peak(marked, ANGLES, 1.0, temperature=0.01)
    else:
        got = gaussian_peak(np.where(cut, volume + mark, volume), ANGLES, 1.0)
    np.testing.assert_allclose(got.pose, [0.0, 0.2, 0.0], atol=2e-3)
    sigma = np.sqrt(np.diag(got.covariance))
    np.testing.assert_allclose(sigma, [2, 2, 2 * np.deg2rad(2)], rtol=2e-3)
    named = peak_of(np.where(cut, 7.0, volume).astype(np.float32), ~cut)
    np.testing.assert_allclose(named.pose, [0.0, 0.2, 0.0], atol=2e-3)


def test_peak_beside_the_disc_of_a_prior():
    scores = gaussian_volume((-0.25, 0.1, 0.0), np.diag([0.25, 0.25, 0.004]))
    prior = disc_prior(ANGLES, RADIUS, CELL, mean=np.array([1.0, 0.0]), disc_radius=1.3)
    got = gaussian_peak(scores + prior, ANGLES, CELL)
    np.testing.assert_allclose(got.pose, [-0.25, 0.1, 0.0], atol=2e-2)
    np.testing.assert_allclose(np.sqrt(np.diag(got.covariance))[:2], 0.5, rtol=0.1)


def test_axes_that_nothing_determines_are_not_refined():
    volume = -((J_INDEX - 5.3) ** 2 + (I_INDEX - 5.2) ** 2 + (K_INDEX - 4.0) ** 2) / 8
    got = gaussian_peak(np.where(J_INDEX == 5, volume, -np.inf), ANGLES, 1.0)
    np.testing.assert_allclose(got.pose, [0.0, 0.2, 0.0], atol=2e-3)
    np.testing.assert_allclose(got.covariance[0, 0], 11**2 / 12, rtol=1e-3)  # the whole window
    np.testing.assert_allclose(np.sqrt(got.covariance[1, 1]), 2, rtol=2e-3)


def test_large_uncalibrated_scores_are_refined():
    """A drop of more than 1e4 on all sides is a sharp peak, not a prior."""
    volume = -1e5 * ((J_INDEX - 5.3) ** 2 + (I_INDEX - 5.2) ** 2 + (K_INDEX - 4.0) ** 2)
    np.testing.assert_allclose(gaussian_peak(volume, ANGLES, 1.0).pose, [0.3, 0.2, 0], atol=2e-3)


def test_minus_infinity_leaves_all_estimates_finite():
    """Values and gradients, at poses inside, on the border of and within the excluded part."""
    volume = jnp.asarray(-((J_INDEX - 5.0) ** 2 + (I_INDEX - 5.2) ** 2) / 8, jnp.float32)
    volume = jnp.where(jnp.asarray(J_INDEX < 5), -jnp.inf, volume)

    def everything(v):
        soft, peak, report = (
            softmax_expectation(v, ANGLES, CELL),
            gaussian_peak(v, ANGLES, CELL),
            assess(v, ANGLES, CELL),
        )
        nll = [pose_nll(v, jnp.array([x, 0.1, 0.0]), ANGLES, CELL) for x in (0.5, 0, -0.1, -0.5)]
        spread = soft.covariance.sum(), peak.covariance.sum(), report.sigma_major, report.sigma_yaw
        shape = (
            report.entropy,
            report.peak_ratio,
            lock_on_score(v, ANGLES, CELL, 0.5 * jnp.eye(3)[0]),
        )
        return jnp.stack([*soft.pose, *peak.pose, *nll, *spread, *shape])

    values, pull = jax.vjp(jax.jit(everything), volume)
    assert np.isfinite(values).all()
    assert np.isfinite(pull(jnp.ones_like(values))[0]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_never_passes_as_an_estimate(bad):
    volume = jnp.zeros((9, 11, 11)).at[4, 5, 5].set(20.0).at[0, 0, 0].set(bad)
    for estimate in (softmax_expectation, gaussian_peak):
        got = estimate(volume, ANGLES, CELL)
        assert np.isnan(got.pose).all() and np.isnan(got.covariance).all()
    assert np.isnan(pose_nll(volume, jnp.zeros(3), ANGLES, CELL))
    if np.isnan(bad):
        assert np.isnan(argmax_pose(volume, ANGLES, CELL)).all()
        assert np.isnan(lock_on_score(volume, ANGLES, CELL, jnp.array([0.5, 0, 0])))
    report = assess(volume, ANGLES, CELL)
    assert report.abstain
    assert np.isnan([report.entropy, report.sigma_major, report.sigma_yaw, report.peak_ratio]).all()
    assert np.isnan(fit_temperature(volume[None], jnp.zeros((1, 3)), ANGLES, CELL))
    circle = jnp.linspace(0, 2 * np.pi, 13)[:-1]
    assert not pose_in_window(jnp.array([0.0, 0.0, np.nan]), circle, RADIUS, CELL)


def test_peak_is_differentiable():
    """Moving a Gaussian moves its peak: d pose / d mean = identity through the fit."""
    poses = lattice_poses(ANGLES, RADIUS, CELL)
    scale = jnp.array([0.3, 0.25, 0.05])

    def peak(mean):
        d = (poses - mean.reshape(1, 1, 1, 3)) / scale.reshape(1, 1, 1, 3)
        return gaussian_peak(-0.5 * (d**2).sum(-1), ANGLES, CELL).pose

    np.testing.assert_allclose(
        jax.jit(jax.jacobian(peak))(jnp.array([0.3, -0.4, 0.03])), np.eye(3), atol=2e-2
    )


def test_decoupled_expectations_and_loss(rng):
    cost = rng.standard_normal((11, 11))
    p = np.exp(cost) / np.exp(cost).sum()
    offset = (np.arange(11) - 5) * CELL
    want = [(p.sum(0) * offset).sum(), (p.sum(1) * offset).sum()]
    np.testing.assert_allclose(translation_expectation(jnp.asarray(cost), CELL), want, atol=1e-5)
    logits = jnp.zeros(9).at[2].set(50.0)
    assert float(orientation_expectation(logits, ANGLES)) == pytest.approx(
        float(ANGLES[2]), abs=1e-6
    )
    pose, truth = jnp.array([1.0, 2.0, np.pi - 0.1]), jnp.array([0.5, 2.25, -np.pi + 0.1])
    assert float(expectation_loss(pose, truth)) == pytest.approx(0.75 + 0.2, abs=1e-5)
    got = expectation_loss(pose, truth, xy_weight=2.0, yaw_weight=10.0, norm="l2")
    assert float(got) == pytest.approx(2 * 0.3125 + 10 * 0.04, abs=1e-4)


def test_wrong_shapes_are_named():
    for shape in [(3, 4, 4), (3, 5, 7), (5, 5), (2, 3, 5, 5)]:
        with pytest.raises(ValueError, match="pose volume"):
            softmax_expectation(jnp.zeros(shape), ANGLES[:3], CELL)
