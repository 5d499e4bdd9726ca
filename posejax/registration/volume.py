"""Pose volume: the score of every (yaw, y, x) on a lattice, [K, 2r+1, 2r+1].

Every yaw is one rotation and one correlation over the whole window of shifts, by FFT. The spectrum
of the geo raster is made once; the loop over yaw is a `lax.map`, so that the transforms stay small
(one yaw of one example at a time, all examples of a `vmap` together) and memory does not grow with
the number of yaws beyond what the backward pass keeps (see `remat`).
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.registration.correlation import Method, translation_cost
from posejax.registration.rasters import check_rasters, mask_weight, search_window, valid_cells
from posejax.registration.rotation import rotate
from posejax.registration.spectral import dot_volume, fft_size
from posejax.registration.zncc import ChannelRule, zncc_volume

Score = Literal["dot", "zncc"]

# Rotated rasters of a chunk, and residuals kept for the backward pass, per example.
_CHUNK_BYTES = 16 << 20
_KEEP_BYTES = 64 << 20
# A correlation coefficient of fewer cells says nothing, whatever the fill rates predict.
_FEWEST_CELLS = 4.0
# Overlaps come out of transforms: 3.9999995 cells are four.
_ROUNDING = 1e-3


class PoseVolume(NamedTuple):
    """A pose volume with the support of each score."""

    score: Array
    """[K, 2r+1, 2r+1]."""
    overlap: Array
    """[K, 2r+1, 2r+1]: sum over cells of rotated online mask * shifted geo mask, in cells."""
    expected: Array
    """[K]: overlap that the two fill rates predict for independent masks, in cells."""
    valid: Array
    """[K, 2r+1, 2r+1] bool: overlap >= min_overlap * expected; others have the lowest score."""


def pose_volume(
    online: Array,
    geo: Array,
    angles: Array,
    radius: int,
    *,
    online_mask: Array | None = None,
    geo_mask: Array | None = None,
    score: Score = "dot",
    channels: ChannelRule = "mean",
    channel_weights: Array | None = None,
    min_overlap: float | None = None,
    log_prior: Array | None = None,
    yaw_chunk: int | None = None,
    remat: bool | None = None,
    method: Method = "auto",
) -> Array:
    """Score of every pose (yaw, y, x) of the lattice.

    Args:
      online: [H, W, C] raster of the sensor.
      geo: [Hg, Wg, C] raster of the map, centred on the same point; Hg - H and Wg - W even. Make it
        at least `2 * radius` larger than online where the map allows: cells beyond it are invalid.
      angles: [K] yaws in radians.
      radius: r, largest shift in cells (static).
      online_mask, geo_mask: [H, W] and [Hg, Wg], bool or in [0, 1]; 1 = valid, None = all valid.
      score: "dot", the sum over valid cells and channels of online * geo, or "zncc", the
        zero-mean normalised cross-correlation in [-1, 1] over the true overlap of each pose.
      channels: "zncc" of several channels: "mean" of the channels' own scores, or "joint", one
        score of all channels with their variances pooled (each channel centred by itself).
      channel_weights: [C] non-negative weights of the mean, or of the joint variances.
      min_overlap: smallest overlap of a scored pose as a fraction of the expected one (rotated
        online cells * fill rate of geo over its own extent or online's, whichever is larger).
        Poses below get -1 ("zncc") or the lowest score of the
        volume ("dot"). None: 0.3 for "zncc", no rule for "dot".
      log_prior: [K, 2r+1, 2r+1] added to the scores (see `priors`).
      yaw_chunk: yaws that "zncc" recomputes together in its backward pass (static); None = about
        16 MiB of rotated rasters. The dot score takes one yaw at a time.
      remat: recompute rotations and spectra in the backward pass instead of keeping them (static);
        None = keep up to 64 MiB per example.
      method: "fft", "direct" (dot score of tiny windows; for comparison) or "auto" = "fft".

    Returns:
      [K, 2r+1, 2r+1]: entry [k, i, j] belongs to the pose geo_from_online with yaw angles[k] and
      (x, y) = (j - r, i - r) cells: the content of online turned by yaw about its centre, then
      moved by (x, y).

    Raises:
      ValueError: shapes that do not fit together.

    Scores and gradients are finite for all masks, also empty ones, and for constant rasters
    (score 0); NaN in a valid cell makes the yaws that see it NaN. "zncc" caps cells further than
    300 times the spread of their channel from its median, which float32 could not carry.
    Differentiable once in reverse mode; not with respect to the masks.
    """
    return _pose_volume(
        online,
        geo,
        angles,
        radius,
        False,
        online_mask=online_mask,
        geo_mask=geo_mask,
        score=score,
        channels=channels,
        channel_weights=channel_weights,
        min_overlap=min_overlap,
        log_prior=log_prior,
        yaw_chunk=yaw_chunk,
        remat=remat,
        method=method,
    ).score


def pose_volume_with_overlap(
    online: Array, geo: Array, angles: Array, radius: int, **options
) -> PoseVolume:
    """`pose_volume`, same arguments, with overlap, expected overlap and validity of every pose."""
    return _pose_volume(online, geo, angles, radius, True, **options)


@partial(
    jax.jit,
    static_argnames=("radius", "want_overlap", "score", "channels", "yaw_chunk", "remat", "method"),
)
def _pose_volume(
    online: Array,
    geo: Array,
    angles: Array,
    radius: int,
    want_overlap: bool,
    *,
    online_mask: Array | None = None,
    geo_mask: Array | None = None,
    score: Score = "dot",
    channels: ChannelRule = "mean",
    channel_weights: Array | None = None,
    min_overlap: float | None = None,
    log_prior: Array | None = None,
    yaw_chunk: int | None = None,
    remat: bool | None = None,
    method: Method = "auto",
) -> PoseVolume:
    radius = check_rasters(online, geo, radius)
    angles = jnp.asarray(angles, jnp.float32)
    if angles.ndim != 1:
        raise ValueError(f"angles is [K], got {angles.shape}; for one angle pass angles[None]")
    if score not in ("dot", "zncc"):
        raise ValueError(f"score is 'dot' or 'zncc', got {score!r}")
    if method not in ("auto", "fft", "direct") or (method == "direct" and score == "zncc"):
        raise ValueError(f"method is 'auto', 'fft' or, for the dot score, 'direct', got {method!r}")
    count, (height, width, depth), side = angles.shape[0], online.shape, 2 * radius + 1
    if log_prior is not None and log_prior.shape != (count, side, side):
        raise ValueError(f"log_prior is {(count, side, side)} here, got {log_prior.shape}")
    if yaw_chunk is None:
        yaw_chunk = _CHUNK_BYTES // (4 * height * width * (depth + 1))
    yaw_chunk = min(max(yaw_chunk, 1), count)
    if remat is None:
        rows, columns = fft_size((height, width), radius)
        remat = 4 * count * (depth + 1) * rows * columns > _KEEP_BYTES

    online_weight = mask_weight(online_mask, online, "online")
    geo_weight = mask_weight(geo_mask, geo, "geo")
    online, geo = valid_cells(online, online_weight), valid_cells(geo, geo_weight)

    def dot(a, b, remat) -> Array:
        window = search_window(b, (height, width), radius)
        if method == "direct":
            step = jax.checkpoint(
                lambda angle: translation_cost(rotate(a, angle), window, radius, method="direct")
            )
            return lax.map(step, angles)
        return jnp.asarray(dot_volume(a, window, angles, radius, remat))

    if score == "zncc":
        values, overlap = zncc_volume(
            online,
            online_weight,
            geo,
            geo_weight,
            angles,
            radius,
            channels=channels,
            channel_weights=channel_weights,
            yaw_chunk=yaw_chunk,
            remat=remat,
        )
        lowest = jnp.float32(-1)
        min_overlap = 0.3 if min_overlap is None else min_overlap
    else:
        values = dot(online * online_weight[..., None], geo * geo_weight[..., None], remat)
        lowest = lax.stop_gradient(values.min())
        if want_overlap or min_overlap is not None:
            overlap = dot(online_weight[..., None], geo_weight[..., None], True)
        else:
            overlap = jnp.zeros(values.shape)

    overlap = lax.stop_gradient(jnp.maximum(overlap, 0.0))
    turned_cells = lax.map(lambda angle: rotate(online_weight, angle).sum(), angles)
    # A geo raster smaller than online is one with invalid cells around.
    area = max(geo.shape[0], height) * max(geo.shape[1], width)
    expected = lax.stop_gradient(turned_cells * geo_weight.sum() / area)
    valid = jnp.ones(values.shape, bool)
    if min_overlap is not None:
        least = (1 - _ROUNDING) * jnp.maximum(min_overlap * expected, _FEWEST_CELLS)
        valid = overlap >= least[:, None, None]
        values = jnp.where(valid, values, lowest)
    if log_prior is not None:
        values = values + log_prior
    return PoseVolume(values, overlap, expected, valid)
