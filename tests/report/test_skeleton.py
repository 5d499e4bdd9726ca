"""The skeleton on a made-up system: the order of its sections, what it says first, strict JSON."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from posejax.report import (
    Card,
    Plot,
    Report,
    Share,
    Table,
    Track,
    condition,
    figure_png,
    pictures,
    write,
)
from posejax.report.contents import split_bins, spread_evenly
from posejax.report.statistics import mean, rms


def dot():
    figure = Figure(figsize=(0.5, 0.5))
    figure.subplots().plot([0, 1])
    return figure


def full_report(rng, **changes):
    index = np.arange(40) + 100
    error = rng.uniform(size=40)
    records = {"index": index, "name": np.array([f"log<{k}>" for k in range(40)])}
    order = np.argsort(-error)
    examples = [{"index": k} for k in (index[order[1]], index[order[30]], index[order[0]], 7)]
    report = Report(
        title="a <made-up> system",
        simulated=True,
        summary={"rms": float(rms(error)), "broken": float("nan")},
        count=40,
        notes="Split val & step 12.",
        noun="sweeps",
        nonfinite={"peak": ["log<3>"]},
        remarks=["one & only"],
        cards={"single sweeps:": [Card("1 m", "RMS")]},
        accuracy=["Text.", Table(["a"], [[1.0]], "numbers"), Plot("cdf", dot), Plot("other", dot)],
        calibration=[Plot("coverage", dot, "Does it tell the truth?")],
        conditions=[
            condition("size", "size (m)", error, error, mean, measure="mean error (m)"),
            condition("never", "unknown", error * np.nan, error, mean, measure="mean error (m)"),
        ],
        risk=[Plot("position", dot)],
        tracks=[
            Track(f"drive {k}", {"sweeps": 4}, ("mean error", 10.0 - k), dot) for k in range(10)
        ],
        worst=[{"index": 1, "error": float("inf"), "recall": Share(0.25)}],
        worst_text="The worst first.",
        gallery=pictures(examples, records, order, lambda row, e: f"row {row}", lambda e: dot()),
        gallery_text="What is to be seen.",
        settings={"cell": 0.2, "channels": ["a", "b"]},
        conventions="x grows.",
        facts={"intervals": {"rms": (np.float32(1), np.nan)}},
    )
    return Report(**{**vars(report), **changes})


class Tags(HTMLParser):
    """Open tags in order, and every address the page would load."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.loaded = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.stack.append(tag)
        self.loaded += [v for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new"
    path = write(full_report(np.random.default_rng(0)), folder)
    assert path == folder / "index.html"
    assert sorted(p.name for p in folder.iterdir()) == ["index.html", "report.json"]
    return path.read_text(encoding="utf-8"), (folder / "report.json").read_text(encoding="utf-8")


def test_the_page_is_whole_and_needs_nothing_from_outside(written):
    tags = Tags(written[0])
    assert not tags.stack
    assert all(a.startswith(("#", "data:image/png;base64,")) for a in tags.loaded)
    assert "&lt;made-up&gt;" in written[0] and "&amp; step 12" in written[0]


def test_sections_have_one_order_and_the_warnings_come_before_all(written):
    text = written[0]
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Accuracy",
        "Calibration",
        "Conditions",
        "Risk and coverage",
        "Errors over time",
        "Worst sweeps",
        "Pictures: worst",
        "Pictures: others",
        "Settings and numbers",
    ]
    said = [
        "Simulated data",
        "1 of 40 peak estimates are not finite; they are in no average. Sweeps: log&lt;3&gt;",
        "one &amp; only",
        "Single sweeps:",
        "<b>1 m</b>",
        "<h2>Accuracy",
    ]
    places = [text.index(part) for part in said]
    assert places == sorted(places)


def test_what_is_empty_is_left_out(tmp_path):
    report = Report(title="bare", simulated=False, summary={"rms": 1.0}, count=3)
    text = write(report, tmp_path).read_text(encoding="utf-8")
    assert "Simulated" not in text and "notice" not in text.split("</style>")[1]
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Settings and numbers"]
    assert list(report.figures()) == []


def test_json_is_strict_and_holds_all_numbers(written):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    facts = json.loads(written[1], parse_constant=refuse)
    assert facts["simulated"] is True and facts["notes"] == "Split val & step 12."
    assert facts["summary"]["broken"] is None and facts["summary"]["rms"] > 0
    assert facts["worst"] == [{"index": 1, "error": None, "recall": 0.25}]
    assert facts["intervals"] == {"rms": [1.0, None]}
    assert list(facts["conditions"]) == ["size"]
    assert sum(row["sweeps"] for row in facts["conditions"]["size"]) == 40
    assert [s["sequence"] for s in facts["sequences"]] == [f"drive {k}" for k in range(10)]
    assert facts["settings"]["channels"] == ["a", "b"]


def test_figures_are_named_and_drawn_one_by_one(rng):
    drawn = []

    def draw():
        drawn.append(1)
        return dot()

    report = full_report(rng, accuracy=[Plot("cdf", draw), Plot("other", draw)])
    assert not drawn
    figures = report.figures()
    name, figure = next(figures)
    assert name == "accuracy/cdf" and len(drawn) == 1 and figure_png(figure)[:4] == b"\x89PNG"
    names = [name for name, _ in figures]
    expected = ["accuracy/other", "calibration/coverage", "conditions/size", "risk/position"]
    expected += [f"time/from_worst_{k}" for k in range(1, 9)]
    assert names == [*expected, *(f"gallery/worst_{k}" for k in (1, 2)),
                     *(f"gallery/others_{k}" for k in (1, 2))]  # fmt: skip


def test_pictures_are_sorted_by_their_rank_in_the_whole_split(rng):
    titles = [p.title for p in full_report(rng).gallery]
    assert [t.split("; ")[-1] for t in titles] == [
        "worst 1 of 40",
        "worst 2 of 40",
        "worst 31 of 40",
        "Example 7: row None",
    ]
    assert re.match(r"Example \d+ \(log<\d+>\): row \d+; ", titles[0])


def test_the_tracks_drawn_run_from_the_worst_to_the_best(written):
    text = written[0]
    assert (
        "8 of 10 sequences, spread evenly from the worst to the best mean error: drive 0," in text
    )
    assert "drive 0: mean error 10.000." in text and "Table of all 10 sequences" in text
    errors = np.random.default_rng(3).permutation(30) / 10
    picked = spread_evenly(errors, 8)
    assert len(set(picked)) == 8
    assert errors[picked[0]] == 2.9 and errors[picked[-1]] == 0
    assert np.all(np.diff(errors[picked]) < 0)
    assert spread_evenly([0.1, 0.3], 8) == [1, 0]


def test_bins_hold_every_known_example_once(rng):
    quantity = np.round(rng.uniform(size=203), 2)
    bins = split_bins(quantity, 4)
    assert sum(len(rows) for _, rows in bins) == 203 and len(bins) == 4
    for k, ((low, high), rows) in enumerate(bins):
        upper = quantity <= high if k == 3 else quantity < high
        np.testing.assert_array_equal(rows, np.flatnonzero((quantity >= low) & upper))
    ((edges, rows),) = split_bins(np.ones(7), 4)
    assert edges == (1, 1) and len(rows) == 7
    assert split_bins(np.full(3, np.nan), 4) == []
    assert sum(len(rows) for _, rows in split_bins(np.array([np.nan, 1, 2, np.inf]), 2)) == 2


def test_conditions_are_the_statistics_of_their_bins(rng):
    quantity, error = rng.uniform(size=60), rng.uniform(size=60)
    error[5] = np.nan
    found = condition("q", "q", quantity, error, rms, measure="RMS", columns={"n": len})
    assert len(found.bins) == 5 and found.columns["n"] == list(found.counts)
    for (low, high), value, interval in zip(found.bins, found.values, found.intervals, strict=True):
        inside = (quantity >= low) & (quantity <= high) & np.isfinite(error)
        assert value == pytest.approx(rms(error[inside]), rel=0.03)
        assert interval[0] <= value <= interval[1]
    few = condition("q", "q", quantity[:15], error[:15], rms, measure="RMS")
    assert list(few.counts) == [15]


def test_intervals_draw_whole_sequences_where_there_are_some(rng):
    sequence = np.repeat([0, 1, 2, 3], 10)
    error = np.repeat(rng.uniform(size=4), 10)  # all of a sequence alike
    args = ("q", "q", rng.uniform(size=40), error, mean)
    one = condition(*args, measure="mean", bins=1)
    many = condition(*args, measure="mean", bins=1, sequence=sequence)
    widths = [np.ptp(c.intervals[0]) for c in (one, many)]
    assert widths[1] > 1.5 * widths[0]
    caption = many.parts("examples")[0].caption
    alone = condition(*args, measure="mean", bins=1, sequence=sequence * 0)
    assert np.isnan(alone.intervals[0]).all() and caption == "By q"
    two = condition("q", "q", sequence, error, mean, measure="mean", bins=2, sequence=sequence)
    assert two.parts("examples")[1].caption.endswith("bootstrap intervals by sequence.")
