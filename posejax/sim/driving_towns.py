"""A street world with a vehicle that drives through it: poses at any time, cars and trucks."""

from dataclasses import dataclass, replace

import numpy as np

from posejax.sim.objects import ObjectBox
from posejax.sim.streets import StreetSettings, StreetWorld, build_street_world


@dataclass(frozen=True)
class TownSettings:
    """Attributes:
    street: size and richness.
    traffic_speed: bounds of the speed of a lane's vehicles, m/s.
    ego_speed: bounds of the vehicle's own.
    margin: metres to the end of the town that it keeps.
    truck_share: share of the vehicles that are trucks.
    sun_elevation_deg: range the sun's height is drawn from.
    """

    street: StreetSettings = StreetSettings(
        half_extent=96.0, ground_cell=0.15, parked_share=0.65, traffic_spacing=14.0
    )
    traffic_speed: tuple[float, float] = (3.0, 12.0)
    ego_speed: tuple[float, float] = (3.0, 11.0)
    margin: float = 42.0
    truck_share: float = 0.15
    sun_elevation_deg: tuple[float, float] = (25.0, 75.0)


@dataclass(frozen=True)
class Drive:
    """Along a lane at a speed, swaying a little.

    Attributes:
      world: whose path it follows.
      start: metres along the road at time 0.
      speed: m/s along +s; below zero against it.
      sway: amplitudes: metres to the side, radians of roll and pitch.
      rate: [3] of each, radians per second.
      phase: [3].
    """

    world: StreetWorld
    start: float
    speed: float
    sway: tuple[float, float, float]
    rate: np.ndarray
    phase: np.ndarray

    def pose(self, seconds: float) -> np.ndarray:
        """world_from_ego [4, 4], the origin on the ground."""
        road, offset, forward = self.world.path
        s = self.start + self.speed * seconds
        aside, roll, pitch = self.sway * np.sin(self.rate * seconds + self.phase)
        drift = self.sway[0] * self.rate[0] * np.cos(self.rate[0] * seconds + self.phase[0])
        yaw = road.yaw(s) + (0.0 if forward else np.pi)
        yaw = float(yaw + np.arctan2(drift if forward else -drift, max(abs(self.speed), 1.0)))
        pose = np.eye(4)
        pose[:3, :3] = _about(2, yaw) @ _about(1, pitch) @ _about(0, roll)
        pose[:2, 3] = road.at(s, offset + aside)
        return pose

    def velocity(self, seconds: float, ego_from_sensor: np.ndarray) -> np.ndarray:
        """[3] m/s of a sensor in the world."""
        step = 1e-3
        before, after = ((self.pose(seconds + t) @ ego_from_sensor)[:3, 3] for t in (-step, step))
        return (after - before) / (2 * step)


@dataclass(frozen=True)
class Town:
    """A world with its drive.

    Attributes:
      world: see `StreetWorld`; some of its cars are trucks.
      drive: of the vehicle with the sensors.
      category: {instance: nuScenes' name}.
      sun: direction to it [3].
      sky: colour of the sky, linear RGB.
    """

    world: StreetWorld
    drive: Drive
    category: dict[int, str]
    sun: tuple[float, float, float]
    sky: tuple[float, float, float]


def build_town(seed: tuple[int, ...], settings: TownSettings, seconds: float) -> Town:
    """The town of a seed, and a drive of so many seconds through it."""
    world = build_street_world(seed, settings.street, speed=settings.traffic_speed)
    truck_rng, drive_rng, light_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence([*seed, 7]).spawn(3)
    )
    world, category = _with_trucks(truck_rng, world, settings.truck_share)
    elevation = np.deg2rad(light_rng.uniform(*settings.sun_elevation_deg))
    azimuth = light_rng.uniform(-np.pi, np.pi)
    flat = np.cos(elevation)
    sun = float(flat * np.cos(azimuth)), float(flat * np.sin(azimuth)), float(np.sin(elevation))
    grey = light_rng.uniform(0.5, 0.9)
    sky = float(grey * light_rng.uniform(0.6, 1.0)), float(grey * 0.95), float(min(grey * 1.1, 1.0))
    return Town(world, _set_out(drive_rng, world, settings, seconds), category, sun, sky)


def _set_out(rng, world: StreetWorld, settings: TownSettings, seconds: float) -> Drive:
    """A drive that stays within the town; slower if the road is too short."""
    road, _, forward = world.path
    s = np.arange(0.0, road.length, 0.5)
    s = s[(np.abs(road.at(s)) < world.half_extent - settings.margin).all(-1)]
    length = s[-1] - s[0] - 1.0
    speed = min(rng.uniform(*settings.ego_speed), length / max(seconds, 1e-6))
    start = s[0] + rng.uniform(0.0, length - speed * seconds)
    sway = 0.25, np.deg2rad(0.4), np.deg2rad(0.5)
    start = start if forward else start + speed * seconds
    speed = speed if forward else -speed
    rate, phase = rng.uniform(0.3, 1.5, 3), rng.uniform(-np.pi, np.pi, 3)
    return Drive(world, float(start), float(speed), sway, rate, phase)


def _with_trucks(rng, world: StreetWorld, share: float) -> tuple[StreetWorld, dict[int, str]]:
    """Some cars grown to trucks: higher, and longer where there is room ahead and behind."""
    solids = world.scene.boxes
    centre, half = np.array(solids.centre), np.array(solids.half_size)
    instance = np.asarray(solids.instance)
    category: dict[int, str] = {}

    def grown(box: ObjectBox, longest: float) -> ObjectBox:
        truck = bool(rng.random() < share)
        scale = np.array([rng.uniform(1.0, longest), rng.uniform(1.0, 1.12), rng.uniform(1.5, 2.1)])
        category[box.instance] = "vehicle.truck" if truck else "vehicle.car"
        if not truck:
            return box
        rows = instance == box.instance
        pose = box.world_from_box
        pose[2, 3] = 0.0  # it grows from the ground
        turn, foot = pose[:3, :3], pose[:3, 3]
        centre[rows] = (centre[rows] - foot) @ turn * scale @ turn.T + foot
        half[rows] *= scale
        return replace(box, centre=(box.centre - foot) @ turn * scale @ turn.T + foot,
                       size=box.size * scale)  # fmt: skip

    boxes = tuple(grown(box, 1.12) for box in world.boxes)
    traffic = tuple(replace(v, box=grown(v.box, 1.5)) for v in world.traffic)
    scene = world.scene._replace(boxes=solids._replace(centre=centre, half_size=half))
    return replace(world, scene=scene, boxes=boxes, traffic=traffic), category


def _about(axis: int, angle: float) -> np.ndarray:
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[j, i], matrix[i, j] = np.sin(angle), -np.sin(angle)
    return matrix
