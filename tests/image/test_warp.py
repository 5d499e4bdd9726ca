"""Warps of whole images: direction, exact cases, and agreement with the frames of the geometry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

from posejax.geometry import Grid2D, se2_apply, se2_compose
from posejax.image import affine_warp, resample_raster


def test_matrix_maps_output_to_input(rng):
    image = rng.normal(size=(5, 7, 2)).astype(np.float32)
    warped, valid = affine_warp(image, [[1, 0, 2], [0, 1, 1]], (3, 5))
    np.testing.assert_array_equal(warped, image[1:4, 2:7])
    assert valid.all()


def test_quarter_turn_and_flip_are_exact(rng):
    image = rng.normal(size=(4, 6, 1)).astype(np.float32)
    # Output (x, y) of the transpose-like turn shows input (y, 4 - x): the corner moves exactly
    # only because coordinates start at the image's corner.
    turned, valid = affine_warp(image, [[0, 1, 0], [-1, 0, 4]], (6, 4))
    np.testing.assert_array_equal(turned, np.rot90(image, -1))
    flipped, _ = affine_warp(image, [[-1, 0, 6], [0, 1, 0]])
    np.testing.assert_array_equal(flipped, image[:, ::-1])
    assert valid.all()


def test_general_warp_agrees_with_scipy(rng):
    image = rng.normal(size=(12, 15)).astype(np.float32)
    matrix = np.array([[0.9, -0.3, 2.1], [0.2, 1.1, -1.3]])
    # The same map on SciPy's (row, column) indices: swap axes, move the centre by half a pixel.
    swap = matrix[::-1, 1::-1]
    offset = matrix[::-1, 2] + swap @ [0.5, 0.5] - 0.5
    want = affine_transform(
        image.astype(np.float64), swap, offset, order=1, mode="grid-constant", output_shape=(10, 9)
    )
    got, _ = affine_warp(image[..., None], matrix, (10, 9))
    np.testing.assert_allclose(got[..., 0], want, atol=2e-5)


def test_a_wrong_matrix_is_refused():
    with pytest.raises(ValueError, match="input_from_output"):
        affine_warp(jnp.zeros((3, 3, 1)), jnp.eye(3))


def blob(grid: Grid2D, center, width=1.0):
    """A smooth spot on a raster at metric position `center`."""
    distance = jnp.sum((grid.cell_centers() - jnp.asarray(center)[None, None]) ** 2, axis=-1)
    return jnp.exp(-distance / (2 * width**2))[..., None]


def centroid(grid: Grid2D, raster):
    return jnp.einsum("hwc,hwx->x", raster, grid.cell_centers()) / raster.sum()


@settings(max_examples=25, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3.1, 3.1))
def test_raster_content_moves_as_points_do(x, y, yaw):
    source, target = Grid2D((40, 44), 0.5), Grid2D((90, 80), 0.25)
    pose = jnp.array([x, y, yaw], jnp.float32)
    spot = jnp.array([2.0, -1.0])
    moved, _ = resample_raster(blob(source, spot), source, target, pose)
    np.testing.assert_allclose(centroid(target, moved), se2_apply(pose, spot), atol=0.02)


def test_resampling_back_restores_the_interior():
    grid = Grid2D((64, 64), 0.25)
    raster, pose = blob(grid, [1.0, 2.0], 1.5), jnp.array([0.5, -0.25, np.pi / 2])
    once, _ = resample_raster(raster, grid, grid, pose)
    # Half and quarter metres are whole cells and the turn is a quarter: nothing is interpolated.
    back = se2_compose(jnp.zeros(3), jnp.array([0.25, 0.5, -np.pi / 2]))
    twice, valid = resample_raster(once, grid, grid, back)
    error = jnp.where(valid[..., None], jnp.abs(twice - raster), 0)
    assert float(error[8:-8, 8:-8].max()) < 1e-4


def test_pose_gradient_pulls_the_rasters_together():
    grid = Grid2D((32, 32), 0.5)
    geo, online = blob(grid, [1.0, 0.5], 2.0), blob(grid, [0.0, 0.0], 2.0)

    @jax.jit
    @jax.value_and_grad
    def loss(pose):
        moved, _ = resample_raster(online, grid, grid, pose)
        return jnp.sum((moved - geo) ** 2)

    pose = jnp.zeros(3)
    first, _ = loss(pose)
    for _ in range(60):
        _, slope = loss(pose)
        pose = pose - 0.02 * slope.at[2].set(0)
    np.testing.assert_allclose(pose[:2], [1.0, 0.5], atol=0.05)
    assert loss(pose)[0] < 0.01 * first


def test_a_raster_off_its_grid_is_refused():
    with pytest.raises(ValueError, match="grid"):
        resample_raster(jnp.zeros((3, 4, 1)), Grid2D((4, 3), 1), Grid2D((4, 3), 1), jnp.zeros(3))
