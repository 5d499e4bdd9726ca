"""SUN RGB-D: the point-to-pixel oracle of the real sample, and faults by name."""

import json

import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.data.images import read_image
from posejax.data.rgbd_points import into_image, sample_colors
from posejax.data.sunrgbd import CLASSES, read_sunrgbd, read_sunrgbd_points
from tests.data.rgbd_files import write_sunrgbd


def test_points_have_the_colours_of_their_pixels(data_dir):
    frame = read_sunrgbd(data_dir("sunrgbd_000017") / "infos.json")[0]
    points, colors = read_sunrgbd_points(frame.points)
    image = read_image(frame.image, convert="RGB")
    assert len(points) == 50_000 and image.shape == (530, 730, 3)

    def rmse(shift: float, mirror: float = 1.0) -> float:
        seen = into_image(
            points * (mirror, 1, 1), frame.intrinsics, frame.camera_from_world, image.shape[:2]
        )
        assert mirror < 0 or seen.valid.mean() == 1.0
        off = sample_colors(image, seen.xy[seen.valid] + shift) - 255 * colors[seen.valid]
        return float(np.sqrt((off**2).mean()))

    assert rmse(0) < 0.5
    np.testing.assert_allclose(rmse(1), 15.7, atol=0.1)  # 1-based pixels taken for 0-based ones
    np.testing.assert_allclose(rmse(0.5), 8.1, atol=0.1)
    np.testing.assert_allclose(rmse(0, mirror=-1.0), 73, atol=1)


def test_boxes_hold_what_they_name(data_dir):
    frame = read_sunrgbd(data_dir("sunrgbd_000017") / "infos.json")[0]
    assert [CLASSES[k] for k in frame.label] == ["night stand", "bed"]
    found = frame.boxes_of(read_sunrgbd_points(frame.points)[0])
    share = np.bincount(found + 1, minlength=3) / len(found)
    assert share[1] > 0.005 and share[2] > 0.1  # a bed fills much of the picture


def test_the_projection_is_taken_apart(tmp_path):
    frame = read_sunrgbd(write_sunrgbd(tmp_path))[0]
    k = [[50, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]  # 1-based 32 and 24
    np.testing.assert_allclose(frame.intrinsics, k, atol=1e-9)
    np.testing.assert_allclose(
        frame.camera_from_world[:3, :3], [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-9
    )
    points, colors = read_sunrgbd_points(frame.points)
    assert colors.dtype == np.float32 and frame.points.parent.name == "points"
    inside = frame.boxes_of(points)
    assert (inside[:10] == 0).all() and (inside == 0).sum() < 20


def test_bad_files_are_refused(tmp_path):
    path = write_sunrgbd(tmp_path)
    info = json.loads(path.read_text())

    def refused(message: str, change) -> None:
        other = json.loads(json.dumps(info))
        change(other["data_list"][0])
        path.write_text(json.dumps(other))
        with pytest.raises(DataError, match=message):
            read_sunrgbd(path)

    camera = ("images", "CAM0")
    refused(
        "(?s)depth2img: .*invertible", lambda f: f["images"]["CAM0"].update(depth2img=[[0] * 3] * 3)
    )
    refused("depth2img", lambda f: f["images"]["CAM0"].update(depth2img=[[1, 2], [3, 4]]))
    mirrored = [[-50, 32, 0], [0, 24, -50], [0, 1, 0]]
    refused("left-handed", lambda f: f["images"]["CAM0"].update(depth2img=mirrored))
    refused("img_path: .*not found", lambda f: f[camera[0]][camera[1]].update(img_path="b.jpg"))
    refused("below the folder", lambda f: f["lidar_points"].update(lidar_path="../a.bin"))
    refused("bbox_label_3d", lambda f: f["instances"][0].update(bbox_label_3d=10))
    refused("positive sizes", lambda f: f["instances"][0].update(bbox_3d=[0, 0, 0, 1, -1, 1, 0]))
    points = tmp_path / "points/000001.bin"
    raw = points.read_bytes()
    for message, content in {
        "size: 959 bytes": raw[:-1],
        "size: 0 bytes": b"",
        "point 0": np.full(6, np.nan, "<f4").tobytes(),
        "colours: from 0 to 255": np.array([0, 0, 0, 255, 0, 0], "<f4").tobytes(),
    }.items():
        points.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_sunrgbd_points(points)
