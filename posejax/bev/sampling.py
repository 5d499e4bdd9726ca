"""Where a voxel is sampled in the feature map of a camera: exactly, or as the original does it."""

from typing import Any, Literal

import numpy as np

Compat = Literal["simple_bev"]
MIN_DEPTH = 1e-3  # metres: what is nearer to the camera's plane is not seen


def check_compat(compat: str | None) -> None:
    """Raise ValueError for a rule that does not exist."""
    if compat not in (None, "simple_bev"):
        raise ValueError(f'compat is None or "simple_bev", got {compat!r}')


def feature_scale(
    image: tuple[int, int], size: tuple[int, int], compat: Compat | None
) -> tuple[np.ndarray, np.ndarray]:
    """Feature pixel = scale * image pixel + offset, both (x, y)."""
    scale = np.array([size[1] / image[1], size[0] / image[0]])
    # The original scales coordinates whose first centre is 0, and takes the result for the same.
    return scale, np.zeros(2) if compat is None else 0.5 - 0.5 * scale


def stretch(xy, size: tuple[int, int], compat: Compat | None):
    """Where a feature pixel is sampled; in the original, 0.5 at the left edge is 0 and so on."""
    if compat is None:
        return xy
    factor = np.array([n / max(n - 1, 1) for n in size[::-1]], xy.dtype)
    return (xy - 0.5) * factor.reshape((1,) * (xy.ndim - 1) + (2,))


def taps(xy, size: tuple[int, int], xp: Any = np):
    """Rows of the four pixels around points [..., 2] and bilinear weights, [..., 4] each.

    The weight is zero for pixels off the map. `xp` is NumPy, or jax.numpy for gradients in `xy`.
    """
    corner = xp.floor(xy - 0.5)
    fx, fy = (xy[..., n] - 0.5 - corner[..., n] for n in (0, 1))
    column, row = (corner[..., n].astype(xp.int32) for n in (0, 1))
    pixels, weights = [], []
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        i, j = row + dy, column + dx
        weight = (fx if dx else 1 - fx) * (fy if dy else 1 - fy)
        on = (i >= 0) & (i < size[0]) & (j >= 0) & (j < size[1])
        pixels.append(xp.where(on, i * size[1] + j, 0))
        weights.append(xp.where(on, weight, 0))
    return xp.stack(pixels, axis=-1), xp.stack(weights, axis=-1)
