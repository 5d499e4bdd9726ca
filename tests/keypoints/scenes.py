"""Bodies of 26 points before a camera, in float64, and heatmaps that show them."""

import numpy as np
from scipy.spatial.transform import Rotation

SIZE = 64
K = np.array([[80.0, 0, 32], [0, 84, 30], [0, 0, 1]])
_SIDES = np.stack(np.meshgrid(*[[-1.0, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
# Corners, edge middles and face centres of a box, a little askew: no turn maps it to itself.
BOX = np.delete(_SIDES, 13, axis=0) * [0.8, 0.3, 0.52] + 0.06 * np.sin(np.arange(78)).reshape(26, 3)


def random_pose(rng):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(rng=rng).as_matrix()
    pose[:3, 3] = *(0.1 * rng.normal(size=2)), rng.uniform(2.4, 3.2)
    return pose


def projected(pose, points=BOX, intrinsics=K):
    seen = points @ pose[:3, :3].T + pose[:3, 3]
    xy = seen @ intrinsics.T
    return xy[:, :2] / xy[:, 2:]


def normal_logits(xy, sigma=1.5, size=SIZE, flat=0.05):
    """Log probabilities [size, size, P] of normal densities about [P, 2], and a flat share."""
    grid = np.arange(size) + 0.5
    rows = np.exp(-0.5 * ((grid[:, None] - xy[:, 1]) / sigma) ** 2)
    columns = np.exp(-0.5 * ((grid[:, None] - xy[:, 0]) / sigma) ** 2)
    p = rows[:, None] * columns[None]
    p /= np.maximum(p.sum((0, 1)), 1e-30)
    return np.log((1 - flat) * p + flat / size**2)


def degrees_between(a, b):
    turn = np.asarray(a, np.float64)[..., :3, :3].swapaxes(-1, -2) @ b[..., :3, :3]
    return np.degrees(Rotation.from_matrix(turn).magnitude())


def twist_between(pose, truth):
    """[6] xi with pose @ exp(xi) = truth, to first order in the rotation."""
    step = np.linalg.inv(np.asarray(pose, np.float64)) @ truth
    return np.r_[step[:3, 3], Rotation.from_matrix(step[:3, :3]).as_rotvec()]
