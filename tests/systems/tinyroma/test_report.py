"""The tinyroma report on a made-up evaluation: what it says, what it leaves out."""

import numpy as np
import pytest

from posejax.report import write
from posejax.systems.tinyroma import MatchConfig, Tinyroma
from posejax.systems.tinyroma.report import FAILURE, build, pose_errors
from tests.systems.tinyroma import made_up


def made_up_report(records, examples=()):
    summary = made_up.summary(records)
    return build(records, summary, examples, title="<rooms>", simulated=True, protocol="own")


def test_the_report_says_what_was_measured(tmp_path, rng):
    records = made_up.records(rng)
    worst = int(np.argmax(records["error"]))
    examples = [made_up.example(rng, 100 + k) for k in (5, worst)]
    report = made_up_report(records, examples)
    text = write(report, tmp_path).read_text(encoding="utf-8")
    # AUC, 2 distributions, 2 calibrations, 2 conditions, risk, 2 examples.
    assert text.count("<img") == 10
    assert text.count("data:image/jpeg") == 2 and text.count("data:image/png") == 8
    facts = report.to_json()
    assert facts["worst"][0]["index"] == 100 + worst
    assert facts["worst"][0]["pose deg"] == pytest.approx(records["error"].max())
    assert "worst 1 of 60" in text and "Simulated data" in text and "&lt;rooms&gt;" in text
    share = facts["summary"]["auc10"]
    assert f"{100 * share:.1f} %" in text
    assert f"95 %: {100 * share - 5:.1f} % to {100 * share + 5:.1f} %" in text
    for by in ("overlap", "rotation_deg"):
        rows = facts["conditions"][by]
        assert sum(row["pairs"] for row in rows) == 60 and len(rows) == 4
        total = sum(row["pairs"] * row["pose error, mean (deg)"] for row in rows)
        assert total / 60 == pytest.approx(records["error"].mean())
    # Larger rotations were made worse.
    rows = facts["conditions"]["rotation_deg"]
    assert rows[-1]["pose error, mean (deg)"] > 2 * rows[0]["pose error, mean (deg)"]


def test_the_protocol_names_the_threshold_that_was_used(rng):
    records = made_up.records(rng)
    system = Tinyroma(match=MatchConfig(threshold=4))
    report = system.report(records, made_up.summary(records), [])
    assert "4 px" in report.to_json()["settings"]["protocol"]


def test_a_pair_without_a_pose_counts_as_ninety_degrees(rng):
    records = made_up.records(rng)
    records["valid"][7] = False
    records["rotation_error"][8] = records["translation_error"][8] = np.nan  # truth unknown
    rotation, _, pose = pose_errors(records)
    assert rotation[7] == pose[7] == FAILURE and np.isnan(pose[8])
    facts = made_up_report(records).to_json()
    assert facts["worst"][0]["index"] == 107 and facts["worst"][0]["pose"] == "none"
    assert facts["nonfinite"]["pose"] == ["world 1, pair 3"]
    assert facts["settings"]["pairs with a true pose"] == 59


def test_without_poses_or_without_warps_the_sections_are_left_out(rng):
    records = made_up.records(rng)
    for name in ("rotation_error", "translation_error", "chi2"):
        records[name] = np.full(60, np.nan)
    names = [name for name, _ in made_up_report(records).figures()]
    assert "accuracy/end-point" in names and "calibration/certainty" in names
    assert not any("auc" in name or "coverage" in name or "risk" in name for name in names)
    records = made_up.records(rng)
    for name in ("epe", "certainty_cells", "certainty_sum", "certainty_hits"):
        del records[name]
    names = [name for name, _ in made_up_report(records).figures()]
    assert "accuracy/auc" in names and "calibration/coverage_1" in names
    assert "accuracy/end-point" not in names and "calibration/certainty" not in names
