"""The lift of a batch: by the plan that all examples share, or from each one's calibration."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posejax import bev
from posejax.bev.plan import Bucket, Level, LiftPlan
from posejax.nn.bev import STRIDE
from posejax.systems.segnet.config import GridConfig
from posejax.systems.segnet.frames import RigFrames
from posejax.systems.segnet.model import Lift


def voxel_grid(grid: GridConfig) -> bev.VoxelGrid:
    return bev.VoxelGrid(grid.shape, grid.lower, grid.upper)


def compat_of(grid: GridConfig) -> Any:
    return None if grid.compat == "none" else grid.compat


def feature_size(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // STRIDE, size[1] // STRIDE


def plan_arrays(
    data: RigFrames, intrinsics: np.ndarray, camera_from_grid: np.ndarray
) -> dict[str, np.ndarray]:
    """The plan of a rig as arrays by name, for `Source.resident`."""
    plan = bev.make_lift_plan(
        intrinsics,
        camera_from_grid,
        grid=voxel_grid(data.grid),
        image_size=data.size,
        feature_size=feature_size(data.size),
        compat=compat_of(data.grid),
    )
    found = {"plan/row": plan.row}
    for kind, parts in (("level", plan.levels), ("bucket", plan.buckets)):
        for n, part in enumerate(parts):
            found |= {f"plan/{kind}{n}/{k}": v for k, v in part._asdict().items()}
    return {name: np.asarray(value) for name, value in found.items()}


def plan_of(resident: Mapping[str, Any], data: RigFrames) -> LiftPlan:
    """The plan that `plan_arrays` took apart."""

    def parts(kind: Any, name: str) -> tuple:
        found = []
        while f"plan/{name}{len(found)}/{kind._fields[0]}" in resident:
            at = f"plan/{name}{len(found)}"
            found.append(kind(*(resident[f"{at}/{field}"] for field in kind._fields)))
        return tuple(found)

    return LiftPlan(
        levels=parts(Level, "level"),
        buckets=parts(Bucket, "bucket"),
        row=resident["plan/row"],
        grid=voxel_grid(data.grid),
        features=(len(data.cameras), *feature_size(data.size)),
        compat=compat_of(data.grid),
    )


def lift_of(examples: Mapping[str, Any], resident: Mapping[str, Any], data: RigFrames) -> Lift:
    """The lift of a batch: features [B, N, h, w, C] and mask [B, N] to [B, Z, Y, X, C]."""
    if data.grid.lift == "plan":
        plan = plan_of(resident, data)

        def by_plan(features: jax.Array, mask: jax.Array) -> jax.Array:
            return _over_batch(lambda f, m: bev.lift(f, plan, m), features, mask)

        return by_plan
    dynamic = partial(
        bev.lift_dynamic,
        grid=voxel_grid(data.grid),
        image_size=data.size,
        max_cameras=data.grid.max_cameras,
        compat=compat_of(data.grid),
    )

    def by_calibration(features: jax.Array, mask: jax.Array) -> jax.Array:
        k, poses = examples["intrinsics"], examples["camera_from_grid"]
        return _over_batch(dynamic, features, k, poses, mask)

    return by_calibration


def coverage_of(
    examples: Mapping[str, Any], resident: Mapping[str, Any], data: RigFrames
) -> jax.Array:
    """[B, Z, X] int32: the most cameras that see a voxel of each column."""
    if data.grid.lift == "plan":
        plan = plan_of(resident, data)
        counts = jax.vmap(plan.counts)(examples["camera_mask"])
    else:
        counts = jax.vmap(partial(_counts, data=data))(
            examples["intrinsics"], examples["camera_from_grid"], examples["camera_mask"]
        )
    return jnp.max(counts.reshape(-1, *data.grid.shape), axis=2)


def _counts(k: jax.Array, poses: jax.Array, mask: jax.Array, data: RigFrames) -> jax.Array:
    """[voxels] int32: cameras of the mask that see each voxel."""
    points = jnp.asarray(voxel_grid(data.grid).centers().reshape(-1, 3), jnp.float32)
    height, width = data.size

    def one(k: jax.Array, pose: jax.Array) -> jax.Array:
        local = jnp.matmul(points, pose[:3, :3].T, precision="highest") + pose[None, :3, 3]
        pixel = jnp.matmul(local, k.T, precision="highest")
        u, v = (pixel[:, i] / jnp.where(local[:, 2] > 0, local[:, 2], 1) for i in (0, 1))
        return (local[:, 2] > 1e-3) & (u > 0) & (u < width) & (v > 0) & (v < height)

    return jnp.sum(jax.vmap(one)(k, poses) & mask[:, None], axis=0)


def _over_batch(function: Any, *arrays: jax.Array) -> jax.Array:
    """vmap, but for one example, which XLA compiles to plainer gathers."""
    if len(arrays[0]) == 1:
        return function(*(a[0] for a in arrays))[None]
    return jax.vmap(function)(*arrays)
