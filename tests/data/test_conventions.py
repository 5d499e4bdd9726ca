"""Other programs' frames, angles, sizes and pixels: right-handed when they come out, and back."""

import itertools

import numpy as np
import pytest

from posejax.data import cameras, conventions, rigid
from posejax.data.conventions import AXES, axes_matrix, change_axes

RNG = np.random.default_rng(0)
ANGLES = RNG.uniform((-85, -180, -180), (85, 180, 180), (20, 3)).T


def proper(pose) -> None:
    assert rigid.is_rotation(pose[..., :3, :3], 1e-9).all()


@pytest.mark.parametrize("a, b", itertools.product(AXES, AXES))
def test_axes_there_and_back(a, b):
    m = axes_matrix(a, b)
    assert np.linalg.det(m) == (-1 if (a == "unreal") != (b == "unreal") else 1)
    np.testing.assert_array_equal(axes_matrix(b, a) @ m, np.eye(3))
    for word in ("forward", "left", "up"):
        unit = [_component(AXES[name], word) for name in (a, b)]
        np.testing.assert_array_equal(m @ unit[1], unit[0])


def _component(axes, word):
    """Coordinates of a direction along axes: the words say it."""
    opposite = {"forward": "back", "left": "right", "up": "down"}[word]
    return np.array([(w == word) - 1.0 * (w == opposite) for w in axes])


def test_a_pose_keeps_its_meaning():
    pose = rigid.se3_exp(RNG.standard_normal((5, 6)))
    changed = change_axes(pose, a=("body", "nuscenes_lidar"), b=("body", "camera"))
    proper(changed)
    point = RNG.standard_normal(3)
    for before, after in zip(pose, changed, strict=True):
        np.testing.assert_allclose(
            rigid.se3_apply(after, axes_matrix("camera", "body") @ point),
            axes_matrix("nuscenes_lidar", "body") @ rigid.se3_apply(before, point),
            atol=1e-12,
        )
    back = change_axes(changed, a=("nuscenes_lidar", "body"), b=("camera", "body"))
    np.testing.assert_allclose(back, pose, atol=1e-12)


def test_one_end_of_a_left_handed_pose_is_refused():
    with pytest.raises(ValueError, match="both ends"):
        change_axes(np.eye(4), a=("unreal", "body"))
    with pytest.raises(ValueError, match="no axes 'carla'"):
        axes_matrix("carla", "body")


def test_unreal_angles():
    """As CARLA turns: yaw to the right, pitch up, roll leans to the right."""
    ahead, right, up = np.eye(3)
    np.testing.assert_allclose(conventions.unreal_rotation(0, 90, 0) @ ahead, right, atol=1e-12)
    np.testing.assert_allclose(conventions.unreal_rotation(90, 0, 0) @ ahead, up, atol=1e-12)
    np.testing.assert_allclose(conventions.unreal_rotation(0, 0, 90) @ right, -up, atol=1e-12)
    back = conventions.unreal_angles(conventions.unreal_rotation(*ANGLES))
    np.testing.assert_allclose(back, ANGLES, atol=1e-9)
    steep = conventions.unreal_rotation(90, 30, 0)
    again = conventions.unreal_rotation(*conventions.unreal_angles(steep))
    np.testing.assert_allclose(again, steep, atol=1e-9)


@pytest.mark.parametrize("axes", ["body", "camera"])
def test_unreal_poses_are_right_handed_and_come_back(axes):
    location = RNG.uniform(-50, 50, (20, 3))
    pose = conventions.pose_from_unreal(location, *ANGLES, axes=axes)
    proper(pose)
    np.testing.assert_allclose(pose[:, :3, 3], location * [1, -1, 1])
    back = conventions.unreal_from_pose(pose, axes=axes)
    np.testing.assert_allclose(back[0], location)
    np.testing.assert_allclose(back[1:], ANGLES, atol=1e-9)


def test_a_camera_of_carla_sees_what_is_to_its_right_on_the_right():
    vehicle = conventions.pose_from_unreal([100, 50, 0], 0, 30, 0)
    camera = conventions.pose_from_unreal([100, 50, 2], 0, 30, 0, axes="camera")
    ego_from_camera = rigid.se3_inverse(vehicle) @ camera
    np.testing.assert_allclose(ego_from_camera[:3, :3], axes_matrix("body", "camera"), atol=1e-12)
    # 10 m ahead and 2 m to the right of the camera, in CARLA's own world.
    turn = conventions.unreal_rotation(0, 30, 0)
    point = np.array([100, 50, 2]) + turn @ [10, 2, 0]
    seen = rigid.se3_apply(rigid.se3_inverse(camera), point * [1, -1, 1])
    np.testing.assert_allclose(seen, (2, 0, 10), atol=1e-9)
    k = conventions.intrinsics_from_fov(90, (600, 800))
    np.testing.assert_allclose(cameras.project(seen, k)[0], (400 + 400 * 0.2, 300))


def test_boxes():
    size, pose = conventions.box_from_unreal([2, 1, 0.75], [5, 3, 1], 0, 90, 0)
    np.testing.assert_array_equal(size, (4, 2, 1.5))
    np.testing.assert_allclose(rigid.se3_apply(pose, [2, 0, 0]), (5, -5, 1), atol=1e-12)
    size, pose = conventions.box_from_nuscenes([2, 4, 1.5], [1, 2, 3], [1, 0, 0, 0])
    np.testing.assert_array_equal(size, (4, 2, 1.5))
    np.testing.assert_array_equal(pose[:3], np.c_[np.eye(3), [1, 2, 3]])
    quat = RNG.standard_normal((7, 4))
    proper(conventions.pose_from_wxyz(quat, RNG.standard_normal((7, 3))))


def test_kitti_boxes_stand_on_their_location():
    size, pose = conventions.box_from_kitti([1.5, 1.6, 4], [1, 1.7, 20], 0.0)
    proper(pose)
    np.testing.assert_array_equal(size, (4, 1.6, 1.5))
    np.testing.assert_allclose(rigid.se3_apply(pose, [2, 0, -0.75]), (3, 1.7, 20), atol=1e-12)
    many = conventions.box_from_kitti(np.ones((6, 3)), np.zeros((6, 3)), np.linspace(-3, 3, 6))[1]
    proper(many)
    # A quarter turn about y (down) from heading right: towards the camera.
    _, turned = conventions.box_from_kitti([1.5, 1.6, 4], [1, 1.7, 20], np.pi / 2)
    np.testing.assert_allclose(turned[:3, 0], (0, 0, -1), atol=1e-12)


def test_cameras():
    k = np.array([[700, 0, 600], [0, 710, 170], [0, 0, 1.0]])
    p = np.c_[k, k @ [-0.5, 0.01, 0.003]]
    found, pose = conventions.camera_from_projection(p)
    np.testing.assert_allclose(
        found, cameras.convert_intrinsics(k, source="opencv", target="posejax")
    )
    np.testing.assert_allclose(pose[:3, 3], (-0.5, 0.01, 0.003))
    proper(pose)
    matlab = conventions.intrinsics_from_matlab(k.T, transposed=True)
    np.testing.assert_allclose(matlab[:2, 2], (599.5, 169.5))
    back = cameras.convert_intrinsics(matlab, source="posejax", target="matlab")
    np.testing.assert_allclose(back, k)


def test_opengl_projects_to_the_same_pixel():
    size, near, far = (480, 640), 0.1, 100
    left, right, bottom, top = -0.08, 0.1, -0.05, 0.07
    frustum = np.array(
        [
            [2 * near / (right - left), 0, (right + left) / (right - left), 0],
            [0, 2 * near / (top - bottom), (top + bottom) / (top - bottom), 0],
            [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, -1, 0],
        ]
    )
    point = np.array([0.4, -0.3, -5, 1])  # x right, y up, z back
    clip = frustum @ point
    ndc = clip[:2] / clip[3]
    pixel = (ndc[0] + 1) / 2 * size[1], (1 - ndc[1]) / 2 * size[0]
    k = conventions.intrinsics_from_opengl(frustum, size)
    seen = axes_matrix("camera", "opengl") @ point[:3]
    np.testing.assert_allclose(cameras.project(seen, k)[0], pixel)
