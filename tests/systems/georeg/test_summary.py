"""The numbers of an evaluation against SciPy, brute force and cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.transform import Rotation

from posejax.data import se2
from posejax.report import risk_coverage
from posejax.systems.georeg.summary import (
    error_and_spread,
    nonfinite_examples,
    pose_errors,
    pose_nees,
    summarize,
    worst_first,
)


def make_records(rng, n=4000, scale=1.0):
    a = rng.normal(size=(n, 3, 3)) * 0.3 + np.eye(3)
    size = np.diag([0.1, 0.05, 0.01])
    covariance = size @ (a @ a.transpose(0, 2, 1)) @ size
    noise = np.linalg.cholesky(covariance) @ rng.normal(size=(n, 3, 1))
    pose = rng.uniform(-1, 1, (n, 3)) * [4, 4, 3.1]
    return {
        "pose": pose,
        "softmax": pose + scale * noise[..., 0],
        "gaussian": pose + np.array([0.3, -0.4, np.deg2rad(1.5)]),
        "argmax": pose,
        "covariance": covariance,
        "index": np.arange(n) + 50,
    }


def test_errors_worked_by_hand():
    # Heading along +y: an estimate 3 m further in +x is 3 m to the right, so lateral is -3.
    errors = pose_errors(np.array([[3.0, 2.0, np.pi / 2]]), np.array([[0.0, 0.0, np.pi / 2]]))
    assert errors.x == pytest.approx(3) and errors.y == pytest.approx(2)
    assert errors.longitudinal == pytest.approx(2) and errors.lateral == pytest.approx(-3)
    assert errors.xy == pytest.approx(np.sqrt(13))
    # 179 deg against -179 deg is 2 deg apart, not 358.
    wrapped = pose_errors(np.deg2rad([[0, 0, 179.0]]), np.deg2rad([[0, 0, -179.0]]))
    assert wrapped.yaw == pytest.approx(-2)


coordinates = st.floats(-50, 50)


@settings(max_examples=60, deadline=None)
@given(*[coordinates] * 4, st.floats(-7, 7), st.floats(-3, 3))
def test_ego_errors_are_the_translation_of_truth_inverse_estimate(x, y, u, v, yaw, turn):
    """online_true_from_online_estimated: its translation is (longitudinal, lateral)."""
    truth, estimate = np.array([x, y, yaw]), np.array([u, v, yaw + turn])
    relative = se2.compose(se2.inverse(truth), estimate)
    errors = pose_errors(estimate[None], truth[None])
    expected = [*relative[:2], np.rad2deg(relative[2])]
    found = [errors.longitudinal[0], errors.lateral[0], errors.yaw[0]]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_summary_of_a_calibrated_estimator(rng):
    records = make_records(rng)
    numbers = summarize(records)
    assert numbers["examples"] == 4000
    assert numbers["softmax/nees"] == pytest.approx(3, abs=0.15)
    assert numbers["softmax/nees_xy"] == pytest.approx(2, abs=0.12)
    assert numbers["softmax/median_nees"] == pytest.approx(stats.chi2.median(3), abs=0.12)
    for percent in (50, 90, 95):
        for kind in ("xy", "pose"):
            key = f"softmax/coverage_{percent}_{kind}"
            assert numbers[key] == pytest.approx(percent / 100, abs=0.025)
    assert numbers["softmax/calibration_error_xy"] < 0.015
    assert numbers["softmax/bad_covariance"] == 0
    # Errors 1.5 times as large as claimed must show.
    over = summarize(make_records(rng, scale=1.5))
    expected = stats.chi2.cdf(stats.chi2.ppf(0.95, 2) / 1.5**2, 2)
    assert over["softmax/coverage_95_xy"] == pytest.approx(expected, abs=0.025)
    assert over["softmax/nees"] == pytest.approx(3 * 1.5**2, abs=0.3)


def test_summary_of_known_errors(rng):
    records = make_records(rng, n=40)
    numbers = summarize(records)
    assert numbers["gaussian/rms_x_m"] == pytest.approx(0.3)
    assert numbers["gaussian/mean_abs_y_m"] == pytest.approx(0.4)
    assert numbers["gaussian/rms_xy_m"] == pytest.approx(0.5)
    assert numbers["gaussian/median_xy_m"] == pytest.approx(0.5)
    assert numbers["gaussian/rms_yaw_deg"] == pytest.approx(1.5)
    assert numbers["argmax/rms_xy_m"] == 0
    # 0.5 m and 1.5 deg: outside (0.2 m, 1 deg), inside (1 m, 3 deg).
    assert numbers["gaussian/recall_0.2m_1deg"] == 0
    assert numbers["gaussian/recall_1m_3deg"] == 1
    ego = numbers["gaussian/rms_longitudinal_m"] ** 2 + numbers["gaussian/rms_lateral_m"] ** 2
    assert ego == pytest.approx(0.25)
    assert all(isinstance(value, float) for value in numbers.values())


def test_float32_records_lose_nothing_that_matters(rng):
    records = make_records(rng, n=500)
    low = {k: v.astype(np.float32) if v.dtype == float else v for k, v in records.items()}
    double, single = summarize(records), summarize(low)
    for key in ("softmax/rms_x_m", "softmax/nees", "softmax/coverage_95_pose"):
        assert single[key] == pytest.approx(double[key], rel=1e-3)


def test_nees_matches_scipy_whitening(rng):
    records = make_records(rng, n=30)
    xy, pose = pose_nees(records["softmax"], records["covariance"], records["pose"])
    errors = records["softmax"] - records["pose"]
    for k in range(30):
        law = stats.multivariate_normal(cov=records["covariance"][k])
        expected = -2 * (law.logpdf(errors[k]) - law.logpdf(np.zeros(3)))
        assert pose[k] == pytest.approx(expected, rel=1e-8)
    # A turn of the whole scene changes x, y, covariance together, and never the NEES.
    turn = Rotation.from_euler("z", 0.7).as_matrix()
    turned = turn @ records["covariance"] @ turn.T
    again, _ = pose_nees(records["pose"] + errors @ turn.T, turned, records["pose"])
    np.testing.assert_allclose(again, xy, rtol=1e-8)


def test_estimates_that_are_not_finite_are_counted_named_and_missed(rng):
    records = make_records(rng, n=100)
    clean = summarize(records)
    records["softmax"] = records["softmax"].copy()
    records["softmax"][[3, 7], [0, 2]] = [np.nan, np.inf]
    numbers = summarize(records)
    assert numbers["softmax/nonfinite"] == 2 and numbers["gaussian/nonfinite"] == 0
    assert nonfinite_examples(records) == {"softmax": [53, 57]}
    assert np.isfinite(numbers["softmax/rms_xy_m"])
    assert numbers["softmax/recall_5m_5deg"] == pytest.approx(0.98)
    assert numbers["softmax/coverage_95_xy"] <= clean["softmax/coverage_95_xy"]
    assert numbers["softmax/bad_covariance"] == 0  # the covariances are as good as before
    records["softmax"][:] = np.nan
    numbers = summarize(records)
    assert np.isnan(numbers["softmax/rms_x_m"]) and numbers["softmax/recall_5m_5deg"] == 0
    assert np.isnan(numbers["risk/aurc_xy_m"])


def test_unusable_covariances_are_counted_and_cover_nothing(rng):
    records = make_records(rng, n=100)
    records["covariance"][:10] = 0
    records["covariance"][10] = np.nan
    numbers = summarize(records)
    assert numbers["softmax/bad_covariance"] == 11
    assert numbers["softmax/coverage_95_pose"] <= 0.89
    assert np.isfinite(numbers["softmax/nees"])


def test_optional_records_may_be_missing_and_the_others_not(rng):
    records = make_records(rng, n=10)
    numbers = summarize({k: v for k, v in records.items() if k != "covariance"})
    assert "softmax/nees" not in numbers and "nll" not in numbers and "abstain_rate" not in numbers
    more = {"nll": np.array([1.0] * 9 + [np.inf]), "abstain": np.arange(10) < 3}
    numbers = summarize(records | more)
    assert numbers["nll"] == 1 and numbers["nll/nonfinite"] == 1
    assert numbers["abstain_rate"] == pytest.approx(0.3)
    kept = pose_errors(records["softmax"], records["pose"]).xy[3:]
    assert numbers["kept/rms_xy_m"] == pytest.approx(np.sqrt(np.mean(kept**2)))
    assert np.isnan(summarize(records | {"abstain": np.ones(10, bool)})["kept/rms_xy_m"])
    with pytest.raises(ValueError, match="argmax"):
        summarize({k: v for k, v in records.items() if k != "argmax"})
    with pytest.raises(ValueError, match=r"'covariance' has shape \(10, 2, 2\)"):
        summarize(records | {"covariance": np.ones((10, 2, 2))})
    with pytest.raises(ValueError, match="no example"):
        summarize({k: v[:0] for k, v in records.items()})
    wrong = records["pose"].copy()
    wrong[4] = np.nan
    with pytest.raises(ValueError, match=r"index \[54\]"):
        summarize(records | {"pose": wrong})


def test_worst_first_ranks_by_the_recorded_error_and_the_lost_before_all(rng):
    records = make_records(rng, n=5)
    xy = pose_errors(records["softmax"], records["pose"]).xy
    np.testing.assert_array_equal(worst_first(records), np.argsort(-xy))
    records["error"] = np.array([0.1, 0.5, 0.2, 0.4, np.nan])
    records["softmax"] = records["softmax"].copy()
    records["softmax"][2] = np.nan
    assert worst_first(records).tolist() == [2, 4, 1, 3, 0]


def test_risk_coverage_by_brute_force(rng):
    records = make_records(rng, n=60)
    coverage, risk, oracle = risk_coverage(*error_and_spread(records))
    error = np.hypot(*(records["softmax"] - records["pose"]).T[:2])
    spread = records["covariance"][:, 0, 0] + records["covariance"][:, 1, 1]
    for k in (1, 17, 60):
        assert risk[k - 1] == pytest.approx(np.mean(error[np.argsort(spread)[:k]]))
        assert oracle[k - 1] == pytest.approx(np.mean(np.sort(error)[:k]))
    assert coverage[-1] == 1 and np.all(oracle <= risk + 1e-12)


@pytest.mark.parametrize(
    ("metres", "degrees", "within"),
    [(0.1, 0.5, 5), (0.1, 1.5, 4), (0.4, 0.5, 4), (0.9, 4.0, 2), (4.0, 4.9, 1), (0.0, 6.0, 0)],
)
def test_recall_needs_both_limits(metres, degrees, within):
    """`within` of the five nested limits hold, whichever of the two errors is the larger."""
    pose = np.array([[1.0, -2.0, 3.0]])
    estimate = pose + np.array([[0.0, -metres, -np.deg2rad(degrees)]])
    records = {"pose": pose, "index": np.array([0])}
    numbers = summarize(records | dict.fromkeys(("softmax", "gaussian", "argmax"), estimate))
    recalls = [value for key, value in numbers.items() if key.startswith("softmax/recall_")]
    assert recalls == [0.0] * (5 - within) + [1.0] * within
