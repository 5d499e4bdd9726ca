"""NumPy's files: what was saved comes back, everything else is one error, and no claim is believed.

`np.load` fails on most of these with MemoryError, zlib.error, BadZipFile or a pickle that runs.
"""

import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from posejax.data.arrays import read_npy, read_npz
from posejax.data.errors import DataError

ARRAYS = {
    "floats": np.linspace(0, 1, 12).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "scalar": np.array(2.5),
    "text": np.array("a text"),
    "names": np.array(["a", "bc"]),
    "nothing": np.zeros((0, 3), np.float32),
    "flags": np.array([True, False]),
    "params/a": np.float16([1, 2]),
}


def header(shape, descr="<f8") -> bytes:
    file = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def npz(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, raw in members:
            archive.writestr(name, raw)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_plain_arrays_come_back_writable(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, want in ARRAYS.items():
        assert found[name].dtype == want.dtype and found[name].flags.writeable
        np.testing.assert_array_equal(found[name], want)
    np.save(tmp_path / "a.npy", ARRAYS["columns"])
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), ARRAYS["columns"])


def test_only_what_is_asked_for_is_decoded(tmp_path):
    good = header((1,)) + bytes(8)
    path = npz(tmp_path / "a.npz", [("a.npy", good), ("b.npy", good), ("c.npy", b"damaged")])
    assert list(read_npz(path, ["a"], ["b", "z"])) == ["a", "b"]
    with pytest.raises(DataError, match=r"a\.npz: array c: unreadable .*magic"):
        read_npz(path)
    with pytest.raises(DataError, match=r"array z: missing \(the file has: a, b, c\); expected"):
        read_npz(path, ["a", "z"])


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (header((10**12,)) + bytes(80), r"array a: unreadable .*1000000000000.* in 80 bytes"),
        (header((3,)) + bytes(16), r"shape \(3,\) of float64 in 16 bytes"),
        (header((1,)) + bytes(16), r"shape \(1,\) of float64 in 16 bytes"),
        (header((-1,)) + bytes(16), r"shape \(-1,\)"),
        (header((0, 1 << 80)), r"shape \(0, 1208925819614629174706176\)"),
        (header((2,), "|O") + pickle.dumps([1, 2]), "Python objects"),
        (header((1,), [("x", "<f8")]) + bytes(8), "records"),
        (header((1,), "<U268435456") + bytes(8), "in 8 bytes"),
        (b"\x93NUMPY\x09\x00" + bytes(80), r"\.npy version \(9, 0\)"),
        (header((1,)).replace(b"'descr'", b"'dtype'") + bytes(8), "unreadable"),
        (b"", "unreadable"),
        (b"not an array", "unreadable"),
    ],
)
def test_members_that_are_no_plain_array(tmp_path, member, message):
    path = npz(tmp_path / "a.npz", [("a.npy", member)])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message):
            read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20  # the claim is not allocated
    finally:
        tracemalloc.stop()
    (tmp_path / "a.npy").write_bytes(member)
    with pytest.raises(DataError, match=r"a\.npy: file: unreadable"):
        read_npy(tmp_path / "a.npy")


def flip(path, at):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def test_damaged_archives(tmp_path):
    good = header((64,)) + bytes(512)
    path = npz(tmp_path / "a.npz", [("a.npy", good)])
    flip(path, 400)  # a bit of the stored numbers: only the checksum notices
    with pytest.raises(DataError, match=r"array a: unreadable \(BadZipFile"):
        read_npz(path)
    path = npz(tmp_path / "a.npz", [("a.npy", good)], zipfile.ZIP_DEFLATED)
    flip(path, 45)
    with pytest.raises(DataError, match="array a: unreadable"):
        read_npz(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"file: unreadable \(BadZipFile"):
        read_npz(path)
    with pytest.warns(UserWarning, match="Duplicate"):
        npz(path, [("a.npy", good), ("a.npy", good)])
    with pytest.raises(DataError, match="array a: twice"):
        read_npz(path)
    npz(path, [("a.npy", good)], zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="compression method 14; expected stored or deflated"):
        read_npz(path)


def test_an_archive_that_claims_more_than_deflate_can_hold(tmp_path):
    path = npz(tmp_path / "a.npz", [("a.npy", header((1,)) + bytes(8))])
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"PK\x01\x02")  # the size in the table of contents
    raw[entry + 24 : entry + 28] = (1 << 31).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(DataError, match="2147483648 bytes out of"):
        read_npz(path)


def test_what_is_no_file(tmp_path):
    for path in (tmp_path / "none", tmp_path, "/dev/zero", "a\0b"):
        with pytest.raises(DataError):
            read_npz(path)
        with pytest.raises(DataError):
            read_npy(path)
