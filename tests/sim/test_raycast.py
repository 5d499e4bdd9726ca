"""The ray caster against float64 brute force, analytic cases and its own promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posejax.sim import raycast
from posejax.sim.builder import SceneBuilder, bucket_size
from posejax.sim.raycast import cast_rays
from posejax.sim.scene import Material

GREY = Material(0.5, (0.2, 0.4, 0.6))


def rotation(rng):
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def random_scene(rng, count=60):
    """A scene with every kind, and a float64 function that intersects one ray with it."""
    builder, parts = SceneBuilder(), []
    builder.add_rectangle(
        (0, 0, -4), (1, 0, 0), (0, 1, 0), (30, 20), rng.random((4, 6, 4)), label=7
    )
    parts.append(("plane", None))
    for i in range(count):
        for kind in ("box", "cylinder", "ellipsoid"):
            centre, turn = rng.uniform(-15, 15, 3), rotation(rng)
            half = rng.uniform(0.2, 2.5, 3)
            if kind == "cylinder":
                half[1] = half[0]
                builder.add_cylinder(centre, half[0], half[2], GREY, rotation=turn, label=i)
            else:
                add = builder.add_box if kind == "box" else builder.add_ellipsoid
                add(centre, half, GREY, rotation=turn, label=i)
            parts.append((kind, (centre, turn, half)))
        corners = rng.uniform(-15, 15, 3) + rng.uniform(-5, 5, (3, 3))
        builder.add_mesh(corners, [[0, 1, 2]], GREY, label=i)
        parts.append(("triangle", corners))
    return builder.build(), parts


def reference(parts, origin, direction):
    """Nearest distance and outward normal in float64, by other formulas than the library's."""
    best, normal = np.inf, None
    for kind, data in parts:
        candidates = []
        if kind == "plane":
            t = (-4 - origin[2]) / direction[2]
            p = origin + t * direction
            if abs(p[0]) <= 30 and abs(p[1]) <= 20:
                candidates.append((t, np.array([0, 0, 1.0])))
        elif kind == "triangle":
            a, b, c = data
            # Solve origin + t d = a + u (b - a) + v (c - a) directly.
            t, u, v = np.linalg.solve(np.stack([-direction, b - a, c - a], 1), origin - a)
            if u >= 0 and v >= 0 and u + v <= 1:
                candidates.append((t, np.cross(b - a, c - a)))
        else:
            centre, turn, half = data
            o, d = turn.T @ (origin - centre), turn.T @ direction
            if kind == "box":
                for axis in range(3):
                    for side in (-1, 1):
                        t = (side * half[axis] - o[axis]) / d[axis]
                        p = o + t * d
                        if all(abs(p[k]) <= half[k] for k in range(3) if k != axis):
                            candidates.append((t, turn[:, axis] * side))
            else:
                scale = 1 / half**2 if kind == "ellipsoid" else np.array([1, 1, 0]) / half[0] ** 2
                a, b, c = (
                    (scale * d * d).sum(),
                    2 * (scale * o * d).sum(),
                    (scale * o * o).sum() - 1,
                )
                for t in np.roots([a, b, c]):
                    p = o + t.real * d
                    if abs(t.imag) < 1e-12 and (kind == "ellipsoid" or abs(p[2]) <= half[2]):
                        candidates.append((t.real, turn @ (scale * p)))
                if kind == "cylinder":
                    for side in (-1, 1):
                        t = (side * half[2] - o[2]) / d[2]
                        p = o + t * d
                        if p[0] ** 2 + p[1] ** 2 <= half[0] ** 2:
                            candidates.append((t, turn[:, 2] * side))
        for t, n in candidates:
            if 1e-4 < t < best:
                best, normal = t, n / np.linalg.norm(n)
    return best, normal


def test_every_kind_against_float64_brute_force(rng):
    scene, parts = random_scene(rng)
    origins = rng.uniform(-18, 18, (400, 3))
    directions = rng.normal(size=(400, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    hits = jax.device_get(cast_rays(scene, origins, directions, 100.0))
    wrong = 0
    for i in range(400):
        distance, normal = reference(parts, origins[i], directions[i])
        if not np.isfinite(distance):
            assert not hits.valid[i] and hits.distance[i] == 100.0
            continue
        normal = -normal if normal @ directions[i] > 0 else normal
        close = abs(distance - float(hits.distance[i])) < 2e-3 * max(1, distance * 0.1)
        turned = np.abs(np.asarray(hits.normal[i]) - normal).max() > 1e-2
        wrong += not close or turned or not bool(hits.valid[i])
    # A ray that grazes an edge may fall to either side of it in float32.
    assert wrong <= 2, f"{wrong} of 400 rays differ"
    first = np.cumsum([1, *(len(group.label) for group in scene[1:5])])
    kinds = np.searchsorted(first, hits.surface[hits.valid], side="right")
    assert (np.bincount(kinds, minlength=5) > 5).all(), "every kind must be hit"


@pytest.mark.slow
def test_culling_never_loses_a_hit(rng, monkeypatch):
    scene, _ = random_scene(rng)
    # Narrow bundles (where culling bites) from far away, thin cones, and a parallel bundle.
    bundles = [
        (
            np.zeros(3),
            np.stack(np.meshgrid(np.linspace(-1, 1, 96), np.linspace(-1, 1, 70), [1.2]), -1)[
                :, :, 0
            ],
        ),
        (rng.uniform(-20, 20, (64, 64, 3)), np.array([0.3, -0.2, -1.0])),
    ]
    fast = [cast_rays(scene, o, d, 60.0) for o, d in bundles]
    monkeypatch.setattr(raycast, "_reachable", lambda cone, centre, radius, extent, far: radius > 0)
    whole = raycast._cast_block.__wrapped__
    monkeypatch.setattr(raycast, "_cast_block", jax.jit(lambda *a: whole(*a)))  # traced anew
    for (o, d), quick in zip(bundles, fast, strict=True):
        full = cast_rays(scene, o, d, 60.0)
        np.testing.assert_array_equal(quick.surface, full.surface)
        np.testing.assert_array_equal(quick.distance, full.distance)


def test_rays_from_inside_hit_the_far_side():
    builder = SceneBuilder()
    builder.add_box((0, 0, 0), (3, 2, 1), GREY, label=4)
    hits = cast_rays(builder.build(), np.zeros((2, 3)), [[1.0, 0, 0], [0, 0, -2.0]], 50.0)
    np.testing.assert_allclose(hits.distance, [3.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(hits.normal, [[-1, 0, 0], [0, 0, 1]], atol=1e-6)
    assert hits.label.tolist() == [4, 4]


def test_axis_parallel_rays_and_thin_far_pole():
    builder = SceneBuilder()
    builder.add_cylinder((80.0, 0, 5), 0.03, 5.0, GREY)
    scene = builder.build()
    y = np.array([-0.031, -0.029, 0.0, 0.029, 0.031])
    origins = np.stack([np.zeros(5), y, np.full(5, 1.0)], 1)
    hits = cast_rays(scene, origins, [1.0, 0, 0], 100.0)
    assert hits.valid.tolist() == [False, True, True, True, False]
    expected = 80 - np.sqrt(0.03**2 - y[1:4] ** 2)
    np.testing.assert_allclose(hits.distance[1:4], expected, atol=1e-4)
    down = cast_rays(scene, [[80.02, 0, 20.0], [80.04, 0, 20.0]], [0, 0, -1.0], 100.0)
    assert down.valid.tolist() == [True, False]
    assert float(down.distance[0]) == pytest.approx(10.0, abs=1e-5)


def test_range_limit_zero_direction_and_empty_scene():
    builder = SceneBuilder()
    builder.add_box((10, 0, 0), (1, 1, 1), GREY)
    scene = builder.build()
    for far, valid in ((8.9, False), (9.1, True)):
        assert bool(cast_rays(scene, np.zeros((1, 3)), [[1.0, 0, 0]], far).valid[0]) is valid
    dead = cast_rays(scene, np.zeros((3, 3)), np.zeros((3, 3)), 50.0)
    assert not dead.valid.any() and (dead.surface == -1).all() and (dead.distance == 50.0).all()
    empty = cast_rays(SceneBuilder().build(), np.zeros((5, 4, 3)), [0, 0, 1.0], 9.0)
    assert empty.distance.shape == (5, 4) and not empty.valid.any()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(empty))


def test_texture_follows_the_pixel_convention():
    texture = np.zeros((2, 4, 4), np.float32)
    texture[..., 0] = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]
    builder = SceneBuilder()
    builder.add_rectangle((0, 0, 0), (1, 0, 0), (0, 1, 0), (2, 1), texture)
    # Cell centres at x = -1.5 ... 1.5 and y = -0.5, 0.5; u grows with the column, v with the row.
    x, y = np.meshgrid([-1.5, -0.5, 0.5, 1.5], [-0.5, 0.5])
    origins = np.stack([x, y, np.ones_like(x)], -1)
    hits = cast_rays(builder.build(), origins, [0, 0, -1.0], 5.0)
    np.testing.assert_allclose(hits.reflectance, texture[..., 0], atol=1e-6)
    middle = cast_rays(builder.build(), [[-1.0, 0.0, 1.0]], [0, 0, -1.0], 5.0)
    assert float(middle.reflectance[0]) == pytest.approx(0.35, abs=1e-6)


def test_one_program_serves_any_number_of_rays_and_similar_scenes():
    before = raycast._cast_block._cache_size()
    for rays, boxes in ((70_000, 9), (131_072, 12), (200_000, 16)):
        builder = SceneBuilder()
        for i in range(boxes):
            builder.add_box((i * 3, 0, 0), (1, 1, 1), GREY)
        cast_rays(builder.build(), np.zeros((rays, 3)), [1.0, 0, 0], 10.0)
    assert raycast._cast_block._cache_size() == before + 1


def test_bucket_sizes():
    sizes = [bucket_size(n) for n in range(400)]
    assert sizes[0] == 0 and all(a >= n for n, a in enumerate(sizes))
    assert sorted(set(sizes)) == [0, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]


@pytest.mark.slow
def test_traces_under_jit_and_vmap(rng):
    scene, _ = random_scene(rng, count=3)
    origins = jnp.asarray(rng.uniform(-5, 5, (2, 30, 3)))
    rays = jnp.asarray(rng.normal(size=(2, 30, 3)))
    plain = jnp.stack(
        [cast_rays(scene, o, d, 50.0).distance for o, d in zip(origins, rays, strict=True)]
    )
    mapped = jax.jit(jax.vmap(lambda o, d: cast_rays(scene, o, d, 50.0).distance))(origins, rays)
    np.testing.assert_allclose(mapped, plain, rtol=1e-5)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="must end in 3"):
        cast_rays(SceneBuilder().build(), np.zeros((4, 2)), np.zeros((4, 3)), 1.0)
    with pytest.raises(ValueError, match="half_size"):
        SceneBuilder().add_box((0, 0, 0), (1, 0, 1), GREY)
    with pytest.raises(ValueError, match="perpendicular"):
        SceneBuilder().add_rectangle((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1), np.zeros((2, 2, 4)))
