"""RPG text, pose tables and SPADES CSV: round trips, and errors with their line."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.data import tables
from posejax.data.errors import DataError
from posejax.data.event_files import (
    read_calibration,
    read_pose_table,
    read_rpg,
    read_spades_csv,
    read_spades_labels,
    write_pose_table,
    write_rpg,
    write_spades_csv,
)

SIZE = (48, 64)


def test_rpg_round_trip(tmp_path, make_recording, same):
    recording = make_recording(tick_seconds=1e-6)
    write_rpg(tmp_path, recording)
    back = read_rpg(
        tmp_path / "events.txt", sensor_size=SIZE, groundtruth=tmp_path / "groundtruth.txt"
    )
    same(recording, back, atol=1e-12)
    assert read_rpg(tmp_path / "events.txt", sensor_size=SIZE).labels is None


def test_rpg_poses_are_of_the_camera_in_the_world(tmp_path, rng):
    turn = Rotation.random(rng=0)
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3], world_from_camera[:3, 3] = turn.as_matrix(), [1, 2, 3]
    (tmp_path / "gt.txt").write_text(
        "# t p q\n0.5 1 2 3 " + " ".join(map(repr, map(float, turn.as_quat())))
    )
    track = read_pose_table(tmp_path / "gt.txt", meaning="body_from_camera")
    camera_from_world = np.linalg.inv(world_from_camera)
    np.testing.assert_allclose(track.translation[0], camera_from_world[:3, 3], atol=1e-14)
    got = Rotation.from_quat(track.quat_xyzw[0]).as_matrix()
    np.testing.assert_allclose(got, camera_from_world[:3, :3], atol=1e-14)
    assert read_pose_table(tmp_path / "gt.txt").translation.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("meaning", ["camera_from_body", "body_from_camera"])
def test_pose_tables_round_trip(tmp_path, recording, meaning):
    write_pose_table(tmp_path / "p.txt", recording.labels, meaning=meaning)
    back = read_pose_table(tmp_path / "p.txt", meaning=meaning)
    np.testing.assert_allclose(back.translation, recording.labels.translation, atol=1e-14)
    np.testing.assert_allclose(back.quat_xyzw, recording.labels.quat_xyzw, atol=1e-14)
    np.testing.assert_array_equal(back.t_seconds, recording.labels.t_seconds)


def test_nanoseconds_are_not_taken_for_seconds(tmp_path):
    lines = [f"{i * 5_000_000}, 0, 0, 0, 0, 0, 0, 1" for i in range(5)]
    (tmp_path / "p.csv").write_text("# timestamp, x, ...\n" + "\n".join(lines))
    with pytest.raises(DataError, match=r"column t: 2e-07 poses/s.*pass time_unit"):
        read_pose_table(tmp_path / "p.csv")
    track = read_pose_table(tmp_path / "p.csv", time_unit=1e-9)
    np.testing.assert_allclose(track.t_seconds, np.arange(5) * 0.005, atol=1e-15)


def test_times_are_rounded_to_the_tick_not_cut(tmp_path):
    (tmp_path / "e.txt").write_text("0.003811000 1 2 0\n0.003819999 1 2 1\r\n1.5e-2\t3   4 1\n\n")
    assert read_rpg(tmp_path / "e.txt", sensor_size=SIZE).t.tolist() == [3811, 3820, 15000]
    fine = read_rpg(tmp_path / "e.txt", sensor_size=SIZE, tick_seconds=1e-9)
    assert fine.t.tolist() == [3811000, 3819999, 15000000]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0.2 1 2", "line 4: 3 words; expected 4: t x y p; is the file cut off"),
        ("0.2 1 2 1 7", "line 4: 5 words"),
        ("0.2 1.5 2 1", r"line 4: x: '1.5'; expected a whole number"),
        ("x 1 2 1", "line 4: t: 'x'; expected a number"),
        ("nan 1 2 1", "line 4: t: nan s; expected finite"),
        ("-0.1 1 2 1", "line 4: t: -0.1 s"),
        ("1e300 1 2 1", "line 4: t: 1e[+]300 s"),
        ("0.05 1 2 1", "t, line 4: 50000 after 100000 ticks"),
        ("0.2 64 2 1", "x, line 4: 64 .*sensor width"),
        ("0.2 1 -2 1", "y, line 4: -2"),
        ("0.2 1 2 2", "p, line 4: polarity 2"),
        ("0.2 1 2 -1", "p, line 2: polarity 0; expected -1 or 1"),
        ("0.2 1 99999999999999999999 1", "line 4: y: '99999999999999999999'"),
        ("0.2 1_0 2 1", "line 4: x: '1_0'"),
        ("", "line 4: 0 words"),
        ("\0\0", "line 4: "),
        ("0.2 1 2 ü", "line 4: "),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    text = f"# t x y p\n0.0 1 2 0\n0.1 1 2 1\n{line}\n0.3 1 2 1\n"
    (tmp_path / "e.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"e\.txt: " + message):
        read_rpg(tmp_path / "e.txt", sensor_size=SIZE)


def test_the_fast_path_takes_regular_text_and_agrees_with_the_exact_one(rng):
    columns = {"t": float, "x": int}
    t, x = rng.uniform(0, 1, 200), rng.integers(-50, 50, 200)
    body = "\n".join(f"{a!r} {b}" for a, b in zip(t.tolist(), x, strict=True)).encode()
    fast = tables._fast(body, columns, " ")
    exact = tables._exact("f", body, columns, " ", 1)
    assert fast is not None
    for key in columns:
        assert fast[key].dtype == exact[key].dtype
        np.testing.assert_array_equal(fast[key], exact[key])


def test_missing_and_empty_text(tmp_path):
    with pytest.raises(DataError, match=r"no\.txt: file: not found"):
        read_rpg(tmp_path / "no.txt", sensor_size=SIZE)
    for text in ("", "# only a comment", "\n\n"):
        (tmp_path / "e.txt").write_text(text)
        with pytest.raises(DataError, match="lines: no numbers"):
            read_rpg(tmp_path / "e.txt", sensor_size=SIZE)


def test_calibration(tmp_path):
    (tmp_path / "calib.txt").write_text("300 310 120 90 0.1 0.2 0.3 0.4 0.5\n")
    K, distortion = read_calibration(tmp_path / "calib.txt")
    assert K.tolist() == [[300, 0, 120.5], [0, 310, 90.5], [0, 0, 1]]
    assert distortion.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    for text in ("0 310 120 90 0 0 0 0 0", "300 310 nan 90 0 0 0 0 0"):
        (tmp_path / "calib.txt").write_text(text)
        with pytest.raises(DataError, match=r"line 1: (fx|cx)"):
            read_calibration(tmp_path / "calib.txt")
    (tmp_path / "calib.txt").write_text("300 310 120 90 0 0 0 0 0\n" * 2)
    with pytest.raises(DataError, match="one line"):
        read_calibration(tmp_path / "calib.txt")


@pytest.fixture
def spades(tmp_path, recording):
    write_spades_csv(tmp_path / "RT000.csv", recording, labels=tmp_path / "labels.csv")
    return tmp_path


def read(folder, **settings):
    return read_spades_csv(
        folder / "RT000.csv", labels=folder / "labels.csv", sensor_size=SIZE, **settings
    )


def test_spades_round_trip(spades, recording, same):
    back = read(spades)
    same(back, recording, atol=1e-15)
    assert back.name == "RT000" and back.labels.names == recording.labels.names
    assert (spades / "labels.csv").read_text().startswith("filename,Tx,Ty,Tz,Qx,Qy,Qz,Qw\n")


def test_the_tick_of_spades_events_follows_from_the_labels(spades, recording):
    for factor, tick in ((100, 1e-6), (1, 1e-4)):
        table = np.stack([recording.t * factor, recording.x, recording.y, recording.p], 1)
        np.savetxt(spades / "RT000.csv", table, "%d", ",")
        assert read(spades).tick_seconds == tick
        assert read_spades_csv(spades / "RT000.csv", n_poses=6).tick_seconds == tick
        with pytest.raises(DataError, match="times apart"):
            read(spades, tick_seconds=1e-4 if factor == 100 else 1e-6)
    with pytest.raises(DataError, match="column t: the time unit is not known"):
        read_spades_csv(spades / "RT000.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Tx,", "X,", "column Tx: missing .the file has: filename, X"),
        ("img001_RT000.png,", "img001_RT000.png,x", "line 3: Tx: "),
        ("img001_RT000.png,", "img001_RT000.png,1,", "line 3: 9 words; expected 8"),
        ("img002_RT000.png,", "img002_RT000.png,nan", "line 4: Tx: 'nan"),
    ],
)
def test_bad_labels_are_named(spades, old, new, message):
    path = spades / "labels.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=r"labels\.csv: " + message):
        read_spades_labels(path)


def test_label_values_are_checked_with_their_line(spades):
    path = spades / "labels.csv"
    lines = path.read_text().splitlines()
    lines[3] = "a,nan,0,5,0,0,0,1"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"line 4: translation: .*not finite"):
        read(spades)
    lines[3] = "a,0,0,5,0,0,0,2"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"line 4: quaternion: .*norm 2"):
        read(spades)
    path.write_text(lines[0])
    with pytest.raises(DataError, match="labels: none"):
        read(spades)
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(DataError, match="file: no text"):
        read(spades)


def test_writing_labels_that_are_not_there(tmp_path, make_recording):
    with pytest.raises(ValueError, match="no labels"):
        write_spades_csv(tmp_path / "a.csv", make_recording(labels=None), labels=tmp_path / "b")
