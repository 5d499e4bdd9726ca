"""`python -m posejax check-rig`."""

import json

import numpy as np
import pytest
from PIL import Image

from posejax import __main__ as door
from tests.bev.broken_rigs import MADE, simulated


def write(folder, scene, right):
    """A simulated rig as MMDetection3D's infos; the LiDAR's frame is the vehicle's."""
    cameras = range(len(scene.poses))
    height, width = scene.image
    images, seen = {}, {}
    # Which annotation belongs to which box is told by the centre in the right camera's frame.
    centre = np.linalg.inv(scene.poses)[:, None] @ right.boxes[None]
    for c in cameras:
        Image.new("RGB", (width, height)).save(folder / f"{c}.jpg")
        k = scene.k[c] - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        images[f"CAM_{c}"] = {
            "img_path": f"{c}.jpg",
            "cam2img": k.tolist(),
            "cam2ego": scene.poses[c].tolist(),
            "lidar2cam": np.linalg.inv(scene.poses[c]).tolist(),
            "timestamp": 1.0,
        }
        mine = np.flatnonzero(scene.camera == c)
        seen[f"CAM_{c}"] = [
            {
                "bbox": (scene.corners[m] - 0.5).tolist(),
                "bbox_3d": [*centre[c, scene.box[m], :3, 3].tolist(), 1, 1, 1, 0],
            }
            for m in mine
        ]
    yaw = np.arctan2(scene.boxes[:, 1, 0], scene.boxes[:, 0, 0])
    values = np.c_[scene.boxes[:, :3, 3], scene.size, yaw]
    frame = {
        "timestamp": 1.0,
        "ego2global": np.eye(4).tolist(),
        "images": images,
        "lidar_points": {"lidar_path": "sweep.bin", "lidar2ego": np.eye(4).tolist()},
        "instances": [
            {"bbox_3d": v.tolist(), "bbox_label_3d": 0, "num_lidar_pts": 5} for v in values
        ],
        "cam_instances": seen,
    }
    content = {"metainfo": {"categories": {"car": 0}}, "data_list": [frame]}
    (folder / "infos.json").write_text(json.dumps(content))


def test_a_right_folder_and_a_wrong_one(tmp_path, capsys):
    scene = simulated(0, 4)
    write(tmp_path, scene, scene)
    assert door.main(["check-rig", str(tmp_path)]) == 0
    assert "no mistake found" in capsys.readouterr().out
    write(tmp_path, MADE["opengl_axes"](scene), scene)
    out = tmp_path / "pictures"
    assert door.main(["check-rig", str(tmp_path), "--out", str(out)]) == 1
    assert "opengl_axes: the camera frames are OpenGL's" in capsys.readouterr().out
    assert len(list(out.glob("CAM_*.jpg"))) == 4
    with Image.open(out / "CAM_0.jpg") as drawn:
        colours = np.asarray(drawn).reshape(-1, 3).astype(int)
    green = (colours[:, 1] > 150) & (colours[:, 0] < 120)
    assert green.sum() > 200  # the boxes where they are once the mistake is undone


def test_what_is_refused(tmp_path, capsys):
    scene = simulated(0, 4)
    write(tmp_path, scene, scene)
    for arguments, words in (
        (["--frame", "3"], "1 key frames"),
        (["--reference", "CAM_9"], "CAM_9"),
    ):
        with pytest.raises(SystemExit):
            door.main(["check-rig", str(tmp_path), *arguments])
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        door.main(["check-rig", str(tmp_path / "nowhere")])
    assert "infos.json" in capsys.readouterr().err


def test_the_real_sample(data_dir, capsys):
    folder = str(data_dir("nuscenes_sample"))
    assert door.main(["check-rig", folder, "--reference", "CAM_FRONT"]) == 0
    assert "0.94" in capsys.readouterr().out
    assert door.main(["check-rig", folder, "--mounted"]) == 1
    assert "stale_ego_pose" in capsys.readouterr().out
