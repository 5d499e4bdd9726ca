"""CARMEN logs and relations: round trips, and errors that name the line."""

import numpy as np
import pytest

from posejax.data import carmen
from posejax.data.errors import DataError


@pytest.fixture
def log(rng):
    n, beams = 6, 180
    pose = rng.normal(size=(n, 3)).round(6)
    return carmen.LaserLog(
        ranges=rng.uniform(1, 51, (n, beams)).round(2).clip(max=50).astype(np.float32),
        angles=carmen.beam_angles(beams),
        laser_pose=pose,
        odom=pose + 1,
        time=np.arange(n) / 8 + 70,
    )


@pytest.mark.parametrize("kind", ["clf", "npz"])
def test_round_trip(log, tmp_path, kind):
    path = tmp_path / f"log.{kind}"
    getattr(carmen, f"write_{kind}")(path, log)
    back = getattr(carmen, f"read_{kind}")(path)
    for name in ("ranges", "angles", "laser_pose", "odom", "time"):
        np.testing.assert_allclose(getattr(back, name), getattr(log, name), atol=1e-5)


def test_points_lie_where_the_beams_point():
    angles = carmen.beam_angles(181)
    assert np.rad2deg(angles[[0, 90, -1]]).tolist() == pytest.approx([-90, 0, 90])
    ranges = np.full((1, 181), 50.0, np.float32)
    ranges[0, [0, 90, 180]] = [1, 2, 3]
    log = carmen.LaserLog(ranges, angles, np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(1))
    np.testing.assert_allclose(log.points(0), [[0, -1], [2, 0], [0, 3]], atol=1e-9)
    assert len(log.points(0, max_range=2.5)) == 2
    assert log.index_at(0.0005) == 0 and log.index_at(0.01) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w[:100], r"line 2: 100 words for 180 beams; expected at least 189"),
        (lambda w: [w[0], "many", *w[2:]], r"line 2: FLASER many; expected a beam count"),
        (lambda w: [*w[:5], "x", *w[6:]], r"line 2: .*'x'.*; expected numbers"),
        (lambda w: [*w[:5], "nan", *w[6:]], r"line 2: a non-finite number"),
        (lambda w: [w[0], "179", *w[2:]], r"line 2: 179 beams; expected 180"),
        (lambda w: [*w[:-3], "1.0", *w[-2:]], r"line 2: time 1.0 after 70"),
    ],
)
def test_bad_lines_are_named(log, tmp_path, change, message):
    path = tmp_path / "log.clf"
    carmen.write_clf(path, log)
    lines = path.read_text().splitlines()
    lines[1] = " ".join(change(lines[1].split()))
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        carmen.read_clf(path)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(DataError, match=r"no\.clf: file: not found"):
        carmen.read_clf(tmp_path / "no.clf")
    (tmp_path / "empty.clf").write_text("ODOM 0 0 0 0 0 0 1.0 host 1.0\n")
    with pytest.raises(DataError, match="FLASER lines: none"):
        carmen.read_clf(tmp_path / "empty.clf")
    np.savez(tmp_path / "bad.npz", ranges_cm=np.zeros((2, 3)))
    with pytest.raises(DataError, match="beam_angles_deg: missing"):
        carmen.read_npz(tmp_path / "bad.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="unreadable"):
        carmen.read_npz(tmp_path / "broken.npz")


def test_relations(tmp_path, rng):
    relations = carmen.Relations(np.arange(3.0), np.arange(3.0) + 1, rng.normal(size=(3, 3)))
    path = tmp_path / "a.relations"
    carmen.write_relations(path, relations)
    np.testing.assert_allclose(carmen.read_relations(path).pose, relations.pose, atol=1e-6)
    path.write_text("1 2 0 0 0 0 0 0\n1 2 0 0\n")
    with pytest.raises(DataError, match="line 2: 4 numbers; expected t1 t2 x y z"):
        carmen.read_relations(path)
    path.write_text("1 2 0 0 0.5 0 0 0\n")
    with pytest.raises(DataError, match="the log is planar"):
        carmen.read_relations(path)


@pytest.mark.real
def test_text_log_and_arrays_of_aces_agree(data_dir):
    folder = data_dir("radish_aces")
    arrays, text = (
        carmen.read_npz(folder / "aces.npz"),
        carmen.read_clf(folder / "aces_head200.clf"),
    )
    assert arrays.ranges.shape == (7374, 180) and len(text) > 90
    for name in ("ranges", "laser_pose", "odom", "time"):
        np.testing.assert_array_equal(getattr(text, name), getattr(arrays, name)[: len(text)])
    relations = carmen.read_relations(folder / "aces.relations")
    assert len(relations) == 1279
    assert all(arrays.index_at(t) is not None for t in (*relations.t1, *relations.t2))
