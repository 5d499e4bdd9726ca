"""Procedural street worlds: roads, marks, buildings, trees, poles, cars, all from one seed.

A `StreetWorld` is built in NumPy and holds two scenes that share everything permanent: what the
LiDAR drives through and what the aeroplane saw on another day (other cars).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from posejax.data.av2 import VectorMap
from posejax.sim.builder import SceneBuilder
from posejax.sim.objects import ObjectBox
from posejax.sim.paint import Canvas, disc, rectangle
from posejax.sim.roads import Road, free_intervals, make_roads, vector_map
from posejax.sim.scene import Material, Rectangles, Scene, Textures
from posejax.sim.street_ground import ground_texture, paint_streets

# Labels of what a ray can hit.
GROUND, BUILDING, TREE, POLE, FENCE, CAR = range(6)

WALLS = (
    Material(0.38, (0.55, 0.30, 0.22), (0.6, 0.12), (3.2, 3.0, 0.75)),
    Material(0.52, (0.72, 0.68, 0.60), (1.5, 0.08), (2.6, 3.1, 0.8)),
    Material(0.30, (0.42, 0.43, 0.46), (0.9, 0.10), (2.0, 3.3, 0.7)),
    Material(0.62, (0.80, 0.79, 0.75), (2.0, 0.06), (4.0, 2.9, 0.8)),
    Material(0.22, (0.33, 0.25, 0.20), (0.4, 0.2), (3.0, 2.8, 0.6)),
)
ROOFS = (
    Material(0.20, (0.30, 0.29, 0.29), (1.2, 0.15)),
    Material(0.28, (0.45, 0.24, 0.18), (0.5, 0.15)),
    Material(0.40, (0.60, 0.60, 0.58), (2.5, 0.10)),
)
CROWNS = (
    Material(0.42, (0.12, 0.22, 0.07), (0.35, 0.45)),
    Material(0.36, (0.16, 0.24, 0.10), (0.5, 0.5)),
)
TRUNK = Material(0.30, (0.25, 0.19, 0.13), (0.2, 0.3))
METAL = Material(0.45, (0.45, 0.46, 0.48))
SIGN = Material(0.95, (0.75, 0.15, 0.12))
TIMBER = Material(0.35, (0.42, 0.33, 0.24), (0.15, 0.25))
HEDGE = Material(0.40, (0.11, 0.20, 0.08), (0.3, 0.5))
GLASS = Material(0.06, (0.10, 0.12, 0.14))
PAINTS = tuple(
    Material(r, c)
    for r, c in (
        (0.70, (0.80, 0.80, 0.80)),
        (0.45, (0.50, 0.51, 0.53)),
        (0.08, (0.05, 0.05, 0.06)),
        (0.40, (0.45, 0.06, 0.05)),
        (0.30, (0.08, 0.14, 0.35)),
        (0.35, (0.30, 0.32, 0.33)),
    )
)


@dataclass(frozen=True)
class StreetSettings:
    """Size and richness of a street world.

    Attributes:
      half_extent: metres from the centre to the border of maps and orthophoto.
      ground_margin: metres of painted ground beyond it, for the LiDAR to see.
      ground_cell: metres per cell of the painted ground.
      building_gap: mean gap between neighbouring buildings, metres.
      tree_spacing, pole_spacing: mean spacing along either side of a road, metres.
      parked_share: share of the parking places that are taken.
      traffic_spacing: mean spacing of cars in the lanes, metres.
    """

    half_extent: float = 72.0
    ground_margin: float = 8.0
    ground_cell: float = 0.1
    building_gap: float = 5.0
    tree_spacing: float = 11.0
    pole_spacing: float = 24.0
    parked_share: float = 0.45
    traffic_spacing: float = 45.0


@dataclass(frozen=True)
class Vehicle:
    """A car that drives along a stretch of a lane at constant speed, then starts over.

    Attributes:
      stretch: (s0, s1) between two junctions, metres along `road`.
      start: s at time 0.
      offset: metres to the left of the road's centreline.
      speed: metres per second along +s; below zero against it.
      box: at time 0.
      parts: rows of `Scene.boxes` that it consists of.
    """

    road: Road
    stretch: tuple[float, float]
    start: float
    offset: float
    speed: float
    box: ObjectBox
    parts: tuple[int, ...]


@dataclass(frozen=True)
class StreetWorld:
    """One world. World frame: z up, ground at z = 0, origin in the middle.

    Attributes:
      roads: the roads, the main one first.
      scene: what the LiDAR sees, with its own parked and driving cars.
      aerial_scene: the same world with the cars of another day.
      vector_map: in the city frame.
      half_extent: metres from the origin to the border of the maps.
      city_offset: [3] city position of the world's origin (the frames differ by nothing else).
      path: the road and lane the ego vehicle follows: (road, d, runs along +s).
      boxes: of the vehicles that stand still, in the world frame.
      traffic: the vehicles that move; `posejax.sim.traffic` tells where they are. `scene` shows
        them at time 0.
    """

    roads: list[Road]
    scene: Scene
    aerial_scene: Scene
    vector_map: VectorMap
    half_extent: float
    city_offset: np.ndarray
    path: tuple[Road, float, bool]
    boxes: tuple[ObjectBox, ...] = ()
    traffic: tuple[Vehicle, ...] = ()


def build_street_world(
    seed: int | Sequence[int],
    settings: StreetSettings = StreetSettings(),
    *,
    speed: tuple[float, float] | None = None,
) -> StreetWorld:
    """Build the world of a seed (one number or several): a pure function of its arguments.

    Args:
      speed: bounds of the speed of a lane's vehicles, metres per second; None: they stand still.
        Nothing else of the world depends on it.
    """
    # One stream per part: richer buildings do not move the lane marks.
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(7)]
    road_rng, paint_rng, texture_rng, things_rng, cars_rng, aerial_rng, path_rng = streams
    extent = settings.half_extent + settings.ground_margin
    roads = make_roads(road_rng, settings.half_extent)
    painting = paint_streets(paint_rng, roads, extent)
    space = _Space(extent)
    for road in roads:
        space.take(space.roads, road.strip(0.0, road.length, 0.0, 2 * road.half_width + 0.4))
        space.take(space.walks, road.strip(0.0, road.length, 0.0, 2 * road.outer + 0.4))
    parts = SceneBuilder()
    _add_buildings(things_rng, parts, roads, space, painting.layers, settings)
    _add_street_furniture(things_rng, parts, roads, space, settings)
    texture = ground_texture(texture_rng, painting, Canvas(extent, settings.ground_cell))
    path = _choose_path(path_rng, roads)
    scenes, boxes, traffic = [], [], ()
    for rng, avoid in ((cars_rng, path), (aerial_rng, None)):
        cars = parts.copy()
        lanes = _add_cars(rng, cars, roads, avoid, settings)
        if avoid:
            boxes = cars.objects()
            if speed is not None:
                # A stream of its own: the worlds of old do not change.
                own = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(99,)))
                traffic = _set_off(own, lanes, boxes, speed)
        # Room enough for nearly every world, so that they all run one compiled program.
        scenes.append(cars.build(boxes=384, cylinders=96, ellipsoids=64))
    offset = np.round(np.append(road_rng.uniform(500.0, 3000.0, 2), road_rng.uniform(2.0, 40.0)), 2)
    return StreetWorld(
        roads=roads,
        scene=_with_ground(scenes[0], texture, extent),
        # A camera averages over its pixel, a ray does not: the aeroplane gets a softer texture.
        aerial_scene=_with_ground(scenes[1], _soften(texture), extent),
        vector_map=vector_map(roads, painting.crossings, settings.half_extent, offset),
        half_extent=settings.half_extent,
        city_offset=offset,
        path=path,
        boxes=tuple(b for b in boxes if all(b is not vehicle.box for vehicle in traffic)),
        traffic=traffic,
    )


def _set_off(rng, lanes: list[list], boxes: list[ObjectBox], speed) -> tuple[Vehicle, ...]:
    """Vehicles of every lane, all of a lane equally fast: none runs into another."""
    traffic = []
    for lane in lanes:
        pace = rng.uniform(*speed)
        for road, stretch, s, offset, ahead, instance, parts in lane:
            box = boxes[instance - 1]
            velocity = (pace * np.cos(box.yaw), pace * np.sin(box.yaw), 0.0)
            box = boxes[instance - 1] = replace(box, velocity=velocity)
            traffic.append(Vehicle(road, stretch, s, offset, ahead * pace, box, parts))
    return tuple(traffic)


def _with_ground(scene: Scene, texture: jax.Array, extent: float) -> Scene:
    """Lay the ground in without copying its texture through NumPy."""
    ground = Rectangles(
        np.zeros((1, 3), np.float32),
        np.array([[[1, 0, 0], [0, 1, 0]]], np.float32),
        np.full((1, 2), extent, np.float32),
        np.zeros(1, np.int32),
        np.full(1, GROUND, np.int32),
        np.zeros(1, np.int32),
    )
    size = np.array(texture.shape[1:3], np.int32).reshape(1, 1, 2)
    textures = Textures(texture.reshape(-1, 4), np.zeros((1, 1), np.int32), size)
    return jax.device_put(scene._replace(rectangles=ground, textures=textures))


@jax.jit
def _soften(texture: jax.Array) -> jax.Array:
    """Average over two cells (weights 1/4, 1/2, 1/4) along both axes of [1, H, W, C]."""
    for axis in (1, 2):
        ahead, behind = jnp.roll(texture, -1, axis), jnp.roll(texture, 1, axis)
        texture = 0.5 * texture + 0.25 * (ahead + behind)
    return texture


class _Space:
    """Half-metre grid of what is taken, so that nothing stands inside something else."""

    def __init__(self, extent: float):
        self.canvas = Canvas(extent, 0.5)
        self.roads, self.walks, self.things = (
            np.zeros((self.canvas.cells,) * 2, bool) for _ in range(3)
        )

    def take(self, grid: np.ndarray, polygons) -> None:
        for polygon in polygons:
            window, share = self.canvas.patch(polygon)
            grid[window] |= share > 0.01

    def free(self, polygon: np.ndarray, *grids: np.ndarray) -> bool:
        window, share = self.canvas.patch(polygon)
        covered = share > 0.01
        return bool(covered.any()) and not any((grid[window] & covered).any() for grid in grids)


def _add_buildings(rng, parts, roads, space: _Space, layers, settings: StreetSettings) -> None:
    for road in roads:
        for side in (-1.0, 1.0):
            s = rng.uniform(0.0, 8.0)
            while s < road.length:
                width, depth = rng.uniform(7.0, 19.0), rng.uniform(7.0, 13.0)
                setback = rng.choice([1.0, 3.0, 6.0]) + rng.uniform(0.0, 1.5)
                height = rng.choice([3.5, 6.5, 9.5, 13.0]) + rng.uniform(-0.5, 0.8)
                middle = s + width / 2
                d = side * (road.outer + setback + depth / 2)
                yaw = float(road.yaw(middle)) + rng.normal(0.0, 0.03)
                centre = road.at(middle, d)
                outline = rectangle(centre, width, depth, yaw)
                if space.free(outline, space.walks, space.things):
                    space.take(space.things, [outline])
                    _add_building(rng, parts, centre, width, depth, height, yaw, -side)
                    if rng.random() < 0.5:
                        # A driveway beside the house crosses verge and sidewalk.
                        at = middle + rng.choice([-1.0, 1.0]) * (width / 2 + 1.6)
                        length = road.outer + setback + 3.0 - road.half_width
                        middle_d = side * (road.half_width + length / 2)
                        layers["driveway"] += road.strip(at - 1.4, at + 1.4, middle_d, length)
                s += width + rng.exponential(settings.building_gap) + 1.0


def _add_building(rng, parts, centre, width, depth, height, yaw, front: float) -> None:
    wall, roof = WALLS[rng.integers(len(WALLS))], ROOFS[rng.integers(len(ROOFS))]
    half = (width / 2, depth / 2, height / 2)
    parts.add_box((*centre, height / 2), half, wall, yaw=yaw, label=BUILDING)
    eaves = (width / 2 + 0.3, depth / 2 + 0.3, 0.15)
    parts.add_box((*centre, height + 0.15), eaves, roof, yaw=yaw, label=BUILDING)
    if rng.random() < 0.6:
        # A bay, porch or lift shaft: corners that break a plain wall.
        along = rng.uniform(-0.35, 0.35) * width
        size = rng.uniform(1.0, 2.2), rng.uniform(0.3, 0.7), height * rng.uniform(0.35, 0.9) / 2
        c, s = np.cos(yaw), np.sin(yaw)
        across = front * (depth / 2 + size[1] * 0.9)
        at = centre + along * np.array([c, s]) + across * np.array([-s, c])
        parts.add_box((*at, size[2]), size, wall, yaw=yaw, label=BUILDING)


def _add_street_furniture(rng, parts, roads, space: _Space, settings: StreetSettings) -> None:
    for road in roads:
        for side in (-1.0, 1.0):
            s = rng.exponential(settings.pole_spacing)
            while s < road.length:
                spot = road.at(s, side * (road.half_width + rng.uniform(0.4, 0.7)))
                if space.free(disc(spot, 0.5), space.roads, space.things):
                    space.take(space.things, [disc(spot, 0.5)])
                    _add_pole(rng, parts, road, s, spot, side)
                s += 3.0 + rng.exponential(settings.pole_spacing - 3.0)
            s = rng.exponential(settings.tree_spacing)
            while s < road.length:
                near = road.half_width + 0.6 if road.verge > 1 else road.outer + 0.8
                spot = road.at(s, side * (near + rng.uniform(0.0, 1.5)))
                trunk = disc(spot, 0.7)
                if space.free(trunk, space.roads, space.things):
                    space.take(space.things, [trunk])
                    _add_tree(rng, parts, spot)
                s += 2.5 + rng.exponential(settings.tree_spacing - 2.5)
            s = rng.uniform(0.0, 20.0)
            while s < road.length:
                length = rng.uniform(4.0, 14.0)
                d = side * (road.outer + 0.35)
                yaw = float(road.yaw(s + length / 2))
                spot = road.at(s + length / 2, d)
                outline = rectangle(spot, length, 0.4, yaw)
                if space.free(outline, space.roads, space.things):
                    space.take(space.things, [outline])
                    look, thick = ((TIMBER, 0.05), (HEDGE, 0.35), (WALLS[2], 0.12))[rng.integers(3)]
                    half = (length / 2, thick, rng.uniform(0.35, 0.9))
                    parts.add_box((*spot, half[2]), half, look, yaw=yaw, label=FENCE)
                s += length + rng.exponential(22.0)


def _add_pole(rng, parts, road: Road, s: float, spot, side: float) -> None:
    height = rng.choice([2.6, 6.5, 8.0])
    radius = 0.05 if height < 3 else rng.uniform(0.08, 0.16)
    parts.add_cylinder((*spot, height / 2), radius, height / 2, METAL, label=POLE)
    yaw = float(road.yaw(s))
    if height < 3:
        parts.add_box((*spot, height - 0.35), (0.04, 0.33, 0.33), SIGN, yaw=yaw, label=POLE)
    else:
        # The arm of a street lamp reaches over the road.
        towards = -side * np.array([-np.sin(yaw), np.cos(yaw)])
        middle = spot + towards * 0.8
        half = (0.8, 0.05, 0.05)
        turn = yaw + np.pi / 2
        parts.add_box((*middle, height - 0.1), half, METAL, yaw=turn, label=POLE)


def _add_tree(rng, parts, spot) -> None:
    trunk, crown = rng.uniform(1.8, 3.0), rng.uniform(1.3, 2.6)
    parts.add_cylinder((*spot, trunk / 2), rng.uniform(0.1, 0.25), trunk / 2, TRUNK, label=TREE)
    look = CROWNS[rng.integers(len(CROWNS))]
    half = (crown, crown * rng.uniform(0.8, 1.1), crown * rng.uniform(0.8, 1.3))
    centre = (*spot, trunk + half[2] * 0.8)
    parts.add_ellipsoid(centre, half, look, yaw=rng.uniform(0, np.pi), label=TREE)


def _add_cars(rng, parts, roads, path, settings: StreetSettings) -> list[list]:
    """Parked cars and traffic; of every lane's stretch what `_set_off` needs of its cars."""
    lanes = []
    for index, road in enumerate(roads):
        others = roads[:index] + roads[index + 1 :]
        for s0, s1, *_ in free_intervals(road, others, settings.half_extent + 8.0):
            for side in (-1.0, 1.0):
                if road.parking:
                    for s in np.arange(s0 + 4.0, s1 - 7.0, 6.2):
                        if rng.random() < settings.parked_share:
                            d = side * (road.half_width - 1.15 + rng.normal(0.0, 0.1))
                            at = s + rng.uniform(-0.5, 0.5)
                            _add_car(
                                rng,
                                parts,
                                road.at(at, d),
                                float(road.yaw(at)) + rng.normal(0, 0.02),
                            )
                for lane in range(road.lanes):
                    d = side * (lane + 0.5) * road.lane_width
                    s = s0 + rng.exponential(settings.traffic_spacing)
                    lanes.append([])
                    while s < s1 - 4.0:
                        own = path is not None and road is path[0] and abs(d - path[1]) < 2.0
                        if not own:
                            yaw = float(road.yaw(s)) + (np.pi if side > 0 else 0.0)
                            offset = d + rng.normal(0.0, 0.2)
                            made = _add_car(rng, parts, road.at(s, offset), yaw)
                            lanes[-1].append((road, (s0, s1), s, offset, -side, *made))
                        s += 9.0 + rng.exponential(settings.traffic_spacing)
    return lanes


def _add_car(rng, parts, spot, yaw: float) -> tuple[int, tuple[int, ...]]:
    """A car; its instance and its rows of `Scene.boxes`."""
    car, first = parts.new_object(CAR, yaw=yaw), parts.count("boxes")
    paint = PAINTS[rng.integers(len(PAINTS))]
    half = np.array([rng.uniform(2.0, 2.5), rng.uniform(0.86, 0.98), rng.uniform(0.3, 0.42)])
    parts.add_box((*spot, 0.3 + half[2]), half, paint, yaw=yaw, instance=car)
    cabin = half * (rng.uniform(0.5, 0.75), 0.88, 0.75)
    back = -rng.uniform(0.0, 0.5) * np.array([np.cos(yaw), np.sin(yaw)])
    top = 0.3 + 2 * half[2]
    parts.add_box((*(spot + back), top + cabin[2]), cabin, GLASS, yaw=yaw, instance=car)
    roof = (cabin[0] * 0.85, cabin[1] * 0.95, 0.03)
    parts.add_box((*(spot + back), top + 2 * cabin[2] + 0.03), roof, paint, yaw=yaw, instance=car)
    return car, tuple(range(first, first + 3))


def _choose_path(rng, roads) -> tuple[Road, float, bool]:
    road = roads[0] if rng.random() < 0.6 else roads[rng.integers(len(roads))]
    lane = int(rng.integers(road.lanes))
    forward = bool(rng.random() < 0.5)
    return road, (-1.0 if forward else 1.0) * (lane + 0.5) * road.lane_width, forward
