"""Lazy HDF5 handles: picklable, per process, with errors that name file and data set."""

import multiprocessing
import pickle

import h5py
import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.data.hdf5 import H5File


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "events.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("events/xs", data=np.arange(100, dtype=np.uint16), compression="gzip")
    return path


def _sum_in_child(file):
    return int(file.read("events/xs").sum())


def test_a_used_file_crosses_process_borders(path):
    file = H5File(path)
    assert file.read("events/xs", slice(2, 5)).tolist() == [2, 3, 4]
    assert pickle.loads(pickle.dumps(file)).read("/events/xs", 7) == 7
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_sum_in_child, [file, file]) == [4950, 4950]


def test_a_handle_of_another_process_is_not_used(path):
    file = H5File(path)
    inherited = file.open()
    file._owner = -5  # as a forked child would see it
    assert file.open() is not inherited
    assert file.read("events/xs", 3) == 3


def test_reading_after_close_opens_again(path):
    file = H5File(path)
    file.open()
    file.close()
    assert file.read("events/xs").shape == (100,)


def test_errors_name_file_and_data_set(path, tmp_path):
    with pytest.raises(DataError, match=r"none\.h5: file: not found"):
        H5File(tmp_path / "none.h5").open()
    with pytest.raises(DataError, match=r"events\.h5: events/ys: .*events/xs"):
        H5File(path).read("events/ys")
    with pytest.raises(DataError, match=r"events\.h5: events/xs: rows 500"):
        H5File(path).read("events/xs", 500)
    text = tmp_path / "text.h5"
    text.write_text("not HDF5")
    with pytest.raises(DataError, match=r"text\.h5: file"):
        H5File(text).open()


def test_a_damaged_chunk_is_named_not_returned(path):
    raw = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        chunk = file["events/xs"].id.get_chunk_info(0)
    raw[chunk.byte_offset : chunk.byte_offset + 20] = b"\0" * 20
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"events\.h5: events/xs"):
        H5File(path).read("events/xs")
