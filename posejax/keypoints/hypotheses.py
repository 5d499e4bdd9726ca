"""From heatmaps to a few poses with weights: a global start, then refinement of distinct modes."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum, resize_intrinsics
from posejax.keypoints.descent import Look, as_minimum, descend, look, solve_spd
from posejax.keypoints.mixture import mixture
from posejax.keypoints.peaks import Peaks, block_probability, peaks_of
from posejax.keypoints.rotations import rotation_grid
from posejax.keypoints.start import distances, distinct, log_maps, lookup_scores, placed, survey

# Of each hypothesis; rad between them. Most starts that lie near the best pose end in it.
_STARTS, _APART = 3, 0.9
_BLURS = np.array([4.0, 1.0, 0.0])  # of the modes while refining, in half windows
# Of explaining the points, and the share of points that even the right pose does not explain.
_WITNESSES, _WRONG = 4, 0.02


class Hypotheses(NamedTuple):
    """Poses that explain the heatmaps of one view, the best first.

    Attributes:
      pose: [M, 4, 4] view_from_body, each turned by `same` at least from all others, see
        `pose_hypotheses`. Where the heatmaps speak for fewer, the last one is repeated.
      log_score: [M] how well the pose explains the heatmaps, see `pose_hypotheses`; at most zero.
      weight: [M] probabilities that sum to one; zero for a repetition.
      covariance: [M, 6, 6] of xi in `pose @ se3_exp(xi)`: metres, radians, body axes.
      inliers: [M, P] probability that the point's mode is the one that the pose says, 0 to 1.
    """

    pose: Array
    log_score: Array
    weight: Array
    covariance: Array
    inliers: Array


@partial(jax.jit, static_argnames=("stride", "modes", "grid", "iterations", "peaks", "radius"))
def pose_hypotheses(
    logits: ArrayLike,
    points: ArrayLike,
    intrinsics: ArrayLike,
    *,
    stride: int = 1,
    modes: int = 8,
    grid: int = 1024,
    iterations: int = 4,
    peaks: int = 2,
    radius: int | None = None,
    sharpness: ArrayLike = 1.0,
    same: float = 0.2,
) -> Hypotheses:
    """The poses that heatmaps of a body's points speak for.

    Args:
      logits: [h, w, P]; a softmax over the cells is the probability of where a point is.
      points: [P, 3] body frame, metres.
      intrinsics: [3, 3] in pixels of the view.
      stride: pixels of the view along a cell.
      modes: number of hypotheses M.
      grid: number of rotations to start from.
      iterations: of refinement of all starts, in each of three stages; those that may become
        hypotheses have twice as many more.
      peaks: modes of each heatmap.
      radius: of a heatmap's mode, in cells: see `local_peaks`.
      sharpness: factor of the scores when they become weights, to be calibrated on a validation
        split.
      same: rad; of all poses turned by less from each other only the best is a hypothesis.

    A score has two parts. The mean over points of the logarithm of how much probability lies in the
    mode that the pose says: which mode it is, all points of a body seen back to front get wrong
    together, so that they are one witness and not P. And four times the mean logarithm of how far
    each point is explained by any mode: of a right pose, hardly any points are not.

    Returns:
      The hypotheses. Poses, scores and covariances are differentiable with respect to the logits,
      the points and the intrinsics: as the minimum that they are moves, to first order in the
      residuals. Which hypotheses there are is not.
    """
    logits, points = as_float(logits), as_float(points)
    cells = resize_intrinsics(as_float(intrinsics), 1 / stride)
    blocks = block_probability(logits)
    found = peaks_of(logits, blocks, modes=peaks, radius=radius)
    rotations = jnp.asarray(rotation_grid(grid), logits.dtype)
    still = lax.stop_gradient((found, points, cells))
    sky = survey(*still)
    depth = distances(sky, rotations)
    maps = log_maps(lax.stop_gradient(blocks))
    in_blocks = resize_intrinsics(still[2], 1 / blocks.side)
    score = lookup_scores(maps, sky, still[1], in_blocks, rotations, depth)
    chosen = distinct(score, rotations, _STARTS * modes, _APART)
    start = placed(sky, rotations[chosen], depth[chosen])
    half = max(logits.shape[:2]) / 32
    refine = partial(_refined, peaks=still[0], points=still[1], cells=still[2])
    pose = jax.vmap(partial(refine, blurs=half * _BLURS, iterations=iterations))(start)
    settle = partial(_settled, peaks=found, points=points, cells=cells)
    # Some of them end in one pose when they are refined to the end.
    rough = jax.vmap(lambda p: _score(look(p, *still[1:], mixture(still[0]))))(pose)
    pose = pose[distinct(rough, pose[:, :3, :3], modes + modes // 2, same)]
    pose = jax.vmap(partial(refine, blurs=_BLURS[-1:], iterations=2 * iterations))(pose)
    pose, log_score, covariance, inliers = jax.vmap(settle)(pose)
    first = distinct(lax.stop_gradient(log_score), lax.stop_gradient(pose[:, :3, :3]), modes, same)
    fresh = lax.stop_gradient(_fresh(pose[first], same))
    first = jnp.where(fresh, first, first[fresh.sum() - 1])
    pose, log_score, covariance, inliers = (
        x[first] for x in (pose, log_score, covariance, inliers)
    )
    energy = jnp.where(fresh, as_float(sharpness) * log_score, -jnp.inf)
    return Hypotheses(pose, log_score, jax.nn.softmax(energy), covariance, inliers)


def _refined(pose, *, peaks: Peaks, points, cells, blurs: np.ndarray, iterations: int) -> Array:
    def stage(pose, blur):
        return descend(pose, points, cells, mixture(peaks, blur), iterations)[0], None

    return lax.scan(stage, pose, jnp.asarray(blurs, pose.dtype))[0]


def _settled(pose, *, peaks: Peaks, points, cells):
    """The same pose as a function of the heatmaps, its score, covariance and inliers."""
    pose = as_minimum(mixture, lax.stop_gradient(pose), points, cells, peaks)
    here = look(pose, points, cells, mixture(peaks))
    covariance = solve_spd(here.normal, jnp.eye(6, dtype=pose.dtype))
    return pose, _score(here), covariance, here.share


def _score(here: Look) -> Array:
    explained = jnp.log((here.share + _WRONG) / (1 + _WRONG))
    return -here.cost / len(here.share) + _WITNESSES * explained.mean()


def _fresh(pose: Array, same: float) -> Array:
    """Which of the poses [M, 4, 4] are unlike all before."""
    turn = pose[:, :3, :3]
    trace = einsum("aij,bij->ab", turn, turn)
    alike = trace > 1 + 2 * jnp.cos(same)
    return ~jnp.any(jnp.tril(alike, -1), axis=1)
