"""Bilinear sampling of channels-last images at continuous pixel coordinates."""

from typing import Literal

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def bilinear_sample(
    image: ArrayLike,
    xy: ArrayLike,
    *,
    padding: Literal["zeros", "border"] = "zeros",
    valid: Literal["centers", "image"] = "centers",
) -> tuple[Array, Array]:
    """Values of an image between its pixel centres.

    Args:
      image: [H, W, C]. Integers and booleans count as float32.
      xy: [..., 2] pixel coordinates (column, row); the first pixel's centre is (0.5, 0.5).
      padding: what lies outside the image: "zeros", or "border", its nearest edge pixel.
      valid: a point is valid if it lies between the outermost pixel "centers" (bounds included;
        no padding enters its value), or anywhere on the "image", [0, W] x [0, H].

    Returns:
      values [..., C] in the image's dtype, and valid [...] bool. Points that are not finite have
      value zero, are not valid, and pass zero gradients.

    Differentiable with respect to both arguments. The gradient with respect to the image adds up
    scattered values, an order of magnitude slower than the forward pass on CPUs.
    """
    image, xy = jnp.asarray(image), jnp.asarray(xy)
    if image.ndim != 3:
        raise ValueError(f"image is [H, W, C], got {image.shape}; use jax.vmap over a batch")
    if xy.ndim == 0 or xy.shape[-1] != 2:
        raise ValueError(f"xy is [..., 2] = (column, row), got {xy.shape}")
    if padding not in ("zeros", "border"):
        raise ValueError(f'padding is "zeros" or "border", got {padding!r}')
    if valid not in ("centers", "image"):
        raise ValueError(f'valid is "centers" or "image", got {valid!r}')
    if not jnp.issubdtype(image.dtype, jnp.floating):
        image = image.astype(jnp.float32)
    xy = xy.astype(jnp.promote_types(xy.dtype, jnp.float32))
    height, width, _ = image.shape

    x, y = xy[..., 0], xy[..., 1]
    margin = 0.5 if valid == "centers" else 0.0
    inside = (x >= margin) & (x <= width - margin) & (y >= margin) & (y <= height - margin)
    finite = jnp.isfinite(x) & jnp.isfinite(y)
    x, y = jnp.where(finite, x - 0.5, -1), jnp.where(finite, y - 0.5, -1)
    low, high = (-1, 0) if padding == "zeros" else (0, -1)
    x = jnp.clip(x, low, width + high)
    y = jnp.clip(y, low, height + high)
    x0, y0 = jnp.floor(x), jnp.floor(y)
    fx, fy = x - x0, y - y0
    column, row = x0.astype(jnp.int32), y0.astype(jnp.int32)
    flat = image.reshape(height * width, -1)

    def tap(dx: int, dy: int, weight: Array) -> Array:
        i, j = row + dy, column + dx
        known = (i >= 0) & (i < height) & (j >= 0) & (j < width) & finite
        index = jnp.clip(i, 0, height - 1) * width + jnp.clip(j, 0, width - 1)
        weight = jnp.where(known, weight, 0)[..., None]
        value = flat.at[index].get(mode="promise_in_bounds")
        return (value * weight).astype(jnp.promote_types(image.dtype, jnp.float32))

    total = (
        tap(0, 0, (1 - fx) * (1 - fy))
        + tap(1, 0, fx * (1 - fy))
        + tap(0, 1, (1 - fx) * fy)
        + tap(1, 1, fx * fy)
    )
    return total.astype(image.dtype), inside


def masked_bilinear_sample(image: ArrayLike, mask: ArrayLike, xy: ArrayLike) -> tuple[Array, Array]:
    """Bilinear sample that leaves out unknown pixels instead of mixing them in.

    Args:
      image: [H, W, C]; values under a zero mask are ignored, whatever they are (NaN included).
      mask: [H, W] bool, or float in [0, 1].
      xy: [..., 2] pixel coordinates, as for `bilinear_sample`.

    Returns:
      values [..., C], the average of the known pixels among the four neighbours with their bilinear
      weights (zero where there is none), and known [...] float32 in [0, 1], the total weight of
      those. A depth map or a raster with holes is sampled this way; `known == 1` keeps only points
      that rest on known pixels alone.
    """
    image = jnp.asarray(image)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        image = image.astype(jnp.float32)
    mask = jnp.asarray(mask)
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask is [H, W] = {image.shape[:2]}, got {mask.shape}")
    weight = mask.astype(jnp.promote_types(image.dtype, jnp.float32))[..., None]
    known_image = jnp.where(weight > 0, image, 0) * weight
    sampled, _ = bilinear_sample(jnp.concatenate([known_image, weight], axis=-1), xy)
    total = sampled[..., -1:]
    values = jnp.where(total > 0, sampled[..., :-1], 0) / jnp.where(total > 0, total, 1)
    return values.astype(image.dtype), total[..., 0]
