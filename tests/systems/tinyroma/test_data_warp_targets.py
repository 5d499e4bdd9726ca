"""True warps against independent brute force: rays, planes and triangles in plain float64."""

import numpy as np
import pytest

from posejax.data.rigid import se3_exp, se3_inverse
from posejax.systems.tinyroma.warp_targets import (
    cell_centers,
    depth_targets,
    homography_targets,
    overlap,
    sample_depth,
)

SIZE = (64, 96)
K_A = np.array([[90.0, 0.5, 47], [0, 95, 33], [0, 0, 1]])
K_B = np.array([[110.0, 0, 50], [0, 100, 30], [0, 0, 1]])
B_FROM_A = se3_exp([0.3, -0.1, 0.1, 0.05, -0.15, 0.2])
WALL = np.array([0.2, -0.1, 1.0]), 3.0  # of A's frame: points with n.x = d
BOX = 1.6, (-0.3, 0.25), (-0.2, 0.3)  # a screen at z, from x to x, from y to y


def cast(origin, direction, screen=True):
    """Distance along rays in A's frame to the wall and a screen before it."""
    t = (WALL[1] - origin @ WALL[0]) / (direction @ WALL[0])
    if not screen:
        return t
    z, xs, ys = BOX
    near = (z - origin[2]) / direction[..., 2]
    x, y, _ = np.moveaxis(origin + near[..., None] * direction, -1, 0)
    hit = (x > xs[0]) & (x < xs[1]) & (y > ys[0]) & (y < ys[1]) & (near > 0)
    return np.where(hit, near, t)


def rays(k, xy):
    return np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], -1) @ np.linalg.inv(k).T


def seen(k, size, a_from_camera, screen=True, xy=None):
    """Depth of every pixel of a camera, by rays through their centres."""
    xy = cell_centers(size, 1) if xy is None else xy
    direction = rays(k, xy) @ a_from_camera[:3, :3].T
    return cast(a_from_camera[:3, 3], direction, screen)


def maps(screen=True):
    a_from_b = se3_inverse(B_FROM_A)
    return seen(K_A, SIZE, np.eye(4), screen), seen(K_B, SIZE, a_from_b, screen)


def test_cells_lie_around_their_pixels():
    np.testing.assert_array_equal(cell_centers((8, 16), 8), [[[4, 4], [12, 4]]])
    pixels = cell_centers(SIZE, 1).reshape(16, 4, 24, 4, 2)
    np.testing.assert_allclose(cell_centers(SIZE, 4), pixels.mean((1, 3)))
    with pytest.raises(ValueError, match="whole cells"):
        cell_centers((12, 16), 8)


@pytest.mark.parametrize("stride", [8, 4])
def test_a_plane_is_warped_exactly_as_its_homography_does(stride):
    """Half a pixel of misplacement would show as half a pixel of error."""
    depths, centers = maps(screen=False), cell_centers(SIZE, stride)
    found = depth_targets(centers, SIZE, (K_A, K_B), B_FROM_A, depths)
    plane = B_FROM_A[:3, :3] + np.outer(B_FROM_A[:3, 3], WALL[0]) / WALL[1]
    homography = K_B @ plane @ np.linalg.inv(K_A)
    expected = homography_targets(centers, SIZE, homography)
    assert 0.5 < expected.visible.mean() < 1
    np.testing.assert_array_equal(found.visible, expected.visible)
    np.testing.assert_allclose(found.xy, expected.xy, atol=2e-3)
    assert found.known.all() and found.xy.dtype == np.float32


def test_occlusion_is_that_of_rays_between_the_cameras():
    depths, centers = maps(), cell_centers(SIZE, 4)
    found = depth_targets(centers, SIZE, (K_A, K_B), B_FROM_A, depths)
    a_from_b = se3_inverse(B_FROM_A)
    direction = rays(K_A, centers)
    points = cast(np.zeros(3), direction)[..., None] * direction
    towards = points - a_from_b[:3, 3]
    free = cast(a_from_b[:3, 3], towards) > 0.97  # nothing before the point itself
    in_b = points @ B_FROM_A[:3, :3].T + B_FROM_A[:3, 3]
    xy = in_b @ K_B.T
    xy = xy[..., :2] / xy[..., 2:]
    inside = ((xy > 0) & (xy < SIZE[::-1])).all(-1)
    known = found.known > 0
    assert known.mean() > 0.8, "only silhouettes may be unknown"
    np.testing.assert_array_equal(found.visible[known] > 0, (free & inside)[known])
    np.testing.assert_allclose(found.xy[known], xy[known], atol=5e-3)
    hidden = known & inside & ~free
    assert hidden.sum() >= 3, "the screen hides a part of the wall"
    share = overlap(depths, (K_A, K_B), B_FROM_A)
    assert abs(share - (free & inside).mean()) < 0.1


def test_there_and_back_again():
    depths, centers = maps(), cell_centers(SIZE, 4)
    there = depth_targets(centers, SIZE, (K_A, K_B), B_FROM_A, depths)
    at = there.xy[there.visible > 0].astype(float)[:, None]
    back = depth_targets(at, SIZE, (K_B, K_A), se3_inverse(B_FROM_A), depths[::-1])
    seen_again = back.visible[:, 0] > 0
    assert seen_again.mean() > 0.95
    error = np.linalg.norm(back.xy[:, 0] - centers[there.visible > 0], axis=-1)[seen_again]
    assert error.max() < 0.05


def test_what_is_not_measured_is_not_known():
    depth_a, depth_b = maps(screen=False)
    centers = cell_centers(SIZE, 8)
    depth_a[8:16, 16:24] = 0  # the cell (1, 2)
    depth_a[24:32, 0:8] = np.nan
    depth_b[:, :40] = 0
    found = depth_targets(centers, SIZE, (K_A, K_B), B_FROM_A, (depth_a, depth_b))
    assert not found.known[1, 2] and not found.known[3, 0] and not found.xy[1, 2].any()
    left = (found.xy[..., 0] > 0) & (found.xy[..., 0] < 39) & (found.xy[..., 1] > 0)
    left &= found.xy[..., 1] < 64
    assert left.any() and not found.known[left].any()
    assert np.isfinite(found.xy).all()
    behind = se3_exp([0, 0, -10.0, 0, 0, 0])
    lost = depth_targets(centers, SIZE, (K_A, K_B), behind, maps(screen=False))
    assert lost.known.all() and not lost.visible.any() and not lost.xy.any()


def test_depth_between_pixels_is_that_of_the_plane_and_never_that_of_two():
    depth = seen(K_A, SIZE, np.eye(4), screen=False)
    xy = np.random.default_rng(0).uniform(1, (95, 63), (200, 2))
    np.testing.assert_allclose(
        sample_depth(depth, xy), seen(K_A, SIZE, np.eye(4), False, xy), rtol=1e-9
    )
    two = np.repeat([[1.0, 1.0, 3.0, 3.0]], 4, axis=0)
    at = np.array([[1.0, 1.0], [2.0, 2.0], [1.5, 2.0], [3.9, 3.9], [4.1, 2.0], [np.nan, 1]])
    np.testing.assert_allclose(sample_depth(two, at), [1, 0, 1, 3, 0, 0])


def test_a_homography_sees_only_what_both_pictures_have():
    shift = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
    centers = cell_centers(SIZE, 8)
    sizes = SIZE, (64, 60)
    found = homography_targets(centers, SIZE, shift, sizes)
    np.testing.assert_allclose(found.xy, centers + np.array([10, 0]))
    np.testing.assert_array_equal(found.visible[0], np.arange(12) * 8 + 4 + 10 <= 60)
    flipped = np.diag([1.0, 1, -1])  # all points behind
    assert not homography_targets(centers, SIZE, flipped).visible.any()
