"""Poses of cameras that may know which way is down: samples, steps and choices that keep it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from posejax.geometry import matmul, normalize, so3_exp
from posejax.matching.five_point import five_point, upright_three_point
from posejax.matching.refine import Manifold
from posejax.matching.two_view import RelativePose, depth_signs, move_pose

Gravity = tuple[Array, Array] | None
"""Its directions [3] in cameras a and b, where they are known."""


def pose_manifold(gravity: Gravity) -> tuple[Manifold, Array | None]:
    """With gravity known the rotation has one freedom; and the basis [5, 3] of the steps."""
    if gravity is None:
        return Manifold(move_pose, 5), None
    down = normalize(gravity[1])
    basis = jnp.zeros((5, 3), down.dtype).at[0, 0].set(1).at[1, 1].set(1).at[2:, 2].set(down)
    return Manifold(lambda pose, step: move_pose(pose, matmul(basis, step)), 3), basis


def minimal_solver(
    rays_a: Array, rays_b: Array, gravity: Gravity
) -> tuple[int, Callable[[Array], tuple[Array, Array]]]:
    """Matches of a sample, and the solver: indices -> essential matrices [s, 3, 3], exist [s]."""
    if gravity is None:
        return 5, lambda index: five_point(rays_a[index], rays_b[index], slots=6)
    to_upright = [_turn_onto(g, jnp.array([0.0, 1, 0], g.dtype)) for g in gravity]
    a, b = (
        matmul(jnp.pad(rays, ((0, 0), (0, 1)), constant_values=1), turn.T)
        for rays, turn in zip((rays_a, rays_b), to_upright, strict=True)
    )

    def solve(index):
        models, exist = upright_three_point(a[index], b[index])
        return jax.vmap(lambda e: matmul(matmul(to_upright[1].T, e), to_upright[0]))(models), exist

    return 3, solve


def _turn_onto(start: Array, end: Array) -> Array:
    """A rotation that takes one direction to another; the shortest, except between opposites."""
    start, end = normalize(start), normalize(end)
    across = jnp.cross(start, end)
    sin = jnp.sqrt(jnp.sum(across**2))
    angle = jnp.arctan2(sin, jnp.sum(start * end))
    other = jnp.cross(start, jnp.eye(3, dtype=start.dtype)[jnp.argmin(jnp.abs(start))])
    return so3_exp(angle * normalize(jnp.where(sin > 1e-6, across, other)))


def keeping_gravity(pose: RelativePose, other: Array, gravity: Gravity) -> RelativePose:
    """The rotation of the two that keeps gravity better, made to keep it exactly."""
    if gravity is None:
        return pose
    down_a, down_b = (normalize(g) for g in gravity)
    kept = [jnp.sum(down_b * matmul(r, down_a)) for r in (pose.rotation, other)]
    rotation = jnp.where(kept[0] > kept[1], pose.rotation, other)
    fixed = matmul(_turn_onto(matmul(rotation, down_a), down_b), rotation)
    return RelativePose(fixed, pose.translation)


def facing_points(pose: RelativePose, rays_a: Array, rays_b: Array, weights: Array) -> RelativePose:
    """The sign of the translation that has more points in front of both cameras."""
    rays = [jnp.pad(r, ((0, 0), (0, 1)), constant_values=1) for r in (rays_a, rays_b)]
    in_a, in_b = depth_signs(pose, *rays)
    ahead = jnp.sum(weights * ((in_a > 0) & (in_b > 0)))
    behind = jnp.sum(weights * ((in_a < 0) & (in_b < 0)))
    return pose._replace(translation=jnp.where(ahead >= behind, 1, -1) * pose.translation)
