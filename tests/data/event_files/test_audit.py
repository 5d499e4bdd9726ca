"""The audit finds what was planted, and does not find what is not there."""

import numpy as np
import pytest

from posejax.data.errors import DataError
from posejax.data.event_files import PoseTrack, audit, infer_tick
from posejax.data.event_files.ticks import TickEvidence, nearest_decade, settle_tick


def arrays(recording):
    return {key: getattr(recording, key).astype(np.int64) for key in "xytp"}


def topics(report, level=None):
    return [f.topic for f in report.findings if level in (None, f.level)]


@pytest.fixture
def clean(make_recording):
    return make_recording(20_000)


def test_a_clean_recording_has_nothing_to_remark(clean):
    report = audit(clean)
    assert report.findings == () and "nothing to remark" in report.text()
    assert report.events == 20_000 and report.window_counts.sum() == 20_000
    assert report.inferred_tick == pytest.approx(7 / 10 / 5999, rel=1e-3)
    assert report.on_ratio == pytest.approx(0.5, abs=0.02)
    assert report.rate == pytest.approx(20_000 / 0.6, rel=0.01)


def test_the_rule_of_the_tick():
    assert infer_tick(600, 600_000) == pytest.approx(1e-4)
    assert infer_tick(600, 60_000_000) == pytest.approx(1e-6)
    with pytest.raises(ValueError, match="say nothing"):
        infer_tick(600, 0)
    assert nearest_decade(1.001e-4) == 1e-4 and nearest_decade(1.4e-6) == 1e-6
    assert nearest_decade(3e-5) is None


@pytest.mark.parametrize(("factor", "stated"), [(100, 1e-4), (1, 1e-6)])
def test_a_hundredfold_mismatch_is_refused(clean, factor, stated):
    events = arrays(clean)
    events["t"] = events["t"] * factor
    with pytest.raises(
        DataError, match=r"time unit: (1e-06|0.0001) s per tick is stated.*(86|117) times"
    ):
        audit(events, tick_seconds=stated, labels=clean.labels, sensor_size=(48, 64))
    report = audit(events, tick_seconds=stated, n_poses=6, label_rate=10, refuse=False)
    assert topics(report, "refused") == ["time unit"]
    right = audit(events, tick_seconds=stated, n_poses=6, label_rate=10 * 1e-4 / stated / factor)
    assert "refused" not in right.text() and topics(right) == []


def test_an_unstated_tick_is_inferred_and_said(clean):
    report = audit(arrays(clean), labels=clean.labels, sensor_size=(48, 64))
    assert report.tick_seconds == 1e-4 and "taken as 0.0001 s" in report.text()
    odd = audit(arrays(clean), n_poses=6, label_rate=30)
    assert "no power of ten" in odd.text() and odd.tick_seconds == odd.inferred_tick
    unknown = audit(arrays(clean))
    assert np.isnan(unknown.tick_seconds) and "cannot be inferred" in unknown.text()


def test_settling_prefers_label_times_and_checks_both():
    def settle(stated=None, **evidence):
        return settle_tick("f", "ts", stated, TickEvidence(**evidence))

    assert settle(span=123, label_step=1000) == 1e-4
    assert settle(span=1_500_000, n_poses=60, label_step=1e5) == 1e-6  # a quarter is covered
    assert settle(2.5e-5, span=0) == 2.5e-5
    with pytest.raises(DataError, match="f: ts: 3e-05 s per tick by label timestamps"):
        settle(span=0, label_step=1 / 3e-4)
    with pytest.raises(DataError, match="tick of inf"):
        settle(np.inf, span=0)


def test_disorder_is_counted(clean):
    events = arrays(clean)
    events["t"][[500, 900]] = [0, 1]
    with pytest.raises(DataError, match=r"order: 2 steps back, the first at row 500, by up to \d+"):
        audit(events, tick_seconds=1e-4)


def test_pixels_off_the_sensor_are_counted(clean):
    events = arrays(clean)
    events["x"][7], events["y"][9] = 64, -1
    with pytest.raises(
        DataError, match=r"pixels: 2 events off the sensor of 64 x 48 .*\(64, \d+\) at row 7"
    ):
        audit(events, tick_seconds=1e-4, sensor_size=(48, 64))
    assert topics(audit(events, tick_seconds=1e-4, refuse=False)) == ["pixels"]  # negative
    small = audit(clean, sensor_size=(720, 1280))
    assert topics(small, "warning") == ["pixels"] and "is that the sensor?" in small.text()


def test_polarity(clean):
    events = arrays(clean)
    signed = audit({**events, "p": 2 * events["p"] - 1}, tick_seconds=1e-4)
    assert topics(signed, "note") == ["polarity"] and signed.on_ratio == audit(clean).on_ratio
    constant = audit({**events, "p": np.ones_like(events["p"])}, tick_seconds=1e-4)
    assert "carries no information" in constant.text() and not constant.refused
    events["p"][[3, 5]] = 2
    with pytest.raises(DataError, match="polarity: 2 values beside 0 and 1, the first 2 at row 3"):
        audit(events, tick_seconds=1e-4)


def test_hot_pixels_are_found_and_edges_are_not(rng):
    x, y = rng.integers(0, 100, 20_000), rng.integers(0, 80, 20_000)
    edge_x, edge_y = np.full(8000, 50), np.arange(8000) % 80  # a hundred events each
    hot_x, hot_y = np.repeat([3, 4, 70], 300), np.repeat([5, 5, 79], 300)
    x, y = np.concatenate([x, edge_x, hot_x]), np.concatenate([y, edge_y, hot_y])
    t, p = np.arange(len(x)) * 30, rng.integers(0, 2, len(x))
    report = audit({"x": x, "y": y, "t": t, "p": p}, tick_seconds=1e-6, sensor_size=(80, 100))
    assert {tuple(xy) for xy in report.hot_pixels.tolist()} == {(3, 5), (4, 5), (70, 79)}
    assert "hot pixels: 3 fire" in report.text()


def test_empty_windows_are_listed(make_recording):
    labels = make_recording().labels
    t = np.concatenate([np.arange(100), 4000 + np.arange(100)])
    columns = {key: np.zeros(200, int) for key in "xy"}
    events = {**columns, "t": t, "p": np.arange(200) % 2}
    report = audit(events, tick_seconds=1e-4, labels=labels)
    assert report.empty_windows.tolist() == [1, 2, 3, 5]
    assert report.window_counts.tolist() == [100, 0, 0, 0, 100, 0]
    assert "empty windows: 4 of 6 without an event: 1-3, 5" in report.text()
    unlabelled = audit(events, tick_seconds=1e-4)
    assert unlabelled.empty_windows.tolist() == [1, 2, 3]


def test_events_on_the_tick_of_a_label_follow_it(make_recording):
    labels = make_recording().labels
    recording = make_recording(6, t=np.arange(6) * 1000)
    assert audit(recording, labels=labels).window_counts.tolist() == [1] * 6


def test_labels_beside_the_events(clean):
    late = PoseTrack(clean.labels.t_seconds + 0.3, clean.labels.translation, clean.labels.quat_xyzw)
    assert "50 % of the events lie before the first label" in audit(clean, labels=late).text()


def test_few_and_no_events(make_recording):
    for count in (0, 1, 2):
        report = audit(make_recording(count), refuse=False)
        assert report.events == count and np.isfinite(report.rate) and report.text()
    assert "events: there are none" in audit(make_recording(0)).text()


def test_columns_that_are_no_events():
    with pytest.raises(DataError, match="cam: x: float64"):
        audit({key: np.zeros(3) for key in "xytp"}, name="cam")
    with pytest.raises(DataError, match="lengths 3, 2, 3, 3"):
        audit({key: np.zeros(2 if key == "y" else 3, int) for key in "xytp"})


def test_several_refusals_are_told_together(clean):
    events = arrays(clean)
    events["t"][5], events["p"][5] = 4000, 7
    with pytest.raises(DataError, match=r"order: .*; 1 values beside 0 and 1"):
        audit(events, tick_seconds=1e-4)
