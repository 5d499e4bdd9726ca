"""Relative pose of two calibrated views from point pairs with outliers."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import (
    as_float,
    inverse_intrinsics,
    matmul,
    normalize,
    pixel_rays,
)
from posejax.matching.gravity import (
    facing_points,
    keeping_gravity,
    minimal_solver,
    pose_manifold,
)
from posejax.matching.models import prepare, relative, shuffled, usable_pairs
from posejax.matching.ransac import Budget, Problem, ransac
from posejax.matching.refine import (
    implicit_step,
    inverse_information,
    levenberg_marquardt,
    likeliest,
    squared,
)
from posejax.matching.robust import LOSSES, Score, mixture
from posejax.matching.solvers import apply_similarity, conditioning, unit
from posejax.matching.two_view import (
    RelativePose,
    decompose_essential,
    displacement,
    pose_from_essential,
    signed_sampson,
)


class RelativePoseEstimate(NamedTuple):
    """A relative pose with its uncertainty and what supports it.

    Attributes:
      b_from_a: [4, 4], x_b = R x_a + t with a translation of length one (two views do not tell it).
      covariance: [5, 5] of the step from the estimate to the truth, in the coordinates of
        `pose_difference`: two of the translation's direction and the rotation vector; radians.
      inliers: [n] bool, residual below the threshold and in front of both cameras.
      loss: scalar, sum over the matches of weight times robust loss, each at most 1.
      valid: whether any sample had a pose, and enough matches fit; if not, b_from_a is the
        identity.
      samples: number of minimal samples drawn.
    """

    b_from_a: Array
    covariance: Array
    inliers: Array
    loss: Array
    valid: Array
    samples: Array


def estimate_relative_pose(
    key: Array,
    xy_a: ArrayLike,
    xy_b: ArrayLike,
    K_a: ArrayLike,
    K_b: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    gravity_a: ArrayLike | None = None,
    gravity_b: ArrayLike | None = None,
    threshold: ArrayLike = 3.0,
    score: Score = "marginalised",
    iterations: int = 2048,
    confidence: float = 0.9999,
) -> RelativePoseEstimate:
    """Relative pose by LO-RANSAC and refinement on the manifold of essential matrices.

    Args:
      key: of the samples; the same key gives the same result.
      xy_a: [n, 2] pixels in image a.
      xy_b: [n, 2] pixels in image b.
      K_a: [3, 3] intrinsics.
      K_b: [3, 3].
      weights: [n] of the matches; zero for padding. Samples are drawn in proportion to
        them.
      gravity_a: [3] direction of gravity in camera a, e.g. (0, 1, 0) for an upright camera. With
        both, samples have three matches instead of five and the turn is about gravity alone.
      gravity_b: [3] the same in camera b.
      threshold: pixels, of the Sampson distance; see `posejax.matching.robust` for what it means
        to either score.
      score: of the search, "truncated" (MSAC) or "marginalised" (as MAGSAC++); the refinement
        has its own.
      iterations: minimal samples at most. With half of the matches wrong 1 in 32 samples is good,
        with 80 % wrong 1 in 3000.
      confidence: of having drawn a sample without outliers, when it stops early.

    Returns:
      `RelativePoseEstimate`. The pose is differentiable with respect to the points, the weights and
      the intrinsics, by the implicit derivative of the refinement; which matches are inliers passes
      no gradient. The covariance is the inverse information of the likelihood that the refinement
      maximises, averaged over the noise level, with weights as relative numbers of equal matches.

    Raises:
      ValueError: an argument of a wrong shape or out of range; the message names it.

    The noise level is fitted up to half of the threshold: the covariance holds for noise (of the
    Sampson distance, one standard deviation) below it, and is too small above.

    With too few matches, and where the points of both images lie closer together than the
    threshold, `valid` is false. Without a baseline the rotation is still right, the
    translation is arbitrary and its covariance large.

    On accelerators `jax.vmap` this over image pairs; on CPUs `jax.lax.map` lets every pair stop
    when it may.
    """
    a, b, w, limit = prepare(xy_a, xy_b, weights, threshold, score)
    if (gravity_a is None) != (gravity_b is None):
        raise ValueError("gravity is given for both cameras or for none")
    gravity = None
    if gravity_a is not None and gravity_b is not None:
        gravity = _shaped("gravity_a", gravity_a, 3), _shaped("gravity_b", gravity_b, 3)
    intrinsics = _shaped("K_a", K_a, 3, 3), _shaped("K_b", K_b, 3, 3)
    return _estimate(key, a, b, intrinsics, w, gravity, limit, score, iterations, confidence)


def refine_relative_pose(
    b_from_a: ArrayLike,
    xy_a: ArrayLike,
    xy_b: ArrayLike,
    K_a: ArrayLike,
    K_b: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    threshold: ArrayLike = 3.0,
    score: Score = "marginalised",
) -> RelativePoseEstimate:
    """The local optimum near a relative pose, differentiable with respect to points and weights.

    The likeliest pose, share of right matches and noise level, where a right match has a normal
    Sampson distance and a displacement like the others', and a wrong one any
    (`posejax.matching.robust.displacement_odds`), by Levenberg-Marquardt steps on the manifold
    (R, t / |t|). Matches behind a camera are wrong: half of all that fit by chance, and those with
    the longest displacements, on which the translation hangs. The derivative
    is that of the minimum itself, at the noise level found: it costs one Hessian of five numbers,
    and none flows to the starting pose. `score` is that of the `loss` alone.

    Args and Returns as of `estimate_relative_pose`; b_from_a: [4, 4] where to start, with the
    points in front of both cameras.
    """
    a, b, w, limit = prepare(xy_a, xy_b, weights, threshold, score)
    start = _shaped("b_from_a", b_from_a, 4, 4)
    intrinsics = _shaped("K_a", K_a, 3, 3), _shaped("K_b", K_b, 3, 3)
    return _refine(start, a, b, intrinsics, w, None, limit, score)


def _shaped(name: str, x: ArrayLike, *shape: int) -> Array:
    x = as_float(x)
    if x.shape != shape:
        raise ValueError(f"{name} is {list(shape)}, got {x.shape}; use vmap for many")
    return x


def _fundamental(pose: RelativePose, inverses) -> Array:
    return matmul(matmul(inverses[1].T, pose.essential), inverses[0])


def _conditioned(a, b, intrinsics, weights, limit):
    """Everything in units of the points' spread: float32 sees numbers of order one."""
    to_a, to_b = (lax.stop_gradient(t) for t in conditioning(a, b, weights))
    cameras = matmul(to_a, intrinsics[0]), matmul(to_b, intrinsics[1])
    inverses = tuple(inverse_intrinsics(k) for k in cameras)
    points = apply_similarity(to_a, a), apply_similarity(to_b, b)
    rays = tuple(pixel_rays(x, k)[..., :2] for x, k in zip(points, cameras, strict=True))
    return *points, *rays, inverses, limit * to_a[0, 0]


@functools.partial(jax.jit, static_argnums=(7, 8, 9))
def _estimate(
    key, xy_a, xy_b, intrinsics, weights, gravity, threshold, score, iterations, confidence
):
    def search(key, xy_a, xy_b, intrinsics, weights, gravity, threshold):
        xy_a, xy_b, weights = usable_pairs(xy_a, xy_b, weights)
        to_order, to_sample = jax.random.split(key)
        w, xy_a, xy_b = shuffled(to_order, relative(weights), xy_a, xy_b)
        a, b, rays_a, rays_b, inverses, limit = _conditioned(xy_a, xy_b, intrinsics, w, threshold)
        size, solve = minimal_solver(rays_a, rays_b, gravity)
        manifold, _ = pose_manifold(gravity)
        loss = functools.partial(LOSSES[score], threshold=limit)

        def fundamental(essential):
            return unit(matmul(matmul(inverses[1].T, essential), inverses[0]))[0]

        def start(model):
            # Which of the four poses does not matter to the distances, except to stay upright.
            k_a, k_b = (inverse_intrinsics(k) for k in inverses)
            essential = matmul(matmul(k_b.T, model), k_a)
            first, second, t = decompose_essential(essential)
            return keeping_gravity(RelativePose(first, t), second, gravity)

        def polish(model, steps):
            pose, total = levenberg_marquardt(
                start(model),
                lambda p: signed_sampson(_fundamental(p, inverses), a, b),
                manifold, w, loss, steps,
            )  # fmt: skip
            return unit(_fundamental(pose, inverses))[0], total

        def models(index):
            essentials, exist = solve(index)
            return jax.vmap(fundamental)(essentials), exist

        problem = Problem(size, models, lambda m, n: signed_sampson(m, a[:n], b[:n]) ** 2, polish)
        found = ransac(to_sample, problem, w, limit, score, Budget(iterations, confidence))
        fits = (problem.square(found.model, None) < limit**2) & (w > 0)
        pose = start(found.model)
        if gravity is None:
            pose = pose_from_essential(pose.essential, rays_a, rays_b, fits)
        else:
            pose = facing_points(pose, rays_a, rays_b, fits)
        # Among points that all lie within the threshold any model fits.
        return pose.matrix, found.samples, found.exists & (limit < 1)

    cut = lax.stop_gradient((key, xy_a, xy_b, intrinsics, weights, gravity, threshold))
    pose, samples, exists = search(*cut)
    found = _refine(pose, xy_a, xy_b, intrinsics, weights, gravity, threshold, score)
    valid = found.valid & exists
    return found._replace(
        b_from_a=jnp.where(valid, found.b_from_a, jnp.eye(4, dtype=found.b_from_a.dtype)),
        inliers=found.inliers & valid,
        valid=valid,
        samples=samples,
    )


@functools.partial(jax.jit, static_argnums=(7,))
def _refine(b_from_a, xy_a, xy_b, intrinsics, weights, gravity, threshold, score):
    xy_a, xy_b, given_weights = usable_pairs(xy_a, xy_b, weights)
    weights = relative(given_weights)
    a, b, *rays, inverses, limit = _conditioned(xy_a, xy_b, intrinsics, weights, threshold)
    manifold, basis = pose_manifold(lax.stop_gradient(gravity))
    # Weights count matches: their sum is the number of equal matches that tell as much.
    total, square = jnp.sum(weights), jnp.sum(weights**2)
    weights = weights * lax.stop_gradient(total / jnp.maximum(square, 1))

    def residuals(inverses, a, b):
        return lambda pose: signed_sampson(_fundamental(pose, inverses), a, b)

    def seen(pose):
        """Which matches are in front, and their displacements; far away these are noise."""
        focal = 1 / jnp.maximum(inverses[0][0, 0], inverses[1][0, 0])
        far = focal * displacement(pose, *rays)
        return far > -2 * limit, jnp.sqrt(far**2 + limit**2)

    def counted(pose):
        ahead, far = seen(pose)
        return w * ahead, far

    pose = RelativePose(b_from_a[:3, :3], normalize(b_from_a[:3, 3], jnp.array([0.0, 0, 1])))
    cut = lax.stop_gradient((pose, inverses, a, b, weights, limit))
    pose, *given, w, stop = cut
    pose, noise = lax.stop_gradient(likeliest(pose, residuals(*given), manifold, counted, stop))
    of_data = residuals(inverses, a, b)
    ahead = lax.stop_gradient(seen(pose)[0])
    pose, hessian = implicit_step(
        pose, of_data, manifold, weights * ahead, functools.partial(mixture, noise=noise)
    )
    # The noise level is fitted with one match more than there are.
    covariance = inverse_information(hessian, noise.count - manifold.size + 1)
    if basis is not None:
        covariance = matmul(matmul(basis, covariance), basis.T)
    square = squared(of_data(pose))
    inliers = (square < limit**2) & (given_weights > 0) & ahead
    valid = jnp.sum(inliers) >= manifold.size
    matrix = jnp.where(valid, pose.matrix, jnp.eye(4, dtype=covariance.dtype))
    loss = jnp.sum(given_weights * jnp.where(ahead, LOSSES[score](square, limit), 1))
    none = jnp.zeros((), jnp.int32)
    return RelativePoseEstimate(matrix, covariance, inliers & valid, loss, valid, none)
