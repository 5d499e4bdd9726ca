"""Cameras and boxes of Argoverse 2 logs: round trips, every malformed input, and the real boxes."""

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from scipy.spatial.transform import Rotation

from posejax.data import av2
from posejax.data.cameras import Camera
from posejax.data.errors import DataError
from posejax.data.feather import FeatherTable

TIME = 315970000000000000
INTRINSICS = "calibration/intrinsics.feather"
POSES = "calibration/egovehicle_SE3_sensor.feather"
BOXES = "annotations.feather"


@pytest.fixture
def log(tmp_path, rng):
    """A log with two cameras and three boxes; returns folder, cameras, boxes."""
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, :3, :3] = Rotation.random(3, random_state=1).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(3, 3))
    cameras = {}
    for i, name in enumerate(("ring_front_center", "ring_side_left")):
        size = (2048, 1550) if i == 0 else (1550, 2048)
        k = np.array([[1776.0, 0, size[1] / 2], [0, 1777.0, size[0] / 2 + 3], [0, 0, 1]])
        cameras[name] = av2.RigCamera(name, Camera(k, size), poses[i])
    boxes = av2.Annotations(
        timestamp_ns=TIME + np.array([0, 0, 10**8]),
        track=np.array(["a", "b", "a"], object),
        category=np.array(["BUS", "PEDESTRIAN", "BUS"], object),
        size=rng.uniform(0.5, 12, (3, 3)),
        ego_from_box=poses,
        points=np.array([5, 0, 7]),
    )
    av2.write_cameras(tmp_path, cameras)
    av2.write_annotations(tmp_path, boxes)
    return tmp_path, cameras, boxes


def test_round_trips(log):
    folder, cameras, boxes = log
    found = av2.read_cameras(folder)
    assert list(found) == list(cameras)
    for name, want in cameras.items():
        assert found[name].camera.size == want.camera.size
        assert found[name].camera.distortion is None
        np.testing.assert_allclose(found[name].camera.intrinsics, want.camera.intrinsics)
        np.testing.assert_allclose(found[name].ego_from_camera, want.ego_from_camera, atol=1e-12)
    back = av2.read_annotations(folder)
    for name, want in vars(boxes).items():
        if name == "ego_from_box":
            np.testing.assert_allclose(back.ego_from_box, want, atol=1e-12)
        else:
            np.testing.assert_array_equal(getattr(back, name), want)
    assert len(back.at(TIME)) == 2 and back.at(TIME + 10**8).track.tolist() == ["a"]
    assert len(back.at(TIME + 1)) == 0


def test_principal_points_count_from_the_corner(log):
    folder, cameras, _ = log
    stored = feather.read_table(folder / INTRINSICS).to_pydict()
    assert stored["cx_px"][0] == cameras["ring_front_center"].camera.intrinsics[0, 2] - 0.5
    lens = Camera(np.eye(3), (4, 4), np.zeros(5))
    with pytest.raises(ValueError, match="undistorted"):
        av2.write_cameras(folder, {"a": av2.RigCamera("a", lens, np.eye(4))})


def test_images_in_time_order(tmp_path):
    folder = tmp_path / "sensors/cameras/ring_rear_left"
    folder.mkdir(parents=True)
    with pytest.raises(DataError, match="images: none"):
        av2.list_images(tmp_path, "ring_rear_left")
    for time in (20, 3):
        (folder / f"{time}.jpg").touch()
    assert [time for time, _ in av2.list_images(tmp_path, "ring_rear_left")] == [3, 20]
    for name in ("latest", "\u0663", "9" * 30):
        (folder / f"{name}.jpg").touch()
        with pytest.raises(DataError, match="file name"):
            av2.list_images(tmp_path, "ring_rear_left")
        (folder / f"{name}.jpg").unlink()


def change(path, **columns):
    table = feather.read_table(path).to_pydict()
    table = {k: v for k, v in {**table, **columns}.items() if v is not None}
    feather.write_feather(pa.table(table), str(path))


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        (INTRINSICS, {"fx_px": None}, r"intrinsics.feather: column fx_px: missing"),
        (INTRINSICS, {"fx_px": [0.0, 1.0]}, r"fx_px, fy_px: \[0.0, 1777.0\] in row 0; .*positive"),
        (INTRINSICS, {"cx_px": [np.nan, 1.0]}, "column cx_px: 1 non-finite, first in row 0"),
        (INTRINSICS, {"width_px": [-1, 5]}, "height_px, width_px"),
        (INTRINSICS, {"width_px": [1.5, 5.0]}, "column width_px: dtype double; expected integer"),
        (INTRINSICS, {"width_px": [1 << 40, 5]}, "height_px, width_px: 1099511627776"),
        (INTRINSICS, {"sensor_name": ["a", "a"]}, "column sensor_name: 'a' twice"),
        (INTRINSICS, {"sensor_name": ["a", "b"]}, "sensor_name: 'a' has no pose.*ring_side_left"),
        (INTRINSICS, {"sensor_name": [1, 2]}, "sensor_name: dtype int64; expected string"),
        (INTRINSICS, {"sensor_name": ["a", None]}, "sensor_name: 1 nulls"),
        (POSES, {"qw": [2.0, 2.0]}, "egovehicle_SE3_sensor.*unit quaternions, w first"),
        (POSES, {"tx_m": [np.inf, 2.0]}, "column tx_m: 1 non-finite"),
        (BOXES, {"category": None}, "annotations.feather: column category: missing"),
        (BOXES, {"width_m": [1.0, 0.0, 1.0]}, "length_m, width_m, height_m: .* in row 1"),
        (BOXES, {"num_interior_pts": [1, 2, -3]}, "num_interior_pts: -3"),
        (BOXES, {"timestamp_ns": [1.0, 2.0, 3.0]}, "timestamp_ns: dtype double; expected int64"),
    ],
)
def test_malformed_tables_are_named(log, name, columns, message):
    folder, _, _ = log
    change(folder / name, **columns)
    with pytest.raises(DataError, match=message):
        av2.read_annotations(folder) if name == BOXES else av2.read_cameras(folder)


def test_files_that_are_no_tables(log):
    folder, _, _ = log
    raw = (folder / BOXES).read_bytes()
    for damaged in (b"", b"FEA1" + bytes(40), raw[:-20], raw[:400]):
        (folder / BOXES).write_bytes(damaged)
        with pytest.raises(DataError, match=r"annotations\.feather: file: unreadable"):
            av2.read_annotations(folder)
    (folder / POSES).unlink()
    with pytest.raises(DataError, match=r"egovehicle_SE3_sensor\.feather: file: not found"):
        av2.read_cameras(folder)


@pytest.mark.real
def test_real_boxes_hold_the_points_they_claim(data_dir):
    """Counting the sweep's points in every box gives the file's own counts, which settles frames,
    quaternions, sizes and the box's centre at once."""
    log = data_dir("av2_adcf7d18")
    (path,) = av2.list_sweeps(log)
    boxes = av2.read_annotations(log)
    assert len(boxes) == 12_078 and {"BOLLARD", "PEDESTRIAN"} < set(boxes.category)
    now = boxes.at(av2.sweep_timestamp(path))
    xyz = av2.read_sweep(path).xyz
    counts = [
        np.count_nonzero((np.abs((xyz - pose[:3, 3]) @ pose[:3, :3]) <= size / 2).all(axis=1))
        for pose, size in zip(now.ego_from_box, now.size, strict=True)
    ]
    assert len(counts) == 47
    np.testing.assert_array_equal(counts, now.points)


def test_what_a_compressed_column_claims_is_compared_with_its_bytes(tmp_path):
    """Arrow asks for the memory of the claim; only a machine without so much would notice."""
    path = tmp_path / "a.feather"
    feather.write_feather(pa.table({"x": np.zeros(20_000)}), str(path), compression="lz4")
    raw = path.read_bytes()
    at = raw.index((20_000 * 8).to_bytes(8, "little"))  # before the compressed bytes
    for claim in (1 << 34, 1 << 62, -2):
        path.write_bytes(raw[:at] + claim.to_bytes(8, "little", signed=True) + raw[at + 8 :])
        with pytest.raises(DataError, match=rf"file: unreadable .*a buffer of {claim} bytes in"):
            FeatherTable(path)


@pytest.mark.parametrize("compression", ["lz4", "zstd", "uncompressed"])
def test_tables_of_every_compression(tmp_path, compression):
    path, want = tmp_path / "a.feather", np.arange(5e4) // 999
    feather.write_feather(
        pa.table({"x": want, "n": ["a"] * 50_000}),
        str(path),
        compression=compression,
        chunksize=999,
    )
    np.testing.assert_array_equal(FeatherTable(path).column("x", "floating"), want)
