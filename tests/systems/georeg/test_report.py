"""The georeg report on a made-up evaluation: what it says, and where the pictures put things."""

import numpy as np
import pytest

from posejax.data import se2
from posejax.data.rasters import lay_raster
from posejax.report import figure_png, write
from posejax.report.rasters import choose_displays
from posejax.systems.georeg.pictures import Setting, registration_figure
from posejax.systems.georeg.report import make_report
from posejax.systems.georeg.summary import summarize

CELL, RADIUS, ANGLES = 0.2, 20, np.deg2rad(np.linspace(-10, 10, 21))
SETTING = Setting(CELL, CELL, ANGLES, RADIUS, ("intensity", "occupancy"), ("aerial",))
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
    online = lay_raster(geo, np.ones((big, big)), se2.inverse(pose), (size, size), CELL)
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


def made_up_report(records, examples=(), **changes):
    options = {"title": "georeg on <made-up> streets", "simulated": True, **changes}
    return make_report(records, summarize(records), examples, SETTING, **options)


def test_report_says_what_was_measured(tmp_path, rng):
    records = made_up_records(rng)
    worst = int(np.argmax(records["error"]))
    examples = [made_up_example(rng, records, k) for k in (5, worst)]
    report = made_up_report(records, examples)
    text = write(report, tmp_path).read_text(encoding="utf-8")
    assert text.count("<img") == 8  # 2 CDFs, 2 calibrations, risk, fill rate, 2 examples
    index = records["index"][worst]
    assert f"Example {index}: " in text and "worst 1 of 300" in text
    facts = report.to_json()
    assert facts["settings"]["window_m"] == pytest.approx(4.0)
    assert facts["worst"][0]["index"] == index
    assert facts["worst"][0]["error xy m"] == pytest.approx(
        np.hypot(*(records["softmax"] - records["pose"])[worst, :2])
    )
    bins = facts["conditions"]["fill_rate"]
    assert sum(b["examples"] for b in bins) == 300 and len(bins) == 5
    rms = np.sqrt(np.mean((records["softmax"] - records["pose"])[:, 0] ** 2))
    assert facts["summary"]["softmax/rms_x_m"] == pytest.approx(rms)
    assert f"<b>{rms:.3f} m</b>" in text
    both = facts["summary"]["softmax/rms_xy_m"]
    assert f'<b>{both:.3f} m</b><span class="label">RMS position, softmax</span>' in text
    assert "a degree counts as much as 0.2 m" in text
    assert "ellipses of x, y, yaw" in text and "Mean NLL of the true pose" in text
    assert f"{300 - records['abstain'].sum()} of 300 remain" in text


def test_few_examples_are_not_cut_into_bins_of_three(rng):
    records = made_up_records(rng, n=25)
    del records["error"]
    report = made_up_report(records)
    assert [b["examples"] for b in report.to_json()["conditions"]["fill_rate"]] == [12, 13]
    assert "then by position error" in report.worst_text


def test_bins_hold_the_errors_of_their_examples(rng):
    records = made_up_records(rng)
    records["softmax"][7] = np.nan
    error = np.hypot(*(records["softmax"] - records["pose"]).T[:2])
    for row in made_up_report(records).to_json()["conditions"]["fill_rate"]:
        inside = (records["fill_rate"] >= row["from"]) & (records["fill_rate"] < row["to"])
        rms = np.sqrt(np.nanmean(error[inside] ** 2))
        assert row["RMS softmax position error (m)"] == pytest.approx(rms, rel=0.02)
        assert row["median xy m"] == pytest.approx(np.nanmedian(error[inside]), rel=0.02)
        assert row["not finite"] == inside[7]
        low, high = row["95 % interval"]
        assert low < rms < high


def test_examples_are_called_by_their_names(rng):
    records = made_up_records(rng, n=12)
    records["name"] = np.array([f"log7/{k}" for k in range(12)])
    records["gaussian"][4] = np.nan
    worst = int(np.argmax(records["error"]))
    report = made_up_report(records, [made_up_example(rng, records, worst)])
    index = records["index"][worst]
    assert report.gallery[0].title.startswith(f"Example {index} (log7/{worst}): ")
    facts = report.to_json()
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
    report = made_up_report(bare, [example], simulated=False)
    text = write(report, tmp_path).read_text(encoding="utf-8")
    assert "1 of 12 softmax estimates are not finite" in text and "Examples: 1004" in text
    assert "Simulated" not in text and "Calibration" not in text and "Conditions" not in text
    assert report.to_json()["worst"][0] == {
        "index": 1004,
        "error xy m": None,
        "error x m": None,
        "error y m": None,
        "error yaw deg": None,
    }


def test_names_of_channels_must_fit(rng):
    records = made_up_records(rng, n=12)
    setting = SETTING._replace(online_channels=("a", "b", "c"))
    with pytest.raises(ValueError, match=r"3 channel names .* for 2 channels"):
        make_report(
            records,
            summarize(records),
            [made_up_example(rng, records, 3)],
            setting,
            title="",
            simulated=True,
        )


def test_heat_map_marks_truth_and_estimates_at_their_places(rng):
    records = made_up_records(rng, n=4)
    example = made_up_example(rng, records, 2)
    channels = {"online": SETTING.online_channels, "geo": SETTING.geo_channels}
    figure = registration_figure(example, SETTING, choose_displays([example], channels))
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
