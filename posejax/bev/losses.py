"""Losses of bird's-eye maps, and their weighting by learnt uncertainties.

All take arrays of any leading shape, a batch among them, and average over all of it: the losses
of Simple-BEV (Harley et al., ICRA 2023), after FIERY (Hu et al., ICCV 2021). In float32.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import as_float

EPS = 1e-6
FACTORS = {"segmentation": 10.0, "center": 0.5, "offset": 0.5}


def masked_mean(values: ArrayLike, mask: ArrayLike) -> Array:
    """sum(values * mask) / (1e-6 + sum(mask)): zero, with zero gradients, where all is masked.

    Values under a zero mask do not enter; where gradients are taken, they must be finite.
    """
    values, mask = as_float(values), as_float(mask)
    return jnp.sum(jnp.where(mask > 0, values, 0) * mask) / (EPS + jnp.sum(mask))


@jax.jit
def segmentation_loss(
    logits: ArrayLike, target: ArrayLike, valid: ArrayLike, *, pos_weight: float = 2.13
) -> Array:
    """Binary cross-entropy where the map is valid, cells of boxes weighted `pos_weight` times.

    Args:
      logits, target, valid: [...].
    """
    logits, target = as_float(logits), as_float(target)
    # -log sigmoid(x) = softplus(-x): finite for every x
    loss = pos_weight * target * jax.nn.softplus(-logits) + (1 - target) * jax.nn.softplus(logits)
    return masked_mean(loss, valid)


@jax.jit
def center_loss(prediction: ArrayLike, target: ArrayLike, valid: ArrayLike | None = None) -> Array:
    """Squared error of the peaks: the mean over cells near a centre and that over all others.

    Args:
      prediction: [...] in [0, 1], after the sigmoid.
      target: [...]; above 0.5 is near.
      valid: [...]; the original passes none.
    """
    prediction, target = as_float(prediction), as_float(target)
    mask = jnp.ones_like(target) if valid is None else as_float(valid)
    square = (prediction - target) ** 2
    near, far = (target > 0.5) * mask, (target < 0.5) * mask
    return 0.5 * (masked_mean(square, near) + masked_mean(square, far))


@jax.jit
def offset_loss(prediction: ArrayLike, target: ArrayLike, mask: ArrayLike) -> Array:
    """Absolute error, summed over x and z, averaged over `mask`.

    Args:
      prediction, target: [..., 2] cells.
      mask: [...], cells on visible boxes: segmentation * valid.
    """
    difference = as_float(prediction) - as_float(target)
    return masked_mean(jnp.sum(jnp.abs(difference), axis=-1), mask)


def uncertainty_weighting(
    losses: Mapping[str, ArrayLike],
    log_variances: Mapping[str, ArrayLike],
    factors: Mapping[str, float] | None = None,
) -> tuple[Array, dict[str, Array]]:
    """sum of factor * exp(-w) * loss + w / 2 with a learnt w for each.

    Args:
      losses: scalars by name.
      log_variances: w by the same names, zero at the start.
      factors: by the same names; the default is the original's, `FACTORS`.

    Returns:
      the total, and the weighted loss of each name (without w / 2).

    Kendall et al., Multi-task learning using uncertainty to weigh losses, CVPR 2018.
    """
    factors = FACTORS if factors is None else factors
    if not losses.keys() == log_variances.keys() or losses.keys() - factors.keys():
        raise ValueError(
            f"losses {sorted(losses)}, log_variances {sorted(log_variances)} and factors "
            f"{sorted(factors)} need the same names"
        )
    weights = {name: as_float(log_variances[name]) for name in losses}
    terms = {
        name: factors[name] * jnp.exp(-weights[name]) * as_float(loss)
        for name, loss in losses.items()
    }
    total = jnp.zeros(())
    for name, term in terms.items():
        total = total + term + 0.5 * weights[name]
    return total, terms
