"""Independent windows: what a sequence shows at an instant, kept apart from its neighbours."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.data.event_files.spark import read_spark
from posejax.sim import spacecraft_windows
from posejax.sim.event_camera import EventSensor, brief_noise_events, noise_events
from posejax.sim.space_views import SpaceCamera
from posejax.sim.spacecraft import spacecraft_wireframe
from posejax.sim.spacecraft_sequences import SpacecraftSettings
from posejax.sim.spacecraft_windows import (
    WindowSettings,
    ensure_windows,
    join_clips,
    read_clips,
    simulate_window,
)

SMALL = WindowSettings(
    SpacecraftSettings(
        duration_s=2.0,
        camera=SpaceCamera((180, 320), 314.65, (160.0, 90.0)),
        sensor=EventSensor(size=(180, 320), noise_rate_hz=1e-4, hot_pixels=0),
    ),
    per_file=4,
)


@pytest.fixture(scope="module")
def clips():
    return [simulate_window(SMALL, "train", k) for k in range(4)]


def test_events_lie_where_the_pose_says(clips):
    points, _ = spacecraft_wireframe()
    for clip in clips:
        pose = clip.pose
        pixel = SMALL.sequence.camera.project(points @ pose[:3, :3].T + pose[:3, 3])
        events = np.stack([clip.events.x, clip.events.y], 1) + 0.5
        inside = ((events >= pixel.min(0) - 4) & (events <= pixel.max(0) + 4)).all(1)
        assert len(events) > 20 and inside.mean() > 0.97
        assert clip.events.t.min() >= 0 and clip.events.t.max() < 0.1
        assert clip.info["events"] == len(events)


def test_every_clip_has_its_own_motion_and_sun(clips):
    poses = np.stack([clip.pose for clip in clips])
    suns = np.array([clip.info["sun"] for clip in clips])
    for a, b in ((0, 1), (0, 2), (1, 3)):
        assert np.abs(poses[a] - poses[b]).max() > 0.1
        assert np.abs(suns[a] - suns[b]).max() > 0.01
    phase = np.rad2deg(np.arccos(-suns[:, 2]))
    low, high = np.array(SMALL.sequence.sun_phase_deg)[
        [clip.info["light"] + np.arange(2) for clip in clips]
    ].T
    assert ((phase >= low) & (phase <= high)).all()
    assert [clip.info["light"] for clip in clips] == [0, 1, 2, 3]


def test_velocity_leads_from_the_query_to_the_end_of_the_clip(clips):
    # The same motion, 0.1 s later at both ends: the query is the end of the clip before.
    late = dataclasses.replace(SMALL, clip_s=(0.1, 0.0))
    for k, clip in enumerate(clips[:2]):
        end = simulate_window(late, "train", k).pose
        v, w = np.split(np.array(clip.info["velocity"]), 2)
        np.testing.assert_allclose(clip.pose[:3, 3] + 0.1 * v, end[:3, 3], atol=1e-12)
        turned = Rotation.from_rotvec(0.1 * w).as_matrix() @ clip.pose[:3, :3]
        np.testing.assert_allclose(turned, end[:3, :3], atol=1e-12)
        assert 0.5 < np.rad2deg(np.linalg.norm(w)) < 5


def test_the_same_seed_gives_the_same_bits(clips):
    again = simulate_window(SMALL, "train", 2)
    for a, b in zip(clips[2].events, again.events, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(clips[2].pose, again.pose)
    other = simulate_window(SMALL, "val", 2)
    assert np.abs(other.pose - clips[2].pose).max() > 0.05


def test_files_hold_clips_one_after_another(tmp_path, monkeypatch):
    made = []
    make = spacecraft_windows.simulate_window

    def counted(settings, split, number):
        made.append(number)
        return make(settings, split, number)

    monkeypatch.setattr(spacecraft_windows, "simulate_window", counted)
    ensure = lambda count: ensure_windows(tmp_path, SMALL, "train", count, workers=1, quiet=True)  # noqa: E731
    (first,) = ensure(3)
    assert made == [0, 1, 2, 3]
    paths = ensure(5)
    assert made == list(range(8)) and paths[0] == first
    assert ensure(8) == paths and made == list(range(8))

    table, recording = read_clips(first), read_spark(first)
    clip = make(SMALL, "train", 2)
    part = recording.window(0.2, 0.3)
    assert table.events[2] == len(part) == len(clip.events.t)
    assert table.events.sum() == len(recording)
    np.testing.assert_array_equal(part.x, clip.events.x)
    np.testing.assert_array_equal(part.t, 2000 + np.floor(clip.events.t * 1e4 + 1e-9))
    labels = recording.labels
    assert labels is not None and labels.clip == (0.0, 0.1)
    np.testing.assert_allclose(labels.t_seconds, [0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(labels.translation[2], clip.pose[:3, 3])
    turn = Rotation.from_quat(labels.quat_xyzw[2]).as_matrix()
    np.testing.assert_allclose(turn, clip.pose[:3, :3], atol=1e-12)


def test_clips_of_another_length_keep_their_distance(clips):
    settings = dataclasses.replace(SMALL, clip_s=(0.12, 0.03003))
    recording = join_clips(settings, clips, "longer")
    assert recording.labels is not None
    instants = recording.labels.t_seconds
    np.testing.assert_allclose(np.diff(instants), 0.1501)
    np.testing.assert_allclose(instants[0], 0.12)
    assert (np.diff(recording.t) >= 0).all()


def test_brief_noise_is_that_of_a_long_recording(rng):
    sensor = EventSensor(size=(60, 80), noise_rate_hz=0.02, hot_pixels=2, hot_rate_hz=50.0)
    brief, long = (
        np.array([
            (len(e.t), e.p.mean(), e.x.mean(), e.t.mean(), np.bincount(e.y * 80 + e.x).max())
            for e in (make(rng, sensor, 0.5) for _ in range(200))
        ])
        for make in (brief_noise_events, noise_events)
    )  # fmt: skip
    spread = np.sqrt((brief.var(0) + long.var(0)) / 200)
    assert (np.abs(brief.mean(0) - long.mean(0)) < 4 * spread).all()
    np.testing.assert_allclose(brief.std(0), long.std(0), rtol=0.35)


def test_wrong_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="split"):
        ensure_windows(tmp_path, SMALL, "all", 1)
    with pytest.raises(ValueError, match="at least 1"):
        ensure_windows(tmp_path, SMALL, "val", 0)
