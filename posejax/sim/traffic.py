"""Moving vehicles of a street world: the scene and the boxes at any time.

Only rows of `Scene.boxes` change, so every time runs the same compiled ray caster.
"""

from dataclasses import replace

import numpy as np

from posejax.sim.objects import ObjectBox
from posejax.sim.scene import Scene
from posejax.sim.streets import StreetWorld, Vehicle


def boxes_at(world: StreetWorld, seconds: float) -> list[ObjectBox]:
    """Boxes of all vehicles at a time; those that stand still have velocity 0."""
    return [*world.boxes, *(_box_at(vehicle, seconds) for vehicle in world.traffic)]


def scene_at(world: StreetWorld, seconds: float) -> Scene:
    """The scene at a time, seconds since the world's own."""
    boxes = world.scene.boxes
    centre, rotation = np.array(boxes.centre), np.array(boxes.rotation)
    for vehicle in world.traffic:
        rows = list(vehicle.parts)
        there, start = _box_at(vehicle, seconds).world_from_box, vehicle.box.world_from_box
        move = there @ np.linalg.inv(start)
        centre[rows] = centre[rows] @ move[:3, :3].T + move[:3, 3]
        rotation[rows] = move[:3, :3] @ rotation[rows]
    return world.scene._replace(boxes=boxes._replace(centre=centre, rotation=rotation))


def _box_at(vehicle: Vehicle, seconds: float) -> ObjectBox:
    """Along its stretch, from whose end it goes on at the beginning."""
    low, high = vehicle.stretch
    length = high - low
    s = low + np.mod(vehicle.start - low + vehicle.speed * seconds, length)
    turn = float(vehicle.road.yaw(s) - vehicle.road.yaw(vehicle.start))
    yaw = vehicle.box.yaw + turn
    # The box is a little behind or ahead of the point that follows the road.
    beside = vehicle.box.centre[:2] - vehicle.road.at(vehicle.start, vehicle.offset)
    c, sine = np.cos(turn), np.sin(turn)
    xy = vehicle.road.at(s, vehicle.offset) + np.array([[c, -sine], [sine, c]]) @ beside
    pace = abs(vehicle.speed)
    return replace(
        vehicle.box,
        centre=np.array([*xy, vehicle.box.centre[2]]),
        yaw=float(yaw),
        velocity=(pace * np.cos(yaw), pace * np.sin(yaw), 0.0),
    )
