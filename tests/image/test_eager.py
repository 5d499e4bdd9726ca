"""Every function of the room takes NumPy's numbers as they are and compiles once."""

import numpy as np
import pytest

from posejax import image
from posejax.geometry import Grid2D
from tests.eager import check, example, public_functions

IMAGE, MASK = np.arange(24.0).reshape(4, 6, 1), np.ones((4, 6))
XY, SHAPE = np.array([[1.0, 2.0], [3.0, 1.5]]), (np.int64(8), np.int64(9))
MATRIX, PLANAR = np.array([[0.5, 0, 1], [0, 0.5, 2.0]]), np.array([1.0, 2.0, 0.5])
GRID = Grid2D((4, 6), 0.5)

EXAMPLES = {
    "affine_warp": example(IMAGE, MATRIX, SHAPE),
    "bilinear_sample": example(IMAGE, XY),
    "masked_bilinear_sample": example(IMAGE, MASK, XY),
    "pixel_centers": example(SHAPE),
    "resample_raster": example(IMAGE, GRID, GRID, PLANAR),
    "resize": example(IMAGE, SHAPE),
    "whole_size": example(SHAPE, np.float64(64), multiple=np.int64(4)),
}
FUNCTIONS = public_functions(image)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_calls_from_numpy_compile_once(name):
    check(FUNCTIONS[name], EXAMPLES[name])
