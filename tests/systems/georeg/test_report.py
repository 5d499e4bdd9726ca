"""The georeg report on a made-up evaluation: what it says, and where the pictures put things."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from posejax.data import se2
from posejax.report.page import figure_png
from posejax.systems.georeg.pictures import (
    Setting,
    channel_names,
    choose_display,
    feature_colors,
    into_geo_frame,
    log_prob_sum,
    paint,
    registration_figure,
)
from posejax.systems.georeg.report import write_report

CELL, RADIUS, ANGLES = 0.2, 20, np.deg2rad(np.linspace(-10, 10, 21))
COVARIANCE = np.diag([0.12, 0.07, np.deg2rad(0.4)]) ** 2


def made_up_records(rng, n=300):
    pose = rng.uniform(-1, 1, (n, 3)) * [3, 3, np.deg2rad(8)]
    error = rng.multivariate_normal(np.zeros(3), COVARIANCE, n)
    softmax = pose + error
    step = np.array([CELL, CELL, ANGLES[1] - ANGLES[0]])
    return {
        "pose": pose,
        "softmax": softmax,
        "gaussian": pose + 0.9 * error,
        "argmax": np.round(softmax / step) * step,
        "covariance": np.tile(COVARIANCE, (n, 1, 1)),
        "gaussian_covariance": np.tile(COVARIANCE / 4, (n, 1, 1)),
        "nll": rng.normal(2, 1, n),
        "fill_rate": rng.uniform(0.1, 0.5, n),
        "overlap": np.ones(n),
        "peak_ratio": rng.uniform(0, 1, n),
        "abstain": rng.uniform(size=n) < 0.05,
        "error": np.hypot(error[:, 0], error[:, 1]),
        "index": np.arange(1000, 1000 + n),
    }


def made_up_example(rng, records, k, size=96):
    """A street of blocks and paint, seen through rings of a scanner at the true pose."""
    pose = records["pose"][k]
    big = size + 2 * RADIUS
    y, x = (np.mgrid[:big, :big] + 0.5 - big / 2) * CELL
    road = np.abs(y + 0.3 * x) < 4
    paint_ = (np.abs(y + 0.3 * x) < 0.2) & (np.mod(x, 6) < 3)
    geo = np.where(road, 0.35, 0.6)[..., None] * np.array([1.0, 1.0, 0.95])
    geo[~road] *= np.array([0.7, 1.0, 0.6])
    for _ in range(7):
        cx, cy = rng.uniform(-13, 13, 2)
        geo[(np.abs(x - cx) < 2) & (np.abs(y - cy) < 1.5) & ~road] = rng.uniform(0.3, 0.9, 3)
    geo[paint_] = 1
    geo = np.clip(geo + rng.normal(0, 0.03, geo.shape), 0, 1)
    online = into_geo_frame(geo, np.ones((big, big)), se2.inverse(pose), (size, size), CELL)
    v, u = (np.mgrid[:size, :size] + 0.5 - size / 2) * CELL
    mask = np.mod(np.hypot(u, v), 1.2) < 0.6
    intensity = online.mean(2) * mask
    offsets = np.arange(-RADIUS, RADIUS + 1) * CELL
    grid = np.stack(np.meshgrid(ANGLES, offsets, offsets, indexing="ij"), -1)
    d = grid[..., [2, 1, 0]] - records["softmax"][k]
    logits = -0.5 * np.einsum("kijn,nm,kijm->kij", d, np.linalg.inv(COVARIANCE), d)
    logits = np.logaddexp(logits, -6 - 0.5 * np.sum((d[..., :2] - [1.5, 2.0]) ** 2, -1))
    logits -= np.log(np.sum(np.exp(logits)))
    return {
        "online": np.stack([intensity, mask * 1.0], -1).astype(np.float32),
        "online_mask": mask.astype(np.float32),
        "geo": geo.astype(np.float32),
        "geo_mask": np.ones((big, big), np.float32),
        "log_prob": logits.astype(np.float32),
        "fill_rate": np.float32(mask.mean()),
        "overlap": np.float32(1),
        "online_features": rng.normal(size=(48, 48, 8)).cumsum(0).astype(np.float32),
        "geo_features": rng.normal(size=(68, 68, 8)).cumsum(1).astype(np.float32),
        **{name: records[name][k] for name in ("pose", "softmax", "gaussian", "argmax", "index")},
        "covariance": COVARIANCE,
    }


def made_up_report(folder, rng, pictured=1, **changes):
    records = made_up_records(rng)
    worst = np.argsort(-records["error"])[:pictured]
    examples = [made_up_example(rng, records, k) for k in [*worst, 5]]
    options = {
        "title": "georeg on <made-up> streets",
        "cell_size": CELL,
        "angles": ANGLES,
        "radius": RADIUS,
        "simulated": True,
        "notes": "Split val & checkpoint 12.",
        "online_channels": ("intensity", "occupancy"),
        "geo_channels": ("aerial",),
    }
    return write_report(records, examples, folder, **{**options, **changes}), records


class _Tags(HTMLParser):
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


def test_report_says_what_was_measured(tmp_path, rng):
    path, records = made_up_report(tmp_path / "report", rng)
    text = path.read_text(encoding="utf-8")
    tags = _Tags(text)
    assert not tags.stack
    assert all(a.startswith(("#", "data:image/png;base64,")) for a in tags.loaded)
    assert "Simulated data" in text and "&lt;made-up&gt;" in text and "&amp; checkpoint" in text
    assert text.count("<img") == 8  # 2 CDFs, 2 calibrations, risk, fill rate, 2 examples
    worst = records["index"][np.argmax(records["error"])]
    assert f"Example {worst}: " in text and "worst 1 of 300" in text
    facts = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
    assert facts["simulated"] is True and facts["setting"]["window_m"] == pytest.approx(4.0)
    assert facts["worst"][0]["index"] == worst
    assert facts["worst"][0]["error xy m"] == pytest.approx(records["error"].max())
    assert sum(b["count"] for b in facts["bins"]["fill_rate"]) == 300
    rms = np.sqrt(np.mean((records["softmax"] - records["pose"])[:, 0] ** 2))
    assert facts["summary"]["softmax/rms_x_m"] == pytest.approx(rms)
    assert re.search(rf"<b>{rms:.3f} m</b>", text)
    both = facts["summary"]["softmax/rms_xy_m"]
    assert f'<b>{both:.3f} m</b><span class="label">RMS position, softmax</span>' in text
    assert "a degree counts as much as 0.2 m" in text
    assert len(facts["bins"]["fill_rate"]) == 5


def test_few_examples_are_not_cut_into_bins_of_three(tmp_path, rng):
    records = made_up_records(rng, n=25)
    del records["error"]
    options = {"title": "few", "cell_size": CELL, "angles": ANGLES, "radius": RADIUS}
    channels = {"online_channels": ("intensity",), "geo_channels": ("aerial",)}
    path = write_report(records, [], tmp_path, simulated=False, **options, **channels)
    bins = json.loads((tmp_path / "report.json").read_text())["bins"]["fill_rate"]
    assert [b["count"] for b in bins] == [12, 13]
    assert "then by position error" in path.read_text()


def test_examples_are_called_by_their_names(tmp_path, rng):
    records = made_up_records(rng, n=12)
    records["name"] = np.array([f"log7/{k}" for k in range(12)])
    records["gaussian"][4] = np.nan
    worst = int(np.argmax(records["error"]))
    path = write_report(
        records,
        [made_up_example(rng, records, worst)],
        tmp_path,
        title="named",
        cell_size=CELL,
        angles=ANGLES,
        radius=RADIUS,
        simulated=False,
        online_channels=("intensity", "occupancy"),
        geo_channels=("aerial",),
    )
    text = path.read_text(encoding="utf-8")
    assert f"Example {records['index'][worst]} (log7/{worst}): " in text
    assert "Examples: log7/4" in text
    facts = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert facts["worst"][0]["name"] == f"log7/{worst}"
    assert facts["nonfinite"] == {"gaussian": ["log7/4"]}


def test_report_without_extras_names_what_is_not_finite(tmp_path, rng):
    records = made_up_records(rng, n=12)
    records["softmax"][4] = np.nan
    needed = ("pose", "softmax", "gaussian", "argmax", "index")
    bare = {name: records[name] for name in needed}
    example = made_up_example(rng, records, 3)
    example["softmax"] = np.full(3, np.nan)
    example["online_mask"] = np.zeros_like(example["online_mask"])
    for name in ("covariance", "online_features", "fill_rate"):
        del example[name]
    path = write_report(
        bare,
        [example],
        tmp_path,
        title="bare",
        cell_size=CELL,
        angles=ANGLES,
        radius=RADIUS,
        simulated=False,
        online_channels=("a", "b"),
        geo_channels=("aerial",),
    )
    text = path.read_text(encoding="utf-8")
    assert "1 of 12 softmax estimates are not finite" in text and "Examples: 1004" in text
    assert "Simulated" not in text
    facts = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert facts["worst"][0] == {
        "index": 1004,
        "error xy m": None,
        "error x m": None,
        "error y m": None,
        "error yaw deg": None,
    }


def test_online_raster_lands_where_its_pose_says():
    """A single lit cell at X must appear at R(yaw) X + t of the geo frame."""
    online = np.zeros((21, 21, 1))
    online[15, 18] = 1  # X = (8, 5) cells
    pose = np.array([0.4, -0.6, np.pi / 2])  # (2, -3) cells; R X = (-5, 8)
    geo = into_geo_frame(online, np.ones((21, 21)), pose, (31, 31), CELL)[..., 0]
    row, column = np.unravel_index(np.argmax(geo), geo.shape)
    assert (column - 15, row - 15) == (-5 + 2, 8 - 3)
    assert geo.max() == pytest.approx(1, abs=1e-5)


def test_display_is_colour_or_the_most_informative_channel(rng):
    assert channel_names(("marks", "aerial"), 4) == ["marks", "aerial r", "aerial g", "aerial b"]
    with pytest.raises(ValueError, match=r"2 channel names .* for 3 channels"):
        channel_names(("marks", "height"), 3)
    raster = np.stack([np.ones((9, 9)), rng.uniform(2, 4, (9, 9)), np.zeros((9, 9))], -1)
    mask = np.ones((9, 9))
    shown = choose_display([raster], [mask], ["occupancy", "height", "empty"])
    assert shown.channels == (1,) and shown.name == "height"
    aerial = choose_display([raster], [mask], ["aerial r", "aerial g", "aerial b"])
    assert aerial.channels == (0, 1, 2)
    mask[0] = 0
    picture = paint(raster, mask, shown)
    assert picture[0].max() == 0 and picture[1:].max() == 1 and picture.min() == 0
    nothing = choose_display([raster], [mask * 0], ["a", "b", "c"])
    assert paint(raster, mask * 0, nothing).max() == 0


def test_map_layers_lie_over_each_other_the_sparse_ones_brightest():
    layers = np.zeros((10, 10, 2))
    layers[5, :, 0] = 1  # a painted line
    layers[2:8, :, 1] = 1  # on the road
    display = choose_display([layers], [np.ones((10, 10))], ["marks", "drivable"])
    assert display.name == "drivable < marks"
    picture = paint(layers, np.ones((10, 10)), display)[..., 0]
    np.testing.assert_allclose(picture[:, 0], [0, 0, 0.35, 0.35, 0.35, 1, 0.35, 0.35, 0, 0])


def test_features_share_their_colours(rng):
    mixing = rng.normal(size=(3, 6))
    latent = rng.normal(size=(8, 8, 3)) * [3, 2, 1]
    online, geo = latent @ mixing, latent[::-1] @ mixing
    online[0] = 0  # masked out
    a, b = feature_colors(online, geo)
    np.testing.assert_allclose(a[1:], b[::-1][1:])
    assert a[0].max() == 0 and a.shape == (8, 8, 3)
    assert a.min() >= 0 and a.max() <= 1
    assert feature_colors(rng.normal(size=(4, 4, 1)))[0][..., 1:].max() == 0
    assert feature_colors(np.zeros((4, 4, 2)))[0].max() == 0


def test_log_prob_sum_survives_impossible_cells():
    log_prob = np.array([[0.0, -np.inf, np.nan], [0.0, -1000.0, -np.inf]])
    result = log_prob_sum(log_prob, axis=0)
    assert result[0] == pytest.approx(np.log(2)) and result[1] == pytest.approx(-1000)
    assert np.isfinite(result).all() and result[2] < -600


def test_heat_map_marks_truth_and_estimates_at_their_places(rng):
    records = made_up_records(rng, n=4)
    example = made_up_example(rng, records, 2)
    names = ["intensity", "occupancy"], ["aerial r", "aerial g", "aerial b"]
    displays = (
        choose_display([example[k]], [example[f"{k}_mask"]], n)
        for k, n in zip(("online", "geo"), names, strict=True)
    )
    figure = registration_figure(example, Setting(CELL, CELL, ANGLES, RADIUS, *displays))
    axes = {a.get_title(loc="left"): a for a in figure.axes}
    window = next(a for title, a in axes.items() if title.startswith("log-probability"))
    marked = {line.get_label(): line.get_xydata()[0] for line in window.lines}
    np.testing.assert_allclose(marked["truth"], example["pose"][:2])
    np.testing.assert_allclose(marked["argmax"], example["argmax"][:2])
    image = window.images[0]
    left, right, bottom, top = image.get_extent()
    assert (left, right) == pytest.approx((-4.1, 4.1)) and (bottom, top) == (left, right)
    # The brightest cell of the picture holds the argmax reading of the volume that was drawn.
    k, i, j = np.unravel_index(np.argmax(example["log_prob"]), example["log_prob"].shape)
    shown = np.unravel_index(np.argmax(image.get_array()), image.get_array().shape)
    assert shown == (i, j)
    assert left + (j + 0.5) * CELL == pytest.approx((j - RADIUS) * CELL)
    yaw = axes["yaw, summed over the window"]
    assert np.argmax([bar.get_height() for bar in yaw.patches[: len(ANGLES)]]) == k
    assert figure_png(figure)[:4] == b"\x89PNG"
