"""The readers on real recordings; known numbers are those of the data sets' own descriptions."""

import time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.data.errors import DataError
from posejax.data.event_files import (
    SparkFile,
    audit,
    read_calibration,
    read_evt,
    read_pose_table,
    read_recording,
    read_spades_labels,
    read_spark,
    write_evt,
    write_rpg,
    write_spark,
)

pytestmark = pytest.mark.real


def test_every_event_of_a_real_evt3_file(data_dir):
    folder = data_dir("prophesee_evt3")
    start = time.perf_counter()
    got = read_evt(folder / "evt3_sample.raw")
    assert time.perf_counter() - start < 1
    compatible = read_evt(folder / "evt3_sample.raw", compat="expelliarmus")
    with np.load(folder / "evt3_truth.npz") as truth:
        for key in "xytp":
            np.testing.assert_array_equal(getattr(compatible, key), truth[key], err_msg=key)
            if key != "t":
                np.testing.assert_array_equal(getattr(got, key), truth[key], err_msg=key)
        jumps = np.diff(truth["t"] - got.t)
    assert len(got) == 219_596 and got.sensor_size == (720, 1280)
    # The published times jump by 4097 us at 11 places (2 wraps, 9 time markers sent ahead); the
    # camera's clock does not: it counts every microsecond of this recording.
    assert np.unique(np.diff(got.t)).tolist() == [0, 1]
    assert jumps[jumps != 0].tolist() == [4096] * 11


@pytest.mark.parametrize("version", [2, 3])
def test_a_real_recording_round_trips_through_evt(data_dir, tmp_path, same, version):
    recording = read_evt(data_dir("prophesee_evt3") / "evt3_sample.raw")
    write_evt(tmp_path / "a.raw", recording, version=version)
    same(read_evt(tmp_path / "a.raw"), recording)


def test_spades(data_dir, tmp_path, same):
    folder = data_dir("spades_rt002")
    recording = read_recording(folder / "RT002_reconstructed.h5")
    assert len(recording) == 1_241_416 and recording.sensor_size == (240, 240)
    assert recording.tick_seconds == 1e-4 and len(recording.labels) == 61
    labels = read_spades_labels(folder / "labels.csv")
    assert len(labels) == 480
    np.testing.assert_allclose(labels.translation[:61], recording.labels.translation, atol=1e-12)
    np.testing.assert_allclose(labels.t_seconds[:61], recording.labels.t_seconds, atol=1e-12)
    report = audit(recording)
    assert report.inferred_tick == pytest.approx(1.001e-4, rel=0.02)
    assert report.window_counts.min() >= 14_713 and report.window_counts.max() <= 22_155
    assert [f.topic for f in report.findings] == ["polarity"]
    lazy = SparkFile(folder / "RT002_reconstructed.h5")
    np.testing.assert_array_equal(lazy.counts(recording.labels.t_seconds), report.window_counts)
    write_spark(tmp_path / "RT002_reconstructed.h5", recording)
    same(read_spark(tmp_path / "RT002_reconstructed.h5"), recording, atol=1e-15)


def test_spades_taken_for_microseconds(data_dir):
    path = data_dir("spades_rt002") / "RT002_reconstructed.h5"
    with pytest.raises(DataError, match=r"a tick of 1e-06 s, but 0\.0001 s .*100 times apart"):
        read_spark(path, tick_seconds=1e-6)


def test_the_slider(data_dir, tmp_path, same):
    folder = data_dir("slider_depth")
    recording = read_recording(
        folder / "events_chunk.txt", sensor_size=(180, 240), labels=folder / "groundtruth.txt"
    )
    assert len(recording) == 50_000 and len(recording.labels) == 339
    assert recording.t[[0, -1]].tolist() == [3811, 174_156]
    assert recording.p.mean() == pytest.approx(0.42, abs=0.005)
    world = recording.labels.inverse()
    inside = (world.t_seconds >= recording.t_seconds()[0]) & (
        world.t_seconds <= recording.t_seconds()[-1]
    )
    assert inside.sum() == 16
    moved = np.diff(world.translation[inside][[0, -1]], axis=0)[0]
    np.testing.assert_allclose(moved, [0.04475, 0, 0], atol=5e-5)
    calibration = read_calibration(folder / "calib.txt")
    assert calibration.K[0, 2] == pytest.approx(129.924663379 + 0.5)
    report = audit(recording)
    assert report.rate == pytest.approx(293.5e3, rel=1e-3)
    assert {f.topic for f in report.findings} >= {"labels", "empty windows"}
    write_rpg(tmp_path, recording)
    back = read_recording(
        tmp_path / "events.txt", sensor_size=(180, 240), labels=tmp_path / "groundtruth.txt"
    )
    same(back, recording, atol=1e-12)


def test_a_trajectory_in_nanoseconds(data_dir):
    path = data_dir("trajectory_poster_6dof") / "poster_6dof.csv"
    with pytest.raises(DataError, match="pass time_unit"):
        read_pose_table(path)
    track = read_pose_table(path, meaning="body_from_camera", time_unit=1e-9)
    assert len(track) == 11_610 and track.t_seconds[-1] == pytest.approx(59.83, abs=0.005)
    world = track.inverse()
    steps = np.linalg.norm(np.diff(world.translation, axis=0), axis=1)
    assert steps.sum() == pytest.approx(61.1, abs=0.05)
    turns = Rotation.from_quat(world.quat_xyzw)
    angles = (turns[:-1].inv() * turns[1:]).magnitude()
    assert np.rad2deg(angles.max()) == pytest.approx(16.9, abs=0.05)
