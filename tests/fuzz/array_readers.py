"""Readers of arrays, images and rasters, of planar lasers and KITTI's sweeps."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from posejax.data import carmen, kitti
from posejax.data.arrays import read_npy, read_npz
from posejax.data.files import read_json
from posejax.data.images import image_size, read_image
from posejax.data.raster_folder import read_raster, write_folder
from posejax.systems.georeg.sources.folder import RasterFolder
from posejax.systems.georeg.sources.radish import RadishLog
from tests.fuzz.cases import Case, finite


def write_npy(folder: Path) -> Path:
    np.save(folder / "a.npy", np.arange(600, dtype=np.float32).reshape(20, 30))
    return folder / "a.npy"


def write_npz(folder: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    np.savez_compressed(folder / "a.npz", values=values, mask=values > -1)
    return folder / "a.npz"


def image(mode: str, suffix: str = ".png") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 4), dtype=np.uint8)
        picture = {
            "I;16": lambda: Image.fromarray(pixels[..., 0].astype(np.uint16) * 200),
            "P": lambda: Image.fromarray(pixels[..., :3]).quantize(16),
        }.get(mode, lambda: Image.fromarray(pixels, "RGBA").convert(mode))()
        picture.save(folder / f"a{suffix}")
        return folder / f"a{suffix}"

    return write


def check_image(path: Path) -> None:
    pixels = read_image(path)
    assert pixels.shape[:2] == image_size(path) and pixels.dtype in (np.uint8, np.uint16, bool)


def check_raster(path: Path) -> None:
    values, mask = read_raster(path)
    assert values.ndim == 3 and mask.shape == values.shape[:2] and mask.any()
    finite(values)


def write_pairs(folder: Path) -> Path:
    rng, ones = np.random.default_rng(0), np.ones((8, 8), bool)
    write_folder(
        folder,
        [(f"s{i}", rng.random((8, 8, 2)), ones, rng.random((12, 12, 1)), np.ones((12, 12)), p)
         for i, p in enumerate(rng.normal(size=(6, 3)))],
        cell_size=0.2,
        split="train",
    )  # fmt: skip
    return folder / "poses.csv"


def read_pairs(path: Path) -> None:
    for on_error in ("stop", "skip"):
        source = RasterFolder(
            str(path.parent), on_error=on_error, cell_size=0.2, online_shape=(8, 8)
        ).source("train")
        for pair in source.pairs:
            assert pair.online.resolve().is_relative_to(path.parent.resolve())
        finite(source[0]["map_from_sensor"])


def write_json(folder: Path) -> Path:
    (folder / "a.json").write_text(json.dumps({"split": "val", "numbers": [0.5, None, 3]}))
    return folder / "a.json"


def laser_log() -> carmen.LaserLog:
    rng = np.random.default_rng(0)
    ranges = rng.uniform(1, 30, (8, 180)).astype(np.float32)
    pose = np.cumsum(rng.uniform(0, 1, (8, 3)), axis=0)
    return carmen.LaserLog(ranges, carmen.beam_angles(180), pose, pose, np.arange(8) / 8 + 70)


def write_laser(kind: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        getattr(carmen, f"write_{kind}")(folder / f"log.{kind}", laser_log())
        steps = np.random.default_rng(0).normal(size=(7, 3))
        times = np.arange(8) / 8 + 70
        relations = carmen.Relations(times[:-1], times[1:], steps)
        carmen.write_relations(folder / "log.relations", relations)
        return folder / f"log.{kind}"

    return write


def check_laser(log: carmen.LaserLog) -> None:
    finite(log.ranges, log.laser_pose, log.odom, log.time, log.points(0))


def read_radish(path: Path) -> None:
    data = RadishLog(str(path.parent), cell_size=0.5, online_shape=(16, 16))
    record = data.source("all")[0]
    finite(record["map"].values, record["map_from_sensor"])


def write_sweep_bin(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    xyz, reflectance = rng.normal(size=(90, 3)), rng.random(90)
    kitti.write_velodyne(folder / "0.bin", xyz, reflectance)
    return folder / "0.bin"


def write_poses(folder: Path) -> Path:
    (folder / "poses.txt").write_text("1 0 0 0.5 0 1 0 -2e1 0 0 1 0\n" * 4)
    return folder / "poses.txt"


ARRAY_CASES: dict[str, Case] = {
    "npy": Case(write_npy, read_npy),
    "npz": Case(write_npz, read_npz, ("magsac_f/head.npz",)),
    "json": Case(write_json, read_json, ("kitti_pair_94/relative.json",)),
    "png_gray": Case(image("L"), check_image),
    "png_rgba": Case(image("RGBA"), check_image, ("spades_rt002/frames/img000_RT002.png",)),
    "png_16": Case(image("I;16"), check_image, ("sevenscenes_rgbd/frame-000000.depth.png",)),
    "png_palette": Case(image("P"), check_image),
    "jpeg": Case(image("RGB", ".jpg"), check_image, ("sevenscenes_rgbd/frame-000000.color.jpg",)),
    "raster_npy": Case(write_npy, check_raster),
    "raster_npz": Case(write_npz, check_raster),
    "raster_png": Case(image("RGBA"), check_raster),
    "raster_index": Case(write_pairs, read_pairs),
    "carmen_clf": Case(write_laser("clf"), lambda p: check_laser(carmen.read_clf(p)),
                       ("radish_aces/aces_head200.clf",)),
    "carmen_npz": Case(write_laser("npz"), lambda p: check_laser(carmen.read_npz(p)),
                       ("radish_aces/aces.npz",)),
    "relations": Case(lambda f: write_laser("clf")(f).with_suffix(".relations"),
                      lambda p: finite(carmen.read_relations(p).pose),
                      ("radish_aces/aces.relations",)),
    "radish_source": Case(write_laser("npz"), read_radish),
    "kitti_sweep": Case(write_sweep_bin, lambda p: finite(*kitti.read_velodyne(p)),
                        ("kitti_pair_94/000094.bin",)),
    "kitti_poses": Case(write_poses, lambda p: finite(kitti.read_poses(p)),
                        ("kitti_pair_94/poses_cam0.txt",)),
}  # fmt: skip
