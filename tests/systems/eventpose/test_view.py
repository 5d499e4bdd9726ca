"""The canonical view is an exact change of variables, and finite for empty windows."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.geometry import rotation_angle, se3_exp
from posejax.systems.eventpose.view import (
    apply_homography,
    blob_of,
    canonical,
    canonical_view,
    full_view,
    homography,
    uncanonical,
)

# Compiled whole: one program per shape instead of one per operation.
canonical_view = jax.jit(canonical_view, static_argnums=3, static_argnames=("upright", "border"))
homography, apply_homography = jax.jit(homography), jax.jit(apply_homography)
blob_of = jax.jit(blob_of, static_argnums=2)
rotation_angle, se3_exp = jax.jit(rotation_angle), jax.jit(se3_exp)

K = jnp.array([[1258.6, 0, 640.0], [0, 1258.6, 360.0], [0, 0, 1]])
SIZE = (96, 128)
POSE = se3_exp(jnp.array([0.4, -0.25, 4.5, 0.3, -0.2, 0.9]))


def project(k, pose, points):
    p = points @ np.asarray(pose[:3, :3], np.float64).T + np.asarray(pose[:3, 3], np.float64)
    q = p @ np.asarray(k, np.float64).T
    return q[:, :2] / q[:, 2:]


def target_pixels(rng, pose=POSE):
    body = rng.uniform(-1, 1, (400, 3)) * [0.8, 0.3, 0.5]
    return body, project(K, pose, body)


@pytest.mark.parametrize("roll", [0.0, 2.5])
def test_points_land_where_the_turned_camera_sees_them(rng, roll):
    body, xy = target_pixels(rng)
    view = canonical_view(jnp.asarray(xy, jnp.float32), jnp.ones(len(xy)), K, SIZE, roll=roll)
    moved = apply_homography(homography(view, K), jnp.asarray(xy, jnp.float32))
    turned = jnp.eye(4).at[:3, :3].set(view.rotation) @ POSE
    np.testing.assert_allclose(moved, project(view.intrinsics, turned, body), atol=5e-3)
    # They are in the middle of the grid and fill the part of it that was asked for.
    (centre, spread, _), _ = blob_of(moved, jnp.ones(len(xy)))
    np.testing.assert_allclose(centre, [64, 48], atol=1.0)
    assert abs(float(spread) / (0.2 * 96) - 1) < 0.05
    np.testing.assert_allclose(view.rotation @ view.rotation.T, np.eye(3), atol=1e-6)


def test_the_pose_comes_back(rng):
    _, xy = target_pixels(rng)
    view = canonical_view(jnp.asarray(xy, jnp.float32), jnp.ones(len(xy)), K, SIZE, roll=1.0)
    inner = canonical(view, POSE)
    np.testing.assert_allclose(uncanonical(view, inner), POSE, atol=2e-6)
    # Seen on the grid, the target has one size: depth and zoom cancel.
    far = POSE.at[:3, 3].multiply(1.7)
    _, xy = target_pixels(np.random.default_rng(0), far)
    other = canonical_view(jnp.asarray(xy, jnp.float32), jnp.ones(len(xy)), K, SIZE)
    assert abs(float(canonical(other, far)[2, 3] / inner[2, 3]) - 1) < 0.1


def test_noise_all_over_the_sensor_does_not_pull(rng):
    _, xy = target_pixels(rng)
    noise = rng.uniform(0, 1, (40, 2)) * [1280, 720]
    points = jnp.asarray(np.concatenate([xy, noise]), jnp.float32)
    clean = canonical_view(points, jnp.r_[jnp.ones(400), jnp.zeros(40)], K, SIZE)
    noisy = canonical_view(points, jnp.ones(440), K, SIZE)
    assert float(rotation_angle(clean.rotation, noisy.rotation)) < 0.01
    assert abs(float(noisy.zoom / clean.zoom) - 1) < 0.1


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_event_gives_a_finite_view(count):
    weight = jnp.zeros(8).at[:count].set(1.0)
    view = canonical_view(jnp.full((8, 2), 100.0), weight, K, SIZE)
    assert all(bool(jnp.isfinite(x).all()) for x in view)
    np.testing.assert_allclose(view.rotation @ view.rotation.T, np.eye(3), atol=1e-6)
    if not count:
        np.testing.assert_array_equal(view.rotation, np.eye(3))


def craft(rng, angle=0.0):
    """A body of 60 x 24 pixels around the origin, denser in the middle, in a picture of 240."""
    xy = rng.normal(size=(3000, 2)) * [15.0, 6.0]
    c, s = np.cos(angle), np.sin(angle)
    return xy @ np.array([[c, s], [-s, c]])


def seen(xy, centre, size=240):
    """Points at `centre`, and weights that are zero outside of the picture."""
    xy = jnp.asarray(xy + centre, jnp.float32)
    return xy, ((xy >= 0) & (xy < size)).all(-1).astype(jnp.float32)


FRAME = jnp.array([[419.5, 0, 120.0], [0, 419.5, 120.0], [0, 0, 1]])
PLAIN = jax.jit(lambda xy, w: canonical_view(xy, w, FRAME, (96, 96), upright=True))
BORDER = jax.jit(
    lambda xy, w: canonical_view(xy, w, FRAME, (96, 96), upright=True, border=(240, 240))
)


@pytest.mark.parametrize("centre", [(120, 120), (70, 60), (180, 60)])
def test_a_border_that_cuts_nothing_changes_nothing(rng, centre):
    """Bit for bit, also with some noise at the border."""
    xy = np.concatenate([craft(rng, 0.4), np.array([[1.0, 5], [239, 80], [3, 238]]) - centre])
    views = [view(*seen(xy, centre)) for view in (PLAIN, BORDER)]
    assert views[1].cut == 0
    for a, b in zip(*views, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2])
def test_a_craft_that_leaves_the_picture_changes_its_view_gently(rng, angle):
    xy = craft(rng, angle)
    whole = BORDER(*seen(xy, [120, 120]))
    views, plain = [], []
    for y in np.arange(60, 0, -0.5):  # to half of it
        views.append(BORDER(*seen(xy, [120, y])))
        plain.append(PLAIN(*seen(xy, [120, y])))
    zoom = np.array([v.zoom for v in views]) / whole.zoom
    cut = np.array([v.cut for v in views])
    assert cut[0] == 0 and cut[-1] == 1 and np.abs(np.diff(cut)).max() < 0.2
    assert np.abs(np.diff(zoom)).max() < 0.04 and np.abs(zoom - 1).max() < 0.25
    turns = [float(rotation_angle(a.rotation, b.rotation)) for a, b in itertools.pairwise(views)]
    assert max(turns) < 0.1
    # Nearer to the whole than the visible part alone, in size and in place.
    bare = np.array([v.zoom for v in plain]) / whole.zoom
    late = slice(-20, None)  # from about a third cut away
    assert np.abs(zoom[late] - 1).mean() < 0.7 * np.abs(bare[late] - 1).mean()
    true = np.array([120, 0.5])
    errors = [
        float(jnp.linalg.norm(blob_of(*seen(xy, true), b)[0].centre - true))
        for b in (None, (240, 240))
    ]
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("y", [30.0, 8.0, 0.0, -10.0, -200.0])
def test_the_pose_comes_back_from_a_cut_view(rng, y):
    view = BORDER(*seen(craft(rng), [120, y]))
    assert all(bool(jnp.isfinite(v).all()) for v in view)
    np.testing.assert_allclose(uncanonical(view, canonical(view, POSE)), POSE, atol=5e-6)
    np.testing.assert_allclose(view.rotation @ view.rotation.T, np.eye(3), atol=1e-6)


def test_the_full_view_is_the_sensor_stretched():
    view = full_view(K, (720, 1280), (96, 128))
    moved = apply_homography(homography(view, K), jnp.array([[0.0, 0.0], [1280.0, 720.0]]))
    np.testing.assert_allclose(moved, [[0, 0], [128, 96]], atol=1e-3)
    np.testing.assert_array_equal(canonical(view, POSE), POSE)


def test_pixels_behind_the_view_go_outside():
    view = canonical_view(
        jnp.array([[0.0, 0.0]]), jnp.ones(1), K * jnp.array([[0.1], [0.1], [1]]), SIZE
    )
    # The view looks far to the upper left; what lies behind it must not appear in it.
    behind = jnp.array([[1e9, 1e9], [6e3, 4e3]])
    far = apply_homography(homography(view, K), behind)
    assert bool(jnp.isfinite(far).all()) and float(far.max()) < 0


def test_views_of_a_batch_are_those_of_its_members(rng):
    xy = jnp.asarray(np.stack([target_pixels(rng)[1] for _ in range(3)]), jnp.float32)
    both = jax.vmap(lambda p: canonical_view(p, jnp.ones(400), K, SIZE))(xy)
    one = canonical_view(xy[1], jnp.ones(400), K, SIZE)
    np.testing.assert_allclose(both.intrinsics[1], one.intrinsics, rtol=1e-5)


@pytest.mark.parametrize("roll", [0.0, 0.7, 2.0, -1.2])
def test_an_upright_view_does_not_depend_on_the_roll_of_the_camera(rng, roll):
    """Turned about the craft's line of sight, the craft looks the same, up to half a turn."""
    _, xy = target_pixels(rng)
    weight = jnp.ones(len(xy))
    first = canonical_view(jnp.asarray(xy, jnp.float32), weight, K, SIZE, upright=True)
    turn = se3_exp(jnp.array([0, 0, 0, 0, 0, roll]))
    _, xy = target_pixels(np.random.default_rng(0), turn @ POSE)
    other = canonical_view(jnp.asarray(xy, jnp.float32), weight, K, SIZE, upright=True)
    a, b = canonical(first, POSE), canonical(other, turn @ POSE)
    half = jnp.diag(jnp.array([-1.0, -1.0, 1.0]))
    angle = [float(rotation_angle(r @ a[:3, :3], b[:3, :3])) for r in (jnp.eye(3), half)]
    assert min(angle) < 0.05
    moved = apply_homography(homography(other, K), jnp.asarray(xy, jnp.float32))
    assert abs(float(blob_of(moved, weight)[0].axis)) < 0.02
