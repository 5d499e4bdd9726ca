"""Pictures of a pair whose warp is known: what lies where, in which colour."""

import numpy as np
import pytest

from posejax.systems.tinyroma import epipolar_lines, pictures
from tests.systems.tinyroma import made_up


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_a_right_warp_brings_the_first_image_back(rng):
    pair = made_up.example(rng)
    pair["warp"] = pair["target_4"]
    seen = pictures.sampled(pair["image_b"], pictures.full_warp(pair))
    # Beyond 12 px from the border, where the grid of the warp ends.
    middle = np.s_[12:44, 12:72]
    np.testing.assert_allclose(seen[middle], pair["image_a"][middle], atol=0.5)
    mixed = pictures.blend(pair["image_a"], seen, np.ones(seen.shape[:2]))
    np.testing.assert_allclose(mixed[middle], pair["image_a"][middle] / 255, atol=0.01)


def test_points_are_sampled_between_centres():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 1], image[1, 1] = 100, 200
    at = np.array([[[1.5, 0.5], [1.5, 1.0], [1.0, 0.5], [-9, 9], [np.nan, 0]]])
    expected = [100, 150, 50, 0, 0]
    np.testing.assert_allclose(pictures.sampled(image, at)[0, :, 0], expected)


def test_matches_satisfy_the_fundamental_matrix_of_the_pose(rng):
    pair = made_up.example(rng)
    pair["matches_b"] = pair["target_4"].reshape(-1, 2)
    truth, estimate = epipolar_lines.fundamentals(pair)
    away = epipolar_lines.epipolar_distance(truth, pair["matches_a"], pair["matches_b"])
    assert away.max() < 1e-9
    np.testing.assert_allclose(estimate, truth)
    off = pair["matches_b"] + (-made_up.SHIFT[1], made_up.SHIFT[0])  # across the line, 12.6 px
    away = epipolar_lines.epipolar_distance(truth, pair["matches_a"], off)
    np.testing.assert_allclose(away, np.linalg.norm(made_up.SHIFT) / np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("line", "ends"),
    [
        ((1, 0, -3), [(3, 0), (3, 8)]),
        ((0, 1, -2), [(0, 2), (10, 2)]),
        ((1, -1, 0), [(0, 0), (8, 8)]),
        ((1, 0, 5), None),
    ],
)
def test_lines_end_at_the_border(line, ends):
    found = epipolar_lines.line_in(np.array(line, float), (0.0, 10.0), (0.0, 8.0))
    if ends is None:
        assert found is None
    else:
        np.testing.assert_allclose(sorted(map(tuple, found)), ends)


def test_colours_of_a_displacement():
    steps = np.array([[0.0, 0], [5, 0], [10, 0], [0, 10], [-10, 0], [30, 0]])
    none, half, right, down, left, far = pictures.flow_colors(steps, 10)
    np.testing.assert_allclose(none, 1)
    np.testing.assert_allclose(right, [1, 0, 0])
    np.testing.assert_allclose(half, [1, 0.5, 0.5])
    np.testing.assert_allclose(left, [0, 1, 1])
    assert not np.allclose(down, right) and far.max() < 0.7


def test_the_figure_shows_what_is_known(rng):
    pair = made_up.example(rng)
    shown = titles(pictures.matching_figure(pair))
    assert any("100% of them within 3 px" in t for t in shown)
    assert any("estimate solid, truth dashed" in t for t in shown)
    assert any(t.startswith("error: median 0.") for t in shown)
    pair = made_up.example(rng, truth=False)
    for name in ("b_from_a", "K_a", "K_b"):
        del pair[name]
    pair["inliers"][:] = False
    shown = titles(pictures.matching_figure(pair))
    assert "B at the warp" in shown and f"0 inliers of {len(pair['inliers'])} matches" in shown
    assert "some of the matches" in shown
