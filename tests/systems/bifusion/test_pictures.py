"""Pictures of clouds: what is near hides what is far, sides are the sides they say."""

import numpy as np

from posejax.systems.bifusion.pictures import Side, cloud_picture, principal_colors, range_figure

FRONT = Side("front", 0.0, 0.0)


def places(side, points):
    """(row, column) of points of different colours, each seen alone beside a ballast of grey."""
    middle = np.tile([[0.0, 0.0, 3.0]], (9, 1))
    found = []
    for point in points:
        local = np.concatenate([middle, [point]])
        colors = np.concatenate([np.full((9, 3), 0.5), [[1.0, 0, 0]]])
        picture = cloud_picture(local, colors, side)
        red = np.argwhere((picture == [1, 0, 0]).all(-1))
        found.append(red.mean(0))
    return np.array(found)


def test_what_is_near_hides_what_is_far():
    local = np.array([[0.0, 0, 2], [0, 0, 4]])
    for order in ([0, 1], [1, 0]):
        colors = np.array([[1.0, 0, 0], [0, 0, 1]])
        picture = cloud_picture(local[order], colors[order], FRONT)
        assert (picture == [1, 0, 0]).all(-1).any() and not (picture == [0, 0, 1]).all(-1).any()
    # A far point whose dot begins left of the near one's does not bite into that.
    picture = cloud_picture(np.array([[0.0, 0, 2], [-0.02, 0, 4]]), np.eye(3)[[0, 2]], FRONT)
    rows, columns = np.nonzero((picture == [1, 0, 0]).all(-1))
    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == (np.ptp(rows) + 1) ** 2
    assert (picture == [0, 0, 1]).all(-1).any()
    assert (cloud_picture(np.zeros((0, 3)), np.zeros((0, 3)), FRONT) == 1).all()


def test_far_points_are_seen_above_from_above_and_left_from_the_left():
    near, far = [0.0, 0, 2], [0.0, 0, 4]
    rows = places(Side("above", 0.0, 0.5), [near, far])[:, 0]
    assert rows[1] < rows[0]
    columns = places(Side("left", 0.5, 0.0), [near, far])[:, 1]
    assert columns[1] < columns[0]


def test_ranges_without_points_are_not_drawn_as_failures():
    figure = range_figure(np.array([0.0, 1, 2, 1e6]), np.array([np.nan, 0.5, 0.25]))
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xydata(), [[1.5, 0.5], [3, 0.25]])


def test_principal_colours_tell_two_kinds_apart(rng):
    features = rng.normal(size=(100, 8)) + 20 * (np.arange(100) < 50)[:, None]
    mask = np.arange(100) < 90
    colors = principal_colors(features, mask)
    assert abs(colors[:50, 0].mean() - colors[50:90, 0].mean()) > 0.8
    assert np.ptp(colors[90:], axis=0).max() == 0
    assert np.isfinite(principal_colors(np.zeros((5, 2)), np.ones(5, bool))).all()
