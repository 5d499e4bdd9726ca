"""Scores against reference numbers, SciPy and the singular points of the rotation group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.systems.eventpose.scores import (
    kelvins_2019,
    position_error,
    relative_position_error,
    rotation_error,
    spark_2026,
    speed_plus,
)
from tests.eager import compiled_programs

# Compiled whole: one program per shape instead of one per operation.
kelvins_2019, spark_2026 = jax.jit(kelvins_2019), jax.jit(spark_2026)
rotation_error = jax.jit(rotation_error)

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])


def turn_about_x(angle):
    return np.array([np.sin(angle / 2), 0, 0, np.cos(angle / 2)])


@pytest.mark.golden
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_scores_equal_the_reference_numbers(golden, kind):
    z = golden("losses.npz")
    with jax.enable_x64(True):
        truth = kind(z["speed/t_gt"]), kind(z["speed/q_gt"])
        estimate = kind(z["speed/t_est"]), kind(z["speed/q_est"])
        e_t = relative_position_error(truth[0], estimate[0])
        e_r = rotation_error(truth[1], estimate[1])
        np.testing.assert_allclose(e_t, z["speed/e_t"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(e_r, z["speed/e_q_rad"], rtol=0, atol=1e-12)
        # The acos form itself is good to 3e-8 only.
        np.testing.assert_allclose(e_r, z["speed/e_q_rad_acos"], rtol=0, atol=3e-8)
        for score in (kelvins_2019, spark_2026):
            np.testing.assert_allclose(
                score(*truth, *estimate), z["speed/score"], rtol=0, atol=3e-8
            )
        plus = speed_plus(*truth, *estimate)
        np.testing.assert_allclose(plus, z["speed/score_plus"], rtol=0, atol=3e-8)
        assert int((np.asarray(e_t) < 2.173e-3).sum()) == 69
        assert int((np.asarray(e_r) < np.deg2rad(0.169)).sum()) == 55


def test_numpy_stays_numpy_in_float64(rng):
    """Evaluations are computed on the host, where nothing needs to be compiled."""
    t, t_hat = rng.normal(5, 1, size=(2, 9, 3)).astype(np.float32)
    q, q_hat = rng.normal(size=(2, 9, 4)).astype(np.float32)
    with compiled_programs() as programs:
        found = speed_plus(t, q, t_hat, q_hat)
    assert isinstance(found, np.ndarray) and found.dtype == np.float64 and not programs
    jitted = jax.jit(speed_plus)(t, q, t_hat, q_hat)
    assert jitted.dtype == jnp.float32
    np.testing.assert_allclose(found, jitted, rtol=1e-5)


def test_thresholds_act_on_each_term_alone():
    t, t_hat = np.array([0, 0, 10.0]), np.array([0, 0.01, 10.0])  # E_t = 1e-3
    q_hat = turn_about_x(0.01)
    assert speed_plus(t, IDENTITY, t_hat, q_hat) == pytest.approx(0.01, rel=1e-5)
    small = turn_about_x(0.002)  # 0.115 degrees
    assert speed_plus(t, IDENTITY, t_hat, small) == 0
    loose = speed_plus(t, IDENTITY, t_hat, q_hat, position_threshold=0, rotation_threshold=0.02)
    assert loose == pytest.approx(1e-3, rel=1e-5)
    assert spark_2026(t, IDENTITY, t_hat, small) == pytest.approx(0.003, rel=1e-4)


def test_rotation_error_is_scipys_and_blind_to_the_sign(rng):
    a, b = Rotation.random(200, rng=rng), Rotation.random(200, rng=rng)
    with jax.enable_x64(True):
        found = rotation_error(a.as_quat(), 3 * b.as_quat())
        np.testing.assert_allclose(found, (a.inv() * b).magnitude(), atol=1e-14)
        np.testing.assert_allclose(rotation_error(a.as_quat(), -b.as_quat()), found, atol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-3, np.pi / 2, np.pi - 1e-6, np.pi])
def test_rotation_error_is_finite_where_acos_is_not(angle, dtype):
    q = jnp.asarray(turn_about_x(angle), dtype)
    p = jnp.asarray(IDENTITY, dtype)
    for estimate in (q, -q):
        value, gradient = jax.value_and_grad(lambda x: rotation_error(p, x))(estimate)
        # bfloat16 holds a quaternion to 1/256.
        assert abs(float(value) - angle) <= (1e-6 if dtype == jnp.float32 else 2e-2)
        assert jnp.all(jnp.isfinite(gradient.astype(jnp.float32)))
    if angle == 1e-3 and dtype == jnp.float32:
        assert jnp.linalg.norm(gradient) == pytest.approx(2, rel=1e-3)


def test_a_zero_quaternion_and_a_target_in_the_camera_do_not_make_nan():
    zero = jnp.zeros(4)
    value, gradient = jax.value_and_grad(lambda q: rotation_error(turn_about_x(1.0), q))(zero)
    assert value == pytest.approx(1.0, rel=1e-6) and jnp.all(gradient == 0)
    assert relative_position_error(np.zeros(3), np.ones(3)) == np.inf
    slope = jax.grad(lambda t: relative_position_error(jnp.zeros(3), t))(jnp.ones(3))
    assert jnp.all(jnp.isfinite(slope))


def test_leading_axes_are_the_vmap(rng):
    t, t_hat = rng.normal(5, 1, size=(2, 5, 7, 3))
    q, q_hat = rng.normal(size=(2, 5, 7, 4))
    found = spark_2026(t, q, t_hat, q_hat)
    assert found.shape == (5, 7)
    mapped = jax.vmap(jax.vmap(spark_2026))(t, q, t_hat, q_hat)
    np.testing.assert_allclose(found, mapped, rtol=1e-6)
    assert position_error(t, t_hat).shape == (5, 7)
