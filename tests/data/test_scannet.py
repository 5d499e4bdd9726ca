"""Clouds and labels of ScanNet: every form of PLY, faults by name."""

import numpy as np
import pytest

from posejax.data import ply
from posejax.data.errors import DataError
from posejax.data.ply import read_ply
from posejax.data.scannet import (
    NYU40,
    SCANNET20,
    class_numbers,
    read_cloud,
    read_label_table,
)
from tests.data.rgbd_files import (
    LABELS,
    TRIANGLES,
    VERTICES,
    ply_text,
    write_label_table,
    write_ply,
)

FORMS = ("binary_little_endian", "binary_big_endian", "ascii")


@pytest.mark.parametrize("form", FORMS)
def test_ply_is_read_in_every_form(tmp_path, form):
    path = tmp_path / "a.ply"
    path.write_bytes(ply_text(form, labels=True))
    found = read_ply(path)
    np.testing.assert_array_equal(found.columns("x", "y", "z"), VERTICES[:, :3])
    np.testing.assert_array_equal(found.columns("red", "green", "blue"), VERTICES[:, 3:])
    assert found.vertices["x"].dtype == np.float32 and found.vertices["red"].dtype == np.uint8
    np.testing.assert_array_equal(found.vertices["label"], LABELS)
    np.testing.assert_array_equal(found.triangles, TRIANGLES)
    path.write_bytes(ply_text(form, faces=False))
    assert read_ply(path).triangles is None
    for cut in (3, 10, 30):
        path.write_bytes(ply_text(form)[:-cut])
        with pytest.raises(DataError, match=r"a.ply: (element|face|vertex)"):
            read_ply(path)
    path.write_bytes(ply_text(form) + b"9 9")
    with pytest.raises(DataError, match="too many"):
        read_ply(path)


def test_ply_that_is_written_is_read(tmp_path):
    path, dtypes = tmp_path / "a.ply", ("f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4")
    written = {f"p{dtype}": np.array([1, 2, 99], dtype) for dtype in dtypes}
    ply.write_ply(path, written)
    found = read_ply(path, needs=())
    assert found.triangles is None and list(found.vertices) == list(written)
    for name, values in written.items():
        np.testing.assert_array_equal(found.vertices[name], values)
        assert found.vertices[name].dtype == values.dtype
    for values in (np.zeros(3, np.int64), np.zeros((3, 2), np.float32), np.zeros(2, np.float32)):
        with pytest.raises(ValueError, match=r"wrong: .*expected \[3\] of"):
            ply.write_ply(path, {**written, "wrong": values})
    before = path.read_bytes()
    for name in ("my name", "", "a\nb", "x\t", "größe"):  # which a reader would refuse or change
        with pytest.raises(ValueError, match="expected one word of ASCII"):
            ply.write_ply(path, {**written, name: written["pf4"]})
    assert path.read_bytes() == before


def test_bad_ply_is_refused(tmp_path):
    path, good = tmp_path / "a.ply", ply_text("ascii", labels=True)
    faults = {
        "header: it begins": (b"ply\n", b"PLY\n"),
        "no format": (b"format ascii 1.0\n", b""),
        "line 2": (b"format ascii 1.0", b"format ascii 2.0"),
        "'y' twice": (b"property float z", b"property float y"),
        "property x: missing": (b"property float x", b"property float w"),
        "line 5: 'property long": (b"property float x", b"property long x"),
        "vertex 1: red": (b"1 0 0 0 128", b"1 0 0 256 128"),
        "vertex 1: x": (b"1 0 0 0 128", b"nan 0 0 0 128"),
        "could not convert": (b"1 0 0 0 128", b"one 0 0 0 128"),
        "face 0: 4 corners": (b"3 0 1 2", b"4 0 1 2"),
        "faces: row 4": (b"\n3 1 2 3", b"\n3 1 2 4"),
        "a list": (b"property ushort label", b"property list uchar int label"),
    }
    for message, (old, new) in faults.items():
        assert good.count(old) == 1
        path.write_bytes(good.replace(old, new))
        with pytest.raises(DataError, match=message):
            read_ply(path)


def test_a_scenes_cloud_takes_its_labels_from_the_file_beside_it(tmp_path):
    path = write_ply(tmp_path)
    points, colours, labels = read_cloud(path)
    np.testing.assert_array_equal(points, VERTICES[:, :3])
    np.testing.assert_allclose(colours, VERTICES[:, 3:] / 255, atol=1e-6)
    assert not labels.any()
    beside = path.with_suffix(".labels.ply")
    beside.write_bytes(ply_text("ascii", labels=True))
    np.testing.assert_array_equal(read_cloud(path)[2], LABELS)
    beside.write_bytes(ply_text("ascii", labels=True).replace(b"0 2 0 9", b"0 2.1 0 9"))
    with pytest.raises(DataError, match=r"labels.ply: vertices"):
        read_cloud(path)
    beside.write_bytes(ply_text("ascii", labels=True).replace(b"1 2 3 40", b"1 2 3 41"))
    with pytest.raises(DataError, match="vertex 3: label: 41"):
        read_cloud(path)


def test_numbers_of_pictures_become_places_in_a_list_of_classes(tmp_path):
    assert len(NYU40) == 40 and set(SCANNET20) <= set(NYU40)
    numbers = class_numbers(("chair", "wall"))
    assert numbers[[0, 1, 5, 6, 65535]].tolist() == [-1, 1, 0, -1, -1]
    path = write_label_table(tmp_path)
    raw = class_numbers(("chair", "other prop"), read_label_table(path))
    assert raw[[0, 1, 2, 5, 1163]].tolist() == [-1, -1, 0, -1, 1]
    with pytest.raises(ValueError, match="no class 'stool'"):
        class_numbers(("stool",))
    text = path.read_text()
    for old, new, message in (
        ("nyu40id", "nyu", "column nyu40id: missing"),
        ("2\tchair\t5", "2\tchair\t41", "line 3: nyu40id"),
        ("2\tchair", "-2\tchair", "line 3: id"),
        ("2\tchair\t5\tchair", "2\tchair", "line 3: 2 words"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(DataError, match=message):
            read_label_table(path)
