"""The one raster convention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posejax.geometry import Grid2D, se2_apply


def test_axes_and_origin_of_a_small_raster():
    grid = Grid2D((2, 4), 0.5)
    centers = grid.cell_centers()
    np.testing.assert_allclose(centers[0, :, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(centers[:, 0, 1], [-0.25, 0.25])
    np.testing.assert_allclose(grid.pixel_from_xy(jnp.zeros(2)), [2, 1])
    assert grid.size_m == (2.0, 1.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.05, 4))
def test_pixels_and_metres_are_inverse(height, width, cell):
    grid = Grid2D((height, width), cell)
    pixel = grid.pixel_from_xy(grid.cell_centers())
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    np.testing.assert_allclose(pixel, np.stack([columns, rows], -1), atol=1e-4)
    np.testing.assert_allclose(grid.xy_from_pixel(pixel), grid.cell_centers(), atol=1e-4 * cell)
    assert grid.contains(grid.cell_centers()).all()


def test_quarter_turn_maps_cells_of_a_square_raster_to_cells():
    # Yaw turns x (columns) towards y (rows): the cell (row i, column j) goes to (j, n - 1 - i).
    n, grid = 5, Grid2D((5, 5), 0.3)
    turned = se2_apply(jnp.array([0, 0, np.pi / 2]), grid.cell_centers())
    pixel = np.floor(np.asarray(grid.pixel_from_xy(turned)))
    i, j = np.indices((n, n))
    np.testing.assert_array_equal(pixel[..., 1], j)
    np.testing.assert_array_equal(pixel[..., 0], n - 1 - i)


def test_grids_are_static_arguments():
    a, b = Grid2D((3, 4), 0.2), Grid2D([np.int64(3), 4], np.float64(0.2))  # pyright: ignore
    assert a == b and hash(a) == hash(b)
    traces = []

    def f(x, grid):
        traces.append(grid)
        return grid.pixel_from_xy(x)

    jitted = jax.jit(f, static_argnums=1)
    jitted(jnp.zeros(2), a)
    jitted(jnp.zeros(2), b)
    assert len(traces) == 1


def test_resized_and_padded_grids_keep_their_centre():
    grid = Grid2D((8, 6), 0.5)
    assert grid.resized(0.5) == Grid2D((4, 3), 1.0)
    assert grid.resized(0.5).size_m == grid.size_m
    assert grid.padded(2) == Grid2D((12, 10), 0.5)
    with pytest.raises(ValueError, match="whole number"):
        grid.resized(0.25)


@pytest.mark.parametrize("shape, cell", [((0, 3), 1), ((3,), 1), ((2.5, 3), 1), ((3, 3), 0)])
def test_impossible_grids_are_refused(shape, cell):
    with pytest.raises(ValueError):
        Grid2D(shape, cell)


def test_the_far_edge_is_outside():
    grid = Grid2D((2, 2), 1.0)
    xy = jnp.array([[-1.0, -1.0], [1.0, 0], [0, 1.0], [0.999, 0.999], [jnp.nan, 0]])
    np.testing.assert_array_equal(grid.contains(xy), [1, 0, 0, 1, 0])
