"""Robust losses of residuals in pixels: truncated, and marginalised over the noise level.

A loss rho(r^2) grows from 0 to 1 at the threshold and stays there, so that a sum of losses counts
matches that do not fit. Its derivative with respect to r^2 is the weight of a reweighted fit.
"""

import math
from typing import Literal

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


def loss_and_weight(square: Array, threshold: Array, score: Score) -> tuple[Array, Array]:
    """rho and d rho / d (r^2), elementwise."""
    rho = {"truncated": truncated, "marginalised": marginalised}[score]
    return jax.jvp(lambda s: rho(s, threshold), (square,), (jnp.ones_like(square),))


LOSSES = {"truncated": truncated, "marginalised": marginalised}
