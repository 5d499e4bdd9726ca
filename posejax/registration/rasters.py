"""What every registration function asks of its rasters."""

import jax.numpy as jnp
from jax import Array, lax


def check_rasters(online, geo, radius: int) -> None:
    """Raise ValueError unless both are [H, W, C], with the same C and an even size difference."""
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
    if not isinstance(radius, int) or radius < 0:
        raise ValueError(f"radius is a non-negative int (cells), got {radius!r}")


def search_window(geo: Array, shape: tuple[int, ...], radius: int) -> Array:
    """Crop or zero-pad `geo` [Hg, Wg, C] about its centre to [H + 2r, W + 2r, C]."""
    lows = [radius - (g - o) // 2 for g, o in zip(geo.shape[:2], shape, strict=True)]
    pads = [(low, low, 0) for low in lows] + [(0, 0, 0)] * (geo.ndim - 2)
    return lax.pad(geo, jnp.zeros((), geo.dtype), pads)
