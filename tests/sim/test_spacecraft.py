"""The spacecraft's shape, and its views against whole pictures of the same ray caster."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.data.cameras import Camera
from posejax.sim.cameras import camera_rays
from posejax.sim.light import Light, illumination
from posejax.sim.raycast import cast_rays
from posejax.sim.sheet import Sheet
from posejax.sim.space_views import SpaceCamera, render_views
from posejax.sim.spacecraft import spacecraft_scene, spacecraft_wireframe

SMALL = SpaceCamera((180, 320), 314.65, (160.0, 90.0))
SUN = np.array([0.5, -0.6, -0.62])


def pose_at(rotation, translation):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    return pose


def whole_picture(pose, camera, ambient=0.05):
    """Luminance and surface of every pixel, without tiles, of the unblurred craft."""
    scene = spacecraft_scene()
    body_from_camera = np.linalg.inv(pose)
    intrinsics = np.array(
        [[camera.focal, 0, camera.centre[0]], [0, camera.focal, camera.centre[1]], [0, 0, 1]]
    )
    origin, directions = camera_rays(Camera(intrinsics, camera.size), body_from_camera)
    hits = cast_rays(scene, origin, directions, 30.0)
    light = Light(tuple(pose[:3, :3].T @ SUN), 1.0, ambient)
    lit = illumination(scene, origin, directions, hits, light)
    picture = jnp.where(hits.valid, hits.reflectance * lit, 0.0)
    return np.asarray(picture), np.asarray(hits.surface)


def test_size_and_wireframe():
    points, edges = spacecraft_wireframe()
    assert points.shape[1:] == (3,) and edges.max() < len(points) and edges.shape[1:] == (2,)
    assert (edges[:, 0] != edges[:, 1]).all()
    scene = spacecraft_scene()
    corners = [points]
    for solids in (scene.boxes, scene.cylinders, scene.ellipsoids):
        for centre, rotation, half in zip(*solids[:3], strict=True):
            if half.all():
                signs = np.array(list(itertools.product((-1, 1), repeat=3)))
                corners.append(centre + (signs * half) @ rotation.T)
    span = np.ptp(np.concatenate(corners), axis=0)
    np.testing.assert_allclose(span, [1.6, 0.6, 1.04], atol=0.08)


def test_wireframe_lies_on_the_surface():
    points, edges = spacecraft_wireframe()
    along = np.linspace(0.02, 0.98, 9)[:, None, None]
    points = (points[edges[:, 0]] * (1 - along) + points[edges[:, 1]] * along).reshape(-1, 3)
    seen = np.zeros(len(points), bool)
    for direction in itertools.product((-1, 0, 1), repeat=3):
        if any(direction):
            towards = np.array(direction) / np.linalg.norm(direction)
            hits = cast_rays(spacecraft_scene(), points + 4.0 * towards, -towards, 9.0)
            gap = np.abs(np.asarray(hits.distance) - 4.0)
            seen |= np.asarray(hits.valid) & (gap < 0.03)
    # Every line is near the surface seen from somewhere, but for grazing misses.
    assert seen.mean() > 0.97


def test_no_two_sides_look_alike_not_even_mirrored():
    turns = {
        "front": np.eye(3),
        "back": Rotation.from_euler("y", 180, degrees=True).as_matrix(),
        "left": Rotation.from_euler("y", 90, degrees=True).as_matrix(),
        "right": Rotation.from_euler("y", -90, degrees=True).as_matrix(),
        "top": Rotation.from_euler("x", 90, degrees=True).as_matrix(),
        "bottom": Rotation.from_euler("x", -90, degrees=True).as_matrix(),
    }
    head_on = np.array([0.0, 0.0, -1.0])
    camera = SpaceCamera((128, 128), 300.0, (64.0, 64.0))
    pictures = {}
    for name, turn in turns.items():
        (view,) = render_views(pose_at(turn, (0, 0, 4.0))[None], head_on, camera)
        picture = np.zeros(camera.size, np.float32)
        rows, columns = view.luminance.shape
        picture[view.corner[0] :, view.corner[1] :][:rows, :columns] = view.luminance
        assert (picture > 0.01).sum() > 500
        pictures[name] = picture
    flips = [
        lambda p, k=k, m=m: np.rot90(p[:, ::-1] if m else p, k) for k in range(4) for m in (0, 1)
    ]
    for (a, one), (b, two) in itertools.combinations_with_replacement(pictures.items(), 2):
        for k, flip in enumerate(flips):
            if a == b and k == 0:
                continue
            difference = np.abs(one - flip(two)).sum() / (one.sum() + two.sum())
            assert difference > 0.1, (a, b, k, difference)


@pytest.mark.parametrize("place", [(-0.2, 0.05, 3.2), (1.3, -0.6, 5.0), (0.0, 0.0, 8.0)])
def test_views_cast_everything_that_a_whole_picture_shows(place, rng):
    pose = pose_at(Rotation.random(random_state=rng).as_matrix(), place)
    (view,) = render_views(pose[None], SUN, SMALL, smooth_edges=False)
    picture, surface = whole_picture(pose, SMALL)
    rows, columns = view.luminance.shape
    window = np.s_[
        view.corner[0] : view.corner[0] + rows, view.corner[1] : view.corner[1] + columns
    ]
    same = view.surface == surface[window]
    assert same.mean() > 0.9995  # grazing rays may fall to either side
    outside = surface.copy()
    outside[window] = -1
    assert (outside == -1).all() and (surface[window] >= 0).sum() > 200
    # The views' paint is blurred: equal on average, not in every pixel.
    assert abs(view.luminance.sum() / picture[window].sum() - 1) < 0.03


def test_smooth_borders_are_between_their_neighbours(rng):
    pose = pose_at(Rotation.random(random_state=rng).as_matrix(), (0.0, 0.0, 4.0))
    hard, soft = (
        render_views(pose[None], SUN, SMALL, smooth_edges=smooth)[0] for smooth in (False, True)
    )
    fine = SpaceCamera((720, 1280), 4 * SMALL.focal, (640.0, 360.0))
    picture, _ = whole_picture(pose, fine)
    truth = picture.reshape(180, 4, 320, 4).mean((1, 3))
    rows, columns = hard.luminance.shape
    truth = truth[hard.corner[0] :, hard.corner[1] :][:rows, :columns]
    changed = hard.luminance != soft.luminance
    assert 100 < changed.sum() < 0.5 * (hard.surface >= 0).sum()
    error = [np.abs(view.luminance - truth)[changed].mean() for view in (hard, soft)]
    assert error[1] < 0.6 * error[0]


def test_out_of_sight_is_an_empty_view():
    pose = pose_at(np.eye(3), (20.0, 0.0, 4.0))
    (view,) = render_views(pose[None], SUN, SMALL)
    assert view.luminance.size == 0 and view.surface.size == 0


def test_paint():
    sheet = Sheet(1.0, 0.5, 0.2, cells=50)
    sheet.box(0.0, 0.0, 0.5, 0.25, 1.0)
    paint = sheet.texture()[..., 0]
    np.testing.assert_allclose(paint[:25, :25], 1.0)
    np.testing.assert_allclose(paint[26:], 0.2)
    blurred = sheet.texture(0.05)[..., 0]
    assert blurred[0, 24:26].mean() == pytest.approx(0.6, abs=0.05)
    assert blurred.mean() == pytest.approx(paint.mean(), abs=1e-3)
    triangle = Sheet(1.0, 1.0, 0.0, cells=64)
    triangle.polygon([(0, 0), (1, 0), (0, 1)], 1.0)
    assert triangle.texture().mean() == pytest.approx(0.5, abs=0.01)
    words = Sheet(1.0, 1.0, 0.0, cells=64)
    words.text("1", 0.0, 0.0, 1.0, 1.0)
    assert words.texture().sum() > 0
