"""How well projections agree with the modes of heatmaps, when any mode may be the right one."""

import jax.numpy as jnp
from jax import Array

from posejax.geometry import einsum
from posejax.keypoints.descent import Measure, Pull
from posejax.keypoints.peaks import Peaks

_WRONG = 0.02  # probability of a point for which its heatmap says nothing, at the least
_SPREAD = 0.1  # share of the probability in no mode that counts as being where it is needed


def inverse2(matrix: Array) -> Array:
    """Inverse of positive definite [..., 2, 2]."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    rows = jnp.stack([d, -b, -c, a], axis=-1) / (a * d - b * c)[..., None]
    return rows.reshape(matrix.shape)


def background(peaks: Peaks) -> Array:
    """Probability [P] that a point is wherever it is asked for, whatever its modes say."""
    return _WRONG + _SPREAD * jnp.maximum(1 - peaks.weight.sum(axis=1), 0)


def mixture(peaks: Peaks, blur: Array | float = 0.0) -> Measure:
    """-log(background + sum_m weight_m exp(-d_m^2 / 2)), d_m the distance in deviations of mode m.

    The probability that the point's mode is where it is projected, rather than a density: a mode is
    worth as much as it holds, be it narrow or wide. `blur` (cells) widens all modes, so that they
    pull from afar.
    """
    eye = jnp.eye(2, dtype=peaks.xy.dtype)[None, None]
    information = inverse2(peaks.covariance + blur**2 * eye)
    floor = background(peaks)

    def measure(xy: Array) -> Pull:
        away = peaks.xy - xy[:, None]
        pulled = jnp.sum(information * away[:, :, None], axis=-1)
        share = peaks.weight * jnp.exp(-0.5 * jnp.sum(away * pulled, axis=-1))
        total = floor + share.sum(axis=1)
        share = share / total[:, None]
        return Pull(
            cost=-jnp.log(total),
            force=jnp.sum(share[..., None] * pulled, axis=1),
            stiffness=einsum("pm,pmij->pij", share, information),
            share=share.sum(axis=1),
        )

    return measure
