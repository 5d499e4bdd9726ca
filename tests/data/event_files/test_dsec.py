"""DSEC files: round trip, the millisecond index, the clock offset and the rectification map."""

import h5py
import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.data.event_files import (
    DsecFile,
    read_dsec,
    read_rectify_map,
    rectify,
    write_dsec,
)

SIZE = (48, 64)


@pytest.fixture
def micro(make_recording):
    t = np.sort(np.random.default_rng(3).integers(0, 60_000, 5000))
    return make_recording(5000, t=t, tick_seconds=1e-6, labels=None, clock_offset=123_456)


@pytest.fixture
def path(tmp_path, micro):
    write_dsec(tmp_path / "events.h5", micro)
    return tmp_path / "events.h5"


def test_round_trip(path, micro, same, tmp_path):
    back = read_dsec(path, sensor_size=SIZE)
    same(back, micro)
    assert back.clock_offset == 123_456 and [*tmp_path.iterdir()] == [path]
    none = micro.rows(slice(0, 0))
    write_dsec(path, none)
    same(read_dsec(path, sensor_size=SIZE), none)


def test_the_index_is_that_of_the_format(path, micro):
    with h5py.File(path) as file:
        index = file["ms_to_idx"][:].astype(int)
    assert len(index) == micro.t[-1] // 1000 + 1
    for ms, row in enumerate(index):
        assert micro.t[row] >= 1000 * ms
        assert row == 0 or micro.t[row - 1] < 1000 * ms


def test_lazy_windows(path, micro):
    file = DsecFile(path, sensor_size=SIZE)
    edges = np.array([-1, 0, 1e-6, 0.0005, 0.001, 0.0100004, 0.0599, 0.06, 7])
    np.testing.assert_array_equal(file.index_at(edges), micro.index_at(edges))
    np.testing.assert_array_equal(file.window(0.011, 0.0117).t, micro.window(0.011, 0.0117).t)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ms_to_idx", lambda v: None, "ms_to_idx: no such data set"),
        ("t_offset", lambda v: None, "t_offset: no such data set"),
        ("t_offset", lambda v: np.arange(3), r"t_offset: int64\(3,\)"),
        ("ms_to_idx", lambda v: v[::-1], r"ms_to_idx, row 1: \d+; expected growing rows"),
        (
            "ms_to_idx",
            lambda v: np.append(v, np.uint64(5001)),
            "ms_to_idx, row 60: 5001; .*at most 5000",
        ),
        ("ms_to_idx", lambda v: np.where(np.arange(60) == 7, v - 1, v), "ms_to_idx, row 7: "),
        ("events/t", lambda v: v[::-1], "events/t, row 1"),
        ("events/x", lambda v: v + 60, "events/x, row"),
    ],
)
def test_malformed_files_are_named(path, name, change, message):
    with h5py.File(path, "a") as file:
        values = change(file[name][()])
        del file[name]
        if values is not None:
            file[name] = values
    with pytest.raises(DataError, match=r"events\.h5: .*" + message):
        read_dsec(path, sensor_size=SIZE)


def test_times_beyond_32_bits(tmp_path, make_recording):
    late = make_recording(2, t=[1 << 33, (1 << 33) + 5], tick_seconds=1e-6, labels=None)
    with pytest.raises(ValueError, match="rebased"):
        write_dsec(tmp_path / "a.h5", late)
    write_dsec(tmp_path / "a.h5", late.rebased())
    back = read_dsec(tmp_path / "a.h5", sensor_size=SIZE)
    assert back.t.tolist() == [0, 5] and back.clock_offset == 1 << 33


def test_rectification(tmp_path, micro):
    path = tmp_path / "rectify_map.h5"
    y, x = np.mgrid[:48, :64].astype(np.float32)
    with h5py.File(path, "w") as file:
        file["rectify_map"] = np.stack([x + 2, y - 1], axis=-1)
    table = read_rectify_map(path, SIZE)
    xy = rectify(micro, table)
    assert xy.shape == (5000, 2) and xy.dtype == np.float32
    np.testing.assert_array_equal(xy, np.stack([micro.x + 2.5, micro.y - 0.5], axis=1))
    with pytest.raises(DataError, match="rectify_map: float32"):
        read_rectify_map(path)
    with h5py.File(path, "a") as file:
        file["rectify_map"][3, 4, 1] = np.nan
    with pytest.raises(DataError, match=r"not finite at \(3, 4\)"):
        read_rectify_map(path, SIZE)
