"""Rotations against SciPy in float64, finite differences, and the singular points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.spatial.transform import Rotation

from posejax.geometry import (
    matrix_to_rotation_6d,
    matrix_to_yaw,
    rotation_6d_to_matrix,
    rotation_angle,
    so3_exp,
    so3_log,
    wrap_angle,
    yaw_to_matrix,
    yaw_to_matrix2,
)

# Compiled whole: one program per shape instead of one per operation.
so3_exp, so3_log = jax.jit(so3_exp), jax.jit(so3_log)
rotation_6d_to_matrix, rotation_angle = jax.jit(rotation_6d_to_matrix), jax.jit(rotation_angle)

ANGLES = [0.0, 1e-12, 1e-8, 1e-7, 1e-4, 0.5, 0.999, 1.001, 3.0, np.pi - 1e-4, np.pi - 1e-7, np.pi]


def random_axes(rng, count):
    axes = rng.normal(size=(count, 3))
    return axes / np.linalg.norm(axes, axis=-1, keepdims=True)


def test_exp_and_log_agree_with_scipy_in_float64(rng):
    with jax.enable_x64(True):
        for angle in ANGLES:
            vectors = random_axes(rng, 50) * angle
            want = Rotation.from_rotvec(vectors)
            np.testing.assert_allclose(so3_exp(vectors), want.as_matrix(), atol=1e-15)
            got = np.asarray(so3_log(want.as_matrix()))
            if angle > np.pi - 1e-6:  # both signs of the axis are right
                got = got * np.sign((got * vectors).sum(-1, keepdims=True))
            np.testing.assert_allclose(got, vectors, atol=4e-15, err_msg=str(angle))


def test_float32_round_trip_holds_at_every_angle(rng):
    angles = np.repeat(ANGLES, 100)[:, None]
    matrix = so3_exp((random_axes(rng, len(angles)) * angles).astype(np.float32))
    np.testing.assert_allclose(so3_exp(so3_log(matrix)), matrix, atol=1.5e-6)


def test_jacobians_equal_central_differences(rng):
    # exp(w + d) and log(exp(w) exp(d)) at d = 0, in forward and reverse mode. Near pi a step across
    # 180 degrees would flip the axis of the logarithm.
    with jax.enable_x64(True):
        angles = np.array([*ANGLES[:-1], np.pi - 1e-10])[:, None]
        vectors = jnp.asarray(random_axes(rng, len(angles)) * angles)
        check_jacobians(lambda w, d: so3_exp(w + d).reshape(-1), vectors, 1e-9)
        check_jacobians(lambda w, d: so3_log(so3_exp(w) @ so3_exp(d)), vectors[:-2], 1e-9)


def check_jacobians(f, points, atol, step=1e-5):
    """d f(p, d) / dd at d = 0 for all points [N, n]: both modes against central differences."""
    zero, eye = jnp.zeros(points.shape[1]), step * jnp.eye(points.shape[1])
    value = jax.jit(jax.vmap(jax.vmap(f, (None, 0)), (0, None)))
    numeric = np.moveaxis((value(points, eye) - value(points, -eye)) / (2 * step), 1, -1)
    for jacobian in (jax.jacfwd, jax.jacrev):
        got = jax.jit(jax.vmap(lambda p, j=jacobian: j(lambda d: f(p, d))(zero)))(points)
        np.testing.assert_allclose(got, numeric, atol=atol)


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)])
def test_gradients_are_finite_at_every_angle(rng, dtype):
    angles = np.array([*ANGLES, 2 * np.pi])[:, None]
    vectors = jnp.asarray(random_axes(rng, len(angles)) * angles, dtype)
    matrices = Rotation.from_rotvec(np.asarray(vectors, np.float64)).as_matrix()
    matrices = jnp.asarray(matrices, dtype)
    eye, flip = jnp.eye(3, dtype=dtype), jnp.diag(jnp.array([1, -1, -1], dtype))

    def everything(w, m):
        return {
            "exp": so3_exp(w),
            "log": so3_log(m),
            "log of a half turn": so3_log(m @ flip),
            "angle": rotation_angle(m, eye),
            "angle zero": rotation_angle(m, lax.stop_gradient(m)),
            "half turn": rotation_angle(m, lax.stop_gradient(m) @ flip),
        }

    for jacobian in (jax.jacrev, jax.jacfwd):
        slopes = jax.jit(jax.vmap(jacobian(everything, argnums=(0, 1))))(vectors, matrices)
        for name, slope in slopes.items():
            assert all(np.isfinite(np.asarray(x, np.float32)).all() for x in slope), name


def test_rotation_angle_is_accurate_in_both_precisions(rng):
    angle = np.repeat([0.0, 1e-8, 1e-6, 1e-3, 1.0, 3.0, np.pi - 1e-6, np.pi], 50)
    a = Rotation.random(len(angle), rng=rng)
    b = a * Rotation.from_rotvec(random_axes(rng, len(angle)) * angle[:, None])
    a, b = a.as_matrix(), b.as_matrix()
    got = rotation_angle(a.astype(np.float32), b.astype(np.float32))
    np.testing.assert_allclose(got, angle, atol=5e-7)
    with jax.enable_x64(True):
        np.testing.assert_allclose(rotation_angle(a, b), angle, atol=2e-15)


def test_rotation_angle_gradient_follows_the_axis():
    # d angle / d(turn about the axis) = 1, about any other axis 0, also at tiny angles.
    for angle in (1e-6, 0.1, 3.0):
        r = so3_exp(jnp.array([0, 0, angle]))
        slope = jax.grad(lambda d, r=r: rotation_angle(jnp.eye(3), r @ so3_exp(d)))(jnp.zeros(3))
        np.testing.assert_allclose(slope, [0, 0, 1], atol=1e-6)


def test_degenerate_matrices_have_an_angle_and_finite_gradients():
    for m in (jnp.zeros((3, 3)), jnp.diag(jnp.array([1.0, 0, 0]))):
        for f in (lambda m: rotation_angle(m, jnp.eye(3)), lambda m: so3_log(m).sum()):
            value, slope = jax.value_and_grad(f)(m)
            assert np.isfinite(value) and np.isfinite(slope).all()


def test_6d_round_trip_and_orthonormality(rng):
    sixd = rng.normal(size=(500, 6)).astype(np.float32) * 10 ** rng.uniform(-8, 8, (500, 1))
    matrix = np.asarray(rotation_6d_to_matrix(sixd.astype(np.float32)), np.float64)
    gram = np.swapaxes(matrix, -1, -2) @ matrix
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), gram.shape), atol=2e-6)
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=2e-6)
    again = rotation_6d_to_matrix(matrix_to_rotation_6d(matrix))
    np.testing.assert_allclose(again, matrix, atol=1e-6)


def test_6d_is_a_rotation_with_finite_gradients_even_where_degenerate():
    sixd = jnp.array(
        [
            [0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0],
            [0, 0, 0, 1, 0, 0],
            [1, 2, 3, 2, 4, 6],
            [1, 2, 3, -1, -2, -3],
            [1, 2, 3, 1, 2, 3.000001],
            [1e-30, 0, 0, 0, 1e-30, 0],
            [1e30, 0, 0, 0, 1e30, 0],
        ]
    )
    matrix = np.asarray(rotation_6d_to_matrix(sixd))
    gram = np.swapaxes(matrix, -1, -2) @ matrix
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), gram.shape), atol=2e-6)
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=2e-6)
    slope = jax.jit(jax.vmap(jax.jacrev(rotation_6d_to_matrix)))(sixd)
    assert np.isfinite(slope).all()


def test_6d_jacobian_equals_central_differences(rng):
    with jax.enable_x64(True):
        points = jnp.asarray(rng.normal(size=(5, 6)))
        check_jacobians(lambda p, d: rotation_6d_to_matrix(p + d).reshape(-1), points, 1e-7, 1e-6)


@pytest.mark.golden
def test_6d_rotations_and_angles_match_the_reference_numbers(golden):
    z = golden("losses.npz")
    with jax.enable_x64(True):
        np.testing.assert_allclose(rotation_6d_to_matrix(z["sixd"]), z["sixd_matrix"], atol=1e-12)
        got = rotation_angle(z["pair_a"], z["pair_b"])
        np.testing.assert_allclose(got, z["pair_angle_rad"], atol=1e-12)
    sixd = jnp.asarray(z["sixd"], jnp.float32)
    np.testing.assert_allclose(rotation_6d_to_matrix(sixd), z["sixd_matrix_f32"], atol=1e-5)
    slope = jax.grad(lambda x: jnp.sum(rotation_6d_to_matrix(x) * z["sixd_grad_weight"]))(sixd)
    tolerance = 1e-5 * np.abs(z["sixd_grad"]).max()
    np.testing.assert_allclose(slope, z["sixd_grad"], atol=tolerance)


def test_yaw_turns_x_towards_y():
    quarter = jnp.float32(np.pi / 2)
    np.testing.assert_allclose(yaw_to_matrix2(quarter) @ jnp.array([1.0, 0]), [0, 1], atol=1e-7)
    np.testing.assert_allclose(
        yaw_to_matrix(quarter) @ jnp.array([1.0, 0, 5]), [0, 1, 5], atol=1e-6
    )
    yaws = jnp.linspace(-3.1, 3.1, 17)
    np.testing.assert_allclose(matrix_to_yaw(yaw_to_matrix(yaws)), yaws, atol=1e-6)
    np.testing.assert_allclose(matrix_to_yaw(yaw_to_matrix2(yaws)), yaws, atol=1e-6)


def test_yaw_of_a_body_pointing_straight_up_is_finite():
    up = jnp.asarray(Rotation.from_euler("y", -np.pi / 2).as_matrix().round(12), jnp.float32)
    value, slope = jax.value_and_grad(matrix_to_yaw)(up)
    assert value == 0 and np.isfinite(slope).all()


def test_wrapped_angles_lie_in_the_half_open_turn():
    angles = jnp.array([0, np.pi, -np.pi, 3 * np.pi, 7.0, -7.0], jnp.float32)
    wrapped = wrap_angle(angles)
    assert (jnp.abs(wrapped) <= np.pi + 1e-6).all() and wrapped[1] < 0
    np.testing.assert_allclose(jnp.cos(wrapped), jnp.cos(angles), atol=1e-5)
    np.testing.assert_allclose(jnp.sin(wrapped), jnp.sin(angles), atol=1e-5)
    np.testing.assert_array_equal(jax.vmap(jax.grad(wrap_angle))(angles), 1)
    # At +-pi itself rounding decides between the ends; elsewhere wrapping again changes nothing.
    np.testing.assert_array_equal(wrap_angle(wrapped[4:]), wrapped[4:])
