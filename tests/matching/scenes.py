"""Synthetic pairs of views: points in front of two cameras, in float64."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])


class Pair(NamedTuple):
    xy_a: np.ndarray
    xy_b: np.ndarray
    b_from_a: np.ndarray
    good: np.ndarray


def make_pair(rng, n=200, outliers=0.0, noise=0.0, upright=False, baseline=1.0, plane=False):
    turn = np.array([0, rng.normal() * 0.2, 0]) if upright else rng.normal(size=3) * 0.15
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    pose[:3, 3] = rng.normal(size=3)
    pose[:3, 3] *= baseline / np.linalg.norm(pose[:3, 3])
    xy = rng.uniform([60, 40], [580, 440], (n, 2))
    depth = np.full(n, 6.0) if plane else rng.uniform(4, 12, n)
    points = np.c_[(xy - K[:2, 2]) / 500, np.ones(n)] * depth[:, None]
    seen = points @ pose[:3, :3].T + pose[:3, 3]
    other = seen[:, :2] / seen[:, 2:] * 500 + K[:2, 2]
    good = rng.random(n) >= outliers
    a, b = xy + noise * rng.normal(size=xy.shape), other + noise * rng.normal(size=xy.shape)
    b[~good] = rng.uniform([0, 0], [640, 480], (n, 2))[~good]
    return Pair(a.astype(np.float32), b.astype(np.float32), pose, good)


def essential(pose):
    x, y, z = pose[:3, 3]
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ pose[:3, :3]


def rays(xy):
    return (xy - K[:2, 2]) / 500


def angle_errors(pose, truth):
    """Degrees between the rotations, and between the directions of translation."""
    turn = np.asarray(pose[:3, :3], np.float64).T @ truth[:3, :3]
    t, s = np.asarray(pose[:3, 3], np.float64), truth[:3, 3]
    direction = np.arctan2(np.linalg.norm(np.cross(t, s)), t @ s)
    rotation = Rotation.from_matrix(turn).magnitude()
    return np.degrees(rotation), np.degrees(direction)


def distance_up_to_sign(models, exist, truth):
    """Of the existing model that is nearest to `truth`, all of unit norm."""
    truth = truth / np.linalg.norm(truth)
    models = np.asarray(models, np.float64)
    both = np.stack([models - truth, models + truth])
    far = np.abs(both).max(axis=(-2, -1)).min(axis=0)
    return np.where(exist, far, np.inf).min()
