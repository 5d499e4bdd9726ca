"""Conditions of windows, from labels and from clips, against a motion that is known."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.data.event_files import EventRecording, PoseTrack, SparkFile, write_spark
from posejax.systems.eventpose.conditions import LABELS, conditions_of, record_conditions
from posejax.systems.eventpose.failures import errors_by_condition, table
from posejax.systems.eventpose.summary import PoseErrors
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


def test_conditions_of_records_are_those_of_their_source(tmp_path):
    source = WindowSource([write(tmp_path)], WindowRule(), [2.0])
    track, count = source.files[0].labels, len(source)
    expected = record_conditions(source, FOCAL)
    records = {
        "sequence": np.zeros(count, int), "time": track.t_seconds[:count],
        "translation": track.translation[:count], "quat_xyzw": track.quat_xyzw[:count],
        "events": expected["events"], "light": np.full(count, 2.0),
    }  # fmt: skip
    order = np.array([3, 0, 4, 1, 2])  # evaluations may mix them
    found = conditions_of({k: v[order] for k, v in records.items()}, FOCAL)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values[order], atol=1e-6, err_msg=name)
    alone = conditions_of({**records, "sequence": np.arange(count)}, FOCAL)
    assert np.isnan(alone["speed_px"]).all() and np.isfinite(alone["range_m"]).all()


def test_a_table_tells_which_windows_fail_and_what_training_has_seen(rng):
    """Dim windows fail, as training hardly has any; what fails is made good over time."""
    n = 200
    light = np.repeat([0.0, 1.0, 2.0, 3.0], n // 4)
    zero, dim = np.zeros(n), light == 3
    single = PoseErrors(zero, zero, np.where(dim, 100.0, 5.0), zero + 0.1, zero)
    later = single._replace(rotation=zero + 4)
    names = dict.fromkeys(LABELS, np.full(n, np.nan))
    train = {**names, "light": np.repeat([0.0, 1.0, 2.0, 3.0], [30, 30, 39, 1])}
    found = errors_by_condition(
        {"single": single, "over time": later}, {**names, "light": light},
        np.arange(n) // 10, train,
    )  # fmt: skip
    rows = {c.name: c.rows("windows") for c in found}
    assert not any(rows[k] for k in LABELS if k != "light")
    last = rows["light"][-1]
    assert last["rotation error of single (deg)"] > 50 and last["> 90 deg"] > 0.4
    assert last["over time: rotation deg"] == 4 and last["over time: > 90 deg"] == 0
    assert last["95 % interval"][0] <= last["rotation error of single (deg)"]
    assert sum(r["of the windows"] for r in rows["light"]) == 1
    assert sum(r["of training"] for r in rows["light"]) == 1
    assert rows["light"][0]["of training"] == 0.3
    text = table(found)
    assert text.count("\n") == 1 + len(rows["light"]) and "30.0 %" in text


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
