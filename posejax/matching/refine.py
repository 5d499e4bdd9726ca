"""Levenberg-Marquardt on manifolds with a robust loss, its derivative, and its covariance."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.geometry import matmul
from posejax.matching.robust import (
    Loss,
    Noise,
    fit_noise,
    loss_and_weight,
    mixture,
    wide_noise,
)


class Manifold(NamedTuple):
    """How a model moves: `move(model, step)` with a step of `size` numbers, zero for no move."""

    move: Callable[[Any, Array], Any]
    size: int


Residuals = Callable[[Any], Array]
"""Of a model: [n] or, for two-dimensional errors, [n, 2]."""


def squared(residuals: Array) -> Array:
    return residuals**2 if residuals.ndim == 1 else jnp.sum(residuals**2, axis=-1)


def total_loss(residuals: Array, weights: Array, loss: Loss) -> Array:
    return jnp.sum(weights * loss(squared(residuals)))


def levenberg_marquardt(
    model: Any,
    residuals: Residuals,
    manifold: Manifold,
    weights: Array,
    loss: Loss,
    steps: int,
) -> tuple[Any, Array]:
    """The model after a fixed number of trials, each accepted if it lowers the loss; and the loss.

    The weight of a match is that of the loss at its present residual (iteratively reweighted).
    """
    start = total_loss(residuals(model), weights, loss)
    zero = jnp.zeros(manifold.size, start.dtype)

    def trial(_, state):
        model, total, damping = state

        def moved(step):
            return residuals(manifold.move(model, step))

        value, slope = moved(zero), jax.jacfwd(moved)(zero)
        _, robust = loss_and_weight(squared(value), loss)
        weight = (weights * robust).reshape(-1, *(1,) * (value.ndim - 1))
        weight = jnp.broadcast_to(weight, value.shape).reshape(-1)
        value, slope = value.reshape(-1), slope.reshape(-1, manifold.size)
        normal = matmul(slope.T * weight[None], slope)
        step = _damped_solve(normal, matmul(slope.T, weight * value), damping)
        candidate = manifold.move(model, -step)
        lower = total_loss(residuals(candidate), weights, loss)
        better = lower < total
        model = jax.tree.map(lambda new, old: jnp.where(better, new, old), candidate, model)
        damping = jnp.where(better, damping / 10, damping * 10)
        return model, jnp.where(better, lower, total), jnp.clip(damping, 1e-7, 1e3)

    damping = jnp.asarray(1e-3, start.dtype)
    model, total, _ = lax.fori_loop(0, steps, trial, (model, start, damping))
    return model, total


def _damped_solve(matrix: Array, right: Array, damping: Array) -> Array:
    """(A + damping diag(A))^-1 b, scaled so that units do not matter and nothing is singular."""
    scale = jnp.sqrt(jnp.diagonal(matrix))
    inverse = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0)
    eye = jnp.eye(len(right), dtype=matrix.dtype)
    scaled = matrix * inverse[:, None] * inverse[None] + (damping + 1e-6) * eye
    step = inverse * jnp.linalg.solve(scaled, inverse * right)
    return jnp.where(jnp.all(jnp.isfinite(step)), step, 0)


def likeliest(
    model: Any,
    residuals: Residuals,
    manifold: Manifold,
    seen: Callable[[Any], tuple[Array, Array]],
    threshold: Array,
    rounds: int = 5,
) -> tuple[Any, Noise]:
    """The model and the noise that make scalar residuals likeliest, near a model.

    Rounds of a few Levenberg-Marquardt steps and one of expectation maximisation. `seen` gives the
    weights and the displacements [n] of the matches at a model.
    """

    def turn(_, state):
        model, noise = state
        weights, _ = seen(model)
        model, _ = levenberg_marquardt(
            model, residuals, manifold, weights, lambda s: mixture(s, noise), 3
        )
        square, displacement = squared(residuals(model)), seen(model)[1]
        return model, fit_noise(square, weights, noise, manifold.size, displacement)

    noise = wide_noise(threshold)
    noise = noise._replace(share=jnp.broadcast_to(noise.share, seen(model)[1].shape))
    return lax.fori_loop(0, rounds, turn, (model, noise))


def implicit_step(
    model: Any, residuals: Residuals, manifold: Manifold, weights: Array, loss: Loss
) -> tuple[Any, Array]:
    """The same model, differentiable with respect to whatever `residuals` and `weights` contain.

    At a minimum the gradient g of the loss vanishes whatever the data are, so that the minimum
    moves by -H^-1 dg (implicit function theorem): one Newton step with a constant Hessian has that
    derivative, and hardly moves a model that is a minimum already.

    Args:
      model: a minimum; what it was found from is cut off. Where it is none, or the Hessian is
        nearly singular, the step could lead anywhere: it is taken only if it lowers the loss.

    Returns:
      The model, and the Hessian [size, size] without a derivative.
    """
    model = lax.stop_gradient(model)

    def total(step):
        # The loss of the truncated score jumps in no value, only in slope: constant beyond it.
        return total_loss(residuals(manifold.move(model, step)), weights, loss)

    zero = jnp.zeros(manifold.size, weights.dtype)
    slope = jax.grad(total)(zero)
    hessian = lax.stop_gradient(jax.hessian(total)(zero))
    step = _newton_direction(hessian, slope)
    found = lax.stop_gradient(step)
    taken = jnp.where(total(-found) <= total(zero), found, 0)
    return manifold.move(model, -(lax.stop_gradient(taken) + step - found)), hessian


def inverse_information(hessian: Array, freedom: Array | float | None = None) -> Array:
    """Covariance of the likeliest model; along what nothing constrains, a large variance.

    The second derivative of the negative log-likelihood at the data themselves: where matches may
    be right or wrong it is smaller than the normal matrix of the right ones (Louis 1982).

    With `freedom`, the matches less the fitted numbers, the noise level is one that was fitted to
    the same residuals: averaged over its posterior (an inverse gamma) the normal distribution of
    the model is Student's, whose covariance is larger by freedom / (freedom - 2).
    """
    # In units of each step's own precision: a short baseline tells little about the translation.
    scale = jnp.sqrt(jnp.maximum(jnp.abs(jnp.diagonal(hessian)), 1e-12))
    values, vectors = jnp.linalg.eigh(hessian / (scale[:, None] * scale[None]))
    covariance = matmul(vectors / jnp.maximum(values, 1e-6)[None], vectors.T)
    if freedom is not None:
        freedom = jnp.maximum(freedom, 3)  # from two on there is no variance
        covariance = covariance * freedom / (freedom - 2)
    return covariance / (scale[:, None] * scale[None])


def _newton_direction(hessian: Array, slope: Array) -> Array:
    """H^-1 g where H is positive definite, by its eigenvectors; zero along all other directions."""
    scale = jnp.sqrt(jnp.maximum(jnp.abs(jnp.diagonal(hessian)), 1e-12))
    values, vectors = jnp.linalg.eigh(hessian / (scale[:, None] * scale[None]))
    usable = values > 1e-6
    inverse = jnp.where(usable, 1 / jnp.where(usable, values, 1), 0)
    return matmul(vectors, inverse * matmul(vectors.T, slope / scale)) / scale
