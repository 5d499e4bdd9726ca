"""Rotation of a raster about its centre with an exact, scatter-free gradient.

    rotated(p) = online(R(yaw)^-1 p),  bilinear between cell centres, zero outside the raster,

so that the content turns by +yaw (from x towards y). With the hat function h(t) = max(0, 1 - |t|),

    rotated(p) = sum_q h(u(p) - q_x) h(v(p) - q_y) online(q),      (u, v)(p) = R^-1 p.

The gradient is the transpose, a sum over p for every source cell q. Automatic differentiation
writes it as a scatter-add, which is slow on every device. But the only lattice points p that touch
q lie in the square q + (-1, 1)^2 turned by R, whose extent along each axis is |cos| + |sin| <=
sqrt(2) about R q. Rounding R q to the lattice moves it by at most 1/2, and sqrt(2) + 1/2 < 2: the
3x3 points around round(R q) are all there are: the transpose is nine gathers with those weights.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from posejax.registration.batching import apart_on_cpu, one_by_one_on_cpu
from posejax.registration.rasters import check_rasters, search_window


@jax.jit
def rotate(online: Array, angle: Array) -> Array:
    """Turn the content of a raster about its centre.

    Args:
      online: [H, W, C] raster, or a mask [H, W].
      angle: yaw in radians, from x (columns) towards y (rows); a scalar, or [K] for K rotations.

    Returns:
      Same shape as `online`, with a leading axis K for K angles. Bilinear between cell centres;
      cells from outside the raster count as zero.

    Differentiable once in reverse mode with respect to both arguments; exact transpose (the
    gradient with respect to `online` is no approximation), by gathers only.
    """
    if online.ndim not in (2, 3):
        raise ValueError(f"a raster is [H, W, C] or [H, W], got {online.shape}")
    online = online.astype(jnp.result_type(online, jnp.float32))
    angle = jnp.asarray(angle, online.dtype)
    if angle.ndim > 1:
        raise ValueError(f"angle is a scalar or [K], got {angle.shape}")
    if online.ndim == 2:
        return rotate(online[..., None], angle)[..., 0]
    if angle.ndim == 1:
        # One after another: the transpose then adds up in place instead of in a slow fused sum.
        return lax.map(lambda one: _rotate(online, one), angle)
    return _rotate(online, angle)


@jax.custom_vjp
@jax.jit
def _rotate(online: Array, angle: Array) -> Array:
    def turn(angle):
        # A step of its own, or the index arithmetic is done again for every channel.
        index, weights, _ = apart_on_cpu(partial(_taps, online.shape), angle)
        return _gather(online, index, weights)

    return apart_on_cpu(turn, angle)


def _rotate_fwd(online, angle):
    return _rotate(online, angle), (online, angle)


def _rotate_bwd(residuals, g):
    online, angle = residuals
    return rotate_transpose(g, angle), angle_gradient(online, angle, g)


_rotate.defvjp(_rotate_fwd, _rotate_bwd)


def _centred(shape) -> tuple[Array, Array]:
    """Coordinates of the cell centres relative to the raster's centre, x [1, W] and y [H, 1]."""
    height, width = shape[:2]
    x = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    return x, y


def _source(shape, angle: Array) -> tuple[Array, Array]:
    """Array index (u, v) = (column, row) in the source of every cell of the rotated raster."""
    x, y = _centred(shape)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return cos * x + sin * y + (shape[1] - 1) / 2, cos * y - sin * x + (shape[0] - 1) / 2


# Sums over squares of cells: 2x2 forward, 3x3 for the transpose. A square that sticks out of the
# raster is moved inside. The hat function then gives weight zero to the cells that it does not
# touch, and every cell that it does touch is still there: no masks.


def _square(position: Array, size: int, span: int) -> Array:
    """First of `span` cells from `position` on (both whole numbers), moved inside `size` cells."""
    return jnp.clip(position, 0, max(size - span, 0))


def _hat(t: Array) -> tuple[Array, Array]:
    """max(0, 1 - |t|) and its derivative, from the right where it has none."""
    inside = (t >= -1) & (t < 1)
    return jnp.maximum(1 - jnp.abs(t), 0), jnp.where(inside, jnp.where(t < 0, 1.0, -1.0), 0.0)


def _taps(shape, angle: Array) -> tuple[Array, list[Array], list[Array]]:
    """Index of the first of the 2x2 cells around each source point; weights; their slopes.

    The slopes are the derivatives of the weights by the angle: d(u, v) / d angle = (v, -u) about
    the centre.
    """
    (height, width), (u, v) = shape[:2], _source(shape, angle)
    column, row = _square(jnp.floor(u), width, 2), _square(jnp.floor(v), height, 2)
    along_x, along_y = v - (height - 1) / 2, (width - 1) / 2 - u
    weights, slopes = [], []
    for i in (0, 1):
        for j in (0, 1):
            (x, dx), (y, dy) = _hat(u - column - j), _hat(v - row - i)
            weights.append(x * y)
            slopes.append(dx * y * along_x + x * dy * along_y)
    return (row * max(width, 2) + column).astype(jnp.int32), weights, slopes


def _gather(raster: Array, index: Array, weights: list[Array]) -> Array:
    """Weighted sum of the 2x2 or 3x3 cells from `index` on, [H, W, C]."""
    span = round(len(weights) ** 0.5)
    missing = [max(span - n, 0) for n in raster.shape[:2]]
    if any(missing):  # smaller than the square: the cells added never have weight
        raster = jnp.pad(raster, ((0, missing[0]), (0, missing[1]), (0, 0)))
    _, width, channels = raster.shape
    cells = raster.reshape(-1, channels)
    offsets = [i * width + j for i in range(span) for j in range(span)]
    total = jnp.zeros((), raster.dtype)
    for offset, weight in zip(offsets, weights, strict=True):
        value = cells.at[index + offset].get(mode="promise_in_bounds")
        total = total + value * weight[..., None]
    return total


@jax.jit
def rotate_transpose(cotangent: Array, angle: Array) -> Array:
    """Exact transpose of `rotate` in its raster: <rotate(a, t), b> = <a, rotate_transpose(b, t)>.

    Args:
      cotangent: [H, W, C].
      angle: scalar, the angle given to `rotate`.

    Returns:
      [H, W, C].
    """

    def turn_back(angle):
        index, weights = apart_on_cpu(partial(_taps_transpose, cotangent.shape), angle)
        return _gather(cotangent, index, weights)

    return apart_on_cpu(turn_back, angle)


def _taps_transpose(shape, angle: Array) -> tuple[Array, list[Array]]:
    """Index of the first of the 3x3 cells around R q for every cell q, and their nine weights."""
    height, width = shape[:2]
    x, y = _centred(shape)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    column = _square(jnp.round(cos * x - sin * y + (width - 1) / 2) - 1, width, 3)
    row = _square(jnp.round(sin * x + cos * y + (height - 1) / 2) - 1, height, 3)
    weights = []
    for i in range(3):
        for j in range(3):
            px, py = column + j - (width - 1) / 2, row + i - (height - 1) / 2
            u, v = cos * px + sin * py, cos * py - sin * px
            weights.append(_hat(u - x)[0] * _hat(v - y)[0])
    return (row * max(width, 3) + column).astype(jnp.int32), weights


@jax.jit
def angle_gradient(online: Array, angle: Array, g: Array) -> Array:
    """d <rotate(online, angle), g> / d angle."""

    def change(angle):
        index, _, slopes = apart_on_cpu(partial(_taps, online.shape), angle)
        return _gather(online, index, slopes)

    return jnp.vdot(apart_on_cpu(change, angle), g, precision=lax.Precision.HIGHEST)


@jax.jit
def orientation_cost(online: Array, geo: Array, angles: Array) -> Array:
    """Dot product of `geo` with `online` rotated about its centre by each of `angles`.

    Args:
      online: [H, W, C].
      geo: [Hg, Wg, C], same centre; Hg - H and Wg - W even; cells beyond it count as zero.
      angles: [K] radians.

    Returns:
      [K]: sum over cells and channels of rotated_k * geo.

    One rotated raster exists at a time, forward and backward: memory does not grow with K.
    Differentiable once in reverse mode, with respect to all three arguments.
    """
    check_rasters(online, geo, 0)
    dtype = jnp.result_type(online, geo, jnp.float32)
    geo = search_window(geo.astype(dtype), online.shape[:2], 0)
    return _orientation_cost(online.astype(dtype), geo, jnp.asarray(angles, dtype))


@jax.custom_vjp
@one_by_one_on_cpu
def _orientation_cost(online: Array, geo: Array, angles: Array) -> Array:
    def one(angle):
        return jnp.vdot(_rotate(online, angle), geo, precision=lax.Precision.HIGHEST)

    return lax.map(one, angles)


def _orientation_cost_fwd(online, geo, angles):
    return _orientation_cost(online, geo, angles), (online, geo, angles)


@one_by_one_on_cpu
def _orientation_cost_bwd(residuals, g):
    online, geo, angles = residuals

    def add(total, item):
        angle, g = item
        d_online, d_geo = total
        return (
            d_online + rotate_transpose(geo * g, angle),
            d_geo + _rotate(online, angle) * g,
        ), None

    start = (jnp.zeros_like(online), jnp.zeros_like(geo))
    (d_online, d_geo), _ = lax.scan(add, start, (angles, g))
    d_angles = lax.map(lambda item: angle_gradient(online, item[0], geo * item[1]), (angles, g))
    return d_online, d_geo, d_angles


_orientation_cost.defvjp(_orientation_cost_fwd, _orientation_cost_bwd)
