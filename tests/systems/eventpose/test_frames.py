"""Folders of pictures: poses, cameras of crops, errors that name file and line."""

import json

import numpy as np
import pytest
from PIL import Image

from posejax.data.dataset import unused_split
from posejax.data.errors import DataError
from posejax.systems.eventpose.data import Frames
from posejax.systems.eventpose.frames import FrameSource, crop_camera, frame_example, read_camera

ROW = "img{:03d}.png,0.1,0.2,{},0,0,0,1\n"


@pytest.fixture
def folder(tmp_path, rng):
    (tmp_path / "frames").mkdir()
    text = "filename,Tx,Ty,Tz,Qx,Qy,Qz,Qw\n"
    for i in range(6):
        text += ROW.format(i, 4 + i)
        pixels = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "frames" / f"img{i:03d}.png")
    (tmp_path / "labels.csv").write_text(text)
    camera = {"cameraMatrix": [[125.0, 0, 64], [0, 125.0, 36], [0, 0, 1]], "Nu": 128, "Nv": 72}
    (tmp_path / "camera.json").write_text(json.dumps(camera))
    return tmp_path


def test_frames_come_with_their_poses(folder):
    data = Frames(str(folder), train=4)
    train, val = data.source("train"), data.source("val")
    assert (len(train), len(val)) == (4, 2)
    assert val.describe(0) == "img004.png"
    example = frame_example(val[1])
    assert example["image"].shape == (24, 24, 3) and example["image"].dtype == np.uint8
    np.testing.assert_allclose(example["poses"][0], [0.1, 0.2, 9, 0, 0, 0, 1], atol=1e-6)
    assert example["time"] == pytest.approx(0.5)
    np.testing.assert_allclose(train.translations()[:, 2], [4, 5, 6, 7])


@pytest.mark.parametrize("split", ["test", "nonsense"])
def test_a_split_that_is_none_is_refused(folder, split):
    data = Frames(str(folder), train=4)
    assert data.splits == ("train", "val") and unused_split(data, "val") is None
    with pytest.raises(DataError, match=f"split '{split}': .*; expected train or val"):
        data.source(split)


def test_the_camera_of_a_shrunk_centred_crop(folder):
    camera = crop_camera(read_camera(folder / "camera.json"), (24, 24))
    # 72 rows / 3 = 24; the crop of 72 columns starts at column 28.
    np.testing.assert_allclose(camera.intrinsics, [[125 / 3, 0, 12], [0, 125 / 3, 12], [0, 0, 1]])
    with pytest.raises(ValueError, match="larger than the sensor"):
        crop_camera(camera, (240, 240))


@pytest.mark.parametrize(
    "old, new, where",
    [
        ("filename,", "file,", "column filename: missing"),
        ("0.2,6,", "0.2,x,", "line 4"),
        ("0.2,6,", "0.2,nan,", "line 4"),
        ("5,0,0,0,1", "5,0,0,0,3", "line 3"),
    ],
)
def test_labels_that_are_no_poses_are_refused(folder, old, new, where):
    text = (folder / "labels.csv").read_text()
    assert old in text
    (folder / "labels.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=where):
        FrameSource(folder, (0, 10))


@pytest.mark.parametrize(
    "text",
    [
        '{"cameraMatrix": [[1,0,[0]],[0,1,0],[0,0,1]], "Nu": 9, "Nv": 9}',
        '{"cameraMatrix": [[1,0,0],[0,1,0],[0,0,1]], "Nu": 9.5, "Nv": 9}',
        '{"cameraMatrix": [[1,0,0],[0,1,0],7], "Nu": 9, "Nv": 9}',
        "{",
        '{"Nu": 1}',
        '{"cameraMatrix": [[0,0,0],[0,1,0],[0,0,1]], "Nu": 9, "Nv": 9}',
    ],
)
def test_a_camera_that_is_none_is_refused(folder, text):
    (folder / "camera.json").write_text(text)
    with pytest.raises(DataError, match=r"camera\.json"):
        Frames(str(folder), train=3).camera()


def test_a_picture_that_is_none_is_named(folder):
    (folder / "frames" / "img002.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"img002\.png"):
        FrameSource(folder, (0, 10))
    Image.new("RGB", (20, 24)).save(folder / "frames" / "img002.png")
    with pytest.raises(DataError, match=r"img002\.png: size: \(24, 20\)"):
        FrameSource(folder, (0, 10))


def test_a_table_does_not_open_other_folders_files(folder):
    Image.new("RGB", (24, 24)).save(folder / "outside.png")
    text = (folder / "labels.csv").read_text()
    for name in ("../outside.png", str(folder / "outside.png")):
        (folder / "labels.csv").write_text(text.replace("img002.png", name))
        with pytest.raises(
            DataError, match=r"labels\.csv: column filename: .*expected a name within"
        ):
            FrameSource(folder, (0, 10))


@pytest.mark.real
def test_the_real_sequence(data_dir):
    root = data_dir("spades_rt002")
    data = Frames(str(root))
    train, val = data.source("train"), data.source("val")
    assert (len(train), len(val)) == (400, 80)
    camera = data.camera()
    np.testing.assert_allclose(camera.intrinsics[0], [419.5352510, 0, 120], atol=1e-6)
    # The body's origin, projected, is where the events are: 8 to 10 px in the notes on this data.
    distance = []
    for i in range(0, 400, 20):
        record = train[i]
        rows, columns = np.nonzero(record["image"].max(-1))
        p = camera.intrinsics @ record["track"].translation[i]
        middle = np.median([columns + 0.5, rows + 0.5], axis=1)
        distance.append(np.linalg.norm(p[:2] / p[2] - middle))
    assert np.mean(distance) < 12
