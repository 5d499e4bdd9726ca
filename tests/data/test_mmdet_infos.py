"""Info files of MMDetection3D: a small one made here, its faults, and the real sample."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from posejax.data.errors import DataError
from posejax.data.mmdet_infos import read_infos, read_nuscenes_points
from posejax.data.rigid import se3_apply, se3_exp, se3_inverse

LIDAR_FROM_BOX = [3.0, 8.0, -0.5, 4.0, 2.0, 1.5, 0.3]
EGO_FROM_LIDAR = se3_exp([0.9, 0, 1.8, 0.01, 0.02, -1.57])
CAMERA_FROM_LIDAR = se3_exp([0.1, -0.3, -0.4, 1.57, 0, 0])


def content() -> dict:
    center = se3_apply(CAMERA_FROM_LIDAR, np.array(LIDAR_FROM_BOX[:3])).tolist()
    view = {
        "img_path": "front.jpg",
        "cam2img": [[500.0, 0, 31.5], [0, 500.0, 23.5], [0, 0, 1]],
        "cam2ego": np.eye(4).tolist(),
        "lidar2cam": CAMERA_FROM_LIDAR.tolist(),
        "timestamp": 9.95,
    }
    instance = {
        "bbox_3d": LIDAR_FROM_BOX,
        "bbox_label_3d": 0,
        "num_lidar_pts": 7,
        "velocity": [float("nan"), 0],
    }
    seen = [
        {"bbox": [1, 2, 10, 12], "bbox_3d": [*center, 4, 1.5, 2, 0]},
        {"bbox": [1, 2, 10, 12], "bbox_3d": [0, 0, 90, 4, 1.5, 2, 0]},
    ]
    frame = {
        "timestamp": 10.0,
        "ego2global": np.eye(4).tolist(),
        "images": {"FRONT": view},
        "lidar_points": {"lidar_path": "sweep.bin", "lidar2ego": EGO_FROM_LIDAR.tolist()},
        "instances": [instance, {**instance, "bbox_label_3d": -1}],
        "cam_instances": {"FRONT": seen},
    }
    return {"metainfo": {"categories": {"car": 0}}, "data_list": [frame]}


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "front.jpg")
    return tmp_path


def write(folder, value):
    path = folder / "infos.json"
    path.write_text(json.dumps(value))
    return path


def write_sample(folder):
    """What `content` names and tells; also for the damaged files of tests.fuzz."""
    Image.new("RGB", (64, 48)).save(folder / "front.jpg")
    return write(folder, content())


def test_a_frame(folder):
    (frame,) = read_infos(write(folder, content()))
    camera = frame.cameras["FRONT"]
    assert camera.camera.size == (48, 64) and (frame.time, frame.times["FRONT"]) == (10.0, 9.95)
    np.testing.assert_array_equal(camera.camera.intrinsics[:2, 2], (32, 24))
    np.testing.assert_allclose(
        se3_inverse(camera.ego_from_camera) @ EGO_FROM_LIDAR, CAMERA_FROM_LIDAR, atol=1e-12
    )
    assert frame.boxes.label.tolist() == ["car", "ignore"] and frame.boxes.points[0] == 7
    # Not told by the format.
    assert frame.boxes.visibility.tolist() == [4, 4] and frame.boxes.instance.tolist() == ["", ""]
    assert frame.radar == {} and frame.sweeps == ()
    front = se3_apply(frame.boxes.ego_from_box[0], [2.0, 0, 0])
    expected = np.array([3 + 2 * np.cos(0.3), 8 + 2 * np.sin(0.3), -0.5])
    np.testing.assert_allclose(front, se3_apply(EGO_FROM_LIDAR, expected), atol=1e-12)
    seen = frame.image_boxes["FRONT"]
    np.testing.assert_array_equal(seen.corners[0], (1.5, 2.5, 10.5, 12.5))
    assert seen.box.tolist() == [0, -1]


FRAME = ("data_list", 0)
VIEW = (*FRAME, "images", "FRONT")


@pytest.mark.parametrize(
    "keys, value, field",
    [
        (("metainfo",), None, "metainfo"),
        (("metainfo", "categories"), [], "metainfo.categories"),
        (("data_list",), {}, "data_list"),
        (
            (*VIEW, "lidar2cam"),
            np.diag([1.0, -1, 1, 1]).tolist(),
            "images.FRONT.lidar2cam: no pose",
        ),
        ((*VIEW, "cam2ego", 0), [1, 0, 0], "images.FRONT.cam2ego"),
        ((*VIEW, "cam2img", 0, 0), -1.0, "images.FRONT.cam2img"),
        ((*VIEW, "cam2img", 0, 0), float("nan"), "images.FRONT.cam2img"),
        ((*VIEW, "img_path"), "../front.jpg", "images.FRONT.img_path"),
        ((*VIEW, "timestamp"), "9", "images.FRONT.timestamp"),
        ((*FRAME, "instances", 0, "bbox_3d", 3), 0.0, "instances[0].bbox_3d"),
        ((*FRAME, "instances", 0, "bbox_label_3d"), 5, "instances[0].bbox_label_3d"),
        ((*FRAME, "cam_instances", "FRONT", 0, "bbox"), [9, 2, 1, 3], "FRONT[0].bbox"),
        ((*FRAME, "cam_instances"), {"BACK": []}, "cam_instances.BACK"),
    ],
)
def test_faults_are_named(folder, keys, value, field):
    changed = copy.deepcopy(content())
    at = changed
    for key in keys[:-1]:
        at = at[key]
    if value is None:
        del at[keys[-1]]
    else:
        at[keys[-1]] = value
    with pytest.raises(DataError) as error:
        read_infos(write(folder, changed))
    assert field in str(error.value) and "infos.json" in str(error.value)


def test_sweeps(tmp_path):
    points = np.arange(20, dtype=np.float32).reshape(4, 5)
    path = tmp_path / "sweep.bin"
    points.tofile(path)
    np.testing.assert_array_equal(read_nuscenes_points(path), points)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="multiple of 20"):
        read_nuscenes_points(path)
    points[2, 1] = np.inf
    points.tofile(path)
    with pytest.raises(DataError, match="point 2"):
        read_nuscenes_points(path)


def test_the_real_sample(data_dir):
    """Boxes projected by the chain that comes out cover the annotated ones: mean IoU 0.947."""
    (frame,) = read_infos(data_dir("nuscenes_sample") / "infos.json")
    assert len(frame.boxes) == 69 and len(read_nuscenes_points(frame.lidar)) == 34_688
    unit = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    overlaps, moved = [], {}
    for name, seen in frame.image_boxes.items():
        rig = frame.cameras[name]
        for row, given in zip(seen.box, seen.corners, strict=True):
            pose = se3_inverse(rig.ego_from_camera) @ frame.boxes.ego_from_box[row]
            xy, valid = rig.camera.project(se3_apply(pose, unit * frame.boxes.size[row]))
            limit = rig.camera.size[::-1]
            low, high = (np.clip(f(xy[valid], axis=0), 0, limit) for f in (np.min, np.max))
            common = np.minimum(high, given[2:]) - np.maximum(low, given[:2])
            area = np.prod(np.maximum(common, 0))
            overlaps.append(area / (np.prod(high - low) + np.prod(given[2:] - given[:2]) - area))
        offset = rig.ego_from_camera[:3, 3] - frame.mounted[name][:3, 3]
        moved[name] = np.linalg.norm(offset)
    assert len(overlaps) == 84
    assert np.mean(overlaps) == pytest.approx(0.947, abs=0.005)
    assert moved["CAM_FRONT_LEFT"] == pytest.approx(0.40, abs=0.01)  # of the vehicle, in 43 ms
    assert moved["CAM_BACK_LEFT"] == pytest.approx(0.005, abs=0.003)
