"""Poses from keypoints: windows per second, batched, against a loop of OpenCV's solvePnPRansac.

    python -m benchmarks.keypoints [--count 512] [--out FILE]

26 points of a box in a view of 128 x 128 cells, some of them wrong. `points`: both are given the
same positions. `heatmaps`: posejax alone, from logits to eight hypotheses with covariances; the
positions of OpenCV's row would have to be read from them first. OpenCV runs where it can be
imported.
"""

import argparse
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import HEADER, Row, compare, write_results
from posejax.geometry import rotation_angle, so3_exp
from posejax.keypoints import heatmap_targets, pose_hypotheses, solve_pnp

cv2: Any = importlib.import_module("cv2") if importlib.util.find_spec("cv2") else None
SIZE = 128
INTRINSICS = np.array([[150.0, 0, 64], [0, 150, 64], [0, 0, 1]], np.float32)
_SIDES = np.stack(np.meshgrid(*[[-1.0, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
BOX = (np.delete(_SIDES, 13, axis=0) * [0.8, 0.3, 0.52]).astype(np.float32)


def views(rng, count: int, noise: float, wrong: float) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [N, 3, 3] and pixels [N, 26, 2] of the box, `wrong` of them anywhere."""
    quats = rng.normal(size=(count, 4))
    angle = 2 * np.arctan2(np.linalg.norm(quats[:, :3], axis=1), quats[:, 3])
    axis = quats[:, :3] / np.linalg.norm(quats[:, :3], axis=1, keepdims=True)
    turns = np.asarray(so3_exp(axis * angle[:, None]), np.float64)
    place = np.c_[0.1 * rng.normal(size=(count, 2)), rng.uniform(2.2, 3.2, count)]
    seen = BOX @ turns.swapaxes(1, 2) + place[:, None]
    xy = seen @ INTRINSICS.T
    xy = xy[..., :2] / xy[..., 2:] + noise * rng.normal(size=(count, 26, 2))
    bad = rng.random((count, 26)) < wrong
    xy[bad] = rng.uniform(0, SIZE, (bad.sum(), 2))
    return turns, xy.astype(np.float32)


def degrees(found, turns) -> dict[str, float]:
    error = np.degrees(np.asarray(rotation_angle(np.asarray(found, np.float32), turns)))
    beyond = float(np.mean(error > 15))
    return {"mean_deg": float(error.mean()), "median_deg": float(np.median(error)), "gross": beyond}


def ransac(xy: np.ndarray, noise: float) -> np.ndarray:
    """Rotation vectors [N, 3]; zero where OpenCV finds none."""
    found = []
    for x in xy:
        ok, turn, _, _ = cv2.solvePnPRansac(BOX, x, INTRINSICS, None, reprojectionError=3 * noise)
        found.append(turn[:, 0] if ok else np.zeros(3))
    return np.array(found)


def from_points(count: int, repeats: int) -> list[Row]:
    rows, rng = [], np.random.default_rng(0)
    for noise, wrong in ((1.0, 0.0), (1.0, 0.1), (2.0, 0.2), (2.0, 0.4)):
        turns, xy = views(rng, count, noise, wrong)

        def solve(xy, noise=noise):
            return jax.vmap(lambda x: solve_pnp(BOX, x, None, INTRINSICS, sigma=noise))(xy)

        notes: dict[str, Any] = degrees(jax.jit(solve)(xy)[:, :3, :3], turns)
        peer = None
        if cv2 is not None:
            peer = lambda xy=xy, noise=noise: ransac(xy, noise)  # noqa: E731
            notes |= {f"peer_{k}": v for k, v in degrees(so3_exp(peer()), turns).items()}
        rows.append(
            compare(
                f"points, {count} windows, {noise} px, {wrong:.0%} wrong", solve, (xy,), peer=peer,
                peer_name="OpenCV solvePnPRansac", repeats=repeats, goal="5x", **notes,
            )
        )  # fmt: skip
        _add_rate(rows[-1], count)
    return rows


def from_heatmaps(batch: int, repeats: int) -> list[Row]:
    rows, rng = [], np.random.default_rng(1)
    for cells in (128, 64):
        stride = SIZE // cells
        turns, xy = views(rng, batch, 1.5, 0.1)
        inside = jnp.clip(xy / stride, 0, cells - 0.01)
        target = jax.vmap(lambda x, n=cells: heatmap_targets(x, (n, n), sigma=1.5 * n / SIZE))
        logits = jnp.log(0.95 * target(inside) + 0.05 / cells**2)

        def solve(logits, stride=stride):
            return jax.vmap(lambda x: pose_hypotheses(x, BOX, INTRINSICS, stride=stride))(logits)

        notes: dict[str, Any] = degrees(jax.jit(solve)(logits).pose[:, 0, :3, :3], turns)
        name = f"heatmaps {cells} x {cells} x 26, {batch} windows, 8 hypotheses"
        rows.append(compare(name, solve, (logits,), repeats=repeats, **notes))
        _add_rate(rows[-1], batch)
    return rows


def _add_rate(row: Row, count: int) -> None:
    row.notes["windows_per_s"] = 1e3 * count / row.posejax_min_ms
    if row.peer_min_ms is not None:
        row.notes["peer_windows_per_s"] = 1e3 * count / row.peer_min_ms
    print({k: round(v, 3) for k, v in row.notes.items()}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=512, help="windows of `points`")
    parser.add_argument("--batch", type=int, default=64, help="windows of `heatmaps`")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    options, _ = parser.parse_known_args()
    print(HEADER)
    rows = from_points(options.count, options.repeats)
    write_results("keypoints", rows + from_heatmaps(options.batch, options.repeats), options.out)


if __name__ == "__main__":
    main()
