"""Residuals of point pairs, and the manifolds on which models of two views are refined."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from posejax.geometry import (
    as_float,
    einsum,
    matmul,
    normalize,
    se3_from_rotation_translation,
    skew,
    so3_exp,
    so3_log,
)
from posejax.matching.solvers import homogeneous, least_direction, unit


def signed_sampson(fundamental: Array, xy_a: Array, xy_b: Array) -> Array:
    """First-order distance [...] of pairs [..., 2] from the epipolar constraint, with its sign.

    In pixels, and of the standard deviation of the pixels' noise. Written out by components: for
    thousands of models it becomes one loop over the pairs.
    """
    f = fundamental
    xa, ya, xb, yb = xy_a[..., 0], xy_a[..., 1], xy_b[..., 0], xy_b[..., 1]
    lx, ly, lz = (f[i, 0] * xa + f[i, 1] * ya + f[i, 2] for i in range(3))
    mx, my = (f[0, j] * xb + f[1, j] * yb + f[2, j] for j in range(2))
    square = lx**2 + ly**2 + mx**2 + my**2
    usable = square > 1e-30
    return jnp.where(usable, xb * lx + yb * ly + lz, 0) / jnp.sqrt(jnp.where(usable, square, 1))


def transfer_error(homography: Array, xy_a: Array, xy_b: Array) -> Array:
    """H (x_a, 1) - x_b, [..., 2] each -> [..., 2]; large behind the line that maps to infinity."""
    h = homography
    x, y = xy_a[..., 0], xy_a[..., 1]
    u, v, w = (h[i, 0] * x + h[i, 1] * y + h[i, 2] for i in range(3))
    sign = jnp.where(w < 0, -1, 1)
    w = sign * jnp.maximum(jnp.abs(w), 1e-9)
    return jnp.stack([u / w - xy_b[..., 0], v / w - xy_b[..., 1]], axis=-1)


class RelativePose(NamedTuple):
    """R and unit t of b_from_a, x_b = R x_a + t."""

    rotation: Array
    translation: Array

    @property
    def matrix(self) -> Array:
        """[4, 4]."""
        return se3_from_rotation_translation(self.rotation, self.translation)

    @property
    def essential(self) -> Array:
        return matmul(skew(self.translation), self.rotation)


def tangent_axes(direction: Array) -> Array:
    """Two unit vectors across a unit vector, [3] -> [2, 3]; they do not depend on its length."""
    axis = jnp.eye(3, dtype=direction.dtype)[jnp.argmin(jnp.abs(direction))]
    first = normalize(jnp.cross(direction, axis))
    return jnp.stack([first, jnp.cross(direction, first)])


def move_pose(pose: RelativePose, step: Array) -> RelativePose:
    """A step (2 of the translation's direction, 3 of the rotation vector, in b) from a pose."""
    translation = pose.translation + matmul(step[:2], tangent_axes(pose.translation))
    return RelativePose(matmul(so3_exp(step[2:]), pose.rotation), normalize(translation))


def pose_difference(b_from_a: ArrayLike, other: ArrayLike) -> Array:
    """The step [5] from one relative pose to another, to first order: what `covariance` is of.

    Args:
      b_from_a: [4, 4].
      other: [4, 4]; the length of both translations does not count.

    Returns:
      Two components of the translation's direction, in the axes across that of `b_from_a`, and the
      rotation vector in b; radians.
    """
    first, second = as_float(b_from_a), as_float(other)
    mine, theirs = normalize(first[:3, 3]), normalize(second[:3, 3])
    # On the tangent plane: the step that `move_pose` normalises to the other direction.
    along = jnp.maximum(jnp.sum(mine * theirs), 1e-3)
    shift = matmul(tangent_axes(mine), theirs) / along
    return jnp.concatenate([shift, so3_log(matmul(second[:3, :3], first[:3, :3].T))])


def decompose_essential(essential: ArrayLike) -> tuple[Array, Array, Array]:
    """Both rotations [3, 3] and the translation's direction [3], up to sign.

    The four relative poses of an essential matrix are (R1, t), (R2, t), (R1, -t), (R2, -t). Of
    another matrix u diag(s) v^T they are those of the nearest essential matrix.

    Differentiable: both rotations take the right null vector v to the left one u, the cofactors'
    singular vectors, and turn the plane across v onto that across u, by the polar factor of the
    matrix between them. In two dimensions that is (B + cofactors of B) / |...|: nothing here
    asks which of the two equal singular values is which.
    """
    e = normalize(as_float(essential).reshape(9)).reshape(3, 3)
    u, v = least_direction(e.T), least_direction(e)
    cofactors = jnp.stack([jnp.cross(e[i - 2], e[i - 1]) for i in range(3)])
    v = jnp.where(jnp.sum(u * matmul(cofactors, v)) < 0, -v, v)
    across_u, across_v = skew(u), skew(v)
    turn = matmul(matmul(across_u, matmul(e, across_v) + matmul(across_u, e)), across_v)
    nowhere = jnp.array([1.0, 0, 0, 0, 1, 0, 0, 0, 0]) / math.sqrt(2)
    turn = math.sqrt(2) * normalize(turn.reshape(9), nowhere).reshape(3, 3)
    axis = u[:, None] * v[None]
    return axis + turn, axis - turn, u


def depth_signs(pose: RelativePose, rays_a: Array, rays_b: Array) -> tuple[Array, Array]:
    """Numbers [n] with the signs of the depths in a and b of triangulated rays [n, 3]."""
    turned = einsum("ij,nj->ni", pose.rotation, rays_a)
    normal = jnp.cross(turned, rays_b)
    t = pose.translation[None]
    in_a = -jnp.sum(jnp.cross(t, rays_b) * normal, axis=-1)
    in_b = -jnp.sum(jnp.cross(t, turned) * normal, axis=-1)
    return in_a, in_b


def displacement(pose: RelativePose, rays_a: Array, rays_b: Array) -> Array:
    """How far [n] rays [n, 2] turn between the views by the translation, in focal lengths.

    Negative behind a camera; of points far away a little, by noise, and of either sign.
    """
    a, b = homogeneous(rays_a), homogeneous(rays_b)
    normal = jnp.cross(einsum("ij,nj->ni", pose.rotation, a), b)
    far = jnp.sqrt(jnp.sum(normal**2, axis=-1))
    in_a, in_b = depth_signs(pose, a, b)
    return jnp.where((in_a > 0) & (in_b > 0), far, -far)


def pose_from_essential(
    essential: ArrayLike, rays_a: ArrayLike, rays_b: ArrayLike, weights: ArrayLike | None = None
) -> RelativePose:
    """The relative pose that has most points in front of both cameras.

    Args:
      essential: [3, 3].
      rays_a: [n, 2], (x, y) of rays (x, y, 1).
      rays_b: [n, 2].
      weights: [n]; zero leaves a pair out.
    """
    a, b = homogeneous(as_float(rays_a)), homogeneous(as_float(rays_b))
    w = jnp.ones(a.shape[:1], a.dtype) if weights is None else as_float(weights)
    first, second, t = decompose_essential(essential)
    poses = [RelativePose(r, s) for r in (first, second) for s in (t, -t)]

    def in_front(pose):
        in_a, in_b = depth_signs(pose, a, b)
        return jnp.sum(jnp.where((in_a > 0) & (in_b > 0), w, 0))

    best = jnp.argmax(jnp.stack([in_front(pose) for pose in poses]))
    rotations, translations = (jnp.stack(x) for x in zip(*poses, strict=True))
    return RelativePose(rotations[best], translations[best])


class RankTwo(NamedTuple):
    """A fundamental matrix u diag(1, s, 0) v^T by two rotations and a number."""

    u: Array
    ratio: Array
    v: Array

    @property
    def matrix(self) -> Array:
        zero, one = jnp.zeros_like(self.ratio), jnp.ones_like(self.ratio)
        return matmul(self.u * jnp.stack([one, self.ratio, zero])[None], self.v.T)


def split_rank_two(matrix: Array) -> RankTwo:
    """Of a matrix [3, 3] of any rank; the smallest singular value is dropped."""
    u, s, v = jnp.linalg.svd(matrix)
    # Rotations, not reflections: the third vectors do not enter the matrix.
    u = u.at[:, 2].multiply(jnp.sign(jnp.linalg.det(u)))
    v = v.at[2].multiply(jnp.sign(jnp.linalg.det(v)))
    return RankTwo(u, s[1] / jnp.maximum(s[0], 1e-20), v.T)


def move_rank_two(model: RankTwo, step: Array) -> RankTwo:
    u, v = matmul(model.u, so3_exp(step[:3])), matmul(model.v, so3_exp(step[3:6]))
    return RankTwo(u, model.ratio + step[6], v)


def move_homography(model: Array, step: Array) -> Array:
    """A step [8] across the matrix [3, 3] of unit norm: along it, nothing changes."""
    flat = model.reshape(9)
    # A reflection that takes the model to the first axis takes the others to vectors across it.
    sign = jnp.where(flat[0] < 0, -1.0, 1.0)
    mirror = flat.at[0].add(sign)
    across = jnp.eye(9, dtype=flat.dtype) - mirror[:, None] * mirror[None] / (1 + jnp.abs(flat[0]))
    return unit((flat + matmul(across[:, 1:], step)).reshape(3, 3))[0]
