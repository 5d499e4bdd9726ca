"""Moving vehicles: their boxes, velocities and scene rows agree, and the rest stands still."""

import jax
import numpy as np
import pytest

from posejax.sim import StreetSettings, build_street_world
from posejax.sim.streets import CAR
from posejax.sim.traffic import boxes_at, scene_at

SMALL = StreetSettings(half_extent=40.0, ground_margin=4.0, ground_cell=0.4, traffic_spacing=12.0)


@pytest.fixture(scope="module")
def worlds():
    return build_street_world((1, 0, 2), SMALL), build_street_world((1, 0, 2), SMALL, speed=(5, 9))


def test_speed_changes_nothing_at_time_zero(worlds):
    still, moving = worlds
    assert not still.traffic and len(moving.traffic) > 2
    for world in (moving.scene, scene_at(moving, 0.0)):
        for a, b in zip(jax.tree.leaves(still.scene), jax.tree.leaves(world), strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-5)
    assert len(still.boxes) == len(moving.boxes) + len(moving.traffic)
    assert len({box.instance for box in boxes_at(moving, 3.0)}) == len(still.boxes)


def test_boxes_hold_their_parts_at_any_time_and_move_at_their_velocity(worlds):
    _, world = worlds
    for seconds in (0.0, 1.7, 40.0):
        scene = jax.device_get(scene_at(world, seconds).boxes)
        boxes = {box.instance: box for box in boxes_at(world, seconds)}
        for vehicle in world.traffic:
            box = boxes[vehicle.box.instance]
            rows = list(vehicle.parts)
            assert (np.asarray(scene.instance)[rows] == box.instance).all() and box.label == CAR
            signs = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(-1, 3)
            corners = signs[None] * scene.half_size[rows][:, None]
            corners = corners @ scene.rotation[rows].swapaxes(1, 2) + scene.centre[rows][:, None]
            local = (corners.reshape(-1, 3) - box.centre) @ box.world_from_box[:3, :3]
            # Tight: parts reach every face and none beyond.
            np.testing.assert_allclose(np.abs(local).max(0), box.size / 2, atol=1e-3)
    before, after = boxes_at(world, 1.0), boxes_at(world, 1.02)
    moved = 0
    for one, two in zip(before, after, strict=True):
        step = (two.centre - one.centre) / 0.02
        if np.linalg.norm(step) < 20:  # else it started over
            np.testing.assert_allclose(step, one.velocity, atol=0.5)
            moved += np.linalg.norm(step) > 4
    assert moved > 2


def test_vehicles_of_a_lane_never_meet(worlds):
    _, world = worlds
    for seconds in np.linspace(0, 30, 40):
        boxes = boxes_at(world, float(seconds))[len(world.boxes) :]
        centres = np.array([box.centre[:2] for box in boxes])
        apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
        apart[np.diag_indices(len(boxes))] = np.inf
        assert apart.min() > 2.2, "lanes are 3 m apart, cars of one lane 9 m"
