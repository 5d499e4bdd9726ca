"""Figures: the artists hold the numbers they claim to show."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from posejax.report import (
    Marker,
    binned_error,
    calibration_plot,
    confidence_ellipse,
    curves,
    error_cdf,
    figure_png,
    heat_map,
)


def test_error_cdf_ends_below_one_when_errors_are_not_finite():
    figure = error_cdf({"a": np.array([3.0, 1.0, np.nan, 2.0])}, unit="m", limit=5)
    line = figure.axes[0].lines[0]
    x, y = line.get_xdata(), line.get_ydata()
    np.testing.assert_allclose(x, [0, 1, 2, 3, 5])
    np.testing.assert_allclose(y, [0, 25, 50, 75, 75])
    assert figure_png(figure)[:4] == b"\x89PNG"


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros(3), np.full(2, np.nan)])
def test_error_cdf_draws_degenerate_series(values):
    assert figure_png(error_cdf({"a": values}, unit="m"))


def test_calibration_plot_shows_shares_in_per_cent():
    nominal = np.array([0.5, 0.9])
    figure = calibration_plot({"a": (nominal, np.array([0.4, 0.95]))}, count=10)
    line = next(artist for artist in figure.axes[0].lines if artist.get_label() == "a")
    np.testing.assert_allclose(line.get_xydata(), [[50, 40], [90, 95]])


def test_binned_error_bars_and_intervals():
    figure = binned_error(
        [(0, 0.5), (0.5, 1)], [1.0, 2.0], [(0.5, 1.5), (1.8, 2.4)], [3, 4], xlabel="f", ylabel="e"
    )
    axes = figure.axes[0]
    assert [bar.get_height() for bar in axes.patches] == [1, 2]
    segments = axes.collections[0].get_segments()
    np.testing.assert_allclose([s[:, 1] for s in segments], [[0.5, 1.5], [1.8, 2.4]])
    assert "n=4" in axes.get_xticklabels()[1].get_text()
    assert figure_png(curves({"a": (np.arange(3), np.arange(3))}, xlabel="x", ylabel="y"))


def test_heat_map_puts_row_zero_at_the_bottom_and_names_what_cannot_be_seen():
    image = np.zeros((4, 4))
    image[0, 3] = 1  # lowest y, largest x
    axes = Figure().subplots()
    markers = [Marker(0.5, -0.5, "in"), Marker(9, 0, "far"), Marker(np.nan, 0, "lost")]
    drawn = heat_map(axes, image, (-2, 2, -2, 2), markers)
    assert drawn.origin == "lower" and tuple(drawn.get_extent()) == (-2, 2, -2, 2)
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    x, y = axes.transData.transform((1.5, -1.5))
    pixel = np.asarray(canvas.buffer_rgba())[::-1][int(y), int(x), :3]
    assert pixel.sum() > 500  # the bright cell is seen at +x, -y
    labels = [line.get_label() for line in axes.lines]
    assert labels == ["in", "far (outside)", "lost (not finite)"]


def test_confidence_ellipse_holds_its_level(rng):
    covariance = np.array([[2.0, 0.9], [0.9, 0.5]])
    ellipse = confidence_ellipse(Marker(1.0, -2.0, "m", covariance=covariance), level=0.9)
    points = rng.multivariate_normal([1.0, -2.0], covariance, 20_000)
    inside = ellipse.get_path().contains_points(
        ellipse.get_patch_transform().inverted().transform(points)
    )
    assert inside.mean() == pytest.approx(0.9, abs=0.01)
    for bad in (np.full((2, 2), np.nan), -np.eye(2)):
        assert confidence_ellipse(Marker(0, 0, "m", covariance=bad)) is None
