"""Sensors against walls and grids whose answers are known."""

import dataclasses

import jax
import numpy as np
import pytest

from posejax.sim import (
    Lidar,
    Light,
    Material,
    SceneBuilder,
    orthophoto,
    spin_lidar,
)
from posejax.sim.sensors import _lidar_return

WHITE = Material(1.0, (1.0, 1.0, 1.0))
QUIET = Lidar(
    elevations_deg=(-20.0, -5.0, 0.0, 4.0),
    azimuths=360,
    range_sigma=0.0,
    gain_sigma=0.0,
    intensity_sigma=0.0,
    dropout=0.0,
    detection_range=1e5,
)


def room():
    """Walls at x = 5 and x = -7, the floor at z = -2."""
    builder = SceneBuilder()
    builder.add_box((6, 0, 0), (1, 50, 30), WHITE)
    builder.add_box((-8, 0, 0), (1, 50, 30), Material(0.25, (0.5, 0.5, 0.5)))
    builder.add_box((0, 0, -3), (50, 50, 1), WHITE)
    return builder.build()


def test_lidar_sees_walls_at_their_distance_and_beams_at_their_elevation():
    turn = spin_lidar(jax.random.key(0), room(), QUIET, np.eye(4))
    xyz, valid = np.asarray(turn.xyz), np.asarray(turn.valid)
    assert valid.mean() > 0.9
    elevation = np.rad2deg(np.arctan2(xyz[..., 2], np.hypot(xyz[..., 0], xyz[..., 1])))
    expected = np.broadcast_to(QUIET.elevations_deg, elevation.shape)
    np.testing.assert_allclose(elevation[valid], expected[valid], atol=1e-3)
    level = xyz[:, 2][np.abs(xyz[:, 2, 1]) < 1.0]
    np.testing.assert_allclose(level[level[:, 0] > 0][:, 0], 5.0, atol=1e-4)
    np.testing.assert_allclose(level[level[:, 0] < 0][:, 0], -7.0, atol=1e-4)
    floor = xyz[:, 0][np.abs(xyz[:, 0, 1]) > 20 * np.sin(np.pi / 3)]
    np.testing.assert_allclose(floor[:, 2], -2.0, atol=1e-4)
    # Intensity: reflectance, weaker at a slant.
    ahead = np.argmin(np.abs(xyz[:, 2, 1]) + (xyz[:, 2, 0] < 0) * 100)
    assert float(turn.intensity[ahead, 2]) == pytest.approx(1.0, abs=1e-3)
    assert float(turn.intensity[0, 2]) == pytest.approx(0.25, abs=1e-3)
    assert float(turn.intensity[ahead, 0]) == pytest.approx(np.cos(np.deg2rad(20)) ** 0.5, abs=1e-3)


def test_lidar_pose_moves_the_world_not_the_frame():
    angle = 0.7
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = 1.0, 2.0, 0.5
    turn = spin_lidar(jax.random.key(0), room(), QUIET, pose)
    xyz, valid = np.asarray(turn.xyz), np.asarray(turn.valid)
    world = xyz[valid] @ pose[:3, :3].T + pose[:3, 3]
    off = np.min(np.abs(np.stack([world[:, 0] - 5, world[:, 0] + 7, world[:, 2] + 2])), axis=0)
    assert off.max() < 1e-4


def test_lidar_noise_has_the_stated_size_and_follows_the_key():
    noisy = dataclasses.replace(
        QUIET, range_sigma=0.02, intensity_sigma=0.1, dropout=0.3, azimuths=2000
    )
    one, again, other = (spin_lidar(jax.random.key(k), room(), noisy, np.eye(4)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one.xyz, again.xyz)
    assert (one.xyz != other.xyz).any()
    error = np.linalg.norm(one.xyz, axis=-1) - np.asarray(one.hits.distance)
    assert np.std(error[np.asarray(one.hits.valid)]) == pytest.approx(0.02, rel=0.05)
    kept = np.asarray(one.valid)[np.asarray(one.hits.valid)].mean()
    assert kept == pytest.approx(0.7, abs=0.02)


def test_weak_slanted_and_far_returns_are_lost_first():
    weak = dataclasses.replace(QUIET, detection_range=12.0, azimuths=4000)
    turn = spin_lidar(jax.random.key(0), room(), weak, np.eye(4))
    azimuth = np.pi - np.arange(4000) * 2 * np.pi / 4000
    valid = np.asarray(turn.valid)[:, 2]
    strong, dark = np.abs(azimuth) < 0.4, np.abs(azimuth) > np.pi - 0.4
    slanted = np.abs(np.abs(azimuth) - 1.2) < 0.1
    assert valid[strong].mean() > 0.9
    assert valid[dark].mean() < 0.8 * valid[strong].mean()
    assert valid[slanted].mean() < 0.8 * valid[strong].mean()


def test_beam_gains_belong_to_the_sensor():
    gains = dataclasses.replace(QUIET, gain_sigma=0.3)
    a, b, c = (
        spin_lidar(jax.random.key(k), room(), gains, np.eye(4), sensor_seed=s)
        for k, s in ((0, 1), (5, 1), (0, 2))
    )
    np.testing.assert_allclose(a.intensity[3], b.intensity[3], rtol=1e-5)
    traces = _lidar_return._cache_size()
    spin_lidar(jax.random.key(1), room(), gains, np.eye(4), sensor_seed=77)
    assert _lidar_return._cache_size() == traces, "another sensor must not recompile"
    assert np.abs(a.intensity[3] - c.intensity[3]).max() > 0.01


def test_orthophoto_cell_is_where_its_metres_say():
    builder = SceneBuilder()
    black = np.zeros((1, 1, 4), np.float32)
    builder.add_rectangle((0, 0, 0), (1, 0, 0), (0, 1, 0), (20, 20), black)
    # A white block that covers x in [3, 4], y in [-5, -4.5] exactly.
    builder.add_box((3.5, -4.75, 0.5), (0.5, 0.25, 0.5), WHITE)
    light = Light((0, 0, 1), sun=0.5, sky=0.25)
    picture, hits = orthophoto(builder.build(), (60, 80), 0.25, (-8.0, -7.5), light=light)
    assert picture.shape == (60, 80, 3)
    rows, cols = np.nonzero(np.asarray(picture[..., 0]) > 0.5)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (10, 11, 44, 47)
    assert float(picture[10, 44, 0]) == pytest.approx(0.75, abs=1e-5)
    np.testing.assert_allclose(hits.distance[0, 0], 100.0, atol=1e-4)


def test_shadow_lies_opposite_the_sun():
    builder = SceneBuilder()
    grey = np.full((1, 1, 4), 0.5, np.float32)
    builder.add_rectangle((0, 0, 0), (1, 0, 0), (0, 1, 0), (20, 20), grey)
    builder.add_box((0, 0, 2), (1, 1, 2), WHITE)
    # 45 degrees high in the +x direction: the shadow reaches from x = -1 to x = -5.
    light = Light((1, 0, 1), sun=0.6, sky=0.2)
    picture, _ = orthophoto(builder.build(), (160, 160), 0.1, (-8.0, -8.0), light=light)
    middle = np.asarray(picture[80, :, 0])
    x = -8 + (np.arange(160) + 0.5) * 0.1
    np.testing.assert_allclose(middle[(x > -4.95) & (x < -1.05)], 0.1, atol=1e-4)
    lit = 0.5 * (0.2 + 0.6 / np.sqrt(2))
    np.testing.assert_allclose(middle[(x < -5.05) | (x > 1.05)], lit, atol=1e-4)
