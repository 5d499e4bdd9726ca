"""Several poses per window: chosen over time, with honest weights and covariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.geometry import se3_exp
from posejax.systems.eventpose import TrajectoryConfig
from posejax.systems.eventpose.hypotheses import (
    calibration,
    coverage,
    nearest,
    over_time,
    square_distances,
    with_hypothesis,
)
from posejax.systems.eventpose.keypoints import twist_between


def made_up(rng, sequences=4, windows=30, ambiguous=0.3):
    """A body that turns slowly; two hypotheses half a turn apart, of which the first is often the
    wrong one."""
    n = sequences * windows
    sequence, step = np.divmod(np.arange(n), windows)
    time = 0.1 * step
    turn = Rotation.from_rotvec(np.outer(0.05 * time, [0.3, 1, -0.2]) + sequence[:, None])
    right = turn * Rotation.from_rotvec(rng.normal(0, 0.03, (n, 3)))
    wrong = right * Rotation.from_rotvec([0, np.pi, 0])
    t = np.tile([0.0, 0.0, 5.0], (n, 1))
    first = rng.uniform(size=n) > ambiguous
    order = np.where(first[:, None], [0, 1], [1, 0])
    quats = np.stack([right.as_quat(), wrong.as_quat()], 1)
    quats = np.take_along_axis(quats, order[..., None], axis=1)
    t_hat = np.stack([t + rng.normal(0, 0.02, (n, 3))] * 2, 1)
    weight = np.tile([0.6, 0.4], (n, 1))
    return {
        "sequence": sequence,
        "time": time,
        "translation": t,
        "quat_xyzw": turn.as_quat(),
        "translation_hat": t_hat[:, 0],
        "quat_xyzw_hat": quats[:, 0],
        "hypothesis_translation_hat": t_hat,
        "hypothesis_quat_xyzw_hat": quats,
        "hypothesis_weight": weight,
        "hypothesis_log_score": np.log(weight),
        "twist_error": rng.normal(0, 2.0 * np.repeat([0.02, 0.03], 3), (n, 6)),
        "covariance_within": np.tile(np.diag(np.repeat([0.02, 0.03], 3) ** 2), (n, 1, 1)),
        "covariance_between": np.zeros((n, 6, 6)),
    }, np.where(first, 0, 1)


def test_windows_before_and_after_tell_which_hypothesis_is_right(rng):
    records, right = made_up(rng)
    np.testing.assert_array_equal(nearest(records)[0], right)
    chosen = over_time(records, TrajectoryConfig())
    np.testing.assert_array_equal(chosen, right)
    turn = Rotation.from_quat(with_hypothesis(records, chosen)["quat_xyzw_hat"])
    truth = Rotation.from_quat(records["quat_xyzw"])
    assert np.rad2deg((turn.inv() * truth).magnitude()).max() < 10


def test_windows_that_err_alike_and_surely_do_not_outvote_the_motion(rng):
    """The last dozen windows of a sequence are all sure of the craft turned by half a turn."""
    records, _ = made_up(rng, sequences=1, windows=40, ambiguous=0.0)
    late = np.arange(40) >= 28
    order = np.where(late[:, None], [1, 0], [0, 1])
    for key in ("hypothesis_quat_xyzw_hat", "hypothesis_translation_hat"):
        records[key] = np.take_along_axis(records[key], order[..., None], axis=1)
    records["hypothesis_weight"] = np.tile([1 - 1e-15, 1e-15], (40, 1))
    np.testing.assert_array_equal(over_time(records, TrajectoryConfig()), late)
    trusting = over_time(records, TrajectoryConfig(doubt=0.0))
    assert (trusting[late] == 0).all()  # as wrong as each of them alone


def test_calibrated_ellipsoids_hold_what_they_say_and_weights_are_probabilities(rng):
    records, right = made_up(rng, sequences=100)
    scale = calibration(records, {"covariance": 1.0, "sharpness": 2.0})
    assert scale["covariance"] == pytest.approx(4, rel=0.1)
    assert max(coverage(records).values()) < 0.7
    again = {**records, "covariance_within": scale["covariance"] * records["covariance_within"]}
    for share in coverage(again).values():
        assert share == pytest.approx(0.95, abs=0.015)
    # 70 % of the first are right: the factor of log 0.6 and log 0.4 that says so.
    expected = np.log(np.mean(right == 0) / np.mean(right == 1)) / np.log(0.6 / 0.4)
    assert scale["sharpness"] == pytest.approx(expected, rel=0.15)


def test_another_hypothesis_that_may_be_right_widens_the_ellipsoid(rng):
    """Truths half a turn away, which 30 % of the windows have: at a weight that says so they are
    in the ellipsoid, and the spread of the others need not be blown up for their sake."""
    records, _ = made_up(rng, sequences=20)
    n = len(records["sequence"])
    turned = rng.uniform(size=n) < 0.3
    half = np.array([0, 0, 0, 0, np.pi, 0])
    wrong = {**records, "twist_error": records["twist_error"] + turned[:, None] * half}
    blind = calibration(wrong, {"covariance": 1.0, "sharpness": 1.0})["covariance"]
    knowing = {**wrong, "covariance_between": np.tile(0.3 * np.outer(half, half), (n, 1, 1))}
    found = calibration(knowing, {"covariance": 1.0, "sharpness": 1.0})["covariance"]
    assert blind > 100 and found < 5
    assert coverage(knowing, found)["coverage_95"] == pytest.approx(0.95, abs=0.01)


def test_spreads_that_the_windows_do_not_decide_are_bounded_and_told(rng):
    """Other hypotheses that cover every truth leave the best pose's covariance open: it must not
    vanish for the windows that have no other. Nor is there a scale where there is no pose."""
    records, _ = made_up(rng)
    n = len(records["sequence"])
    unit = {"covariance": 1.0, "sharpness": 1.0}
    covered = {**records, "covariance_between": np.tile(np.eye(6), (n, 1, 1))}
    with pytest.warns(UserWarning, match="even at a tenth"):
        assert calibration(covered, unit)["covariance"] == pytest.approx(0.1)
    lost = {**records, "twist_error": np.full((n, 6), np.nan)}
    with pytest.warns(UserWarning, match="no scale"):
        assert calibration(lost, unit)["covariance"] == 1


def test_distances_are_of_pose_position_and_rotation(rng):
    """Of twists drawn from a covariance, whose first three are the position's, in body axes."""
    root = rng.normal(size=(6, 6)) * np.array([0.1] * 3 + [0.02] * 3)[:, None]
    pose = np.eye(4)
    pose[:3] = np.c_[Rotation.random(random_state=0).as_matrix(), [0.1, 0.2, 5.0]]
    xi = rng.normal(size=(4000, 6)) @ root.T
    step = jax.vmap(se3_exp)(jnp.asarray(xi, jnp.float32))
    truth = jnp.einsum("ij,njk->nik", jnp.asarray(pose, jnp.float32), step)
    error = jax.jit(jax.vmap(twist_between, (None, 0)))(jnp.asarray(pose, jnp.float32), truth)
    np.testing.assert_allclose(error, xi, atol=1e-4)
    half = np.tile(0.5 * root @ root.T, (4000, 1, 1))
    found = square_distances(
        {"twist_error": error, "covariance_within": half, "covariance_between": half}
    )
    for name, dof in (("pose", 6), ("position", 3), ("rotation", 3)):
        assert found[name].mean() == pytest.approx(dof, rel=0.06)
