"""`python -m posejax check-rig`."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from posejax import __main__ as door
from posejax.checking import main, read_frames
from posejax.data.cameras import project
from posejax.data.conventions import intrinsics_from_fov, unreal_from_pose
from posejax.data.errors import DataError
from posejax.data.rigid import se3_apply, se3_inverse
from tests.bev.broken_rigs import MADE, UNIT, simulated
from tests.data import nuscenes_tree


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


def carla(scene, *, mistake: str = "") -> dict:
    """The rig in CARLA's words, its cameras of 90 degrees each."""
    (height, width), k = scene.image, intrinsics_from_fov(90.0, scene.image)

    def placed(pose, axes="body"):
        location, pitch, yaw, roll = unreal_from_pose(scene.world @ pose, axes=axes)
        yaw = -yaw if mistake == "yaw to the left" else yaw
        return {
            "location": dict(zip("xyz", location.tolist(), strict=True)),
            "rotation": {"pitch": float(pitch), "yaw": float(yaw), "roll": float(roll)},
        }

    images = {}
    for c, pose in enumerate(scene.poses):
        seen = []
        for b, (box, size) in enumerate(zip(scene.boxes, scene.size, strict=True)):
            xy, valid = project(se3_apply(se3_inverse(pose) @ box, UNIT * size), k)
            around = np.r_[xy.min(0), xy.max(0)]
            if valid.all() and (around >= 0).all() and (around <= (width, height) * 2).all():
                seen.append({"id": 10 + b, "corners": around.tolist()})
        view = {"file": f"{c}.png", "timestamp": 1.0, "boxes": seen}
        images[f"CAM_{c}"] = view | {"transform": placed(pose, "camera")}
    actors = []
    for b, (box, size) in enumerate(zip(scene.boxes, scene.size, strict=True)):
        foot = box.copy()
        foot[2, 3] -= size[2] / 2
        extent = size if mistake == "whole extents" else size / 2
        bound = {"extent": dict(zip("xyz", extent.tolist(), strict=True)),
                 "location": {"x": 0.0, "y": 0.0, "z": size[2] / 2},
                 "rotation": {"pitch": 0.0, "yaw": 0.0, "roll": 0.0}}  # fmt: skip
        actor = {"id": 10 + b, "type_id": "vehicle.audi.tt", "transform": placed(foot)}
        actors.append(actor | {"bounding_box": bound})
    frame = {"timestamp": 1.0, "vehicle": {"id": 1, "transform": placed(np.eye(4))},
             "lidar": {"file": "sweep.npy", "transform": placed(np.eye(4))},
             "images": images, "actors": actors}  # fmt: skip
    camera = {"image_size_x": width, "image_size_y": height, "fov": 90.0}
    return {"cameras": dict.fromkeys(images, camera), "frames": [frame]}


@pytest.mark.parametrize("mistake, named", [("", "no mistake"), ("whole extents", "double_ext")])
def test_a_recording_of_carla(tmp_path, capsys, mistake, named):
    content = carla(simulated(0, 4), mistake=mistake)
    (tmp_path / "frames.json").write_text(json.dumps(content))
    assert door.main(["check-rig", str(tmp_path)]) == bool(mistake)
    assert named in capsys.readouterr().out


def test_left_handed_points_are_named_without_any_image_box(tmp_path, capsys):
    """CARLA's points, turned right-handed twice."""
    content = carla(simulated(0, 4))
    frame = content["frames"][0]
    rng, rows = np.random.default_rng(0), []
    for view in frame["images"].values():
        del view["boxes"]
    for actor in frame["actors"]:
        actor["lidar_points"] = 20
        half, place = actor["bounding_box"]["extent"], actor["transform"]
        yaw = np.deg2rad(place["rotation"]["yaw"])
        local = rng.uniform(-0.9, 0.9, (20, 3)) * [half["x"], half["y"], half["z"]]
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        spot = [place["location"][axis] for axis in "xyz"] + np.array([0, 0, half["z"]])
        rows.append(local @ turn.T + spot)
    # The LiDAR stands in the middle of CARLA's world, its axes along it.
    level = dict.fromkeys(("pitch", "yaw", "roll"), 0.0)
    frame["lidar"]["transform"] = {"location": dict.fromkeys("xyz", 0.0), "rotation": level}
    points = np.concatenate(rows).astype(np.float32)
    points = np.concatenate([points, np.ones((len(points), 1), np.float32)], axis=1)
    (tmp_path / "frames.json").write_text(json.dumps(content))
    np.save(tmp_path / "sweep.npy", points)
    assert door.main(["check-rig", str(tmp_path)]) == 0
    assert "no mistake found" in capsys.readouterr().out
    np.save(tmp_path / "sweep.npy", points * np.array([1, -1, 1, 1], np.float32))
    assert door.main(["check-rig", str(tmp_path)]) == 1
    assert "left_handed_points" in capsys.readouterr().out


def test_a_recording_of_carla_without_lidar_or_boxes_is_told_what_to_add(tmp_path, capsys):
    content = carla(simulated(0, 4))
    del content["frames"][0]["lidar"]
    (tmp_path / "frames.json").write_text(json.dumps(content))
    assert main([str(tmp_path)]) == 0  # by the boxes in its images
    for view in content["frames"][0]["images"].values():
        del view["boxes"]
    (tmp_path / "frames.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    told = capsys.readouterr().err
    assert "instance segmentation camera" in told and "lidar_points" in told


def test_a_sequence_of_seven_scenes_needs_no_file_of_intrinsics(tmp_path, capsys, data_dir):
    folder = data_dir("sevenscenes_rgbd")
    for path in folder.glob("frame-*"):
        (tmp_path / path.name).symlink_to(path)
    assert main([str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "585" in told and "no mistake found" in told


def test_angles_that_grow_to_the_left_are_noticed(tmp_path, capsys):
    """The mistake of the field: positions as CARLA gives them, angles as everybody else does."""
    content = carla(simulated(0, 4), mistake="yaw to the left")
    (tmp_path / "frames.json").write_text(json.dumps(content))
    assert door.main(["check-rig", str(tmp_path)]) == 1


def test_nuscenes_tables_are_found(tmp_path):
    tables = nuscenes_tree.write(tmp_path)
    assert len(read_frames(tmp_path)) == 3
    tables.rename(tmp_path / "v1.0-sim")
    nuscenes_tree.write(tmp_path)
    with pytest.raises(DataError, match="one folder of tables"):
        read_frames(tmp_path)


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
    assert "no such folder; expected infos.json, frames.json" in capsys.readouterr().err


def test_the_real_sample(data_dir, capsys):
    folder = str(data_dir("nuscenes_sample"))
    assert door.main(["check-rig", folder, "--reference", "CAM_FRONT"]) == 0
    assert "0.94" in capsys.readouterr().out
    assert door.main(["check-rig", folder, "--mounted"]) == 1
    assert "stale_ego_pose" in capsys.readouterr().out


def test_rgbd_frames_are_judged_by_one_another(tmp_path, capsys, small_scans):
    folder = shutil.copytree(small_scans[1][0], tmp_path / "scan")
    arguments = [str(folder), "--frame", "5"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert "no mistake found" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["5-in-6.jpg", "6-in-7.jpg", "7-in-8.jpg", "8-in-10.jpg"]
    with Image.open(tmp_path / "out" / names[0]) as picture:
        left, right = np.split(np.asarray(picture).astype(float), 2, axis=1)
    drawn = right.mean(-1) > 0.6 * left.mean(-1)  # what the other frame does not see is dark
    assert drawn.mean() > 0.4
    assert np.abs(left - right)[drawn].mean() < 40
    (folder / "pose/7.txt").write_text("-inf -inf -inf -inf\n" * 4)  # tracking was lost
    assert main(arguments) == 0
    (folder / "pose/7.txt").unlink()
    (folder / "color/7.jpg").unlink()
    for path in (folder / "pose").iterdir():
        np.savetxt(path, np.linalg.inv(np.loadtxt(path)))
    assert main(arguments) == 1
    assert "inverted_pose" in capsys.readouterr().out
    for path in (folder / "depth").iterdir():
        Image.fromarray(np.zeros((48, 64), np.uint16)).save(path)
    with pytest.raises(SystemExit):
        main(arguments)
    assert "no frame with points" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(folder), "--frame", "-1"])
    assert "--frame -1: the folder has 11 RGB-D frames" in capsys.readouterr().err
