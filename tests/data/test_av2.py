"""Argoverse 2 reader and writer: round trips, every malformed input, and the real log."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from scipy.spatial.transform import Rotation

from posejax.data import av2
from posejax.data.errors import DataError

TIME = 315970000000000000


def make_log(folder, rng):
    """A small complete log; returns what was written."""
    log = folder / "log-a"
    xyz = rng.uniform(-50, 50, (7, 3)).astype(np.float16).astype(np.float32)
    sweep = av2.Sweep(
        xyz,
        rng.integers(0, 256, 7).astype(np.uint8),
        rng.integers(0, 64, 7).astype(np.uint8),
        rng.integers(0, 10**8, 7).astype(np.int32),
    )
    av2.write_sweep(log / "sensors" / "lidar" / f"{TIME}.feather", sweep)
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, :3, :3] = Rotation.random(3, random_state=1).as_matrix()
    poses[:, :3, 3] = rng.uniform(-2000, 2000, (3, 3))
    av2.write_poses(log, TIME + np.arange(3) * 10**8, poses)
    line = np.round(rng.uniform(0, 100, (4, 3)), 2)
    lane = av2.LaneSegment(
        11, line, line + 3.5, "DOUBLE_SOLID_YELLOW", "NONE", True, "BIKE", (12,), (10,), None, 13
    )
    vector_map = av2.VectorMap([lane], [line, line[:3]], [(line[:2], line[2:])])
    av2.write_vector_map(log, vector_map)
    height = rng.uniform(0, 20, (5, 6)).astype(np.float16).astype(np.float32)
    height[0, 0] = np.nan
    ground = av2.GroundHeight(height, (np.eye(2), np.array([-100.0, -50.0]), 1 / 0.3))
    av2.write_ground_height(log, ground)
    photo = av2.Orthophoto(rng.integers(0, 256, (5, 4, 3)).astype(np.uint8), 0.2, 99.5, -7.25)
    av2.write_orthophoto(log, photo)
    return log, sweep, poses, vector_map, ground, photo


def test_round_trips(tmp_path, rng):
    log, sweep, poses, vector_map, ground, photo = make_log(tmp_path, rng)
    assert av2.list_logs(tmp_path) == [log]
    (path,) = av2.list_sweeps(log)
    assert av2.sweep_timestamp(path) == TIME
    back = av2.read_sweep(path)
    for name in ("xyz", "intensity", "laser_number", "offset_ns"):
        np.testing.assert_array_equal(getattr(back, name), getattr(sweep, name))
        assert getattr(back, name).dtype == getattr(sweep, name).dtype
    times, matrices = av2.read_poses(log)
    assert times.tolist() == [TIME + i * 10**8 for i in range(3)]
    np.testing.assert_allclose(matrices, poses, atol=1e-12)
    np.testing.assert_array_equal(av2.pose_at(log, TIME + 10**8), matrices[1])
    (lane,), areas, crossings = vars(av2.read_vector_map(log)).values()
    for name, value in vars(vector_map.lane_segments[0]).items():
        np.testing.assert_array_equal(getattr(lane, name), value)
    for a, b in zip(areas, vector_map.drivable_areas, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(crossings, vector_map.crossings)
    np.testing.assert_array_equal(av2.read_ground_height(log).height, ground.height)
    picture = av2.read_orthophoto(log)
    np.testing.assert_array_equal(picture.rgb, photo.rgb)
    assert (picture.cell_size, picture.x_min, picture.y_min) == (0.2, 99.5, -7.25)


def test_ground_height_uses_the_cell_under_the_point():
    height = np.arange(12, dtype=np.float32).reshape(3, 4)
    ground = av2.GroundHeight(height, (np.eye(2), np.array([-10.0, -20.0]), 2.0))
    xy = np.array(
        [[10.0, 20.0], [10.49, 20.0], [10.5, 20.0], [11.9, 21.4], [9.99, 20.0], [12.0, 20.0]]
    )
    np.testing.assert_array_equal(ground.at(xy), [0, 0, 1, 11, np.nan, np.nan])


def edit_table(path, change):
    columns = {name: column for name, column in zip(*_columns(path), strict=True)}
    change(columns)
    feather.write_feather(pa.table(columns), str(path))


def _columns(path):
    table = feather.read_table(path)
    return table.column_names, [c.to_numpy().copy() for c in table.columns]


def edit_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def first(value):
    return next(iter(value.values()))


SWEEP = f"sensors/lidar/{TIME}.feather"
POSES = "city_SE3_egovehicle.feather"
MAP = "map/log_map_archive_log-a____SIM.json"
HEIGHT = "map/log-a_ground_height_surface____SIM.npy"
SIM2 = "map/log-a___img_Sim2_city.json"
FRAME = "aerial/orthophoto.json"


def lane_change(key, value):
    return lambda p: edit_json(p, lambda m: first(m["lane_segments"]).__setitem__(key, value))


def set_at(column, value, row=0):
    def change(columns):
        columns[column][row] = value

    return lambda p: edit_table(p, change)


BROKEN = [
    ("sweep", SWEEP, lambda p: p.unlink(), "file: not found"),
    ("sweep", SWEEP, lambda p: p.write_bytes(b"not a table"), "unreadable"),
    ("sweep", SWEEP, lambda p: edit_table(p, lambda c: c.pop("z")), "column z: missing"),
    (
        "sweep",
        SWEEP,
        lambda p: edit_table(p, lambda c: c.update(x=c["x"].astype("i4"))),
        "column x",
    ),
    (
        "sweep",
        SWEEP,
        lambda p: edit_table(p, lambda c: c.update(intensity=c["intensity"].astype("f4"))),
        "column intensity: dtype float; expected uint8",
    ),
    ("sweep", SWEEP, set_at("y", np.nan, 4), "1 non-finite, first in row 4"),
    (
        "sweep",
        SWEEP,
        lambda p: edit_table(p, lambda c: c.update({k: v[:0] for k, v in c.items()})),
        "rows: 0 rows",
    ),
    ("poses", POSES, lambda p: p.unlink(), "file: not found"),
    ("poses", POSES, lambda p: edit_table(p, lambda c: c.pop("qw")), "column qw: missing"),
    ("poses", POSES, set_at("ty_m", np.nan, 2), "column ty_m: 1 non-finite, first in row 2"),
    ("poses", POSES, set_at("qx", 3.0, 1), "unit quaternions"),
    ("poses", POSES, set_at("timestamp_ns", TIME + 10**8), "twice"),
    (
        "poses",
        POSES,
        lambda p: edit_table(p, lambda c: c.update(timestamp_ns=c["qw"])),
        "timestamp_ns: dtype",
    ),
    ("pose_at", POSES, set_at("timestamp_ns", TIME + 7), "no pose at"),
    ("map", MAP, lambda p: p.unlink(), "not found"),
    ("map", MAP, lambda p: p.write_text("{"), "no JSON"),
    (
        "map",
        MAP,
        lambda p: edit_json(p, lambda m: m.pop("drivable_areas")),
        "drivable_areas: missing",
    ),
    ("map", MAP, lane_change("left_lane_boundary", []), "left_lane_boundary: 0 points"),
    ("map", MAP, lane_change("right_lane_mark_type", "PINK"), "right_lane_mark_type: 'PINK'"),
    ("map", MAP, lane_change("is_intersection", "no"), "is_intersection: 'no'; expected bool"),
    ("map", MAP, lane_change("left_lane_boundary", [{"x": 1, "y": 2}] * 3), "bad point"),
    ("height", HEIGHT, lambda p: np.save(p, np.zeros((2, 3, 4), np.float16)), "array"),
    ("height", HEIGHT, lambda p: np.save(p, np.full((2, 3), np.nan, np.float16)), "no finite"),
    ("height", HEIGHT, lambda p: np.save(p, np.array([{}]), allow_pickle=True), "unreadable"),
    ("height", SIM2, lambda p: edit_json(p, lambda m: m.update(s=0)), "s: 0"),
    ("height", SIM2, lambda p: edit_json(p, lambda m: m.update(t=[1.0])), "t[1]: None"),
    ("photo", FRAME, lambda p: edit_json(p, lambda m: m.pop("x_min_m")), "x_min_m: None"),
    ("photo", FRAME, lambda p: edit_json(p, lambda m: m.update(cell_size_m=-1)), "cell_size_m"),
    ("photo", "aerial/orthophoto.png", lambda p: p.write_bytes(b"x"), "unreadable"),
]


@pytest.mark.parametrize(("reader", "name", "spoil", "message"), BROKEN)
def test_malformed_input_names_file_and_field(tmp_path, rng, reader, name, spoil, message):
    log, *_ = make_log(tmp_path, rng)
    read = {
        "sweep": lambda: av2.read_sweep(log / SWEEP),
        "poses": lambda: av2.read_poses(log),
        "pose_at": lambda: av2.pose_at(log, TIME),
        "map": lambda: av2.read_vector_map(log),
        "height": lambda: av2.read_ground_height(log),
        "photo": lambda: av2.read_orthophoto(log),
    }[reader]
    read()  # whole before it is spoilt
    spoil(log / name)
    with pytest.raises(DataError) as caught:
        read()
    assert message in str(caught.value)
    stem = name.split("/")[-1].split("____")[0].removesuffix(".json").removesuffix(".npy")
    assert stem.split("_archive")[0] in str(caught.value) or "*" in caught.value.file
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_empty_folders(tmp_path):
    with pytest.raises(DataError, match="logs: none"):
        av2.list_logs(tmp_path)
    with pytest.raises(DataError, match="not found"):
        av2.list_logs(tmp_path / "nowhere")
    with pytest.raises(DataError, match="sweeps: none"):
        av2.list_sweeps(tmp_path)
    with pytest.raises(DataError, match="file name"):
        av2.sweep_timestamp("latest.feather")


@pytest.mark.real
def test_real_log(data_dir):
    log = data_dir("av2_adcf7d18")
    (path,) = av2.list_sweeps(log)
    sweep = av2.read_sweep(path)
    assert len(sweep) == 100_660 and sweep.xyz.dtype == np.float32
    poses = av2.read_poses(log)
    assert poses[1].shape == (2637, 4, 4)
    pose = av2.pose_at(log, av2.sweep_timestamp(path), poses)
    np.testing.assert_allclose(pose[:3, 3], [1468.872, 211.512, 13.137], atol=1e-3)
    # w first: the car heads along its own motion (some 20 degrees from city x).
    step = poses[1][-1, :2, 3] - poses[1][0, :2, 3]
    assert np.dot(pose[:2, 0], step / np.linalg.norm(step)) > 0.99
    vector_map = av2.read_vector_map(log)
    assert len(vector_map.lane_segments) == 199
    assert len(vector_map.drivable_areas) == 8 and len(vector_map.crossings) == 11
    assert sum(lane.left_mark_type != "NONE" for lane in vector_map.lane_segments) == 123
    ground = av2.read_ground_height(log)
    assert ground.height.shape == (715, 794)
    # The ego frame's origin is the rear axle, a wheel's radius above the road.
    assert 0.2 < pose[2, 3] - ground.at(pose[:2, 3]) < 0.5


@pytest.mark.real
def test_real_log_survives_a_rewrite(data_dir, tmp_path):
    log = data_dir("av2_adcf7d18")
    (path,) = av2.list_sweeps(log)
    sweep = av2.read_sweep(path)
    av2.write_sweep(tmp_path / path.name, sweep)
    np.testing.assert_array_equal(av2.read_sweep(tmp_path / path.name).xyz, sweep.xyz)
    times, poses = av2.read_poses(log)
    av2.write_poses(tmp_path, times, poses)
    np.testing.assert_allclose(av2.read_poses(tmp_path)[1], poses, atol=1e-9)
    original = av2.read_vector_map(log)
    av2.write_vector_map(tmp_path, original)
    for a, b in zip(
        av2.read_vector_map(tmp_path).lane_segments, original.lane_segments, strict=True
    ):
        np.testing.assert_array_equal(a.left, b.left)
