"""Calibration of the reported uncertainty: the temperature of the volume."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.registration.estimate import pose_nll


@partial(jax.jit, static_argnames="steps")
def fit_temperature(
    volumes: Array,
    poses: Array,
    angles: Array,
    cell_size: float | Array,
    *,
    lowest: float = 1e-3,
    highest: float = 1e3,
    steps: int = 40,
) -> Array:
    """Temperature that minimises the mean NLL of true poses: one number for a whole data set.

    Args:
      volumes: [N, K, 2r+1, 2r+1] scores.
      poses: [N, 3] true (x, y, yaw). Fit on training data, report on validation data.
      angles: [K] radians, shared by all.
      cell_size: metres per cell.
      lowest, highest: bracket. The NLL is convex in 1 / temperature (it is the log-partition
        function minus a linear term), so golden-section search in log temperature finds the
        minimum; a minimum outside the bracket returns its end, a NaN among the scores NaN.
      steps: golden-section steps (static); 40 leave 1e-8 of the bracket.
    """

    def mean_nll(log_temperature):
        def one(item):
            volume, pose = item
            return pose_nll(volume, pose, angles, cell_size, temperature=jnp.exp(log_temperature))

        return lax.map(one, (volumes, poses), batch_size=16).mean()

    golden = (math.sqrt(5) - 1) / 2

    def shrink(_, state):
        a, b, c, d, fc, fd = state
        left = fc < fd
        a, b = jnp.where(left, a, c), jnp.where(left, d, b)
        new = jnp.where(left, b - golden * (b - a), a + golden * (b - a))
        value = mean_nll(new)
        c, d, fc, fd = (
            jnp.where(left, new, d),
            jnp.where(left, c, new),
            jnp.where(left, value, fd),
            jnp.where(left, fc, value),
        )
        return a, b, c, d, fc, fd

    a, b = jnp.log(jnp.float32(lowest)), jnp.log(jnp.float32(highest))
    c, d = b - golden * (b - a), a + golden * (b - a)
    state = lax.fori_loop(0, steps, shrink, (a, b, c, d, mean_nll(c), mean_nll(d)))
    # Comparisons with NaN are false: the search would end at the upper end without a word.
    known = ~jnp.isnan(state[4] + state[5])
    return jnp.where(known, jnp.exp((state[0] + state[1]) / 2), jnp.nan)
