"""Coverage of polygons against areas and point-in-polygon sampling."""

import numpy as np
import pytest
from matplotlib.path import Path

from posejax.data.drawing import bounds, polygon_coverage, stroke

_GRID = {"shape": (40, 60), "x_min": -3.0, "y_min": -2.0, "cell_size": 0.1}


def _sampled(polygon, n=8):
    ticks = (np.arange(n) + 0.5) / n
    x = -3 + 0.1 * (np.arange(60)[:, None] + ticks).ravel()
    y = -2 + 0.1 * (np.arange(40)[:, None] + ticks).ravel()
    inside = Path(polygon).contains_points(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))
    return inside.reshape(40, n, 60, n).mean((1, 3))


@pytest.mark.parametrize("flip", [False, True])
def test_polygons_match_dense_sampling(rng, flip):
    for _ in range(5):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        polygon = rng.uniform(0.5, 2.5, (9, 1)) * np.stack([np.cos(angle), np.sin(angle)], 1)
        polygon += rng.uniform(-1, 1, 2)
        got = polygon_coverage([polygon[::-1] if flip else polygon], **_GRID, supersample=8)
        assert np.abs(got - _sampled(polygon)).max() < 0.2
        assert np.abs(got - _sampled(polygon)).mean() < 0.003


def test_aligned_rectangles_are_exact_and_shared_edges_leave_no_seam():
    left = np.array([[-1, -1], [0.05, -1], [0.05, 1], [-1, 1]])
    right = np.array([[0.05, -1], [1, -1], [1, 1], [0.05, 1]])
    got = polygon_coverage([left, right], **_GRID)
    assert got.sum() * 0.01 == pytest.approx(4.0, rel=1e-6)
    assert set(np.unique(got.round(5))) == {0.0, 1.0}


def test_shapes_outside_draw_nothing_and_open_ones_are_cut():
    assert not polygon_coverage([np.array([[9, 9], [10, 9], [10, 10]])], **_GRID).any()
    big = np.array([[-9, -9], [9, -9], [9, 9], [-9, 9]])
    assert (polygon_coverage([big], **_GRID) == 1).all()
    assert not polygon_coverage([np.array([[0, 0], [1, 1]])], **_GRID).any()


def test_stroke_has_the_width_that_was_asked_for():
    line = np.array([[-1.5, -1.0, 7.0], [1.5, 1.0, 7.0]])
    area = polygon_coverage(stroke(line, 0.3), **_GRID).sum() * 0.01
    assert area == pytest.approx(0.3 * np.hypot(3, 2), rel=0.01)


def test_rows_grow_with_y():
    square = np.array([[1, 0.5], [2, 0.5], [2, 1.5], [1, 1.5]])
    rows, columns = np.nonzero(polygon_coverage([square], **_GRID))
    assert (rows.min(), columns.min()) == (25, 40)


def test_bounds_hold_all_points():
    pieces = [np.array([[0, 0], [3, 0.0]]), np.array([[4, 1], [4, 4.0]])]
    assert bounds(pieces, 1.0) == (-1, -1, 5, 5)
