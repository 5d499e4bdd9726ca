"""Whole sequences: labels fit the events, equal seeds give equal bits, files are kept."""

import dataclasses
import os

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.data.event_files.spark import read_spark
from posejax.sim import spacecraft_sequences
from posejax.sim.event_camera import EventSensor
from posejax.sim.space_trajectories import random_trajectory
from posejax.sim.space_views import SpaceCamera
from posejax.sim.spacecraft import spacecraft_wireframe
from posejax.sim.spacecraft_sequences import (
    SpacecraftSettings,
    ensure_sequences,
    frame_times,
    read_info,
    simulate_sequence,
)

SMALL = SpacecraftSettings(
    duration_s=1.0,
    camera=SpaceCamera((180, 320), 314.65, (160.0, 90.0)),
    sensor=EventSensor(size=(180, 320), noise_rate_hz=1e-4, hot_pixels=0),
)


@pytest.fixture(scope="module")
def sequence():
    return simulate_sequence(SMALL, "train", 1)


def test_events_lie_where_the_labels_say(sequence):
    recording, info = sequence
    labels = recording.labels
    assert len(labels) == 10 and labels.names[3] == "img003_train_0001.png"
    points, edges = spacecraft_wireframe()
    t = recording.t * recording.tick_seconds
    for k in (2, 7):
        rotation = Rotation.from_quat(labels.quat_xyzw[k]).as_matrix()
        pixel = SMALL.camera.project(points @ rotation.T + labels.translation[k])
        near = np.abs(t - labels.t_seconds[k]) < 0.05
        events = np.stack([recording.x[near], recording.y[near]], 1) + 0.5
        low, high = pixel.min(0) - 4, pixel.max(0) + 4
        inside = ((events >= low) & (events <= high)).all(1)
        assert near.sum() > 50 and inside.mean() > 0.97
        # The lines of the true pose attract the events more than those of a pose beside it.
        ends = pixel[edges]
        beside = ends + np.array([0.0, 8.0])

        def distance(segments, events=events):
            a, b = segments[:, 0], segments[:, 1]
            along = np.clip(
                ((events[:, None] - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1), 0, 1
            )
            return np.linalg.norm(a + along[..., None] * (b - a) - events[:, None], axis=-1).min(1)

        assert np.median(distance(ends)) < np.median(distance(beside))
    assert info.events == len(recording.t)
    assert info.on_share == pytest.approx(recording.p.mean())


def test_the_same_seed_gives_the_same_bits(sequence):
    again, _ = simulate_sequence(SMALL, "train", 1)
    for name in "xytp":
        np.testing.assert_array_equal(getattr(sequence[0], name), getattr(again, name))
    other, _ = simulate_sequence(dataclasses.replace(SMALL, seed=1), "train", 1)
    elsewhere, _ = simulate_sequence(SMALL, "val", 1)
    first = sequence[0].labels.translation
    assert np.abs(first - other.labels.translation).max() > 0.05
    assert np.abs(first - elsewhere.labels.translation).max() > 0.05


def test_frames_keep_the_motion_below_the_limit(rng):
    settings = dataclasses.replace(SMALL, duration_s=20.0, frame_rate=(1.0, 500.0))
    trajectory = random_trajectory(rng, settings.motion, 20.0, settings.camera, False)
    times = frame_times(trajectory, settings)
    assert times[0] == 0.0 and times[-1] == 20.0 and (np.diff(times) > 0).all()
    points, _ = spacecraft_wireframe()
    pose = trajectory.poses(times)
    pixel = settings.camera.project(points @ pose[:, :3, :3].swapaxes(1, 2) + pose[:, None, :3, 3])
    shift = np.linalg.norm(np.diff(pixel, axis=0), axis=-1).max(1)
    assert shift.max() < 1.1 * settings.max_shift
    assert shift.mean() > 0.8 * settings.max_shift


def test_one_more_sequence_makes_only_that_one(tmp_path, monkeypatch):
    made = []
    make = spacecraft_sequences.simulate_sequence

    def counted(settings, split, number):
        made.append((split, number))
        return make(settings, split, number)

    monkeypatch.setattr(spacecraft_sequences, "simulate_sequence", counted)
    ensure = lambda split, count: ensure_sequences(  # noqa: E731
        tmp_path, SMALL, split, count, workers=1, quiet=True
    )
    (first,) = ensure("train", 1)
    stamp = first.stat().st_mtime_ns
    paths = ensure("train", 2)
    assert paths[0] == first and first.stat().st_mtime_ns == stamp
    assert made == [("train", 0), ("train", 1)]
    paths[0].unlink()
    ensure("train", 2)
    ensure("val", 1)
    assert made[2:] == [("train", 0), ("val", 0)]
    recording = read_spark(paths[1])
    expected, info = make(SMALL, "train", 1)
    np.testing.assert_array_equal(recording.x, expected.x)
    np.testing.assert_array_equal(recording.t, expected.t // 100)
    np.testing.assert_allclose(recording.labels.translation, expected.labels.translation)
    assert recording.tick_seconds == 1e-4 and read_info(paths[1]) == info


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    write = spacecraft_sequences.write_spark
    calls = []

    def dying(path, recording):
        calls.append(path.name)
        if len(calls) == 2:
            path.with_name(f".{path.name}.{os.getpid()}.part").write_bytes(b"half")
            raise KeyboardInterrupt
        write(path, recording)

    monkeypatch.setattr(spacecraft_sequences, "write_spark", dying)
    with pytest.raises(KeyboardInterrupt):
        ensure_sequences(tmp_path, SMALL, "test", 3, workers=1, quiet=True)
    paths = ensure_sequences(tmp_path, SMALL, "test", 3, workers=1, quiet=True)
    assert calls == ["test_0000.h5", "test_0001.h5", "test_0001.h5", "test_0002.h5"]
    assert all(len(read_spark(path).t) > 100 for path in paths)


def test_settings_have_their_own_folders(tmp_path):
    short = dataclasses.replace(SMALL, duration_s=0.3)
    other = dataclasses.replace(short, ambient=0.2)
    a, b = (ensure_sequences(tmp_path, s, "val", 1, workers=1, quiet=True) for s in (short, other))
    assert a[0].parent != b[0].parent
    with pytest.raises(ValueError, match="split"):
        ensure_sequences(tmp_path, short, "all", 1)
    with pytest.raises(ValueError, match="at least 1"):
        ensure_sequences(tmp_path, short, "val", 0)


@pytest.mark.slow
def test_processes_make_the_same_files(tmp_path):
    short = dataclasses.replace(SMALL, duration_s=0.3)
    alone, together = (
        ensure_sequences(tmp_path / str(workers), short, "train", 2, workers=workers, quiet=True)
        for workers in (1, 2)
    )
    for a, b in zip(alone, together, strict=True):
        left, right = read_spark(a), read_spark(b)
        for name in "xytp":
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
