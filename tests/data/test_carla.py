"""Frames of CARLA's: a vehicle that faces right in a left-handed world, and every fault."""

import copy
import json

import numpy as np
import pytest

from posejax.data.carla import read_carla, read_carla_points
from posejax.data.errors import DataError
from posejax.data.rig_points import gather_points
from posejax.data.rigid import se3_apply, se3_inverse


def placed(x, y, z, yaw=0.0, pitch=0.0, roll=0.0) -> dict:
    return {
        "location": {"x": x, "y": y, "z": z},
        "rotation": {"pitch": pitch, "yaw": yaw, "roll": roll},
    }


def content() -> dict:
    """The vehicle stands at (10, 20) and faces y, which is to the right of x: yaw 90 degrees."""
    box = {"extent": {"x": 2.25, "y": 1.0, "z": 0.75}} | placed(0.0, 0.0, 0.75)
    parked = {"type_id": "vehicle.audi.tt", "bounding_box": box}
    seen = [{"id": i, "corners": [300.0, 200, 340, 230]} for i in (12, 99)]
    view = {"file": "front.png", "timestamp": 12.0, "boxes": seen}
    frame = {
        "timestamp": 12.05,
        "vehicle": {"id": 7, "transform": placed(10.0, 20.0, 0.0, yaw=90.0)},
        "images": {
            "FRONT": view | {"transform": placed(10.0, 21.5, 2.4, yaw=90.0)},
            "RIGHT": view | {"transform": placed(9.5, 20.0, 2.4, yaw=180.0, pitch=-10.0)},
        },
        "lidar": {"file": "sweep.npy", "transform": placed(10.0, 20.0, 2.0, yaw=90.0)},
        "actors": [
            parked | {"id": 7, "transform": placed(10.0, 20.0, 0.0, yaw=90.0)},
            parked | {"id": 12, "transform": placed(8.0, 40.0, 0.1, yaw=120.0), "visibility": 2},
        ],
    }
    camera = {"image_size_x": 672, "image_size_y": 448, "fov": 90.0}
    return {"cameras": {"FRONT": camera, "RIGHT": camera}, "frames": [frame]}


def write(folder, value):
    """Also for the damaged files of tests.fuzz."""
    path = folder / "frames.json"
    path.write_text(json.dumps(value))
    return path


def test_a_frame(tmp_path):
    write(tmp_path, content())
    (frame,) = read_carla(tmp_path)
    front, right = frame.cameras["FRONT"], frame.cameras["RIGHT"]
    k = front.camera.intrinsics
    np.testing.assert_allclose(k, [[336, 0, 336], [0, 336, 224], [0, 0, 1]])
    np.testing.assert_allclose(front.ego_from_camera[:3, 3], (1.5, 0, 2.4), atol=1e-9)
    # Columns: where the camera's right, down and forward point in the ego frame.
    np.testing.assert_allclose(
        front.ego_from_camera[:3, :3], [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-9
    )
    c, s = np.cos(np.deg2rad(10)), np.sin(np.deg2rad(10))
    np.testing.assert_allclose(right.ego_from_camera[:3, 3], (0, -0.5, 2.4), atol=1e-9)
    np.testing.assert_allclose(right.ego_from_camera[:3, 2], (0, -c, -s), atol=1e-9)  # nose down
    boxes = frame.boxes
    told = boxes.label, boxes.instance, boxes.visibility, boxes.points
    assert [v.tolist() for v in told] == [["vehicle.audi.tt"], ["12"], [2], [0]]
    np.testing.assert_array_equal(boxes.size, [[4.5, 2.0, 1.5]])
    # Twenty metres ahead. Facing y in a world whose y is right of x, smaller x is on the right.
    np.testing.assert_allclose(boxes.ego_from_box[0, :3, 3], (20, -2, 0.85), atol=1e-9)
    turned = np.deg2rad(-30)  # CARLA's yaw grows to the right
    forward = boxes.ego_from_box[0, :3, 0]
    np.testing.assert_allclose(forward, (np.cos(turned), np.sin(turned), 0), atol=1e-9)
    pixel, valid = front.camera.project(
        se3_apply(se3_inverse(front.ego_from_camera), boxes.ego_from_box[0, :3, 3])
    )
    assert valid and pixel[0] > 336 and pixel[1] > 224  # to the right, below the horizon
    np.testing.assert_allclose(frame.ego_from_lidar[:3, 3], (0, 0, 2), atol=1e-9)
    np.testing.assert_allclose(frame.world_from_ego[:3, 3], (10, -20, 0), atol=1e-9)
    assert (frame.time, frame.times["FRONT"]) == (12.05, 12.0)
    assert frame.file == tmp_path / "sweep.npy"
    seen = frame.image_boxes["FRONT"]
    assert seen.box.tolist() == [0, -1] and seen.corners[0].tolist() == [300, 200, 340, 230]


def test_points_are_turned_right_handed(tmp_path):
    path = tmp_path / "sweep.npy"
    np.save(path, np.array([[1, 2, 3, 0.5]], np.float32))
    assert read_carla_points(path).tolist() == [[1, -2, 3, 0.5]]
    for wrong in (
        np.zeros((2, 3), np.float32),
        np.zeros((2, 4), np.int32),
        np.full((1, 4), np.nan),
    ):
        np.save(path, wrong)
        with pytest.raises(DataError, match="array"):
            read_carla_points(path)


FRAME = ("frames", 0)
ACTOR = (*FRAME, "actors", 1)


@pytest.mark.parametrize(
    "keys, value, field",
    [
        (("cameras", "FRONT", "fov"), 200.0, "cameras.FRONT"),
        (("cameras", "FRONT", "image_size_x"), 0, "cameras.FRONT.image_size_x"),
        (("cameras", "FRONT"), None, "frames[0].images.FRONT: no such camera"),
        (("frames",), {}, "frames"),
        ((*FRAME, "timestamp"), "1", "frames[0].timestamp"),
        ((*FRAME, "images", "FRONT", "file"), "../a.png", "images.FRONT.file"),
        ((*FRAME, "vehicle", "transform", "rotation", "yaw"), None, "rotation.yaw: missing"),
        ((*FRAME, "vehicle", "transform", "location", "x"), 1e300, "vehicle.transform"),
        ((*ACTOR, "bounding_box", "extent", "y"), 0.0, "actors[1].bounding_box.extent"),
        (
            (*FRAME, "images", "FRONT", "boxes", 1, "corners"),
            [9, 0, 1, 9],
            "FRONT.boxes[1].corners",
        ),
        ((*ACTOR, "visibility"), 5, "actors[1].visibility"),
        ((*ACTOR, "id"), "12", "actors[1].id"),
        ((*ACTOR, "type_id"), 3, "actors[1].type_id"),
    ],
)
def test_faults_are_named(tmp_path, keys, value, field):
    changed = copy.deepcopy(content())
    at = changed
    for key in keys[:-1]:
        at = at[key]
    if value is None:
        del at[keys[-1]]
    else:
        at[keys[-1]] = value
    write(tmp_path, changed)
    with pytest.raises(DataError) as error:
        read_carla(tmp_path)
    assert field in str(error.value) and "frames.json" in str(error.value)


def test_a_vehicle_without_lidar(tmp_path):
    value = content()
    del value["frames"][0]["lidar"]
    write(tmp_path, value)
    (frame,) = read_carla(tmp_path)
    assert frame.lidar is None and frame.file == tmp_path / "front.png"
    with pytest.raises(DataError, match=r"front.png: lidar.*hide LIDAR"):
        gather_points(frame)
