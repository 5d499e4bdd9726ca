"""A camera's walk through a room: clear of everything, smooth, its eyes on things."""

import itertools
from dataclasses import dataclass

import numpy as np

from posejax.sim.rooms import Room

_CELL = 0.1  # metres, of the grid that routes are found on


@dataclass(frozen=True)
class PathSettings:
    """How the camera moves.

    Attributes:
      clearance: metres that it keeps from walls and furniture, seen from above.
      height: bounds of its height, metres.
      stops: places that it passes.
      smoothing: metres along the way over which corners are rounded.
      tilt_sigma_deg: standard deviation of its roll.
    """

    clearance: float = 0.3
    height: tuple[float, float] = (1.1, 1.7)
    stops: int = 5
    smoothing: float = 0.5
    tilt_sigma_deg: float = 3.0


def camera_path(
    rng: np.random.Generator,
    room: Room,
    frames: int,
    settings: PathSettings = PathSettings(),
) -> np.ndarray:
    """Poses world_from_camera [frames, 4, 4], evenly spread along a smooth way.

    The way joins random places by shortest routes over the free floor, rounds their corners as far
    as it stays clear. At every stop the camera looks at another thing of the room; in between it
    turns at an even pace.

    Raises:
      ValueError: no spot of the floor is clear.
    """
    way = _way(rng, room, settings)
    step = np.linalg.norm(np.diff(way, axis=0), axis=1)
    s = np.concatenate([[0.0], np.cumsum(step)])
    at = np.linspace(0.0, s[-1], frames)
    xy = np.stack([np.interp(at, s, way[:, k]) for k in (0, 1)], axis=1)
    share = np.linspace(0.0, 1.0, frames)
    # A stop at a time: the same pace for height, roll and what is looked at.
    z = _wander(rng.uniform(*settings.height, settings.stops), share)
    roll = np.deg2rad(_wander(rng.normal(0, settings.tilt_sigma_deg, settings.stops), share))
    eye = np.column_stack([xy, z])
    stops = eye[np.linspace(0, frames - 1, settings.stops).round().astype(int)]
    return look_at(eye, eye + _wander_gaze(_gaze(rng, room, stops), share), roll)


def look_at(eye: np.ndarray, target: np.ndarray, roll: np.ndarray | float = 0.0) -> np.ndarray:
    """Poses world_from_camera [..., 4, 4] at `eye` [..., 3] that look at `target` [..., 3].

    Args:
      roll: [...] radians about the optical axis; at 0 the picture is upright (world z up).
    """
    eye, target = np.broadcast_arrays(np.asarray(eye, float), np.asarray(target, float))
    forward = target - eye
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right = right / np.maximum(np.linalg.norm(right, axis=-1, keepdims=True), 1e-9)
    down = np.cross(forward, right)
    c, s = np.cos(roll)[..., None], np.sin(roll)[..., None]
    pose = np.zeros((*eye.shape[:-1], 4, 4))
    pose[..., :3, 0], pose[..., :3, 1] = c * right + s * down, c * down - s * right
    pose[..., :3, 2], pose[..., :3, 3], pose[..., 3, 3] = forward, eye, 1.0
    return pose


def _gaze(rng, room: Room, stops: np.ndarray) -> np.ndarray:
    """(bearing, elevation) [K, 2] at every stop [K, 3], towards a thing that is not too near."""
    gaze = []
    for stop in stops:
        off = np.array([box.centre for box in room.boxes]).reshape(-1, 3) - stop
        off = off[np.linalg.norm(off[:, :2], axis=1) > 1.0]
        if not len(off):
            off = rng.normal(size=(1, 3)) * [1, 1, 0.2]
        x, y, z = off[rng.integers(len(off))]
        gaze.append((np.arctan2(y, x), np.clip(np.arctan2(z, np.hypot(x, y)), -0.6, 0.3)))
    gaze = np.array(gaze)
    gaze[:, 0] = np.unwrap(gaze[:, 0])  # turn the shorter way
    return gaze


def _wander_gaze(gaze: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Unit directions [F, 3]. Angles are eased, not places: nothing that is near whirls past."""
    bearing, elevation = _wander(gaze, share).T
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(bearing), flat * np.sin(bearing), np.sin(elevation)], axis=1)


def _wander(stops: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Values [F, ...] that pass the stops [K, ...] with eased steps, `share` [F] in [0, 1]."""
    place = share * (len(stops) - 1)
    first = np.minimum(place.astype(int), len(stops) - 2)
    t = place - first
    t = (t * t * (3 - 2 * t)).reshape(-1, *(1,) * (stops.ndim - 1))
    return stops[first] * (1 - t) + stops[first + 1] * t


def _way(rng, room: Room, settings: PathSettings) -> np.ndarray:
    """[N, 2] points 2 cm apart, all clear."""
    counts = np.ceil(room.size[:2] / _CELL).astype(int)
    axes = [
        (np.arange(n) + 0.5) * s / n - s / 2 for n, s in zip(counts, room.size[:2], strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    # Between two neighbouring cells the way is clear too: the distance changes by no more than
    # half a diagonal step.
    margin = settings.clearance + _CELL * 0.75
    free = room.clearance(grid) > margin
    if not free.any():
        raise ValueError(f"no spot of the room is {margin:.2f} m clear of walls and furniture")
    start = _largest_part(free)
    reach = _distances(free, start)
    cells = np.argwhere(np.isfinite(reach))
    stops = cells[rng.integers(len(cells), size=settings.stops)]
    route = [tuple(stops[0])]
    for a, b in itertools.pairwise(stops):
        route += _descend(_distances(free, tuple(b)), tuple(a))[1:]
    points = grid[tuple(np.array(route).T)]
    if len(points) < 2:  # one free spot: stand there
        return np.concatenate([points, points + 1e-4])
    points = _resample(points, 0.02)
    sigma = settings.smoothing / 0.02 / 2
    while sigma > 1:
        smooth = _resample(_blurred(points, sigma), 0.02)
        if (room.clearance(smooth) > settings.clearance).all():
            return smooth
        sigma /= 1.5
    return points


def _largest_part(free: np.ndarray) -> tuple[int, int]:
    """A cell of the largest connected part."""
    best, start, left = 0, (0, 0), free.copy()
    while left.any():
        cell = tuple(np.argwhere(left)[0])
        part = np.isfinite(_distances(free, cell))
        if part.sum() > best:
            best, start = int(part.sum()), cell
        left &= ~part
    return start


_STEPS = [(i, j, np.hypot(i, j)) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]


def _distances(free: np.ndarray, start: tuple[int, int]) -> np.ndarray:
    """Length of the shortest way over free cells, in cells; inf where none leads."""
    padded = np.pad(free, 1)
    distance = np.full(padded.shape, np.inf)
    distance[start[0] + 1, start[1] + 1] = 0.0
    while True:  # Bellman-Ford on whole arrays: a room has few cells
        best = distance.copy()
        for i, j, length in _STEPS:
            best = np.minimum(best, np.roll(distance, (i, j), (0, 1)) + length)
        best = np.where(padded, best, np.inf)
        if (best == distance).all():
            return distance[1:-1, 1:-1]
        distance = best


def _descend(distance: np.ndarray, cell: tuple[int, int]) -> list[tuple[int, int]]:
    """Cells from `cell` to where the distance is 0."""
    padded, route = np.pad(distance, 1, constant_values=np.inf), [cell]
    while distance[cell] > 0:
        row, column = cell
        ways = [
            (padded[row + 1 + i, column + 1 + j] + n, row + i, column + j) for i, j, n in _STEPS
        ]
        cell = min(ways)[1:]
        route.append(cell)
    return route


def _resample(points: np.ndarray, spacing: float) -> np.ndarray:
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, s[-1], max(int(s[-1] / spacing) + 1, 2))
    return np.stack([np.interp(at, s, points[:, k]) for k in (0, 1)], axis=1)


def _blurred(points: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur along the way; its ends stay."""
    reach = min(int(3 * sigma), len(points) - 1)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    before = 2 * points[0] - points[reach:0:-1]  # mirrored through the ends
    after = 2 * points[-1] - points[-2 : -reach - 2 : -1]
    padded = np.concatenate([before, points, after])
    return np.stack([np.convolve(padded[:, k], taps / taps.sum(), "valid") for k in (0, 1)], 1)
