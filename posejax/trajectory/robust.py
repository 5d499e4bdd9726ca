"""Residuals of a measured pose and the robust weights that keep gross errors out of a fit.

Networks err in position and attitude for different reasons (a symmetric view turns the body round
and leaves its place alone), so both residuals are weighted on their own. A pair of numbers [2] or
[..., 2] is always (position in metres, rotation in radians).
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.geometry import as_float, einsum, matmul, safe_norm, skew, so3_log

Kernel = Literal["none", "huber", "cauchy", "tukey"]

# In standard deviations per axis: the mean of |r|^2 is 3, and of these lengths the first is
# exceeded by 5 %, the last by one normal residual in a million.
_CUTOFF = {"huber": 2.8, "cauchy": 3.3, "tukey": 5.5}
# Medians and lower quartiles of the length of a standard normal 3-vector.
_MEDIAN, _QUARTILE = 1.5381722544550522, 1.1011530014617787


@jax.jit
def pose_residual(measured: Array, model: Array) -> Array:
    """What a measurement adds to the model, in camera axes.

    Args:
      measured: [..., 4, 4] camera_from_body.
      model: [..., 4, 4].

    Returns:
      [..., 6] = (t_measured - t, log(R_measured R^T)), metres and radians: zero if they agree.
      Unlike log(model^-1 measured) it does not mix a wrong attitude into the position.
    """
    measured, model = as_float(measured), as_float(model)
    turn = einsum("...ij,...kj->...ik", measured[..., :3, :3], model[..., :3, :3])
    return jnp.concatenate([measured[..., :3, 3] - model[..., :3, 3], so3_log(turn)], axis=-1)


def nudge(pose: Array, delta: Array) -> Array:
    """pose exp(delta) to first order, [4, 4] and [6]: for derivatives at delta = 0 only."""
    turn = pose[:3, :3]
    moved = pose.at[:3, :3].add(matmul(turn, skew(delta[3:])))
    return moved.at[:3, 3].add(einsum("ij,j->i", turn, delta[:3]))


def residual_lengths(residual: Array) -> Array:
    """[..., 6] -> [..., 2]."""
    return jnp.stack([safe_norm(residual[..., :3]), safe_norm(residual[..., 3:])], axis=-1)


def kernel_weights(lengths: Array, kernel: Kernel) -> Array:
    """IRLS weights in [0, 1] of residual lengths in standard deviations, elementwise.

    huber min(1, c / d), cauchy 1 / (1 + d^2 / c^2), tukey (1 - d^2 / c^2)^2 within c and 0 beyond.
    """
    lengths = as_float(lengths)
    if kernel == "none":
        return jnp.ones_like(lengths)
    if kernel not in _CUTOFF:
        raise ValueError(f"kernel is 'none', {', '.join(map(repr, _CUTOFF))}; got {kernel!r}")
    ratio = lengths / _CUTOFF[kernel]
    if kernel == "huber":
        return 1 / jnp.maximum(ratio, 1)
    if kernel == "cauchy":
        return 1 / (1 + ratio**2)
    return jnp.where(ratio < 1, 1 - jnp.minimum(ratio, 1) ** 2, 0) ** 2


def masked_quantile(values: Array, mask: Array, share: float) -> Array:
    """Lower sample quantile of the values in `mask` along the first axis; zero if there are none.

    Args:
      values: [M, ...].
      mask: [M].
      share: 0.5 for the median.

    Returns:
      [...].
    """
    shape = (len(mask),) + (1,) * (values.ndim - 1)
    ordered = jnp.sort(jnp.where(mask.reshape(shape), values, jnp.inf), axis=0)
    count = jnp.sum(mask)
    place = jnp.floor(share * (count - 1).astype(values.dtype)).astype(int)
    found = lax.dynamic_index_in_dim(ordered, jnp.maximum(place, 0), axis=0, keepdims=False)
    return jnp.where(count > 0, found, 0)


def robust_scale(lengths: Array, mask: Array, floor: Array) -> Array:
    """Standard deviation per axis from the median length, [M, 2] -> [2], at least `floor` [2].

    Right for normal residuals; with 30 % gross errors 1.25 times too large, never worse.
    """
    return jnp.maximum(masked_quantile(lengths, mask, 0.5) / _MEDIAN, floor)


def quartile_scale(lengths: Array, mask: Array, floor: Array) -> Array:
    """As `robust_scale` from the lower quartile: holds up to 3 in 4 gross errors."""
    return jnp.maximum(masked_quantile(lengths, mask, 0.25) / _QUARTILE, floor)


def relative_weights(
    relative: Array, valid: Array, kernel: Kernel | Callable[[Array], Array]
) -> Array:
    """Weights [M, 2] of residuals over their claimed standard deviations, zero where not `valid`.

    Residuals that are larger than claimed as a whole are no reason to drop most of them: the cutoff
    then follows their median.
    """
    scale = robust_scale(relative, valid, jnp.ones(2, relative.dtype))
    relative = relative / scale[None]
    weights = kernel(relative) if callable(kernel) else kernel_weights(relative, kernel)
    return jnp.where(valid[:, None], weights, 0)


def spread(pair: Array) -> Array:
    """(position, rotation) [..., 2] -> [..., 6], one for each component of a residual."""
    return jnp.repeat(pair, 3, axis=-1)
