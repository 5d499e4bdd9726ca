"""The canonical view: a virtual camera that looks at the object and zooms to its size.

A camera that turns about its centre moves pixels by the homography K' R K^-1, whatever their depth,
and changes the pose to R camera_from_body: an exact change of variables. The virtual camera's axis
points at the centre of what is seen, and its focal length is chosen so that what is seen fills a
fixed part of the picture. It may also roll so that the longest axis of what is seen lies along the
rows (up to half a turn: an axis has no sign). The network then sees every target at the same place
and size, at the full resolution of the grid, and predicts

    t' = R t / zoom,    R' = R R_body,    zoom = focal length of the view / that of the camera,

where t' hardly varies: its depth is the range of a target of this size on the sensor. `uncanonical`
inverts it, whatever the view. A random roll of the virtual camera is an augmentation that loses no
event and, in training, replaces attitudes that the recordings do not hold.

What the border of the picture cuts looks smaller, nearer to the picture's middle and longer along
the border than it is. With `border` centre and size are those of a whole that would look like the
visible part (see `_completed`), and `View.cut` tells how little to trust them; it is zero, and
nothing changes, where nothing touches the border.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from posejax.geometry import einsum, inverse_intrinsics, normalize, safe_norm, so3_exp

_ROUNDS = 4  # of trimming: enough to leave noise events behind, see tests
_REACH = 2.2  # pixels beyond this many spreads from the centre are trimmed
_BAND = 0.25  # a strip along the border, in standard deviations across it
_CONTACT = (0.01, 0.05)  # share of the pixels in that strip: untouched below, cut above
_HALF_NORMAL = 0.571  # variance over squared distance of the mean to the cut, of half a normal


class View(NamedTuple):
    """A virtual camera at the centre of the real one.

    rotation: [3, 3] view_from_camera.
    intrinsics: [3, 3] of the view, pixels of the grid.
    zoom: focal length of the view, in pixels of a full-sensor grid, over that of the camera.
    cut: 0 if all of what is seen lies inside the picture, to 1 if its border cuts it clearly.
    """

    rotation: Array
    intrinsics: Array
    zoom: Array
    cut: Array


class Blob(NamedTuple):
    """What weighted points look like from afar: centre [2], RMS distance from it, long axis (rad).

    axis: direction of the largest spread, from x to y, in (-pi/2, pi/2]: an axis has no sign.
    """

    centre: Array
    spread: Array
    axis: Array


def blob_of(xy: Array, weight: Array, border: tuple[int, int] | None = None) -> tuple[Blob, Array]:
    """Robust first and second moments of weighted points [N, 2].

    Trimmed means: points further than 2.2 spreads from the centre are left out of the next round,
    so that noise all over the sensor loses its pull. Without weight the result is zero.

    Args:
      xy: [N, 2]; weight: [N].
      border: (H, W) of the picture that may cut what is seen; not considered if not given.

    Returns:
      The blob, and how clearly the border cuts it: see `View.cut`.
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
    mixed, unequal = jnp.sum(near * 2 * dx * dy), jnp.sum(near * (dx**2 - dy**2))
    if border is None:
        return Blob(centre, spread, 0.5 * jnp.arctan2(mixed, unequal)), jnp.zeros((), xy.dtype)
    shift, widening, cut = _completed(xy, near, centre, border)
    mixed = mixed + near.sum() * 2 * widening[0, 1]
    unequal = unequal + near.sum() * (widening[0, 0] - widening[1, 1])
    added = jnp.trace(widening)
    wider = jnp.sqrt(spread**2 + jnp.where(added > 0, added, 1))
    whole = Blob(
        centre + shift, jnp.where(added > 0, wider, spread), 0.5 * jnp.arctan2(mixed, unequal)
    )
    return whole, cut


def _completed(
    xy: Array, near: Array, centre: Array, border: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """What the border hides: shift of the centre [2], growth of the covariance [2, 2], and `cut`.

    Of a normal distribution cut off at the distance d from the mean m of what is left, whose
    variance is v, the whole has the mean m - theta d and the variance v + theta d^2, theta a
    function of v / d^2 alone (Cohen, Simplified Estimators for the Normal Distribution When Samples
    Are Singly Censored or Truncated, Technometrics 1959); a power is within a few per cent of it up
    to half a normal, beyond which nothing is made up. Along the border both follow by regression,
    for a craft that lies aslant. It counts as far as there are pixels at the
    border: what only comes near is whole.
    """
    off = xy - centre[None]
    share = near / jnp.maximum(near.sum(), 1e-6)
    spread = einsum("n,ni,nj->ij", share, off, off) + 1e-12 * jnp.eye(2)
    square = jnp.diagonal(spread)
    size = jnp.array(border[::-1], xy.dtype)
    shift, widening, cut = jnp.zeros(2, xy.dtype), jnp.zeros((2, 2), xy.dtype), jnp.float32(0)
    for sign, distance, inside in ((-1, centre, xy), (1, size - centre, size[None] - xy)):
        # Linear across the strip instead of a step: moving by a part of a pixel changes a part.
        strip = jnp.clip(1 - inside / (2 * _BAND * jnp.sqrt(square))[None], 0, 1)
        touching = einsum("n,ni->i", share, strip)
        contact = jnp.clip((touching - _CONTACT[0]) / (_CONTACT[1] - _CONTACT[0]), 0, 1)
        distance = jnp.maximum(distance, jnp.sqrt(square / _HALF_NORMAL))
        theta = contact * 7.7 * (square / distance**2) ** 3.64
        along = spread / square[:, None]  # row i: by how much all moves with coordinate i
        shift = shift + einsum("i,ij->j", sign * theta * distance, along)
        widening = widening + einsum("i,ij,ik->jk", theta * distance**2, along, along)
        cut = jnp.maximum(cut, contact.max())
    return shift, widening, cut


def full_view(intrinsics: Array, sensor_size: tuple[int, int], size: tuple[int, int]) -> View:
    """The whole sensor on a grid of `size` (H, W), pixels stretched to fit."""
    scale = jnp.array([size[1] / sensor_size[1], size[0] / sensor_size[0], 1.0])
    return View(jnp.eye(3), scale[:, None] * intrinsics, jnp.float32(1), jnp.float32(0))


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
    border: tuple[int, int] | None = None,
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
      border: (H, W) of the picture, to look at what it cuts as at a whole.

    Returns:
      The view. Without any weight it looks straight ahead with the smallest zoom.
    """
    (centre, spread, axis), cut = blob_of(xy, weight, border)
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
    return View(rotation, k.reshape(3, 3), zoom, cut)


def homography(view: View, intrinsics: Array) -> Array:
    """[3, 3] view pixels from camera pixels: K' R K^-1."""
    return einsum("ij,jk,kl->il", view.intrinsics, view.rotation, inverse_intrinsics(intrinsics))


def apply_homography(h: Array, xy: Array) -> Array:
    """[..., 2] pixels; a pixel at or behind the horizon of the view goes far outside."""
    q = einsum("ij,...j->...i", h, jnp.concatenate([xy, jnp.ones_like(xy[..., :1])], axis=-1))
    depth = q[..., 2:]
    return jnp.where(depth > 1e-6, q[..., :2] / jnp.where(depth > 1e-6, depth, 1), -1e6)


def outside(
    view: View, intrinsics: Array, picture: tuple[int, int], size: tuple[int, int]
) -> Array:
    """[H, W] bool: centres of the cells of a view's grid that lie beyond the border of the picture.

    A dark cell in the picture says that nothing moves there; one outside of it says nothing.
    """
    rows, columns = jnp.meshgrid(jnp.arange(size[0]), jnp.arange(size[1]), indexing="ij")
    cells = jnp.stack([columns, rows], axis=-1).astype(jnp.float32) + 0.5
    xy = apply_homography(jnp.linalg.inv(homography(view, intrinsics)), cells)
    inside = (xy >= 0) & (xy < jnp.array(picture[::-1], jnp.float32)[None, None])
    return ~inside.all(-1)


def canonical(view: View, camera_from_body: Array) -> Array:
    """Pose [4, 4] as the view's network learns it: turned, its translation divided by the zoom."""
    return _turned(view.rotation, camera_from_body).at[:3, 3].divide(view.zoom)


def uncanonical(view: View, pose: Array) -> Array:
    """Inverse of `canonical`."""
    return _turned(view.rotation.T, pose.at[:3, 3].multiply(view.zoom))


def in_view(view: View, camera_from_body: Array) -> Array:
    """view_from_body [4, 4]: what `View.intrinsics` project, in metres, with nothing divided."""
    return _turned(view.rotation, camera_from_body)


def in_camera(view: View, view_from_body: Array) -> Array:
    """Inverse of `in_view`."""
    return _turned(view.rotation.T, view_from_body)


def _turned(rotation: Array, pose: Array) -> Array:
    return pose.at[:3].set(einsum("ij,jk->ik", rotation, pose[:3]))
