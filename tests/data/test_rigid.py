"""The NumPy twin of the rigid geometry: equal to `posejax.geometry` and to SciPy in float64."""

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax import geometry
from posejax.data import rigid

TURNS = (0.0, 1e-9, 1e-5, 0.05, 0.9, 1.1, 2.0, np.pi - 1e-3, np.pi)


@pytest.fixture(scope="module")
def twists():
    """[N, 6], turns from none to half a turn about random axes."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((20 * len(TURNS), 3))
    w *= np.repeat(TURNS, 20)[:, None] / np.linalg.norm(w, axis=1, keepdims=True)
    return np.concatenate([rng.uniform(-50, 50, w.shape), w], axis=1)


@pytest.fixture(scope="module")
def quats():
    """[N, 4] of any length, among them half turns, zero and both signs."""
    rng = np.random.default_rng(1)
    wild = rng.standard_normal((200, 4)) * 10 ** rng.uniform(-9, 9, (200, 1))
    return np.concatenate([wild, np.eye(4), -np.eye(4), np.zeros((1, 4))])


@pytest.fixture(scope="module")
def reference(twists, quats):
    """The same by `posejax.geometry` in float64, in one program."""

    @jax.jit
    def run(twists, quats):
        poses = geometry.se3_exp(twists)
        unit = geometry.normalize_quat_xyzw(quats)
        return {
            "se3_exp": poses,
            "se3_log": geometry.se3_log(poses),
            "se3_inverse": geometry.se3_inverse(poses),
            "so3_exp": geometry.so3_exp(twists[:, 3:]),
            "normalize_quat_xyzw": unit,
            "canonical_quat_xyzw": geometry.canonical_quat_xyzw(quats),
            "quat_xyzw_to_matrix": geometry.quat_xyzw_to_matrix(quats),
            "matrix_to_quat_xyzw": geometry.matrix_to_quat_xyzw(
                geometry.quat_xyzw_to_matrix(quats)
            ),
            "multiply": geometry.multiply_quat_xyzw(unit, unit[::-1]),
            "interpolated": geometry.interpolate_pose(poses[0], poses[70], quats[:5, 0] / 1e9),
            "angle": geometry.rotation_angle(poses[:, :3, :3], poses[::-1, :3, :3]),
        }

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, run(twists, quats))


@pytest.mark.parametrize("name", ["se3_exp", "se3_log", "se3_inverse", "so3_exp"])
def test_motions_are_those_of_the_geometry(twists, reference, name):
    poses = reference["se3_exp"]
    given = {"se3_exp": twists, "so3_exp": twists[:, 3:]}.get(name, poses)
    found = getattr(rigid, name)(given)
    assert found.dtype == np.float64
    if name == "se3_log":  # at exactly half a turn both axes are right
        found, want = rigid.se3_exp(found), poses
    else:
        want = reference[name]
    np.testing.assert_allclose(found, want, atol=2e-11)


@pytest.mark.parametrize(
    "name",
    [
        "normalize_quat_xyzw",
        "canonical_quat_xyzw",
        "quat_xyzw_to_matrix",
        "matrix_to_quat_xyzw",
    ],
)
def test_quaternions_are_those_of_the_geometry(quats, reference, name):
    given = reference["quat_xyzw_to_matrix"] if name.startswith("matrix") else quats
    scale = np.maximum(np.abs(reference[name]).max(axis=1, keepdims=True), 1e-99)
    found = getattr(rigid, name)(given)
    np.testing.assert_allclose(found / scale, reference[name] / scale, atol=1e-14)


def test_products_angles_and_interpolation_are_those_of_the_geometry(twists, quats, reference):
    unit = rigid.normalize_quat_xyzw(quats)
    np.testing.assert_allclose(
        rigid.multiply_quat_xyzw(unit, unit[::-1]), reference["multiply"], atol=1e-14
    )
    poses = rigid.se3_exp(twists)
    between = rigid.interpolate_pose(poses[0], poses[70], quats[:5, 0] / 1e9)
    np.testing.assert_allclose(between, reference["interpolated"], atol=1e-9)
    turned = poses[:, :3, :3]
    np.testing.assert_allclose(
        rigid.rotation_angle(turned, turned[::-1]), reference["angle"], atol=1e-7
    )


def test_rotations_agree_with_scipy(quats):
    unit = rigid.normalize_quat_xyzw(quats)
    want = Rotation.from_quat(unit)
    np.testing.assert_allclose(rigid.quat_xyzw_to_matrix(quats), want.as_matrix(), atol=1e-14)
    points = np.random.default_rng(2).standard_normal((len(unit), 3))
    np.testing.assert_allclose(rigid.rotate_quat_xyzw(unit, points), want.apply(points), atol=1e-13)
    back = rigid.rotate_quat_xyzw(rigid.conjugate_quat_xyzw(unit), want.apply(points))
    np.testing.assert_allclose(back, points, atol=1e-13)


def test_poses_move_points_and_what_is_no_rotation_is_told():
    pose = rigid.se3_exp([1.0, 2, 3, 0.1, -0.4, 0.2])
    points = np.arange(12.0).reshape(2, 2, 3)
    there = rigid.se3_apply(pose, points)
    np.testing.assert_allclose(rigid.se3_apply(rigid.se3_inverse(pose), there), points, atol=1e-14)
    np.testing.assert_allclose(there[1, 0], pose[:3, :3] @ points[1, 0] + pose[:3, 3], atol=1e-14)
    turn = pose[:3, :3]
    bad = np.stack([turn, -turn, 1.01 * turn, np.full((3, 3), np.nan), np.full((3, 3), 1e200)])
    assert rigid.is_rotation(bad).tolist() == [True, False, False, False, False]
    with pytest.raises(ValueError, match=r"\[4, 4\]"):
        rigid.se3_apply(np.stack([pose, pose]), points)
