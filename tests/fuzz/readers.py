"""Every reader of the package: how a valid file comes about, and how it is read and checked.

A case names what its reader may refuse with: `DataError`, and `ConfigError` where a weights file
asks for classes that are not imported. What needs jax is imported when it runs: most processes
start without.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from posejax.config import ConfigError
from posejax.data import av2, carmen, kitti
from posejax.data.arrays import read_npy, read_npz
from posejax.data.cameras import Camera
from posejax.data.errors import DataError
from posejax.data.event_files import (
    DsecFile,
    EventRecording,
    PoseTrack,
    SparkFile,
    audit,
    read_calibration,
    read_pose_table,
    read_recording,
    read_rectify_map,
    read_spades_labels,
    write_dsec,
    write_event_npz,
    write_evt,
    write_pose_table,
    write_rpg,
    write_spades_csv,
    write_spark,
)
from posejax.data.files import read_json
from posejax.data.images import image_size, read_image
from posejax.data.map_layers import read_map_raster
from posejax.data.raster_folder import read_raster, write_folder
from posejax.systems.eventpose.frames import FrameSource, read_camera
from posejax.systems.eventpose.submission import pose_ids, read_submission, write_submission
from posejax.systems.georeg.sources.folder import RasterFolder
from posejax.systems.georeg.sources.logs import Av2Logs
from posejax.systems.georeg.sources.radish import RadishLog
from tests.fuzz.pair_readers import PAIR_CASES

SIZE = (48, 64)
TIME = 315970000000000000


@dataclasses.dataclass(frozen=True)
class Case:
    """A reader.

    Attributes:
      write: writes a valid data set into a folder and returns the file to damage.
      read: reads the data set, given that file, and checks what comes out.
      real: files of a real data set (patterns below POSEJAX_DATA), the first to be damaged.
      refusals: errors that a damaged file may end in.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    real: tuple[str, ...] = ()
    refusals: tuple[type[Exception], ...] = (DataError,)


def finite(*arrays: Any) -> None:
    for values in arrays:
        assert np.isfinite(values).all()


# --- arrays, images, rasters -------------------------------------------------------------------


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


# --- Argoverse 2 -------------------------------------------------------------------------------


def write_log(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-50, 50, (200, 3)).astype(np.float16).astype(np.float32)
    bytes_ = rng.integers(0, 64, (2, 200)).astype(np.uint8)
    sweep = av2.Sweep(xyz, *bytes_, rng.integers(0, 10**8, 200).astype(np.int32))
    log = folder / "log-a"
    av2.write_sweep(log / f"sensors/lidar/{TIME}.feather", sweep)
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, :3, 3] = rng.uniform(0, 50, (5, 3))
    av2.write_poses(log, TIME + np.arange(5) * 10**8, poses)
    line = np.round(np.cumsum(rng.uniform(0, 5, (6, 3)), axis=0), 2)
    lane = av2.LaneSegment(11, line, line + 3.5, "SOLID_YELLOW", "NONE", True, "BIKE", (12,), (10,))
    area = np.array([[0, 0, 0], [30, 0, 0], [30, 30, 0], [0, 30, 0.0]])
    av2.write_vector_map(log, av2.VectorMap([lane], [area], [(area[:2], area[2:])]))
    height = rng.uniform(0, 20, (15, 16))
    height[0, 0] = np.nan
    ground = av2.GroundHeight(height, (np.eye(2), np.array([-100.0, -50.0]), 1 / 0.3))
    av2.write_ground_height(log, ground)
    rgb = rng.integers(0, 256, (25, 24, 3)).astype(np.uint8)
    av2.write_orthophoto(log, av2.Orthophoto(rgb, 0.2, 99.5, -7.25))
    camera = Camera(np.array([[1700.0, 0, 775], [0, 1700.0, 1024], [0, 0, 1]]), (2048, 1550))
    names = ("ring_front_center", "ring_rear_left")
    av2.write_cameras(log, {n: av2.RigCamera(n, camera, poses[0]) for n in names})
    text = np.array(["a", "b", "a", "c", "d"], object)
    size = rng.uniform(1, 5, (5, 3))
    times = TIME + np.arange(5) * 10**8
    av2.write_annotations(log, av2.Annotations(times, text, text, size, poses, np.arange(5)))
    return log


def log_case(pattern: str, read: Callable[[Path], Any], real: tuple[str, ...] = ()) -> Case:
    """A case of the log's file that `pattern` finds; `read` is given the log's folder."""
    depth = pattern.count("/")
    return Case(
        lambda folder: next(write_log(folder).glob(pattern)),
        lambda path: read(path.parents[depth]),
        tuple(f"av2_adcf7d18/{name}" for name in real),
    )


def read_sweep(log: Path) -> None:
    sweep = av2.read_sweep(next((log / "sensors/lidar").glob("*.feather")))
    finite(sweep.xyz)


def read_map(log: Path) -> None:
    found = av2.read_vector_map(log)
    finite(*(lane.left for lane in found.lane_segments), *found.drivable_areas)


def read_height(log: Path) -> None:
    ground = av2.read_ground_height(log)
    assert ground.at(np.zeros((3, 2))).shape == (3,)


def read_rig(log: Path) -> None:
    for rig in av2.read_cameras(log).values():
        finite(rig.camera.intrinsics, rig.ego_from_camera)


def read_boxes(log: Path) -> None:
    boxes = av2.read_annotations(log)
    finite(boxes.size, boxes.ego_from_box)
    assert len(boxes.at(TIME)) <= len(boxes)


def read_source(log: Path) -> None:
    layers = ("gray", "marks", "non_drivable", "crossings")
    data = Av2Logs(str(log.parent), layers=layers, cell_size=0.5, online_shape=(16, 16))
    record = data.source("val")[0]
    finite(record["xyz"], record["map_from_sensor"])
    assert record["map"].values.dtype == np.uint8


def vector_raster(log: Path) -> None:
    raster = read_map_raster(log, ("marks", "drivable"), cell_size=0.5)
    assert raster.values.dtype == np.uint8 and raster.mask is not None


# --- planar lasers, KITTI ----------------------------------------------------------------------


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


# --- events ------------------------------------------------------------------------------------


def recording(count: int = 200) -> EventRecording:
    rng = np.random.default_rng(0)
    quat = rng.normal(size=(7, 4))
    labels = PoseTrack(
        t_seconds=np.arange(7) / 10,
        translation=rng.normal((0, 0, 5), 1, (7, 3)),
        quat_xyzw=quat / np.linalg.norm(quat, axis=1, keepdims=True),
        names=tuple(f"img{i:03d}_RT000.png" for i in range(7)),
    )
    x, y = rng.integers(0, 64, count), rng.integers(0, 48, count)
    t, p = np.sort(rng.integers(0, 6000, count)), rng.integers(0, 2, count)
    return EventRecording(x, y, t, p, 1e-4, SIZE, labels, "RT000")


def check_events(found: EventRecording) -> None:
    """What the class promises, asked once more and in other words."""
    dtypes = {"x": np.uint16, "y": np.uint16, "t": np.int64, "p": np.uint8}
    for key, dtype in dtypes.items():
        values = getattr(found, key)
        assert values.dtype == dtype and values.shape == (len(found),)
    assert (found.x < found.sensor_size[1]).all() and (found.y < found.sensor_size[0]).all()
    assert (np.diff(found.t) >= 0).all() and (found.t >= 0).all()
    assert np.isin(found.p, (0, 1)).all() and 0 < found.tick_seconds < np.inf
    if found.labels is not None:
        check_track(found.labels)
    assert dataclasses.replace(found).t is not None
    assert audit(found, refuse=False).text()


def check_track(track: PoseTrack) -> None:
    assert np.isfinite(track.translation).all() and (np.diff(track.t_seconds) > 0).all()
    np.testing.assert_allclose(np.linalg.norm(track.quat_xyzw, axis=1), 1, atol=1e-9)


def old_style_spark(path: Path, found: EventRecording) -> None:
    """As other programs write it: no checksums anywhere."""
    write_spark(path, found)
    with h5py.File(path) as file:
        columns = {f"events/{key}": file[f"events/{key}"][:] for key in ("xs", "ys", "ts", "ps")}
        table = file["labels/data"][:]
    with h5py.File(path, "w", libver="earliest") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, chunks=(64,), compression="gzip")
        text = [
            (n, h5py.string_dtype() if n == "filename" else table.dtype[n])
            for n in table.dtype.names
        ]
        file["labels/data"] = table.astype(text)
        file.attrs["time_unit_seconds"] = 1e-4
        file.attrs["remark"] = "text of variable length"
        file.attrs["sensor_size_wh"] = SIZE[::-1]


def events(suffix: str, write: Callable, real: tuple[str, ...] = (), **options) -> Case:
    def write_one(folder: Path) -> Path:
        write(folder / f"events{suffix}", recording())
        return folder / f"events{suffix}"

    return Case(write_one, lambda path: check_events(read_recording(path, **options)), real)


def windows(write: Callable, open_file: Callable) -> Case:
    def write_one(folder: Path) -> Path:
        write(folder / "events.h5", recording())
        return folder / "events.h5"

    def read(path: Path) -> None:
        file = open_file(path)
        try:
            for start in (-0.1, 0.05, 0.3):
                check_events(file.window(start, start + 0.2))
            assert file.counts([0, 0.1, 0.2]).shape == (2,)
        finally:
            file.close()

    return Case(write_one, read)


def write_labels(folder: Path) -> Path:
    write_spades_csv(folder / "events.csv", recording(), labels=folder / "labels.csv")
    return folder / "labels.csv"


def write_track(folder: Path) -> Path:
    write_pose_table(folder / "poses.txt", recording().labels)
    return folder / "poses.txt"


def write_calibration(folder: Path) -> Path:
    (folder / "calib.txt").write_text("199.1 198.8 132.2 110.7 -0.36 0.15 -0.0003 -0.0005 0.0\n")
    return folder / "calib.txt"


def write_rectify(folder: Path) -> Path:
    with h5py.File(folder / "map.h5", "w") as file:
        file.create_dataset("rectify_map", data=np.ones((*SIZE, 2), np.float32), chunks=True)
    return folder / "map.h5"


# --- frames, submissions, weights, scores ------------------------------------------------------


def write_frames(folder: Path) -> Path:
    (folder / "frames").mkdir()
    rng = np.random.default_rng(0)
    text = "filename,Tx,Ty,Tz,Qx,Qy,Qz,Qw\n"
    for i in range(4):
        text += f"img{i:03d}.png,0.1,0.2,{4 + i},0,0,0,1\n"
        pixels = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"frames/img{i:03d}.png")
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def read_frames(path: Path) -> None:
    source = FrameSource(path.parent, (0, 4))
    check_track(source.track)
    assert source[0]["image"].shape[2] == 3


def write_camera(folder: Path) -> Path:
    camera = {"cameraMatrix": [[125.0, 0, 64], [0, 125.0, 36], [0, 0, 1]], "Nu": 128, "Nv": 72}
    (folder / "camera.json").write_text(json.dumps(camera))
    return folder / "camera.json"


def write_table(folder: Path) -> Path:
    translation = np.random.default_rng(0).normal((0, 0, 6), 0.5, (5, 3))
    ids, quat = pose_ids("RT901", 5), np.tile([0.5, 0.5, -0.5, 0.5], (5, 1))
    write_submission(folder / "poses.csv", ids, translation, quat)
    return folder / "poses.csv"


def check_submission(path: Path) -> None:
    found = read_submission(path)
    finite(found.translation, found.quat_xyzw)


def weights(suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        from posejax.train.weights import save_weights

        rng = np.random.default_rng(0)
        params = {"dense": {"kernel": rng.normal(size=(8, 6)).astype(np.float32)}}
        return save_weights(folder / f"w{suffix}", params, {"mean": np.ones(6, np.float16)})

    return write


def check_weights(path: Path) -> None:
    from posejax.train.weights import load_weights

    load_weights(path)


def check_state_dict(path: Path) -> None:
    from posejax.nn import load_state_dict

    assert all(isinstance(v, np.ndarray) for v in load_state_dict(path).values())


def write_checkpoint(folder: Path) -> Path:
    from tests.nn.torch_files import torch_save

    rng = np.random.default_rng(0)
    state = {f"module.{k}": rng.normal(size=(4, 3)).astype(k) for k in ("f4", "f2", "i8", "b1")}
    return torch_save(folder / "net.pth", {"epoch": 3, "model": state})


def check_scores(path: Path) -> None:
    from posejax.train.comparison import read_scores

    assert read_scores(path).examples is not None


def write_scores(folder: Path) -> Path:
    scores = {"experiment": "a", "split": "val", "checkpoint": "step 1", "examples": 3}
    scores["metrics"] = {"error": 0.5, "share": None}
    (folder / "metrics.json").write_text(json.dumps(scores))
    return folder / "metrics.json"


_LOG_JSON = "map/log_map_archive_*.json"
_SIM2, _HEIGHT = "map/*Sim2_city.json", "map/*ground_height_surface____*.npy"
_LOADED = (DataError, ConfigError)

CASES: dict[str, Case] = {
    "npy": Case(write_npy, read_npy),
    "npz": Case(write_npz, read_npz, ("magsac_f/head.npz",)),
    "json": Case(write_scores, read_json, ("kitti_pair_94/relative.json",)),
    "png_gray": Case(image("L"), check_image),
    "png_rgba": Case(image("RGBA"), check_image, ("spades_rt002/frames/img000_RT002.png",)),
    "png_16": Case(image("I;16"), check_image, ("sevenscenes_rgbd/frame-000000.depth.png",)),
    "png_palette": Case(image("P"), check_image),
    "jpeg": Case(image("RGB", ".jpg"), check_image, ("sevenscenes_rgbd/frame-000000.color.jpg",)),
    "raster_npy": Case(write_npy, check_raster),
    "raster_npz": Case(write_npz, check_raster),
    "raster_png": Case(image("RGBA"), check_raster),
    "raster_index": Case(write_pairs, read_pairs),
    "av2_sweep": log_case("sensors/lidar/*.feather", read_sweep, ("sensors/lidar/*.feather",)),
    "av2_poses": log_case(av2.POSES_FILE, lambda log: finite(av2.read_poses(log)[1]),
                          (av2.POSES_FILE,)),
    "av2_map": log_case(_LOG_JSON, read_map, (_LOG_JSON,)),
    "av2_height": log_case(_HEIGHT, read_height, (_HEIGHT, _SIM2)),
    "av2_sim2": log_case(_SIM2, read_height, (_SIM2, _HEIGHT)),
    "av2_photo": log_case("aerial/orthophoto.png", av2.read_orthophoto),
    "av2_photo_json": log_case("aerial/orthophoto.json", read_source),
    "av2_intrinsics": log_case("calibration/intrinsics.feather", read_rig),
    "av2_extrinsics": log_case("calibration/egovehicle_SE3_sensor.feather", read_rig),
    "av2_boxes": log_case("annotations.feather", read_boxes, ("annotations.feather",)),
    "av2_source": log_case(av2.POSES_FILE, read_source),
    "av2_map_raster": log_case(_LOG_JSON, vector_raster),
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
    "spark": events(".h5", write_spark, ("spades_rt002/RT002_reconstructed.h5",)),
    "spark_plain": events(".h5", lambda p, r: write_spark(p, r, compression=None)),
    "spark_old": events(".h5", old_style_spark),
    "spark_windows": windows(old_style_spark, SparkFile),
    "dsec": events(".h5", write_dsec, sensor_size=SIZE),
    "dsec_windows": windows(write_dsec, lambda path: DsecFile(path, sensor_size=SIZE)),
    "dsec_rectify": Case(write_rectify, lambda p: finite(read_rectify_map(p, SIZE))),
    "event_npz": events(".npz", write_event_npz),
    "evt2": events(".raw", lambda p, r: write_evt(p, r, version=2)),
    "evt3": events(".raw", write_evt, ("prophesee_evt3/evt3_sample.raw",)),
    "spades_csv": events(".csv", write_spades_csv, sensor_size=SIZE, n_poses=6),
    "spades_labels": Case(write_labels, lambda p: check_track(read_spades_labels(p)),
                          ("spades_rt002/labels.csv",)),
    "rpg": events(".txt", lambda p, r: write_rpg(p.parent, r),
                  ("slider_depth/events_chunk.txt",), sensor_size=(180, 240)),
    "rpg_calibration": Case(write_calibration, lambda p: finite(*read_calibration(p)),
                            ("slider_depth/calib.txt",)),
    "pose_table": Case(write_track, lambda p: check_track(read_pose_table(p)),
                       ("slider_depth/groundtruth.txt",)),
    "frames": Case(write_frames, read_frames),
    "frames_picture": Case(lambda f: write_frames(f).parent / "frames/img001.png",
                           lambda p: read_frames(p.parents[1] / "labels.csv")),
    "frames_camera": Case(write_camera, lambda p: finite(read_camera(p).intrinsics),
                          ("spades_rt002/camera.json",)),
    "submission": Case(write_table, check_submission),
    "weights_npz": Case(weights(".npz"), check_weights, refusals=_LOADED),
    "weights_safetensors": Case(weights(".safetensors"), check_weights, refusals=_LOADED),
    "state_dict_npz": Case(weights(".npz"), check_state_dict, ("xfeat_weights/xfeat_folded.npz",)),
    "state_dict_safetensors": Case(weights(".safetensors"), check_state_dict),
    "state_dict_pth": Case(write_checkpoint, check_state_dict, refusals=(DataError,)),
    "scores": Case(write_scores, check_scores),
    **{name: Case(*parts) for name, parts in PAIR_CASES.items()},
}  # fmt: skip


def _fails(how: Callable[[], Any]) -> Case:
    def read(path: Path) -> None:
        try:
            read_npy(path)
        except DataError:
            how()

    return Case(write_npy, read)


# Readers that fail in every way that must be noticed: the test of the machinery.
BROKEN = {
    "broken_crash": _fails(os.abort),
    "broken_hang": _fails(lambda: time.sleep(1e6)),
    "broken_type": _fails(lambda: len(0)),  # type: ignore[arg-type]
    "broken_memory": _fails(lambda: bytes(1 << 50)),
}
