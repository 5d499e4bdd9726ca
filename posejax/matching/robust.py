"""Robust losses of residuals in pixels: truncated, and marginalised over the noise level.

A loss rho(r^2) grows from 0 to 1 at the threshold and stays there, so that a sum of losses counts
matches that do not fit. Its derivative with respect to r^2 is the weight of a reweighted fit.
These find a model; the likelihood of right and wrong matches refines it and tells its uncertainty.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import erf

Score = Literal["truncated", "marginalised"]
# Largest residual in units of the largest standard deviation: the 99 % quantile of chi with 4
# degrees of freedom (both points of a match), as in MAGSAC++.
REACH = 3.6437171


def truncated(square: Array, threshold: Array) -> Array:
    """min(r^2 / threshold^2, 1): the score of MSAC (Torr and Zisserman 2000)."""
    return jnp.minimum(square / threshold**2, 1)


def marginalised(square: Array, threshold: Array) -> Array:
    """The truncated likelihood averaged over all noise levels up to threshold / 3.64.

    MAGSAC++ (Barath et al., CVPR 2020), equation 8 with 4 degrees of freedom, in closed form:
    with x = r^2 / (2 sigma^2), rho is proportional to
    gamma(5/2, x) / 2 + (x / 2) (Gamma(3/2, x) - Gamma(3/2, x_max)).
    It needs no exact threshold: one twice as large as the noise asks for does little harm.
    """
    limit = REACH**2 / 2
    x = jnp.minimum(square / threshold**2, 1) * limit
    return _marginal(x) / _marginal_limit(limit)


def _marginal(x: Array) -> Array:
    # The root's derivative at zero is infinite, that of the whole is not.
    root = jnp.sqrt(jnp.where(x > 1e-12, x, 1e-12))
    lower = math.sqrt(math.pi) / 2 * erf(root) - root * jnp.exp(-x)
    lower5 = 1.5 * lower - x * root * jnp.exp(-x)
    return lower5 / 2 + x / 2 * (_tail() - lower)


def _lower(x: float) -> float:
    """gamma(3/2, x)."""
    return math.sqrt(math.pi) / 2 * math.erf(math.sqrt(x)) - math.sqrt(x) * math.exp(-x)


def _tail() -> float:
    return _lower(REACH**2 / 2)


def _marginal_limit(x: float) -> float:
    return (1.5 * _lower(x) - x * math.sqrt(x) * math.exp(-x)) / 2


LOSSES = {"truncated": truncated, "marginalised": marginalised}

Loss = Callable[[Array], Array]
"""Of squared residuals, elementwise."""


def loss_and_weight(square: Array, loss: Loss) -> tuple[Array, Array]:
    """rho and d rho / d (r^2), elementwise."""
    return jax.jvp(loss, (square,), (jnp.ones_like(square),))


class Noise(NamedTuple):
    """Residuals are normal with probability `share`, else uniform between -band and band.

    Attributes:
      sigma: standard deviation of the right matches' residuals.
      share: of the right ones among the matches within the band; one number, or [n] of those with
        the displacement of each match.
      band: three thresholds: what lies between one and three tells how many wrong ones lie below.
      count: of right matches that `sigma` was fitted to.
    """

    sigma: Array
    share: Array
    band: Array
    count: Array | float = 0.0

    @property
    def odds(self) -> Array:
        """Of being right, at residual zero."""
        peak = 1 / (math.sqrt(2 * math.pi) * self.sigma)
        return self.share / (1 - self.share) * peak * 2 * self.band


def wide_noise(threshold: Array) -> Noise:
    """Where `fit_noise` begins: nothing below the threshold is turned down yet."""
    none = jnp.zeros_like(threshold)
    return Noise(threshold / 2, jnp.full_like(threshold, 0.8), 3 * threshold, none)


def mixture(square: Array, noise: Noise) -> Array:
    """Negative log-likelihood of a match that is right or wrong, zero at residual zero.

    Twice sigma^2 times its derivative is the probability that the match is right.
    """
    odds = noise.odds
    return jnp.log1p(odds) - jnp.log1p(odds * jnp.exp(-square / (2 * noise.sigma**2)))


def fit_noise(
    square: Array, weights: Array, noise: Noise, freedom: int, displacement: Array | None = None
) -> Noise:
    """One step of expectation maximisation, from residuals of a model with `freedom` numbers.

    One more match, with a residual of a ninth of the band, stands in for what is known beforehand:
    it keeps the variance of a handful of matches, which fit whatever they are, from vanishing.
    The deviation is at most half of a threshold (a sixth of the band): a wider one could not be
    told from the uniform density of the wrong matches.
    With the displacements [n] of the matches (positive) the share is that of each of them.
    """
    inside = weights * (square < noise.band**2)
    right = inside * 2 * noise.sigma**2 * loss_and_weight(square, lambda s: mixture(s, noise))[1]
    count = jnp.sum(right)
    variance = jnp.sum(right * square) + (noise.band / 9) ** 2
    variance = variance / jnp.maximum(count - freedom + 1, 1)
    share = jnp.clip(count / jnp.maximum(jnp.sum(inside), 1e-6), 0.02, 0.9999)
    sigma = jnp.clip(jnp.sqrt(variance), noise.band / 3000, noise.band / 6)
    if displacement is not None:
        odds = share / (1 - share) * displacement_odds(displacement, right, weights - right)
        share = jnp.clip(odds / (1 + odds), 1e-6, 0.9999)
    return noise._replace(sigma=sigma, share=share, count=count)


def displacement_odds(displacement: Array, right: Array, wrong: Array) -> Array:
    """Density [n] of the right matches at a displacement, by that of the wrong ones.

    A wrong partner lies anywhere in the image, so that the residual r across its epipolar line and
    the displacement d along it are both uniform; the displacements of right ones are those of the
    scene's depths, and gather. With a share s of right matches the likelihood of (r, d) is
    s N(r; sigma) f(d) + (1 - s) / (2 band) g(d): that of r alone, with the odds of being right
    times f / g. It matters to the covariance: the residual of a large displacement turns fastest
    with the pose, so that wrong matches with one pull it most, and then fit. Here f is
    log-normal, by the moments of the right ones with one more of variance 1 beside them, and
    g is uniform from 0 to twice the mean of the wrong ones (one more there, of the right
    ones' mean).
    """
    count = jnp.maximum(jnp.sum(right), 1e-6)
    x = jnp.log(displacement)
    mean = jnp.sum(right * x) / count
    variance = (jnp.sum(right * (x - mean) ** 2) + 1) / (count + 1)
    usual = jnp.sum(right * displacement) / count
    extent = 2 * (jnp.sum(wrong * displacement) + usual) / (jnp.sum(wrong) + 1)
    density = jnp.exp(-((x - mean) ** 2) / (2 * variance)) / jnp.sqrt(2 * math.pi * variance)
    return jnp.maximum(density / displacement * extent, 1e-6)
