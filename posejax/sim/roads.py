"""Road geometry of a street world: curved centrelines, lanes, where roads meet, the vector map.

Along a road, s is the arc length and d the offset to the left of the centreline. Traffic keeps
right: lanes with d < 0 run along +s.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from posejax.data.av2 import LaneSegment, VectorMap

STEP = 1.0  # metres between the points of a centreline


@dataclass(frozen=True)
class Road:
    """A road of constant cross-section.

    Attributes:
      points: [N, 2] centreline, STEP metres apart.
      lanes: number of lanes per direction.
      lane_width: metres.
      parking: width of the parking strip on either side, metres (0: none).
      verge: width of the grass between curb and sidewalk, metres (0: none).
      sidewalk: width of the sidewalk on either side, metres (0: none).
      centre_mark, lane_mark, edge_mark: Argoverse mark types.
      dash: (length, period, phase) of dashed marks, metres.
    """

    points: np.ndarray
    lanes: int
    lane_width: float
    parking: float
    verge: float
    sidewalk: float
    centre_mark: str
    lane_mark: str
    edge_mark: str
    dash: tuple[float, float, float]

    @property
    def length(self) -> float:
        return (len(self.points) - 1) * STEP

    @property
    def lanes_half(self) -> float:
        """From the centreline to the outer lane's edge."""
        return self.lanes * self.lane_width

    @property
    def half_width(self) -> float:
        """From the centreline to the curb."""
        return self.lanes_half + self.parking + 0.35

    @property
    def outer(self) -> float:
        """From the centreline to the far side of the sidewalk."""
        return self.half_width + self.verge + self.sidewalk

    def at(self, s: Any, d: Any = 0.0) -> np.ndarray:
        """Positions [..., 2] at arc length `s` and offset `d`."""
        s = np.asarray(s, np.float64)
        i = np.arange(len(self.points)) * STEP
        base = np.stack([np.interp(s, i, self.points[:, k]) for k in range(2)], -1)
        yaw = self.yaw(s)
        return base + np.asarray(d)[..., None] * np.stack([-np.sin(yaw), np.cos(yaw)], -1)

    def yaw(self, s: Any) -> np.ndarray:
        """Direction of the road at `s`, radians."""
        step = np.diff(self.points, axis=0)
        angle = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
        return np.interp(s, (np.arange(len(step)) + 0.5) * STEP, angle)

    def strip(self, s0: float, s1: float, d: float, width: float, step: float = 2.0):
        """Counter-clockwise quads that follow the road from s0 to s1, centred on offset d."""
        if s1 - s0 < 1e-6:
            return []
        s = np.linspace(s0, s1, max(2, int(np.ceil((s1 - s0) / step)) + 1))
        right, left = self.at(s, d - width / 2), self.at(s, d + width / 2)
        return [np.stack([right[i], right[i + 1], left[i + 1], left[i]]) for i in range(len(s) - 1)]

    def distance(self, xy: np.ndarray) -> np.ndarray:
        """Distance [...] of positions [..., 2] to the centreline."""
        # Every second point: beyond 5 m, where it matters, the error stays below 10 cm.
        offset = xy[..., None, :] - self.points[::2]
        return np.sqrt((offset**2).sum(-1).min(-1))


def make_roads(rng: np.random.Generator, half_extent: float) -> list[Road]:
    """One to three roads: a main one near the origin and up to two that cross it."""
    heading = rng.uniform(-np.pi, np.pi)
    middle = rng.uniform(-6.0, 6.0, 2)
    main = _road(rng, middle, heading, half_extent, lanes=int(rng.integers(1, 3)))
    roads = [main]
    crossings = rng.choice([0, 1, 2], p=[0.15, 0.6, 0.25])
    side = rng.choice([-1.0, 1.0])
    for _ in range(crossings):
        s = main.length / 2 + side * rng.uniform(12.0, 38.0)
        side = -side
        angle = main.yaw(s) + np.pi / 2 + rng.uniform(-0.2, 0.2)
        roads.append(_road(rng, main.at(s), float(angle), half_extent, lanes=1))
    return roads


def _road(rng, middle, heading: float, half_extent: float, lanes: int) -> Road:
    """A road through `middle`: its curvature grows linearly with the distance from there."""
    reach = 1.6 * half_extent
    s = np.arange(-np.ceil(reach), np.ceil(reach) + 0.5, STEP)
    bend, twist = rng.uniform(-1 / 130, 1 / 130), rng.uniform(-1 / 9000, 1 / 9000)
    yaw = heading + bend * s + 0.5 * twist * s**2
    step = np.stack([np.cos(yaw), np.sin(yaw)], 1) * STEP
    centre = len(s) // 2
    points = np.cumsum(np.vstack([np.zeros((1, 2)), 0.5 * (step[1:] + step[:-1])]), axis=0)
    points = points - points[centre] + middle
    dash = (rng.choice([1.5, 3.0, 3.0]), rng.choice([6.0, 9.0, 12.0]), rng.uniform(0.0, 12.0))
    yellow = ["DOUBLE_SOLID_YELLOW", "DASHED_YELLOW", "SOLID_YELLOW", "DASHED_WHITE"]
    return Road(
        points=points,
        lanes=lanes,
        lane_width=rng.uniform(3.0, 3.7),
        parking=float(rng.choice([0.0, 2.2, 2.4])),
        verge=float(rng.choice([0.0, 0.0, 1.2, 2.0])),
        sidewalk=float(rng.uniform(1.4, 2.4)) * float(rng.random() < 0.85),
        centre_mark=str(rng.choice(yellow, p=[0.45, 0.25, 0.15, 0.15])),
        lane_mark="DASHED_WHITE",
        edge_mark=str(rng.choice(["SOLID_WHITE", "NONE"], p=[0.6, 0.4])),
        dash=(float(dash[0]), float(dash[1]), float(dash[2])),
    )


def free_intervals(road: Road, others: list[Road], half_extent: float) -> list[tuple]:
    """Stretches of a road outside every junction: (s0, s1, junction before, junction after)."""
    s = np.arange(0.0, road.length + 1e-6, 0.5)
    inside = (np.abs(road.at(s)) < half_extent).all(-1)
    junction = np.zeros(len(s), bool)
    for other in others:
        for d in (-road.half_width, 0.0, road.half_width):
            junction |= other.distance(road.at(s, np.full(len(s), d))) < other.half_width + 2.5
    free = inside & ~junction
    edges = np.flatnonzero(np.diff(np.concatenate([[0], free.astype(int), [0]])))
    return [
        (s[a], s[b - 1], a > 0 and bool(junction[a - 1]), b < len(s) and bool(junction[b]))
        for a, b in edges.reshape(-1, 2)
        if b - a > 8
    ]


def lane_boundaries(road: Road) -> list[tuple[float, float, str, str, bool]]:
    """Lanes of a road: (left d, right d, left mark, right mark, runs along +s)."""
    lanes = []
    for i in range(road.lanes):
        inner, outer = i * road.lane_width, (i + 1) * road.lane_width
        left = road.centre_mark if i == 0 else road.lane_mark
        right = road.edge_mark if i == road.lanes - 1 else road.lane_mark
        lanes.append((-inner, -outer, left, right, True))
        lanes.append((inner, outer, left, right, False))
    return lanes


def vector_map(
    roads: list[Road],
    crossings: list[tuple[np.ndarray, np.ndarray]],
    half_extent: float,
    offset: np.ndarray,
) -> VectorMap:
    """The lane-level map in the city frame = world frame + `offset` [3]."""

    def city(line: np.ndarray) -> np.ndarray:
        return np.concatenate([line, np.zeros((len(line), 1))], axis=1) + offset

    segments, areas = [], []
    number = int(offset[0]) * 1000
    for index, road in enumerate(roads):
        others = roads[:index] + roads[index + 1 :]
        stretches = free_intervals(road, others, half_extent)
        gaps = [
            (a[1], b[0])
            for a, b in itertools.pairwise(stretches)
            if a[3] and b[2] and b[0] - a[1] < 60
        ]
        for left, right, left_mark, right_mark, forward in lane_boundaries(road):
            chain = sorted(
                [(s0, s1, False) for s0, s1, *_ in stretches] + [(a, b, True) for a, b in gaps]
            )
            pieces = [p for part in chain for p in _cut(part, 40.0)]
            pieces = pieces if forward else pieces[::-1]
            first = number
            for k, (s0, s1, junction) in enumerate(pieces):
                s = np.linspace(s0, s1, max(2, int(np.ceil((s1 - s0) / 3.0)) + 1))
                s = s if forward else s[::-1]
                before = k > 0 and _meets(pieces[k - 1], pieces[k], forward)
                after = k + 1 < len(pieces) and _meets(pieces[k], pieces[k + 1], forward)
                segments.append(
                    LaneSegment(
                        id=first + k,
                        left=city(road.at(s, np.full(len(s), left))),
                        right=city(road.at(s, np.full(len(s), right))),
                        left_mark_type="NONE" if junction else left_mark,
                        right_mark_type="NONE" if junction else right_mark,
                        is_intersection=junction,
                        successors=(first + k + 1,) if after else (),
                        predecessors=(first + k - 1,) if before else (),
                    )
                )
            number += len(pieces)
        inside = np.arange(0.0, road.length + 1e-6, 2.0)
        inside = inside[(np.abs(road.at(inside)) < half_extent).all(-1)]
        d = np.full(len(inside), road.half_width)
        areas.append(city(np.concatenate([road.at(inside, -d), road.at(inside, d)[::-1]])))
    return VectorMap(segments, areas, [(city(a), city(b)) for a, b in crossings])


def _cut(part, longest: float):
    s0, s1, junction = part
    s = np.linspace(s0, s1, max(1, int(np.ceil((s1 - s0) / longest))) + 1)
    return [(a, b, junction) for a, b in itertools.pairwise(s)]


def _meets(one, two, forward: bool) -> bool:
    return abs((one[1] - two[0]) if forward else (one[0] - two[1])) < 1e-6
