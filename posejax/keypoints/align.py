"""Render and align: a pose is moved until the edges of the body lie where something fired.

An event camera sees edges, and only those that move across themselves. The visible edges are drawn
at the pose, a point every few centimetres, and pulled along their normals in the picture towards
where events are dense, beside the modes of the heatmaps that the pose comes from; along itself an
edge says nothing.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from posejax.geometry import as_float, einsum, project, se3_apply
from posejax.image import bilinear_sample
from posejax.keypoints.descent import MIN_DEPTH, Measure, Pull, descend, look
from posejax.keypoints.mixture import mixture
from posejax.keypoints.peaks import Peaks

_SKIN = 0.002  # metres by which a blocker is thinner than the body: edges lie on its surface
_FLOOR = 0.3  # of the density of a typical place with events: an edge need not have fired
_DIRECTIONS = 12


class Edges(NamedTuple):
    """Edges of a body, in its frame.

    Attributes:
      points: [E, 3] metres, on the edges.
      tangents: [E, 3] unit vectors along them.
      blockers: [B, 2, 3] least and largest coordinates of boxes that hide what is behind them.
    """

    points: Array
    tangents: Array
    blockers: Array


def edges_of(
    points: np.ndarray, ends: np.ndarray, blockers: np.ndarray, spacing: float = 0.05
) -> Edges:
    """Edges every `spacing` metres of a wireframe: points [P, 3], ends [S, 2] rows of them."""
    a, b = np.asarray(points, np.float64)[np.asarray(ends)].swapaxes(0, 1)
    length = np.linalg.norm(b - a, axis=1)
    count = np.maximum(np.ceil(length / spacing - 1e-9).astype(int), 1)
    which = np.repeat(np.arange(len(a)), count)
    at = np.concatenate([(np.arange(n) + 0.5) / n for n in count])[:, None]
    places = a[which] + at * (b - a)[which]
    along = ((b - a) / length[:, None])[which]
    # NumPy's arrays: made while a program is traced, they are no part of it.
    parts: list[Any] = [np.asarray(x, np.float32) for x in (places, along, blockers)]
    return Edges(*parts)


def visible(pose: Array, edges: Edges) -> Array:
    """Which points [E] of the edges no blocker hides from the camera of a pose [4, 4]."""
    camera = -einsum("ij,i->j", pose[:3, :3], pose[:3, 3])
    ray = (camera[None] - edges.points)[:, None]
    inverse = 1 / jnp.where(jnp.abs(ray) > 1e-9, ray, 1e-9)
    ends = edges.blockers + jnp.array([_SKIN, -_SKIN], ray.dtype)[None, :, None]
    at = (ends[None] - edges.points[:, None, None]) * inverse[:, :, None]
    enter, leave = at.min(axis=2).max(axis=-1), at.max(axis=2).min(axis=-1)
    hidden = (enter < jnp.minimum(leave, 1)) & (leave > 0)
    depth = einsum("j,ej->e", pose[2, :3], edges.points) + pose[2, 3]
    return ~hidden.any(axis=1) & (depth > MIN_DEPTH)


def normals(pose: Array, edges: Edges, intrinsics: Array) -> Array:
    """Unit normals [2, E] of the edges in the picture; zero for one along the line of sight."""
    place = einsum("ij,ej->ie", pose[:3, :3], edges.points) + pose[:3, 3, None]
    along = einsum("ij,ej->ie", pose[:3, :3], edges.tangents)
    depth = jnp.maximum(place[2], MIN_DEPTH)
    flat = (along[:2] - place[:2] / depth[None] * along[2:]) / depth[None]
    flat = einsum("ij,je->ie", intrinsics[:2, :2], flat)
    length = jnp.sqrt(jnp.sum(flat**2, axis=0))
    across = jnp.stack([-flat[1], flat[0]]) / jnp.maximum(length, 1e-9)[None]
    return across * (length > 1)[None]  # a pixel per metre


def blurred(density: Array, sigma: float) -> Array:
    """Density [H, W] blurred, and its slopes by x and y: [H, W, 3], one where much has fired."""

    def kernels(count):
        at = jnp.arange(count, dtype=density.dtype)
        away = at[:, None] - at[None]
        blur = jnp.exp(-0.5 * (away / sigma) ** 2) / (sigma * jnp.sqrt(2 * jnp.pi))
        return blur, -away / sigma**2 * blur

    (rows, down), (columns, right) = map(kernels, density.shape)
    twice = lambda a, b: einsum("ik,kl,jl->ij", a, density, b)  # noqa: E731
    maps = jnp.stack([twice(rows, columns), twice(rows, right), twice(down, columns)], axis=-1)
    typical = jnp.sum(maps[..., 0] ** 2) / jnp.maximum(jnp.sum(maps[..., 0]), 1e-9)
    return maps / jnp.maximum(typical, 1e-9)


def firing(across: Array, fired: Array, shown: Array) -> Array:
    """How much each edge should fire [E], 0 to 1: the squared cosine of its normal and the motion.

    The motion is taken for one direction in the picture, that which explains best where events are.

    Args:
      across: [2, E] normals.
      fired: [E] density of events at the edges.
      shown: [E] bool.
    """
    angle = jnp.arange(_DIRECTIONS, dtype=across.dtype) * (jnp.pi / _DIRECTIONS)
    cosine = jnp.cos(angle)[:, None] * across[0][None] + jnp.sin(angle)[:, None] * across[1][None]
    weight = (shown / jnp.maximum(shown.sum(), 1))[None]
    square = cosine**2

    def centred(x):
        return x - jnp.sum(x * weight, axis=-1, keepdims=True)

    a, b = centred(square), centred(fired[None])
    spread = jnp.sqrt(jnp.sum(weight * a**2, axis=-1) * jnp.sum(weight * b**2, axis=-1))
    alike = jnp.sum(weight * a * b, axis=-1) / jnp.maximum(spread, 1e-9)
    return square[jnp.argmax(alike)]


def _edge_measure(maps: Array, across: Array, weight: Array, sigma: Array) -> Measure:
    """-weight log(floor + density): dense places pull along the normals, as modes of a mixture."""

    def measure(seen: Array) -> Pull:
        values, _ = bilinear_sample(maps, seen.T)
        density, right, down = values.T
        total = _FLOOR + density
        share = density / total
        slope = (across[0] * right + across[1] * down) / total
        x, y = across
        return Pull(
            cost=-weight * jnp.log(total),
            force=(weight * slope)[None] * across,
            stiffness=(weight * share / sigma**2)[None] * jnp.stack([x * x, x * y, y * y]),
            share=share,
        )

    return measure


def _joined(peaks: Peaks, edges: Measure) -> Measure:
    modes, count = mixture(peaks), len(peaks.xy)

    def measure(seen: Array) -> Pull:
        both = zip(modes(seen[:, :count]), edges(seen[:, count:]), strict=True)
        return Pull(*(jnp.concatenate(x, axis=-1) for x in both))

    return measure


@partial(jax.jit, static_argnames=("blurs", "iterations"))
def align_pose(
    pose: ArrayLike,
    edges: Edges,
    density: ArrayLike,
    points: ArrayLike,
    peaks: Peaks,
    intrinsics: ArrayLike,
    *,
    weight: ArrayLike = 0.1,
    blurs: tuple[float, ...] = (3.0, 1.5),
    iterations: int = 4,
) -> tuple[Array, Array]:
    """A pose that agrees with the modes of its heatmaps and with where events are dense.

    Args:
      pose: [4, 4] view_from_body to start from: an edge is pulled from two or three `blurs` away.
      edges: of the body.
      density: [H, W] of events about the instant of the pose, in the view; any scale.
      points: [P, 3] body frame, of the heatmaps.
      peaks: their modes, in pixels of the view.
      intrinsics: [3, 3] of the view.
      weight: of an edge's point against one of the heatmaps': neighbours on an edge are no
        independent witnesses.
      blurs: standard deviations in pixels, from coarse to fine; at each of them it is settled anew
        which edges are seen, their normals, and which of them the motion lets fire.
      iterations: of each.

    Returns:
      The pose, and by how many nats it lowers the cost of the finest blur: where it would not lower
      it, it is the start, and the gain zero. Not differentiable: the choice of the edges is not.

    Drummond and Cipolla, Real-Time Visual Tracking of Complex Structures, PAMI 2002, move a pose in
    this way along the normals of its edges; here the densest place is not looked for but pulls.
    """
    pose, points, intrinsics = as_float(pose), as_float(points), as_float(intrinsics)
    density, weight, peaks = as_float(density), as_float(weight), jax.tree.map(as_float, peaks)
    everything = jnp.concatenate([points, edges.points.astype(points.dtype)])
    maps = jnp.stack([blurred(density, blur) for blur in blurs])
    sigmas = jnp.array(blurs, pose.dtype)

    def measure_at(pose, stage):
        maps, sigma = stage
        across, shown = normals(pose, edges, intrinsics), visible(pose, edges)
        seen, _ = project(se3_apply(pose, edges.points), intrinsics)
        fired, _ = bilinear_sample(maps[..., :1], seen)
        weights = weight * shown * firing(across, fired[:, 0], shown)
        return _joined(peaks, _edge_measure(maps, across, weights, sigma))

    def stage(pose, about):
        found, _ = descend(pose, everything, intrinsics, measure_at(pose, about), iterations)
        return found, None

    found, _ = lax.scan(stage, pose, (maps, sigmas))
    judge = measure_at(pose, (maps[-1], sigmas[-1]))
    before, after = (look(p, everything, intrinsics, judge).cost for p in (pose, found))
    gain = before - after
    return jnp.where(gain > 0, found, pose), jnp.maximum(gain, 0)
