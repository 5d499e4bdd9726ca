"""The canonical view: a virtual camera that looks at the object and zooms to its size.

A camera that turns about its centre moves pixels by the homography K' R K^-1, whatever their depth,
and changes the pose to R camera_from_body: an exact change of variables. The virtual camera's axis
points at the centre of what is seen, and its focal length is chosen so that what is seen fills a
fixed part of the picture. It may also roll so that the longest axis of what is seen lies along the
rows (up to half a turn: an axis has no sign). The network then sees every target at the same place
and size, at the full resolution of the grid, and predicts

    t' = R t / zoom,    R' = R R_body,    zoom = focal length of the view / that of the camera,

where t' hardly varies: its depth is the range of a target of this size on the sensor. `uncanonical`
inverts it. A random roll of the virtual camera is an augmentation that loses no event and, in
training, replaces attitudes that the recordings do not hold.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from posejax.geometry import einsum, inverse_intrinsics, normalize, safe_norm, so3_exp

_ROUNDS = 4  # of trimming: enough to leave noise events behind, see tests
_REACH = 2.2  # pixels beyond this many spreads from the centre are trimmed


class View(NamedTuple):
    """A virtual camera at the centre of the real one.

    rotation: [3, 3] view_from_camera.
    intrinsics: [3, 3] of the view, pixels of the grid.
    zoom: focal length of the view, in pixels of a full-sensor grid, over that of the camera.
    """

    rotation: Array
    intrinsics: Array
    zoom: Array


class Blob(NamedTuple):
    """What weighted points look like from afar: centre [2], RMS distance from it, long axis (rad).

    axis: direction of the largest spread, from x to y, in (-pi/2, pi/2]: an axis has no sign.
    """

    centre: Array
    spread: Array
    axis: Array


def blob_of(xy: Array, weight: Array) -> Blob:
    """Robust first and second moments of weighted points [N, 2].

    Trimmed means: points further than 2.2 spreads from the centre are left out of the next round,
    so that noise all over the sensor loses its pull. Without weight the result is zero.
    """
    near = weight
    centre, spread = jnp.zeros(2, xy.dtype), jnp.zeros((), xy.dtype)
    for _ in range(_ROUNDS):
        total = near.sum()
        share = near / jnp.maximum(total, 1e-6)
        centre = einsum("n,nc->c", share, xy)
        square = jnp.sum((xy - centre[None]) ** 2, axis=-1)
        spread = jnp.sqrt(jnp.maximum(jnp.sum(share * square), 1e-12)) * (total > 0)
        near = weight * (square <= (_REACH * spread) ** 2)
    # Half the angle of the traceless part of the covariance; atan2(0, 0) is 0.
    dx, dy = (xy - centre[None]).T
    axis = 0.5 * jnp.arctan2(jnp.sum(near * 2 * dx * dy), jnp.sum(near * (dx**2 - dy**2)))
    return Blob(centre, spread, axis)


def full_view(intrinsics: Array, sensor_size: tuple[int, int], size: tuple[int, int]) -> View:
    """The whole sensor on a grid of `size` (H, W), pixels stretched to fit."""
    scale = jnp.array([size[1] / sensor_size[1], size[0] / sensor_size[0], 1.0])
    return View(jnp.eye(3), scale[:, None] * intrinsics, jnp.float32(1))


def canonical_view(
    xy: Array,
    weight: Array,
    intrinsics: Array,
    size: tuple[int, int],
    *,
    fill: float = 0.2,
    zoom_limits: tuple[float, float] = (0.05, 2.0),
    upright: bool = False,
    roll: Array | float = 0.0,
    offset: Array | tuple[float, float] = (0.0, 0.0),
    stretch: Array | float = 1.0,
) -> View:
    """The view that puts weighted pixels in the middle of a grid of `size` (H, W).

    Args:
      xy: [N, 2] pixels of the camera; weight: [N], zero where there is nothing.
      intrinsics: [3, 3] of the camera.
      fill: spread of the points in the view, as a fraction of the grid's height.
      zoom_limits: smallest and largest pixels of the grid per pixel of the camera.
      upright: turn the view so that the points' longest axis lies along its rows.
      roll: further turn of the view about its axis (rad).
      offset, stretch: aim beside the centre, in spreads, and zoom by this much more: training draws
        them at random, since what the events tell of centre and size is uncertain.

    Returns:
      The view. Without any weight it looks straight ahead with the smallest zoom.
    """
    centre, spread, axis = blob_of(xy, weight)
    if upright:
        roll = roll - axis
    seen = weight.sum() > 0
    focal = intrinsics[0, 0]
    aimed = jnp.append(centre + spread * jnp.asarray(offset), 1.0)
    ray = normalize(einsum("ij,j->i", inverse_intrinsics(intrinsics), aimed))
    ahead = jnp.array([0.0, 0.0, 1.0])
    ray = jnp.where(seen, ray, ahead)
    # The smallest turn that takes the ray to the axis: about ray x ahead, by the angle between.
    cross = jnp.cross(ray, ahead)
    sine = safe_norm(cross)
    angle = jnp.arctan2(sine, ray[2])
    aim = so3_exp(cross * jnp.where(sine > 1e-6, angle / jnp.where(sine > 1e-6, sine, 1), 1.0))
    rotation = einsum("ij,jk->ik", so3_exp(jnp.array([0.0, 0.0, 1.0]) * roll), aim)
    wanted = stretch * fill * size[0] / jnp.maximum(spread, 1e-3)
    zoom = jnp.clip(jnp.where(seen, wanted, zoom_limits[0]), *zoom_limits)
    f = zoom * focal
    zero, one = jnp.zeros_like(f), jnp.ones_like(f)
    k = jnp.stack([f, zero, one * size[1] / 2, zero, f, one * size[0] / 2, zero, zero, one])
    return View(rotation, k.reshape(3, 3), zoom)


def homography(view: View, intrinsics: Array) -> Array:
    """[3, 3] view pixels from camera pixels: K' R K^-1."""
    return einsum("ij,jk,kl->il", view.intrinsics, view.rotation, inverse_intrinsics(intrinsics))


def apply_homography(h: Array, xy: Array) -> Array:
    """[..., 2] pixels; a pixel at or behind the horizon of the view goes far outside."""
    q = einsum("ij,...j->...i", h, jnp.concatenate([xy, jnp.ones_like(xy[..., :1])], axis=-1))
    depth = q[..., 2:]
    return jnp.where(depth > 1e-6, q[..., :2] / jnp.where(depth > 1e-6, depth, 1), -1e6)


def canonical(view: View, camera_from_body: Array) -> Array:
    """Pose [4, 4] as the view's network learns it: turned, its translation divided by the zoom."""
    return _turned(view.rotation, camera_from_body).at[:3, 3].divide(view.zoom)


def uncanonical(view: View, pose: Array) -> Array:
    """Inverse of `canonical`."""
    return _turned(view.rotation.T, pose.at[:3, 3].multiply(view.zoom))


def _turned(rotation: Array, pose: Array) -> Array:
    return pose.at[:3].set(einsum("ij,jk->ik", rotation, pose[:3]))
