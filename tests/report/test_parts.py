"""Sections that systems share: their numbers are those of the errors they are made of."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from posejax.report import parts
from posejax.report.statistics import cluster_bootstrap, median


class Errors(NamedTuple):
    distance: np.ndarray


def test_cards_print_what_the_summary_has():
    summary = {"s/rms": 0.1234, "s/recall": 0.5}
    headlines = [
        parts.Headline("rms", "RMS", " m", 2),
        parts.Headline("recall", "recall", "%"),
        parts.Headline("absent", "never"),
    ]
    found = parts.cards(summary, headlines, {"rms": (0.1, 0.2), "recall": (np.nan, 1)}, "s/")
    assert found == [("0.12 m", "RMS; 95 %: 0.10 to 0.20"), ("50.0 %", "recall")]


def test_summary_tables_pick_and_convert(rng):
    summary = {"a/rms": 1.0, "a/lost": 2.0, "b/rms": 3.0, "b/lost": 0.0}
    columns = {"RMS m": "rms", "not finite": ("lost", int)}
    table = parts.summary_table(summary, {"A": "a/", "B": "b/"}, columns, "c", first="of")
    assert table.headers == ["of", "RMS m", "not finite"]
    assert table.rows == [["A", 1.0, 2], ["B", 3.0, 0]]


def test_measures_have_intervals_by_sequence(rng):
    sequence, distance = np.repeat(np.arange(5), 8), rng.uniform(size=40)
    measures = [
        parts.Measure("median_m", "median (m)", "distance", median, 2),
        parts.Measure("near", "below 0.5 m", lambda e: e.distance < 0.5, parts.share),
    ]
    errors = {"one": Errors(distance), "double": Errors(2 * distance)}
    table, intervals = parts.measured(measures, errors, sequence)
    assert table.headers == ["", "one", "95 % interval", "double", "95 % interval"]
    low, high = cluster_bootstrap(distance, sequence, median)
    assert intervals["one"]["median_m"] == (low, high)
    value = np.median(distance)
    assert table.rows[0][1:3] == [f"{value:.2f}", f"{low:.2f} to {high:.2f}"]
    assert table.rows[0][3] == f"{2 * value:.2f}"
    assert table.rows[1][1] == f"{100 * np.mean(distance < 0.5):.1f} %"
    _, alone = parts.measured(measures, errors, sequence * 0)
    assert np.isnan(alone["one"]["median_m"]).all()


def test_captions_of_distributions_are_sentences():
    errors = {"end-point": ("px", {"warp": np.arange(3.0)})}
    (plot,) = parts.distributions(errors, "pairs")
    assert plot.caption == "Pairs whose end-point error is below a limit."


def test_honest_claims_read_as_calibrated(rng):
    squares = rng.chisquare(2, 2000)
    lost = np.where(np.arange(2000) < 20, np.nan, squares)
    claims = [
        parts.Claim("honest", "x, y", squares, 2, {"extra": 1}),
        parts.Claim("overconfident", "x, y", 4 * lost, 2, {"extra": 2}),
    ]
    table, plot = parts.calibration(claims, caption="Honest?")
    honest, over = (dict(zip(table.headers, row, strict=True)) for row in table.rows)
    assert "region" not in honest and honest["extra"] == 1 and over["unusable"] == 20
    assert honest["mean NEES (ideal)"].endswith(" (2)")
    assert float(honest["mean NEES (ideal)"].split()[0]) == pytest.approx(2, abs=0.15)
    assert honest["median NEES (ideal)"].endswith(" (1.39)")
    assert honest["inside 90 %"] == pytest.approx(0.9, abs=0.025)
    assert honest["mean gap"] < 0.02 < over["mean gap"]
    inside = 0.99 * stats.chi2.cdf(stats.chi2.ppf(0.95, 2) / 4, 2)
    assert over["inside 95 %"] == pytest.approx(inside, abs=0.03)
    assert len(plot.draw().axes[0].get_legend().get_texts()) == 2
    both = parts.calibration([*claims, parts.Claim("honest", "z", squares, 2)], caption="Honest?")
    assert "region" in both[0].headers and [p.name for p in both[1:]] == [
        "coverage_1",
        "coverage_2",
    ]
    assert parts.calibration([], caption="Honest?") == []


def test_tracks_are_means_and_curves_in_the_order_of_time(rng):
    records = {"sequence": np.array([4, 4, 9, 4]), "time": np.array([2.0, 0.0, 1.0, 1.0])}
    score, size = np.array([1.0, 2.0, 5.0, 3.0]), np.array([0.1, 0.3, 0.4, 0.2])
    errors = {"raw": {"score": score, "size (m)": size}, "late": {"score": score, "size (m)": size}}
    missing = np.array([False, True, False, False])
    first, second = parts.tracks(records, errors, missing, {"range m": size}, noun="sweeps")
    assert first.name == "sequence 4" and first.error == ("mean score", 2.0)
    assert first.row["sweeps"] == 3 and first.row["seconds"] == 2
    assert first.row["range m"] == (0.1, 0.3)
    assert first.row["size (m), late"] == pytest.approx(0.2) and second.row["score"] == 5
    line = first.draw().axes[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [0, 1, 2])
    np.testing.assert_allclose(line.get_ydata(), [np.nan, 0.2, 0.1])


def test_rows_are_plain_values():
    columns = {"name": np.array(["a", "b"]), "n": np.arange(2), "e": np.float32([0.5, np.nan])}
    (row,) = parts.rows(columns, np.array([0]))
    assert row == {"name": "a", "n": 0, "e": 0.5}
    assert [type(v) for v in row.values()] == [str, int, float]


def test_extents_are_short():
    assert parts.extent(np.array([0.25, np.nan, 0.5, 8])) == "0.25 to 8, median 0.5"
    assert parts.extent(np.array([594.0, 20000.0, 39581.0])) == "594 to 39,581, median 20,000"
