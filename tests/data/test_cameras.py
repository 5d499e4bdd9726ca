"""The NumPy twin of the cameras: equal to `posejax.geometry` in float64, and its own promises."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posejax import geometry
from posejax.data import cameras
from posejax.data.cameras import Camera

K = np.array([[500.0, 2.5, 322.0], [0, 480.0, 239.0], [0, 0, 1]])
LENS = np.array([-0.25, 0.12, 1e-3, -5e-4, -0.03])
WIDE = np.array([-0.35, 0.05, 0, 0, 0])  # folds back beyond 50 degrees
SCALE, CORNER = (0.37, 1.9), (16.5, -7.0)


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    points = rng.uniform((-3, -2, -1), (3, 2, 6), (300, 3))
    points[:3, 2] = 0, 1e-4, 1e-3
    return points


@pytest.fixture(scope="module")
def reference(points):
    """The same by `posejax.geometry` in float64, in one program."""

    @jax.jit
    def run(points):
        xy, valid = geometry.project(points, K)
        rays = points[:, :2] / 8
        return {
            "xy": xy,
            "valid": valid,
            "points": geometry.unproject(xy, points[:, 2], K),
            "resized": geometry.resize_intrinsics(K, SCALE),
            "cropped": geometry.crop_intrinsics(K, CORNER),
            "converted": geometry.convert_intrinsics(K, source="opencv", target="posejax"),
            "pixels": geometry.convert_pixels(xy, source="posejax", target="matlab"),
            "distorted": geometry.distort(rays, LENS),
        }

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, run(points))


def test_projection_and_intrinsics_are_those_of_the_geometry(points, reference):
    xy, valid = cameras.project(points, K)
    np.testing.assert_allclose(xy, reference["xy"], rtol=1e-13, atol=1e-9)
    np.testing.assert_array_equal(valid, reference["valid"])
    assert valid[2] and not valid[:2].any()
    back = cameras.unproject(xy, points[:, 2], K)
    np.testing.assert_allclose(back, reference["points"], atol=1e-12)
    np.testing.assert_allclose(back[valid], points[valid], atol=1e-12)
    np.testing.assert_array_equal(cameras.resize_intrinsics(K, SCALE), reference["resized"])
    np.testing.assert_array_equal(cameras.crop_intrinsics(K, CORNER), reference["cropped"])
    np.testing.assert_array_equal(
        cameras.convert_intrinsics(K, source="opencv", target="posejax"), reference["converted"]
    )
    pixels = cameras.convert_pixels(xy, source="posejax", target="matlab")
    np.testing.assert_allclose(pixels, reference["pixels"], rtol=1e-13, atol=1e-9)


def test_the_lens_is_that_of_the_geometry_and_is_inverted(points, reference):
    rays = points[:, :2] / 8
    np.testing.assert_allclose(cameras.distort(rays, LENS), reference["distorted"], atol=1e-15)
    back, valid = cameras.undistort(reference["distorted"], LENS)
    assert valid.all()
    np.testing.assert_allclose(back, rays, atol=1e-12)


def test_points_beyond_the_field_of_a_lens_are_not_valid():
    radius = cameras.lens_radius(WIDE)
    r = np.linspace(0, 1.5 * radius, 400)
    moved = cameras.distort(np.stack([r, 0 * r], axis=1), WIDE)[:, 0]
    assert 1.2 < radius < 1.22 and np.diff(moved[r < radius]).min() > 0
    assert moved[-1] < moved[r < radius].max()  # it would come back into the image
    camera = Camera(K, (480, 640), WIDE)
    xy, valid = camera.project(np.stack([r, 0 * r, np.ones_like(r)], axis=1))
    np.testing.assert_array_equal(valid, r < radius)
    assert np.isfinite(xy).all()
    _, seen = cameras.undistort([[0.3, 0.1], [5.0, 0.0], [np.nan, 0.0]], WIDE)
    assert seen.tolist() == [True, False, False]
    assert cameras.lens_radius(np.zeros(5)) == np.inf


def test_what_is_not_finite_is_not_valid():
    points = [[np.nan, 0, 1], [0, np.inf, 1], [0, 0, np.nan], [0, 0, -1], [0.1, 0.2, 1]]
    for camera in (Camera(K, (480, 640)), Camera(K, (480, 640), LENS)):
        assert camera.project(points)[1].tolist() == [False] * 4 + [True]
        assert camera.rays([[np.nan, 0.0], [3.0, 4.0]])[1].tolist() == [False, True]
        assert camera.contains([[np.nan, 1], [0, 0], [640, 480], [640.1, 1], [1, -1]]).tolist() == [
            False, True, True, False, False,
        ]  # fmt: skip


_SIZE = st.tuples(st.integers(1, 999), st.integers(1, 999))


@settings(deadline=None, max_examples=60)
@given(_SIZE, st.tuples(st.floats(-99, 99), st.floats(-99, 99)), st.booleans())
def test_resizing_and_cropping_move_pixels_as_they_move_the_image(size, corner, lens):
    camera = Camera(K, (480, 640), LENS if lens else None)
    points = np.random.default_rng(0).uniform((-1, -1, 2), (1, 1, 5), (20, 3))
    xy, valid = camera.project(points)
    small = camera.resized(size)
    scale = np.array([size[1] / 640, size[0] / 480])
    np.testing.assert_allclose(small.project(points)[0], xy * scale, atol=1e-9)
    assert small.size == size and valid.all()
    part = small.cropped(corner, (50, 60))
    np.testing.assert_allclose(part.project(points)[0], xy * scale - corner, atol=1e-9)
    rays, seen = part.rays(xy * scale - corner)
    assert seen.all()
    np.testing.assert_allclose(rays * points[:, 2:], points, atol=1e-7)


def test_wrong_shapes_and_conventions_are_refused():
    with pytest.raises(ValueError, match=r"\[3, 3\]"):
        cameras.project(np.zeros(3), np.eye(4))
    with pytest.raises(ValueError, match=r"\[5\]"):
        cameras.distort(np.zeros(2), np.zeros(4))
    with pytest.raises(ValueError, match="unknown pixel convention"):
        cameras.convert_pixels(np.zeros(2), source="colmap", target="posejax")
