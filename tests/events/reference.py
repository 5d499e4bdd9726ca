"""Representations one event at a time, in float64 NumPy: slow, plain and independent."""

import numpy as np


def random_events(rng, count, *, sensor=(48, 64), duration=0.1, beyond=0.0):
    """x, y, t, p; a share `beyond` of the span lies outside sensor and window on every side."""
    height, width = sensor
    x = rng.integers(int(-beyond * width), int(width * (1 + beyond)), count)
    y = rng.integers(int(-beyond * height), int(height * (1 + beyond)), count)
    t = np.sort(rng.uniform(-beyond * duration, duration * (1 + beyond), count))
    return x, y, t.astype(np.float32), rng.integers(0, 2, count)


def used(x, y, t, sensor, window):
    height, width = sensor
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return inside & (t >= np.float32(window[0])) & (t < np.float32(window[1]))


def spread(position, cells, how):
    """[(cell, weight)] along one axis; `position` in cells."""
    if how == "nearest":
        return [(int(np.floor(position)), 1.0)]
    low = int(np.floor(position - 0.5))
    high = position - 0.5 - low
    return [(c, w) for c, w in ((low, 1 - high), (low + 1, high)) if 0 <= c < cells]


def voxel_grid(
    x,
    y,
    t,
    p,
    *,
    bins,
    size,
    sensor,
    window,
    polarity="split",
    time="nearest",
    space="nearest",
    value=None,
):
    channels = bins * (2 if polarity == "split" else 1)
    grid = np.zeros((*size, channels))
    keep = used(x, y, t, sensor, window)
    start, end = np.float32(window).astype(float)
    for xi, yi, ti, pi in zip(x[keep], y[keep], t[keep].astype(float), p[keep], strict=True):
        u = (ti - start) / (end - start)
        if time == "nearest" or bins == 1:
            along = [(int(u * bins), 1.0)]
        else:
            low = min(int(u * (bins - 1)), bins - 2)
            along = [(low, 1 - (u * (bins - 1) - low)), (low + 1, u * (bins - 1) - low)]
        sign = 2 * pi - 1 if polarity == "signed" else 1
        shift = bins * pi if polarity == "split" else 0
        for row, wy in spread((yi + 0.5) * size[0] / sensor[0], size[0], space):
            for column, wx in spread((xi + 0.5) * size[1] / sensor[1], size[1], space):
                for b, wt in along:
                    weight = sign * wx * wy * wt * (1 if value is None else value(ti))
                    grid[row, column, shift + b] += weight
    return grid


def last_times(x, y, t, p, *, size, sensor, window, split=True):
    last = np.full((*size, 2 if split else 1), -np.inf)
    keep = used(x, y, t, sensor, window)
    for xi, yi, ti, pi in zip(x[keep], y[keep], t[keep].astype(float), p[keep], strict=True):
        row = int((2 * yi + 1) * size[0] // (2 * sensor[0]))
        column = int((2 * xi + 1) * size[1] // (2 * sensor[1]))
        channel = pi if split else 0
        last[row, column, channel] = max(last[row, column, channel], ti)
    return last
