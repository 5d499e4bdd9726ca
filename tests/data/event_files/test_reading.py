"""One door: every format is recognised by its content."""

import h5py
import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.data.event_files import (
    format_of,
    read_recording,
    write_dsec,
    write_event_npz,
    write_evt,
    write_pose_table,
    write_rpg,
    write_spades_csv,
    write_spark,
)


@pytest.fixture
def micro(make_recording):
    return make_recording(tick_seconds=1e-6)


@pytest.mark.parametrize(
    ("kind", "write", "options"),
    [
        ("spark", lambda p, r: write_spark(p, r, tick_seconds=1e-6), {}),
        ("npz", write_event_npz, {}),
        ("evt", write_evt, {}),
        ("dsec", write_dsec, {"sensor_size": (48, 64)}),
        ("csv", write_spades_csv, {"sensor_size": (48, 64), "tick_seconds": 1e-6}),
        ("txt", lambda p, r: (write_rpg(p.parent, r), (p.parent / "events.txt").rename(p)),
         {"sensor_size": (48, 64)}),
    ],
)  # fmt: skip
def test_names_do_not_matter(tmp_path, make_recording, same, kind, write, options):
    # Labels of this recording are 100 times too far apart for events of 6 ms.
    bare = make_recording(tick_seconds=1e-6, labels=None)
    path = tmp_path / "recording.data"
    write(path, bare)
    assert format_of(path) == kind
    same(read_recording(path, **options), bare)
    if kind != "csv":
        write_pose_table(
            tmp_path / "poses.txt",
            make_recording().labels,
            meaning="body_from_camera" if kind == "txt" else "camera_from_body",
        )
        labelled = read_recording(path, labels=tmp_path / "poses.txt", **options)
        np.testing.assert_allclose(
            labelled.labels.translation, make_recording().labels.translation, atol=1e-12
        )


def test_spades_with_labels(tmp_path, recording, same):
    write_spades_csv(tmp_path / "e.csv", recording, labels=tmp_path / "l.csv")
    back = read_recording(tmp_path / "e.csv", labels=tmp_path / "l.csv", sensor_size=(48, 64))
    same(back, recording, atol=1e-15)


@pytest.mark.parametrize("kind", ["evt", "dsec", "txt"])
def test_a_fixed_unit_takes_no_other(tmp_path, micro, kind):
    {"evt": write_evt, "dsec": write_dsec}.get(kind, lambda p, r: write_rpg(p.parent, r))(
        tmp_path / "events.txt", micro
    )
    with pytest.raises(ValueError, match=r"unit of .* files is fixed"):
        read_recording(tmp_path / "events.txt", tick_seconds=1e-4)


def test_text_needs_a_sensor_size(tmp_path, micro):
    write_rpg(tmp_path, micro)
    with pytest.raises(DataError, match=r"sensor size: not stated.*sensor_size=\(H, W\)"):
        read_recording(tmp_path / "events.txt")


def test_what_is_no_recording(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_recording(tmp_path / "none.h5")
    with pytest.raises(DataError, match="not a regular file"):
        read_recording(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"content: .*expected HDF5"):
        read_recording(tmp_path / "a.bin")
    (tmp_path / "a.txt").write_text("t x y p\n")
    with pytest.raises(DataError, match=r"line 1: 4 words|line 1: t: 't'"):
        read_recording(tmp_path / "a.txt", sensor_size=(4, 4))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["events/q"] = [1]
    with pytest.raises(DataError, match="events: holds q; expected /events/xs"):
        read_recording(tmp_path / "a.h5")
