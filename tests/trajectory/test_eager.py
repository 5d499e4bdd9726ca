"""Eager calls: NumPy's numbers as they are, compiled once, on any clock, with any gaps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax import trajectory
from posejax.trajectory import (
    fit_constant_twist,
    rts_smooth,
    spline_poses,
    spline_smooth,
    twist_poses,
)
from tests.eager import check, example, public_functions
from tests.trajectory.dense_map import exp6

COUNT, UNIX = 12, 1_700_000_000.0
T = 0.5 * np.arange(COUNT)
POSES = exp6(T[:, None] * np.array([0.1, -0.05, 0.3, 0.1, -0.25, 0.15]))
SIGMA, DRIFT = np.array([0.01, 0.01]), (np.float64(0.02), 0.02)
# As an eager call leaves them: the time they count from is NumPy's.
TWIST_FIT = trajectory.TwistFit(
    *(jnp.asarray(x, jnp.float32) for x in (POSES[0], [0.1, -0.05, 0.3, 0.1, -0.25, 0.15])),
    np.float64(UNIX),
    *(jnp.zeros(2),) * 4,
)
SPLINE_FIT = trajectory.SplineFit(
    jnp.asarray(POSES[:5], jnp.float32), np.float64(UNIX), jnp.float32(0.5), *(jnp.zeros(2),) * 3
)
VALID = np.ones(COUNT, bool)
EXAMPLES = {
    "choose_hypotheses": example(
        POSES[:, None], np.zeros((COUNT, 1)), T + UNIX, VALID, reach=np.int64(4)
    ),
    "fit_constant_twist": example(T, POSES, VALID, SIGMA, iterations=np.int64(10)),
    "pose_residual": example(POSES, POSES),
    "rts_smooth": example(T, POSES, VALID, SIGMA, drift=DRIFT, passes=np.int64(6)),
    "screw_residual": example(T, POSES),
    "spline_poses": example(SPLINE_FIT, T),
    "spline_smooth": example(T, POSES, VALID, SIGMA, segments=np.int64(4), drift=DRIFT),
    "twist_poses": example(TWIST_FIT, T),
}
FUNCTIONS = public_functions(trajectory)
# With the settings of the examples: what those compile serves here too.
SMOOTHERS = {
    "screw": partial(fit_constant_twist, **EXAMPLES["fit_constant_twist"].settings),
    "spline": partial(spline_smooth, **EXAMPLES["spline_smooth"].settings),
    "rts": partial(rts_smooth, **EXAMPLES["rts_smooth"].settings),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_calls_from_numpy_compile_once(name):
    check(FUNCTIONS[name], EXAMPLES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOOTHERS)
def test_unix_times_give_the_same_track(name):
    """Padding may carry any time, zero too."""
    t, valid = T.copy(), VALID.copy()
    t[-1], valid[-1] = 0, False
    late = np.where(valid, t + UNIX, 0)
    want, found = (SMOOTHERS[name](x, POSES, valid, SIGMA) for x in (t, late))
    np.testing.assert_allclose(found.poses[:-1], want.poses[:-1], atol=1e-6)
    with pytest.raises(ValueError, match="too coarse"):
        SMOOTHERS[name](late.astype(np.float32), POSES, valid, SIGMA)
    # Within a trace they are rounded before anyone can look: no pose passes for one.
    traced = jax.jit(lambda t: SMOOTHERS[name](t, POSES, valid, SIGMA).poses)
    assert jnp.all(jnp.isnan(traced(late.astype(np.float32))))


def test_queries_keep_the_clock():
    ahead = np.array([0.25, 7.0])
    np.testing.assert_allclose(
        twist_poses(TWIST_FIT, UNIX + ahead),
        twist_poses(TWIST_FIT._replace(t0=0.0), ahead),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        spline_poses(SPLINE_FIT, UNIX + ahead),
        spline_poses(SPLINE_FIT._replace(start=0.0), ahead),
        atol=1e-6,
    )
    assert jnp.all(jnp.isnan(jax.jit(twist_poses)(TWIST_FIT, np.float32(UNIX) + ahead)))


@pytest.mark.parametrize("name", SMOOTHERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e20])
def test_a_broken_estimate_harms_no_other(name, bad):
    poses, without = POSES.copy(), VALID.copy()
    poses[5, :3, 3], without[5] = bad, False
    found = SMOOTHERS[name](T, poses, VALID, SIGMA)
    assert np.abs(np.asarray(found.poses) - POSES).max() < 1e-2
    assert np.all(np.asarray(found.weights)[5, 0] == 0)
    # No rotation is no attitude.
    poses[5] = 0
    found = SMOOTHERS[name](T, poses, VALID, SIGMA)
    assert np.abs(np.asarray(found.poses) - POSES).max() < 1e-2
    assert np.all(np.asarray(found.weights)[5] == 0)


def test_a_broken_covariance_is_a_gap():
    covariance = np.tile(1e-4 * np.eye(6), (COUNT, 1, 1))
    covariance[3], covariance[7] = np.nan, -np.eye(6)
    found = rts_smooth(T, POSES, VALID, None, covariance)
    assert np.abs(np.asarray(found.poses) - POSES).max() < 1e-2
    assert np.all(np.asarray(found.weights)[[3, 7]] == 0)
    # Nothing measured, nothing known.
    blank = rts_smooth(T, POSES * np.nan, VALID, None, covariance)
    assert np.all(np.diagonal(np.asarray(blank.covariance), axis1=1, axis2=2) > 0.999)
