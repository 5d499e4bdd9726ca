"""Clouds to be turned: the page holds the points, brings one script, loads nothing."""

import base64
import re

import numpy as np
import pytest

from posejax.report import Cloud, Page


def decoded(text: str, name: str) -> list[bytes]:
    found = re.search(rf'data-{name}="([^"]*)"', text)
    assert found
    return [base64.b64decode(part) for part in found.group(1).split(" ")]


def page_of(*clouds: Cloud) -> str:
    page = Page("clouds")
    for cloud in clouds:
        page.cloud(cloud)
    return page.html()


def test_points_and_colours_come_back(rng):
    points = rng.normal([0, 0, 4], [1, 0.5, 2], (500, 3))
    points[3] = np.nan
    colors = {"a": rng.random((500, 3)), "<b>": np.zeros((500, 3))}
    text = page_of(Cloud(points, colors, "a room & more"))
    known = np.delete(points, 3, axis=0)
    steps = np.frombuffer(decoded(text, "points")[0], "<i2").reshape(-1, 3)
    apart = known - np.median(known, axis=0)
    np.testing.assert_allclose(steps / 32767 * np.abs(apart).max(), apart, atol=1e-4)
    first, second = (np.frombuffer(c, np.uint8).reshape(-1, 3) for c in decoded(text, "colors"))
    np.testing.assert_allclose(first / 255, np.delete(colors["a"], 3, axis=0), atol=0.5 / 255)
    assert not second.any() and "&lt;b&gt;" in text and "room &amp; more" in text
    scale = float(re.findall(r'data-scale="([^"]*)"', text)[0])
    lengths = np.linalg.norm(steps * scale, axis=1)
    assert np.quantile(lengths, 0.95) == pytest.approx(1, rel=1e-3)


def test_one_script_serves_all_and_there_is_none_without(rng):
    cloud = Cloud(rng.normal(size=(30, 3)), {"a": np.ones((30, 3))}, most=10)
    text = page_of(cloud, cloud)
    assert text.count("<script>") == 1 and text.count('class="cloud"') == 2
    assert "http" not in text.split("</style>")[1] and "src=" not in text
    assert len(np.frombuffer(decoded(text, "points")[0], "<i2")) == 30
    assert "<script" not in page_of()
    empty = page_of(Cloud(np.zeros((0, 3)), {"a": np.zeros((0, 3))}))
    assert 'data-points=""' in empty


def test_arrays_that_do_not_fit_are_refused():
    for points, colors in (
        (np.zeros((3, 2)), {"a": np.zeros((3, 2))}),
        (np.zeros((3, 3)), {}),
        (np.zeros((3, 3)), {"a": np.zeros((2, 3))}),
    ):
        with pytest.raises(ValueError, match="points are"):
            page_of(Cloud(points, colors))
