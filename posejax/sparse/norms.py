"""Normalisation over the voxels that are there."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike


@jax.jit
def masked_moments(features: ArrayLike, mask: ArrayLike) -> tuple[Array, Array, Array]:
    """Mean and (biased) variance of each channel over rows of a mask.

    Args:
      features: [N, C].
      mask: [N] bool.

    Returns:
      mean, variance: [C] float32, zero without rows; count: [] float32.
    """
    there = jnp.asarray(mask, bool)[:, None]
    x = jnp.where(there, jnp.asarray(features).astype(jnp.float32), 0)
    count = jnp.sum(there, dtype=jnp.float32)
    share = 1 / jnp.maximum(count, 1)
    mean = jnp.sum(x, axis=0) * share
    apart = jnp.where(there, x - mean[None], 0)
    return mean, jnp.sum(apart**2, axis=0) * share, count


@jax.jit
def normalize_rows(
    features: ArrayLike,
    mask: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    epsilon: float = 1e-5,
) -> Array:
    """scale * (features - mean) / sqrt(variance + epsilon) + bias; zero in rows without voxel.

    Args:
      features: [N, C]; mask: [N] bool; mean, variance, scale, bias: [C].
    """
    features = jnp.asarray(features)
    gain = lax.rsqrt(jnp.asarray(variance) + epsilon) * jnp.asarray(scale)
    mean, gain, bias = (jnp.asarray(v)[None] for v in (mean, gain, bias))
    y = (features.astype(jnp.float32) - mean) * gain + bias
    return jnp.where(jnp.asarray(mask, bool)[:, None], y, 0).astype(features.dtype)


@jax.jit
def masked_layer_norm(
    features: ArrayLike,
    mask: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    epsilon: float = 1e-5,
) -> Array:
    """Normalise every row over its channels, [N, C]; zero in rows without voxel."""
    x = jnp.asarray(features)
    there = jnp.asarray(mask, bool)[:, None]
    wide = jnp.where(there, x.astype(jnp.float32), 0)
    apart = wide - jnp.mean(wide, axis=1, keepdims=True)
    gain = lax.rsqrt(jnp.mean(apart**2, axis=1, keepdims=True) + epsilon)
    y = apart * gain * jnp.asarray(scale)[None] + jnp.asarray(bias)[None]
    return jnp.where(there, y, 0).astype(x.dtype)
