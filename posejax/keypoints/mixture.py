"""How well projections agree with the modes of heatmaps, when any mode may be the right one."""

import jax.numpy as jnp
from jax import Array

from posejax.keypoints.descent import Measure, Pull
from posejax.keypoints.peaks import Peaks

_WRONG = 0.02  # probability of a point for which its heatmap says nothing, at the least
_SPREAD = 0.1  # share of the probability in no mode that counts as being where it is needed


def background(peaks: Peaks) -> Array:
    """Probability [P] that a point is wherever it is asked for, whatever its modes say."""
    return _WRONG + _SPREAD * jnp.maximum(1 - peaks.weight.sum(axis=1), 0)


def mixture(peaks: Peaks, blur: Array | float = 0.0) -> Measure:
    """-log(background + sum_m weight_m exp(-d_m^2 / 2)), d_m the distance in deviations of mode m.

    The probability that the point's mode is where it is projected, rather than a density: a mode is
    worth as much as it holds, be it narrow or wide. `blur` (cells) widens all modes, so that they
    pull from afar.
    """
    x, y = (peaks.xy[..., i].T for i in range(2))
    xx, xy, yy = (peaks.covariance[..., i, j].T for i, j in ((0, 0), (0, 1), (1, 1)))
    xx, yy = xx + blur**2, yy + blur**2
    inverse = 1 / (xx * yy - xy**2)
    xx, xy, yy = yy * inverse, -xy * inverse, xx * inverse
    weight, floor = peaks.weight.T, background(peaks)

    def measure(seen: Array) -> Pull:
        u, v = x - seen[0][None], y - seen[1][None]
        right, down = xx * u + xy * v, xy * u + yy * v
        share = weight * jnp.exp(-0.5 * (u * right + v * down))
        total = floor + share.sum(axis=0)
        share = share / total[None]
        return Pull(
            cost=-jnp.log(total),
            force=jnp.stack([(share * f).sum(axis=0) for f in (right, down)]),
            stiffness=jnp.stack([(share * s).sum(axis=0) for s in (xx, xy, yy)]),
            share=share.sum(axis=0),
        )

    return measure
