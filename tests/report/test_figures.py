"""Figures: the artists hold the numbers they claim to show."""

import numpy as np
import pytest

from posejax.report import (
    agreement,
    binned_error,
    calibration_plot,
    curves,
    error_cdf,
    figure_pixels,
    figure_png,
    risk_coverage,
    risk_plot,
    time_curves,
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


def test_error_cdf_never_goes_beyond_the_largest_error_there_is():
    errors = {"a": np.full(5, 179.0)}
    assert error_cdf(errors, unit="deg", most=180).axes[0].get_xlim() == (0, 180)
    assert error_cdf({"a": np.full(5, 10.0)}, unit="deg", most=180).axes[0].get_xlim() == (0, 12)


def test_bins_of_thousands_are_short():
    figure = binned_error([(594, 29204)], [1.0], [(0.5, 1.5)], [3], xlabel="n", ylabel="e")
    assert figure.axes[0].get_xticklabels()[0].get_text() == "594-29.2k\nn=3"


def test_risk_plot_begins_at_a_twentieth_and_ends_where_all_are_kept(rng):
    error = rng.uniform(size=40)
    figure = risk_plot({"sigma": risk_coverage(error, error)}, measure="error (m)")
    by, bound, everything = (line.get_xydata() for line in figure.axes[0].lines)
    np.testing.assert_array_equal(by, bound)
    assert by[0, 0] == pytest.approx(100 * 3 / 40) and by[-1, 0] == 100
    np.testing.assert_allclose(by[-1, 1], error.mean())
    np.testing.assert_allclose(everything[:, 1], error.mean())
    nothing = risk_coverage(np.full(3, np.nan), np.ones(3))
    assert figure_png(risk_plot({"sigma": nothing}, measure="error (m)"))


def test_time_curves_break_at_gaps_and_mark_what_is_missing(rng):
    time, missing = 0.1 * np.arange(30), np.arange(30) == 4
    time[20:] += 5
    kinds = {k: {"raw": rng.uniform(0.1, 0.2, 30)} for k in ("position (m)", "rotation (deg)")}
    position, rotation = time_curves(time, kinds, missing=missing, title="RT001").axes
    line, mark = position.lines
    x, y = line.get_xydata().T
    assert len(x) == 31 and np.isnan(x[20]) and np.isnan(y[4]) and np.isnan(y).sum() == 2
    np.testing.assert_allclose(mark.get_xdata(), [0.4])
    assert position.get_yscale() == "log" and rotation.get_ylabel() == "rotation (deg)"
    low, high = rotation.get_ylim()
    assert high >= 9.99 * low
    assert figure_png(time_curves(time, {"exact": {"raw": np.zeros(30)}}))[:4] == b"\x89PNG"


def test_values_off_the_picture_are_counted():
    truth = np.linspace(3, 8, 20)
    estimate = truth.copy()
    estimate[:3] = np.nan, 500.0, -4.0
    axes = agreement(truth, {"raw": estimate, "same": truth}, quantity="range (m)").axes[0]
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert labels == ["raw (3 outside)", "same"]
    assert len(axes.lines[1].get_xdata()) == 17


@pytest.mark.parametrize("names", [["a", "b"], [f"a method with a long name, {k}" for k in "abcd"]])
def test_legends_are_under_the_axes(names):
    """Curves may fill the axes: whatever lies within them hides one."""
    x = np.linspace(0, 1, 50)
    for figure in (
        error_cdf({name: x for name in names}, unit="m"),
        curves({name: (x, x) for name in names}, xlabel="x", ylabel="y"),
        calibration_plot({name: (x, x**0.2) for name in names}, count=50),
        agreement(x + 1, {name: x + 1 for name in names}, quantity="range (m)"),
    ):
        figure_pixels(figure, dpi=50)
        axes = figure.axes[0]
        legend, label = (a.get_window_extent() for a in (axes.get_legend(), axes.xaxis.label))
        assert legend.y0 >= 0 and legend.y1 <= label.y0 + 1
        assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1


def test_pixels_of_a_figure_are_those_of_its_png():
    figure = curves({"a": (np.arange(3), np.arange(3))}, xlabel="x", ylabel="y")
    pixels = figure_pixels(figure, dpi=50)
    assert pixels.shape == (180, 270, 3) and pixels.dtype == np.uint8
    assert pixels[0, 0].tolist() == [255, 255, 255] and pixels.min() < 100
