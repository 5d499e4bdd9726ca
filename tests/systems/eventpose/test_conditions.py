"""Conditions of windows, from labels and from clips, against a motion that is known."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.data.event_files import EventRecording, PoseTrack, SparkFile, write_spark
from posejax.systems.eventpose.conditions import record_conditions
from posejax.systems.eventpose.windows import WindowRule, WindowSource

FOCAL = 1000.0
VELOCITY = np.array([0.2, 0.1, 0.0, 0.02, 0.0, -0.03])  # m/s, rad/s, camera frame


def write(folder, clip=None):
    t = np.arange(6) / 10
    turn = Rotation.from_rotvec(t[:, None] * VELOCITY[3:])
    labels = PoseTrack(t, [0.5, 0.0, 5.0] + t[:, None] * VELOCITY[:3], turn.as_quat(), clip=clip)
    ticks = np.repeat(1000 * np.arange(6), np.arange(6) + 1)  # k + 1 events at label k
    zero = np.zeros(len(ticks), int)
    path = folder / "a.h5"
    write_spark(path, EventRecording(zero, zero, ticks, zero, 1e-4, (720, 1280), labels))
    return SparkFile(path)


@pytest.mark.parametrize("clips", [False, True])
def test_conditions_are_those_of_the_motion(tmp_path, clips):
    file = write(tmp_path, (0.0, 0.1) if clips else None)
    if clips:
        columns = dict.fromkeys(("light", "helix", "sun", "frames", "events"), [0] * 6)
        table = {**columns, "velocity": np.tile(VELOCITY, (6, 1)).tolist()}
        file.path.with_suffix(".json").write_text(json.dumps(table))
    found = record_conditions(WindowSource([file], WindowRule(), [2.0]), FOCAL)
    count = 6 if clips else 5
    assert {len(values) for values in found.values()} == {count}
    np.testing.assert_array_equal(found["events"], np.arange(count) + 1)
    np.testing.assert_array_equal(found["light"], 2.0)
    np.testing.assert_allclose(found["speed_px"], FOCAL * np.hypot(0.2, 0.1) / 5)
    np.testing.assert_allclose(found["direction_deg"], np.rad2deg(np.arctan2(0.1, 0.2)))
    np.testing.assert_allclose(found["along_wings_deg"][0], np.rad2deg(np.arctan2(0.1, 0.2)))
    np.testing.assert_allclose(found["roll_deg"], np.rad2deg(-0.03))
    np.testing.assert_allclose(found["tumble_deg"], np.rad2deg(0.02))
    np.testing.assert_allclose(found["range_m"][0], np.hypot(0.5, 5.0))


def test_what_flies_straight_away_from_the_middle_does_not_move_in_the_picture(tmp_path):
    labels = PoseTrack(
        np.arange(3) / 10, [[0, 0, 5.0], [0, 0, 5.1], [0, 0, 5.2]], np.tile([0, 0, 0, 1.0], (3, 1))
    )
    zero = np.zeros(1, int)
    path = tmp_path / "a.h5"
    write_spark(path, EventRecording(zero, zero, zero, zero, 1e-4, (720, 1280), labels))
    found = record_conditions(WindowSource([SparkFile(path)], WindowRule()), FOCAL)
    assert (found["speed_px"] < 1e-9).all() and np.isfinite(found["along_wings_deg"]).all()
    assert np.isnan(found["light"]).all()
