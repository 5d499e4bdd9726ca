"""Rasters in colour, features, scores over the plane: the pixels are where and what they should."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from posejax.report import Marker, confidence_ellipse, heat_map
from posejax.report.rasters import (
    channel_names,
    choose_display,
    choose_displays,
    feature_colors,
    log_sum,
    paint,
    show_log_scores,
    signed_colors,
)


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


def test_display_is_colour_or_the_most_informative_channel(rng):
    assert channel_names(("marks", "aerial"), 4) == ["marks", "aerial r", "aerial g", "aerial b"]
    with pytest.raises(ValueError, match=r"2 channel names .* for 3 channels"):
        channel_names(("marks", "height"), 3)
    raster = np.stack([np.ones((9, 9)), rng.uniform(2, 4, (9, 9)), np.zeros((9, 9))], -1)
    mask = np.ones((9, 9))
    shown = choose_display([raster], [mask], ["occupancy", "height", "empty"])
    assert shown.channels == (1,) and shown.name == "height"
    aerial = choose_display([raster], [mask], ["aerial r", "aerial g", "aerial b"])
    assert aerial.channels == (0, 1, 2)
    mask[0] = 0
    picture = paint(raster, mask, shown)
    assert picture[0].max() == 0 and picture[1:].max() == 1 and picture.min() == 0
    nothing = choose_display([raster], [mask * 0], ["a", "b", "c"])
    assert paint(raster, mask * 0, nothing).max() == 0


def test_map_layers_lie_over_each_other_the_sparse_ones_brightest():
    layers = np.zeros((10, 10, 2))
    layers[5, :, 0] = 1  # a painted line
    layers[2:8, :, 1] = 1  # on the road
    display = choose_display([layers], [np.ones((10, 10))], ["marks", "drivable"])
    assert display.name == "drivable < marks"
    picture = paint(layers, np.ones((10, 10)), display)[..., 0]
    np.testing.assert_allclose(picture[:, 0], [0, 0, 0.35, 0.35, 0.35, 1, 0.35, 0.35, 0, 0])


def test_features_share_their_colours(rng):
    mixing = rng.normal(size=(3, 6))
    latent = rng.normal(size=(8, 8, 3)) * [3, 2, 1]
    online, geo = latent @ mixing, latent[::-1] @ mixing
    online[0] = 0  # masked out
    a, b = feature_colors(online, geo)
    np.testing.assert_allclose(a[1:], b[::-1][1:])
    assert a[0].max() == 0 and a.shape == (8, 8, 3)
    assert a.min() >= 0 and a.max() <= 1
    assert feature_colors(rng.normal(size=(4, 4, 1)))[0][..., 1:].max() == 0
    assert feature_colors(np.zeros((4, 4, 2)))[0].max() == 0


def test_log_sum_survives_impossible_cells():
    log_prob = np.array([[0.0, -np.inf, np.nan], [0.0, -1000.0, -np.inf]])
    result = log_sum(log_prob, axis=0)
    assert result[0] == pytest.approx(np.log(2)) and result[1] == pytest.approx(-1000)
    assert np.isfinite(result).all() and result[2] < -600


def test_what_is_shown_is_chosen_per_raster_and_from_all_examples(rng):
    example = {"a": rng.uniform(size=(4, 4, 2)), "a_mask": np.ones((4, 4))}
    shown = choose_displays([example], {"a": ("height", "density")})
    assert list(shown) == ["a"] and shown["a"].name in ("height", "density")
    assert choose_displays([], {"a": ("height",)}) == {}


def test_signs_have_their_colours():
    red, white, blue = signed_colors(np.array([[2.0, 0.0, -2.0]]))[0]
    assert red[0] > red[2] and blue[2] > blue[0] and white.min() > 0.99
    assert signed_colors(np.zeros((2, 2))).shape == (2, 2, 3)


def test_the_closer_view_holds_the_markers_and_their_ellipses():
    whole, zoom = Figure().subplots(1, 2)
    wide = np.diag([0.5, 0.1]) ** 2
    markers = [Marker(1.0, -1.0, "truth"), Marker(1.2, -1.0, "estimate", covariance=wide)]
    scores = np.zeros((41, 41))
    show_log_scores(whole, zoom, scores, 0.2, [*markers, Marker(np.nan, 0, "lost")])
    assert whole.get_xlim() == pytest.approx((-4.1, 4.1))
    assert zoom.get_xlim() == pytest.approx((1.1 - 1.5, 1.1 + 1.5))  # three deviations
    assert zoom.get_ylim() == pytest.approx((-2.5, 0.5))
    show_log_scores(whole, zoom, scores, 0.2, markers[:1])
    assert zoom.get_xlim() == pytest.approx((0.5, 1.5))  # two and a half cells
