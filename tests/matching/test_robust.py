"""Robust losses against the integrals that define them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate, special, stats

from posejax.matching.ransac import random_samples
from posejax.matching.refine import Manifold, implicit_step, inverse_information, total_loss
from posejax.matching.robust import (
    LOSSES,
    REACH,
    Noise,
    displacement_odds,
    fit_noise,
    loss_and_weight,
    mixture,
    wide_noise,
)


def test_the_marginalised_loss_integrates_its_weight():
    """MAGSAC++: the weight of a residual is an average over noise levels of its likelihood."""

    def weight(r):
        # 4 degrees of freedom: density ~ sigma^-4 exp(-r^2 / 2 sigma^2) over sigma in (r / k, 1).
        density = lambda s: s**-4 * np.exp(-(r**2) / (2 * s**2))  # noqa: E731
        return integrate.quad(density, r / REACH, 1)[0] * r**3

    def closed(r):
        return special.gammaincc(1.5, r * r / 2) - special.gammaincc(1.5, REACH**2 / 2)

    for r in (0.5, 1.5, 3.0):  # the closed form of the paper is that average
        ratio = weight(r) / weight(1.0)
        np.testing.assert_allclose(ratio, closed(r) / closed(1.0), rtol=1e-6)

    r = np.linspace(0, 1, 21) * 5.0
    full = integrate.quad(lambda x: x * closed(x), 0, REACH)[0]
    want = [integrate.quad(lambda x: x * closed(x), 0, x / 5 * REACH)[0] / full for x in r]
    got = LOSSES["marginalised"](np.float32(r**2), np.float32(5))
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_losses_go_from_zero_to_one_with_finite_slopes():
    square = np.array([0.0, 1e-20, 1e-6, 8.999, 9.0, 1e6, 1e30], np.float32)
    for score in LOSSES:
        value, slope = loss_and_weight(square, lambda s, score=score: LOSSES[score](s, 3.0))
        np.testing.assert_allclose(value[0], 0, atol=1e-6)
        np.testing.assert_allclose(value[4:], 1, atol=1e-5)
        assert np.isfinite(slope).all() and (np.asarray(slope) >= 0).all()
        assert slope[0] > 0 and not np.asarray(slope[5:]).any()
        curve = jax.grad(jax.grad(lambda s, score=score: LOSSES[score](s, 3.0)))(np.float32(0))
        assert np.isfinite(curve)


def test_the_implicit_step_never_raises_the_loss():
    """Between its minima the loss has inflections, where a Newton step leads anywhere."""
    data = jnp.linspace(-1, 1, 9) ** 3 * 3
    loss = functools.partial(LOSSES["marginalised"], threshold=jnp.asarray(1.0))
    line = Manifold(lambda x, step: x + step[0], 1)

    def both(x):
        def residuals(at):
            return at - data

        moved = implicit_step(x, residuals, line, jnp.ones(9), loss)[0]
        return [total_loss(residuals(at), jnp.ones(9), loss) for at in (x, moved)]

    before, after = jax.jit(jax.vmap(both))(jnp.linspace(-4, 4, 401))
    assert np.all(np.asarray(after) <= np.asarray(before) + 1e-5)
    assert np.sum(np.asarray(after) < np.asarray(before) - 1e-3) > 50  # and often lowers it


def test_the_mixture_is_the_likelihood_and_its_weight_the_chance_of_being_right():
    noise = Noise(np.float32(0.8), np.float32(0.7), np.float32(6))
    r = np.linspace(0, 6, 13)
    right = 0.7 * stats.norm.pdf(r, scale=0.8)
    wrong = 0.3 / 12
    value, slope = loss_and_weight(np.float32(r**2), lambda s: mixture(s, noise))
    want = -np.log(right + wrong)
    np.testing.assert_allclose(value, want - want[0], atol=2e-5)
    np.testing.assert_allclose(2 * 0.8**2 * slope, right / (right + wrong), atol=1e-5)


def test_noise_is_found_among_wrong_matches():
    rng = np.random.default_rng(0)
    wrong = rng.random(20_000) < 0.4
    residuals = np.where(wrong, rng.uniform(-20, 20, 20_000), 0.7 * rng.standard_normal(20_000))
    noise = wide_noise(np.float32(3))
    for _ in range(30):
        noise = fit_noise(residuals.astype(np.float32) ** 2, np.ones(20_000, np.float32), noise, 0)
    inside = 1 - wrong[np.abs(residuals) < noise.band].mean()
    np.testing.assert_allclose((noise.sigma, noise.share), (0.7, inside), rtol=0.02)


def test_a_long_displacement_is_odds_against_a_match():
    """The ratio of the densities that drew the matches: log-normal by uniform."""
    rng = np.random.default_rng(1)
    wrong = rng.random(20_000) < 0.4
    mean, sigma, extent = np.log(80), 0.6, 1500.0
    far = np.where(wrong, rng.uniform(1, extent, 20_000), rng.lognormal(mean, sigma, 20_000))
    far = far.astype(np.float32)
    odds = displacement_odds(far, (~wrong).astype(np.float32), wrong.astype(np.float32))
    want = stats.lognorm.pdf(far, sigma, scale=80) * extent
    np.testing.assert_allclose(odds, np.maximum(want, 1e-6), rtol=0.3, atol=1e-3)
    # The likelihood of residual and displacement tells right from wrong better than the residual.
    residuals = np.where(wrong, rng.uniform(-9, 9, 20_000), rng.standard_normal(20_000))
    square, ones = residuals.astype(np.float32) ** 2, np.ones(20_000, np.float32)
    chance = {}
    for name, displacement in (("blind", None), ("seeing", far)):
        noise = wide_noise(np.float32(3))
        noise = noise._replace(share=np.full(20_000, 0.8, np.float32))
        for _ in range(20):
            noise = fit_noise(square, ones, noise, 0, displacement)
        slope = loss_and_weight(square, lambda s, noise=noise: mixture(s, noise))[1]
        chance[name] = np.asarray(2 * noise.sigma**2 * slope)
        np.testing.assert_allclose((noise.sigma, noise.count), (1, (~wrong).sum()), rtol=0.03)
    assert chance["seeing"][wrong].sum() < 0.7 * chance["blind"][wrong].sum()
    assert chance["seeing"][~wrong].sum() > chance["blind"][~wrong].sum()


def test_a_fitted_noise_level_widens_the_covariance():
    """Student's: normal with a variance drawn from its posterior, an inverse gamma."""
    information = np.diag([4.0, 9.0]).astype(np.float32)
    draws = stats.invgamma.rvs(3.5, scale=3.5, size=400_000, random_state=0)  # 7 degrees of freedom
    got = inverse_information(information, jnp.asarray(7.0))
    np.testing.assert_allclose(got, np.linalg.inv(information) * draws.mean(), rtol=0.02, atol=1e-6)
    assert np.isfinite(inverse_information(information, jnp.asarray(-3.0))).all()


def test_samples_go_by_weight_and_never_repeat_a_match():
    """A third of the weight is a third of the draws; what has none is not drawn."""
    weights = jnp.concatenate([jnp.full(10, 0.9), jnp.full(20, 0.3), jnp.zeros(6)])
    drawn = np.asarray(random_samples(jax.random.key(0), weights, 4, 4000))
    assert drawn.min() >= 0 and drawn.max() < 30
    assert all(len(set(row)) == 4 for row in drawn.tolist())
    first = np.mean(drawn[:, 0] < 10)
    assert abs(first - 0.6) < 0.03
    few = np.asarray(random_samples(jax.random.key(1), weights * (np.arange(36) < 4), 4, 8))
    assert (np.sort(few, axis=1) == np.arange(4)).all(), "all that there are, once each"
