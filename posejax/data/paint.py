"""Road paint in a LiDAR sweep: how much brighter a ground return is than its beam's neighbours."""

import numpy as np

_WINDOW = 41  # returns of one beam that form the background: some metres of road
_STEP = 8  # the background is evaluated at each eighth return


def paint_contrast(
    xyz: np.ndarray, intensity: np.ndarray, ring: np.ndarray, ground: np.ndarray
) -> np.ndarray:
    """Robust contrast of every ground return within its own beam, in [0, 1].

    Intensity depends on the beam, the range and the angle of incidence as much as on the surface.
    Along one beam these change slowly while paint is a short spike, so the running median is the
    background and (value - median) / (median absolute deviation + 0.02) needs no calibration.
    It is divided by 4 and clipped: 1 is certainly paint.

    Args:
      xyz: [N, 3] points (m) around the sensor's axis.
      intensity: [N] in [0, 1].
      ring: [N] beam numbers.
      ground: [N] bool, the returns that count; the others get 0.

    Returns:
      [N] float32.
    """
    contrast = np.zeros(len(xyz), np.float32)
    members = np.flatnonzero(ground)
    azimuth = np.arctan2(xyz[members, 1], xyz[members, 0])
    members = members[np.lexsort((azimuth, ring[members]))]
    edges = np.flatnonzero(np.diff(ring[members])) + 1
    for beam in np.split(members, edges):
        if len(beam) < _WINDOW:
            continue
        value = intensity[beam].astype(np.float32)
        background = _running_median(value)
        spread = _running_median(np.abs(value - background))
        contrast[beam] = (value - background) / (4 * (spread + 0.02))
    return np.clip(contrast, 0, 1)


def _running_median(values: np.ndarray) -> np.ndarray:
    """Median over a window around each value; the beam closes on itself."""
    half = _WINDOW // 2
    padded = np.concatenate([values[-half:], values, values[:half]])
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_STEP]
    middle = np.partition(windows, half, axis=1)[:, half]
    return np.repeat(middle, _STEP)[: len(values)]
