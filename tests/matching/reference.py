"""float64 NumPy forms of posejax.matching: materialised, with loops where they are clearer."""

import numpy as np


def centers(shape):
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def correspondence(a, b, counts=None, temperature=None, refine=None):
    """Coordinates and log-partition over all pairs of cells for which `counts` [Na, Nb] is true."""
    shape_a, shape_b, channels = a.shape[:2], b.shape[:2], a.shape[2]
    a, b = (np.asarray(x, np.float64).reshape(-1, channels) for x in (a, b))
    scores = a @ b.T / (np.sqrt(channels) if temperature is None else temperature)
    counts = np.ones(scores.shape, bool) if counts is None else counts
    xy = centers(shape_b)
    coords, log_partition = np.zeros((len(a), 2)), np.zeros(len(a))
    for i, row in enumerate(scores):
        allowed = np.flatnonzero(counts[i])
        if not len(allowed):
            coords[i], log_partition[i] = np.nan, -np.inf
            continue
        peak = row[allowed].max()
        log_partition[i] = peak + np.log(np.exp(row[allowed] - peak).sum())
        if refine is not None:
            best = xy[allowed[np.argmax(row[allowed])]]
            allowed = allowed[np.abs(xy[allowed] - best).max(axis=1) <= refine]
        p = np.exp(row[allowed] - row[allowed].max())
        coords[i] = p @ xy[allowed] / p.sum()
    return coords.reshape(*shape_a, 2), log_partition.reshape(shape_a)


def near_rows(shape_a, shape_b, rows, columns=(-np.inf, np.inf)):
    step = centers(shape_b)[None] - centers(shape_a)[:, None]
    inside = (step[..., 0] >= columns[0]) & (step[..., 0] <= columns[1])
    return inside & (np.abs(step[..., 1]) <= rows)


def near_lines(shape_a, shape_b, fundamental, width):
    a, b = (np.c_[centers(s), np.ones(s[0] * s[1])] for s in (shape_a, shape_b))
    lines = a @ np.asarray(fundamental, np.float64).T
    normal = np.linalg.norm(lines[:, :2], axis=1, keepdims=True)
    return np.abs(lines / normal @ b.T) <= width


def near_guess(shape_a, shape_b, flow, radius):
    guess = np.floor(centers(shape_a) + flow.reshape(-1, 2)) + 0.5
    return np.abs(centers(shape_b)[None] - guess[:, None]).max(axis=-1) <= radius
