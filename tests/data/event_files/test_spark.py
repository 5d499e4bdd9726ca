"""SPARK-2026 files: layout, round trips, lazy windows, and the trap of the time unit."""

import multiprocessing
import pickle
import time

import h5py
import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.data.event_files import SparkFile, read_spark, write_spark


@pytest.fixture
def path(tmp_path, recording):
    write_spark(tmp_path / "RT000.h5", recording)
    return tmp_path / "RT000.h5"


def edit(path, **changes):
    """Replace data sets (None deletes) or, by "@name", attributes of a file."""
    with h5py.File(path, "a") as file:
        for name, values in changes.items():
            if name.startswith("@"):
                if values is None:
                    del file.attrs[name[1:]]
                else:
                    file.attrs[name[1:]] = values
                continue
            del file[name]
            if values is not None:
                file[name] = values


def rows(path):
    with h5py.File(path) as file:
        return file["labels/data"][:]


@pytest.mark.parametrize("compression", ["gzip", "lzf", None])
def test_round_trip(tmp_path, recording, same, compression):
    write_spark(tmp_path / "a.h5", recording, compression=compression)
    back = read_spark(tmp_path / "a.h5")
    same(recording, back, atol=1e-15)
    assert back.labels.names == recording.labels.names and back.name == "a"


def test_the_layout_is_the_published_one(path):
    with h5py.File(path) as file:
        assert sorted(file) == ["events", "labels"] and sorted(file["events"]) == [
            "ps", "ts", "xs", "ys",
        ]  # fmt: skip
        table = file["labels/data"]
        assert table.dtype.names == (
            "filename", "Tx", "Ty", "Tz", "Qx", "Qy", "Qz", "Qw", "timestamp",
        )  # fmt: skip
        assert table["timestamp"].tolist() == [0, 1000, 2000, 3000, 4000, 5000, 6000]


def test_times_are_written_in_ticks_of_100_us(tmp_path, make_recording):
    micro = make_recording(t=np.arange(500) * 1234, tick_seconds=1e-6)
    write_spark(tmp_path / "a.h5", micro)
    back = read_spark(tmp_path / "a.h5")
    assert back.tick_seconds == 1e-4
    np.testing.assert_array_equal(back.t, np.arange(500) * 1234 // 100)


def test_without_labels_and_without_events(tmp_path, recording, same, make_recording):
    none = make_recording(0)
    write_spark(tmp_path / "none.h5", none)
    same(read_spark(tmp_path / "none.h5"), none, atol=1e-15)
    assert SparkFile(tmp_path / "none.h5").counts([0, 1, 2]).tolist() == [0, 0]
    bare = make_recording(labels=None)
    write_spark(tmp_path / "bare.h5", bare)
    same(read_spark(tmp_path / "bare.h5"), bare)


def test_an_interrupted_write_leaves_nothing(tmp_path, recording):
    with pytest.raises(ValueError):
        write_spark(tmp_path / "a.h5", recording, compression="none such")
    assert list(tmp_path.iterdir()) == []


def test_lazy_windows_equal_those_of_the_whole(tmp_path, make_recording):
    whole = make_recording(300_000, t=np.sort(np.random.default_rng(1).integers(0, 6000, 300_000)))
    write_spark(tmp_path / "a.h5", whole)
    file = SparkFile(tmp_path / "a.h5")
    assert len(file) == 300_000 and file.labels is not None
    edges = np.linspace(-0.1, 0.7, 33)
    np.testing.assert_array_equal(file.index_at(edges), whole.index_at(edges))
    np.testing.assert_array_equal(file.counts(edges), np.diff(whole.index_at(edges)))
    assert file.index_at(0.3).shape == ()
    for start, stop in ((0, 0.1), (0.25, 0.26), (0.55, 9), (0.2, 0.2), (0.3, 0.1), (-5, -1)):
        part, want = file.window(start, stop), whole.window(start, stop)
        for key in "xytp":
            np.testing.assert_array_equal(getattr(part, key), getattr(want, key))


def test_equal_times_across_chunks(tmp_path, make_recording):
    same_time = make_recording(200_000, t=np.repeat([5, 6], 100_000), labels=None)
    write_spark(tmp_path / "a.h5", same_time)
    file = SparkFile(tmp_path / "a.h5")
    assert file.index_at([4e-4, 5e-4, 5.5e-4, 6e-4, 7e-4]).tolist() == [
        0, 0, 100_000, 100_000, 200_000,
    ]  # fmt: skip


def _count(file):
    return len(file.window(0.1, 0.2))


def test_files_cross_process_borders(path):
    file = SparkFile(path)
    want = _count(file)
    assert want > 0 and _count(pickle.loads(pickle.dumps(file))) == want
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(_count, [file]) == [want]


def test_only_the_asked_chunks_are_decoded(tmp_path, make_recording):
    whole = make_recording(1_000_000, t=np.arange(1_000_000) // 160)
    write_spark(tmp_path / "a.h5", whole)
    file = SparkFile(tmp_path / "a.h5")
    seen = []
    for column in file._columns.values():
        column.read = lambda a=0, b=None, c=column, r=column.read: (
            seen.append((c.name, a, b)) or r(a, b)
        )
    file.window(0.3, 0.301)
    rows_read = sum((b or a + 1) - a for _, a, b in seen)
    assert rows_read < 200_000 < len(file)


@pytest.mark.parametrize("stated", [True, False])
def test_microseconds_under_the_same_names_are_refused_or_inferred(path, recording, stated):
    """A real recording: ts in us, labels still in 100 us."""
    edit(path, **{"events/ts": recording.t * 100})
    if not stated:
        edit(path, **{"@time_unit_seconds": None})
    with pytest.raises(DataError, match=r"RT000\.h5: events/ts: .*times apart; .*see docs"):
        read_spark(path)
    table = rows(path)
    table["timestamp"] *= 100
    edit(path, **{"labels/data": table, **({"@time_unit_seconds": 1e-6} if stated else {})})
    back = read_spark(path)
    assert back.tick_seconds == 1e-6
    np.testing.assert_allclose(back.labels.t_seconds, np.arange(7) / 10, atol=1e-12)


def test_without_labels_the_tick_must_come_from_somewhere(path):
    edit(path, **{"labels/data": None, "@time_unit_seconds": None})
    with pytest.raises(DataError, match=r"time unit is not known.*pass tick_seconds, or n_poses"):
        read_spark(path)
    assert read_spark(path, n_poses=6).tick_seconds == 1e-4
    assert read_spark(path, tick_seconds=1e-4).labels is None
    with pytest.raises(DataError, match=r"a tick of 1e-06 s, but 0.0001"):
        read_spark(path, tick_seconds=1e-6, n_poses=6)


def test_the_sensor_is_that_of_the_data_set_unless_stated(path):
    assert read_spark(path).sensor_size == (48, 64)
    edit(path, **{"@sensor_size_wh": None})
    assert read_spark(path).sensor_size == (720, 1280)
    assert read_spark(path, sensor_size=(50, 70)).sensor_size == (50, 70)
    with pytest.raises(DataError, match="events/xs, row"):
        read_spark(path, sensor_size=(48, 32))


def changed(key, value, row=3):
    def change(table):
        table[key][row] = value
        return table

    return change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"events/xs": None}, "events/xs: no such data set"),
        ({"events/ps": np.full(500, 3)}, r"events/ps, row 0: polarity 3"),
        ({"events/xs": np.zeros(500, np.float32)}, "events/xs: dtype float32"),
        ({"events/xs": np.full(500, -1)}, "events/xs, row 0: -1"),
        ({"events/ys": np.zeros((500, 1), int)}, r"events/ys: shape \(500, 1\)"),
        ({"events/ts": np.arange(500)[::-1]}, r"events/ts, row 1: 498 after 499 ticks"),
        ({"events/ts": np.arange(400)}, "columns of different length"),
        ({"@time_unit_seconds": np.array([1.0, 2.0])}, "attribute time_unit_seconds"),
        ({"@time_unit_seconds": np.nan}, "attribute time_unit_seconds"),
        ({"@time_unit_seconds": -1.0}, "tick of -1.0 s"),
        ({"@sensor_size_wh": np.array([0, 5])}, r"sensor_size: \(5, 0\)"),
        ({"labels/data": np.zeros(3)}, "labels/data: dtype float64; expected a table"),
        ({"labels/data": np.zeros(3, [("Tx", float)])}, "column Ty: missing"),
        ({"labels/data": changed("Tz", np.nan)}, "labels/data, row 3: translation.*not finite"),
        ({"labels/data": changed("Qx", 2.0)}, "labels/data, row 3: quaternion"),
        ({"labels/data": changed("timestamp", 0)}, "labels/data, row 3: time: 0.0 s after 0.2 s"),
        (
            {"labels/data": lambda t: t.astype([(n, "f8" if n == "timestamp" else t.dtype[n])
                                                for n in t.dtype.names])},
            "column timestamp: dtype float64; expected integer ticks",
        ),
    ],
)  # fmt: skip
def test_malformed_files_are_named(path, changes, message):
    table = rows(path)
    edit(path, **{k: v(table) if callable(v) else v for k, v in changes.items()})
    with pytest.raises(DataError, match=message) as caught:
        read_spark(path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize("place", [0, 4, 8])
def test_names_of_variable_length_are_left_out(path, recording, place):
    table = rows(path)
    columns = [name for name in table.dtype.names if name != "filename"]
    columns.insert(place, "filename")
    text = h5py.string_dtype()
    kinds = [(n, text if n == "filename" else table.dtype[n]) for n in columns]
    odd = np.zeros(len(table), kinds)
    for name in columns:
        odd[name] = table[name]
    edit(path, **{"labels/data": odd})
    back = read_spark(path).labels
    assert back.names == ()
    np.testing.assert_array_equal(back.t_seconds, recording.labels.t_seconds)
    np.testing.assert_array_equal(back.translation, recording.labels.translation)
    with h5py.File(path, "a") as file:
        del file["labels/data"]
        file.create_dataset("labels/data", data=odd, chunks=(2,))
    with pytest.raises(DataError, match=r"labels/data: unreadable .*text of fixed length"):
        read_spark(path)


def test_a_damaged_chunk_is_an_error_not_other_events(tmp_path, make_recording):
    path = tmp_path / "a.h5"
    write_spark(path, make_recording(5000), compression=None)
    with h5py.File(path) as file:
        chunk = file["events/ts"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[chunk.byte_offset + 100] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="events/ts"):
        read_spark(path)


@pytest.mark.parametrize("chunks", [None, (1000,), (10**9,)])
def test_claimed_terabytes_are_refused_at_once(tmp_path, chunks):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for key in ("xs", "ys", "ts", "ps"):
            file.create_dataset(f"events/{key}", (10**13,), "u2", chunks=chunks)
            if chunks == (1000,):
                file[f"events/{key}"][0] = 1
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"10000000000000 rows|chunks of"):
        read_spark(path)
    assert time.perf_counter() - start < 2


def test_not_hdf5(tmp_path):
    with pytest.raises(DataError, match="not found"):
        SparkFile(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("t x y p")
    with pytest.raises(DataError, match=r"text\.h5: file"):
        read_spark(tmp_path / "text.h5")
    with pytest.raises(DataError, match="file"):
        read_spark(tmp_path)
