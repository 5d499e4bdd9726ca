"""Homography and fundamental matrix of two views from point pairs with outliers."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer
from jax.typing import ArrayLike

from posejax.geometry import as_float, matmul
from posejax.matching.ransac import Budget, Problem, ransac
from posejax.matching.refine import (
    Manifold,
    Residuals,
    implicit_step,
    levenberg_marquardt,
    squared,
)
from posejax.matching.robust import LOSSES, Score
from posejax.matching.solvers import apply_similarity, conditioning, four_point, seven_point, unit
from posejax.matching.two_view import (
    move_homography,
    move_rank_two,
    signed_sampson,
    split_rank_two,
    transfer_error,
)

FINAL_STEPS = 12


class ModelEstimate(NamedTuple):
    """A homography or fundamental matrix with what supports it.

    Attributes:
      matrix: [3, 3] of unit Frobenius norm.
      inliers: [n] bool, residual below the threshold.
      loss: scalar, sum over the matches of weight times robust loss, each at most 1.
      valid: whether any model was found; if not, the matrix is the scaled identity.
      samples: number of minimal samples drawn.
    """

    matrix: Array
    inliers: Array
    loss: Array
    valid: Array
    samples: Array


def prepare(
    xy_a: ArrayLike, xy_b: ArrayLike, weights: ArrayLike | None, threshold: ArrayLike, score: str
) -> tuple[Array, Array, Array, Array]:
    """Checked arrays; weights are zero where a coordinate is not finite."""
    a, b = as_float(xy_a), as_float(xy_b)
    if a.ndim != 2 or a.shape != b.shape or a.shape[-1] != 2:
        raise ValueError(f"xy_a and xy_b are both [n, 2], got {a.shape} and {b.shape}; use vmap")
    w = jnp.ones(a.shape[:1], a.dtype) if weights is None else as_float(weights)
    if w.shape != a.shape[:1]:
        raise ValueError(f"weights are [n] = {a.shape[:1]}, got {w.shape}")
    limit = as_float(threshold)
    if limit.ndim or not (isinstance(limit, Tracer) or limit > 0):
        raise ValueError(f"threshold is one number above zero, got {threshold}")
    if score not in LOSSES:
        raise ValueError(f"score is one of {', '.join(LOSSES)}, got {score!r}")
    return a, b, w, limit


def usable_pairs(a: Array, b: Array, w: Array) -> tuple[Array, Array, Array]:
    """Pairs that are not finite, or have no weight, moved to the origin with weight zero."""
    finite = jnp.all(jnp.isfinite(a) & jnp.isfinite(b), axis=-1) & (w > 0)
    a, b = (jnp.where(finite[:, None], x, 0) for x in (a, b))
    return a, b, jnp.where(finite, w, 0)


def relative(weights: Array) -> Array:
    """Weights by the largest, a constant to the gradient: which scale they have says nothing."""
    largest = lax.stop_gradient(jnp.max(weights, initial=0))
    return weights / jnp.where(largest > 0, largest, 1)


def shuffled(key: Array, weights: Array, *arrays: Array) -> tuple[Array, ...]:
    """Weights and arrays in random order, those with weight first."""
    chance = jax.random.uniform(key, weights.shape)
    order = jnp.argsort(jnp.where(weights > 0, chance, 2))
    return weights[order], *(x[order] for x in arrays)


def estimate_fundamental(
    key: Array,
    xy_a: ArrayLike,
    xy_b: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    threshold: ArrayLike = 3.0,
    score: Score = "marginalised",
    iterations: int = 4096,
    confidence: float = 0.9999,
) -> ModelEstimate:
    """Fundamental matrix by LO-RANSAC of seven-point samples and refinement at rank 2.

    Args:
      key: of the samples; the same key gives the same result.
      xy_a: [n, 2] pixels in image a.
      xy_b: [n, 2] pixels in image b.
      weights: [n] of the matches; zero for padding. Samples are drawn in proportion to
        them.
      threshold: pixels, of the Sampson distance; see `posejax.matching.robust` for what it means
        to either score.
      score: "truncated" (MSAC) or "marginalised" (as MAGSAC++).
      iterations: minimal samples at most.
      confidence: of having drawn a sample without outliers, when it stops early.

    Returns:
      `ModelEstimate` with (x_b, 1)^T F (x_a, 1) = 0. The matrix is differentiable with respect to
      the points and the weights, by the implicit derivative of the refinement; which matches are
      inliers passes no gradient.

    Raises:
      ValueError: an argument of a wrong shape or out of range; the message names it.

    With fewer than seven matches, and where the points of both images lie closer together than the
    threshold, `valid` is false. Points of one plane leave the matrix undetermined: it then fits
    them without meaning anything off the plane.
    """
    a, b, w, limit = prepare(xy_a, xy_b, weights, threshold, score)
    return _estimate(key, a, b, w, limit, "fundamental", score, iterations, confidence)


def estimate_homography(
    key: Array,
    xy_a: ArrayLike,
    xy_b: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    threshold: ArrayLike = 3.0,
    score: Score = "marginalised",
    iterations: int = 2048,
    confidence: float = 0.9999,
) -> ModelEstimate:
    """Homography by LO-RANSAC of four-point samples and refinement of the error in image b.

    Arguments and result as of `estimate_fundamental`, with (x_b, 1) ~ H (x_a, 1) and the threshold
    a distance in image b.
    """
    a, b, w, limit = prepare(xy_a, xy_b, weights, threshold, score)
    return _estimate(key, a, b, w, limit, "homography", score, iterations, confidence)


_MANIFOLDS = {
    "fundamental": Manifold(move_rank_two, 7),
    "homography": Manifold(move_homography, 8),
}


def _residuals(kind: str, a: Array, b: Array) -> Residuals:
    if kind == "homography":
        return lambda model: transfer_error(model, a, b)
    return lambda model: signed_sampson(model.matrix, a, b)


@functools.partial(jax.jit, static_argnums=(5, 6, 7, 8))
def _estimate(key, a, b, weights, threshold, kind, score, iterations, confidence):
    a, b, given_weights = usable_pairs(a, b, weights)
    weights = relative(given_weights)
    to_a, to_b = (lax.stop_gradient(t) for t in conditioning(a, b, weights))
    limit = threshold * to_a[0, 0]
    a, b = apply_similarity(to_a, a), apply_similarity(to_b, b)
    manifold = _MANIFOLDS[kind]
    start = split_rank_two if kind == "fundamental" else (lambda matrix: unit(matrix)[0])
    solver, size = (seven_point, 7) if kind == "fundamental" else (four_point, 4)
    residual = signed_sampson if kind == "fundamental" else transfer_error

    def search(key, a, b, weights, limit):
        to_order, to_sample = jax.random.split(key)
        loss = functools.partial(LOSSES[score], threshold=limit)
        w, a, b = shuffled(to_order, weights, a, b)

        def polish(model, steps):
            moved, total = levenberg_marquardt(
                start(model), _residuals(kind, a, b), manifold, w, loss, steps
            )
            return as_matrix(moved), total

        problem = Problem(
            size,
            lambda index: solver(a[index], b[index]),
            lambda model, count: squared(residual(model, a[:count], b[:count])),
            polish,
        )
        budget = Budget(iterations, confidence)
        found = ransac(to_sample, problem, w, limit, score, budget)
        return found, polish(found.model, FINAL_STEPS)[0]

    found, matrix = search(*lax.stop_gradient((key, a, b, weights, limit)))
    model, _ = implicit_step(
        start(lax.stop_gradient(matrix)), _residuals(kind, a, b), manifold, weights,
        functools.partial(LOSSES[score], threshold=limit),
    )  # fmt: skip
    square = squared(_residuals(kind, a, b)(model))
    inliers = (square < limit**2) & (weights > 0)
    # Among points that all lie within the threshold any model fits.
    valid = (jnp.sum(inliers) >= size) & found.exists & (limit < 1)
    matrix = as_matrix(model)
    if kind == "fundamental":
        pixels = matmul(matmul(to_b.T, matrix), to_a)
    else:
        pixels = matmul(_inverse_similarity(to_b), matmul(matrix, to_a))
    pixels = unit(jnp.where(valid, pixels, jnp.eye(3, dtype=pixels.dtype)))[0]
    loss = jnp.sum(given_weights * LOSSES[score](square, limit))
    return ModelEstimate(pixels, inliers & valid, loss, valid, found.samples)


def as_matrix(model) -> Array:
    return model if isinstance(model, jax.Array) else model.matrix


def _inverse_similarity(similarity: Array) -> Array:
    scale, shift = similarity[0, 0], similarity[:2, 2]
    return (
        jnp.diag(jnp.stack([1 / scale, 1 / scale, jnp.ones_like(scale)]))
        .at[:2, 2]
        .set(-shift / scale)
    )
