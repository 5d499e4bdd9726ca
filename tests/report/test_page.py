"""Pages and text tables: nothing from outside, all text escaped, tags closed."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from posejax.report import Page, Share, figure_png, markdown_table, number, percent
from posejax.report.text import history_tables

METRICS = {"xy_m": "xy m", "yaw_rad": "theta rad"}


def a_figure(height=1.0) -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, height])
    return figure


def a_page() -> Page:
    page = Page("A <b> & 'title'", "First.\n\nSecond <i>.")
    page.cards([("1 < 2", "a & b")])
    page.notice("<script>alert(1)</script>")
    with page.section("Numbers & names", "Text <here>."):
        page.table(["name <x>", "value"], [["a<b", 0.12345], ["c&d", np.float32(2)]], caption="<c>")
        with page.row():
            page.figure(a_figure(), "a < b", alt='say "hi"')
        with page.details("more <details>", open=True):
            page.table(["k"], [])
    return page


def test_page_is_well_formed_and_escaped():
    text = a_page().html()
    # Void tags closed, the rest must be XML: every tag closed and in order, every sign escaped.
    xml = re.sub(r"<(meta|img)([^>]*)>", r"<\1\2/>", text.replace("<!doctype html>", ""))
    root = ElementTree.fromstring(xml.replace("<details open>", '<details open="">'))
    assert root.find("head/title").text == "A <b> & 'title'"
    assert [p.text for p in root.iter("p")][:2] == ["First.", "Second <i>."]
    assert [td.text for td in root.iter("td")] == ["a<b", "0.123", "c&d", "2.000"]
    assert not list(root.iter("script"))
    assert next(root.iter("img")).get("alt") == 'say "hi"'
    section = next(root.iter("section"))
    link = next(root.iter("a"))
    assert link.get("href") == "#" + section.get("id") and link.text == "Numbers & names"


def test_page_needs_nothing_from_outside():
    text = a_page().html()
    sources = re.findall(r'(?:src|href)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert len(sources) == 2
    assert all(s.startswith(("data:image/png;base64,", "#")) for s in sources)
    assert "@import" not in text


def test_figures_are_embedded_whole_and_repeat():
    data = re.search(r"base64,([^\"]*)", a_page().html()).group(1)
    png = base64.b64decode(data)
    assert png.startswith(b"\x89PNG") and png == figure_png(a_figure())
    assert png != figure_png(a_figure(height=-1.0))


def test_photographs_are_small_and_of_the_same_pixels(rng):
    """A page of two dozen has to be one that people can send to each other."""
    ramp = np.linspace(0, 200, 300)
    photo = ramp[:, None, None] + ramp[:, None] + rng.normal(0, 8, (300, 300, 3))
    figure = Figure(figsize=(4, 4))
    figure.subplots().imshow(np.clip(photo / 2, 0, 255).astype(np.uint8))
    page, sizes, pixels = Page("t"), [], []
    for photograph in (False, True):
        page.figure(figure, "", photograph=photograph)
    for kind, data in re.findall(r"data:image/(\w+);base64,([^\"]*)", page.html()):
        raw = base64.b64decode(data)
        image = Image.open(io.BytesIO(raw))
        assert image.format == kind.upper() == ("JPEG" if sizes else "PNG")
        sizes.append(len(raw))
        pixels.append(np.asarray(image.convert("RGB"), np.float64))
    assert sizes[1] < sizes[0] / 4
    assert pixels[0].shape == pixels[1].shape and np.abs(pixels[0] - pixels[1]).mean() < 4


def test_write_replaces_in_one_step_and_survives_a_power_failure(tmp_path, monkeypatch):
    path = tmp_path / "new" / "index.html"
    Page("old").write(path)
    synced = []
    monkeypatch.setattr("posejax.data.files.os.fsync", synced.append)
    assert a_page().write(path) == path
    assert path.read_text(encoding="utf-8") == a_page().html()
    assert [p.name for p in path.parent.iterdir()] == ["index.html"] and len(synced) == 2


def test_rows_must_fit_their_headers():
    with pytest.raises(ValueError, match="3 cells for 2 headers"):
        Page("t").table(["a", "b"], [[1, 2, 3]])
    with pytest.raises(ValueError, match="1 cells for 2 headers"):
        markdown_table(["a", "b"], [[1]])


def test_numbers_as_text():
    assert number(0.12345) == "0.123"
    assert number(np.float32(2)) == "2.000"
    assert number(np.int64(7)) == "7"
    assert number(float("nan")) == "-"
    assert number(float("-inf")) == "-inf"
    assert number(1.23e-5) == "1.2e-05"  # never a perfect-looking 0.000
    assert number(0.0) == "0.000"
    assert number(True) == "True"
    assert number(Share(0.9567)) == "95.7 %"
    assert number((1.0, 2.5), 1) == "1.0 to 2.5" and number((float("nan"), 1.0)) == "-"
    assert percent(0.9567) == "95.7 %" and percent(float("nan")) == "-"


def test_markdown_table_is_aligned_and_escaped():
    lines = markdown_table(["name", "m"], [["a|b", 1.5], ["long name", 2]]).split("\n")
    assert lines == [
        "| name      | m     |",
        "|-----------|-------|",
        "| a\\|b      | 1.500 |",
        "| long name | 2     |",
    ]


def test_history_tables_pick_last_and_best_epochs():
    def epoch(k, loss):
        parts = {f"{p}/{m}": loss for p in ("train", "val") for m in ("loss", "xy_m", "yaw_rad")}
        return {"epoch": k, **parts}

    histories = {
        "BN": [epoch(1, 3.0), epoch(2, 1.5), epoch(3, 2.0)],
        "GN": [epoch(1, np.nan), epoch(2, 2.5), epoch(3, np.nan)],
    }
    last, best = history_tables(histories, METRICS).split("Best validation")
    assert "Last epoch (3)" in last and "2.0000" in last and "1.5000" not in last
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in best.split("\n")[4:]]
    assert rows == [["BN", "2", *["1.5000"] * 3], ["GN", "2", *["2.5000"] * 3]]
    with pytest.raises(ValueError, match=r"GN, epoch 1: lacks \['val/xy_m'\]"):
        history_tables(
            {"GN": [{k: v for k, v in epoch(1, 1.0).items() if k != "val/xy_m"}]}, METRICS
        )
    with pytest.raises(ValueError, match="no epoch"):
        history_tables({"IN": []}, METRICS)
