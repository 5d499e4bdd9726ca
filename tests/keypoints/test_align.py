"""Alignment to events: which edges are seen, which fire, and that a pose gets nearer the truth."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posejax.keypoints import Peaks, align_pose, edges_of
from posejax.keypoints.align import blurred, firing, normals, visible
from tests.keypoints.scenes import K, degrees_between, projected, random_pose

HALF = np.array([0.8, 0.3, 0.52])
CORNERS = np.array(list(itertools.product((-1, 1), repeat=3))) * HALF
ENDS = np.array([(i, j) for i, j in itertools.combinations(range(8), 2)
                 if (CORNERS[i] != CORNERS[j]).sum() == 1])  # fmt: skip
EDGES = edges_of(CORNERS, ENDS, np.stack([-HALF, HALF])[None], spacing=0.08)
SIZE = 64


def faces_of(points):
    """Outward normals [E, 2, 3] of the two faces of the box that meet in each point of an edge."""
    on = np.isclose(np.abs(points), HALF, atol=1e-5)
    assert (on.sum(1) == 2).all()
    return np.stack([np.eye(3)[np.flatnonzero(o)] * np.sign(p[o])[:, None]
                     for o, p in zip(on, points, strict=True)])  # fmt: skip


def drawn(pose, flow):
    """Density of the events of the visible edges: as much as they move across themselves."""
    points = np.asarray(EDGES.points, np.float64)
    xy = projected(pose, points)
    weight = np.asarray(visible(jnp.asarray(pose, jnp.float32), EDGES), float)
    across = np.asarray(normals(jnp.asarray(pose, jnp.float32), EDGES, jnp.asarray(K)))
    weight = weight * np.abs(flow @ across)
    grid = np.arange(SIZE) + 0.5
    away = (grid[:, None, None] - xy[:, 1]) ** 2 + (grid[None, :, None] - xy[:, 0]) ** 2
    return (np.exp(-0.5 * away / 0.8**2) * weight).sum(-1)


def test_edges_lie_on_the_wireframe_at_even_distances():
    points = np.asarray(EDGES.points)
    length = 8 * HALF.sum()
    assert len(points) == pytest.approx(length / 0.08, rel=0.05)
    assert np.isclose(np.abs(points), HALF, atol=1e-6).sum(1).min() == 2
    np.testing.assert_allclose(np.linalg.norm(EDGES.tangents, axis=1), 1, rtol=1e-6)


def test_an_edge_is_seen_where_one_of_its_faces_looks_at_the_camera(rng):
    faces = faces_of(np.asarray(EDGES.points))
    for _ in range(8):
        pose = random_pose(rng)
        camera = -pose[:3, :3].T @ pose[:3, 3]
        look = np.einsum("efi,ei->ef", faces, camera - np.asarray(EDGES.points))
        clear = np.abs(look).min(1) > 0.1  # apart from faces seen edge-on
        found = np.asarray(visible(jnp.asarray(pose, jnp.float32), EDGES))
        np.testing.assert_array_equal(found[clear], (look > 0).any(1)[clear])


def test_the_motion_is_the_direction_whose_edges_fire(rng):
    pose = random_pose(rng)
    across = normals(jnp.asarray(pose, jnp.float32), EDGES, jnp.asarray(K, jnp.float32))
    shown = visible(jnp.asarray(pose, jnp.float32), EDGES)
    flow = np.array([np.cos(1.0), np.sin(1.0)])
    fired = jnp.asarray((flow @ np.asarray(across)) ** 2)
    weight = np.asarray(firing(across, fired, shown))
    np.testing.assert_allclose(weight, fired, atol=0.15)  # twelve directions


def test_slopes_of_a_blurred_density_are_its_derivatives(rng):
    maps = np.asarray(blurred(jnp.asarray(rng.uniform(size=(24, 20)), jnp.float32), 2.0))
    down, right = np.gradient(maps[..., 0])
    inner = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(maps[..., 1][inner], right[inner], atol=0.01)
    np.testing.assert_allclose(maps[..., 2][inner], down[inner], atol=0.01)


def test_a_pose_of_poor_heatmaps_gets_nearer_to_the_edges_and_a_right_one_stays(rng):
    poses = np.stack([random_pose(rng) for _ in range(6)])
    flow = np.array([0.8, 0.6])
    density = np.stack([drawn(p, flow) for p in poses]).astype(np.float32)
    xy = np.stack([projected(p, CORNERS) for p in poses])
    noisy = xy + rng.normal(0, 2.0, xy.shape)  # of which eight points average little
    start = []
    for pose in poses:
        turn = np.eye(4)
        turn[:3, :3] = _small_turn(rng, 0.08)
        start.append(pose @ turn)

    def aligned(start, density, xy, sigma):
        covariance = jnp.broadcast_to(sigma**2 * jnp.eye(2), (8, 1, 2, 2))
        peaks = Peaks(xy[:, None], covariance, jnp.ones((8, 1)))
        return align_pose(start, EDGES, density, CORNERS, peaks, K, weight=1.0)

    run = jax.jit(jax.vmap(aligned, in_axes=(0, 0, 0, None)))
    found, gain = run(jnp.asarray(start, jnp.float32), density, jnp.asarray(noisy), 2.0)
    without, _ = run(jnp.asarray(start, jnp.float32), 0 * density, jnp.asarray(noisy), 2.0)
    assert (np.asarray(gain) > 0).all()
    by_edges, by_points = degrees_between(found, poses), degrees_between(without, poses)
    assert np.median(by_edges) < 0.6 * np.median(by_points) and (by_edges < by_points + 0.5).all()
    # Nothing fired, and the heatmaps agree with the start: nothing moves.
    still, gain = run(jnp.asarray(poses, jnp.float32), 0 * density, jnp.asarray(xy), 2.0)
    assert degrees_between(still, poses).max() < 0.05 and np.asarray(gain).max() < 0.01


def _small_turn(rng, angle):
    axis = rng.normal(size=3)
    return Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
