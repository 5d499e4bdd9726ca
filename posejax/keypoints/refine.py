"""A pose from one measured position per point: refinement from nearby, and from nowhere."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float
from posejax.keypoints.descent import Measure, Pull, as_minimum, descend, look, solve_spd
from posejax.keypoints.mixture import mixture
from posejax.keypoints.peaks import Peaks
from posejax.keypoints.rotations import rotation_grid
from posejax.keypoints.start import distances, distinct, moment_scores, placed, survey

Loss = Literal["none", "huber", "cauchy"]
# In standard deviations of a position: exceeded by 5 % and 1 % of normal residuals in a plane.
_CUTOFF = {"huber": 2.45, "cauchy": 3.03}
_STARTS, _APART, _KEPT = 5, 0.6, 3  # the three: a flat body looks the same from two sides
_BLUR = 0.3  # of the first stage of `solve_pnp`, in spreads of the points in the picture


def _robust(square: Array, loss: Loss) -> tuple[Array, Array]:
    """Cost, which is half the square near zero, and weight of squared residuals."""
    if loss == "none":
        return square / 2, jnp.ones_like(square)
    if loss not in _CUTOFF:
        raise ValueError(f"loss is 'none', {', '.join(map(repr, _CUTOFF))}; got {loss!r}")
    ratio = square / _CUTOFF[loss] ** 2
    if loss == "cauchy":
        return _CUTOFF[loss] ** 2 / 2 * jnp.log1p(ratio), 1 / (1 + ratio)
    root = jnp.sqrt(jnp.maximum(ratio, 1))
    cost = jnp.where(ratio < 1, ratio / 2, root - 0.5)
    return _CUTOFF[loss] ** 2 * cost, 1 / root


def _measure(data: tuple[Array, Array], loss: Loss) -> Measure:
    target, information = data

    x, y = target.T
    xx, mixed, yy = information[:, 0, 0], information[:, 0, 1], information[:, 1, 1]

    def measure(seen: Array) -> Pull:
        u, v = x - seen[0], y - seen[1]
        right, down = xx * u + mixed * v, mixed * u + yy * v
        cost, weight = _robust(u * right + v * down, loss)
        return Pull(
            cost=cost,
            force=weight[None] * jnp.stack([right, down]),
            stiffness=weight[None] * jnp.stack([xx, mixed, yy]),
            share=weight,
        )

    return measure


# One function per loss, of the module level: what derivatives of a minimum are cached by.
_MEASURES = {name: partial(_measure, loss=name) for name in get_args(Loss)}


@partial(jax.jit, static_argnames=("iterations", "loss"))
def refine_pose(
    pose: ArrayLike,
    points: ArrayLike,
    xy: ArrayLike,
    information: ArrayLike,
    intrinsics: ArrayLike,
    *,
    iterations: int = 10,
    loss: Loss = "cauchy",
) -> tuple[Array, Array]:
    """Least robust reprojection error near a pose, by Levenberg-Marquardt.

    Args:
      pose: [4, 4] camera_from_body to start from.
      points: [P, 3] body frame, metres.
      xy: [P, 2] measured pixels.
      information: [P, 2, 2] inverse covariances (pixels^-2); zero for what was not measured.
      intrinsics: [3, 3].
      iterations: trials; a step that raises the error, or takes a point behind the camera, is not
        taken.
      loss: of a residual in standard deviations: "none" (least squares), "huber" or "cauchy".

    Returns:
      The pose [4, 4], and the covariance [6, 6] of xi in `pose @ se3_exp(xi)` (metres, radians,
      body axes): the inverse of the weighted normal matrix. Directions that nothing determines have
      a large, finite variance.

      The pose is differentiable with respect to the measurements, the points and the intrinsics as
      the minimum that it is, whatever led there (implicit function theorem); its derivative with
      respect to the start is zero.

    Raises:
      ValueError: `loss` is none of these.
    """
    pose, points, intrinsics = as_float(pose), as_float(points), as_float(intrinsics)
    data = as_float(xy), as_float(information)
    if loss not in _MEASURES:
        _robust(points, loss)
    factory = _MEASURES[loss]
    still = lax.stop_gradient((pose, points, intrinsics, data))
    found, _ = descend(*still[:3], factory(still[3]), iterations)
    found = as_minimum(factory, found, points, intrinsics, data)
    here = look(found, points, intrinsics, factory(data))
    return found, solve_spd(here.normal, jnp.eye(6, dtype=found.dtype))


@partial(jax.jit, static_argnames=("grid", "iterations"))
def solve_pnp(
    points: ArrayLike,
    xy: ArrayLike,
    weight: ArrayLike | None,
    intrinsics: ArrayLike,
    *,
    sigma: ArrayLike = 2.0,
    grid: int = 384,
    iterations: int = 4,
) -> Array:
    """Pose from points and their pixels, some of them wrong, without a guess to start from.

    All of SO(3) is searched under weak perspective by moments; of the best distinct rotations, one
    step with wide tolerance tells which three are refined so, and the best of them with narrow
    tolerance. No random numbers are drawn.

    Args:
      points: [P, 3] body frame, metres; four at least, all in front of the camera.
      xy: [P, 2] pixels.
      weight: [P] probability, 0 to 1, that the point's position is right; by default one.
      intrinsics: [3, 3].
      sigma: standard deviation of right positions (pixels); beyond some four of them a position
        counts as wrong.
      grid: rotations to start from.
      iterations: trials of refinement with wide tolerance, and half of those with narrow.

    Returns:
      [4, 4] camera_from_body. Differentiable as `refine_pose` is. Finite whatever is given, but
      without meaning where the points determine no pose (fewer than four, or all in one place).
    """
    points, xy, intrinsics = as_float(points), as_float(xy), as_float(intrinsics)
    weight = jnp.ones(len(points), xy.dtype) if weight is None else as_float(weight)
    eye = jnp.eye(2, dtype=xy.dtype)[None, None]
    covariance = jnp.broadcast_to(as_float(sigma) ** 2 * eye, (len(points), 1, 2, 2))
    seen = Peaks(xy[:, None], covariance, weight[:, None])
    still, body, camera = lax.stop_gradient((seen, points, intrinsics))
    sky = survey(still, body, camera)
    rotations = jnp.asarray(rotation_grid(grid), xy.dtype)
    score = moment_scores(sky, still, body, camera, rotations)
    turns = rotations[distinct(score, rotations, _STARTS, _APART)]
    start = placed(sky, turns, distances(sky, turns))
    wide = mixture(still, _BLUR * camera[1, 1] * jnp.sqrt(sky.spread))
    tried, there = jax.vmap(lambda p: descend(p, body, camera, wide, 1))(start)
    likely = tried[lax.top_k(-there.cost, _KEPT)[1]]
    coarse, there = jax.vmap(lambda p: descend(p, body, camera, wide, iterations))(likely)
    best = coarse[jnp.argmin(there.cost)]
    found, _ = descend(best, body, camera, mixture(still), 2 * iterations)
    return as_minimum(mixture, found, points, intrinsics, seen)
