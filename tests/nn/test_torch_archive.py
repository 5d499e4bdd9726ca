"""Files of torch.save: every kind of tensor comes back, and nothing in a file is ever run."""

import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.nn.torch_archive import read_torch
from posejax.nn.torch_weights import load_state_dict
from tests.nn.torch_files import Parameter, Size, Storage, View, torch_save, view


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_tensors_of_every_kind_come_back(tmp_path, rng, protocol):
    kinds = ["f4", "f8", "f2", "i8", "i4", "i2", "i1", "u1", "b1", "c8"]
    state = {k: (4 * rng.standard_normal((3, 2))).astype(k) for k in kinds}
    state |= {"scalar": np.array(3, np.float32), "empty": np.zeros((0, 3), np.float32)}
    path = torch_save(tmp_path / "net.pth", OrderedDict(state), protocol=protocol)
    found = load_state_dict(path)
    assert list(found) == list(state)
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_views_of_one_storage_stay_views(tmp_path):
    base = np.arange(24, dtype=np.float32)
    storage = Storage(base)
    state = {
        "rows": View(storage, (2, 6), (6, 1), 12),
        "transposed": View(storage, (6, 4), (1, 6)),
        "third": View(storage, (8,), (3,), 1),
        "weight": Parameter(View(storage, (24,), (1,))),
    }
    found = load_state_dict(torch_save(tmp_path / "net.pt", state))
    np.testing.assert_array_equal(found["rows"], base.reshape(4, 6)[2:])
    np.testing.assert_array_equal(found["transposed"], base.reshape(4, 6).T)
    np.testing.assert_array_equal(found["third"], base[1::3])
    found["weight"][12] = -1
    assert found["rows"][0, 0] == -1


def test_bfloat16_is_read_exactly(tmp_path):
    values = np.array([1.0, -2.5, 3.140625, 0, np.inf], np.float32)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    state = {"w": View(Storage(upper, "bf16"), (5,), (1,))}
    for order in ("little", "big"):
        found = load_state_dict(torch_save(tmp_path / "net.pth", state, order=order))["w"]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values)


def test_the_order_of_bytes_is_that_of_the_file(tmp_path, rng):
    state = {"w": rng.standard_normal(5).astype(np.float32), "i": np.arange(3)}
    path = torch_save(tmp_path / "net.pth", state, order="big")
    found = load_state_dict(path)
    np.testing.assert_array_equal(found["w"], state["w"])
    assert found["i"].dtype == np.dtype("=i8") and found["i"].tolist() == [0, 1, 2]

    path = torch_save(tmp_path / "net.pth", state, change=lambda f: f.update(byteorder=b"middle"))
    with pytest.raises(DataError, match=r"record net/byteorder: b'middle'; expected little or big"):
        load_state_dict(path)


def test_state_dicts_inside_checkpoints_are_found(tmp_path):
    state = {f"module.net.{k}": np.full(2, i, np.float32) for i, k in enumerate("ab")}
    rest = {"epoch": 3, "lr": 1e-3, "best": None, "shape": Size((1, 2)), "args": {"l": [1, (2,)]}}
    rest["optimizer"] = {"state": {0: {"step": np.array(2, np.float32)}}}
    for wrapper in ("state_dict", "model", "model_state_dict"):
        path = torch_save(tmp_path / "run.ckpt", {**rest, wrapper: OrderedDict(state)})
        assert list(load_state_dict(path)) == ["net.a", "net.b"]
        assert list(load_state_dict(path, prefix="net.")) == ["a", "b"]
    path = torch_save(tmp_path / "run.pth", {**rest, "ema": state, "model": state})
    assert list(load_state_dict(path, key="ema", prefix="net.")) == ["a", "b"]
    with pytest.raises(ValueError, match=r"no entry begins with 'encoder\.'"):
        load_state_dict(path, prefix="encoder.")
    with pytest.raises(DataError, match=r"key teacher: no dict \(the file has: epoch, lr, .*model"):
        load_state_dict(path, key="teacher")
    path = torch_save(tmp_path / "run.pth", {**rest, "generator": state})
    with pytest.raises(DataError, match=r"entry epoch: a int; .* say key=\.\.\. if"):
        load_state_dict(path)
    assert read_torch(path)["args"] == {"l": [1, (2,)]}
    assert read_torch(path)["shape"] == (1, 2)


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("inside", [True, False])
def test_what_a_file_would_run_is_named_and_not_run(tmp_path, protocol, inside):
    evil = Evil(tmp_path / "made")
    content = {"w": np.ones(2, np.float32), "x": evil} if inside else evil
    path = torch_save(tmp_path / "net.pth", content, protocol=protocol)
    with pytest.raises(DataError, match=r"asks for (posix|nt)\.mkdir; .* not looked up or run"):
        load_state_dict(path)
    assert not evil.mark.exists()
    with zipfile.ZipFile(path) as archive:
        pickle.loads(archive.read("net/data.pkl")) if not inside else None
    assert inside or evil.mark.exists(), "the file would have done nothing"


def test_old_formats_say_how_to_convert(tmp_path):
    path = tmp_path / "old.pth"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps({}, 2))
    with pytest.raises(DataError) as caught:
        load_state_dict(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: file: a bare pickle, which is not loaded")
    assert "torch.load('old.pth'" in text and "'old.safetensors'" in text

    path = torch_save(tmp_path / "script.pt", {}, change=lambda f: f.update({"constants.pkl": b""}))
    with pytest.raises(DataError, match=r"a TorchScript program; .* save its state_dict"):
        load_state_dict(path)


def program(*parts: bytes):
    """The change that puts another pickle in place."""
    return lambda files: files.update({"data.pkl": b"".join(parts)})


DEEP = b"\x80\x02" + b"(" * 20_000 + b"t" * 20_000 + b"."
# Nested pairs of the same pair: 2^60 leaves, which printing, comparing or hashing would visit.
LAUGHS = b"\x80\x02)" + b"q\x00h\x00\x86" * 60


@pytest.mark.parametrize(
    "parts, message",
    [
        ([b"\x80\x02."], "0 values at the end"),
        ([b"\x80\x02}"], "after byte 2: unreadable"),
        ([b"\x80\x02}}."], "2 values at the end"),
        ([b"\x80\x02t."], "an end without its mark"),
        ([b"\x80\x02s."], "an instruction without its operands"),
        ([b"\x80\x02h\x07."], "the value 7, which was never kept"),
        ([b"\x80\x02NQ."], "a NoneType in an odd place"),
        ([b"\x80\x02}(NN\x8c\x01au."], "a key without a value"),
        ([b"\x80\x02})Ns."], "a tuple as a key"),
        ([LAUGHS, b"}h\x00Ns."], "a tuple as a key"),
        ([LAUGHS, b"."], "top level: a tuple"),
        ([DEEP], "top level: a tuple"),
        ([b"\x80\x02", b"N" * (1 << 18), b"."], "more than 262144 instructions"),
        ([b"\x80\x02ctorch\nSize\n)R."], "torch.Size of odd arguments"),
        ([b"\x80\x02ctorch\nFloatStorage\n)R."], "torch.FloatStorage of odd arguments"),
        ([b"\x80\x02(itorch\nSize\n."], "the instruction INST"),
        ([b"\x80\x02X\xff\xff\xff\xffab."], "unreadable"),
        ([b"\x80\x02", b"\0" * (1 << 25)], "at most 33554432"),
    ],
    ids=lambda x: None if isinstance(x, list) else x[:20],
)
def test_odd_pickles_are_refused(tmp_path, parts, message):
    path = torch_save(tmp_path / "net.pth", {}, change=program(*parts))
    with pytest.raises(DataError, match=message) as caught:
        load_state_dict(path)
    assert str(path) in caught.value.file and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "tensor, message",
    [
        (View(Storage(np.ones(6, "f4")), (2, 3), (3, 1), 1), "6 elements up to the 7th in .* of 6"),
        (View(Storage(np.ones(6, "f4")), (10, 10), (0, 0)), "100 elements up to the 1th"),
        (View(Storage(np.ones(6, "f4")), (2,), (-1,), 5), "are no sizes"),
        (View(Storage(np.ones(6, "f4")), (True,), (1,)), "are no sizes"),
        (View(Storage(np.ones(6, "f4")), (1 << 60,), (1,)), "are no sizes"),
        (View(Storage(np.ones(6, "f4")), (0, 1 << 40, 1 << 40), (1, 1, 1)), "an empty tensor"),
        (View(Storage(np.ones(6, "f4")), (2,), (1, 1)), "1 axes and 2 strides"),
        (View(Storage(np.ones(6, "f4")), (1,) * 33, (1,) * 33), "33 axes"),
        (View(Storage(np.ones(6, "f4")), [2], (1,)), "a list as the shape"),
        (View(None, (2,), (1,)), "a tensor of a NoneType"),
    ],
)
def test_tensors_that_claim_more_than_there_is_are_refused(tmp_path, tensor, message):
    path = torch_save(tmp_path / "net.pth", {"w": tensor})
    with pytest.raises(DataError, match=message):
        load_state_dict(path)


def test_storages_are_checked_against_their_bytes(tmp_path):
    state = {"w": np.ones(4, np.float32)}

    def refused(change, message):
        with pytest.raises(DataError, match=message):
            load_state_dict(torch_save(tmp_path / "net.pth", state, change=change))

    refused(lambda f: f.pop("data/0"), "record net/data/0: missing")
    refused(lambda f: f.update({"data/0": b"\0" * 12}), "4 elements of f4 in a storage of 3 of f4")
    refused(lambda f: f.update({"data/0": b"\0" * 15}), "record net/data/0: 15 bytes of f4")
    refused(lambda f: f.pop("data.pkl"), "records: 0 named data.pkl")
    refused(lambda f: f.update({"x/data.pkl": b""}), "records: 2 named data.pkl")
    storage = Storage(np.ones(4, "f4"))
    other = Storage(np.ones(4, "i4"))
    two = {"a": View(storage, (4,), (1,)), "b": View(other, (4,), (1,))}

    def same_key(files):
        files["data.pkl"] = files["data.pkl"].replace(b"\x01\0\0\x001", b"\x01\0\0\x000")

    with pytest.raises(DataError, match="4 elements of i4 in a storage of 4 of f4"):
        load_state_dict(torch_save(tmp_path / "net.pth", two, change=same_key))


def test_damage_to_a_storage_is_noticed(tmp_path):
    path = torch_save(tmp_path / "net.pth", {"w": np.full(64, 1.25, np.float32)})
    raw = path.read_bytes()
    path.write_bytes(raw.replace(struct.pack("<f", 1.25), struct.pack("<f", 1.5), 1))
    with pytest.raises(DataError, match=r"record net/data/0: unreadable .*CRC"):
        load_state_dict(path)


def test_values_that_are_no_tensors_are_named(tmp_path):
    path = torch_save(tmp_path / "net.pth", {"w": view(np.ones(2)), "steps": 3})
    with pytest.raises(DataError, match="entry steps: a int; expected a state dict"):
        load_state_dict(path)
    path = torch_save(tmp_path / "net.pth", {"w": view(np.ones(2)), 3: view(np.ones(2))})
    with pytest.raises(DataError, match="entry 3: a ndarray"):
        load_state_dict(path)
