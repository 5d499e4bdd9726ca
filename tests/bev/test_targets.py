"""Maps of boxes and points: the original's numbers, and the geometry's own."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.bev import VoxelGrid, box_targets, rasterize_points
from posejax.bev.polygons import filled_polygon, inside_polygon
from posejax.data.conventions import axes_matrix
from posejax.data.mmdet_infos import read_infos
from posejax.data.rigid import se3_inverse

GRID = VoxelGrid((40, 2, 60), (-15, -4, -10), (15, 4, 10))
VEHICLES = {"car", "truck", "trailer", "bus", "construction_vehicle", "bicycle", "motorcycle"}


def upright(x: float, z: float, yaw: float = 0.0) -> np.ndarray:
    """grid_from_box of a box on a level grid that heads forward, turned to the left."""
    pose = np.eye(4)
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    pose[:3, :3], pose[:3, 3] = axes_matrix("camera", "body") @ turn, (x, 0, z)
    return pose


@pytest.mark.parametrize("name, size, half", [("targets48", 48, 12), ("targets200", 200, 50)])
def test_the_originals_maps(golden, name, size, half):
    file = golden("segnet.npz")
    boxes = file[f"{name}/lrtlist"]
    grid = VoxelGrid((size, size // 24, size), (-half, -4, -half), (half, 6, half))
    found = box_targets(
        boxes[:, :3], boxes[:, 3:].reshape(-1, 4, 4), file[f"{name}/vis"] > 0, grid=grid,
        compat="simple_bev",
    )  # fmt: skip
    np.testing.assert_array_equal(found.instance, file[f"{name}/inst"][0])
    np.testing.assert_array_equal(found.segmentation, file[f"{name}/seg"][0])
    np.testing.assert_array_equal(found.valid, file[f"{name}/valid"][0])
    np.testing.assert_allclose(found.center, file[f"{name}/center"][0], atol=1e-6)
    np.testing.assert_allclose(jnp.moveaxis(found.offset, -1, 0), file[f"{name}/offset"], atol=1e-4)


def test_a_box_covers_its_own_area():
    size = np.array([[8.0, 4, 2], [3, 2, 2]])
    poses = np.stack([upright(2.2, -1.1, 0.6), upright(-9.4, 5.3)])
    found = box_targets(size, poses, grid=GRID)
    centers = GRID.centers()[:, 0]  # [Z, X, 3]
    for row in (0, 1):
        local = (centers - poses[row][:3, 3]) @ poses[row][:3, :3]
        inside = (np.abs(local[..., :2]) < size[row, :2] / 2).all(-1)
        np.testing.assert_array_equal(found.instance == row + 1, inside)
    area = np.asarray(found.segmentation).sum() * 0.25
    assert area == pytest.approx(32 + 6, rel=0.05)
    # From every cell, minus the offset leads to the centre; the highest cell is the nearest one.
    cells = np.stack(np.meshgrid(np.arange(60), np.arange(40)), -1) + 0.5
    for row in (0, 1):
        at = np.asarray(found.instance) == row + 1
        voted = cells[at] - np.asarray(found.offset)[at]
        true = (np.array(poses[row][:3, 3])[[0, 2]] + (15, 10)) / 0.5
        np.testing.assert_allclose(voted, np.broadcast_to(true, voted.shape), atol=1e-4)
        peak = np.asarray(found.center)[int(true[1]), int(true[0])]
        assert peak == pytest.approx(np.exp(-((true - np.floor(true) - 0.5) ** 2).sum() / 18))
    off = np.asarray(found.instance) == 0
    assert not np.asarray(found.offset)[off].any()


def test_visibility_and_padding():
    size, poses = np.full((3, 3), 4.0), np.stack([upright(x, 0) for x in (-8, 0, 8)])
    seen, there = np.array([True, False, True]), np.array([True, True, False])
    plain = box_targets(size, poses, seen, there, grid=GRID)
    original = box_targets(size, poses, seen, there, grid=GRID, compat="simple_bev")
    for found in (plain, original):
        assert set(np.unique(found.instance)) == {0, 1, 2}
        np.testing.assert_array_equal(found.valid == 0, found.instance == 2)
    assert plain.center[20, 30] == 0 and original.center[20, 30] == 1
    assert plain.center[20, 46] == original.center[20, 46] == 0
    none = box_targets(np.zeros((0, 3)), np.zeros((0, 4, 4)), grid=GRID)
    assert not none.segmentation.any() and none.valid.all() and not none.center.any()


def test_a_level_grid_does_not_care_for_the_height():
    tall = box_targets(np.array([[4.0, 2, 9]]), upright(1, 1)[None], grid=GRID)
    flat = box_targets(np.array([[4.0, 2, 1]]), upright(1, 1)[None], grid=GRID)
    np.testing.assert_array_equal(tall.segmentation, flat.segmentation)


def test_polygons_share_no_point_and_leave_none():
    """A square cut in four by two lines through cells' centres."""
    x, y = np.meshgrid(np.arange(9), np.arange(9))
    cuts = [(1, 4), (4, 7)]
    total, inside = 0, jax.jit(inside_polygon)
    for (x0, x1), (y0, y1) in itertools.product(cuts, cuts):
        square = np.float32([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        total = total + np.asarray(inside(square, x, y)).astype(int)
    assert total.max() == 1 and total.sum() == 36


def test_lines_of_opencv():
    """Ties of a line stay on the side of its left end."""
    x, y = np.meshgrid(np.arange(6), np.arange(4))
    fill = jax.jit(filled_polygon)

    def line(a, b):
        at = np.asarray(fill(np.array([a, b]), x, y))
        return [tuple(map(int, cell)) for cell in np.argwhere(at.T)]

    assert line((0, 0), (4, 2)) == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)]
    assert line((0, 2), (4, 0)) == [(0, 2), (1, 2), (2, 1), (3, 1), (4, 0)]
    assert line((4, 2), (0, 0)) == line((0, 0), (4, 2))
    assert line((2, 3), (2, 1)) == [(2, 1), (2, 2), (2, 3)]
    assert line((1, 1), (1, 1)) == [(1, 1)]


def test_vehicles_of_the_real_sample(data_dir):
    (frame,) = read_infos(data_dir("nuscenes_sample") / "infos.json")
    poses = se3_inverse(frame.mounted["CAM_FRONT"]) @ frame.boxes.ego_from_box
    vehicle = np.isin(frame.boxes.label, list(VEHICLES))
    assert vehicle.sum() == 13
    exact, original = (
        box_targets(frame.boxes.size, poses, present=vehicle, grid=VoxelGrid(), compat=compat)
        for compat in (None, "simple_bev")
    )
    assert exact.segmentation.sum() == 281
    assert original.segmentation.sum() > 330  # fillPoly's border


def test_points_fall_into_their_voxels(rng):
    points = rng.uniform((-20, -5, -14), (20, 5, 14), (500, 3))
    points[0], points[1] = np.nan, (0.1, 0.1, 0.1)
    values = rng.standard_normal((500, 2)).astype(np.float32)
    present = rng.random(500) < 0.8
    found = np.asarray(rasterize_points(points, values, present, grid=GRID))
    expected = np.zeros((*GRID.shape, 3))
    cell = np.floor((points - GRID.lower) / GRID.voxel_size)
    for row in np.flatnonzero(present):
        x, y, z = cell[row]
        if 0 <= x < 60 and 0 <= y < 2 and 0 <= z < 40:
            expected[int(z), int(y), int(x)] += (1, *values[row])
    count = expected[..., :1]
    np.testing.assert_array_equal(found[..., :1], count > 0)
    np.testing.assert_allclose(found[..., 1:], expected[..., 1:] / np.maximum(count, 1), atol=1e-5)
    assert rasterize_points(np.zeros((0, 3)), grid=GRID).shape == (*GRID.shape, 1)
    mean = jax.jit(lambda v: rasterize_points(points, v, grid=GRID)[..., 1:].sum())
    gradient = jax.grad(mean)(values)
    assert np.isfinite(gradient).all() and not gradient[0].any()


def test_what_is_refused():
    with pytest.raises(ValueError, match="grid_from_box"):
        box_targets(np.ones((2, 3)), np.eye(4), grid=GRID)
    with pytest.raises(ValueError, match="compat"):
        box_targets(np.ones((1, 3)), np.eye(4)[None], grid=GRID, compat="fiery")  # type: ignore
    with pytest.raises(ValueError, match="vmap"):
        rasterize_points(np.ones((1, 2, 3)), grid=GRID)
    with pytest.raises(ValueError, match="values"):
        rasterize_points(np.ones((4, 3)), np.ones((3, 1)), grid=GRID)
