"""Accuracy of relative poses: errors, area under the recall curve with intervals, protocols."""

import dataclasses
import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import as_float, rotation_angle, safe_norm


def relative_pose_errors(
    b_from_a: ArrayLike, truth: ArrayLike, *, fold: bool = True
) -> tuple[Array, Array]:
    """Angles between two relative poses, [4, 4] each: rotation, translation's direction; radians.

    Args:
      fold: count opposite directions as equal, min(e, pi - e), as all published numbers do.

    A translation of zero length has no direction: its angle is pi / 2.
    """
    pose, truth = as_float(b_from_a), as_float(truth)
    t, s = pose[:3, 3], truth[:3, 3]
    sin, cos = safe_norm(jnp.cross(t, s)), jnp.sum(t * s)
    nowhere = (sin == 0) & (cos == 0)
    direction = jnp.arctan2(sin, jnp.where(nowhere, 1, cos))
    if fold:
        direction = jnp.minimum(direction, jnp.pi - direction)
    direction = jnp.where(nowhere, jnp.pi / 2, direction)
    return rotation_angle(pose[:3, :3], truth[:3, :3]), direction


SAMPLES = {"pose": (5, 10), "fundamental": (7, 3), "homography": (4, 1)}  # matches, solutions


def chance_models(
    kind: Literal["pose", "fundamental", "homography"],
    inliers: int,
    matches: int,
    *,
    threshold: float,
    shape_b: tuple[int, int],
) -> float:
    """Models that as many matches would agree on if all were wrong: expected number, at most inf.

    Args:
      inliers: matches below the threshold.
      matches: all that the estimator was given.
      threshold: pixels, as given to the estimator.
      shape_b: (height, width) of image b, pixels.

    A wrong match ends anywhere in image b, and agrees by chance with the share p of it within the
    threshold: of an epipolar line as long as the diagonal (a Sampson distance r lies about sqrt(2)
    r from the line), or of a point. Any sample could have been drawn, and fits itself, so that
    there are C(n, m) s chances for the other n - m matches to have k - m or more that agree
    (Moisan and Stival, IJCV 2004). Below 0.01, fewer than 1 in 100 unrelated pairs would show as
    many inliers. Matches that are wrong together (a repeated facade, a smooth warp) are not chance.
    """
    sample, solutions = SAMPLES[kind]
    height, width = shape_b
    if kind == "homography":
        p = math.pi * threshold**2 / (height * width)
    else:
        p = 2 * math.sqrt(2) * threshold * math.hypot(height, width) / (height * width)
    if inliers <= sample or p >= 1:
        return math.inf

    def log_choose(n, k):
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    others = matches - sample
    tail = [
        log_choose(others, k) + k * math.log(p) + (others - k) * math.log1p(-p)
        for k in range(inliers - sample, others + 1)
    ]
    largest = max(tail)
    tail_log = largest + math.log(sum(math.exp(t - largest) for t in tail))
    return math.exp(min(math.log(solutions) + log_choose(matches, sample) + tail_log, 700))


def pose_auc(errors: ArrayLike, thresholds: ArrayLike) -> Array:
    """Area under the curve of recall over error, up to each threshold, as a share of its area.

    Args:
      errors: [n], of rotation or translation, whichever is larger; what is not finite is a failure.
      thresholds: [k] in the same unit, e.g. 5, 10 and 20 degrees.

    Returns:
      [k] in [0, 1]. The recall rises linearly from error to error, beginning at (0, 0), and stays
      at its last value up to the threshold; an error equal to the threshold lies outside (SuperGlue
      and all that compare with it). Zero without errors.
    """
    return _auc(as_float(errors), as_float(thresholds))


@jax.jit
def _auc(errors: Array, thresholds: Array) -> Array:
    e = jnp.sort(jnp.where(jnp.isfinite(errors), errors, jnp.inf))
    n = e.shape[0]
    if n == 0:
        return jnp.zeros_like(thresholds)
    recall = jnp.arange(n + 1, dtype=e.dtype) / n

    def area(threshold):
        inside = e < threshold
        ends = jnp.concatenate([jnp.zeros(1, e.dtype), jnp.where(inside, e, 0)])
        steps = jnp.where(inside, ends[1:] - ends[:-1], 0) * (recall[1:] + recall[:-1]) / 2
        last = jnp.sum(inside)
        return (jnp.sum(steps) + (threshold - ends[last]) * recall[last]) / threshold

    return jax.vmap(area)(thresholds)


class AucInterval(NamedTuple):
    """AUC with the bounds of its bootstrap interval, [k] each."""

    value: Array
    low: Array
    high: Array


def bootstrap_auc(
    key: Array,
    errors: ArrayLike,
    thresholds: ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
) -> AucInterval:
    """`pose_auc` with an interval from pairs drawn again with replacement.

    Args:
      errors: [n], or [n, d] for d random draws of each of n pairs: pairs are drawn, their draws
        stay together.
    """
    return _bootstrap(key, as_float(errors), as_float(thresholds), resamples, level)


@functools.partial(jax.jit, static_argnums=3)
def _bootstrap(key, errors, thresholds, resamples: int, level) -> AucInterval:
    table = errors.reshape(len(errors), -1)

    def one(key):
        chosen = jax.random.randint(key, (len(table),), 0, len(table))
        return _auc(table[chosen].reshape(-1), thresholds)

    many = jax.lax.map(one, jax.random.split(key, resamples))
    low, high = jnp.quantile(many, jnp.stack([(1 - level) / 2, (1 + level) / 2]), axis=0)
    return AucInterval(_auc(table.reshape(-1), thresholds), low, high)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How published numbers are made; identical matches differ by ten points between protocols.

    Attributes:
      name: goes with every number.
      data: the pairs.
      resolution: of the images that are matched.
      matches: number of matches drawn from a dense warp; None for all.
      draws: independent draws of a pair; all errors count.
      frame: of the pixels in which the threshold is meant.
      estimator: "opencv", "poselib" or "posejax".
      threshold: pixels.
      iterations: at most.
      confidence: of the estimator's early stop.
      failure: error in degrees of a pair without a pose.
      thresholds: degrees of the AUC.
    """

    name: str
    data: str
    resolution: str
    matches: int | None
    draws: int
    frame: str
    estimator: Literal["opencv", "poselib", "posejax"]
    threshold: float
    iterations: int
    confidence: float
    failure: float = 90.0
    thresholds: tuple[float, ...] = (5.0, 10.0, 20.0)

    def describe(self) -> str:
        """One line that belongs beside the number."""
        matches = "all matches" if self.matches is None else f"{self.matches} matches"
        return (
            f"{self.name}: {self.data}, images {self.resolution}, {self.draws} x {matches}, "
            f"{self.estimator} {self.threshold:g} px in {self.frame}, at most "
            f"{self.iterations} samples, confidence {self.confidence:g}"
        )

    def auc(self, errors: ArrayLike) -> Array:
        """AUC at the protocol's thresholds of errors in degrees, failures not finite."""
        errors = as_float(errors).reshape(-1)
        return pose_auc(
            jnp.where(jnp.isfinite(errors), errors, self.failure), jnp.array(self.thresholds)
        )


DKM_MEGADEPTH = Protocol(
    "DKM/RoMa MegaDepth-1500", "MegaDepth-1500 (LoFTR split)", "at the model's own size", 5000, 5,
    "images of longer side 1200", "opencv", 0.5, 1000, 0.99999,
)  # fmt: skip
TINY_ROMA_MEGADEPTH = Protocol(
    "Tiny RoMa MegaDepth-1500", "MegaDepth-1500 (LoFTR split)", "at native size", 5000, 1,
    "native images", "poselib", 1.0, 10_000, 0.9999,
)  # fmt: skip
XFEAT_MEGADEPTH = Protocol(
    "XFeat MegaDepth-1500", "MegaDepth-1500 (XFeat's list)", "of longer side 1200", None, 1,
    "native images", "poselib", 2.5, 1000, 0.9999, float("inf"),
)  # fmt: skip
PROTOCOLS = {p.name: p for p in (DKM_MEGADEPTH, TINY_ROMA_MEGADEPTH, XFEAT_MEGADEPTH)}
