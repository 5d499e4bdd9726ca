"""xyzw quaternions against SciPy (whose order is the same)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from posejax.geometry import (
    canonical_quat_xyzw,
    conjugate_quat_xyzw,
    matrix_to_quat_xyzw,
    multiply_quat_xyzw,
    normalize_quat_xyzw,
    quat_angle_xyzw,
    quat_xyzw_to_matrix,
    quat_xyzw_to_rotation_vector,
    rotation_angle,
    rotation_vector_to_quat_xyzw,
    slerp_quat_xyzw,
)


def same_up_to_sign(got, want, atol):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    sign = np.sign((got * want).sum(-1, keepdims=True))
    np.testing.assert_allclose(got * sign, want, atol=atol)


def test_conversions_agree_with_scipy_in_float64(rng):
    r = Rotation.random(500, rng=rng)
    with jax.enable_x64(True):
        np.testing.assert_allclose(quat_xyzw_to_matrix(r.as_quat()), r.as_matrix(), atol=1e-15)
        got = matrix_to_quat_xyzw(r.as_matrix())
        np.testing.assert_allclose(got, r.as_quat(canonical=True), atol=1e-15)
        np.testing.assert_allclose(
            quat_xyzw_to_rotation_vector(r.as_quat()), r.as_rotvec(), atol=3e-15
        )
        same_up_to_sign(rotation_vector_to_quat_xyzw(r.as_rotvec()), r.as_quat(), atol=1e-15)


def test_matrix_to_quaternion_in_all_branches():
    axes = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], np.ones(3) / np.sqrt(3), [0.6, -0.8, 0]])
    angles = np.array([0, 1e-8, 1e-3, np.pi / 2, np.pi - 1e-3, np.pi])
    r = Rotation.from_rotvec((axes[:, None] * angles[:, None]).reshape(-1, 3))
    matrix = jnp.asarray(r.as_matrix(), jnp.float32)
    same_up_to_sign(matrix_to_quat_xyzw(matrix), r.as_quat(), atol=3e-7)
    for jacobian in (jax.jacrev, jax.jacfwd):
        assert np.isfinite(jax.jit(jax.vmap(jacobian(matrix_to_quat_xyzw)))(matrix)).all()


def test_canonical_sign_breaks_ties_by_the_first_component():
    quats = np.array(
        [[0, 0, 0, -1], [-1, 0, 0, 0], [0, -0.6, 0.8, 0], [0, 0, -1, 0], [1, 0, 0, -1]]
    )
    want = np.array([[0, 0, 0, 1], [1, 0, 0, 0], [0, 0.6, -0.8, 0], [0, 0, 1, 0], [-1, 0, 0, 1]])
    for quats in (want, -want):
        np.testing.assert_allclose(canonical_quat_xyzw(quats), want, atol=1e-7)


def test_zero_quaternion_counts_as_the_identity():
    zero = jnp.zeros(4)
    np.testing.assert_array_equal(quat_xyzw_to_matrix(zero), np.eye(3))
    np.testing.assert_array_equal(jax.jacrev(quat_xyzw_to_matrix)(zero), 0)
    np.testing.assert_array_equal(normalize_quat_xyzw(zero), [0, 0, 0, 1])


def test_product_and_conjugate_agree_with_matrices(rng):
    a, b = Rotation.random(100, rng=rng), Rotation.random(100, rng=rng)
    with jax.enable_x64(True):
        same_up_to_sign(multiply_quat_xyzw(a.as_quat(), b.as_quat()), (a * b).as_quat(), atol=1e-15)
        same_up_to_sign(conjugate_quat_xyzw(a.as_quat()), a.inv().as_quat(), atol=1e-15)


def test_quaternion_angle_equals_matrix_angle(rng):
    a = Rotation.random(100, rng=rng)
    turn = 10 ** rng.uniform(-9, np.log10(np.pi), 100)
    axis = rng.normal(size=(100, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    b = a * Rotation.from_rotvec(axis * turn[:, None])
    with jax.enable_x64(True):
        got = quat_angle_xyzw(a.as_quat(), -b.as_quat())
        np.testing.assert_allclose(got, turn, atol=2e-15)
        np.testing.assert_allclose(got, rotation_angle(a.as_matrix(), b.as_matrix()), atol=4e-15)


def test_quaternion_angle_gradient_is_finite_at_zero_and_half_turn():
    q = jnp.array([0, 0, 0, 1.0])
    for other in (q, -q, jnp.array([1.0, 0, 0, 0])):
        assert np.isfinite(jax.grad(quat_angle_xyzw)(q, other)).all()


def test_slerp_agrees_with_scipy(rng):
    r = Rotation.random(2, rng=rng)
    alphas = np.linspace(0, 1, 11)
    with jax.enable_x64(True):
        a, b = jnp.asarray(r.as_quat())
        got = jax.vmap(lambda s: slerp_quat_xyzw(a, b, s))(jnp.asarray(alphas))
        same_up_to_sign(got, Slerp([0, 1], r)(alphas).as_quat(), atol=1e-15)
        flipped = jax.vmap(lambda s: slerp_quat_xyzw(a, -b, s))(jnp.asarray(alphas))
        same_up_to_sign(flipped, got, atol=1e-15)


def test_slerp_between_equal_and_opposite_rotations_has_finite_gradients():
    q = jnp.array([0.5, 0.5, -0.5, 0.5])
    across = multiply_quat_xyzw(q, jnp.array([1.0, 0, 0, 0]))
    jacobian = jax.jit(jax.jacrev(slerp_quat_xyzw, argnums=(0, 1, 2)))
    for other in (q, -q, across):
        slopes = jacobian(q, other, 0.3)
        assert all(np.isfinite(s).all() for s in slopes)


@pytest.mark.golden
def test_quaternions_match_the_reference_numbers(golden):
    z = golden("losses.npz")
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            matrix_to_quat_xyzw(z["sixd_matrix"]), z["sixd_quat_xyzw"], atol=1e-12
        )
        for side in "ab":
            q = z[f"pair_quat_{side}_xyzw"]
            np.testing.assert_allclose(quat_xyzw_to_matrix(q), z[f"pair_{side}"], atol=1e-12)
            same_up_to_sign(matrix_to_quat_xyzw(z[f"pair_{side}"]), q, atol=1e-12)
        got = quat_angle_xyzw(z["speed/q_gt"], z["speed/q_est"])
        np.testing.assert_allclose(got, z["speed/e_q_rad"], atol=1e-12)
