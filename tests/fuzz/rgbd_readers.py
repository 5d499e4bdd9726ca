"""Readers of RGB-D data sets."""

from pathlib import Path

from posejax.data.ply import read_ply
from posejax.data.rgbd_frames import read_labels
from posejax.data.scannet import read_cloud, read_label_table
from posejax.data.sunrgbd import read_sunrgbd, read_sunrgbd_points
from tests.data.rgbd_files import write_label_table, write_ply, write_sunrgbd
from tests.fuzz.cases import Case, finite
from tests.systems.tinyroma.pair_data import write_scannet_export


def _sunrgbd(path: Path) -> None:
    for frame in read_sunrgbd(path):
        finite(frame.intrinsics, frame.camera_from_world, frame.size, frame.world_from_box)


def _sunrgbd_points(path: Path) -> None:
    finite(*read_sunrgbd_points(path))


def _ply(path: Path) -> None:
    found = read_ply(path)
    finite(found.columns("x", "y", "z"))
    finite(*read_cloud(path)[:2])


def _table(path: Path) -> None:
    assert 0 <= read_label_table(path).min() <= read_label_table(path).max() <= 40


def _label_picture(folder: Path) -> Path:
    write_scannet_export(folder)
    (folder / "label-filt").mkdir()
    return (folder / "depth/0.png").rename(folder / "label-filt/0.png")


def _labels(path: Path) -> None:
    assert read_labels(path, (96, 128)).shape == (96, 128)


_SAMPLE = ("infos.json", "000017.bin", "000017.jpg")
RGBD_CASES: dict[str, Case] = {
    "sunrgbd_infos": Case(write_sunrgbd, _sunrgbd, tuple(f"sunrgbd_000017/{n}" for n in _SAMPLE)),
    "sunrgbd_points": Case(
        lambda f: write_sunrgbd(f).parent / "points/000001.bin", _sunrgbd_points
    ),
    "ply_binary": Case(write_ply, _ply),
    "ply_ascii": Case(lambda f: write_ply(f, "ascii"), _ply),
    "scannet_labels": Case(write_label_table, _table),
    "scannet_label_picture": Case(_label_picture, _labels),
}
