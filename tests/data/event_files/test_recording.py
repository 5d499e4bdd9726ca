"""A recording that exists is valid: conversions, refusals with field and row, windows."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.data.errors import DataError
from posejax.data.event_files import EventRecording, PoseTrack
from posejax.data.event_files.recording import Fields, first_tick, ticks_to

COLUMNS = [1, 2, 3], [4, 5, 6], [10, 10, 30], [0, 1, 1]


def build(**changes) -> EventRecording:
    columns = {
        key: np.array(changes.pop(key, old)) for key, old in zip("xytp", COLUMNS, strict=True)
    }
    return EventRecording(**{"tick_seconds": 1e-6, "sensor_size": (8, 8), **columns, **changes})


def test_columns_are_converted():
    r = build(p=[-1, 1, -1])
    assert r.p.tolist() == [0, 1, 0]
    assert [getattr(r, k).dtype for k in "xytp"] == [np.uint16, np.uint16, np.int64, np.uint8]
    assert build(p=[True, False, True]).p.tolist() == [1, 0, 1]
    assert build(p=[1, 1, 1]).p.tolist() == [1, 1, 1]
    assert build(p=[-1, -1, -1]).p.tolist() == [0, 0, 0]


def test_no_events_are_a_recording():
    none = np.zeros(0, np.int64)
    r = build(x=none, y=none, t=none, p=none)
    assert len(r) == 0 and r.duration == 0 and len(r.window(0, 1)) == 0 and len(r.rebased()) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": [1, -2, 3]}, r"cam: x, row 1: -2 \(1 out of range in all\); expected 0 to 7"),
        ({"x": [1, 8, 9]}, r"x, row 1: 8 \(2 out of range.*sensor width"),
        ({"y": [1, 2, 8]}, r"y, row 2: 8"),
        ({"x": np.array([1, 2**63], np.uint64).repeat([2, 1])}, r"x, row 2: 9223372036854775808"),
        ({"x": [1.0, 2.0, 3.0]}, "x: dtype float64; expected an integer"),
        ({"p": ["a", "b", "c"]}, "p: dtype <U1"),
        ({"y": [1, 2]}, r"y: shape \(2,\)"),
        ({"x": [[1, 2, 3]]}, r"x: shape \(1, 3\)"),
        ({"t": [10, 9, 30]}, r"t, row 1: 9 after 10 ticks \(1 steps back"),
        ({"t": [-1, 9, 30]}, r"t, row 0: -1"),
        ({"p": [0, 1, 2]}, r"p, row 2: polarity 2; expected 0 or 1"),
        ({"p": [-1, 0, 1]}, r"p, row 1: polarity 0; expected -1 or 1"),
        ({"p": [-3, 0, 1]}, r"p, row 0: polarity -3"),
        ({"tick_seconds": 0.0}, "tick_seconds: 0.0"),
        ({"tick_seconds": np.nan}, "tick_seconds: nan"),
        ({"sensor_size": (0, 8)}, r"sensor_size: \(0, 8\)"),
        ({"sensor_size": (8, 8, 3)}, "sensor_size"),
        ({"sensor_size": (8, 99999)}, "sensor_size"),
    ],
)
def test_refused(changes, message):
    with pytest.raises(DataError, match=message):
        build(name="cam", **changes)


def test_errors_speak_the_language_of_the_file():
    fields = Fields("events/xs", row="line", first=7)
    with pytest.raises(DataError, match=r"a\.csv: events/xs, line 8: 9"):
        build(path="a.csv", x=[1, 9, 3], fields=fields)


def test_windows_hold_their_start_and_not_their_end():
    r = build(t=[2999, 3000, 6000], tick_seconds=1e-4)
    start = 0.1 + 0.2
    assert start / 1e-4 > 3000  # in floating point, the instant seems to lie behind its own tick
    assert r.window(start, 0.6).t.tolist() == [3000]
    assert r.window(0.3, 0.60001).t.tolist() == [3000, 6000]
    assert len(r.window(0.6, 0.3)) == 0
    assert first_tick(np.array([0.0, 0.00005, 1e300, -1e300]), 1e-4).tolist()[:2] == [0, 1]


def test_times_in_other_units():
    assert ticks_to(np.array([3]), 1e-4, 1e-6).tolist() == [300]
    assert ticks_to(np.array([399, 400]), 1e-6, 1e-4).tolist() == [3, 4]
    assert ticks_to(np.array([10]), 1e-6, 3e-6).tolist() == [3]
    assert ticks_to(np.array([10]), 3e-6, 2e-6).tolist() == [15]
    big = 2**53 + 1  # exact where floating point is not
    assert ticks_to(np.array([big]), 1e-4, 1e-6).tolist() == [big * 100]


def test_rebasing_keeps_labels_and_events_together():
    labels = PoseTrack(np.array([0.0, 1e-5]), np.zeros((2, 3)), np.tile([0, 0, 0, 1.0], (2, 1)))
    r = build(labels=labels).rebased()
    assert r.t.tolist() == [0, 0, 20] and r.clock_offset == 10
    np.testing.assert_allclose(r.labels.t_seconds, [-1e-5, 0], atol=1e-15)
    assert r.rebased().clock_offset == 10


def test_inverse_of_a_track(rng):
    quat = Rotation.random(5, rng=0).as_quat()
    track = PoseTrack(np.arange(5), rng.normal(size=(5, 3)), quat)
    inverse = track.inverse()
    points = rng.normal(size=(5, 3))
    there = Rotation.from_quat(track.quat_xyzw).apply(points) + track.translation
    back = Rotation.from_quat(inverse.quat_xyzw).apply(there) + inverse.translation
    np.testing.assert_allclose(back, points, atol=1e-14)
    np.testing.assert_allclose(inverse.inverse().translation, track.translation, atol=1e-14)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t_seconds": [0, 1, 1]}, "label 2: time: 1.0 s after 1.0 s"),
        ({"t_seconds": [0, np.nan, 1]}, "label 1: t_seconds: nan is not finite"),
        ({"translation": [[0, 0, 1], [0, 0, np.inf], [0, 0, 1]]}, "label 1: translation"),
        ({"translation": [[0, 0], [0, 0], [0, 0]]}, r"translation: shape \(3, 2\)"),
        ({"quat_xyzw": [[0, 0, 0, 1], [0, 0, 0, 1.01], [0, 0, 0, 1]]}, "label 1: quat.*1.01"),
        ({"quat_xyzw": [[0, 0, 0, 0]] * 3}, "label 0: quaternion.*norm 0"),
        ({"quat_xyzw": [[1e300, 0, 0, 1e300]] * 3}, "label 0: quaternion"),
        ({"quat_xyzw": [[0, 0, 0, np.nan]] * 3}, "label 0: quat_xyzw: .*not finite"),
        ({"names": ("a",)}, "names: 1 for 3 poses"),
        ({"t_seconds": ["a", "b", "c"]}, "t_seconds: dtype"),
    ],
)
def test_poses_refused(changes, message):
    values = {
        "t_seconds": [0, 1, 2],
        "translation": np.zeros((3, 3)),
        "quat_xyzw": np.tile([0, 0, 0, 1.0], (3, 1)),
    }
    arrays = {k: v if k == "names" else np.array(v) for k, v in {**values, **changes}.items()}
    with pytest.raises(DataError, match=message):
        PoseTrack(**arrays)


def test_rounded_quaternions_become_unit():
    track = PoseTrack(np.zeros(1), np.zeros((1, 3)), np.array([[0, 0, 0.7071, 0.7071]]))
    np.testing.assert_allclose(np.linalg.norm(track.quat_xyzw), 1, atol=1e-15)
    with pytest.raises(DataError, match="labels: none"):
        PoseTrack(np.zeros(0), np.zeros((0, 3)), np.zeros((0, 4)))


@pytest.mark.parametrize("clip", [(0.0, 0.0), (-0.1, 0.2), (0.1, np.inf), (0.05, 0.06)])
def test_clips_that_cannot_be_are_refused(clip):
    """Nothing around the labels, or clips that would share events."""
    with pytest.raises(DataError, match="clip"):
        PoseTrack(np.arange(3) / 10, np.zeros((3, 3)), np.tile([0, 0, 0, 1.0], (3, 1)), clip=clip)
