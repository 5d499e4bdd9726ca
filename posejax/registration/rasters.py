"""What every registration function asks of its rasters."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike


def check_rasters(online, geo, radius: int) -> int:
    """Raise ValueError unless both are [H, W, C], with the same C and an even size difference.

    Returns the radius as a Python int: NumPy's would make 64-bit arrays out of 32-bit ones.
    """
    if online.ndim != 3 or geo.ndim != 3:
        raise ValueError(
            f"rasters are [H, W, C], got online {online.shape} and geo {geo.shape}; "
            "add a channel axis with raster[..., None], map over a batch with jax.vmap"
        )
    if online.shape[2] != geo.shape[2]:
        raise ValueError(
            f"online has {online.shape[2]} channels and geo {geo.shape[2]}; they must be equal"
        )
    if any((g - o) % 2 for o, g in zip(online.shape[:2], geo.shape[:2], strict=True)):
        raise ValueError(
            f"sizes of geo {geo.shape[:2]} and online {online.shape[:2]} must differ by even "
            "numbers, or the centres fall on different cell positions; crop or pad geo by one cell"
        )
    if not isinstance(radius, (int, np.integer)) or radius < 0:
        raise ValueError(f"radius is a non-negative int (cells), got {radius!r}")
    return int(radius)


def mask_weight(mask: ArrayLike | None, raster: Array, name: str) -> Array:
    """Mask of a raster as float32 weights [H, W], all one for None; no gradient flows into it."""
    if mask is None:
        return jnp.ones(raster.shape[:2], jnp.float32)
    mask = jnp.asarray(mask)
    if mask.shape != raster.shape[:2]:
        raise ValueError(f"{name}_mask is {raster.shape[:2]} here, got {mask.shape}")
    return lax.stop_gradient(mask.astype(jnp.float32))


def valid_cells(raster: ArrayLike, weight: Array) -> Array:
    """The raster in float32, zero where the weight is.

    Selected, not multiplied: invalid cells of real rasters are often NaN.
    """
    return jnp.where(weight[..., None] > 0, jnp.asarray(raster, jnp.float32), 0.0)


def search_window(geo: Array, shape: tuple[int, ...], radius: int) -> Array:
    """Crop or zero-pad `geo` [Hg, Wg, C] about its centre to [H + 2r, W + 2r, C]."""
    lows = [radius - (g - o) // 2 for g, o in zip(geo.shape[:2], shape, strict=True)]
    pads = [(low, low, 0) for low in lows] + [(0, 0, 0)] * (geo.ndim - 2)
    return lax.pad(geo, jnp.zeros((), geo.dtype), pads)
