"""The eventpose report on a made-up evaluation: what it says, and where the pictures put things."""

import matplotlib.colors
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.report import write
from posejax.report.views import AXES, project, strength_and_share, two_colors
from posejax.systems.eventpose import smoothing
from posejax.systems.eventpose.config import TrajectoryConfig
from posejax.systems.eventpose.pictures import ESTIMATE, TRUTH, channel_kinds, pose_figure
from posejax.systems.eventpose.report import make_report
from posejax.systems.eventpose.summary import pose_errors, summarize

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * [0.8, 0.3, 0.5]
BOX = (
    CORNERS,
    np.array([(i, j) for i in range(8) for j in range(i) if np.sum(CORNERS[i] != CORNERS[j]) == 1]),
)
SMOOTH, PLAIN = TrajectoryConfig(), TrajectoryConfig(method="none")


def made_up_records(rng, sequences=3, windows=24, sigma=(0.05, 0.1)):
    """A body that drifts and turns in front of the camera, seen with independent errors."""
    n = sequences * windows
    sequence, step = np.divmod(np.arange(n), windows)
    time = 0.1 * step
    t = np.stack([0.1 * np.sin(time), 0.02 * time, 4 + sequence + 0.1 * time], 1)
    turn = Rotation.from_rotvec(np.outer(0.1 * time, [0.3, 1.0, -0.2]) + sequence[:, None])
    # Shares of one error: a chi-square law of three degrees, as the calibration claims.
    t_hat = t + rng.normal(0, sigma[0], (n, 3))
    turn_hat = turn * Rotation.from_rotvec(rng.normal(0, sigma[1], (n, 3)))
    records = {
        "index": np.arange(1000, 1000 + n),
        "sequence": sequence,
        "time": time,
        "translation": t,
        "quat_xyzw": turn.as_quat(),
        "translation_hat": t_hat,
        "quat_xyzw_hat": turn_hat.as_quat(),
        "loss": np.ones(n),
        "zoom": np.full(n, 0.4),
        "light": np.full(n, np.nan),
        "events": rng.integers(500, 40000, n),
    }
    return {**records, "error": pose_errors(records).score}


def pose_of(t, q):
    if not np.isfinite([*t, *q]).all():
        return np.full((4, 4), np.nan)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_quat(q).as_matrix(), t
    return pose


def made_up_example(rng, records, k, size=128, bins=5):
    """Events along the box's edges: ON on one half of the bins, OFF on the other, and noise."""
    pose = pose_of(records["translation"][k], records["quat_xyzw"][k])
    ray = pose[:3, 3] / np.linalg.norm(pose[:3, 3])
    aim = Rotation.align_vectors([[0, 0, 1]], [ray])[0].as_matrix()
    intrinsics = np.array([[2 * size, 0, size / 2], [0, 2 * size, size / 2], [0, 0, 1.0]])
    a, b = (CORNERS[BOX[1][:, i]] for i in (0, 1))
    at = rng.uniform(size=(len(a), 120, 1))
    points = (a[:, None] * at + b[:, None] * (1 - at)).reshape(-1, 3)
    pixels = project(points, pose, aim, intrinsics).astype(int)
    grid = rng.poisson(0.01, (size, size, 2 * bins)).astype(np.float32)
    inside = ((pixels >= 0) & (pixels < size)).all(1)
    channel = rng.integers(0, 2 * bins, inside.sum())
    np.add.at(grid, (pixels[inside, 1], pixels[inside, 0], channel), 1)
    estimate = pose_of(records["translation_hat"][k], records["quat_xyzw_hat"][k])
    return {
        "grid": np.log1p(grid),
        "pose": estimate.astype(np.float32),
        "truth": pose.astype(np.float32),
        "view_rotation": aim.astype(np.float32),
        "view_intrinsics": intrinsics.astype(np.float32),
        "zoom": np.float32(0.3),
        "found": np.int32(grid.sum()),
        **{name: records[name][k] for name in ("index", "sequence", "time")},
    }


def made_up_report(records, examples=(), trajectory=SMOOTH, **changes):
    options = {"title": "a <made-up> craft", "simulated": True, "focal": 1000.0, **changes}
    summary = summarize(records, trajectory)
    return make_report(records, summary, examples, trajectory=trajectory, **options)


def test_report_says_what_was_measured(tmp_path, rng):
    records = made_up_records(rng)
    records["light"] = np.repeat([0.2, 0.5, 0.9], 24)
    errors = pose_errors(records)
    worst = int(np.argmax(errors.score))
    examples = [made_up_example(rng, records, k) for k in (5, worst)]
    report = made_up_report(records, examples, wireframe=BOX)
    text = write(report, tmp_path).read_text(encoding="utf-8")
    # 2 CDFs, ranges, 3 sequences, 8 conditions, 2 examples.
    assert text.count("<img") == 16
    assert f"(sequence 0 at {records['time'][5]:.2f} s): " in text and "worst 1 of 72" in text
    facts = report.to_json()
    assert facts["worst"][0]["index"] == records["index"][worst]
    assert facts["worst"][0]["score"] == pytest.approx(errors.score.max())
    assert facts["summary"]["relative_position"] == pytest.approx(errors.relative.mean())
    assert f"<b>{errors.relative.mean():.4f}</b>" in text
    assert [s["sequence"] for s in facts["sequences"]] == [f"sequence {k}" for k in range(3)]
    assert facts["sequences"][2]["range m"][0] == pytest.approx(6.0, abs=0.01)
    assert facts["sequences"][1]["score"] == pytest.approx(errors.score[24:48].mean())
    for by in ("range_m", "events", "light", "direction_deg", "roll_deg"):
        rows = facts["conditions"][by]
        assert sum(row["windows"] for row in rows) == 72
        means = [row["windows"] * row["single-window SPARK score"] for row in rows]
        assert sum(means) / 72 == pytest.approx(errors.score.mean())
        turns = [row["windows"] * row["rotation error of single windows (deg)"] for row in rows]
        assert sum(turns) / 72 == pytest.approx(errors.rotation.mean())
        later = [row["windows"] * row["over time: rotation deg"] for row in rows]
        assert sum(later) / 72 == pytest.approx(facts["summary"]["smoothed/rotation_deg"])
    # A body of constant twist and independent errors: smoothing must help, and be told apart.
    assert facts["summary"]["smoothed/score"] < 0.7 * facts["summary"]["score"]
    low, high = facts["intervals"]["single windows"]["score"]
    assert low < facts["summary"]["score"] < high


def test_scores_of_the_table_are_those_of_the_summary(rng):
    records = made_up_records(rng, sequences=2)
    report = made_up_report(records)
    cells = {row[0]: row[1:] for row in report.accuracy[0].rows}
    numbers = report.summary
    for label, name, digits in (
        ("SPARK 2026 = Kelvins 2019: mean of E_t + E_r", "score", 4),
        ("rotation error (deg), median", "rotation_median_deg", 2),
    ):
        assert cells[label][0] == f"{numbers[name]:.{digits}f}"
        assert cells[label][2] == f"{numbers[f'smoothed/{name}']:.{digits}f}"
    assert cells["within 0.2 m and 15 deg"][0] == f"{100 * numbers['within_0.2m_15deg']:.1f} %"


def test_trajectories_are_smoothed_once_for_numbers_and_report(rng):
    records = made_up_records(rng, sequences=2)
    smoothing._smoothed.cache_clear()
    made_up_report({k: v.copy() for k, v in records.items()})
    assert smoothing._smoothed.cache_info()[:2] == (1, 1)  # hits, misses
    records["translation_hat"][3] += 1e-3
    made_up_report(records)
    assert smoothing._smoothed.cache_info().misses == 2


def test_names_of_the_numbers_cost_no_compilation(rng, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a single record was smoothed")

    records = made_up_records(rng)
    expected = list(summarize(records, SMOOTH))
    monkeypatch.setattr(smoothing, "_smooth", refuse)
    with np.errstate(all="ignore"):
        single = {k: np.zeros_like(v[:1]) for k, v in records.items()}
        assert list(summarize(single, SMOOTH)) == expected


def test_bare_records_of_one_sequence(tmp_path, rng):
    records = made_up_records(rng, sequences=1, windows=12)
    report = made_up_report(records, simulated=False, trajectory=PLAIN)
    text = write(report, tmp_path).read_text(encoding="utf-8")
    # No examples, no light, no names, no smoothing.
    assert "Simulated" not in text and "Pictures" not in text and "smoothed" not in text
    assert "One sequence only" in text and "95 %: " not in text
    facts = report.to_json()
    assert facts["intervals"]["single windows"]["score"] == [None, None]
    assert "light" not in facts["conditions"]
    assert facts["settings"]["trajectory layer"] == "none"


def test_a_single_window_makes_a_page(tmp_path, rng):
    records = made_up_records(rng, sequences=1, windows=1)
    report = made_up_report(records, [made_up_example(rng, records, 0)])
    assert "worst 1 of 1" in write(report, tmp_path).read_text(encoding="utf-8")
    assert report.summary["examples"] == 1


def test_estimates_that_are_not_finite_are_named_and_drawn(tmp_path, rng):
    records = made_up_records(rng, sequences=2)
    records["translation_hat"][7] = np.nan
    records["quat_xyzw_hat"][7] = np.nan
    records["name"] = np.array([f"RT{k:03d}" for k in range(48)])
    example = made_up_example(rng, records, 7)
    assert np.isnan(example["pose"]).any()
    report = made_up_report(records, [example], wireframe=BOX)
    text = write(report, tmp_path).read_text(encoding="utf-8")
    assert "1 of 48 single-window estimates are not finite" in text and "Windows: RT007" in text
    assert "Window 1007 (RT007): the estimate is not finite; range" in text
    facts = report.to_json()
    assert facts["nonfinite"] == {"single-window": ["RT007"]}
    assert facts["worst"][0]["finite"] == "no" and facts["worst"][0]["rotation deg"] == 180
    everything = {k: np.full_like(records[k], np.nan) for k in ("translation_hat", "quat_xyzw_hat")}
    lost = made_up_report({**records, **everything})
    assert len(lost.nonfinite["single-window"]) == 48
    write(lost, tmp_path)


def test_honest_sigmas_read_as_calibrated(rng):
    records = made_up_records(rng, sequences=4, windows=100)
    n = len(records["index"])
    spread = {"sigma_m": np.full(n, 0.05), "sigma_rad": np.full(n, 0.1)}
    report = made_up_report({**records, **spread}, trajectory=PLAIN)
    assert report.summary["sigma_ratio_m"] == pytest.approx(1, abs=0.1)
    table = report.calibration[0]
    # Of 400 windows the share inside the 90 % sphere is 90 +- 3 %.
    for row in table.rows:
        cells = dict(zip(table.headers, row, strict=True))
        assert cells["inside 50 %"] == pytest.approx(0.5, abs=0.075)
        assert cells["inside 90 %"] == pytest.approx(0.9, abs=0.045)
        assert cells["inside 95 %"] == pytest.approx(0.95, abs=0.035)
    assert [p.name for p in report.risk] == ["position", "rotation"]


def seen(example):
    return strength_and_share(example["grid"], channel_kinds(example))


def test_event_picture_tells_on_from_off():
    grid = np.zeros((4, 6, 10), np.float32)
    grid[0, 1, 2] = 1  # OFF
    grid[2, 3, 7] = 1  # ON
    grid[3, 5, [0, 5]] = 0.5, 0.5
    strength, share = seen({"grid": grid})
    assert share[0, 1] == 0 and share[2, 3] == 1 and share[3, 5] == 0.5
    assert strength[0, 1] == 1 and np.sum(strength > 0) == 3
    picture = two_colors(strength, share)
    assert picture.min() >= 0 and picture.max() <= 1
    off, on, empty = picture[0, 1], picture[2, 3], picture[1, 1]
    hue, _, light = matplotlib.colors.rgb_to_hsv(np.stack([off, on])).T
    assert 0.6 < hue[0] < 0.8 and 0.05 < hue[1] < 0.2 and light[1] > light[0] + 0.2
    assert np.ptp(empty) < 0.02
    # A frame's channels are slices of time.
    frame = np.zeros((2, 2, 3), np.float32)
    frame[0, 0, 0], frame[0, 1, 1], frame[1, 1, 2] = 1, 1, 1
    _, late = seen({"grid": frame, "image": frame})
    assert (late[0, 0], late[0, 1], late[1, 1]) == (0, 0.5, 1)
    nothing, _ = seen({"grid": np.full((3, 3, 2), np.nan)})
    assert nothing.max() == 0


def _lines(axes, color):
    wanted = matplotlib.colors.to_rgb(color)
    return [x for x in axes.lines if matplotlib.colors.to_rgb(x.get_color()) == wanted]


def test_poses_are_drawn_where_they_project(rng):
    records = made_up_records(rng)
    example = made_up_example(rng, records, 30)
    first, wires, axes = pose_figure(example, BOX).axes
    k = example["view_intrinsics"].astype(float)
    for name, color in (("truth", TRUTH), ("pose", ESTIMATE)):
        pose = example[name].astype(float)
        x = (BOX[0] @ pose[:3, :3].T + pose[:3, 3]) @ example["view_rotation"].astype(float).T @ k.T
        (drawn,) = _lines(wires, color)
        ends = drawn.get_xydata().reshape(-1, 3, 2)
        np.testing.assert_allclose(ends[:, :2], (x[:, :2] / x[:, 2:])[BOX[1]], atol=1e-3)
        assert np.isnan(ends[:, 2]).all()
    for i, (_, color) in enumerate(AXES):
        solid, dashed = _lines(axes, color)
        assert solid.get_linestyle() == "-" and dashed.get_linestyle() == "--"
        tip = 0.5 * np.eye(3)[i]
        rotation = example["view_rotation"]
        for line, name in ((solid, "truth"), (dashed, "pose")):
            end = project(tip[None], example[name], rotation, k)[0]
            np.testing.assert_allclose(line.get_xydata()[1], end, atol=1e-6)
    # Pixel edges are at whole numbers, rows grow downwards; events lie under the true wireframe.
    assert first.images[0].get_extent() == [0, 128, 128, 0]
    (drawn,) = _lines(wires, TRUTH)
    a, b = np.moveaxis(drawn.get_xydata().reshape(-1, 3, 2)[:, :2], 1, 0)
    middle = ((a + b) / 2).astype(int)
    strength, _ = seen(example)
    near = [strength[y - 2 : y + 3, x - 2 : x + 3].max() for x, y in middle]
    assert np.min(near) > 0 and np.mean(near) > 2 * strength.mean()


def test_small_bodies_are_shown_closer_and_stretched_pixels_as_they_see(rng):
    records = made_up_records(rng)
    example = made_up_example(rng, records, 3)
    example["view_intrinsics"] = np.diag([0.15, 0.3, 1]) @ example["view_intrinsics"]
    example["view_intrinsics"][:2, 2] = 100, 20  # off the middle
    first, _, axes = pose_figure(example, BOX).axes
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    centre = project(np.zeros((1, 3)), example["truth"], example["view_rotation"],
                     example["view_intrinsics"])[0]  # fmt: skip
    assert 0 <= left < centre[0] < right <= 128 and 0 <= top < centre[1] < bottom <= 128
    assert right - left < 64 and first.get_xlim() == (0, 128) and len(first.patches) == 1
    assert first.get_aspect() == pytest.approx(0.5)
    # An estimate behind the camera is said, not drawn.
    example["pose"] = pose_of([0, 0, -5], [0, 0, 0, 1])
    figure = pose_figure(example)
    labels = [t.get_text() for t in figure.axes[-1].get_legend().get_texts()]
    assert "estimate (behind the camera)" in labels and len(figure.axes) == 2
