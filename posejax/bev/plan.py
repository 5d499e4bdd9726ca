"""The plan of a lift: which pixels every voxel takes, and which voxels every pixel gives to.

A calibrated rig shows a voxel at the same place in every frame, and most of the voxel-camera pairs
not at all (82 % on nuScenes). The plan lists the pairs that exist, once per rig: the forward pass
and its gradient are gathers of rows.
"""

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from posejax.bev.sampling import MIN_DEPTH, Compat, check_compat, feature_scale, stretch, taps
from posejax.bev.voxels import VoxelGrid

# Lengths that the pixels' lists are padded to; the step between two costs 1 row in 6 on average.
_LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
STEP = 8  # entries of a list that are added at a time


class Level(NamedTuple):
    """The k-th camera of every voxel that has that many; level 0 has a row for all voxels.

    Attributes:
      pixel: [n, 4] int32, rows of the features [cameras * h * w, C] around the projection.
      weight: [n, 4] float32, bilinear weights; zero off the image, and for voxels unseen.
      camera: [n] int32, or the number of cameras where a voxel has none.
      voxel: [n] int32, whose row it is.
      next: [n] int32, 1 + the voxel's row in the next level, or 0.
    """

    pixel: Array
    weight: Array
    camera: Array
    voxel: Array
    next: Array


class Bucket(NamedTuple):
    """Pixels that give to about as many voxels: source and weight are [length / 8, 8, pixels].

    `source` is the voxel; with a compat rule, whose gradient differs between a voxel's cameras, the
    row of the pair, levels one after the other. What fills a list up has weight zero.
    """

    source: Array
    weight: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class LiftPlan:
    """What `lift` needs to know of a rig; a pytree, to be passed to jitted functions.

    Its array shapes depend on the calibration: another rig compiles anew. `lift_dynamic` has the
    same shapes for all.

    Attributes:
      levels: the voxels' side, as many as the most cameras that see one voxel (at least one).
      buckets: the pixels' side, for the gradient.
      row: [cameras * h * w] int32, 1 + the pixel's row in the buckets one after the other, or 0.
      grid: the volume.
      features: (cameras, h, w).
      compat: the rule of sampling and averaging.
    """

    levels: tuple[Level, ...]
    buckets: tuple[Bucket, ...]
    row: Array
    grid: VoxelGrid = field(metadata={"static": True})
    features: tuple[int, int, int] = field(metadata={"static": True})
    compat: Compat | None = field(metadata={"static": True})

    @property
    def max_cameras(self) -> int:
        """Most cameras that see one voxel."""
        return len(self.levels) if self.pairs else 0

    @property
    def pairs(self) -> int:
        """Voxel-camera pairs that exist."""
        return int(self.coverage().sum())

    def coverage(self) -> Array:
        """[Z, Y, X] int32: cameras that see each voxel."""
        return self.counts(jnp.ones(self.features[0], bool)).reshape(self.grid.shape)

    @jax.jit
    def counts(self, mask: Array) -> Array:
        """[voxels] int32: cameras of `mask` [cameras] bool that see each voxel."""
        present = jnp.append(mask, False).astype(jnp.int32)
        total = None
        for level in reversed(self.levels):
            total = present[level.camera] + follow(total, level.next)
        return jnp.asarray(total)


def follow(values: Array | None, rows: Array) -> Array | int:
    """values[rows - 1] along the first axis, and 0 where rows are 0, or of nothing."""
    if values is None:
        return 0
    return take(jnp.concatenate([jnp.zeros_like(values[:1]), values]), rows)


def take(table: Array, rows: Array) -> Array:
    """table[rows], without a check of the bounds that the plan keeps."""
    return table.at[rows].get(mode="promise_in_bounds")


def make_lift_plan(
    intrinsics: ArrayLike,
    camera_from_grid: ArrayLike,
    *,
    grid: VoxelGrid,
    image_size: tuple[int, int],
    feature_size: tuple[int, int],
    compat: Compat | None = None,
) -> LiftPlan:
    """The plan of a rig, on the host in float64; equal arguments return the same plan.

    Args:
      intrinsics: [N, 3, 3] in pixels of the images, first pixel's centre at (0.5, 0.5).
      camera_from_grid: [N, 4, 4], from the grid's frame to each camera's.
      grid: the volume.
      image_size: (height, width) of the images, the same for all cameras (resize the intrinsics
        of those that differ).
      feature_size: (h, w) of the feature maps, which cover the images.
      compat: None samples where the voxel's centre projects, which is seen if that lies on the
        image, and averages over the cameras that see it. "simple_bev" does as the original does,
        for its published weights: pixels count from the first pixel's centre and are scaled
        without the half pixel, a grid made for align_corners=True is sampled without (together
        up to 0.94 of a feature's pixel at the right edge of a map 100 wide), and a camera counts
        in the mean, channel by channel, only where its value is not zero.

    Raises:
      ValueError: shapes that do not fit, or values that are not finite.

    Float64 on the host: some 0.6 s for 200x8x200 voxels and six cameras.
    """
    k, poses = np.asarray(intrinsics, np.float64), np.asarray(camera_from_grid, np.float64)
    if k.ndim != 3 or k.shape[1:] != (3, 3) or poses.shape != (len(k), 4, 4) or not len(k):
        raise ValueError(
            f"intrinsics are [N, 3, 3], camera_from_grid [N, 4, 4], got {k.shape}, {poses.shape}"
        )
    if not (np.isfinite(k).all() and np.isfinite(poses).all()):
        raise ValueError("intrinsics and camera_from_grid must be finite")
    check_compat(compat)
    sizes = tuple(int(n) for n in image_size), tuple(int(n) for n in feature_size)
    if any(len(size) != 2 or min(size) < 1 for size in sizes):
        raise ValueError(f"sizes are (height, width), got {image_size} and {feature_size}")
    return _plan(k.tobytes(), poses.tobytes(), len(k), grid, sizes[0], sizes[1], compat)


@functools.lru_cache(maxsize=8)
def _plan(
    k_bytes: bytes,
    pose_bytes: bytes,
    cameras: int,
    grid: VoxelGrid,
    image: tuple[int, int],
    size: tuple[int, int],
    compat: Compat | None,
) -> LiftPlan:
    k = np.frombuffer(k_bytes).reshape(cameras, 3, 3)
    poses = np.frombuffer(pose_bytes).reshape(cameras, 4, 4)
    views = [_view(grid, k[i] @ poses[i, :3], image, size, compat) for i in range(cameras)]
    seen = np.stack([valid for _, valid in views])
    xy = np.stack([xy for xy, _ in views])
    levels = _levels(xy, seen, size)
    buckets, row = _buckets(levels, cameras * size[0] * size[1], compat is None)
    plan = LiftPlan(levels, buckets, row, grid, (cameras, *size), compat)
    with jax.ensure_compile_time_eval():  # the cache must not keep the values of a trace
        return jax.device_put(plan)


def _view(
    grid: VoxelGrid,
    projection: np.ndarray,
    image: tuple[int, int],
    size: tuple[int, int],
    compat: Compat | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Feature pixels [V, 2] of the voxels in one camera (first centre at 0.5), and who is seen."""
    x, y, z = grid.axes()
    # Homogeneous pixels are a sum over the axes: no product with every voxel's point.
    u, v, depth = (
        (row[3] + row[2] * z)[:, None, None] + (row[1] * y)[:, None] + row[0] * x
        for row in projection
    )
    ahead = depth >= MIN_DEPTH
    scale, offset = feature_scale(image, size, compat)
    depth = np.where(ahead, depth, 1)
    u, v = u / depth * scale[0] + offset[0], v / depth * scale[1] + offset[1]
    seen = ahead & (u > 0) & (u < size[1]) & (v > 0) & (v < size[0])
    xy = np.stack([u.reshape(-1), v.reshape(-1)], axis=-1)
    return stretch(xy, size, compat), seen.reshape(-1)


def _single(arrays: Any) -> Any:
    """NumPy arrays of a pytree in int32 and float32."""
    return jax.tree.map(lambda x: x.astype(np.float32 if x.dtype.kind == "f" else np.int32), arrays)


def _levels(xy: np.ndarray, seen: np.ndarray, size: tuple[int, int]) -> tuple[Level, ...]:
    cameras, voxels = seen.shape
    count, rank = seen.sum(0), np.cumsum(seen, axis=0)
    rows = [np.arange(voxels)]
    rows += [np.flatnonzero(count > n) for n in range(1, max(int(count.max()), 1))]
    levels: list[Any] = []
    for n, voxel in enumerate(rows):
        mine = seen[:, voxel] & (rank[:, voxel] == n + 1)
        camera = np.where(mine.any(0), mine.argmax(0), cameras)
        at = np.minimum(camera, cameras - 1)
        pixel, weight = taps(xy[at, voxel], size)
        weight = np.where((camera < cameras)[:, None], weight, 0)
        pixel = np.where(weight > 0, pixel + (at * size[0] * size[1])[:, None], 0)
        after = np.zeros(voxels, np.int64)
        if n + 1 < len(rows):
            after[rows[n + 1]] = np.arange(1, len(rows[n + 1]) + 1)
        whole: Any = (pixel, weight, camera, voxel, after[voxel])
        levels.append(_single(Level(*whole)))
    return tuple(levels)


def _buckets(
    levels: tuple[Level, ...], pixels: int, by_voxel: bool
) -> tuple[tuple[Bucket, ...], Any]:
    """The transposed lists: for every pixel the voxels, or pairs, that it gives to."""
    pixel = np.concatenate([level.pixel.reshape(-1) for level in levels])
    weight = np.concatenate([level.weight.reshape(-1) for level in levels])
    voxel = np.concatenate([level.voxel for level in levels])
    source = np.repeat(voxel if by_voxel else np.arange(len(voxel)), 4)
    live = weight > 0
    pixel, weight, source = pixel[live], weight[live], source[live]
    order = np.argsort(pixel, kind="stable")
    weight, source = weight[order], source[order]
    count = np.bincount(pixel, minlength=pixels)
    start = np.cumsum(count) - count
    lengths: list[int] = list(_LENGTHS)
    while lengths[-1] < count.max(initial=0):
        lengths.append(2 * lengths[-1])
    kind = np.searchsorted(lengths, count)
    buckets, row, used = [], np.zeros(pixels, np.int32), 0
    for n, length in enumerate(lengths):
        mine = np.flatnonzero((kind == n) & (count > 0))
        if not len(mine):
            continue
        offset = np.arange(length)[:, None]
        there = offset < count[mine]
        at = np.where(there, start[mine] + offset, 0)
        shape = (length // STEP, STEP, len(mine))
        share = np.where(there, weight[at], 0).reshape(shape)
        entries: Any = (source[at].reshape(shape), share)
        buckets.append(_single(Bucket(*entries)))
        row[mine] = used + np.arange(1, len(mine) + 1)
        used += len(mine)
    return tuple(buckets), row
