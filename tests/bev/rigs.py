"""Small rigs, and the lift as its definition says it, in float64 NumPy."""

import numpy as np

from posejax.bev import VoxelGrid

IMAGE, SIZE = (64, 96), (8, 12)
GRID = VoxelGrid((10, 3, 12), (-6, -2, -5), (6, 2.5, 5))


def rig(cameras: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cameras half around the middle, so wide that some voxels are in three of them."""
    rng = np.random.default_rng(seed)
    k = np.tile(np.array([[32.0, 0.3, 47.0], [0, 34.0, 33.0], [0, 0, 1]]), (cameras, 1, 1))
    k[:, :2, 2] += rng.uniform(-2, 2, (cameras, 2))
    poses = np.tile(np.eye(4), (cameras, 1, 1))
    for i in range(cameras):
        yaw, pitch = 0.9 * i + 0.1, rng.uniform(-0.1, 0.1)
        about_y = [[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]]
        about_x = [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
        poses[i, :3, :3] = np.array(about_x) @ np.array(about_y)
        poses[i, :3, 3] = rng.uniform(-0.3, 0.3, 3)
    return k, poses


def views(k, poses, grid, image, size, compat):
    """Sampling points [N, V, 2] with integer pixel centres, and who is seen [N, V]."""
    points = grid.centers().reshape(-1, 3)
    xy, seen = [], []
    for matrix, pose in zip(k, poses, strict=True):
        local = points @ pose[:3, :3].T + pose[:3, 3]
        with np.errstate(all="ignore"):
            u, v = ((local @ matrix.T)[:, :2] / local[:, 2:]).T
        sx, sy = size[1] / image[1], size[0] / image[0]
        # Whole numbers are centres from here on, as in the original.
        x, y = (u * sx - 0.5, v * sy - 0.5) if compat is None else ((u - 0.5) * sx, (v - 0.5) * sy)
        inside = (x > -0.5) & (x < size[1] - 0.5) & (y > -0.5) & (y < size[0] - 0.5)
        seen.append(inside & (local[:, 2] > 1e-3))
        if compat is not None:  # normalised for align_corners=True, sampled without
            x = ((2 * x / (size[1] - 1) - 1) + 1) * size[1] / 2 - 0.5
            y = ((2 * y / (size[0] - 1) - 1) + 1) * size[0] / 2 - 0.5
        xy.append(np.stack([x, y], -1))
    return np.stack(xy), np.stack(seen)


def sample(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Bilinear with zeros around, one point at a time."""
    out = np.zeros((len(xy), image.shape[-1]))
    for n, (x, y) in enumerate(xy):
        for j in (int(np.floor(x)), int(np.floor(x)) + 1):
            for i in (int(np.floor(y)), int(np.floor(y)) + 1):
                if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
                    out[n] += image[i, j] * (1 - abs(x - j)) * (1 - abs(y - i))
    return out


def reference_lift(features, k, poses, grid=GRID, image=IMAGE, compat=None) -> np.ndarray:
    size = features.shape[1:3]
    xy, seen = views(k, poses, grid, image, size, compat)
    total = np.zeros((seen.shape[1], features.shape[-1]))
    count = np.zeros_like(total)
    for camera in range(len(k)):
        rows = np.flatnonzero(seen[camera])
        value = sample(features[camera].astype(np.float64), xy[camera, rows])
        total[rows] += value
        count[rows] += 1 if compat is None else value != 0
    mean = total / (np.maximum(count, 1) if compat is None else 1e-6 + count)
    return mean.reshape(*grid.shape, -1)
