"""Levenberg-Marquardt on manifolds with a robust loss, its derivative, and its covariance."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.geometry import matmul
from posejax.matching.robust import LOSSES, Score, loss_and_weight


class Manifold(NamedTuple):
    """How a model moves: `move(model, step)` with a step of `size` numbers, zero for no move."""

    move: Callable[[Any, Array], Any]
    size: int


Residuals = Callable[[Any], Array]
"""Of a model: [n] or, for two-dimensional errors, [n, 2]."""


def squared(residuals: Array) -> Array:
    return residuals**2 if residuals.ndim == 1 else jnp.sum(residuals**2, axis=-1)


def total_loss(residuals: Array, weights: Array, threshold: Array, score: Score) -> Array:
    return jnp.sum(weights * LOSSES[score](squared(residuals), threshold))


def levenberg_marquardt(
    model: Any,
    residuals: Residuals,
    manifold: Manifold,
    weights: Array,
    threshold: Array,
    score: Score,
    steps: int,
) -> tuple[Any, Array]:
    """The model after a fixed number of trials, each accepted if it lowers the loss; and the loss.

    The weight of a match is that of the loss at its present residual (iteratively reweighted).
    """
    start = total_loss(residuals(model), weights, threshold, score)
    zero = jnp.zeros(manifold.size, start.dtype)

    def trial(_, state):
        model, loss, damping = state

        def moved(step):
            return residuals(manifold.move(model, step))

        value, slope = moved(zero), jax.jacfwd(moved)(zero)
        _, robust = loss_and_weight(squared(value), threshold, score)
        weight = (weights * robust).reshape(-1, *(1,) * (value.ndim - 1))
        weight = jnp.broadcast_to(weight, value.shape).reshape(-1)
        value, slope = value.reshape(-1), slope.reshape(-1, manifold.size)
        normal = matmul(slope.T * weight[None], slope)
        step = _damped_solve(normal, matmul(slope.T, weight * value), damping)
        candidate = manifold.move(model, -step)
        lower = total_loss(residuals(candidate), weights, threshold, score)
        better = lower < loss
        model = jax.tree.map(lambda new, old: jnp.where(better, new, old), candidate, model)
        damping = jnp.where(better, damping / 10, damping * 10)
        return model, jnp.where(better, lower, loss), jnp.clip(damping, 1e-7, 1e3)

    damping = jnp.asarray(1e-3, start.dtype)
    model, loss, _ = lax.fori_loop(0, steps, trial, (model, start, damping))
    return model, loss


def _damped_solve(matrix: Array, right: Array, damping: Array) -> Array:
    """(A + damping diag(A))^-1 b, scaled so that units do not matter and nothing is singular."""
    scale = jnp.sqrt(jnp.diagonal(matrix))
    inverse = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0)
    eye = jnp.eye(len(right), dtype=matrix.dtype)
    scaled = matrix * inverse[:, None] * inverse[None] + (damping + 1e-6) * eye
    step = inverse * jnp.linalg.solve(scaled, inverse * right)
    return jnp.where(jnp.all(jnp.isfinite(step)), step, 0)


def implicit_step(
    model: Any,
    residuals: Residuals,
    manifold: Manifold,
    weights: Array,
    threshold: Array,
    score: Score,
) -> Any:
    """The same model, differentiable with respect to whatever `residuals` and `weights` contain.

    At a minimum the gradient g of the loss vanishes whatever the data are, so that the minimum
    moves by -H^-1 dg (implicit function theorem): one Newton step with a constant Hessian has that
    derivative, and hardly moves a model that is a minimum already.

    Args:
      model: a minimum; what it was found from is cut off. Where it is none, or the Hessian is
        nearly singular, the step could lead anywhere: it is taken only if it lowers the loss.
    """
    model = lax.stop_gradient(model)

    def loss(step):
        value = squared(residuals(manifold.move(model, step)))
        # The loss of the truncated score jumps in no value, only in slope: constant beyond it.
        return jnp.sum(weights * LOSSES[score](value, threshold))

    zero = jnp.zeros(manifold.size, jnp.result_type(threshold, jnp.float32))
    slope = jax.grad(loss)(zero)
    hessian = lax.stop_gradient(jax.hessian(loss)(zero))
    step = _newton_direction(hessian, slope)
    found = lax.stop_gradient(step)
    taken = jnp.where(loss(-found) <= loss(zero), found, 0)
    return manifold.move(model, -(lax.stop_gradient(taken) + step - found))


def _newton_direction(hessian: Array, slope: Array) -> Array:
    """H^-1 g where H is positive definite, by its eigenvectors; zero along all other directions."""
    scale = jnp.sqrt(jnp.maximum(jnp.abs(jnp.diagonal(hessian)), 1e-12))
    values, vectors = jnp.linalg.eigh(hessian / (scale[:, None] * scale[None]))
    usable = values > 1e-6
    inverse = jnp.where(usable, 1 / jnp.where(usable, values, 1), 0)
    return matmul(vectors, inverse * matmul(vectors.T, slope / scale)) / scale


def residual_covariance(
    model: Any,
    residuals: Residuals,
    manifold: Manifold,
    weights: Array,
    threshold: Array,
    score: Score,
) -> Array:
    """Covariance [size, size] of the step from the estimate to the truth, for scalar residuals.

    A^-1 (sum_i g_i g_i^T) A^-1 with g_i the gradient of the loss of match i and A the mean second
    derivative of the loss times J^T W J over the inliers (Huber 1967): it follows from the matches
    themselves and needs no noise level. g_i is divided by one minus the leverage of the match (HC3,
    MacKinnon and White 1985): a wrong match that fits by chance is often the one that a direction
    hangs on, and then has a small residual for that reason. Directions that nothing constrains get
    a large variance.
    """
    zero = jnp.zeros(manifold.size, jnp.result_type(threshold, jnp.float32))

    def moved(step):
        return residuals(manifold.move(model, step))

    value, slope = moved(zero), jax.jacfwd(moved)(zero)
    inlier = ((value**2 < threshold**2) & (weights > 0)).astype(value.dtype)

    def loss(r):
        return LOSSES[score](r**2, threshold)

    psi, bend = jax.vmap(jax.grad(loss))(value), jax.vmap(jax.grad(jax.grad(loss)))(value)
    count = jnp.maximum(jnp.sum(inlier), 1)
    curvature = jnp.maximum(jnp.sum(inlier * bend) / count, 1e-3 / threshold**2)
    normal = matmul(slope.T * (inlier * weights)[None], slope)
    # In units of each step's own precision: a short baseline tells little about the translation.
    scale = jnp.sqrt(jnp.maximum(jnp.diagonal(normal), 1e-12))
    eye = jnp.eye(manifold.size, dtype=normal.dtype)
    inverse = jnp.linalg.inv(normal / (scale[:, None] * scale[None]) + 1e-6 * eye)
    inverse = inverse / (scale[:, None] * scale[None])
    moved_by = matmul(slope, inverse)
    leverage = jnp.clip(inlier * weights * jnp.sum(moved_by * slope, axis=1), 0, 0.99)
    root = (inlier * weights * psi / (1 - leverage) / curvature)[:, None] * moved_by
    # Noise-free matches: at least the rounding of a residual, so that it can be inverted.
    return matmul(root.T, root) + (1e-6 * threshold) ** 2 * inverse
