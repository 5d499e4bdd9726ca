"""What a network of keypoint heatmaps learns: soft targets of projected points, and their loss.

Positions are in cells of the heatmap, the first cell's centre at (0.5, 0.5): pixels of the view
divided by the stride. A target is the product of a row and a column profile, so that the loss never
builds it: one pass over the logits for the partition sum, one for two small products.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.stats import norm
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum

_TINY = 1e-12


def _profile(position: Array, count: Array, cells: int, sigma: float) -> Array:
    """Share of each of `cells` cells [cells, P] in points at `position` [P], summing to one; those
    from `count` on have none.

    A normal density convolved with a hat two cells wide: linear interpolation of a blurred point.
    The hat's spectrum has double zeros at all sampling frequencies but zero, so that the sum of the
    samples is one and their mean is the position, exactly, for any sigma.
    """
    middle = (jnp.arange(cells, dtype=position.dtype) + 0.5)[:, None]
    away = -jnp.abs(position[None] - middle)

    def ramp(x):  # the integral of the normal distribution function; its far side loses no digits
        return x * norm.cdf(x / sigma) + sigma**2 * norm.pdf(x, scale=sigma)

    share = jnp.maximum(ramp(away + 1) - 2 * ramp(away) + ramp(away - 1), 0)
    share = jnp.where(middle < count, share, 0)
    return share / jnp.maximum(jnp.sum(share, axis=0, keepdims=True), _TINY)


def _profiles(xy: ArrayLike, size: tuple[int, int], sigma: float) -> tuple[Array, Array, Array]:
    """Row profile [h, P], column profile [w, P], and which points lie in the view [P]."""
    if sigma <= 0:
        raise ValueError(f"sigma is positive, got {sigma}")
    xy = as_float(xy)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"points are [P, 2], got {xy.shape}; use jax.vmap for several views")
    limit = jnp.array(size[::-1], xy.dtype)[None]
    inside = jnp.all((xy >= 0) & (xy <= limit), axis=1)  # False for NaN
    xy = jnp.where(inside[:, None], xy, limit / 2)
    # A loop over the two axes, because what it returns is kept: XLA's CPU compiler otherwise moves
    # the profiles' arithmetic into the gradient of every cell of the map, 2.6 times the work.
    rows, columns = jax.lax.map(
        lambda axis: _profile(axis[0], axis[1], max(size), sigma),
        (xy.T[::-1], jnp.array(size, xy.dtype)),
    )
    return rows[: size[0]], columns[: size[1]], inside


@partial(jax.jit, static_argnames=("size", "sigma"))
def heatmap_targets(xy: ArrayLike, size: tuple[int, int], *, sigma: float) -> Array:
    """Soft target of each point: a normal density, interpolated linearly to the cells.

    Args:
      xy: [P, 2] in cells.
      size: (h, w).
      sigma: standard deviation in cells; the target's variance is sigma^2 + 1/6 on each axis.

    Returns:
      [h, w, P], nothing negative. Each sums to one and has its mean at the point, sub-cell exact,
      but for what the border cuts off (which is made up for by scaling). Points outside of the
      view, or not finite, have zeros.

    Raises:
      ValueError: shapes do not fit, or sigma is not positive.
    """
    rows, columns, inside = _profiles(xy, size, sigma)
    return rows[:, None] * (columns * inside[None])[None]


@partial(jax.jit, static_argnames=("sigma", "divergence"))
def heatmap_nll(
    logits: ArrayLike,
    xy: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    sigma: float,
    divergence: bool = False,
) -> Array:
    """Cross-entropy of a softmax over cells against the target of each point.

    Args:
      logits: [h, w, P].
      xy: [P, 2] in cells.
      weight: [P]; by default one.
      sigma: as in `heatmap_targets`.
      divergence: subtract the target's entropy, so that the least value is zero; same gradient
        with respect to the logits.

    Returns:
      [P] nats times `weight`; zero for points outside of the view.

    Raises:
      ValueError: shapes do not fit, or sigma is not positive.
    """
    logits = as_float(logits)
    if logits.ndim != 3 or logits.shape[2] != len(jnp.asarray(xy)):
        raise ValueError(f"logits are [h, w, P], got {logits.shape} for {len(jnp.asarray(xy))}")
    height, width, _ = logits.shape
    rows, columns, inside = _profiles(xy, (height, width), sigma)
    expected = jnp.sum(einsum("hwp,hp->wp", logits, rows) * columns, axis=0)
    loss = jax.nn.logsumexp(logits, axis=(0, 1)) - expected
    if divergence:
        for profile in (rows, columns):  # the entropy of a product is the sum of the entropies
            loss = loss + jnp.sum(profile * jnp.log(jnp.maximum(profile, _TINY)), axis=0)
    loss = jnp.where(inside, loss, 0)
    return loss if weight is None else loss * as_float(weight)
