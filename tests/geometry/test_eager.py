"""Every function of the room takes NumPy's numbers as they are and compiles once."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax import geometry
from tests.eager import check, example, public_functions

K = np.array([[500.0, 0.7, 320.0], [0, 480.0, 250.0], [0, 0, 1]])
LENS = np.array([-0.28, 0.07, 2e-4, -3e-4, 0.01])
VECTOR = np.array([0.3, -0.2, 0.5])
ROTATION = Rotation.from_rotvec(VECTOR)
MATRIX, QUAT = ROTATION.as_matrix(), ROTATION.as_quat()
POSE = np.eye(4)
POSE[:3, :3], POSE[:3, 3] = MATRIX, [1.0, 2.0, 3.0]
POINTS = np.array([[1.0, 2.0, 4.0], [-1.0, 0.5, 3.0]])
PIXELS, RAYS = np.array([[10.0, 20.0], [30.0, 5.0]]), np.array([[0.1, 0.2], [-0.3, 0.1]])
PLANAR, TWIST = np.array([1.0, 2.0, 0.5]), np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
ANGLE, SHAPE = np.float64(0.4), (np.int64(4), np.int64(6))

EXAMPLES = {
    "as_float": example(PLANAR),
    "canonical_quat_xyzw": example(-QUAT),
    "conjugate_quat_xyzw": example(QUAT),
    "convert_intrinsics": example(K, source="opencv", target="posejax"),
    "convert_pixels": example(PIXELS, source="opencv", target="posejax"),
    "crop_intrinsics": example(K, (np.int64(16), np.float64(0.5))),
    "distort": example(RAYS, LENS),
    "einsum": example("ij,nj->ni", MATRIX, POINTS),
    "epipolar_lines": example(MATRIX, PIXELS),
    "epipolar_residual": example(MATRIX, PIXELS, PIXELS + 1),
    "essential_from_pose": example(POSE),
    "fundamental_from_pose": example(POSE, K, K),
    "interpolate_pose": example(np.eye(4), POSE, ANGLE),
    "inverse_intrinsics": example(K),
    "matmul": example(MATRIX, MATRIX),
    "matrix_to_quat_xyzw": example(MATRIX),
    "matrix_to_rotation_6d": example(MATRIX),
    "matrix_to_yaw": example(MATRIX),
    "multiply_quat_xyzw": example(QUAT, QUAT),
    "normalize": example(POINTS, np.array([0, 0, 1.0])),
    "normalize_quat_xyzw": example(QUAT),
    "normalized_from_pixels": example(PIXELS, SHAPE),
    "pixel_rays": example(PIXELS, K),
    "pixels_from_normalized": example(RAYS, SHAPE, align_corners=np.True_),
    "project": example(POINTS, K, min_depth=np.float64(0.1)),
    "projection_matrix": example(K, POSE),
    "quat_angle_xyzw": example(QUAT, QUAT),
    "quat_xyzw_to_matrix": example(QUAT),
    "quat_xyzw_to_rotation_vector": example(QUAT),
    "resize_intrinsics": example(K, np.float64(0.5)),
    "rotation_6d_to_matrix": example(TWIST),
    "rotation_angle": example(MATRIX, MATRIX),
    "rotation_vector_to_quat_xyzw": example(VECTOR),
    "safe_norm": example(POINTS),
    "sampson_distance": example(MATRIX, PIXELS, PIXELS + 1),
    "se2_apply": example(PLANAR, PIXELS),
    "se2_compose": example(PLANAR, PLANAR),
    "se2_exp": example(PLANAR),
    "se2_inverse": example(PLANAR),
    "se2_log": example(PLANAR),
    "se2_matrix": example(PLANAR),
    "se3_apply": example(POSE, POINTS),
    "se3_exp": example(TWIST),
    "se3_from_rotation_translation": example(MATRIX, VECTOR),
    "se3_from_se2": example(PLANAR),
    "se3_inverse": example(POSE),
    "se3_log": example(POSE),
    "skew": example(VECTOR),
    "slerp_quat_xyzw": example(QUAT, -QUAT, ANGLE),
    "so3_exp": example(VECTOR),
    "so3_log": example(MATRIX),
    "symmetric_epipolar_distance": example(MATRIX, PIXELS, PIXELS + 1),
    "undistort": example(RAYS, LENS, iterations=np.int64(4)),
    "undistort_with_validity": example(RAYS, LENS),
    "unproject": example(PIXELS, np.array([2.0, 3.0]), K),
    "wrap_angle": example(ANGLE),
    "yaw_to_matrix": example(ANGLE),
    "yaw_to_matrix2": example(ANGLE),
}
FUNCTIONS = public_functions(geometry)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_calls_from_numpy_compile_once(name):
    check(FUNCTIONS[name], EXAMPLES[name])


def test_grids_take_numpys_numbers():
    grid = geometry.Grid2D(SHAPE, np.float64(0.5))
    check(grid.pixel_from_xy, example(PIXELS))
    check(grid.xy_from_pixel, example(PIXELS))
    check(grid.contains, example(PIXELS))
    check(grid.cell_centers, example())
    assert grid.padded(np.int64(2)).shape == (8, 10)
    assert grid.resized(np.float64(0.5)).shape == (2, 3)
