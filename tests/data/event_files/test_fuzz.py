"""Damaged files of every format: an error that names the file, or a valid recording. Always."""

import dataclasses

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posejax.data.errors import DataError
from posejax.data.event_files import (
    EventRecording,
    PoseTrack,
    SparkFile,
    audit,
    read_recording,
    read_spades_labels,
    write_dsec,
    write_event_npz,
    write_evt,
    write_rpg,
    write_spades_csv,
    write_spark,
)

SIZE = (48, 64)
FUZZ = settings(
    deadline=20_000,  # ms, generous to busy machines: a hang is a failure
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# A place (as a fraction of the file), what happens there, and the bytes it happens with.
_EDIT = st.tuples(
    st.one_of(st.floats(0, 1), st.floats(0, 0.05)),
    st.sampled_from(["flip", "overwrite", "insert", "delete", "truncate"]),
    st.one_of(
        st.binary(min_size=1, max_size=8),
        st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\n", b",", b" ", b"-", b"nan", b"1e999", b"#"]),
    ),
)
_EDITS = st.lists(_EDIT, min_size=1, max_size=4)


def mutate(raw: bytes, edits) -> bytes:
    data = bytearray(raw)
    for place, what, new in edits:
        at = int(place * max(len(data) - 1, 0))
        if what == "flip" and data:
            data[at] ^= 1 << (new[0] % 8)
        elif what == "overwrite":
            data[at : at + len(new)] = new
        elif what == "insert":
            data[at:at] = new
        elif what == "delete":
            del data[at : at + len(new)]
        elif what == "truncate" and new[0] % 4 == 0:
            del data[at:]
    return bytes(data)


def old_style_spark(path, recording):
    """As other programs write it: no checksums anywhere."""
    write_spark(path, recording)
    with h5py.File(path) as file:
        columns = {f"events/{key}": file[f"events/{key}"][:] for key in ("xs", "ys", "ts", "ps")}
        table = file["labels/data"][:]
    with h5py.File(path, "w", libver="earliest") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, chunks=(64,), compression="gzip")
        text = [
            (n, h5py.string_dtype() if n == "filename" else table.dtype[n])
            for n in table.dtype.names
        ]
        file["labels/data"] = table.astype(text)
        file.attrs["time_unit_seconds"] = 1e-4
        file.attrs["remark"] = "text of variable length"
        file.attrs["sensor_size_wh"] = SIZE[::-1]


FORMATS = {
    "spark": (".h5", write_spark, {}),
    "spark_plain": (".h5", lambda p, r: write_spark(p, r, compression=None), {}),
    "spark_old": (".h5", old_style_spark, {}),
    "dsec": (".h5", write_dsec, {"sensor_size": SIZE}),
    "npz": (".npz", write_event_npz, {}),
    "evt2": (".raw", lambda p, r: write_evt(p, r, version=2), {}),
    "evt3": (".raw", write_evt, {}),
    "csv": (".csv", write_spades_csv, {"sensor_size": SIZE, "n_poses": 6}),
    "txt": (".txt", lambda p, r: write_rpg(p.parent, r), {"sensor_size": SIZE}),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory, make_recording):
    """{format: (path to overwrite, the bytes of a valid file)}"""
    found = {}
    for name, (suffix, write, options) in FORMATS.items():
        path = tmp_path_factory.mktemp(name) / f"events{suffix}"
        write(path, make_recording(200))
        assert len(read_recording(path, **options)) == 200  # the original is valid
        found[name] = path, path.read_bytes()
    return found


def check(recording: EventRecording) -> None:
    """What the class promises, asked once more and in other words."""
    n = len(recording.t)
    dtypes = {"x": np.uint16, "y": np.uint16, "t": np.int64, "p": np.uint8}
    for key, dtype in dtypes.items():
        values = getattr(recording, key)
        assert values.dtype == dtype and values.shape == (n,)
    height, width = recording.sensor_size
    assert (recording.x < width).all() and (recording.y < height).all()
    assert (np.diff(recording.t) >= 0).all() and (recording.t >= 0).all()
    assert np.isin(recording.p, (0, 1)).all() and 0 < recording.tick_seconds < np.inf
    if recording.labels is not None:
        track = recording.labels
        assert np.isfinite(track.translation).all() and (np.diff(track.t_seconds) > 0).all()
        np.testing.assert_allclose(np.linalg.norm(track.quat_xyzw, axis=1), 1, atol=1e-9)


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_an_error_or_a_recording(originals, name):
    path, raw = originals[name]
    options = FORMATS[name][2]

    @FUZZ
    @given(_EDITS)
    def run(edits):
        path.write_bytes(mutate(raw, edits))
        try:
            recording = read_recording(path, **options)
        except DataError as error:
            assert error.file == str(path) and error.field and error.found
            return
        check(recording)
        assert dataclasses.replace(recording).t is not None
        assert audit(recording, refuse=False).text()

    run()


def test_lazy_reading_of_damaged_files(originals):
    path, raw = originals["spark_old"]

    @FUZZ
    @given(_EDITS, st.floats(-1, 1), st.floats(0, 1))
    def run(edits, start, duration):
        path.write_bytes(mutate(raw, edits))
        try:
            file = SparkFile(path)
            check(file.window(start, start + duration))
            assert file.counts([0, 0.1, 0.2]).shape == (2,)
            file.close()
        except DataError as error:
            assert error.file == str(path)

    run()


def test_damaged_label_tables(tmp_path, recording):
    path = tmp_path / "labels.csv"
    write_spades_csv(tmp_path / "e.csv", recording, labels=path)
    raw = path.read_bytes()

    @FUZZ
    @given(_EDITS)
    def run(edits):
        path.write_bytes(mutate(raw, edits))
        try:
            assert isinstance(read_spades_labels(path), PoseTrack)
        except DataError as error:
            assert error.file == str(path)

    run()


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".raw", ".csv", ".txt", ""])
def test_noise_is_an_error(tmp_path, suffix):
    path = tmp_path / f"noise{suffix}"
    heads = st.sampled_from(
        [b"", b"% evt 3.0\n% geometry 64x48\n", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"]
    )

    @FUZZ
    @given(heads, st.binary(max_size=200))
    def run(head, body):
        path.write_bytes(head + body)
        try:
            check(read_recording(path, sensor_size=SIZE, n_poses=6))
        except DataError as error:
            assert error.file == str(path)

    run()
