"""Trajectories, real and made, with noise and gross errors."""

import csv

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

CAPACITY = 480


def pose_matrices(translation, rotation):
    poses = np.tile(np.eye(4), (len(translation), 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotation.as_matrix(), translation
    return poses


@pytest.fixture(scope="session")
def rt002(data_dir):
    """(t [480] s, camera_from_body [480, 4, 4]) of a real sequence, an exact screw."""
    with open(data_dir("spades_rt002") / "labels.csv") as file:
        rows = np.array([list(row.values())[1:] for row in csv.DictReader(file)], float)
    return 0.1 * np.arange(len(rows)), pose_matrices(rows[:, :3], Rotation.from_quat(rows[:, 3:]))


@pytest.fixture(scope="session")
def screw():
    """(t [480] s, poses): irregular times over 48 s with a gap, two and a half turns."""
    rng = np.random.default_rng(7)
    t = np.sort(rng.uniform(0, 48, CAPACITY))
    t[t > 20] += 6
    axis = np.array([0.3, -0.8, 0.5]) / np.linalg.norm([0.3, -0.8, 0.5])
    turn = Rotation.from_rotvec(t[:, None] * 0.3 * axis)
    along = np.array([0.4, -0.2, 6.0]) + t[:, None] * 0.03 * axis
    return t, pose_matrices(along + turn.apply([0.5, 0.2, 0.4]), turn * Rotation.random(rng=rng))


@pytest.fixture(scope="session")
def tumbling():
    """(t [480] s, poses) of a motion that is no screw: sways and turns at changing rates."""
    t = 0.1 * np.arange(CAPACITY)
    place = np.stack([np.sin(0.3 * t), 0.5 * np.cos(0.4 * t), 5.5 + 1.5 * np.sin(0.2 * t)], axis=1)
    turn = Rotation.from_rotvec(np.outer(0.8 * np.sin(0.3 * t), [0, 0, 1]))
    return t, pose_matrices(place, turn * Rotation.from_rotvec(np.outer(0.1 * t, [0.6, 0.8, 0])))


@pytest.fixture
def spoil():
    """`spoil(poses, rng, degrees, metres, share)`: noise of that root mean square, and a share of
    random attitudes metres away; returns (poses, which are gross errors)."""

    def add(poses, rng, degrees, metres, share=0.0):
        n, out = len(poses), poses.copy()
        turn = Rotation.from_rotvec(rng.normal(size=(n, 3)) * np.deg2rad(degrees) / np.sqrt(3))
        out[:, :3, :3] = turn.as_matrix() @ poses[:, :3, :3]
        out[:, :3, 3] += rng.normal(size=(n, 3)) * metres / np.sqrt(3)
        gross = rng.random(n) < share
        out[gross, :3, :3] = Rotation.random(gross.sum(), rng=rng).as_matrix()
        out[gross, :3, 3] += rng.normal(size=(gross.sum(), 3)) * 3
        return out, gross

    return add


@pytest.fixture(scope="session")
def errors():
    """`errors(truth, found)`: mean of E_t (relative to the range) and of the angle in degrees."""

    def measure(truth, found):
        found = np.asarray(found, float)
        away = np.linalg.norm(truth[:, :3, 3] - found[:, :3, 3], axis=1)
        turn = Rotation.from_matrix(truth[:, :3, :3].swapaxes(1, 2) @ found[:, :3, :3])
        distance = np.linalg.norm(truth[:, :3, 3], axis=1)
        return (away / distance).mean(), np.rad2deg(turn.magnitude().mean())

    return measure


@pytest.fixture(scope="session")
def compiled():
    """`jax.jit` in a hurry: these programs run in milliseconds and compile for seconds."""
    return lambda f: jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})
