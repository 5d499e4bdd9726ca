"""RGB-D frames become examples: every point on its pixel, whatever augmentation did to them."""

import dataclasses
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posejax import cli
from posejax.config import ConfigError
from posejax.data.errors import DataError
from posejax.data.rgbd_points import into_image, sample_colors
from posejax.data.scannet import NYU40
from posejax.systems.bifusion.augment import Augment
from posejax.systems.bifusion.data import (
    SIMULATED_CLASSES,
    OwnFrames,
    ScanNet,
    SevenScenes,
    SimulatedRooms,
    SunRgbd,
)
from tests.data.rgbd_files import write_label_table

SIZE = (48, 64)


@pytest.fixture
def scan(small_scans):
    return small_scans[1][0]


def scan_data(scan, **changes) -> ScanNet:
    options = {"size": SIZE, "points": 800, "classes": SIMULATED_CLASSES, "every": 1, **changes}
    return ScanNet(root=str(scan), **options)


def on_image(example) -> tuple[np.ndarray, np.ndarray]:
    """Which points are valid in their image, and errors of their colours of 255."""
    mask = example["mask"]
    seen = into_image(
        example["points"][mask], example["intrinsics"].astype(float),
        example["camera_from_world"].astype(float), example["image"].shape[:2],
    )  # fmt: skip
    off = sample_colors(example["image"], seen.xy) - 255.0 * example["colors"][mask]
    return seen.valid, off


def test_an_example_holds_what_the_contract_says(scan):
    data = scan_data(scan)
    data.check()
    source = data.source("train")
    assert len(source) == 12 and source.describe(2) == f"{scan.name}/2"
    example = data.transform(source[2], np.random.default_rng(0), False)
    shapes = {name: (value.shape, value.dtype.name) for name, value in example.items()}
    assert shapes == {
        "points": ((800, 3), "float32"), "colors": ((800, 3), "float32"), "mask": ((800,), "bool"),
        "image": ((*SIZE, 3), "uint8"), "intrinsics": ((3, 3), "float32"),
        "camera_from_world": ((4, 4), "float32"), "semantic": ((800,), "int32"),
        "instance": ((800,), "int32"), "sequence": ((), "int32"), "index": ((), "int32"),
    }  # fmt: skip
    assert example["mask"].all() and example["index"] == 2 and example["sequence"] == 0
    assert example["semantic"].min() >= 0 and example["semantic"].max() < len(SIMULATED_CLASSES)
    floor = example["points"][example["semantic"] == SIMULATED_CLASSES.index("floor")]
    np.testing.assert_allclose(floor[:, 2], 0, atol=0.03)
    stuff = example["semantic"] < 3  # walls, floor and ceiling are no things
    assert (example["instance"][stuff] == -1).all() and (example["instance"][~stuff] > 0).all()
    again = data.transform(source[2], np.random.default_rng(1), False)
    assert all(np.array_equal(example[name], again[name]) for name in example)
    pickle.loads(pickle.dumps(source))


@pytest.mark.parametrize("train", [False, True])
def test_every_point_stays_on_its_pixel(scan, train):
    data = scan_data(scan, augment=Augment(depth_noise=0.01))
    source, moved = data.source("train"), []
    for index in range(6):
        rng = np.random.default_rng(index)
        example = data.transform(source[index], rng, train)
        valid, off = on_image(example)
        assert valid.all() and np.abs(off).max() < (1.0 if train else 0.05)
        moved.append(example)
    turned = np.stack([e["camera_from_world"] for e in moved])[:, :3, :3].astype(float)
    np.testing.assert_allclose(np.linalg.det(turned), 1, atol=1e-5)
    records = [source[k]["frame"].image for k in range(6)]
    mirrored = [
        np.abs(r[:, ::-1].astype(float) - e["image"]).mean() < np.abs(r - e["image"]).mean()
        for r, e in zip(np.array(records, float), moved, strict=True)
    ]
    assert any(mirrored) == train and not all(mirrored)
    assert all(e["mask"].mean() > 0.75 for e in moved) and (not train) == all(
        e["mask"].all() for e in moved
    )


def test_gravity_stays_and_labels_go_along(scan):
    data = scan_data(scan, augment=Augment(shift=0, scale=0, flip=0.5, drop=0))
    source = data.source("train")
    full = scan_data(scan, points=4000)
    plain = full.transform(source[0], np.random.default_rng(0), False)
    heights = {}
    for k in np.unique(plain["semantic"][plain["mask"]]):
        heights[k] = plain["points"][plain["mask"] & (plain["semantic"] == k)][:, 2]
    for seed in range(4):
        example = data.transform(source[0], np.random.default_rng(seed), True)
        for k, height in heights.items():
            found = example["points"][example["mask"] & (example["semantic"] == k)][:, 2]
            if len(found):
                assert found.min() > height.min() - 0.1 and found.max() < height.max() + 0.1


def test_images_of_another_size_and_few_points(scan):
    data = scan_data(scan, size=(32, 80), points=5000, verify=False)
    source = data.source("val")
    example = data.transform(source[0], np.random.default_rng(0), False)
    valid, off = on_image(example)
    assert valid.all() and np.abs(off).mean() < 8
    mask = example["mask"]
    assert 1000 < mask.sum() < 48 * 64 < len(mask) and mask[: mask.sum()].all()
    assert not example["points"][~mask].any() and (example["semantic"][~mask] == -1).all()
    near = scan_data(scan, farthest=2.0).source("val")[0]["frame"]
    assert 0 < len(near.points) < mask.sum()


def test_scans_of_a_list_with_raw_labels_and_lost_frames(scan, tmp_path):
    for name in ("scene0000_00", "scene0001_00"):
        shutil.copytree(scan, tmp_path / name)
    (tmp_path / "scene0001_00/pose/3.txt").write_text("-inf -inf -inf -inf\n" * 4)
    labels = np.array(Image.open(scan / "label-filt/0.png"))
    Image.fromarray(np.full_like(labels, 2)).save(tmp_path / "scene0001_00/label-filt/0.png")
    (tmp_path / "train.txt").write_text("scene0000_00\nscene0001_00\n")
    data = ScanNet(
        root=str(tmp_path), train_scenes=str(tmp_path / "train.txt"), size=SIZE, points=500,
        every=3, table=str(write_label_table(tmp_path)), verify=False,
    )  # fmt: skip
    source = data.source("train")
    assert source.sequence.tolist() == [0] * 4 + [1] * 3 and len(source.skipped) == 1
    assert "scene0001_00/3" in source.skipped[0][0]
    chair = data.transform(source[4], np.random.default_rng(0), False)["semantic"]
    assert (chair == data.classes.index("chair")).all()
    with pytest.raises(ConfigError, match="val_scenes"):
        data.source("val")
    (tmp_path / "train.txt").write_text("scene0000_00\n../scene0000_00\n")
    with pytest.raises(DataError, match=r"line 2: \.\./scene0000_00"):
        data.source("train")
    (tmp_path / "train.txt").write_text("scene0009_00\n")
    with pytest.raises(DataError, match="scene0009_00: scan"):
        data.source("train")
    with pytest.raises(ConfigError, match=r"classes.*'wal'"):
        dataclasses.replace(data, classes=("wal",)).check()


def lose(pose: Path) -> None:
    pose.write_text("inf inf inf inf\n" * 4)


def test_which_way_is_up_of_ones_own_frames(scan, tmp_path):
    """By a file, by the layout, by the images; where tracking was lost, nothing tells."""
    exported, named = tmp_path / "exported", tmp_path / "seq-01"
    shutil.copytree(scan, exported)
    named.mkdir()
    for k in range(12):
        for kind, name in (("color", "color.jpg"), ("depth", "depth.png"), ("pose", "pose.txt")):
            file = next((scan / kind).glob(f"{k}.*"))
            shutil.copy(file, named / f"frame-{k:06d}.{name}")

    def frames(folder):
        return OwnFrames(folder=str(folder), size=SIZE, classes=SIMULATED_CLASSES).source("test")

    def up(folder):
        return frames(folder)[0]["frame"].up

    assert frames(exported).recording(0) == "exported" and frames(named).recording(0) == "seq-01"
    # The exporter's world stands; its cameras look down, and their mean would say otherwise.
    np.testing.assert_array_equal(up(exported), [0, 0, 1])
    assert up(named)[2] > 0.8 and np.linalg.norm(up(named)[:2]) > 1e-3
    for pose in (exported / "pose/4.txt", named / "frame-000004.pose.txt"):
        lose(pose)
        assert len(source := frames(pose.parent if "frame" in pose.name else exported)) == 11
        assert [name.rpartition("/")[2] for name, _ in source.skipped] in (["4"], ["frame-000004"])
    assert up(named)[2] > 0.8
    for folder, beside in ((exported, exported / "pose"), (named, named)):
        (beside / "gravity-direction.txt").write_text("0\n2\n0\n")
        np.testing.assert_array_equal(up(folder), [0, -1, 0])
        (beside / "gravity-direction.txt").unlink()
        for pose in beside.glob("*.txt"):
            lose(pose)
        with pytest.raises(DataError, match="poses: unknown of all 12 frames"):
            frames(folder)


def test_label_pictures_of_ones_own_may_have_raw_numbers(scan, tmp_path):
    shutil.copytree(scan, tmp_path / "scan")
    labels = np.array(Image.open(scan / "label-filt/0.png"))
    Image.fromarray(np.full_like(labels, 2)).save(tmp_path / "scan/label-filt/0.png")
    data = OwnFrames(folder=str(tmp_path / "scan"), table=str(write_label_table(tmp_path)))
    said = data.source("test")[0]["frame"].semantic
    assert (said == data.classes.index("chair")).all()


def test_simulated_rooms_are_made_and_read(tmp_path):
    data = SimulatedRooms(
        root=str(tmp_path), rooms=(1, 1, 1), frames_a_room=3, image=SIZE, size=SIZE, points=500
    )
    data.check()
    assert data.simulated and "simulated" in data.title
    train, test = data.source("train"), data.source("test")
    assert len(train) == len(test) == 3
    one, two = (s[0]["frame"] for s in (train, test))
    assert one.camera_from_world.tolist() != two.camera_from_world.tolist()
    assert set(SIMULATED_CLASSES) <= set(NYU40)


@pytest.mark.parametrize(
    "name, text",
    [
        ("bifusion_sim", "--system.baseline prior"),
        ("bifusion_sim", "--model.mode image"),
        ("bifusion_scannet", "--model.points.rounding round"),
    ],
)
def test_options_that_a_config_names_are_options(name, text):
    path = Path(__file__).resolve().parents[3] / "configs" / f"{name}.py"
    assert text in " ".join(path.read_text().replace("FILE", "").split())
    (changed,) = cli.parse_train(["--config", str(path), *text.split()]).experiments
    assert changed.system != cli.load_config(str(path)).system


def test_seven_scenes_is_judged_before_it_is_used(data_dir, tmp_path):
    real = data_dir("sevenscenes_rgbd")
    data = SevenScenes(root=str(real), size=(240, 320), points=2000)
    source = data.source("train")
    assert len(source) == 24
    record = source[0]
    np.testing.assert_allclose(record["frame"].up, [0.009, -0.904, -0.427], atol=1e-3)
    example = data.transform(record, np.random.default_rng(0), True)
    assert on_image(example)[0].all() and (example["semantic"] == -1).all()
    for number in (0, 25, 50, 100):
        for kind in ("color.jpg", "depth.png", "pose.txt"):
            shutil.copy(real / f"frame-{number:06d}.{kind}", tmp_path)
        pose = np.loadtxt(tmp_path / f"frame-{number:06d}.pose.txt")
        pose[:3, :3] = pose[:3, :3].T
        (tmp_path / f"frame-{number:06d}.pose.txt").chmod(0o644)
        np.savetxt(tmp_path / f"frame-{number:06d}.pose.txt", pose)
    broken = dataclasses.replace(data, root=str(tmp_path))
    with pytest.raises(DataError, match=r"transposed_rotation.*se3_inverse.*--data\.no-verify"):
        broken.source("train")
    assert len(dataclasses.replace(broken, verify=False).source("train")) == 4
    with pytest.raises(DataError, match="depth_unit: no point; the greatest depth"):
        dataclasses.replace(data, farthest=0.01).source("train")


def test_sun_rgbd_points_have_their_boxes_class(data_dir):
    root = str(data_dir("sunrgbd_000017"))
    data = SunRgbd(root=root, train_list="infos.json", size=(265, 365), points=3000)
    source = data.source("train")
    assert source.recording(0) == "000017"  # a folder of a map, not a picture's name
    for train in (False, True):
        example = data.transform(source[0], np.random.default_rng(0), train)
        valid, off = on_image(example)
        assert valid.mean() > 0.999 and np.sqrt((off**2).mean()) < 15  # an image half as large
        names = {data.classes[k] for k in np.unique(example["semantic"]) if k >= 0}
        assert names == {"bed", "night stand"}
        assert set(np.unique(example["instance"])) == {-1, 0, 1}
    near = dataclasses.replace(data, farthest=2.0).source("train")[0]["frame"]
    assert 0 < len(near.points) < 50_000 and near.points[:, 1].max() < 3
