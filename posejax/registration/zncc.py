"""Masked zero-mean normalised cross-correlation over (yaw, y, x).

Each cell of the rotated online raster has a weight w (its rotated mask) and a value v (bilinear
over the valid cells alone: rotated(mask * online) / w), each geo cell a mask m and a value g. At
every pose the weights of the overlap are w m, and all sums run over exactly that overlap:

    n = sum w m,   cov = sum w m v g - (sum w m v)(sum w m g) / n,   var_v, var_g likewise
    zncc = cov / sqrt(var_v var_g)

Each sum is one correlation (Padfield 2012, "Masked object registration in the Fourier domain").
By Cauchy-Schwarz |zncc| <= 1 up to rounding, because both variances carry the same weights.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.registration.rasters import search_window
from posejax.registration.rotation import rotate
from posejax.registration.spectral import (
    fft_size,
    join_chunks,
    spectrum,
    split_chunks,
)

ChannelRule = Literal["mean", "joint"]

# Rotated cells with less valid weight are no cells: dividing by the weight would amplify noise.
_LEAST_WEIGHT = 1e-3
# Variance below which a channel counts as constant, relative to its variance over the raster.
_LEAST_VARIANCE = 1e-4
# Deviations from the median beyond this many typical ones are capped: one cell of 1e4 among cells
# of 1 takes the digits that float32 has for all the others, also at the poses that do not see it.
_FURTHEST = 300.0


def _standardise(raster: Array, mask: Array, joint: bool) -> Array:
    """Centre and scale the valid cells of each channel; invalid cells become zero.

    The score does not depend on offset and scale, so they are constants for the gradient too; what
    they do is keep the differences of large sums accurate in float32.
    """
    low, high = (x[None, None] for x in _range(lax.stop_gradient(raster), mask))
    raster = jnp.clip(raster, low, high)
    constant = lax.stop_gradient(raster)
    weight = mask[..., None]
    count = jnp.maximum(mask.sum(), 1.0)
    mean = (constant * weight).sum((0, 1), keepdims=True) / count
    variance = ((constant - mean) ** 2 * weight).sum((0, 1), keepdims=True) / count
    # Rounding of a constant channel is not a signal: it would be scaled up to look like one.
    variance = jnp.where(variance <= 1e-10 * mean**2, 0.0, variance)
    if joint:
        variance = jnp.broadcast_to(variance.mean(), variance.shape)
    flat = variance <= 0
    scale = jnp.where(flat, 0.0, lax.rsqrt(jnp.where(flat, 1.0, variance)))
    return jnp.where(weight > 0, (raster - mean) * scale, 0.0)


def _range(raster: Array, mask: Array) -> tuple[Array, Array]:
    """Lowest and highest value [C] to keep, from the medians of some 2000 of the valid cells."""
    step = max(1, round((mask.size / 2048) ** 0.5))
    x, known = raster[::step, ::step], mask[::step, ::step].reshape(1, -1) > 0
    x = x.reshape(-1, x.shape[-1]).T

    def median(values, keep):
        ordered = jnp.sort(jnp.where(keep, values, jnp.inf), 1)
        middle = jnp.maximum(keep.sum(1, keepdims=True) - 1, 0) // 2
        return jnp.take_along_axis(ordered, middle, 1)

    centre = median(x, known)
    deviation = jnp.abs(x - centre)
    # Among cells that deviate at all: most cells of a sparse raster are equal.
    reach = (_FURTHEST * median(deviation, known & (deviation > 0)))[:, 0]
    bounded = jnp.isfinite(centre[:, 0]) & jnp.isfinite(reach)
    low, high = centre[:, 0] - reach, centre[:, 0] + reach
    return jnp.where(bounded, low, -jnp.inf), jnp.where(bounded, high, jnp.inf)


def zncc_volume(
    online: Array,
    online_mask: Array,
    geo: Array,
    geo_mask: Array,
    angles: Array,
    radius: int,
    *,
    channels: ChannelRule,
    channel_weights: Array | None,
    yaw_chunk: int,
    remat: bool,
) -> tuple[Array, Array]:
    """Scores and overlaps, both [K, 2r+1, 2r+1]; arguments as in `pose_volume`."""
    if channels not in ("mean", "joint"):
        raise ValueError(f"channels is 'mean' or 'joint', got {channels!r}")
    joint, depth, shape = channels == "joint", online.shape[2], online.shape[:2]
    if channel_weights is None:
        channel_weights = jnp.ones(depth, jnp.float32)
    if channel_weights.shape != (depth,):
        raise ValueError(f"channel_weights is {(depth,)} here, got {channel_weights.shape}")
    size = fft_size(shape, radius)

    online, geo = _standardise(online, online_mask, joint), _standardise(geo, geo_mask, joint)
    geo_weight = geo_mask[..., None]
    moments = jnp.concatenate([geo * geo_weight, geo**2 * geo_weight, geo_weight], -1)
    window_hat = spectrum(search_window(moments, shape, radius), size)
    online_weight = online_mask[..., None]
    sources = jnp.concatenate([online * online_weight, online_weight], -1)
    score = partial(_score, joint=joint, size=size, radius=radius)

    def piece(sources, window_hat, channel_weights, angles):
        return lax.map(
            jax.checkpoint(lambda maps: score(maps, window_hat, channel_weights)),
            rotate(sources, angles),
        )

    if remat:
        piece = jax.checkpoint(piece)
    (pieces,) = split_chunks(yaw_chunk, angles)
    out = lax.map(lambda a: piece(sources, window_hat, channel_weights, a), pieces)
    return join_chunks(out, angles.shape[0])


def _score(rotated, window_hat, channel_weights, *, joint, size, radius):
    """Score and overlap of one rotated [mask * online, mask], [H, W, C + 1]."""
    depth = rotated.shape[-1] - 1
    weight = rotated[..., depth:]
    weight = jnp.where(weight > _LEAST_WEIGHT, weight, 0.0)
    weighted = jnp.where(weight > 0, rotated[..., :depth], 0.0)
    square = weighted**2 / jnp.where(weight > 0, weight, 1.0)
    online_hat = spectrum(jnp.concatenate([weighted, square, weight], -1), size)
    v, vv, w = jnp.split(online_hat, [depth, 2 * depth])
    g, gg, m = jnp.split(window_hat, [depth, 2 * depth])

    channel_weights = (channel_weights / channel_weights.sum())[:, None, None]

    def pool(maps):  # over channels, before or after the inverse transform
        return (channel_weights * maps).sum(0, keepdims=True) if joint else maps

    def inverse(spectra):
        return jnp.fft.irfft2(spectra, s=size)[:, : 2 * radius + 1, : 2 * radius + 1]

    count = inverse(jnp.conj(w) * m)
    share = 1 / jnp.maximum(count, 1.0)
    sum_v, sum_g = inverse(jnp.conj(v) * m), inverse(jnp.conj(w) * g)
    covariance = inverse(pool(jnp.conj(v) * g)) * share - pool(sum_v * sum_g) * share**2
    variance_v = inverse(pool(jnp.conj(vv) * m)) * share - pool(sum_v**2) * share**2
    variance_g = inverse(pool(jnp.conj(w) * gg)) * share - pool(sum_g**2) * share**2

    # Asked this way round, NaN is not taken for a constant.
    flat = (variance_v <= _LEAST_VARIANCE) | (variance_g <= _LEAST_VARIANCE) | (count <= 0.5)
    variance = jnp.where(flat, 1.0, variance_v) * jnp.where(flat, 1.0, variance_g)
    score = jnp.where(flat, 0.0, covariance * lax.rsqrt(variance))
    return score[0] if joint else (channel_weights * score).sum(0), count[0]
