"""A made-up evaluation in the form of the system's records and examples."""

import numpy as np

SHIFT = np.array([12.0, 4.0])  # px from A to B: a wall parallel to both images


def example(rng, index=0, size=(64, 96), truth=True):
    """A texture seen twice, 12 px apart, and a warp with noise that is wrong in one corner."""
    height, width = size
    coarse = rng.uniform(0, 255, (height // 8 + 4, width // 8 + 4, 3))
    world = coarse.repeat(8, 0).repeat(8, 1).astype(np.uint8)
    dx, dy = SHIFT.astype(int)
    image_b, image_a = world[:height, :width], world[dy : dy + height, dx : dx + width]
    x, y = np.meshgrid(np.arange(2, width, 4), np.arange(2, height, 4))
    home = np.stack([x, y], -1).astype(np.float32)
    target = home + SHIFT
    visible = ((target > 0) & (target < (width, height))).all(-1)
    warp = target + rng.normal(0, 0.3, target.shape)
    warp[-4:, :4] += 25
    pose = np.eye(4)
    pose[:3, 3] = [*SHIFT / np.linalg.norm(SHIFT), 0]
    K = np.array([[80.0, 0, width / 2], [0, 80.0, height / 2], [0, 0, 1]])
    found = {
        "index": np.int32(index),
        "image_a": image_a,
        "image_b": image_b,
        "warp": warp.astype(np.float32),
        "certainty": np.where(visible, 0.9, 0.1).astype(np.float32),
        "matches_a": home.reshape(-1, 2),
        "matches_b": warp.reshape(-1, 2).astype(np.float32),
        "inliers": (visible & (np.linalg.norm(warp - target, axis=-1) < 3)).reshape(-1),
        "b_from_a": pose,
        "K_a": K,
        "K_b": K,
        "valid": np.True_,
    }
    if truth:
        found |= {"true_b_from_a": pose, "has_pose": np.float32(1), "target_4": target}
        found |= {"visible_4": visible * 1.0, "known_4": np.ones_like(visible) * 1.0}
    return found


def records(rng, count=60, bins=10):
    """Errors that grow with the rotation; covariances that tell the truth."""
    turn = rng.uniform(5, 60, count)
    rotation = np.abs(rng.normal(0, 0.1 * turn))
    translation = np.abs(rng.normal(0, 0.2 * turn))
    cells = rng.integers(10, 50, (count, bins)).astype(np.float64)
    middle = (np.arange(bins) + 0.5) / bins
    within = np.sort(rng.uniform(0, 1, (3, count)), axis=0)
    return {
        "index": np.arange(100, 100 + count),
        "name": np.array([f"world {k // 4}, pair {k % 4}" for k in range(count)]),
        "rotation_error": rotation,
        "translation_error": translation,
        "error": np.maximum(rotation, translation),
        "chi2": rng.chisquare(5, count),
        "valid": np.ones(count, bool),
        "inlier_share": rng.uniform(0.2, 0.9, count),
        "matches": np.full(count, 500),
        "overlap": rng.uniform(0.1, 0.9, count),
        "rotation_deg": turn,
        "epe": rng.gamma(2, 3, count),
        **dict(zip(("pck1", "pck3", "pck5"), within, strict=True)),
        "certainty_cells": cells,
        "certainty_sum": cells * middle,
        "certainty_hits": np.round(cells * middle * 0.8),
        "loss": np.ones(count),
    }


def summary(records):
    """The numbers that the report needs."""
    known = np.isfinite(records["rotation_error"])
    numbers = {"pairs": float(len(known)), "coverage": float(np.mean(records["chi2"] < 11.07))}
    for threshold in (5, 10, 20):
        share = float(np.mean(records["error"][known] < threshold)) if known.any() else np.nan
        numbers |= {f"auc{threshold}": share}
        numbers |= {f"auc{threshold}_low": share - 0.05, f"auc{threshold}_high": share + 0.05}
    for kind in ("rotation", "translation"):
        numbers[f"{kind}_median_deg"] = float(np.median(records[f"{kind}_error"]))
    return numbers | {k: float(np.mean(records[k])) for k in ("pck1", "pck3", "pck5")}
