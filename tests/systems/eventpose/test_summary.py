"""Numbers of an evaluation: those of single examples, honest about what is missing."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.systems.eventpose import scores
from posejax.systems.eventpose.config import TrajectoryConfig
from posejax.systems.eventpose.summary import pose_errors, summarize

NONE = TrajectoryConfig(method="none")


@pytest.fixture
def records(rng):
    """Two sequences of smooth motion, 60 estimates each, with independent errors."""
    n, rows = 60, []
    for k in range(2):
        time = np.arange(n) / 10
        turn = Rotation.from_rotvec(np.outer(time, [0.02, 0.03 * (k + 1), 0.01]))
        t = np.stack([0.05 * time, 0.1 - 0.02 * time, 5 + 0.1 * time], 1)
        noisy = turn * Rotation.from_rotvec(rng.normal(0, 0.05, (n, 3)))
        rows.append({
            "sequence": np.full(n, k), "time": time, "translation": t,
            "quat_xyzw": turn.as_quat(), "translation_hat": t + rng.normal(0, 0.05, (n, 3)),
            "quat_xyzw_hat": noisy.as_quat() * rng.choice([-1, 1], (n, 1)),
            "events": rng.integers(100, 9000, n), "light": np.full(n, np.nan),
        })  # fmt: skip
    found = {k: np.concatenate([r[k] for r in rows]) for k in rows[0]}
    return {**found, "index": np.arange(2 * n)}


def test_errors_are_the_official_scores(records):
    """Those of scores.py, which are compared with the reference numbers."""
    errors = pose_errors(records)
    pair = [jnp.asarray(records[k]) for k in
            ("translation", "quat_xyzw", "translation_hat", "quat_xyzw_hat")]  # fmt: skip
    np.testing.assert_allclose(errors.score, scores.kelvins_2019(*pair), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(errors.speed_plus, scores.speed_plus(*pair), rtol=1e-5, atol=1e-6)
    expected = Rotation.from_quat(pair[1]) * Rotation.from_quat(pair[3]).inv()
    np.testing.assert_allclose(np.deg2rad(errors.rotation), expected.magnitude(), atol=1e-7)


def test_angles_at_the_ends():
    base = {
        "translation": np.array([[0, 0, 5.0]] * 3),
        "translation_hat": np.array([[0, 0, 5.0]] * 3),
    }
    q = np.array([[0, 0, 0, 1.0]] * 3)
    q_hat = np.array([[0, 0, 0, -1.0], [1.0, 0, 0, 0], [5e-9, 0, 0, 1.0]])
    errors = pose_errors({**base, "quat_xyzw": q, "quat_xyzw_hat": q_hat})
    np.testing.assert_allclose(np.deg2rad(errors.rotation), [0, np.pi, 1e-8], rtol=1e-9)


def test_an_estimate_that_is_not_finite_counts_as_the_worst(records):
    records["translation_hat"][3] = np.nan
    records["quat_xyzw_hat"][4, 0] = np.inf
    errors = pose_errors(records)
    np.testing.assert_allclose(errors.rotation[3:5], 180)
    np.testing.assert_allclose(errors.relative[3:5], 1)
    numbers = summarize(records, NONE)
    assert numbers["nonfinite"] == 2 and all(np.isfinite(list(numbers.values())))


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=pytest.mark.slow) for m in ("rts", "spline", "twist")]
)
def test_smoothing_helps_where_errors_are_independent(records, method):
    rule = TrajectoryConfig(method=method, position_sigma=0.05, rotation_sigma=3.0)
    records["translation_hat"][7] = np.nan  # a gap
    numbers = summarize(records, rule)
    assert numbers["smoothed/score"] < 0.6 * numbers["score"]
    assert numbers["smoothed/nonfinite"] == 0 and numbers["nonfinite"] == 1


def test_the_interval_is_by_sequence(records):
    numbers = summarize(records, NONE)
    per = [pose_errors({k: v[records["sequence"] == s] for k, v in records.items()}).score.mean()
           for s in (0, 1)]  # fmt: skip
    low, middle, high = (numbers[k] for k in ("score_low", "score", "score_high"))
    assert min(per) - 1e-9 <= low <= middle <= high <= max(per) + 1e-9


def test_predicted_spreads_are_compared_with_the_errors(records):
    numbers = summarize(
        {**records, "sigma_m": np.full(120, 0.05), "sigma_rad": np.full(120, 0.05)}, NONE
    )
    assert numbers["sigma_ratio_m"] == pytest.approx(1, abs=0.15)
    assert numbers["sigma_ratio_rad"] == pytest.approx(1, abs=0.15)


def test_the_constant_answer_is_the_mean_pose(records):
    numbers = summarize(records, NONE)
    turn = Rotation.from_quat(records["quat_xyzw"])
    expected = np.rad2deg((turn.mean().inv() * turn).magnitude()).mean()
    assert numbers["constant/rotation_deg"] == pytest.approx(expected, rel=1e-6)
    assert numbers["constant/score"] > numbers["score"]
