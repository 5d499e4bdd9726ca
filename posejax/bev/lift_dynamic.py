"""The lift for calibrations that move: the same volume as by a plan, differentiable in them."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.bev.lift import EPS
from posejax.bev.plan import take
from posejax.bev.sampling import MIN_DEPTH, Compat, check_compat, feature_scale, stretch, taps
from posejax.bev.voxels import VoxelGrid
from posejax.geometry import as_float, einsum


def lift_dynamic(
    features: ArrayLike,
    intrinsics: ArrayLike,
    camera_from_grid: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    grid: VoxelGrid,
    image_size: tuple[int, int],
    max_cameras: int = 2,
    compat: Compat | None = None,
) -> Array:
    """`lift` without a plan: one program, and one cost, for all calibrations.

    Args:
      features: [N, h, w, C].
      intrinsics: [N, 3, 3], pixels of the images.
      camera_from_grid: [N, 4, 4].
      mask: [N] bool, cameras that are there (default all).
      grid: the volume.
      image_size: (height, width) of the images.
      max_cameras: the first so many cameras that see a voxel are averaged; time and memory grow
        with it. Two is all that nuScenes has; `LiftPlan.max_cameras` tells it of another rig.
      compat: see `make_lift_plan`.

    Returns:
      [Z, Y, X, C], what `lift` returns with the plan of the same calibration, but for rounding:
      projections are in float32 here, and the plan's in float64.

    Differentiable in features, intrinsics and poses. Which cameras see a voxel is a step function
    of the calibration and passes no gradient. Gathered rows are not kept for the gradient but
    gathered again; the gradient in the features adds up scattered rows and takes several times as
    long as the plan's.
    """
    features = jnp.asarray(features)
    if features.ndim != 4:
        raise ValueError(f"features are [N, h, w, C], got {features.shape}; use jax.vmap")
    if not jnp.issubdtype(features.dtype, jnp.floating):
        features = features.astype(jnp.float32)
    k, poses, cameras = as_float(intrinsics), as_float(camera_from_grid), len(features)
    if k.shape != (cameras, 3, 3) or poses.shape != (cameras, 4, 4):
        raise ValueError(f"calibrations of {cameras} cameras, got {k.shape} and {poses.shape}")
    check_compat(compat)
    present = jnp.ones(cameras, bool) if mask is None else jnp.asarray(mask, bool)
    image = int(image_size[0]), int(image_size[1])
    return _lift_dynamic(features, k, poses, present, grid, image, int(max_cameras), compat)


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _lift_dynamic(
    features: Array,
    k: Array,
    poses: Array,
    present: Array,
    grid: VoxelGrid,
    image: tuple[int, int],
    max_cameras: int,
    compat: Compat | None,
) -> Array:
    size = int(features.shape[1]), int(features.shape[2])
    features = jnp.where(present[:, None, None, None], features, 0)
    xy, seen = _views(k, poses, grid, image, size, compat)
    seen &= present[:, None]
    rank = jnp.cumsum(seen, axis=0)
    flat = features.reshape(-1, features.shape[-1])
    total, count = jnp.zeros(()), jnp.zeros(())
    for n in range(max_cameras):
        mine = seen & (rank == n + 1)
        camera, there = jnp.argmax(mine, axis=0), mine.any(0)
        at = jnp.take_along_axis(xy, camera[None, :, None], axis=0)[0]
        value = _sample(flat, at, camera * size[0] * size[1], there, size)
        counts = there[:, None] if compat is None else value != 0
        total += jnp.where(counts, value, 0)  # what counts in no mean passes no gradient either
        count += counts.astype(jnp.float32)
    mean = total / (jnp.maximum(count, 1) if compat is None else EPS + count)
    return mean.astype(features.dtype).reshape(*grid.shape, -1)


def _views(
    k: Array,
    poses: Array,
    grid: VoxelGrid,
    image: tuple[int, int],
    size: tuple[int, int],
    compat: Compat | None,
) -> tuple[Array, Array]:
    """Feature pixels [N, V, 2] at which the voxels' centres are sampled, and who is seen [N, V]."""
    points = jnp.asarray(grid.centers().reshape(-1, 3), poses.dtype)
    local = einsum("nij,vj->nvi", poses[:, :3, :3], points) + poses[:, None, :3, 3]
    ahead = local[..., 2] >= MIN_DEPTH
    ray = local / jnp.where(ahead, local[..., 2], 1)[..., None]
    scale, offset = (
        jnp.asarray(v, k.dtype)[None, None] for v in feature_scale(image, size, compat)
    )
    xy = einsum("nij,nvj->nvi", k[:, :2], ray) * scale + offset
    inside = (xy > 0) & (xy < jnp.asarray(size[::-1], xy.dtype)[None, None])
    seen = ahead & inside.all(-1)
    # Coordinates of what is not seen may be huge; as zeros they pass zero gradients.
    return stretch(jnp.where(seen[..., None], xy, 0.5), size, compat), seen


@jax.checkpoint
def _checkpointed(flat: Array, pixel: Array, weight: Array) -> Array:
    parts = (take(flat, pixel[:, i]) * weight[:, i, None] for i in range(4))
    return functools.reduce(jnp.add, parts)


def _sample(flat: Array, xy: Array, base: Array, there: Array, size: tuple[int, int]) -> Array:
    pixel, weight = taps(xy, size, jnp)
    weight = jnp.where(there[:, None], weight, 0)
    return _checkpointed(flat, pixel + base[:, None], weight)
