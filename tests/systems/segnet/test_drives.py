"""Recordings of CARLA's and of Argoverse 2: from files to the report of an evaluation."""

import json

import numpy as np
import pytest
from PIL import Image

from posejax.config import ConfigError, Evaluation, Experiment, TrainConfig, replace
from posejax.data import av2
from posejax.data.cameras import Camera
from posejax.data.errors import DataError
from posejax.data.rigid import se3_from_rotation_translation
from posejax.evaluate import EvalOptions, evaluate
from posejax.systems.segnet import Argoverse2, CarlaDrives, GridConfig, ModelConfig, Segnet
from posejax.systems.segnet.config import STILL
from tests.data.test_carla import placed
from tests.systems.segnet.made_up import FORWARD

GRID = GridConfig((32, 2, 32), (-16.0, -2.0, -16.0), (16.0, 2.0, 16.0))
SMALL = {"size": (32, 48), "most_boxes": 80, "lidar": True, "lidar_points": 64, "augment": STILL}
YAWS = {"FRONT": 0.0, "RIGHT": 90.0}  # CARLA's: to the right


def write_carla(folder, drives=2, frames=2):
    """A parked car ten metres ahead and three to the right, then two metres nearer."""
    for drive in range(drives):
        root = folder / f"drive{drive}"
        root.mkdir(parents=True)
        np.save(root / "sweep.npy", np.float32([[5, 1, 0, 0.5], [8, -2, 0, 0.5]]))
        Image.new("RGB", (96, 64), (90, 120, 60)).save(root / "view.png")
        rows = []
        for n in range(frames):
            x = 2.0 * n
            seen = {
                name: {
                    "file": "view.png",
                    "timestamp": 0.5 * n,
                    "transform": placed(x + 1, 0.0, 1.6, yaw=yaw),
                }
                for name, yaw in YAWS.items()
            }
            box = {"extent": {"x": 2.25, "y": 1.0, "z": 0.75}} | placed(0.0, 0.0, 0.75)
            car = {
                "id": 5,
                "type_id": "vehicle.audi.tt",
                "bounding_box": box,
                "transform": placed(10.0, 3.0, 0.0, yaw=20.0),
            }
            rows.append({
                "timestamp": 0.5 * n,
                "vehicle": {"id": 1, "transform": placed(x, 0.0, 0.0)},
                "images": seen,
                "lidar": {"file": "sweep.npy", "transform": placed(x, 0.0, 2.0)},
                "actors": [car],
            })  # fmt: skip
        camera = {"image_size_x": 96, "image_size_y": 64, "fov": 90.0}
        value = {"cameras": dict.fromkeys(YAWS, camera), "frames": rows}
        (root / "frames.json").write_text(json.dumps(value))


def carla(root):
    grid = replace(GRID, reference="FRONT")
    return CarlaDrives(root=str(root), cameras=tuple(YAWS), grid=grid, **SMALL)


def write_av2(folder, log):
    """The real log's sweep and boxes; of cameras and images, which it has not, made-up ones."""
    folder.mkdir(parents=True)
    for name in ("annotations.feather", "city_SE3_egovehicle.feather", "sensors/lidar"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(log / name)
    lens = Camera(np.array([[50.0, 0, 48], [0, 50.0, 32], [0, 0, 1]]), (64, 96))
    pose = se3_from_rotation_translation(FORWARD, np.array([1.5, 0.0, 1.4]))
    names = ("ring_front_center", "ring_side_left")
    av2.write_cameras(folder, {name: av2.RigCamera(name, lens, pose) for name in names})
    for name in names:
        (folder / "sensors/cameras" / name).mkdir(parents=True)
        for sweep in av2.list_sweeps(folder):
            image = folder / "sensors/cameras" / name / f"{av2.sweep_timestamp(sweep)}.jpg"
            Image.new("RGB", (96, 64)).save(image)
    return Argoverse2(
        root=str(folder.parents[1]),
        cameras=names,
        grid=replace(GRID, reference=names[0]),
        **SMALL,
    )


def evaluated(data, out):
    """Numbers of the prior, fitted on train: files, examples, targets, sums, pages."""
    system = Segnet(data, ModelConfig("small"), baseline="prior")
    train = TrainConfig(steps=1, batch_size=1, evaluation=Evaluation(batch_size=1))
    options = EvalOptions(calibrate=4, worst=1, random=0, out=out, cache="off")
    found = evaluate(Experiment(name="drives", system=system, train=train), options)
    page = (out / "index.html").read_text()
    assert data.kind in page and "imulated" not in page
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("carla")
    for split in ("train", "val"):
        write_carla(root / split)
    return carla(root)


def test_recordings_of_carla(recorded, tmp_path):
    recorded.check()
    source = recorded.source("val")
    assert len(source) == 4 and [source[i]["scene"] for i in range(4)] == [0, 0, 1, 1]
    first, second = (recorded.transform(source[i], np.random.default_rng(0), False) for i in (0, 1))
    assert first["camera_mask"].all() and first["lidar_present"].sum() == 2
    # Ahead and to the right of the front camera, which is a metre before the vehicle's middle.
    np.testing.assert_allclose(first["grid_from_box"][0, [0, 2], 3], (3, 9), atol=1e-5)
    np.testing.assert_allclose(second["grid_from_box"][0, [0, 2], 3], (3, 7), atol=1e-5)
    turned = first["grid_from_box"][0, [0, 2], 0]  # CARLA's yaw turns to the right
    np.testing.assert_allclose(turned, (np.sin(np.deg2rad(20)), np.cos(np.deg2rad(20))), atol=1e-6)
    numbers = evaluated(recorded, tmp_path)
    # Both frames of a drive are in train as well: each car's cells are half of the prior's.
    assert numbers["examples"] == 4 and numbers["iou"] > 0.4 and numbers["recall"] > 0.9
    assert (tmp_path / "index.html").read_text().count("2 frames in a row") >= 1


def test_the_real_log(data_dir, tmp_path):
    log = data_dir("av2_adcf7d18")
    data = write_av2(tmp_path / "val" / log.name, log)
    (tmp_path / "train").symlink_to(tmp_path / "val")
    data.check()
    source = data.source("val")
    found = data.transform(source[0], np.random.default_rng(0), False)
    assert found["camera_mask"].all() and found["lidar_present"].all()
    assert found["box_present"].sum() > 20
    numbers = evaluated(data, tmp_path / "out")
    assert numbers["iou"] > 0.9  # of the one frame that it was fitted on
    with pytest.raises(DataError, match="no 'FRONT'; expected ring_front_center, ring_side_left"):
        replace(data, cameras=("FRONT",)).source("val")


def test_what_is_missing_is_named(recorded, tmp_path):
    with pytest.raises(ConfigError, match="root: not given"):
        CarlaDrives().check()
    with pytest.raises(ConfigError, match="sweeps: 3; expected 1: recordings"):
        replace(recorded, sweeps=3).check()
    with pytest.raises(DataError, match="test: no such folder; expected a folder for each drive"):
        recorded.source("test")
    (tmp_path / "val" / "empty").mkdir(parents=True)
    with pytest.raises(DataError, match=r"frames\.json"):
        replace(recorded, root=str(tmp_path)).source("val")
    with pytest.raises(ConfigError, match=r"cameras: LEFT; the first frame has FRONT, RIGHT"):
        replace(recorded, cameras=("LEFT",)).source("val")
    (tmp_path / "val" / "empty" / "frames.json").write_text('{"cameras": {}, "frames": []}')
    with pytest.raises(DataError, match="no frame with boxes in 1 drives"):
        replace(recorded, root=str(tmp_path)).source("val")
    source = replace(recorded, **{"grid.reference": "TOP"}).source("val")
    with pytest.raises(DataError, match="no TOP; the frame has FRONT, RIGHT"):
        source.data.transform(source[0], np.random.default_rng(0), False)
