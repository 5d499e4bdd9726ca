"""Cameras and epipolar geometry: round trips, resizing and cropping, conventions, distortion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax import geometry
from posejax.data import cameras
from posejax.geometry import (
    convert_intrinsics,
    convert_pixels,
    crop_intrinsics,
    distort,
    epipolar_lines,
    epipolar_residual,
    essential_from_pose,
    fundamental_from_pose,
    inverse_intrinsics,
    normalized_from_pixels,
    pixels_from_normalized,
    project,
    resize_intrinsics,
    sampson_distance,
    se3_apply,
    symmetric_epipolar_distance,
    undistort,
    unproject,
)

K = np.array([[500.0, 0.7, 320.0], [0, 480.0, 250.0], [0, 0, 1]])
LENS = np.array([-0.28, 0.07, 2e-4, -3e-4, 0.01])


def points_in_view(rng, count=50):
    return np.c_[rng.uniform(-2, 2, (count, 2)), rng.uniform(3, 9, count)]


def test_projection_agrees_with_numpy_and_unprojection_inverts_it(rng):
    points = points_in_view(rng)
    with jax.enable_x64(True):
        xy, valid = project(points, K)
        want = points @ K.T
        np.testing.assert_allclose(xy, want[:, :2] / want[:, 2:], atol=1e-11)
        assert valid.all()
        np.testing.assert_allclose(unproject(xy, points[:, 2], K), points, atol=1e-13)
        np.testing.assert_allclose(inverse_intrinsics(K), np.linalg.inv(K), atol=1e-15)


def test_points_at_and_behind_the_camera_are_invalid_with_finite_gradients():
    points = jnp.array([[1.0, 2, 0], [1, 2, -3], [0, 0, 0], [1, 1, 1e-9]])
    xy, valid = project(points, K)
    assert not valid.any() and np.isfinite(xy).all()
    assert np.isfinite(jax.grad(lambda p: project(p, K)[0].sum())(points)).all()


def test_resizing_scales_pixels_and_cropping_shifts_them(rng):
    points = points_in_view(rng)
    xy, _ = project(points, K)
    scaled, _ = project(points, resize_intrinsics(K, (0.25, 0.5)))
    np.testing.assert_allclose(scaled, xy * np.array([[0.25, 0.5]]), rtol=1e-5)
    cropped, _ = project(points, crop_intrinsics(K, (16, -8)))
    np.testing.assert_allclose(cropped, xy - np.array([[16, -8]]), atol=1e-3)
    np.testing.assert_allclose(resize_intrinsics(K, 2), resize_intrinsics(K, (2, 2)))


def test_resizing_an_opencv_camera_needs_the_half_pixel_only_at_the_boundary():
    # Known rule for integer centres: c' = s (c + 0.5) - 0.5.
    ours = convert_intrinsics(K, source="opencv", target="posejax")
    back = convert_intrinsics(resize_intrinsics(ours, 0.25), source="posejax", target="opencv")
    np.testing.assert_allclose(back[:2, 2], 0.25 * (K[:2, 2] + 0.5) - 0.5, rtol=1e-6)


def test_first_pixel_in_all_conventions():
    for name, first in (("posejax", 0.5), ("opencv", 0.0), ("matlab", 1.0)):
        got = convert_pixels(jnp.array([0.5, 0.5]), source="posejax", target=name)
        np.testing.assert_array_equal(got, first)
        np.testing.assert_array_equal(convert_pixels(got, source=name, target="posejax"), 0.5)
    with pytest.raises(ValueError, match="torch"):
        convert_pixels(jnp.zeros(2), source="torch", target="posejax")  # pyright: ignore


def test_normalised_coordinates_of_both_kinds():
    corners = jnp.array([[-1.0, -1.0], [1.0, 1.0], [0, 0]])
    shape = (4, 6)
    np.testing.assert_allclose(pixels_from_normalized(corners, shape), [[0, 0], [6, 4], [3, 2]])
    aligned = pixels_from_normalized(corners, shape, align_corners=True)
    np.testing.assert_allclose(aligned, [[0.5, 0.5], [5.5, 3.5], [3, 2]])
    np.testing.assert_allclose(normalized_from_pixels(aligned, shape, align_corners=True), corners)
    np.testing.assert_allclose(
        normalized_from_pixels(pixels_from_normalized(corners, shape), shape), corners
    )


def test_distortion_follows_its_formula_and_newton_inverts_it(rng):
    rays = rng.uniform(-0.5, 0.5, (200, 2))
    k1, k2, p1, p2, k3 = LENS
    x, y = rays.T
    r2 = x**2 + y**2
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    want = np.c_[
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    ]
    with jax.enable_x64(True):
        np.testing.assert_allclose(distort(rays, LENS), want, atol=1e-15)
        np.testing.assert_allclose(undistort(want, LENS), rays, atol=1e-13)
        slope = jax.jit(jax.vmap(jax.jacrev(lambda r: distort(undistort(r, LENS), LENS))))(want)
        np.testing.assert_allclose(slope, np.broadcast_to(np.eye(2), slope.shape), atol=1e-9)


def two_views(rng):
    b_from_a = np.eye(4)
    b_from_a[:3, :3] = Rotation.from_rotvec([0.1, -0.2, 0.05]).as_matrix()
    b_from_a[:3, 3] = [0.5, -0.1, 0.2]
    points = points_in_view(rng)
    k_b = K * np.array([[1.1], [1.1], [1]])
    xy_a, _ = project(points, K)
    xy_b, _ = project(se3_apply(b_from_a, points), k_b)
    return b_from_a, k_b, xy_a, xy_b


def test_projections_of_one_point_satisfy_the_epipolar_constraint(rng):
    with jax.enable_x64(True):
        pose, k_b, xy_a, xy_b = two_views(rng)
        f = fundamental_from_pose(pose, K, k_b)
        np.testing.assert_allclose(epipolar_residual(f, xy_a, xy_b), 0, atol=1e-12)
        e = k_b.T @ np.asarray(f) @ K
        np.testing.assert_allclose(e, essential_from_pose(pose), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(e), 0, atol=1e-15)


def test_epipolar_distances_measure_pixels(rng):
    # Moving a match by d across its line: distance to the line d; the Sampson distance is within
    # the first order of the closest correction, at most d^2 and at least the symmetric bound.
    with jax.enable_x64(True):
        pose, k_b, xy_a, xy_b = two_views(rng)
        f = fundamental_from_pose(pose, K, k_b)
        lines = epipolar_lines(f, xy_a)
        moved = xy_b + 0.3 * lines[:, :2]
        np.testing.assert_allclose(jnp.sum(lines[:, :2] * moved, -1) + lines[:, 2], 0.3, atol=1e-9)
        r = epipolar_residual(f, xy_a, moved)
        gradient = jax.jit(jax.vmap(jax.grad(lambda p: epipolar_residual(f, p[:2], p[2:]))))
        slope = gradient(jnp.concatenate([xy_a, moved], axis=-1))
        want = r**2 / jnp.sum(slope**2, axis=-1)
        np.testing.assert_allclose(sampson_distance(f, xy_a, moved), want, rtol=1e-9)
        assert (symmetric_epipolar_distance(f, xy_a, moved) >= 0.09 - 1e-9).all()


def test_epipoles_have_no_line_and_finite_gradients():
    # Pure forward motion: the epipole is the principal point in both images.
    pose = np.eye(4)
    pose[2, 3] = 1
    f = fundamental_from_pose(pose, np.eye(3), np.eye(3))
    zero = jnp.zeros(2)
    for g in (sampson_distance, symmetric_epipolar_distance):
        value, slope = jax.value_and_grad(g, argnums=(1, 2))(f, zero, zero)
        assert value == 0 and np.isfinite(slope).all()
    np.testing.assert_array_equal(epipolar_lines(f, zero), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axis", range(3))
def test_points_that_are_not_finite_are_not_valid(bad, axis):
    point = jnp.array([0.1, 0.2, 1.0]).at[axis].set(bad)
    k = jnp.array([[500.0, 0.7, 320.0], [0, 480.0, 250.0], [0, 0, 1]])
    xy, valid = project(point, k)
    assert not valid and np.isfinite(xy).all()
    assert np.isfinite(jax.grad(lambda p: project(p, k)[0].sum())(point)).all()


@pytest.mark.parametrize("lens", [(-0.28, 0.07, 2e-4, -3e-4, 0.01), (-0.4, 0, 0, 0, 0), (0.1,) * 5])
def test_undistorted_points_say_whether_they_have_a_meaning(lens):
    """Equal to the readers' own inverse, in float64 with the roots of a polynomial."""
    x = np.linspace(-1.5, 1.5, 13)
    rays = np.stack(np.meshgrid(x, x), -1).reshape(-1, 2)
    rays = np.concatenate([rays, [[np.nan, 0.0]]])
    want, meaning = cameras.undistort(rays, lens, iterations=8)
    got, valid = geometry.undistort_with_validity(rays, np.array(lens))
    assert (np.asarray(valid) == meaning).mean() > 0.97  # where Newton's method converges late
    assert not valid[-1]
    both = np.asarray(valid) & meaning
    np.testing.assert_allclose(np.asarray(got)[both], want[both], atol=1e-4)
