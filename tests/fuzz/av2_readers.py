"""Readers of Argoverse 2's logs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from posejax.data import av2
from posejax.data.cameras import Camera
from posejax.data.map_layers import read_map_raster
from posejax.systems.georeg.sources.logs import Av2Logs
from tests.fuzz.cases import Case, finite

TIME = 315970000000000000
_LOG_JSON = "map/log_map_archive_*.json"
_SIM2, _HEIGHT = "map/*Sim2_city.json", "map/*ground_height_surface____*.npy"


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


AV2_CASES: dict[str, Case] = {
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
}  # fmt: skip
