"""Where points lie on an image's features, and what is there.

A pixel coordinate begins at the image's corner, so a feature map s times as large has every point
at s times its coordinates: no further term. A frame's own points all lie on its image, and every
one of them is valid; what is within half a cell of the edge reads the edge's cell.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum, project
from posejax.sparse.groups import make_groups, spread
from posejax.systems.bifusion.config import Compat

MIN_DEPTH = 1e-3  # metres


class Projection(NamedTuple):
    """Points on a feature map.

    Attributes:
      xy: [..., 2] the map's pixels, the first one's centre at (0.5, 0.5); there where not valid.
      depth: [...] metres along the optical axis.
      valid: [...] bool: before the camera and on the image.
    """

    xy: Array
    depth: Array
    valid: Array


def project_points(
    points: ArrayLike,
    intrinsics: ArrayLike,
    camera_from_world: ArrayLike,
    *,
    image_size: tuple[int, int],
    map_size: tuple[int, int],
    min_depth: float = MIN_DEPTH,
    compat: Compat = "none",
) -> Projection:
    """Places of points on a map of features of the whole image.

    Args:
      points: [N, 3] metres, world frame.
      intrinsics: [3, 3], pixels of the image; the first pixel's centre is (0.5, 0.5).
      camera_from_world: [4, 4], OpenCV's axes.
      image_size, map_size: (height, width).
      min_depth: metres; what is nearer is not valid.
      compat: see `ModelConfig`.

    Differentiable in points, intrinsics and pose; validity is a step and passes no gradient.
    """
    pose = as_float(camera_from_world)
    if pose.shape != (4, 4):
        raise ValueError(f"camera_from_world is [4, 4], got {pose.shape}; use jax.vmap")
    local = einsum("ij,nj->ni", pose[:3, :3], points) + pose[None, :3, 3]
    xy, ahead = project(local, intrinsics, min_depth=min_depth)
    scale = jnp.array([m / i for m, i in zip(map_size, image_size, strict=True)][::-1])[None]
    xy = (xy - 0.5) * scale + 0.5 if compat == "scaled_only" else xy * scale
    size = jnp.array(map_size[::-1], xy.dtype)[None]
    margin = 0.0 if compat == "none" else 0.5
    inside = jnp.all((xy >= margin) & (xy <= size - margin), axis=-1)
    valid = ahead & inside
    return Projection(jnp.where(valid[:, None], xy, 0.5), local[:, 2], valid)


def sample_features(features: ArrayLike, xy: ArrayLike, valid: ArrayLike) -> Array:
    """Bilinear samples of feature maps; a batch at once.

    Args:
      features: [B, h, w, C].
      xy: [B, N, 2] pixels of the maps.
      valid: [B, N] bool.

    Returns:
      [B, N, C], zero where not valid. Beyond the outermost centres the edge's cell is read.

    Differentiable in features and xy. The gradient in the features reads each cell's samples in
    their order, log2(samples of the fullest cell) sums deep: no scatter, the same bits every time.
    """
    features, xy = jnp.asarray(features), as_float(xy)
    batch, height, width, channels = features.shape
    count, cells = xy.shape[1], height * width
    last = jnp.array([width - 1, height - 1], xy.dtype)[None, None]
    place = jnp.clip(xy - 0.5, 0, last)
    low = jax.lax.stop_gradient(jnp.clip(jnp.floor(place), 0, jnp.maximum(last - 1, 0)))
    (fx, fy), (x, y) = jnp.moveaxis(place - low, -1, 0), jnp.moveaxis(low.astype(jnp.int32), -1, 0)
    right, down = min(1, width - 1), min(1, height - 1) * width
    first = y * width + x + cells * jnp.arange(batch, dtype=jnp.int32)[:, None]
    rows = jnp.stack([first, first + right, first + down, first + right + down])
    weights = jnp.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy])
    there = jnp.asarray(valid, bool)[None]
    rows = jnp.where(there, rows, batch * cells).reshape(-1)
    groups = make_groups(rows, batch * cells)
    values = spread(features.reshape(-1, channels), groups)
    values = values.reshape(4, batch, count, channels)
    weights = jnp.where(there, weights, 0)[..., None].astype(features.dtype)
    return jnp.sum(values * weights, axis=0)
