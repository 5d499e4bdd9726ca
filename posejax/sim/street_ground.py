"""The painted ground of a street world: surfaces, marks, crossings, patches, as one texture."""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from posejax.sim.paint import Canvas, disc, rectangle
from posejax.sim.roads import Road, free_intervals

# reflectance, red, green, blue of every layer, painted in this order over the grass.
LAYERS: dict[str, tuple[float, float, float, float]] = {
    "sidewalk": (0.34, 0.50, 0.49, 0.46),
    "driveway": (0.28, 0.42, 0.41, 0.40),
    "curb": (0.42, 0.58, 0.57, 0.55),
    "asphalt": (0.13, 0.17, 0.17, 0.18),
    "patch": (0.07, 0.09, 0.09, 0.10),
    "crack": (0.04, 0.05, 0.05, 0.05),
    "manhole": (0.30, 0.10, 0.10, 0.11),
    "white": (0.75, 0.85, 0.85, 0.83),
    "yellow": (0.60, 0.78, 0.58, 0.12),
}
GRASS = (0.45, 0.17, 0.26, 0.09)
MARK_WIDTH = 0.13


@dataclass(frozen=True)
class Painting:
    """What lies on the ground: polygons per layer, and the crossings' edges [2, 2] for the map."""

    layers: dict[str, list[np.ndarray]]
    crossings: list[tuple[np.ndarray, np.ndarray]]


def paint_streets(rng: np.random.Generator, roads: list[Road], half_extent: float) -> Painting:
    """Every polygon of the ground, up to `half_extent` metres from the origin."""
    layers: dict[str, list[np.ndarray]] = {name: [] for name in LAYERS}
    crossings: list[tuple[np.ndarray, np.ndarray]] = []
    for index, road in enumerate(roads):
        others = roads[:index] + roads[index + 1 :]
        layers["asphalt"] += road.strip(0.0, road.length, 0.0, 2 * road.half_width, 3.0)
        for side in (-1.0, 1.0):
            d = side * (road.half_width + 0.08)
            layers["curb"] += road.strip(0.0, road.length, d, 0.16, 3.0)
        if road.sidewalk > 0:
            d = road.half_width + road.verge + road.sidewalk / 2
            for side in (-d, d):
                layers["sidewalk"] += road.strip(0.0, road.length, side, road.sidewalk, 3.0)
        for other in others:
            layers["asphalt"] += _fillets(road, other)
        for stretch in free_intervals(road, others, half_extent + 8.0):
            _paint_marks(rng, road, stretch, layers, crossings)
        _paint_wear(rng, road, half_extent, layers)
    return Painting(layers, crossings)


def _paint_marks(rng, road: Road, stretch, layers, crossings) -> None:
    s0, s1, junction_before, junction_after = stretch
    begin, end = s0, s1
    if junction_before:
        begin = s0 + _paint_approach(rng, road, s0, +1.0, layers, crossings)
    if junction_after:
        end = s1 - _paint_approach(rng, road, s1, -1.0, layers, crossings)
    if end - begin > 40 and rng.random() < 0.35:
        # A crossing in the middle of the block; the marks break there.
        s = rng.uniform(begin + 15, end - 15)
        _paint_crossing(rng, road, s - 1.6, s + 1.6, layers, crossings)
        pieces = [(begin, s - 4.0), (s + 4.0, end)]
    else:
        pieces = [(begin, end)]
    for a, b in pieces:
        for d, mark in _mark_lines(road):
            _paint_line(road, a, b, d, mark, layers)
        if road.parking and rng.random() < 0.7:
            for side in (-1.0, 1.0):
                for s in np.arange(a + rng.uniform(0, 3), b, 6.2):
                    width = road.parking - 0.2
                    middle = side * (road.lanes_half + width / 2 + 0.1)
                    layers["white"] += road.strip(s, s + 0.1, middle, width)


def _mark_lines(road: Road):
    """(d, mark type) of every painted line of the cross-section."""
    yield 0.0, road.centre_mark
    for side in (-1.0, 1.0):
        for i in range(1, road.lanes):
            yield side * i * road.lane_width, road.lane_mark
        yield side * road.lanes_half, road.edge_mark


def _paint_line(road: Road, a: float, b: float, d: float, mark: str, layers) -> None:
    if mark == "NONE" or b <= a:
        return
    layer = layers["yellow" if mark.endswith("YELLOW") else "white"]
    if mark.startswith("DASHED"):
        length, period, phase = road.dash
        for s in np.arange(a - phase % period, b, period):
            layer += road.strip(max(s, a), min(s + length, b), d, MARK_WIDTH)
    elif mark.startswith("DOUBLE"):
        for side in (-MARK_WIDTH, MARK_WIDTH):
            layer += road.strip(a, b, d + side, 0.11)
    else:
        layer += road.strip(a, b, d, MARK_WIDTH)


def _paint_approach(rng, road: Road, s: float, into: float, layers, crossings) -> float:
    """Crossing, stop line and arrows where a road meets a junction at `s`.

    Args:
      into: +1 if the road continues towards +s from here, else -1.

    Returns:
      How far from `s` the other marks start.
    """
    depth = 0.6
    if rng.random() < 0.7:
        a, b = s + into * depth, s + into * (depth + rng.uniform(2.4, 3.4))
        _paint_crossing(rng, road, min(a, b), max(a, b), layers, crossings)
        depth = abs(b - s) + 1.0
    # Traffic towards the junction runs against `into`: on the left (d > 0) if into is +1.
    side = 1.0 if into > 0 else -1.0
    low, high = sorted((s + into * depth, s + into * (depth + 0.45)))
    layers["white"] += road.strip(low, high, side * road.lanes_half / 2, road.lanes_half - 0.15)
    for lane in range(road.lanes):
        if rng.random() < 0.6:
            d = side * (lane + 0.5) * road.lane_width
            at = s + into * (depth + rng.uniform(3.0, 6.0))
            layers["white"] += _arrow(road, at, d, -into)
    return depth + 0.9


def _arrow(road: Road, s: float, d: float, towards: float) -> list[np.ndarray]:
    """A straight arrow 3.2 m long that points along `towards` * s."""
    position = road.at(s, d)
    yaw = float(road.yaw(s)) + (np.pi if towards < 0 else 0.0)
    c, sn = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, sn], [-sn, c]])
    shaft = np.array([[-1.6, -0.09], [0.5, -0.09], [0.5, 0.09], [-1.6, 0.09]])
    head = np.array([[0.5, -0.38], [1.6, 0.0], [0.5, 0.38]])
    return [part @ turn + position for part in (shaft, head)]


def _paint_crossing(rng, road: Road, s0: float, s1: float, layers, crossings) -> None:
    width = 2 * road.half_width
    crossings.append(tuple(road.at([s, s], [-road.half_width, road.half_width]) for s in (s0, s1)))
    if rng.random() < 0.7:
        bar, period = rng.choice([0.4, 0.5, 0.6]), rng.choice([1.0, 1.2])
        for d in np.arange(-road.half_width + 0.4, road.half_width - 0.3, period):
            layers["white"] += road.strip(s0, s1, d + bar / 2, bar, 4.0)
    else:
        for s in (s0, s1 - 0.3):
            layers["white"] += road.strip(s, s + 0.3, 0.0, width - 0.4)


def _fillets(road: Road, other: Road) -> list[np.ndarray]:
    """Rounded corners where two roads meet: a fan of triangles behind each corner's arc."""
    fans = []
    s = np.arange(0.0, road.length, 0.25)
    for side in (-1.0, 1.0):
        edge = road.at(s, np.full(len(s), side * road.half_width))
        beyond = other.distance(edge) - other.half_width
        for i in np.flatnonzero(np.diff(np.sign(beyond)) != 0):
            out = 1.0 if beyond[i + 1] > 0 else -1.0
            corner = edge[i] + (edge[i + 1] - edge[i]) * beyond[i] / (beyond[i] - beyond[i + 1])
            along = out * _unit(edge[i + 1] - edge[i])
            # The other road leaves the corner sideways, away from this road's centreline.
            inward = road.at(s[i]) - corner
            j = np.argmin(((other.points - corner) ** 2).sum(1))
            j = int(np.clip(j, 1, len(other.points) - 2))
            across = _unit(other.points[j + 1] - other.points[j - 1])
            across = across if across @ inward < 0 else -across
            radius = 4.0
            angles = np.linspace(0.0, np.pi / 2, 6)
            # Quarter circle between corner + r along and corner + r across, bulging to the corner.
            arc = [
                corner + radius * ((1 - np.sin(t)) * along + (1 - np.cos(t)) * across)
                for t in angles
            ]
            for a, b in itertools.pairwise(arc):
                fans.append(_counter_clockwise(np.stack([corner, a, b])))
    return fans


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _counter_clockwise(polygon: np.ndarray) -> np.ndarray:
    x, y = polygon.T
    area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum()
    return polygon if area > 0 else polygon[::-1]


def _paint_wear(rng, road: Road, half_extent: float, layers) -> None:
    """Patches, sealed cracks, manholes: what makes one stretch of road differ from the next."""
    s = np.arange(0.0, road.length, 2.0)
    s = s[(np.abs(road.at(s)) < half_extent).all(-1)]
    if not len(s):
        return
    low, high = s[0], s[-1]
    for _ in range(rng.poisson((high - low) / 14)):
        at, d = rng.uniform(low, high), rng.uniform(-1, 1) * (road.half_width - 1.2)
        yaw = float(road.yaw(at)) + rng.choice([0.0, 0.0, rng.uniform(-0.5, 0.5)])
        size = rng.uniform(0.8, 6.0), rng.uniform(0.6, 2.2)
        layers["patch"].append(rectangle(road.at(at, d), *size, yaw))
    for _ in range(rng.poisson((high - low) / 9)):
        at, d = rng.uniform(low, high), rng.uniform(-1, 1) * (road.half_width - 0.6)
        layers["manhole"].append(disc(road.at(at, d), rng.choice([0.3, 0.36])))
    for _ in range(rng.poisson((high - low) / 10)):
        at, d = rng.uniform(low, high), rng.uniform(-1, 1) * road.half_width * 0.8
        yaw, position = rng.uniform(-np.pi, np.pi), road.at(at, d)
        for _ in range(int(rng.integers(2, 6))):
            length = rng.uniform(0.8, 2.0)
            step = 0.5 * length * np.array([np.cos(yaw), np.sin(yaw)])
            layers["crack"].append(rectangle(position + step, length, 0.07, yaw))
            position = position + 2 * step
            yaw += rng.uniform(-0.7, 0.7)


def ground_texture(rng: np.random.Generator, painting: Painting, canvas: Canvas) -> jax.Array:
    """Paint the layers: [1, cells, cells, 4] float32 reflectance, red, green, blue.

    Paint wears off unevenly; asphalt and grass carry blotches of several sizes.
    """
    names = list(LAYERS)
    coverage = np.stack([canvas.coverage(painting.layers[name]) for name in names])
    coarse = np.stack([_blotches(rng, canvas, size) for size in (12.0, 3.0, 0.7)])
    fine = rng.integers(0, 256, (canvas.cells, canvas.cells), np.uint8)
    looks = np.array([LAYERS[name] for name in names], np.float32)
    return _compose(coverage, coarse, fine, looks)


def _blotches(rng, canvas: Canvas, size: float) -> np.ndarray:
    """Smooth noise [cells, cells] uint8 with features of `size` metres."""
    count = max(2, int(2 * canvas.half_extent / size))
    small = Image.fromarray(rng.integers(0, 256, (count, count), np.uint8))
    return np.asarray(small.resize((canvas.cells, canvas.cells), Image.Resampling.BICUBIC))


@jax.jit
def _compose(coverage, coarse, fine, looks):
    big, middle, small = (coarse.astype(jnp.float32) / 127.5 - 1.0)[..., None]
    grit = fine.astype(jnp.float32)[..., None] / 127.5 - 1.0
    grass = jnp.array(GRASS)[None, None]
    value = grass * (1.0 + 0.25 * big + 0.25 * middle + 0.2 * small + 0.15 * grit)
    for i, name in enumerate(LAYERS):
        share = coverage[i].astype(jnp.float32)[..., None] / 255.0
        look = looks[i][None, None]
        if name in ("white", "yellow"):
            # Worn paint: the share drops where the blotches are dark.
            share = share * jnp.clip(0.85 + 0.35 * middle + 0.35 * small, 0.25, 1.0)
        else:
            look = look * (1.0 + 0.12 * big + 0.10 * middle + 0.08 * small + 0.12 * grit)
        value = value * (1.0 - share) + look * share
    return jnp.clip(value, 0.0, 1.0)[None]
