"""SE(2) and SE(3) against matrix exponentials, finite differences and group axioms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from posejax.geometry import (
    interpolate_pose,
    se2_apply,
    se2_compose,
    se2_exp,
    se2_inverse,
    se2_log,
    se2_matrix,
    se3_apply,
    se3_exp,
    se3_from_rotation_translation,
    se3_from_se2,
    se3_inverse,
    se3_log,
)

# Compiled whole: one program per shape instead of one per operation.
se2_compose, se2_exp, se2_log = map(jax.jit, (se2_compose, se2_exp, se2_log))
se3_exp, se3_log, se3_from_se2 = map(jax.jit, (se3_exp, se3_log, se3_from_se2))
interpolate_pose = jax.jit(interpolate_pose)

TURNS = [0, 1e-12, 1e-8, 1e-4, 0.5, 0.999, 1.001, 2.0, 3.0, np.pi - 1e-6]


def twist_matrix(tangent):
    x, y, z = tangent[3:]
    out = np.zeros((4, 4))
    out[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    out[:3, 3] = tangent[:3]
    return out


def random_twist(rng, turn):
    axis = rng.normal(size=3)
    return np.concatenate([rng.normal(size=3) * 3, axis / np.linalg.norm(axis) * turn])


def random_pose(rng):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(rng=rng).as_matrix()
    pose[:3, 3] = rng.normal(size=3) * 10
    return pose


def test_se3_exp_is_the_matrix_exponential_and_log_its_inverse(rng):
    tangents = np.array([random_twist(rng, turn) for turn in TURNS for _ in range(10)])
    with jax.enable_x64(True):
        poses = se3_exp(tangents)
        want = np.array([expm(twist_matrix(t)) for t in tangents])
        np.testing.assert_allclose(poses, want, atol=2e-14)
        np.testing.assert_allclose(se3_log(poses), tangents, atol=5e-14)


def test_se3_log_at_half_a_turn_is_one_of_both(rng):
    with jax.enable_x64(True):
        tangent = random_twist(rng, np.pi)
        pose = se3_exp(tangent)
        np.testing.assert_allclose(se3_exp(se3_log(pose)), pose, atol=1e-14)


def test_se3_jacobians_equal_central_differences(rng):
    with jax.enable_x64(True):
        points = jnp.asarray([random_twist(rng, turn) for turn in TURNS[:-1]])
        zero, step = jnp.zeros(6), 1e-5 * jnp.eye(6)
        for f in (
            lambda p, d: se3_exp(p + d).reshape(-1),
            lambda p, d: se3_log(se3_exp(p) @ se3_exp(d)),
        ):
            value = jax.jit(jax.vmap(jax.vmap(f, (None, 0)), (0, None)))
            numeric = np.moveaxis((value(points, step) - value(points, -step)) / 2e-5, 1, -1)
            for jacobian in (jax.jacfwd, jax.jacrev):
                got = jax.jit(jax.vmap(jacobian(f, argnums=1), (0, None)))(points, zero)
                np.testing.assert_allclose(got, numeric, atol=3e-9)


def test_float32_gradients_are_finite_at_every_turn(rng):
    turns = [0, 1e-8, 1e-4, 3.0, np.pi - 1e-6, np.pi, 2 * np.pi]
    tangents = jnp.asarray([random_twist(rng, turn) for turn in turns], jnp.float32)
    poses = se3_exp(tangents)
    assert np.isfinite(jax.jit(jax.vmap(jax.jacrev(se3_exp)))(tangents)).all()
    assert np.isfinite(jax.jit(jax.vmap(jax.jacrev(se3_log)))(poses)).all()
    slopes = jax.jit(jax.vmap(jax.jacrev(interpolate_pose, (0, 1, 2)), (0, 0, None)))
    for start in (jnp.broadcast_to(jnp.eye(4), poses.shape), poses):
        assert all(np.isfinite(s).all() for s in slopes(start, poses, 0.5))


def test_inverse_and_apply_agree_with_numpy(rng):
    pose, points = random_pose(rng), rng.normal(size=(4, 5, 3))
    with jax.enable_x64(True):
        np.testing.assert_allclose(se3_inverse(pose), np.linalg.inv(pose), atol=1e-13)
        want = points @ pose[:3, :3].T + pose[:3, 3]
        np.testing.assert_allclose(se3_apply(pose, points), want, atol=1e-13)
        np.testing.assert_allclose(se3_apply(se3_inverse(pose), want), points, atol=1e-13)
        got = se3_from_rotation_translation(pose[:3, :3], pose[:3, 3])
        np.testing.assert_array_equal(got, pose)


def test_interpolation_hits_both_ends_and_moves_at_constant_speed(rng):
    with jax.enable_x64(True):
        start, end = jnp.asarray(random_pose(rng)), jnp.asarray(random_pose(rng))
        alphas = jnp.linspace(0, 1, 9)
        path = interpolate_pose(start, end, alphas)
        np.testing.assert_allclose(path[0], start, atol=1e-14)
        np.testing.assert_allclose(path[-1], end, atol=1e-13)
        steps = jax.vmap(se3_log)(se3_inverse(path[:-1]) @ path[1:])
        np.testing.assert_allclose(steps, jnp.broadcast_to(steps[0], steps.shape), atol=1e-13)


def test_interpolation_does_not_depend_on_the_frames(rng):
    # world_from_body may be replaced by other_from_world @ world_from_body @ body_from_sensor.
    with jax.enable_x64(True):
        start, end, left, right = (jnp.asarray(random_pose(rng)) for _ in range(4))
        want = left @ interpolate_pose(start, end, 0.3) @ right
        got = interpolate_pose(left @ start @ right, left @ end @ right, 0.3)
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_interpolating_a_quarter_circle_stays_on_the_circle():
    # From (1, 0) heading +y to (0, 1) heading -x: the screw motion is the unit circle itself.
    start = se3_from_se2(jnp.array([1, 0, np.pi / 2]))
    end = se3_from_se2(jnp.array([0, 1, np.pi]))
    half = interpolate_pose(start, end, 0.5)
    np.testing.assert_allclose(half[:3, 3], [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-6)


def test_planar_poses_agree_with_homogeneous_matrices(rng):
    with jax.enable_x64(True):
        a, b = rng.normal(size=(2, 50, 3)) * [5, 5, 3]
        points = rng.normal(size=(7, 2))
        product = se2_matrix(a) @ se2_matrix(b)
        np.testing.assert_allclose(se2_matrix(se2_compose(a, b)), product, atol=1e-14)
        np.testing.assert_allclose(
            se2_matrix(se2_inverse(a)), np.linalg.inv(se2_matrix(a)), atol=1e-13
        )
        matrix = np.asarray(se2_matrix(a[0]))
        want = points @ matrix[:2, :2].T + matrix[:2, 2]
        np.testing.assert_allclose(se2_apply(a[0], points), want, atol=1e-14)


def test_se2_exp_is_the_matrix_exponential_and_log_its_inverse():
    yaws = [0, 1e-12, 1e-8, 0.5, 0.999, 1.001, -2.0, 3.1, -np.pi]
    tangents = np.array([[1.5, -0.5, yaw] for yaw in yaws])
    want = [expm(np.array([[0, -yaw, 1.5], [yaw, 0, -0.5], [0, 0, 0]])) for yaw in yaws]
    with jax.enable_x64(True):
        np.testing.assert_allclose(se2_matrix(se2_exp(tangents)), want, atol=1e-14)
        np.testing.assert_allclose(se2_log(se2_exp(tangents)), tangents, atol=1e-14)
    for f in (se2_exp, se2_log):
        slopes = jax.jit(jax.vmap(jax.jacrev(f)))(jnp.asarray(tangents, jnp.float32))
        assert np.isfinite(slopes).all()


def test_planar_motion_is_the_spatial_one_in_the_plane(rng):
    with jax.enable_x64(True):
        a, b = rng.normal(size=(2, 3))
        want = se3_from_se2(a) @ se3_from_se2(b)
        np.testing.assert_allclose(se3_from_se2(se2_compose(a, b)), want, atol=1e-14)


def test_a_batch_of_poses_is_refused_with_advice():
    with pytest.raises(ValueError, match="vmap"):
        se3_apply(jnp.zeros((2, 4, 4)), jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="vmap"):
        se2_apply(jnp.zeros((2, 3)), jnp.zeros((2, 2)))
