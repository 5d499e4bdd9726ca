"""NumPy archives: round trip, stand-ins, refusals; no pickle and no bombs."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.data.event_files import read_event_npz, write_event_npz


@pytest.fixture
def path(tmp_path, recording):
    write_event_npz(tmp_path / "a.npz", recording)
    return tmp_path / "a.npz"


def test_round_trip(path, recording, same, make_recording):
    same(read_event_npz(path), recording)
    assert read_event_npz(path).labels.names == recording.labels.names
    bare = make_recording(0, labels=None)
    write_event_npz(path, bare)
    same(read_event_npz(path), bare)
    assert [p.name for p in path.parent.iterdir()] == ["a.npz"]


def test_the_plainest_archive(tmp_path):
    np.savez(tmp_path / "b.npz", x=[1, 2], y=[3, 4], t=[5, 6], p=[-1, 1], other=[1.5])
    r = read_event_npz(tmp_path / "b.npz", sensor_size=(8, 8), tick_seconds=1e-6)
    assert r.p.tolist() == [0, 1] and r.labels is None
    with pytest.raises(DataError, match=r"array tick_seconds: missing.*pass tick_seconds"):
        read_event_npz(tmp_path / "b.npz", sensor_size=(8, 8))
    with pytest.raises(DataError, match="array sensor_size: missing"):
        read_event_npz(tmp_path / "b.npz", tick_seconds=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, "array x: missing"),
        ({"x": np.zeros(500)}, "x: dtype float64"),
        ({"y": np.full(500, 48)}, "y, row 0: 48"),
        ({"p": np.zeros((500, 1), int)}, "p: shape"),
        ({"tick_seconds": np.array([1.0, 2.0])}, "array tick_seconds: float64"),
        ({"tick_seconds": np.array("x")}, "array tick_seconds: <U1"),
        ({"sensor_size": np.array([np.inf, 3])}, "array sensor_size"),
        ({"label_t": None}, "array label_t: missing; expected all of"),
        ({"label_t": np.zeros(7)}, "label 1: time"),
        ({"label_translation": np.zeros((7, 2))}, "translation: shape"),
        ({"label_names": np.zeros(7)}, "array label_names: float64"),
        ({"x": np.array([object()])}, "array x: unreadable .*bjects"),
        ({"t": np.zeros(500, [("a", int)])}, "array t: unreadable .*records"),
    ],
)
def test_malformed_archives_are_named(path, changes, message):
    with np.load(path) as file:
        arrays = dict(file) | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(DataError, match=r"a\.npz: " + message):
        read_event_npz(path)


def test_claimed_shapes_are_compared_with_the_bytes(path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<i8", "fortran_order": False, "shape": (10**12,)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name in "xytp":
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(80))
    with pytest.raises(DataError, match=r"array x: unreadable .*1000000000000"):
        read_event_npz(path)


def test_code_in_an_archive_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3, np.int64))
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("x.npy", pickle.dumps(Trap()))
        for name in "ytp":
            archive.writestr(f"{name}.npy", buffer.getvalue())
    with pytest.raises(DataError, match="array x: unreadable"):
        read_event_npz(tmp_path / "t.npz")


def test_not_an_archive(tmp_path):
    with pytest.raises(DataError, match="not found"):
        read_event_npz(tmp_path / "none.npz")
    (tmp_path / "b.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="file: unreadable"):
        read_event_npz(tmp_path / "b.npz")
