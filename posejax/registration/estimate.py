"""From a pose volume to a pose: softmax expectation with covariance, likelihood, losses.

A volume of scores is read as logits: p = softmax(volume / temperature) over all (yaw, y, x). A cell
with score -inf is excluded: it has no mass, everything else stays finite. One NaN or +inf makes all
estimates NaN: nothing is known then, and nothing here says otherwise.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from posejax.geometry import as_float, matmul, wrap_angle
from posejax.registration.lattice import (
    IMPOSSIBLE,
    index_to_pose,
    is_full_circle,
    pose_to_index,
    volume_radius,
)


class Pose2Estimate(NamedTuple):
    """A pose with its uncertainty: x, y in metres, yaw in radians, covariance in (m, m, rad)."""

    x: Array
    y: Array
    yaw: Array
    covariance: Array

    @property
    def pose(self) -> Array:
        """[..., 3] = (x, y, yaw)."""
        return jnp.stack([self.x, self.y, self.yaw], -1)


@jax.jit
def log_probabilities(volume: Array, *, temperature: float | Array = 1.0) -> Array:
    """log softmax(volume / temperature) over the whole volume, in float32; same shape."""
    logits = jnp.asarray(volume, jnp.float32) / temperature
    total = jax.nn.logsumexp(logits)
    return logits - jnp.where(jnp.isposinf(total), jnp.nan, total)


@jax.jit
def argmax_pose(volume: Array, angles: Array, cell_size: float | Array) -> Array:
    """Pose [3] = (x, y, yaw) of the highest score (the first one among equals); NaN if one is."""
    radius, volume, angles = volume_radius(volume), jnp.asarray(volume), as_float(angles)
    index = jnp.stack(jnp.unravel_index(jnp.argmax(volume), volume.shape))
    pose = index_to_pose(index, angles, radius, cell_size)
    return jnp.where(jnp.isnan(volume.max()), jnp.nan, pose)


@jax.jit
def softmax_expectation(
    volume: Array,
    angles: Array,
    cell_size: float | Array,
    *,
    temperature: float | Array = 1.0,
) -> Pose2Estimate:
    """Mean and 3x3 covariance of the pose under softmax(volume / temperature).

    Args:
      volume: [K, 2r+1, 2r+1] scores (yaw, y, x).
      angles: [K] radians.
      cell_size: metres per cell.
      temperature: divides the scores; see `fit_temperature`.

    Returns:
      Pose2Estimate in metres and radians. Yaw is the circular mean, its deviations in the
      covariance are wrapped to [-pi, pi), and the xy-yaw terms are included. The covariance is
      that of the lattice distribution: it does not contain the 1/12 cell^2 of the discretisation.

    Gradients are finite everywhere, also where the circular mean is undefined (the yaw of a
    uniform distribution over the full circle is then returned as the middle of `angles`).
    """
    radius, angles = volume_radius(volume), as_float(angles)
    p = jnp.exp(log_probabilities(volume, temperature=temperature))
    offset = jnp.arange(-radius, radius + 1, dtype=p.dtype) * cell_size
    p_yaw_x, p_yaw_y, p_yx = p.sum(1), p.sum(2), p.sum(0)
    p_x, p_y, p_yaw = p_yx.sum(0), p_yx.sum(1), p_yaw_x.sum(1)

    x, y = matmul(p_x, offset), matmul(p_y, offset)
    yaw = circular_mean(p_yaw, angles)
    dx, dy, dyaw = offset - x, offset - y, wrap_angle(angles - yaw)
    xx, yy, tt = matmul(p_x, dx**2), matmul(p_y, dy**2), matmul(p_yaw, dyaw**2)
    xy = matmul(dy, matmul(p_yx, dx))
    xt, yt = matmul(dyaw, matmul(p_yaw_x, dx)), matmul(dyaw, matmul(p_yaw_y, dy))
    covariance = jnp.stack([xx, xy, xt, xy, yy, yt, xt, yt, tt]).reshape(3, 3)
    return Pose2Estimate(x, y, yaw, covariance)


def circular_mean(weights: Array, angles: Array) -> Array:
    """Direction of sum_k w_k (cos a_k, sin a_k), as the turn nearest to the middle of `angles`.

    Where the sum vanishes there is no direction: the middle is returned, with zero gradient.
    """
    weights, angles = as_float(weights), as_float(angles)
    middle = (angles[0] + angles[-1]) / 2
    cos = matmul(weights, jnp.cos(angles - middle))
    sin = matmul(weights, jnp.sin(angles - middle))
    undefined = cos**2 + sin**2 <= 1e-10  # not so for NaN, which goes through
    return middle + jnp.where(
        undefined, 0.0, jnp.arctan2(jnp.where(undefined, 0.0, sin), jnp.where(undefined, 1.0, cos))
    )


@jax.jit
def pose_nll(
    volume: Array,
    pose: Array,
    angles: Array,
    cell_size: float | Array,
    *,
    temperature: float | Array = 1.0,
) -> Array:
    """Negative log-probability of `pose` by trilinear interpolation of the log-volume.

    Args:
      volume: [K, 2r+1, 2r+1] scores.
      pose: [3] = (x, y, yaw), metres and radians.
      angles: [K] radians, increasing, uniform. If they go once round, yaw is interpolated
        periodically.
      cell_size: metres per cell.
      temperature: divides the scores.

    Returns:
      Scalar, in nats per lattice cell (add log(cell_size^2 * yaw step) for a density).

    A pose outside the window is moved to the nearest pose inside: the value stays finite, and its
    gradient with respect to the outer coordinates is zero. Check such poses when the data are made
    (`pose_in_window`). Excluded cells (-inf) count as -1e4: a true pose there costs much, not
    everything. NLL by interpolated log-probabilities follows OrienterNet (Sarlin 2023).
    """
    radius, angles = volume_radius(volume), as_float(angles)
    log_p = log_probabilities(volume, temperature=temperature)
    log_p = jnp.where(jnp.isneginf(log_p), IMPOSSIBLE, log_p)
    index = pose_to_index(pose, angles, radius, cell_size)
    count, side, _ = volume.shape

    k = index[0]
    full = is_full_circle(angles)
    k = jnp.where(full, k % count, jnp.clip(k, 0, count - 1))
    k0 = jnp.clip(jnp.floor(k), 0, count - 1)
    k0_int = k0.astype(jnp.int32)
    k1_int = jnp.where(full, (k0_int + 1) % count, jnp.minimum(k0_int + 1, count - 1))

    ij = jnp.clip(index[1:], 0, side - 1)
    ij0 = jnp.clip(jnp.floor(ij), 0, max(side - 2, 0))
    i0, j0 = ij0[0].astype(jnp.int32), ij0[1].astype(jnp.int32)
    i1, j1 = jnp.minimum(i0 + 1, side - 1), jnp.minimum(j0 + 1, side - 1)
    fk, fi, fj = k - k0, ij[0] - ij0[0], ij[1] - ij0[1]

    def plane(k_index):
        near = (1 - fj) * log_p[k_index, i0, j0] + fj * log_p[k_index, i0, j1]
        far = (1 - fj) * log_p[k_index, i1, j0] + fj * log_p[k_index, i1, j1]
        return (1 - fi) * near + fi * far

    return -((1 - fk) * plane(k0_int) + fk * plane(k1_int))


def pose_in_window(pose: Array, angles: Array, radius: int, cell_size: float | Array) -> Array:
    """Whether `pose` [..., 3] lies inside the window that a volume covers (borders included)."""
    angles = as_float(angles)
    index = pose_to_index(pose, angles, radius, cell_size)
    upper = jnp.array([angles.shape[0] - 1, 2 * radius, 2 * radius], index.dtype)
    inside = (index >= -1e-4) & (index <= upper.reshape((1,) * (index.ndim - 1) + (3,)) + 1e-4)
    yaw_inside = inside[..., 0] | (is_full_circle(angles) & jnp.isfinite(index[..., 0]))
    return yaw_inside & inside[..., 1] & inside[..., 2]


# --- decoupled estimates: one cost per translation, one per orientation ---------------------------


def translation_expectation(
    cost: Array, cell_size: float | Array, *, temperature: float | Array = 1.0
) -> Array:
    """Mean (x, y) in metres under softmax(cost / temperature), cost [2r+1, 2r+1] -> [2]."""
    radius = volume_radius(cost[None])
    p = jnp.exp(log_probabilities(cost, temperature=temperature))
    offset = jnp.arange(-radius, radius + 1, dtype=p.dtype) * cell_size
    return jnp.stack([matmul(p.sum(0), offset), matmul(p.sum(1), offset)])


def orientation_expectation(
    cost: Array, angles: Array, *, temperature: float | Array = 1.0
) -> Array:
    """Circular mean yaw in radians under softmax(cost / temperature), cost [K] -> scalar."""
    return circular_mean(jnp.exp(log_probabilities(cost, temperature=temperature)), angles)


def pose_errors(pose: Array, truth: Array) -> Array:
    """(x, y, yaw) differences [..., 3], yaw wrapped to [-pi, pi)."""
    pose, truth = as_float(pose), as_float(truth)
    return jnp.concatenate(
        [pose[..., :2] - truth[..., :2], wrap_angle(pose[..., 2:] - truth[..., 2:])], -1
    )


def expectation_loss(
    pose: Array,
    truth: Array,
    *,
    xy_weight: float | Array = 1.0,
    yaw_weight: float | Array = 1.0,
    norm: Literal["l1", "l2"] = "l1",
) -> Array:
    """Loss of an expected pose [3]: xy_weight (|ex| + |ey|) + yaw_weight |eyaw|.

    Metres and radians; with unit weights and norm "l1" the batch mean equals
    2 * (mean absolute xy error) + (mean absolute yaw error). "l2" takes squares instead.
    """
    error = pose_errors(pose, truth)
    if norm == "l1":
        error = jnp.abs(error)
    elif norm == "l2":
        error = error**2
    else:
        raise ValueError(f"norm is 'l1' or 'l2', got {norm!r}")
    return xy_weight * (error[..., 0] + error[..., 1]) + yaw_weight * error[..., 2]
