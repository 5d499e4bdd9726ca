"""Readers of image pairs: right on every layout and on real sets, clear on bad ones."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from posejax.data.errors import DataError
from posejax.data.rgbd_frames import list_frames, read_frame
from posejax.data.rigid import se3_inverse
from posejax.systems.tinyroma.data import MegaDepth, RgbdFolder, ScanNetPairs, StereoFolder
from posejax.systems.tinyroma.sources.stereo import read_disparity, right_disparity
from tests.systems.tinyroma import pair_data
from tests.systems.tinyroma.pair_data import POSES, K, disparity, plane_depth

ALL = (1.0, 0.0, 0.0)


@pytest.mark.parametrize("layout", ["seven_scenes", "scannet_export"])
def test_rgbd_layouts_are_read_in_metres_and_in_the_librarys_pixels(tmp_path, layout):
    folder = getattr(pair_data, f"write_{layout}")(tmp_path)
    frames = list_frames(folder)
    assert len(frames) == 3
    factor = 2 if layout == "scannet_export" else 1
    for number, files in enumerate(frames):
        frame = read_frame(files)
        np.testing.assert_allclose(frame.intrinsics, np.diag([factor, factor, 1]) @ K, atol=1e-9)
        np.testing.assert_allclose(frame.world_from_camera, POSES[number], atol=1e-9)
        expected = plane_depth(POSES[number]).repeat(factor, 0).repeat(factor, 1)
        np.testing.assert_allclose(frame.depth, expected, atol=6e-4)
        assert frame.image.shape == (*frame.depth.shape, 3)
    source = RgbdFolder(root=str(folder), split=ALL).source("train")
    record = source[0]
    np.testing.assert_allclose(record["b_from_a"], se3_inverse(POSES[1]) @ POSES[0], atol=1e-9)
    data = RgbdFolder(size=(32, 64))
    example = data.transform(record, np.random.default_rng(0), False)
    assert abs(example["overlap"] - record["overlap"]) < 0.1 and example["known_4"].mean() > 0.9


def test_listed_pairs_are_taken_and_faults_are_named(tmp_path):
    folder = pair_data.write_seven_scenes(tmp_path, pairs=True)
    source = RgbdFolder(root=str(folder), split=ALL).source("train")
    assert source.pairs[0][2] == 0.8 and len(source) == 2
    assert "frame-000001" in source.describe(0)
    text = (folder / "pairs.csv").read_text()
    (folder / "pairs.csv").write_text(text + "frame-000009,frame-000001,0.5\n")
    with pytest.raises(DataError, match=r"pairs.csv: line 4: a: 'frame-000009'"):
        RgbdFolder(root=str(folder), split=ALL).source("train")
    source = RgbdFolder(root=str(folder), split=ALL, on_error="skip").source("train")
    assert len(source) == 2 and "line 4" in source.skipped[0][0]
    (folder / "frame-000000.pose.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 2 0\n0 0 0 1\n")
    with pytest.raises(DataError, match=r"(?s)frame-000000.pose.txt: pose: .*a rotation"):
        source[0]
    (folder / "camera-intrinsics.txt").write_text("50 0 32\n0 50 24\n")
    with pytest.raises(DataError, match=r"camera-intrinsics.txt: shape: 2 lines of 3"):
        source[0]
    with pytest.raises(DataError, match=r"--data.root"):
        RgbdFolder().source("train")


def test_recordings_are_divided_whole(tmp_path):
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / name).mkdir()
        pair_data.write_seven_scenes(tmp_path / name)
    data = RgbdFolder(root=str(tmp_path), split=(3, 1, 1))
    names = [
        {files.image.parent.name for files, *_ in data.source(split).pairs}
        for split in ("train", "val", "test")
    ]
    assert names == [{"a", "b", "c"}, {"d"}, {"e"}]
    shutil.rmtree(tmp_path / "d")
    (tmp_path / "val").mkdir()
    pair_data.write_seven_scenes(tmp_path / "val")
    assert {f.image.parent.name for f, *_ in data.source("val").pairs} == {"val"}


def test_pair_lists_in_both_forms(tmp_path):
    pair_data.write_pair_list(tmp_path)
    for name, count in (("pairs.json", 2), ("pairs.txt", 1)):
        data = ScanNetPairs(root=str(tmp_path), pairs=name, size=(32, 64))
        source = data.source("test")
        assert len(source) == count
        np.testing.assert_allclose(source[0]["K_a"], K, atol=1e-9)
        np.testing.assert_allclose(source[0]["b_from_a"], se3_inverse(POSES[1]), atol=1e-9)
        example = data.transform(source[0], np.random.default_rng(0), False)
        assert example["has_pose"] == 1 and not example["known_8"].any()
    with pytest.raises(DataError, match="no depth to train on"):
        data.source("train")
    entries = json.loads((tmp_path / "pairs.json").read_text())
    faults = {
        "image0": "../a.png", "K1": [[0, 0, 0]] * 3, "T_0to1": [[1, 2], [3]], "size_wh": "64x48",
    }  # fmt: skip
    for field, value in faults.items():
        (tmp_path / "pairs.json").write_text(json.dumps([entries[0], {**entries[0], field: value}]))
        with pytest.raises(DataError, match=f"pairs.json: pair 1: {field}"):
            ScanNetPairs(root=str(tmp_path)).source("test")
        source = ScanNetPairs(root=str(tmp_path), on_error="skip").source("test")
        assert len(source) == 1 and source.skipped[0][0] == "pair 1"
    Image.fromarray(np.zeros((40, 64, 3), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b.png: size"):
        source[0]


@pytest.mark.parametrize("suffix", [".pfm", ".npy", ".npz", ".png"])
def test_stereo_disparity_is_a_warp_along_the_rows(tmp_path, suffix):
    path = pair_data.write_stereo(tmp_path, suffix)
    found = read_disparity(path)
    known = np.isfinite(disparity())
    np.testing.assert_allclose(found[known], disparity()[known], atol=2e-3)
    assert not found[~known].any()
    data = StereoFolder(root=str(tmp_path), split=ALL, size=(32, 64))
    record = data.source("train")[0]
    if suffix == ".pfm":  # f b / (d + doffs)
        assert record["b_from_a"][0, 3] == -0.12
        np.testing.assert_allclose(
            record["depth_a"][5, 9], 50 * 0.12 / (found[5, 9] + 2), rtol=1e-5
        )
    example = data.transform(record, np.random.default_rng(0), False)
    seen = example["visible_4"] > 0
    assert seen.mean() > 0.7
    y, x = (np.arange(n) * 4 + 2.0 for n in (8, 16))
    moved = x[None] - 4 - 4 * (x[None] - 0.5) / 63  # the plane's disparity at the cell's centre
    expected = np.stack(np.broadcast_arrays(moved, y[:, None]), -1)
    np.testing.assert_allclose(example["target_4"][seen], expected[seen], atol=0.05)


def test_the_right_disparity_is_that_of_the_nearest():
    left = np.zeros((1, 12), np.float32)
    left[0, 6:10], left[0, 10] = 2.0, 5.0
    np.testing.assert_array_equal(right_disparity(left)[0], [0, 0, 0, 0, 2, 5, 2, 2, 0, 0, 0, 0])


def test_bad_stereo_is_refused(tmp_path):
    path = pair_data.write_stereo(tmp_path)
    data = StereoFolder(root=str(tmp_path), split=ALL)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"disp0.pfm: pixels: 12285 bytes; expected 12288"):
        data.source("train")[0]
    pair_data.write_stereo(tmp_path)
    (tmp_path / "calib.txt").write_text("cam0=[1 2; 3]\n")
    with pytest.raises(DataError, match=r"calib.txt: cam0"):
        data.source("train")[0]
    with pytest.raises(DataError, match="none in this split"):
        data.source("test")


def test_megadepth_index_and_depth(tmp_path):
    path = pair_data.write_megadepth(tmp_path)
    data = MegaDepth(root=str(tmp_path), size=(32, 64))
    source = data.source("train")
    assert len(source) == 2, "the pair below the least overlap is left out"
    record = source[1]
    np.testing.assert_allclose(record["b_from_a"], POSES[2], atol=1e-9)
    np.testing.assert_allclose(record["K_a"], K)
    assert record["overlap"] == 0.9 and "images/2" in source.describe(1)
    example = data.transform(record, np.random.default_rng(0), False)
    assert example["visible_4"].mean() > 0.5
    path.rename(path.with_name("0015_0.1_0.3.npz"))
    with pytest.raises(DataError, match="no pair"):
        data.source("train")


def test_scenes_are_drawn_by_the_power_of_their_pairs(tmp_path):
    path = pair_data.write_megadepth(tmp_path)
    arrays = dict(np.load(path))
    arrays["pairs"] = np.tile([[0, 1]], (32, 1))
    arrays["overlaps"] = np.full(32, 0.5)
    np.savez(path.with_name("0002_0.1_0.3.npz"), **arrays)
    source = MegaDepth(root=str(tmp_path), length=300).source("train")
    share = np.mean(source.part == 0)
    assert len(source) == 300 and abs(share - 2**0.25 / (2**0.25 + 32**0.25)) < 0.02


def test_pickled_index_files_are_refused_with_what_to_do(tmp_path):
    path = pair_data.write_megadepth(tmp_path)
    arrays = dict(np.load(path))
    arrays["poses"] = np.array([*arrays["poses"], None], object)
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=r"array poses: .*Python objects.*convert it once"):
        MegaDepth(root=str(tmp_path)).source("train")
    np.savez(path, image_paths=np.array(["a", None], object), pair_infos=np.array([1], object))
    with pytest.raises(DataError, match="convert it once"):
        MegaDepth(root=str(tmp_path)).source("train")


# --- real data -----------------------------------------------------------------------------------


@pytest.mark.real
def test_seven_scenes_frames_agree_with_one_another(data_dir):
    data = RgbdFolder(root=str(data_dir("sevenscenes_rgbd")), split=ALL, size=(256, 320))
    source = data.source("train")
    assert len(source) > 50
    example = data.transform(source[0], np.random.default_rng(0), False)
    assert example["known_4"].mean() > 0.5 and example["overlap"] > 0.2
    seen = example["visible_4"] > 0
    cells = example["image_a"].mean(-1).reshape(64, 4, 80, 4).mean((1, 3))[seen]
    x, y = np.clip(example["target_4"][seen].astype(int), 0, [319, 255]).T
    assert np.corrcoef(cells, example["image_b"].mean(-1)[y, x])[0, 1] > 0.8


@pytest.mark.real
def test_scannet_pairs_have_the_rotations_that_are_stated(data_dir):
    data = ScanNetPairs(root=str(data_dir("scannet_pairs")))
    source = data.source("test")
    turns = [
        round(float(data.transform(source[k], np.random.default_rng(0), False)["rotation_deg"]))
        for k in range(len(source))
    ]
    assert sorted(turns) == [38, 50, 53, 64, 69, 81, 85]


@pytest.mark.real
def test_the_motorcycle_is_seen_from_both_sides(data_dir):
    root = str(data_dir("stereo_motorcycle"))
    data = StereoFolder(root=root, split=ALL, size=(480, 736))
    record = data.source("train")[0]
    assert 0.9 < (record["depth_a"] > 0).mean() < 0.94
    example = data.transform(record, np.random.default_rng(0), False)
    seen = example["visible_4"] > 0
    flow = (cell_x := np.arange(184) * 4 + 2.0)[None] - example["target_4"][..., 0]
    assert 0.6 < seen.mean() < 0.9 and len(cell_x) == 184
    assert flow[seen].min() > 7 and flow[seen].max() < 60
    rows = (np.arange(120) * 4 + 2.0)[:, None]
    assert np.abs(example["target_4"][..., 1] - rows)[seen].max() < 1e-3
