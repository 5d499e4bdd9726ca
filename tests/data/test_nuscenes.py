"""nuScenes' tables: a small data set made by hand, its faults, and the real sample as tables."""

import pickle

import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.data.mmdet_infos import read_infos, read_nuscenes_points
from posejax.data.nuscenes import read_names, read_nuscenes
from posejax.data.nuscenes_tables import write_tables
from posejax.data.radar_pcd import RADAR_FIELDS, read_radar, usable_returns, write_radar
from posejax.data.rigid import matrix_to_quat_xyzw, se3_apply, se3_inverse
from tests.data import nuscenes_tree as tree


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nuscenes")
    tree.write(folder)
    return folder


def test_a_frame(root):
    scenes = read_nuscenes(root)
    assert [(s.name, s.location, s.frames) for s in scenes.scenes] == [
        ("scene-a", "boston-seaport", range(2)),
        ("scene-b", "boston-seaport", range(2, 3)),
    ]
    frame = pickle.loads(pickle.dumps(scenes))[0]
    assert frame.time == pytest.approx(tree.START / 1e6, abs=1e-6)
    assert frame.times["CAM_FRONT"] - frame.time == pytest.approx(-0.04, abs=1e-6)
    camera = frame.cameras["CAM_FRONT"]
    assert camera.camera.size == (48, 64)
    np.testing.assert_array_equal(camera.camera.intrinsics[:2, 2], (32, 24))
    # The camera recorded 40 ms before the LiDAR, 0.4 m behind; it looks ahead, along ego x.
    np.testing.assert_allclose(camera.ego_from_camera[:3, 3], (1.1, 0, 1.5), atol=1e-9)
    np.testing.assert_allclose(camera.ego_from_camera[:3, 2], (1, 0, 0), atol=1e-9)
    np.testing.assert_allclose(camera.ego_from_camera[:3, 1], (0, 0, -1), atol=1e-9)
    np.testing.assert_allclose(frame.mounted["CAM_FRONT"][:3, 3], (1.5, 0, 1.5), atol=1e-9)
    np.testing.assert_allclose(se3_apply(frame.ego_from_lidar, [1, 2, 0]), (3, -1, 1.8), atol=1e-9)
    radar = frame.radar["RADAR_FRONT"]
    np.testing.assert_allclose(radar.ego_from_radar[:3, 3], (3.6, 0, 0.5), atol=1e-9)
    assert len(read_radar(radar.file)) == 4 and len(read_nuscenes_points(frame.lidar)) == 3
    # The box stands 20 m ahead and 2 m to the left, its length to the right: along the world's x.
    boxes = frame.boxes
    np.testing.assert_array_equal(boxes.size, [[4.5, 1.9, 1.5]])
    np.testing.assert_allclose(boxes.ego_from_box[0, :3, 3], (20, 2, 0.75), atol=1e-9)
    np.testing.assert_allclose(boxes.ego_from_box[0, :3, 0], (0, -1, 0), atol=1e-9)
    told = boxes.label, boxes.instance, boxes.visibility, boxes.points
    assert [v.tolist() for v in told] == [["vehicle.car"], ["thing"], [1], [5]]
    assert frame.sweeps == ()


def test_past_sweeps_stay_within_their_scene(root):
    scenes = read_nuscenes(root, sweeps=4)
    assert [len(frame.sweeps) for frame in scenes] == [2, 4, 2]  # the fifth is the key frame before
    times = [round(sweep.time - scenes[1].time, 3) for sweep in scenes[1].sweeps]
    assert times == [-0.05, -0.1, -0.5, -0.55]
    moved = [sweep.ego_from_lidar[0, 3] for sweep in scenes[1].sweeps]
    np.testing.assert_allclose(moved, (0.5, 0, -4, -4.5), atol=1e-9)
    assert "sweeps" in str(scenes[1].sweeps[0].file) and "samples" in str(scenes[1].sweeps[2].file)


def test_scenes_by_name(root, tmp_path):
    (tmp_path / "val.txt").write_text("# of the second street\nscene-b\n\n")
    scenes = read_nuscenes(root, scenes=read_names(tmp_path / "val.txt"))
    assert len(scenes) == 1 and scenes[-1].boxes.points.tolist() == [7]
    with pytest.raises(IndexError):
        scenes[1]
    with pytest.raises(DataError, match="scene-c"):
        read_nuscenes(root, scenes=["scene-a", "scene-c"])
    (tmp_path / "val.txt").write_text("# none\n")
    with pytest.raises(DataError, match="no name"):
        read_names(tmp_path / "val.txt")


GONE = object()


@pytest.mark.parametrize(
    "table, row, key, value, field",
    [
        ("scene", 0, "log_token", "other", "scene.json: sa: log_token"),
        ("sample", 1, "scene_token", "other", "sample.json: k1: scene_token"),
        ("sample", 1, "token", "k0", "sample.json: k0: token: twice"),
        ("sample_data", 0, "filename", "../x.png", "sample_data.json: filename"),
        ("sample_data", 0, "filename", "samples/none.png", "sample_data.json: filename"),
        ("sample_data", 0, "is_key_frame", 1, "is_key_frame"),
        ("sample_data", 0, "sample_token", "other", "sample_token"),
        ("sample_data", 0, "height", 0, "height, width"),
        ("sample_data", 1, "is_key_frame", False, "0 LiDARs"),
        ("sample_data", 3, "is_key_frame", True, "LIDAR_TOP twice"),
        ("sample_data", 0, "ego_pose_token", "other", "ego_pose_token"),
        ("calibrated_sensor", 0, "rotation", [1, 1, 0, 0], "cCAM_FRONT: rotation: length 1.414"),
        ("calibrated_sensor", 0, "camera_intrinsic", [], "camera_intrinsic"),
        ("calibrated_sensor", 0, "camera_intrinsic", [[0, 0, 1], [0, 1, 1], [0, 0, 1]], "intr"),
        ("sensor", 0, "modality", "sonar", "modality"),
        ("ego_pose", 0, "translation", [0, "1", 0], "translation"),
        ("sample_annotation", 0, "size", [1, 0, 1], "a0: size"),
        ("sample_annotation", 0, "visibility_token", "5", "visibility_token"),
        ("sample_annotation", 0, "num_lidar_pts", -1, "num_lidar_pts"),
        ("sample_annotation", 0, "instance_token", GONE, "a0: instance_token: missing"),
        ("visibility", 3, "token", "much", "visibility.json: much: token"),
        ("category", 0, "token", GONE, "category.json: row 0: token: missing"),
        ("log", None, None, None, "log.json: file: not found"),
    ],
)  # fmt: skip
def test_faults_are_named(tmp_path, table, row, key, value, field):
    content = tree.tables()
    if row is None:
        del content[table]
    elif value is GONE:
        del content[table][row][key]
    else:
        content[table][row][key] = value
    tree.write(tmp_path, content)
    with pytest.raises(DataError) as error:
        read_nuscenes(tmp_path)[0]
    assert field in str(error.value)


def test_visibility_may_be_unknown(tmp_path):
    content = tree.tables()
    content["sample_annotation"][0]["visibility_token"] = ""
    tree.write(tmp_path, content)
    assert read_nuscenes(tmp_path)[0].boxes.visibility.tolist() == [4]


def test_the_real_sample_as_tables(data_dir, tmp_path):
    """What the tables say comes out as what MMDetection3D made of them, ego motion included."""
    (infos,) = read_infos(data_dir("nuscenes_sample") / "infos.json")
    content = tree.tables()
    for name in ("sensor", "calibrated_sensor", "sample_data", "ego_pose", "sample_annotation"):
        content[name] = []
    del content["sample"][1:], content["scene"][1:]

    def add(name, kind, mount, world_from_ego, time, file, k, size):
        content["sensor"].append({"token": name, "channel": name, "modality": kind})
        content["calibrated_sensor"].append(
            {"token": name, "sensor_token": name, "camera_intrinsic": k} | pose_row(mount)
        )
        content["ego_pose"].append({"token": name} | pose_row(world_from_ego))
        content["sample_data"].append(
            {"token": name, "sample_token": "k0", "calibrated_sensor_token": name,
             "ego_pose_token": name, "timestamp": round(time * 1e6), "is_key_frame": True,
             "filename": file, "height": size[0], "width": size[1]}
        )  # fmt: skip

    def pose_row(pose):
        quat = np.roll(matrix_to_quat_xyzw(pose[:3, :3]), 1)
        return {"rotation": quat.tolist(), "translation": pose[:3, 3].tolist()}

    for name, rig in infos.cameras.items():
        k = rig.camera.intrinsics - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        own = infos.world_from_ego @ rig.ego_from_camera @ se3_inverse(infos.mounted[name])
        camera = infos.mounted[name], own, infos.times[name], infos.images[name].name
        add(name, "camera", *camera, k.tolist(), rig.camera.size)
    lidar = infos.ego_from_lidar, infos.world_from_ego, infos.time, infos.lidar.name
    add("LIDAR_TOP", "lidar", *lidar, [], (0, 0))
    boxes = infos.boxes
    for i, (size, pose) in enumerate(zip(boxes.size, boxes.ego_from_box, strict=True)):
        content["sample_annotation"].append(
            {"token": f"a{i}", "sample_token": "k0", "instance_token": "thing",
             "visibility_token": "", "size": size[[1, 0, 2]].tolist(),
             "num_lidar_pts": int(boxes.points[i])} | pose_row(infos.world_from_ego @ pose)
        )  # fmt: skip
    write_tables(tmp_path / tree.VERSION, content)
    for path in [*infos.images.values(), infos.lidar]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (frame,) = read_nuscenes(tmp_path)
    # Their matrices are of single precision, and turned only that far.
    for name, rig in infos.cameras.items():
        found = frame.cameras[name]
        np.testing.assert_allclose(found.ego_from_camera, rig.ego_from_camera, atol=2e-3)
        np.testing.assert_allclose(found.camera.intrinsics, rig.camera.intrinsics, atol=1e-9)
    np.testing.assert_allclose(frame.boxes.ego_from_box, boxes.ego_from_box, atol=2e-2)
    np.testing.assert_allclose(frame.boxes.size, boxes.size)


def test_radar(tmp_path):
    values = np.random.default_rng(0).uniform(-9, 9, (5, len(RADAR_FIELDS)))
    column = {name: i for i, name in enumerate(RADAR_FIELDS)}
    values[:, [column["invalid_state"], column["dyn_prop"]]] = 0
    values[:, column["ambig_state"]] = [3, 3, 4, 3, 3]
    values[3, column["invalid_state"]] = 2
    values[1, :3] = np.nan
    path = tmp_path / "radar.pcd"
    write_radar(path, values)
    found = read_radar(path)
    assert found.dtype == np.float32 and len(found) == 4
    np.testing.assert_allclose(found[:, :3], values[[0, 2, 3, 4], :3], rtol=1e-6)
    np.testing.assert_array_equal(found[:, column["id"]], values[[0, 2, 3, 4], 4].round())
    assert usable_returns(found).tolist() == [True, False, False, True]
    raw = path.read_bytes()
    for old, new, field in (
        (b"DATA binary", b"DATA ascii", "DATA"),
        (b"POINTS 5", b"POINTS 6", "size"),
        (b"rcs", b"rcx", "FIELDS"),
        (b"COUNT 1", b"COUNT 2", "COUNT"),
        (b"TYPE F", b"TYPE Q", "TYPE"),
        (b"WIDTH 5\n", b"", "WIDTH"),
    ):
        path.write_bytes(raw.replace(old, new))
        with pytest.raises(DataError, match=field):
            read_radar(path)
    values[2, column["vx"]] = np.inf
    write_radar(path, values)
    with pytest.raises(DataError, match="point 1: vx"):
        read_radar(path)
