"""Epipolar geometry of a matched pair for its pictures, in NumPy."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Fundamentals(NamedTuple):
    """(x_b, 1)^T F (x_a, 1) = 0 in pixels; None where unknown."""

    truth: np.ndarray | None
    estimate: np.ndarray | None


def fundamentals(example: Mapping[str, Any]) -> Fundamentals:
    """Of the true and the estimated pose, or of the estimate's matrix itself."""
    truth = estimate = None
    if "true_b_from_a" in example and float(example.get("has_pose", 0)):
        truth = fundamental_of(example["true_b_from_a"], example["K_a"], example["K_b"])
    if "fundamental" in example:
        estimate = np.asarray(example["fundamental"], np.float64)
    elif "b_from_a" in example and example.get("valid", True):
        estimate = fundamental_of(example["b_from_a"], example["K_a"], example["K_b"])
    return Fundamentals(truth, estimate)


def fundamental_of(b_from_a: np.ndarray, K_a: np.ndarray, K_b: np.ndarray) -> np.ndarray:
    """F [3, 3] of unit norm of a relative pose [4, 4] and two cameras [3, 3]."""
    pose, K_a, K_b = (np.asarray(x, np.float64) for x in (b_from_a, K_a, K_b))
    x, y, z = pose[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ pose[:3, :3]
    matrix = np.linalg.inv(K_b).T @ essential @ np.linalg.inv(K_a)
    return matrix / max(float(np.linalg.norm(matrix)), 1e-300)


def epipolar_distance(fundamental: np.ndarray, xy_a: np.ndarray, xy_b: np.ndarray) -> np.ndarray:
    """Sampson distances [n] in pixels of pairs [n, 2]."""
    a, b = (np.c_[np.asarray(x, np.float64), np.ones(len(x))] for x in (xy_a, xy_b))
    in_b, in_a = a @ fundamental.T, b @ fundamental
    size = np.sqrt((in_b[:, :2] ** 2).sum(1) + (in_a[:, :2] ** 2).sum(1))
    return np.abs((b * in_b).sum(1)) / np.maximum(size, 1e-12)


def line_in(line: np.ndarray, across: tuple, down: tuple) -> np.ndarray | None:
    """Ends [2, 2] of the part of a line (a, b, c), a x + b y + c = 0, in a box; None outside."""
    a, b, c = line
    found = [(x, -(a * x + c) / b) for x in across if abs(b) > 1e-12 * abs(a)]
    found += [(-(b * y + c) / a, y) for y in down if abs(a) > 1e-12 * abs(b)]
    slack = 1e-6
    inside = [
        p
        for p in found
        if across[0] - slack <= p[0] <= across[1] + slack
        and down[0] - slack <= p[1] <= down[1] + slack
    ]
    if len(inside) < 2:
        return None
    return np.array([min(inside), max(inside)]) if abs(b) > 1e-12 else np.array(inside[:2])
