"""The submission table: what is written is read back; every fault names its file and row."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posejax.data.errors import DataError
from posejax.systems.eventpose.submission import (
    pose_ids,
    read_submission,
    read_template,
    write_submission,
)

GOOD = "RT901_001,0.1,-0.2,5.0,0.5,0.5,0.5,0.5"


def some_poses(rng, n):
    return rng.normal([0, 0, 6], 0.5, size=(n, 3)), Rotation.random(n, rng=rng).as_quat()


def table(tmp_path, *rows, header="timestamp,Tx,Ty,Tz,Qx,Qy,Qz,Qw", name="poses.csv"):
    path = tmp_path / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_what_is_written_is_read_back(rng, tmp_path):
    ids = pose_ids("RT901", 5) + pose_ids("RT902", 3)
    assert ids[0] == "RT901_001" and ids[-1] == "RT902_003"
    assert pose_ids("RT1", 1000)[-1] == "RT1_1000"
    translation, quat = some_poses(rng, 8)
    path = tmp_path / "poses.csv"
    written = write_submission(path, ids, translation, -2.5 * quat)
    assert path.read_text().splitlines()[0] == "timestamp,Tx,Ty,Tz,Qx,Qy,Qz,Qw"
    found = read_submission(path)
    assert found.ids == written.ids == tuple(ids)
    np.testing.assert_allclose(found.translation, translation, atol=1e-9)
    turn = Rotation.from_quat(found.quat_xyzw).inv() * Rotation.from_quat(quat)
    assert turn.magnitude().max() < 1e-8
    assert (found.quat_xyzw[:, 3] >= 0).all()
    assert [p.name for p in tmp_path.iterdir()] == ["poses.csv"]


def test_rows_follow_the_template(rng, tmp_path):
    wanted = ["RT902_001", "RT902_002", "RT901_001"]
    template = table(tmp_path, *wanted, header="timestamp", name="template.csv")
    assert read_template(template) == wanted
    translation, quat = some_poses(rng, 3)
    ids = ["RT901_001", "RT902_001", "RT902_002"]
    found = write_submission(tmp_path / "a.csv", ids, translation, quat, template=template)
    assert list(found.ids) == wanted
    np.testing.assert_allclose(found.translation[2], translation[0], atol=1e-9)


@pytest.mark.parametrize(
    "rows, words",
    [
        (["RT901_001,0.1,0.2,5.0,0.5,0.5,0.5"], ["line 2", "7 fields", "expected 8"]),
        ([GOOD, "RT901_002,0.1,x,5,0,0,0,1"], ["line 3, Ty", "'x'", "a number"]),
        ([GOOD, "RT901_002,0.1,,5,0,0,0,1"], ["line 3, Ty", "''"]),
        ([GOOD, GOOD.replace("_001", "_" + "9" * 5000)], ["line 3", "e.g. RT901_001"]),
        (["RT901_001,nan,0.2,5,0,0,0,1"], ["line 2, Tx", "finite"]),
        (["RT901_001,0.1,0.2,5,0,0,inf,1"], ["line 2, Qz", "finite"]),
        (["RT901_001,0.1,0.2,5,0,0,0,1.01"], ["RT901_001", "length 1.01", "unit"]),
        (["RT901_001,0.1,0.2,5,0,0,0,0"], ["length 0", "unit"]),
        (["RT901_001,0.1,0.2,-5,0,0,0,1"], ["Tz = -5", "in front"]),
        (["RT901_1,0.1,0.2,5,0,0,0,1"], ["line 2", "'RT901_1'", "RT901_001"]),
        ([GOOD.replace("_001", "_002"), GOOD], ["line 3", "RT901_001 after RT901_002"]),
        ([GOOD, GOOD], ["row 2", "RT901_001 again", "row 1"]),
        ([], ["rows", "none"]),
    ],
)
def test_every_fault_names_its_row(tmp_path, rows, words):
    path = table(tmp_path, *rows)
    with pytest.raises(DataError) as error:
        read_submission(path)
    for word in [str(path), *words]:
        assert word in str(error.value)


def test_the_header_and_the_file_are_checked(tmp_path):
    path = table(tmp_path, GOOD, header="timestamp,Tx,Ty,Tz,Qw,Qx,Qy,Qz")
    with pytest.raises(DataError, match="line 1"):
        read_submission(path)
    with pytest.raises(DataError, match="not found"):
        read_submission(tmp_path / "absent.csv")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_submission(path)
    path.write_text("")
    with pytest.raises(DataError, match="line 1: empty"):
        read_submission(path)
    with pytest.raises(DataError, match="first column 'timestamp'"):
        read_template(table(tmp_path, "RT901_001", header="id"))


@pytest.mark.parametrize(
    "wanted, words",
    [
        (["RT901_001", "RT901_002", "RT901_003"], "1 of 3 ids missing, first RT901_003"),
        (["RT901_001"], "row 2: RT901_002 is not asked for"),
        (["RT901_001", "RT901_002", "RT900_001"], "ids missing, first RT900_001"),
    ],
)
def test_rows_must_be_those_of_the_template(tmp_path, wanted, words):
    template = table(tmp_path, *wanted, header="timestamp,Tx", name="template.csv")
    path = table(tmp_path, GOOD, GOOD.replace("_001", "_002"))
    with pytest.raises(DataError, match=words):
        read_submission(path, template=template)


def test_the_order_must_be_that_of_the_template(tmp_path):
    template = table(tmp_path, "RT902_001", "RT901_001", header="timestamp", name="template.csv")
    path = table(tmp_path, GOOD, GOOD.replace("901", "902"))
    with pytest.raises(DataError, match=r"row 1: RT901_001; expected RT902_001; the order of"):
        read_submission(path, template=template)


def test_a_refused_table_leaves_the_old_one_alone(rng, tmp_path):
    path = tmp_path / "poses.csv"
    translation, quat = some_poses(rng, 3)
    write_submission(path, pose_ids("RT901", 3), translation, quat)
    before = path.read_text()
    for spoil in (0, np.nan):
        bad = quat.copy()
        bad[1] = spoil
        with pytest.raises(DataError, match="line 3"):
            write_submission(path, pose_ids("RT901", 3), translation, bad)
    with pytest.raises(ValueError, match="3 ids need"):
        write_submission(path, pose_ids("RT901", 3), translation[:2], quat)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["poses.csv"]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutated_tables_are_read_or_refused(tmp_path, changes):
    rows = [GOOD.replace("_001", f"_{k:03d}") for k in range(1, 5)]
    path = table(tmp_path, *rows)
    content = bytearray(path.read_bytes())
    for place, byte in changes:
        content[place % len(content)] = byte
    path.write_bytes(content)
    try:
        found = read_submission(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        np.testing.assert_allclose(np.linalg.norm(found.quat_xyzw, axis=1), 1, atol=1e-4)
