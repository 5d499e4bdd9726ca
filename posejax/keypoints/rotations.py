"""A fixed, even set of rotations to start searches from."""

import math

import numpy as np

# The positive root of x^4 = x + 4.
_PSI = 1.5337511687552042


def rotation_grid(count: int) -> np.ndarray:
    """Rotations spread evenly over all of SO(3) by a super-Fibonacci spiral.

    Args:
      count: number of rotations; neighbours are about (8 pi^2 / count)^(1/3) rad apart: 19 deg for
        2,000, 15 deg for 4,000.

    Returns:
      [count, 3, 3] float32, the same in every call.

    Alexa, Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of SO(3), CVPR 2022.
    """
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    alpha, beta = 2 * math.pi * s / math.sqrt(2), 2 * math.pi * s / _PSI
    x, y = inner * np.sin(alpha), inner * np.cos(alpha)
    z, w = outer * np.sin(beta), outer * np.cos(beta)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0).astype(np.float32)
