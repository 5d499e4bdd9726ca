"""Keypoints of a view: what their heatmaps learn, and the poses that explain them.

Pure functions of one example. Points are in pixels of the view's grid; a cell of the heatmaps is
`KeypointConfig.stride` of them wide.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from posejax.geometry import einsum, matmul, project, se3_apply, se3_inverse, se3_log
from posejax.keypoints import Peaks, align_pose, heatmap_nll, local_peaks, pose_hypotheses
from posejax.systems.eventpose.alignment import craft_edges
from posejax.systems.eventpose.config import KeypointConfig
from posejax.systems.eventpose.inputs import Prepared
from posejax.systems.eventpose.view import View, in_camera, in_view


class Solved(NamedTuple):
    """Poses of one view, the most probable first; what lacks a leading M is of the first.

    With `KeypointConfig.align` the poses are the aligned ones, and `between` is of them; order,
    `log_score`, `weight` and `within` remain those of the poses before the alignment.

    hypotheses: [M, 4, 4] camera_from_body.
    log_score: [M], see `posejax.keypoints.Hypotheses`.
    weight: [M], sums to one.
    within: [6, 6] covariance of xi in pose @ se3_exp(xi), see `se3_exp`, if this is the right one.
    between: [6, 6] second moment of the xi of all hypotheses, by their weights: what it adds that
      another one may be right.
    keypoints: [P, K, 2] modes of the heatmaps, pixels of the grid.
    keypoint_weight: [P, K] their probabilities.
    """

    hypotheses: Array
    log_score: Array
    weight: Array
    within: Array
    between: Array
    keypoints: Array
    keypoint_weight: Array


def projections(points: Array, view: View, camera_from_body: Array) -> tuple[Array, Array]:
    """Where points [P, 3] of the body are in a view: pixels [P, 2], and which lie ahead [P]."""
    return project(se3_apply(in_view(view, camera_from_body), points), view.intrinsics)


def brightest_cells(logits: Array) -> Array:
    """(column, row) [P, 2] of the largest of each heatmap [h, w, P], the first of equal ones.

    The row of the maximum and its place there: an argmax over all cells is a slow loop on CPUs.
    """
    row = jnp.argmax(logits.max(1), axis=0)
    lines = jnp.take_along_axis(logits, row[None, None], axis=0)[0]
    return jnp.stack([jnp.argmax(lines, axis=0), row], axis=-1)


def keypoint_losses(
    logits: Array, points: Array, prepared: Prepared, config: KeypointConfig
) -> dict[str, Array]:
    """Losses of one example's heatmaps [h, w, P].

    Returns:
      Scalars: `keypoint_nll`, mean over the points in the view of the cross-entropy above its least
      value, nats, and `config.outside` times the same of points out of the view, whose targets are
      even, over all points; the monitor `keypoint_px`, mean distance from a point in the view to
      its brightest cell.
    """
    xy, ahead = projections(points, prepared.view, prepared.pose)
    cells = xy / config.stride
    height, width, _ = logits.shape
    inside = ahead & jnp.all((cells >= 0) & (cells <= jnp.array([[width, height]])), axis=-1)
    nll = heatmap_nll(logits, cells, inside, sigma=config.sigma, divergence=True)
    away = jax.lax.stop_gradient(brightest_cells(logits) + 0.5 - cells)
    away = jnp.linalg.norm(away, axis=-1)
    count = jnp.maximum(inside.sum(), 1)
    loss = nll.sum() / count
    if config.outside:
        even = jax.nn.logsumexp(logits, axis=(0, 1)) - logits.mean((0, 1))
        even = even - math.log(height * width)
        loss = loss + config.outside * jnp.where(inside, 0, even).mean()
    return {
        "keypoint_nll": loss,
        "keypoint_px": config.stride * jnp.sum(away * inside) / count,
    }


def turned(x: Array) -> Array:
    """Maps [B, h, w, C] of the view rolled by half a turn: each point is at the opposite place."""
    return x[:, ::-1, ::-1]


def averaged(*logits: Array) -> Array:
    """[B, h, w, P]: logs of the mean of probabilities; where they disagree all modes remain."""
    logs = jnp.stack([jax.nn.log_softmax(x, axis=(1, 2)) for x in logits])
    return jax.nn.logsumexp(logs, axis=0) - math.log(len(logits))


def solve(
    logits: Array,
    points: Array,
    view: View,
    config: KeypointConfig,
    sharpness: Array | float = 1.0,
    density: Array | None = None,
) -> Solved:
    """Poses of one view from its heatmaps [h, w, P], with `config.align` aligned to events.

    Args:
      density: [H, W] of the events in the view, for the alignment.
    """
    found = pose_hypotheses(
        logits,
        points,
        view.intrinsics,
        stride=config.stride,
        modes=config.hypotheses,
        grid=config.grid,
        iterations=config.iterations,
        sharpness=sharpness,
    )
    peaks = local_peaks(logits)
    poses = found.pose
    if config.align:
        in_pixels = Peaks(
            config.stride * peaks.xy, config.stride**2 * peaks.covariance, peaks.weight
        )

        def aligned(pose):
            about = (craft_edges(), density, points, in_pixels, view.intrinsics)
            return align_pose(pose, *about, weight=config.align)[0]

        poses = jax.vmap(aligned)(poses)
    apart = jax.vmap(lambda pose: twist_between(poses[0], pose))(poses)
    return Solved(
        jax.vmap(lambda pose: in_camera(view, pose))(poses),
        found.log_score,
        found.weight,
        found.covariance[0],
        einsum("m,mi,mj->ij", found.weight, apart, apart),
        config.stride * peaks.xy,
        peaks.weight,
    )


def spreads(covariance: Array) -> tuple[Array, Array]:
    """Standard deviations of the position along any axis (m) and the rotation about any (rad)."""
    variance = jnp.diagonal(covariance, axis1=-2, axis2=-1)
    return jnp.sqrt(variance[..., :3].mean(-1)), jnp.sqrt(variance[..., 3:].mean(-1))


def twist_between(pose: Array, other: Array) -> Array:
    """xi [6] with pose @ se3_exp(xi) = other, see `se3_exp`."""
    return se3_log(matmul(se3_inverse(pose), other))
