"""From dense warps to matches and relative poses, and how good they are; batched."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from posejax.image import bilinear_sample
from posejax.matching import (
    Matches,
    RelativePoseEstimate,
    estimate_relative_pose,
    pose_difference,
    relative_pose_errors,
)
from posejax.matching.streaming import cell_centers
from posejax.systems.tinyroma.config import MatchConfig

FAILURE = 90.0  # degrees that a pair without a pose is counted with
BINS = 10  # of certainty


def certain_matches(warp: Array, certainty: Array, count: int, least: float = 0.0) -> Matches:
    """The most certain cell of each block of cells; no random numbers.

    Blocks are squares, just so large that there are at least `count` of them: matches spread over
    the image whatever its certainest part is.

    Args:
      warp: [h, w, 2], partner of every cell, in any unit.
      certainty: [h, w].
      count: static, of the result; blocks of least certainty go.
      least: cells with a smaller certainty are no matches.

    Returns:
      `Matches` of `count` pairs, by falling certainty: xy_a in cells, the first one's centre at
      (0.5, 0.5), xy_b in the unit of the warp; zero weight where there are no more.
    """
    height, width = certainty.shape
    side = max(1, int((height * width / count) ** 0.5))
    usable = jnp.isfinite(certainty) & (certainty >= least) & jnp.all(jnp.isfinite(warp), -1)
    weight = jnp.where(usable, certainty, 0)
    maps = jnp.concatenate(
        [weight[..., None], cell_centers((height, width)).reshape(height, width, 2), warp], axis=-1
    )
    rows, columns = -(-height // side), -(-width // side)
    maps = jnp.pad(maps, ((0, rows * side - height), (0, columns * side - width), (0, 0)))
    blocks = maps.reshape(rows, side, columns, side, 5).transpose(0, 2, 1, 3, 4)
    blocks = blocks.reshape(rows * columns, side * side, 5)
    best = jnp.argmax(blocks[..., 0], axis=1)
    found = jnp.take_along_axis(blocks, best[:, None, None], axis=1)[:, 0]
    _, order = jax.lax.top_k(found[:, 0], min(count, len(found)))
    found = jnp.pad(found[order], ((0, count - len(order)), (0, 0)))
    found = jnp.where(found[:, :1] > 0, found, 0)  # unusable cells may hold anything
    return Matches(found[:, 1:3], found[:, 3:], found[:, 0])


def forward_backward_distance(warp: Array, back: Array, stride: int) -> Array:
    """How far the warp B to A misses the cell that the warp A to B came from.

    Args:
      warp: [h, w, 2], pixels of B.
      back: [h', w', 2], pixels of A, at the same stride.

    Returns:
      [h, w] pixels of A; infinite where the warp leaves B.
    """
    returned, _ = bilinear_sample(back, warp / stride, padding="border")
    inside = jnp.all(warp >= 0, -1) & (warp[..., 0] <= back.shape[1] * stride)
    inside &= warp[..., 1] <= back.shape[0] * stride
    own = stride * cell_centers(warp.shape[:2]).reshape(warp.shape)
    distance = jnp.sqrt(jnp.sum((returned - own) ** 2, axis=-1))
    return jnp.where(inside, distance, jnp.inf)


def robust_options(config: MatchConfig) -> dict[str, Any]:
    """Keywords of `estimate_relative_pose`: those that the factor of covariances is fitted for."""
    return {
        "threshold": config.threshold,
        "score": config.score,
        "iterations": config.iterations,
        "confidence": config.confidence,
    }


def relative_poses(
    matches: Matches, k_a: Array, k_b: Array, config: MatchConfig
) -> RelativePoseEstimate:
    """Robust poses of a batch of matches [B, n, ...] in pixels, one after the other on CPUs."""

    def one(given: tuple[Matches, Array, Array]) -> RelativePoseEstimate:
        pairs, first, second = given
        return estimate_relative_pose(
            jax.random.key(0),  # one for all: a pair's pose does not depend on its batch
            pairs.xy_a,
            pairs.xy_b,
            first,
            second,
            weights=pairs.weights,
            **robust_options(config),
        )

    everything = matches, k_a, k_b
    if jax.default_backend() == "cpu":
        return jax.lax.map(one, everything)
    return jax.vmap(one)(everything)


class PoseScores(NamedTuple):
    """Of poses [B]: angles in degrees, 90 without an estimate and NaN without a truth.

    chi2: squared distance of the truth in units of the covariance, of 5 degrees of freedom; NaN
      without an estimate or a truth.
    """

    error: Array
    rotation: Array
    translation: Array
    chi2: Array


def pose_scores(estimate: Array, covariance: Array, valid: Array, truth: Array, has_pose: Array):
    """`PoseScores` of estimates [B, 4, 4] with covariances [B, 5, 5]."""
    rotation, translation = jax.vmap(relative_pose_errors)(estimate, truth)

    def score(angle):
        angle = jnp.where(valid, jnp.rad2deg(angle), FAILURE)
        return jnp.where(has_pose > 0, angle, jnp.nan)

    def distance(first, second, c):
        step = pose_difference(first, second)
        # Exactly determined poses have no spread: a floor far below any that means something.
        c = c + 1e-12 * jnp.eye(5, dtype=c.dtype)
        return jnp.sum(step * jnp.linalg.solve(c, step))

    chi2 = jax.vmap(distance)(estimate, truth, covariance)
    chi2 = jnp.where(valid & (has_pose > 0), chi2, jnp.nan)
    rotation, translation = score(rotation), score(translation)
    return PoseScores(jnp.maximum(rotation, translation), rotation, translation, chi2)


def warp_scores(warp: Array, certainty: Array, batch) -> dict[str, Array]:
    """Accuracy of warps [B, h, w, 2] in pixels over visible cells, and what certainty is worth.

    Returns `epe`, its mean in pixels, and `pck1`, `pck3`, `pck5`, shares of visible cells within
    so many pixels, NaN without a visible cell; `certainty_cells`, `certainty_sum` and
    `certainty_hits` [B, 10]: of the known cells in ten classes of certainty their number, the sum
    of certainties and how many are visible and within 3 pixels.
    """
    target, visible, known = (batch[f"{k}_4"] for k in ("target", "visible", "known"))
    error = jnp.sqrt(jnp.sum((warp - target) ** 2, axis=-1))
    seen = visible > 0
    count = jnp.sum(seen, axis=(1, 2))

    def share(values):
        total = jnp.sum(jnp.where(seen, values, 0), axis=(1, 2))
        return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)

    scores = {f"pck{px}": share(error < px) for px in (1, 3, 5)}
    place = jnp.clip((certainty * BINS).astype(jnp.int32), 0, BINS - 1)
    classes = jax.nn.one_hot(place, BINS) * (known > 0)[..., None]
    hits = (seen & (error < 3)).astype(jnp.float32)

    def per_class(values):
        return jnp.einsum("bhw,bhwk->bk", values, classes)

    return {
        "epe": share(error),
        **scores,
        "visible": count / (warp.shape[1] * warp.shape[2]),
        "certainty_cells": per_class(jnp.ones_like(hits)),
        "certainty_sum": per_class(certainty),
        "certainty_hits": per_class(hits),
    }
