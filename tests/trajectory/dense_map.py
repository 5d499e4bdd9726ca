"""The most probable track under the smoother's model, by one dense Gauss-Newton in NumPy."""

import numpy as np
from scipy.spatial.transform import Rotation

_GAUSS = np.polynomial.legendre.leggauss(8)


def exp6(x):
    """Motions of twists, [..., 6] -> [..., 4, 4]; V is the mean of exp(s w) over s."""
    nodes, shares = _GAUSS
    turns = [_turn(x[..., 3:] * (s + 1) / 2) for s in nodes]
    out = np.zeros((*x.shape[:-1], 4, 4))
    out[..., 3, 3] = 1
    out[..., :3, :3] = _turn(x[..., 3:])
    mean = np.tensordot(shares / 2, turns, 1)
    out[..., :3, 3] = (mean @ x[..., :3, None])[..., 0]
    return out


def log6(motion):
    turn = _vector(motion[..., :3, :3])
    cross = np.cross(turn[..., None, :], np.eye(3)).swapaxes(-1, -2)  # column k is w x e_k
    angle = np.linalg.norm(turn, axis=-1)
    small = angle < 1e-2
    half = np.where(small, 1, angle) / 2
    factor = np.where(small, 1 / 12 + angle**2 / 720, (1 - half / np.tan(half)) / (4 * half**2))
    inverse = np.eye(3) - cross / 2 + factor[..., None, None] * cross @ cross
    v = (inverse @ motion[..., :3, 3, None])[..., 0]
    return np.concatenate([v, turn], axis=-1)


def _turn(vectors):
    return Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*vectors.shape, 3)


def _vector(turns):
    return Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_rotvec().reshape(turns.shape[:-1])


def whitened(t, measured, sigma, drift, speed, poses, twists):
    """All terms of the model, each over its standard deviation, [..., N, 4, 4] -> [..., K]."""
    turn = _vector(measured[:, :3, :3] @ poses[..., :3, :3].swapaxes(-1, -2))
    seen = np.concatenate([measured[:, :3, 3] - poses[..., :3, 3], turn], axis=-1)
    step = np.diff(t)[:, None]
    ahead = poses[..., :-1, :, :] @ exp6(step * twists[..., :-1, :])
    jump = log6(np.linalg.inv(ahead) @ poses[..., 1:, :, :])
    jump = np.concatenate([jump, np.diff(twists, axis=-2)], axis=-1)
    shape = np.array([[[h**3 / 3, h**2 / 2], [h**2 / 2, h]] for h in step[:, 0]])
    noise = np.kron(shape, np.diag(np.repeat(drift, 3) ** 2)[None])
    moved = (np.linalg.inv(np.linalg.cholesky(noise)) @ jump[..., None])[..., 0]
    first = twists[..., 0, :] / np.repeat(speed, 3)
    flat = lambda x: x.reshape(*x.shape[:-2], -1)  # noqa: E731
    return np.concatenate([flat(seen / np.repeat(sigma, 3)), flat(moved), first], axis=-1)


def dense_map(t, measured, sigma, drift, speed=(1, 1), rounds=4):
    """(poses, twists, covariance [N, 6, 6] of the poses in camera axes), from the measurements."""
    count = len(t)
    poses = measured.copy()
    twists = log6(np.linalg.inv(poses[:-1]) @ poses[1:]) / np.diff(t)[:, None]
    twists = np.concatenate([twists, twists[-1:]])

    def at(delta):
        delta = delta.reshape(*delta.shape[:-1], count, 12)
        state = poses @ exp6(delta[..., :6]), twists + delta[..., 6:]
        return whitened(t, measured, sigma, drift, speed, *state)

    for _ in range(rounds):
        # Steps that are small for each unknown: what it moves in its noise.
        nudges = 1e-5 * np.eye(12 * count)
        slope = (at(nudges) - at(-nudges)).T / 2e-5
        size = np.linalg.norm(slope, axis=0)
        delta = np.linalg.lstsq(slope / size, -at(np.zeros(12 * count)), rcond=None)[0] / size
        delta = delta.reshape(count, 12)
        poses, twists = poses @ exp6(delta[:, :6]), twists + delta[:, 6:]
    normal = (slope / size).T @ (slope / size)
    covariance = np.linalg.inv(normal) / size[:, None] / size[None, :]
    index = (12 * np.arange(count)[:, None] + np.arange(6)[None])[:, :, None]
    blocks = covariance[index, index.swapaxes(1, 2)]
    turn = np.kron(np.eye(2)[None], poses[:, :3, :3])
    return poses, twists, turn @ blocks @ turn.swapaxes(1, 2)
