"""The points of a body that heatmaps are made of, in its frame; NumPy only."""

import functools
import itertools

import numpy as np

from posejax.systems.eventpose.config import KeypointConfig, PointKind


@functools.cache
def body_points(config: KeypointConfig) -> np.ndarray:
    """[P, 3] float32 m, body frame, in the order of `config.points`."""
    return np.concatenate([_of_kind(config, kind) for kind in config.points]).astype(np.float32)


def used_rows(config: KeypointConfig) -> np.ndarray:
    """Rows of `body_points` that poses are computed from: those of the kinds in `config.use`."""
    kinds = np.repeat(config.points, [len(_of_kind(config, kind)) for kind in config.points])
    return np.flatnonzero(np.isin(kinds, config.use or config.points))


@functools.cache
def _of_kind(config: KeypointConfig, kind: PointKind) -> np.ndarray:
    if kind == "box":
        return box_points(config.half, config.middle)
    return spread_points(_surface() if kind == "surface" else _wireframe(), config.count)


def box_points(half: tuple[float, ...], middle: tuple[float, ...]) -> np.ndarray:
    """[26, 3]: corners, edge middles and face centres of a box: all its lattice but the middle."""
    lattice = np.array([p for p in itertools.product((-1, 0, 1), repeat=3) if any(p)], np.float64)
    order = np.argsort(-np.abs(lattice).sum(1), kind="stable")  # corners first
    return lattice[order] * half + np.asarray(middle)


def spread_points(points: np.ndarray, count: int) -> np.ndarray:
    """[count, 3] of points [N, 3]: each the farthest from those before, the first from the mean.

    Raises:
      ValueError: there are fewer than `count`.
    """
    if len(points) < count:
        raise ValueError(f"asked for {count} of {len(points)} points")
    nearest = np.linalg.norm(points - points.mean(0), axis=1)
    chosen = [int(np.argmax(nearest))]
    nearest = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return points[chosen]


def _surface() -> np.ndarray:
    from posejax.sim.space_views import surface_points  # with jax: not in workers

    return surface_points()


def _wireframe() -> np.ndarray:
    from posejax.sim.spacecraft import spacecraft_wireframe

    return spacecraft_wireframe()[0]
