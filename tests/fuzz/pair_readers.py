"""Readers of image pairs."""

from pathlib import Path

import numpy as np

from posejax.data.rgbd_frames import list_frames, read_frame
from posejax.systems.tinyroma.data import MegaDepth, RgbdFolder, ScanNetPairs, StereoFolder
from posejax.systems.tinyroma.sources.stereo import read_disparity
from tests.fuzz.cases import Case
from tests.systems.tinyroma import pair_data

ALL = (1.0, 0.0, 0.0)


def _examples(data, split: str) -> None:
    """Every record becomes an example whose targets are finite."""
    source = data.source(split)
    for index in range(min(len(source), 2)):
        example = data.transform(source[index], np.random.default_rng(0), False)
        for name in ("target_8", "K_a", "K_b", "b_from_a"):
            assert np.isfinite(example[name]).all(), name


def _scene_file(name: str):
    return lambda folder: pair_data.write_seven_scenes(folder, pairs=True) / name


def _frame(path: Path) -> None:
    frame = read_frame(list_frames(path.parent)[0])
    assert np.isfinite(frame.depth).all() and (frame.depth >= 0).all()
    assert np.isfinite(frame.intrinsics).all() and np.isfinite(frame.world_from_camera).all()


def _folder(path: Path) -> None:
    for on_error in ("stop", "skip"):
        _examples(
            RgbdFolder(root=str(path.parent), split=ALL, on_error=on_error, size=(32, 64)), "train"
        )


def _list(path: Path) -> None:
    for on_error in ("stop", "skip"):
        data = ScanNetPairs(
            root=str(path.parent), pairs=path.name, on_error=on_error, size=(32, 64)
        )
        _examples(data, "test")


def _stereo(path: Path) -> None:
    _examples(StereoFolder(root=str(path.parent), split=ALL, size=(32, 64)), "train")


def _disparity(path: Path) -> None:
    assert np.isfinite(read_disparity(path)).all()


def _megadepth(path: Path) -> None:
    folder = path.parents[2] if path.suffix == ".npz" else path.parents[1]
    _examples(MegaDepth(root=str(folder), size=(32, 64)), "train")


def _megadepth_depth(folder: Path) -> Path:
    pair_data.write_megadepth(folder)
    return folder / "images/0.h5"


PAIR_CASES: dict[str, Case] = {
    "rgbd_pose": Case(_scene_file("frame-000000.pose.txt"), _frame),
    "rgbd_intrinsics": Case(_scene_file("camera-intrinsics.txt"), _frame),
    "rgbd_depth": Case(_scene_file("frame-000000.depth.png"), _frame),
    "rgbd_pairs": Case(_scene_file("pairs.csv"), _folder),
    "pairs_json": Case(pair_data.write_pair_list, _list),
    "pairs_txt": Case(lambda f: pair_data.write_pair_list(f).with_suffix(".txt"), _list),
    "stereo_pfm": Case(pair_data.write_stereo, _stereo),
    "stereo_calib": Case(lambda f: pair_data.write_stereo(f).with_name("calib.txt"), _stereo),
    "stereo_npz": Case(
        lambda f: pair_data.write_stereo(f, ".npz"),
        _disparity,
        ("stereo_motorcycle/motorcycle_disp.npz",),
    ),
    "megadepth_index": Case(pair_data.write_megadepth, _megadepth),
    "megadepth_depth": Case(_megadepth_depth, _megadepth),
}
