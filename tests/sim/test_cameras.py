"""Colour and depth cameras against planes, boxes and noise models that NumPy computes."""

import dataclasses

import jax
import numpy as np
import pytest

from posejax.sim import (
    Camera,
    DepthSensor,
    Lamp,
    Light,
    Material,
    SceneBuilder,
    develop,
    measure_depth,
    render,
)
from posejax.sim.cameras import Frame, axial_sigma

SIZE = (96, 128)
K = np.array([[100.0, 0, 64], [0, 110.0, 48], [0, 0, 1]])
LENS = np.array([-0.2, 0.05, 0.002, -0.003, 0.0])
WHITE = Material(1.0, (1.0, 1.0, 1.0))
IDEAL = Camera(K, SIZE, shot_noise=0.0, read_noise=0.0, vignetting=0.0)
BESIDE = np.array(
    [[0.0, -0.2, 0.9797959, -3.0], [-1, 0, 0, 0.5], [0, -0.9797959, -0.2, 1.2], [0, 0, 0, 1]]
)


@pytest.fixture(scope="module")
def world():
    """A floor, a wall at x = 4 and an object, a turned box, in front of it."""
    builder = SceneBuilder()
    builder.add_rectangle((0, 0, 0), (1, 0, 0), (0, 1, 0), (50, 50), np.full((1, 1, 4), 0.5))
    builder.add_box((5, 0, 0), (1, 50, 30), WHITE, label=2)
    thing = builder.new_object(5, yaw=0.6)
    builder.add_box((2, 0.3, 0.5), (0.4, 0.25, 0.5), WHITE, yaw=0.6, instance=thing)
    return builder, builder.build()


@pytest.mark.parametrize("lens", [None, LENS])
def test_depth_is_that_of_the_planes_and_the_object_is_where_its_box_projects(world, lens):
    builder, scene = world
    camera = dataclasses.replace(IDEAL, distortion=lens)
    frame = jax.device_get(render(scene, camera, BESIDE, light=Light(shadows=False)))
    assert frame.valid.all()
    # The rays of an independent formula: OpenCV's fixed-point iteration for the lens.
    x, y = np.meshgrid((np.arange(128) + 0.5 - 64) / 100, (np.arange(96) + 0.5 - 48) / 110)
    u, v = x, y
    if lens is not None:
        k1, k2, p1, p2, k3 = lens
        for _ in range(60):
            r2 = u * u + v * v
            radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
            u, v = (
                (x - 2 * p1 * u * v - p2 * (r2 + 2 * u * u)) / radial,
                (y - p1 * (r2 + 2 * v * v) - 2 * p2 * u * v) / radial,
            )
    rays = np.stack([u, v, np.ones_like(u)], -1) @ BESIDE[:3, :3].T
    wall = (4 - BESIDE[0, 3]) / rays[..., 0]
    floor = np.where(rays[..., 2] < 0, -BESIDE[2, 3] / np.minimum(rays[..., 2], -1e-9), np.inf)
    expected = np.minimum(wall, floor)
    far = frame.label != 5
    near = np.abs(wall - floor) < 0.05  # the corner between them
    np.testing.assert_allclose(frame.depth[far], expected[far], rtol=1e-5)
    assert (frame.label == np.where(wall < floor, 2, 0))[far & ~near].all()
    up = np.array([0, 0, 1.0]) @ BESIDE[:3, :3]
    normal = frame.normal[frame.label == 0]
    np.testing.assert_allclose(normal, np.broadcast_to(up, normal.shape), atol=1e-5)

    (box,) = builder.objects()
    corners = box.corners() @ BESIDE[:3, :3] - BESIDE[:3, 3] @ BESIDE[:3, :3]
    pixel, valid = camera.project(corners)
    assert valid.all()
    rows, columns = np.nonzero(frame.instance == box.instance)
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    np.testing.assert_allclose(seen, [*pixel.min(0), *pixel.max(0)], atol=1.1)
    assert (frame.label[rows, columns] == 5).all()
    assert (frame.depth[rows, columns] >= corners[:, 2].min() - 1e-4).all()


def test_a_lamp_is_weaker_far_away_and_casts_shadows(world):
    _, scene = world
    lamp = Lamp((0.0, 0.3, 1.5), strength=0.8, reach=3.0, ambient=0.1)
    frame = jax.device_get(render(scene, IDEAL, BESIDE, light=lamp))
    pixels = np.stack(np.meshgrid(np.arange(128) + 0.5, np.arange(96) + 0.5), -1)
    rays = IDEAL.rays(pixels)[0] @ BESIDE[:3, :3].T
    point = BESIDE[:3, 3] + frame.depth[..., None] * rays
    towards = np.array(lamp.position) - point
    far = np.linalg.norm(towards, axis=-1)
    on_wall = frame.label == 2
    direct = 0.8 / (1 + (far / 3) ** 2) * np.abs(towards[..., 0]) / far
    shadow = np.abs(frame.colour[..., 0] - 0.1) < 1e-4
    lit = on_wall & ~shadow
    assert lit.sum() > 500 and (on_wall & shadow).sum() > 20
    np.testing.assert_allclose(frame.colour[lit][:, 0], (0.1 + direct)[lit], rtol=1e-3)


def test_the_imager_has_the_stated_noise_gamma_and_vignetting():
    camera = Camera(K, SIZE, exposure=0.5, gamma=2.0, shot_noise=0.04, read_noise=0.01)
    level = 0.8
    grey = np.full((*SIZE, 3), level, np.float32)
    pictures = np.stack([develop(jax.random.key(k), camera, grey) for k in range(40)])
    np.testing.assert_array_equal(pictures[3], develop(jax.random.key(3), camera, grey))
    signal = (pictures / 255.0) ** 2
    y, x = np.mgrid[:96, :128] + 0.5
    square = (x - 64) ** 2 + (y - 48) ** 2
    expected = 0.5 * level * (1 - 0.2 * square / square.max())
    np.testing.assert_allclose(signal.mean((0, 3)), expected, atol=0.015)
    sigma = np.sqrt(0.04**2 * expected + 0.01**2)
    assert np.median(signal.std(0).mean(-1) / sigma) == pytest.approx(1, abs=0.05)
    plain = np.asarray(develop(jax.random.key(0), IDEAL, grey))
    assert (plain == round(255 * level ** (1 / 2.2))).all()


def plane(depth, cosine=1.0):
    flat = np.full((200, 200), depth, np.float32)
    return Frame(flat, flat, flat, flat, flat, np.full_like(flat, cosine), flat > 0)


@pytest.mark.parametrize(("depth", "degrees"), [(1.0, 0), (2.0, 30), (4.0, 0), (1.5, 75)])
def test_depth_noise_has_the_published_size(depth, degrees):
    angle = np.deg2rad(degrees)
    measured = np.asarray(measure_depth(jax.random.key(1), plane(depth, np.cos(angle))))
    sigma = 0.0012 + 0.0019 * (depth - 0.4) ** 2
    if degrees > 60:
        sigma += 0.0001 / np.sqrt(depth) * angle**2 / (np.pi / 2 - angle) ** 2
    assert float(axial_sigma(depth, angle)) == pytest.approx(sigma, rel=1e-4)
    step = depth**2 * 2.85e-3  # of the quantised inverse depth: 7 cm at 5 m
    kept = measured > 0
    assert kept.mean() == pytest.approx(0.995, abs=0.003)
    found = measured[kept].std()
    assert found == pytest.approx(np.sqrt(sigma**2 + step**2 / 12), rel=0.2)
    assert measured[kept].mean() == pytest.approx(depth, abs=step / 2 + 1e-3)
    np.testing.assert_allclose(measured * 1000, np.round(measured * 1000), atol=1e-2)
    inverse = 1 / np.unique(measured[kept]) / 2.85e-3
    assert np.abs(inverse - np.round(inverse)).max() < 0.6e-3 / step + 1e-3


def test_depth_has_holes_where_a_real_sensor_has_none_to_give():
    perfect = DepthSensor(
        noise=0.0, lateral=0.0, inverse_step=0.0, edge_dropout=1.0, dropout=0.0, max_range=5.0
    )
    frame = plane(2.0)
    depth, cosine, valid = frame.depth.copy(), frame.cosine.copy(), frame.valid.copy()
    depth[:, 100:] = 3.0
    depth[:20], depth[180:] = 0.3, 5.5
    cosine[60:80] = np.cos(np.deg2rad(82))
    valid[90] = False
    frame = frame._replace(depth=depth, cosine=cosine, valid=valid)
    measured = np.asarray(measure_depth(jax.random.key(0), frame, perfect))
    assert (measured[:20] == 0).all() and (measured[180:] == 0).all()
    assert (measured[60:80] == 0).all() and (measured[90] == 0).all()
    good = np.s_[100:170]
    assert (measured[good, 99:101] == 0).all(), "both sides of a step"
    np.testing.assert_allclose(measured[good, :99], 2.0, atol=1e-6)
    np.testing.assert_allclose(measured[good, 101:], 3.0, atol=1e-6)
    # Lateral noise frays the border: the left side sees the right plane, and only near it.
    frayed = dataclasses.replace(perfect, lateral=1.0, edge_dropout=0.0)
    measured = np.asarray(measure_depth(jax.random.key(0), frame, frayed))[good]
    wrong = (measured[:, :100] > 2.5).mean(0)
    assert 0.15 < wrong[99] < 0.45 and wrong[97] < wrong[98] < wrong[99] and wrong[94] == 0
