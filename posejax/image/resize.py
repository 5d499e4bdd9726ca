"""Resizing of channels-last images."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Method = Literal["nearest", "bilinear", "bicubic", "lanczos3"]
_METHODS = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic", "lanczos3": "lanczos3"}


def whole_size(
    shape: tuple[int, ...], longest: float | None = None, *, multiple: int = 32,
    enlarge: bool = False,
) -> tuple[int, int]:  # fmt: skip
    """(height, width) near those of an image, in whole multiples, for networks that halve it.

    Args:
      shape: (height, width, ...) of the image.
      longest: most pixels that a side of the result has; None for the image's own size.
      multiple: of pixels.
      enlarge: also bring smaller images to `longest`.

    Returns:
      Of both sides the nearest multiple that is not above `longest` and, unless it enlarges, not
      above the image's own; at least one multiple.
    """
    sides = shape[:2]
    factor = longest / max(sides) if longest else 1.0
    if not enlarge:
        factor = min(factor, 1.0)
    most = max(sides) if longest is None else longest
    limits = (most, most) if enlarge else (min(most, side) for side in sides)
    height, width = (
        # A limit such as 0.7 * 960 may lie a rounding error below its multiple.
        multiple * max(1, min(round(factor * side / multiple), int((limit + 1e-6) // multiple)))
        for side, limit in zip(sides, limits, strict=True)
    )
    return height, width


def resize(
    image: ArrayLike,
    shape: tuple[int, int],
    *,
    method: Method = "bilinear",
    antialias: bool = True,
) -> Array:
    """Image at another resolution; pixel coordinates scale as u' = u * (new size / old size).

    Args:
      image: [H, W, C] or [H, W]. Integers and booleans become float32, except for "nearest".
      shape: (H', W').
      method: "nearest", "bilinear", "bicubic" (Keys, a = -0.5) or "lanczos3".
      antialias: widen the kernel when shrinking, so that every input pixel counts. Without it this
        is PyTorch's `interpolate(align_corners=False)` for "bilinear".

    Returns:
      [H', W', C] or [H', W'], in the dtype of the (floating) image. Weights are normalised at the
      borders: a constant image stays constant. Intrinsics follow by `resize_intrinsics`.

    Differentiable; two matrix products, fast forwards and backwards on every device.
    """
    image = jnp.asarray(image)
    if image.ndim not in (2, 3):
        raise ValueError(f"image is [H, W, C] or [H, W], got {image.shape}")
    if method not in _METHODS:
        raise ValueError(f"method is one of {sorted(_METHODS)}, got {method!r}")
    if len(shape) != 2 or any(side < 1 for side in shape):
        raise ValueError(f"shape is (H', W'), two positive sizes, got {shape}")
    if method != "nearest" and not jnp.issubdtype(image.dtype, jnp.floating):
        image = image.astype(jnp.float32)
    return jax.image.resize(
        image,
        (*shape, *image.shape[2:]),
        method=_METHODS[method],
        antialias=antialias,
        precision=jax.lax.Precision.HIGHEST,
    )
