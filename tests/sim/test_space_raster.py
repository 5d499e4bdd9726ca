"""Painted pictures against the ray caster's, which is the reference for the same scene."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.sim import space_raster, space_shading
from posejax.sim.builder import SceneBuilder
from posejax.sim.scene import Material
from posejax.sim.space_parts import convex_parts
from posejax.sim.space_raster import paint_views
from posejax.sim.space_shading import SunView, affine
from posejax.sim.space_views import SpaceCamera, render_views
from posejax.sim.spacecraft import FOIL, spacecraft_scene

CAMERA = SpaceCamera((180, 320), 314.65, (160.0, 90.0))
# Towards the camera, from the side, from behind: shadows of all lengths.
SUNS = [(0.1, -0.2, -0.97), (0.8, 0.3, -0.5), (-0.5, 0.8, 0.3)]


def on_sensor(view):
    luminance, surface = np.zeros(CAMERA.size, np.float32), np.full(CAMERA.size, -1)
    (row, column), (height, width) = view.corner, view.surface.shape
    luminance[row : row + height, column : column + width] = view.luminance
    surface[row : row + height, column : column + width] = view.surface
    return luminance, surface


def poses(rng, count):
    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, :3, :3] = Rotation.random(count, rng).as_matrix()
    pose[:, :3, 3] = rng.uniform((-0.4, -0.2, 3.0), (0.4, 0.2, 4.0), (count, 3))
    pose[-1, :3, 3] = 0.9, 0.4, 2.2  # cut by the border of the picture
    return pose


@pytest.mark.parametrize(("sun", "smooth"), [(SUNS[0], False), *((sun, True) for sun in SUNS)])
def test_painted_pictures_are_those_of_the_ray_caster(rng, sun, smooth):
    pose = poses(rng, 8)
    sun = np.array(sun) / np.linalg.norm(sun)
    cast, painted = (
        [on_sensor(view) for view in draw(pose, sun, CAMERA, smooth_edges=smooth)]
        for draw in (render_views, paint_views)
    )
    grain = _grainy_surfaces()
    for (light, surface), (expected, there) in zip(painted, cast, strict=True):
        covered = (there >= 0).sum()
        assert covered > 1500
        # Rounding moves borders: a pixel here and there.
        assert (surface != there).sum() <= 2e-3 * covered
        # One cell border of the grain coincides with a face in exact arithmetic.
        same = (surface == there) & ~np.isin(there, grain)
        wrong = np.abs(light - expected)[same] > 1e-3
        assert wrong.sum() <= 4e-3 * covered
        assert np.abs(light - expected).mean() <= 2e-4


def _grainy_surfaces():
    scene = spacecraft_scene()
    foil = np.flatnonzero(np.isclose(scene.materials.reflectance, FOIL.reflectance))
    grainy = np.flatnonzero(np.isin(scene.boxes.material, foil) & (scene.boxes.half_size[:, 0] > 0))
    return grainy + len(scene.rectangles.label)


def test_a_shadow_is_that_of_one_face_after_another_to_the_bit(rng, monkeypatch):
    parts, turn = convex_parts(spacecraft_scene()), Rotation.random(rng=rng).as_matrix()
    sun = SunView.make(parts, np.array([0.3, 0.8, -0.5]), turn, -3 * turn[2])
    a, b, level = rng.uniform(-1, 1, (3, 1000)).astype(np.float32)
    which = np.flatnonzero(sun.casts[: len(parts.faces.centre)])
    expected = np.zeros(len(a), bool)
    for k in which:
        first, second, height = (affine(c.tolist(), a, b) for c in sun.over[:, :, k].T)
        expected |= (np.abs(first) <= 1) & (np.abs(second) <= 1) & (height > level)
    assert 0.05 < expected.mean() < 0.95
    for block in (1 << 16, 7 * len(which)):  # all at once, and in blocks of which the last is cut
        monkeypatch.setattr(space_shading, "_BLOCK", block)
        np.testing.assert_array_equal(sun.behind_faces(which, a, b, level), expected)
    assert not sun.behind_faces(which[:0], a, b, level).any()


def test_every_kind_of_part_is_seen(rng):
    seen = np.concatenate(
        [np.unique(v.surface) for v in paint_views(poses(rng, 40), np.array([0, 0, -1.0]), CAMERA)]
    )
    parts = convex_parts(spacecraft_scene())
    expected = np.union1d(parts.faces.surface, parts.rounds.surface)
    assert set(seen.tolist()) >= set(expected.tolist())


def test_mistakes_of_the_shading_are_not_hushed(rng, monkeypatch):
    """Rays along faces and beside round solids divide by zero, and nothing else does."""
    pose = poses(rng, 8)
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        for sun in SUNS:
            paint_views(pose, np.array(sun), CAMERA)
        monkeypatch.setattr(space_raster, "dot", lambda a, b: np.zeros(1) / 0)
        with pytest.raises(FloatingPointError):
            paint_views(pose[:1], np.array(SUNS[0]), CAMERA)


def test_a_craft_beyond_the_border_is_dark():
    pose = np.eye(4)
    pose[:3, 3] = 20.0, 0.0, 3.0
    (view,) = paint_views(pose[None], np.array([0, 0, -1.0]), CAMERA)
    assert not view.luminance.any() and (view.surface < 0).all()


def test_what_cannot_be_painted_is_refused():
    pose = np.eye(4)
    pose[2, 3] = 0.3
    with pytest.raises(ValueError, match="beside or behind"):
        paint_views(pose[None], np.array([0, 0, -1.0]), CAMERA)
    builder = SceneBuilder()
    builder.add_box((0, 0, 0), (1, 1, 1), Material(0.5, (0.5, 0.5, 0.5), panes=(1.0, 1.0, 0.5)))
    with pytest.raises(ValueError, match="ray cast only"):
        convex_parts(builder.build())
