"""Pure functions of outputs and truth."""

import jax
import jax.numpy as jnp
import numpy as np


def squared_distance(xy: jax.Array, truth: jax.Array) -> jax.Array:
    """`[..., 2]` against `[..., 2]` (m) -> `[...]` (m^2)."""
    return jnp.sum((xy - truth) ** 2, axis=-1)


def spread(distance: np.ndarray) -> np.float32:
    """Standard deviation per axis (m) that explains the distances `[N]` (m) best."""
    return np.float32(np.sqrt(np.mean(distance.astype(np.float64) ** 2) / 2))
