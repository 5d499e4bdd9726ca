"""Rooms and the way through them: labels, boxes and clearances that NumPy checks on its own."""

import itertools

import jax
import numpy as np
import pytest

from posejax.sim import Camera, PathSettings, RoomSettings, camera_path, render
from posejax.sim.contact_sheet import index_colours
from posejax.sim.rooms import CLASSES, build_room, room_of_split

COARSE = RoomSettings(texel=0.05)


@pytest.fixture(scope="module")
def rooms():
    return [room_of_split("train", number, settings=COARSE) for number in range(6)]


def test_a_room_is_a_function_of_its_seed_and_splits_share_none(rooms):
    again = room_of_split("train", 0, settings=COARSE)
    for a, b in zip(jax.tree.leaves(rooms[0].scene), jax.tree.leaves(again.scene), strict=True):
        np.testing.assert_array_equal(a, b)
    sizes = {tuple(room.size) for room in rooms}
    sizes |= {
        tuple(room_of_split(split, number, settings=COARSE).size)
        for split in ("val", "test")
        for number in range(3)
    }
    assert len(sizes) == 12
    shapes = [[x.shape for x in jax.tree.leaves(room.scene)] for room in rooms]
    assert all(shape == shapes[0] for shape in shapes), "one compiled program for all"
    full = jax.tree.leaves(build_room(3).scene)
    assert [x.shape for x in full] == shapes[0]


def inside(box, points, margin=0.0):
    local = (points - box.centre) @ box.world_from_box[:3, :3]
    return (np.abs(local) <= box.size / 2 + margin).all(-1)


def test_furniture_is_in_the_room_and_apart(rooms):
    names = {number: name for name, number in CLASSES.items()}
    seen = set()
    for room in rooms:
        seen |= {names[box.label] for box in room.boxes}
        assert len({box.instance for box in room.boxes}) == len(room.boxes)
        for box in room.boxes:
            corners = box.corners()
            assert (np.abs(corners[:, :2]) <= room.size[:2] / 2 + 0.01).all(), names[box.label]
            assert corners[:, 2].min() > -1e-6 and corners[:, 2].max() < room.size[2]
        share = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 9)] * 3), -1).reshape(-1, 3)
        for one, two in itertools.permutations(room.boxes, 2):
            points = (share * one.size) @ one.world_from_box[:3, :3].T + one.centre
            assert not inside(two, points, -0.02).any(), (names[one.label], names[two.label])
    assert len(seen) >= 9 and {"door", "window", "picture"} <= seen


def test_the_way_is_clear_smooth_and_level_enough(rooms):
    for number, room in enumerate(rooms):
        rng = np.random.default_rng(number)
        poses = camera_path(rng, room, 80)
        np.testing.assert_array_equal(poses, camera_path(np.random.default_rng(number), room, 80))
        eye, turn = poses[:, :3, 3], poses[:, :3, :3]
        np.testing.assert_allclose(
            turn @ turn.swapaxes(1, 2), np.tile(np.eye(3), (80, 1, 1)), atol=1e-9
        )
        np.testing.assert_allclose(np.linalg.det(turn), 1)
        # Not through walls or anything that stands on the floor, by the boxes and not the map.
        assert (np.abs(eye[:, :2]) < room.size[:2] / 2 - 0.29).all()
        for box in room.boxes:
            if box.centre[2] - box.size[2] / 2 < 0.1 and box.label != CLASSES["door"]:
                beside = eye.copy()
                beside[:, 2] = box.centre[2]
                assert not inside(box, beside, 0.2).any()
        assert (eye[:, 2] > 1.05).all() and (eye[:, 2] < 1.75).all()
        step = np.linalg.norm(np.diff(eye[:, :2], axis=0), axis=1)
        assert step.max() < 0.25 and step.max() < 1.5 * np.median(step)
        cosine = (np.einsum("nij,nij->n", turn[1:], turn[:-1]) - 1) / 2
        assert np.rad2deg(np.arccos(np.clip(cosine, -1, 1))).max() < 17
        assert (turn[:, 2, 1] < -0.3).all(), "the picture's y points down"


def test_clearance_is_the_distance_to_the_nearest_footprint(rooms):
    room = rooms[1]
    xy = np.random.default_rng(0).uniform(-0.5, 0.5, (200, 2)) * room.size[:2]
    found = room.clearance(xy)
    edge = np.linspace(-1, 1, 401)
    outline = np.concatenate([np.stack([edge, np.full(401, s)], 1) for s in (-1, 1)])
    outline = np.concatenate([outline, outline[:, ::-1]])
    points = [outline * room.size[:2] / 2]
    for (x, y, a, b), yaw in zip(room.footprints, room.yaws, strict=True):
        c, s = np.cos(yaw), np.sin(yaw)
        points.append(outline * [a, b] @ np.array([[c, s], [-s, c]]) + [x, y])
    distance = np.linalg.norm(xy[:, None] - np.concatenate(points)[None], axis=-1).min(1)
    np.testing.assert_allclose(np.abs(found), distance, atol=0.02)


def test_what_is_seen_lies_in_its_box_and_has_its_class(rooms):
    camera = Camera(np.array([[40.0, 0, 32], [0, 40, 32], [0, 0, 1]]), (64, 64))
    rays = camera.directions
    count = 0
    for room in rooms[:3]:
        boxes = {box.instance: box for box in room.boxes}
        for pose in camera_path(np.random.default_rng(0), room, 5):
            frame = jax.device_get(render(room.scene, camera, pose, light=room.lamp))
            assert frame.valid.all(), "walls all around"
            points = (frame.depth[..., None] * rays) @ pose[:3, :3].T + pose[:3, 3]
            assert (np.abs(points[..., :2]) < room.size[:2] / 2 + 1e-3).all()
            for instance in np.unique(frame.instance[frame.instance > 0]):
                mask, box = frame.instance == instance, boxes[instance]
                assert inside(box, points[mask], 2e-3).all()
                assert (frame.label[mask] == box.label).all()
                count += 1
            floor, ceiling = (frame.label == CLASSES[name] for name in ("floor", "ceiling"))
            np.testing.assert_allclose(points[floor][:, 2], 0, atol=2e-3)
            np.testing.assert_allclose(points[ceiling][:, 2], room.size[2], atol=2e-3)
    assert count > 20


def test_a_room_without_free_floor_is_named(rooms):
    with pytest.raises(ValueError, match="clear of walls"):
        camera_path(np.random.default_rng(0), rooms[0], 5, PathSettings(clearance=3.0))


def test_colours_tell_numbers_apart():
    colours = index_colours(np.arange(-1, 40))
    assert len(np.unique(colours, axis=0)) == 41 and (colours[0] == 0).all()
