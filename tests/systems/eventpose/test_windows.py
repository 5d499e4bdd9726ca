"""Windows of labelled recordings: bounds, examples of both modes, splits."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.data.event_files import (
    EventRecording,
    PoseTrack,
    SparkFile,
    read_spark,
    write_spark,
)
from posejax.data.event_files.spades_csv import write_spades_csv
from posejax.events import Window, pack_events, window_bounds, window_rows
from posejax.events.packing import TIME_LIMIT_US
from posejax.systems.eventpose.data import Frames, Recordings, Simulated, divide
from posejax.systems.eventpose.inputs import example_events
from posejax.systems.eventpose.simulated import SimulatedSequences, SimulatedWindows
from posejax.systems.eventpose.windows import (
    WindowRule,
    WindowSource,
    cut_window,
    kept_rows,
    window_example,
)


@pytest.fixture
def recordings(tmp_path, rng):
    """Two recordings of 1 s with 11 labels each and some thousand events."""
    for k, count in enumerate((3000, 2000)):
        t = np.sort(rng.integers(0, 10_000, count))
        x, y = rng.integers(0, 1280, count), rng.integers(0, 720, count)
        labels = PoseTrack(
            np.arange(11) / 10,
            np.stack([np.arange(11) * 0.1, np.zeros(11), 5 + np.zeros(11)], 1),
            np.tile([0, 0, 0, 1.0], (11, 1)),
        )
        write_spark(
            tmp_path / f"RT{k:03d}.h5",
            EventRecording(x, y, t, rng.integers(0, 2, count), 1e-4, (720, 1280), labels),
        )
    return tmp_path


def make(folder: Path, **rule) -> WindowSource:
    return WindowSource([SparkFile(p) for p in sorted(folder.glob("*.h5"))], WindowRule(**rule))


@pytest.mark.parametrize(
    "anchor, bounds", [("before", (0.2, 0.3)), ("after", (0.3, 0.4)), ("centred", (0.25, 0.35))]
)
def test_anchors(anchor, bounds):
    t_us = np.arange(0, 1_000_000, 1000)
    rows, start, end = window_rows(t_us, 300_000, Window(anchor))
    np.testing.assert_allclose([start, end], np.array(bounds) * 1e6)
    np.testing.assert_array_equal(t_us[rows], t_us[(t_us >= start) & (t_us < end)])
    np.testing.assert_allclose(window_bounds(0.3, Window(anchor)), bounds)


@pytest.mark.parametrize("anchor, first", [("before", 200), ("after", 300), ("centred", 250)])
def test_windows_by_count(anchor, first):
    t_us = np.arange(0, 1_000_000, 1000)
    rows, start, end = window_rows(t_us, 300_000, Window(anchor, count=100))
    assert (rows.start, rows.stop) == (first, first + 100)
    assert start <= t_us[rows][0] and t_us[rows][-1] < end
    assert start <= 300_000 <= end
    rows, start, end = window_rows(np.empty(0, int), 5, Window(anchor, count=100))
    assert rows == slice(0, 0) and end > start


@pytest.mark.parametrize("wrong", [{"duration": 0.0}, {"count": 0}, {"overlap": 1.0}])
def test_windows_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Window(**wrong)


def test_resident_examples_name_the_rows_that_host_examples_carry(recordings):
    host, resident = make(recordings), make(recordings, resident=True)
    table = resident.resident()["events"]
    assert len(host) == len(resident) == 20
    for index in (0, 9, 10, 19):
        a = window_example(host[index], host.rule, None)
        b = window_example(resident[index], resident.rule, None)
        found = int(a["found"])
        assert found > 50
        np.testing.assert_array_equal(a["events"][:found], table[b["first"] : b["first"] + found])
        assert not a["events"][found:].any()
        for key in a.keys() - {"events"}:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_labels_whose_window_leaves_the_labels_are_no_records(recordings):
    source = make(recordings)
    assert len(source) == 20 and source.index[9].tolist() == [0, 9]
    assert source.describe(12) == "RT001 at 0.200 s"
    both = make(recordings, window=Window("centred", 0.4))
    assert len(both) == 14 and both.index[0].tolist() == [0, 2]


def clips(folder: Path, clip=(0.0, 0.1)) -> Path:
    """A recording of five clips of 0.1 s, 100 events each, the first one on the label."""
    t = np.concatenate([1000 * k + np.arange(100) * 10 for k in range(5)])
    labels = PoseTrack(
        np.arange(5) / 10 + clip[0],
        np.stack([np.arange(5.0), np.zeros(5), 5 + np.zeros(5)], 1),
        np.tile([0, 0, 0, 1.0], (5, 1)),
        clip=clip,
    )
    x = np.repeat(np.arange(5), 100)
    path = folder / "clips.h5"
    write_spark(path, EventRecording(x, x, t, x % 2, 1e-4, (720, 1280), labels))
    return path


def test_windows_of_clips_hold_nothing_of_their_neighbours(tmp_path, recordings, rng):
    """No event and no pose of another clip, whatever `any_time` says; each is a sequence."""
    file = SparkFile(clips(tmp_path))
    assert file.labels is not None and file.labels.clip == (0.0, 0.1)
    others = SparkFile(recordings / "RT000.h5")
    assert others.labels is not None and others.labels.clip is None
    source = WindowSource([file, others], WindowRule(capacity=128), [[0, 1, 2, 3, 0], 1.0])
    assert len(source) == 5 + 10
    sequences, lights = [], []
    for k in range(5):
        for generator in (None, rng):
            e = window_example(source[k], source.rule, generator)
            assert e["found"] == 100 and set((e["events"][:100, 0] & 0x3FFF).tolist()) == {k}
            assert (e["poses"][:, 0] == k).all() and e["fraction"] == 0
            assert e["time"] == pytest.approx(0.1 * k)
        sequences.append(int(e["sequence"]))
        lights.append(float(e["light"]))
        np.testing.assert_array_equal(
            window_example(source.peek(k), source.rule, rng)["events"], e["events"]
        )
    assert sequences == [0, 1, 2, 3, 4] and lights == [0, 1, 2, 3, 0]
    e = window_example(source[5], source.rule, rng)
    assert e["sequence"] == 5 and e["light"] == 1.0 and e["fraction"] > 0


def test_training_windows_are_independent_and_the_other_splits_are_sequences(
    tmp_path, monkeypatch, recordings
):
    asked = []

    def ensure(root, settings, split, count):
        asked.append((settings.clip_s, settings.sequence.duration_s, split, count))
        lights = {"light": [0, 1, 2, 3, 0]}
        rest = dict.fromkeys(("helix", "sun", "velocity", "frames", "events"), [0] * 5)
        (tmp_path / "clips.json").write_text(json.dumps(lights | rest))
        return [clips(tmp_path, settings.clip_s)]

    sequences = lambda self, split: ([recordings / "RT000.h5"], [3.0])  # noqa: E731
    monkeypatch.setattr("posejax.sim.ensure_windows", ensure)
    monkeypatch.setattr(SimulatedSequences, "files", sequences)
    data = Simulated(windows=SimulatedWindows(train=5, test=3), rule=WindowRule(Window("before")))
    source = data.source("train")
    assert len(source) == 5 and [source[k]["light"] for k in range(5)] == [0, 1, 2, 3, 0]
    assert len(data.source("val")) == 10 and data.source("val")[0]["light"] == 3.0
    assert len(data.source("test")) == 5
    assert asked == [((0.1, 0.0), 6.0, "train", 5), ((0.1, 0.0), 6.0, "test", 3)]
    by_count = replace(data, rule=WindowRule(Window(count=50)))
    with pytest.raises(ValueError, match="50 events"):
        by_count.source("train")


@pytest.mark.parametrize(
    "window", [Window("before"), Window("centred"), Window("after", 0.2), Window(count=50)]
)
def test_windows_that_leave_their_clip_are_refused(tmp_path, window):
    with pytest.raises(DataError, match="independent clips"):
        WindowSource([SparkFile(clips(tmp_path))], WindowRule(window))
    if window.count is None and window.duration == 0.1:
        both = SparkFile(clips(tmp_path, window.reach()))
        assert len(WindowSource([both], WindowRule(window))) == 5


def test_training_queries_fall_between_labels_and_inside_the_labelled_time(recordings, rng):
    source = make(recordings)
    times = []
    for _ in range(200):
        e = window_example(source[9], source.rule, rng)  # the last label with a whole window
        times.append(float(e["time"]))
        high, low = e["start_us"].tolist()
        assert (high << 16) + low + e["duration_us"] <= 1_000_000
    assert max(times) == pytest.approx(0.9)
    e = [window_example(source[3], source.rule, rng) for _ in range(200)]
    assert 0.3 <= min(x["time"] for x in e) < 0.31 and 0.39 < max(x["time"] for x in e) <= 0.4
    for x in e[:20]:  # the pose at the query is that of the straight line
        a, b = x["poses"][:, 0]
        assert a + x["fraction"] * (b - a) == pytest.approx(x["time"], abs=1e-5)


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("query_us", [30_000, 3_000_000_000, TIME_LIMIT_US])
def test_windows_lie_anywhere_in_the_time_that_packing_holds(query_us, resident):
    """From one that begins before the recording to 71 minutes later."""
    rule = WindowRule(Window("before", 0.1), capacity=8, resident=resident)
    t = query_us - np.array([20_000, 7, 1])
    packed = pack_events([1, 2, 3], [4, 5, 6], t, [0, 1, 1])
    example = cut_window(packed, query_us, rule)
    assert (example["found"], example["duration_us"]) == (3, 100_000)
    table = jnp.asarray(np.concatenate([packed, np.zeros((8, 2), np.uint32)]))
    events = example_events(jax.device_put(example), table if resident else None, 8)
    np.testing.assert_array_equal(events.valid, [True] * 3 + [False] * 5)
    np.testing.assert_allclose(events.t[:3], [0.08, 0.099993, 0.099999], atol=1e-8)


def test_windows_by_count_last_as_long_as_their_events():
    t = np.array([5, TIME_LIMIT_US - 1])
    packed = pack_events([1, 2], [4, 5], t, [0, 1])
    example = cut_window(packed, TIME_LIMIT_US, WindowRule(Window("before", count=2), capacity=8))
    assert example["found"] == 2 and example["duration_us"] == TIME_LIMIT_US - 5
    events = example_events(jax.device_put(example), None, 8)
    np.testing.assert_allclose(events.t[:2], [0, (t[1] - 5) * 1e-6], rtol=1e-6)


def test_too_many_events_are_thinned_evenly():
    for found, capacity in ((1000, 100), (101, 100), (99_999, 4096)):
        rows = kept_rows(found, capacity)
        assert rows[0] == 0 and rows[-1] < found
        steps = np.diff(rows)
        assert steps.min() >= 1 and steps.max() - steps.min() <= 1
    np.testing.assert_array_equal(kept_rows(3, 5), np.arange(5))
    on_device = jax.jit(lambda found: kept_rows(found, 4096, jnp))
    for found in (0, 4095, 4096, 4097, 99_999, 2**24 + 1):
        np.testing.assert_array_equal(on_device(found), kept_rows(found, 4096))


def test_sources_cross_processes(recordings):
    source = make(recordings)
    a = window_example(source[4], source.rule, None)
    again = pickle.loads(pickle.dumps(source))
    assert not again._packed
    np.testing.assert_array_equal(
        a["events"], window_example(again[4], source.rule, None)["events"]
    )


def test_sequences_are_divided_in_name_order():
    files = [Path(f"RT{i:03d}.h5") for i in range(300)]
    train, val, test = divide(files, (240, 30, 30))
    assert (train, val, test) == (files[:240], files[240:270], files[270:])
    assert [len(p) for p in divide(files[:10], (240, 30, 30))] == [8, 1, 1]
    with pytest.raises(DataError, match="at least 3"):
        divide(files[:2], (240, 30, 30))


def test_folders_named_as_splits_are_the_splits(tmp_path):
    for name, files in (("train", "ab"), ("val", "c")):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / f"{file}.h5").touch()
    data = Recordings(root=str(tmp_path))
    assert [p.stem for p in data.files("train")] == ["a", "b"]
    assert [p.stem for p in data.files("val")] == ["c"]
    with pytest.raises(DataError, match=r"split 'test': no such folder.*train or val"):
        data.files("test")


def test_a_folder_that_is_not_given_or_empty_is_said(tmp_path):
    for kind in (Recordings, Frames):
        with pytest.raises(DataError, match=r"not given; .*set it with --data\.root FOLDER"):
            kind().source("train")
    with pytest.raises(DataError, match=r"no such folder; .*set it with --data\.root FOLDER"):
        Recordings(root=str(tmp_path / "no")).source("train")
    with pytest.raises(DataError, match=r"no such file"):
        Recordings(root=str(tmp_path)).source("train")


def test_spades_tables_are_converted_once(recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "spades"
    for folder in ("events", "labels"):
        (root / "synthetic" / folder).mkdir(parents=True)
    for k in range(3):
        recording = read_spark(recordings / "RT000.h5")
        base = root / "synthetic"
        write_spades_csv(
            base / "events" / f"RT{k:03d}.csv", recording, labels=base / "labels" / f"RT{k:03d}.csv"
        )
    data = Recordings(root=str(root))
    source = data.source("train")
    assert capsys.readouterr().out.count("converting") == 1
    again = data.source("train")
    assert "converting" not in capsys.readouterr().out
    direct = make(recordings)
    for found in (source, again):
        assert len(found) == 10
        a, b = (window_example(s[3], s.rule, None) for s in (found, direct))
        np.testing.assert_array_equal(a["events"], b["events"])
        np.testing.assert_allclose(a["poses"], b["poses"], atol=1e-6)
    (root / "synthetic" / "labels" / "RT001.csv").unlink()
    with pytest.raises(DataError, match=r"the labels of RT001\.csv"):
        data.source("val")
