"""Textures of several sizes, on rectangles and on solids, and the boxes around objects."""

import numpy as np
import pytest

from posejax.sim import textures
from posejax.sim.builder import SceneBuilder
from posejax.sim.raycast import cast_rays
from posejax.sim.scene import Material

KINDS = {
    "plaster": lambda rng, size: textures.plaster(rng, size, (0.7, 0.6, 0.5)),
    "carpet": lambda rng, size: textures.carpet(rng, size, (0.3, 0.3, 0.5)),
    "wood": lambda rng, size: textures.wood(rng, size, (0.5, 0.3, 0.2)),
    "bricks": lambda rng, size: textures.bricks(rng, size, (0.5, 0.2, 0.2)),
    "tiles": lambda rng, size: textures.tiles(rng, size, (0.8, 0.8, 0.8), other=(0.3, 0.3, 0.3)),
    "fabric": lambda rng, size: textures.fabric(rng, size, (0.3, 0.2, 0.2), stripes=4),
    "marks": lambda rng, size: textures.marks(rng, size, (0.9, 0.9, 0.8), (0.1, 0.1, 0.1)),
    "poster": textures.poster,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_texture_is_a_function_of_its_seed_and_has_detail(kind):
    make = KINDS[kind]
    one, same, other = (make(np.random.default_rng(s), (64, 128)) for s in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (64, 128, 3) and one.dtype == np.float32
    assert one.min() >= 0 and one.max() <= 1 and np.abs(one - other).mean() > 0.01
    # Local contrast nearly everywhere: an 8 x 8 window is seldom flat.
    grey = one.mean(-1).reshape(8, 8, 16, 8)
    assert np.median(grey.std((1, 3)) / grey.mean((1, 3))) > 0.01


def test_noise_has_octaves_and_no_seam(rng):
    values = textures.noise(rng, (256, 256), octaves=6, slope=1.0)
    assert values.mean() == pytest.approx(0, abs=1e-5)
    assert values.std() == pytest.approx(1, abs=1e-5)
    power = np.abs(np.fft.fft2(values)) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None])
    bands = [(frequency >= f) & (frequency < 2 * f) for f in 2.0 ** -np.arange(2, 6)]
    mean = [power[band].mean() for band in bands]
    # Amplitude 1/f: power falls by four from octave to octave.
    np.testing.assert_allclose(np.diff(np.log2(mean)), 2.0, atol=0.25)
    step = np.abs(np.diff(values, axis=0)).mean()
    assert np.abs(values[0] - values[-1]).mean() < 1.3 * step


@pytest.fixture(scope="module")
def world():
    """Two pictures of different sizes, a textured box, and an object of four parts."""
    rng = np.random.default_rng(5)
    small, big = (rng.integers(0, 256, size, dtype=np.uint8) for size in ((4, 8, 4), (16, 16, 4)))
    builder = SceneBuilder()
    builder.add_rectangle((0, 0, 0), (1, 0, 0), (0, 1, 0), (4, 2), small, label=1)
    builder.add_rectangle((20, 0, 0), (1, 0, 0), (0, 1, 0), (2, 2), big, label=2)
    look = Material(0.5, (1.0, 0.5, 0.25), texture=builder.add_texture(big), texel=0.125)
    builder.add_box((40, 0, 0), (3, 3, 1), look, label=3)
    thing = builder.new_object(7, yaw=0.4)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    grey = Material(0.5, (0.5, 0.5, 0.5))
    builder.add_box((60, 0, 0), (0.5, 0.2, 0.3), grey, rotation=turn, instance=thing)
    builder.add_cylinder((61, 0.5, 0), 0.3, 0.8, grey, rotation=turn, instance=thing)
    builder.add_ellipsoid((60.5, -0.5, 1.0), (0.3, 0.5, 0.2), grey, yaw=1.0, instance=thing)
    tip = np.array([[60, 0, 2.0], [60.5, 0, 1], [60, 0.5, 1], [59.5, -0.5, 1]])
    faces = [[0, 1, 2], [0, 2, 3], [0, 3, 1]]
    builder.add_mesh(tip, faces, grey, instance=thing)
    builder.new_object(9)  # an object without parts has no box
    return builder, builder.build(mip_levels=3), small / 255.0, big / 255.0


def look_at(scene, origins, directions, **options):
    """Any number of rays up to a tile, so that one program serves every test."""
    rays = np.zeros((2, 2048, 3))
    rays[:, : len(origins)] = origins, np.broadcast_to(directions, np.shape(origins))
    hits = cast_rays(scene, rays[0], rays[1], 100.0, **options)
    return hits._replace(**{k: np.asarray(v)[: len(origins)] for k, v in hits._asdict().items()})


def above(x, y, z=5.0):
    return np.stack(np.broadcast_arrays(x, y, z), -1).reshape(-1, 3)


def test_textures_of_two_sizes_show_their_own_texels(world):
    _, scene, small, big = world
    x, y = np.meshgrid(np.arange(8) - 3.5, np.arange(4) - 1.5)
    hits = look_at(scene, above(x, y), (0, 0, -1))
    np.testing.assert_allclose(hits.colour, small[..., 1:].reshape(-1, 3), atol=1e-5)
    assert set(hits.label) == {1} and set(hits.instance) == {0}
    x, y = np.meshgrid((np.arange(16) - 7.5) / 4, (np.arange(16) - 7.5) / 4)
    hits = look_at(scene, above(20 + x, y), (0, 0, -1))
    np.testing.assert_allclose(hits.reflectance, big[..., 0].ravel(), atol=1e-5)
    assert set(hits.label) == {2}


def test_a_pixel_that_covers_many_texels_sees_their_mean(world):
    _, scene, _, big = world
    for texels, level in ((1.0, 0), (2.0, 1), (4.0, 2), (1000.0, 2)):
        step = 2**level
        place = (np.arange(0, 16, step) + step / 2 - 8) / 4  # centres of the level's texels
        x, y = np.meshgrid(place, place)
        # Texels of 0.25 m, seen from 5 m above.
        hits = look_at(scene, above(20 + x, y), (0, 0, -1), pixel_angle=texels * 0.25 / 5.0)
        mean = big.reshape(16 // step, step, 16 // step, step, 4).mean((1, 3))
        np.testing.assert_allclose(hits.colour, mean[..., 1:].reshape(-1, 3), atol=0.006)


def test_a_materials_texture_repeats_over_a_solid(world):
    _, scene, _, big = world
    place = (np.arange(40) - 20 + 0.5) * 0.125
    x, y = np.meshgrid(place, place)
    hits = look_at(scene, above(40 + x, y), (0, 0, -1))
    found = np.asarray(hits.colour).reshape(40, 40, 3)
    tint = np.array([1.0, 0.5, 0.25])
    # The picture may start anywhere on the solid: find the start from one texel, check them all.
    errors = [
        np.abs(np.roll(big[..., 1:], (a, b), (0, 1)) * tint - found[:16, :16]).max()
        for a in range(16)
        for b in range(16)
    ]
    assert sorted(errors)[0] < 1e-3 < 0.1 < sorted(errors)[1]
    np.testing.assert_allclose(found[16:32], found[:16], atol=1e-3)
    np.testing.assert_allclose(found[:, 16:32], found[:, :16], atol=1e-3)


def test_the_box_of_an_object_touches_what_is_seen_of_it(world):
    builder, scene, *_ = world
    (box,) = builder.objects()
    assert (box.label, box.instance, box.yaw) == (7, 1, 0.4)
    local_from_world = np.linalg.inv(box.world_from_box)
    across = np.linspace(-0.5, 0.5, 45)
    a, b = np.meshgrid(across, across)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for axis in range(3):
        for side in (-1.0, 1.0):
            start = np.zeros((45 * 45, 3))
            start[:, axis] = side * 5
            start[:, (axis + 1) % 3], start[:, (axis + 2) % 3] = a.ravel(), b.ravel()
            start[:, (axis + 1) % 3] *= box.size[(axis + 1) % 3] * 1.1
            start[:, (axis + 2) % 3] *= box.size[(axis + 2) % 3] * 1.1
            ahead = np.zeros(3)
            ahead[axis] = -side
            turn = box.world_from_box[:3, :3]
            hits = look_at(scene, start @ turn.T + box.centre, turn @ ahead)
            mine = hits.instance == 1
            assert mine.sum() > 200 and set(hits.label[mine]) == {7}
            point = start + hits.distance[:, None] * ahead
            low, high = np.minimum(low, point[mine].min(0)), np.maximum(high, point[mine].max(0))
    # Nothing sticks out, and every face is touched but for the spacing of the rays.
    assert (low > -box.size / 2 - 1e-3).all() and (high < box.size / 2 + 1e-3).all()
    assert (low < -box.size / 2 + 0.08).all() and (high > box.size / 2 - 0.08).all()
    corners = np.c_[box.corners(), np.ones(8)] @ local_from_world.T
    np.testing.assert_allclose(np.abs(corners[:, :3]), np.tile(box.size / 2, (8, 1)), atol=1e-9)


def test_bad_textures_are_named():
    with pytest.raises(ValueError, match=r"\[H, W, 4\]"):
        SceneBuilder().add_texture(np.zeros((4, 4, 3)))
    mixed = SceneBuilder()
    mixed.add_texture(np.full((2, 2, 1), 51, np.uint8))
    mixed.add_texture(np.full((1, 1, 4), 0.5))
    found = mixed.build().textures
    np.testing.assert_allclose(found.texels, [[0.2] * 4] * 4 + [[0.5] * 4], atol=1e-6)
    assert found.start[:, 0].tolist() == [0, 4]
