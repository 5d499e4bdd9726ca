"""Rasters against python loops and scipy, and the orientation of everything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from posejax.data import se2
from posejax.data.ground import estimate_ground
from posejax.data.paint import paint_contrast
from posejax.data.rasters import (
    POINT_CHANNELS,
    MapRaster,
    blur,
    crop_raster,
    fill_rate,
    lay_raster,
    overlap_rate,
    rasterize_points,
    reduce_raster,
)

_POSE = st.tuples(*(st.floats(-20, 20) for _ in range(2)), st.floats(-3.1, 3.1)).map(np.array)


@given(_POSE, _POSE)
@settings(max_examples=30, deadline=None)
def test_se2_matches_matrices(a, b):
    def matrix(p):
        c, s = np.cos(p[2]), np.sin(p[2])
        return np.array([[c, -s, p[0]], [s, c, p[1]], [0, 0, 1]])

    np.testing.assert_allclose(matrix(se2.compose(a, b)), matrix(a) @ matrix(b), atol=1e-9)
    np.testing.assert_allclose(matrix(se2.inverse(a)), np.linalg.inv(matrix(a)), atol=1e-9)
    np.testing.assert_allclose(se2.apply(a, b[:2]), (matrix(a) @ [*b[:2], 1])[:2], atol=1e-9)


def _points(rng, n=4000):
    xyz = rng.uniform([-7, -5, -0.3], [7, 5, 5], (n, 3)).astype(np.float32)
    return xyz, rng.random(n, dtype=np.float32)


def test_every_channel_matches_a_loop(rng):
    xyz, intensity = _points(rng)
    shape, cell = (20, 30), 0.4
    got, mask = rasterize_points(
        xyz,
        intensity,
        ring=np.zeros(len(xyz), np.uint8),
        shape=shape,
        cell_size=cell,
        channels=POINT_CHANNELS,
        ground=0.0,
        raised=(0.3, 3.0),
        max_height=4.0,
    )
    paint = paint_contrast(
        xyz, intensity, np.zeros(len(xyz), np.uint8), np.abs(xyz[:, 2]) < np.float32(0.2)
    )
    cells = {}
    for i, (x, y, _) in enumerate(xyz.astype(np.float64)):
        row, column = int(np.floor(y / cell + 10)), int(np.floor(x / cell + 15))
        if 0 <= row < 20 and 0 <= column < 30:
            cells.setdefault((row, column), []).append(i)
    assert mask.sum() == len(cells)
    for (row, column), members in cells.items():
        z, v = xyz[members, 2].astype(np.float64), intensity[members].astype(np.float64)
        low = np.abs(z) < 0.2
        want = {
            "height": min(z.max(), 4.0),
            "height_mean": min(z.mean(), 4.0),
            "intensity": v.mean(),
            "ground_intensity": v[low].mean() if low.any() else 0,
            "paint": paint[members][low].mean() if low.any() else 0,
            "density": np.log(1 + len(members)) / np.log(17),
            "occupancy": float(((z > 0.3) & (z < 3.0)).any()),
        }
        assert mask[row, column]
        np.testing.assert_allclose(
            got[row, column], [want[name] for name in POINT_CHANNELS], atol=2e-6
        )
    assert (got[~mask] == 0).all()


def test_ahead_is_a_larger_column_and_left_a_larger_row():
    xyz = np.array([[3.1, 0.0, 1.0], [0.0, 3.1, 1.0]])
    raster, _ = rasterize_points(
        xyz, shape=(16, 16), cell_size=0.5, channels=("occupancy",), ground=0.0
    )
    assert np.argwhere(raster[..., 0]).tolist() == [[8, 14], [14, 8]]


def test_nan_points_and_empty_sweeps_are_harmless():
    xyz = np.array([[np.nan, 0, 0], [0, 0, np.inf], [1.0, 1.0, 0.5]])
    _, mask = rasterize_points(xyz, shape=(8, 8), cell_size=1.0, channels=("height", "density"))
    assert mask.sum() == 1
    raster, mask = rasterize_points(
        np.zeros((0, 3)), shape=(8, 8), cell_size=1.0, channels=("height", "occupancy")
    )
    assert not mask.any() and not raster.any()


def test_wrong_channels_are_explained():
    with pytest.raises(ValueError, match=r"unknown raster channels \['heigth'\].*height"):
        rasterize_points(np.zeros((1, 3)), shape=(8, 8), cell_size=1.0, channels=("heigth",))
    with pytest.raises(ValueError, match="need the points' intensity"):
        rasterize_points(np.zeros((1, 3)), shape=(8, 8), cell_size=1.0)


@given(_POSE)
@settings(max_examples=15, deadline=None)
def test_crop_matches_map_coordinates(pose):
    rng = np.random.default_rng(0)
    values = rng.random((60, 80, 2), dtype=np.float32)
    source = MapRaster(values, None, -22.0, -14.0, 0.5)
    got, mask = crop_raster(source, pose, shape=(14, 18), cell_size=0.6)
    i, j = np.mgrid[:14, :18]
    xy = np.stack([(j + 0.5 - 9) * 0.6, (i + 0.5 - 7) * 0.6], axis=-1)
    where = se2.apply(pose, xy)
    rows, columns = (where[..., 1] + 14) / 0.5 - 0.5, (where[..., 0] + 22) / 0.5 - 0.5
    inside = (rows >= 0) & (rows <= 59) & (columns >= 0) & (columns <= 79)
    for c in range(2):
        want = ndimage.map_coordinates(values[..., c].astype(np.float64), [rows, columns], order=1)
        np.testing.assert_allclose(got[inside, c], want[inside], atol=1e-4)
    np.testing.assert_allclose(mask[inside], 1, atol=1e-5)
    far = (rows < -1) | (rows > 60) | (columns < -1) | (columns > 80)
    assert (mask[far] == 0).all() and (got[far] == 0).all()


def test_crop_ignores_masked_cells():
    values = np.ones((10, 10, 1), np.float32)
    values[:, 5:] = 1e6
    mask = np.ones((10, 10), bool)
    mask[:, 5:] = False
    crop, valid = crop_raster(
        MapRaster(values, mask, 0, 0, 1.0), np.array([5.0, 5.0, 0.3]), shape=(6, 6), cell_size=1.0
    )
    assert crop.max() == pytest.approx(1) and set(crop[valid == 0, 0]) <= {0.0}
    assert 0 < valid.mean() < 1


def test_uint8_maps_become_unit_floats_and_reduce_to_means():
    values = np.array([[0, 255], [255, 255]], np.uint8)[..., None].repeat(2, 0).repeat(2, 1)
    small = reduce_raster(MapRaster(values, None, 1.0, 2.0, 0.5), 2)
    assert small.values[..., 0].tolist() == [[0, 255], [255, 255]] and small.cell_size == 1.0
    crop, _ = crop_raster(small, np.array([2.0, 3.0, 0.0]), shape=(2, 2), cell_size=1.0)
    np.testing.assert_allclose(crop[..., 0], [[0, 1], [1, 1]], atol=1e-6)


def test_blur_matches_scipy(rng):
    a = rng.random((30, 40), dtype=np.float32)
    want = ndimage.gaussian_filter(a.astype(np.float64), 1.3, mode="constant", radius=4)
    np.testing.assert_allclose(blur(a, 1.3), want, atol=1e-6)


def test_fill_rate_and_overlap():
    online = np.zeros((10, 10), bool)
    online[4:6, :] = True
    assert fill_rate(online) == pytest.approx(0.2)
    geo = np.zeros((14, 14))
    geo[:, 7:] = 1
    assert overlap_rate(online, geo, np.zeros(3), 0.5) == pytest.approx(0.5)
    assert overlap_rate(online, geo, np.array([1.0, 0, 0]), 0.5) == pytest.approx(0.7)
    assert overlap_rate(online, geo, np.array([0, 0, np.pi]), 0.5) == pytest.approx(0.5)
    assert overlap_rate(np.zeros((4, 4)), geo, np.zeros(3), 0.5) == 0


def test_ground_follows_a_sloping_road_below_walls_and_stray_returns(rng):
    xy = rng.uniform(-30, 30, (40000, 2))
    road = 0.02 * xy[:, 0] - 0.01 * xy[:, 1] - 1.7
    z = road + rng.normal(0, 0.02, len(xy))
    wall = (np.abs(xy[:, 1]) > 12) & (rng.random(len(xy)) < 0.7)
    z[wall] += rng.uniform(0, 6, wall.sum())
    z[rng.random(len(xy)) < 0.002] -= 4.0  # reflections seen below the road
    ground = estimate_ground(np.column_stack([xy, z]))
    near = np.abs(xy).max(1) < 25
    error = np.abs(ground.at(xy) - road)[near]
    assert np.percentile(error, 99) < 0.12 and np.median(error) < 0.04
    assert np.isfinite(ground.at(np.array([[1e3, -1e3]]))).all()


def test_paint_stands_out_from_the_range_trend(rng):
    azimuth = np.linspace(-np.pi, np.pi, 900, endpoint=False)
    xyz = np.column_stack([9 * np.cos(azimuth), 9 * np.sin(azimuth), np.zeros(900)])
    intensity = 0.1 + 0.05 * np.cos(azimuth) + rng.normal(0, 0.004, 900)
    stripe = (np.arange(900) % 150) < 4
    intensity[stripe] += 0.15
    order = rng.permutation(900)
    ground = np.ones(900, bool)
    ground[order[:50]] = False
    got = paint_contrast(xyz[order], intensity[order], np.full(900, 3), ground)
    assert (got[~ground] == 0).all()
    painted = stripe[order] & ground
    assert got[painted].min() > 0.8 and np.percentile(got[~painted], 95) < 0.15


def test_online_raster_lands_where_its_pose_says():
    """A single lit cell at X must appear at R(yaw) X + t of the geo frame."""
    online = np.zeros((21, 21, 1))
    online[15, 18] = 1  # X = (8, 5) cells
    pose = np.array([0.4, -0.6, np.pi / 2])  # (2, -3) cells; R X = (-5, 8)
    geo = lay_raster(online, np.ones((21, 21)), pose, (31, 31), 0.2)[..., 0]
    row, column = np.unravel_index(np.argmax(geo), geo.shape)
    assert (column - 15, row - 15) == (-5 + 2, 8 - 3)
    assert geo.max() == pytest.approx(1, abs=1e-5)
    nowhere = lay_raster(online, np.ones((21, 21)), pose * np.nan, (31, 31), 0.2)
    assert nowhere.shape == (31, 31, 1) and not nowhere.any()
