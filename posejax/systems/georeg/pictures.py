"""Pictures of one registration: rasters, overlays in the geo frame, the volume and its readings."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from posejax.data.rasters import lay_raster
from posejax.report import rasters
from posejax.report.figures import COLORS, marked_bars, tidy

Example = Mapping[str, np.ndarray]

TRUTH, ESTIMATE = "#00b36b", "#e6007e"  # their sum is near white: what agrees turns pale
# Name, label, sign and colour on the dark volume; colour and dashes on white.
_READINGS = (
    ("pose", "truth", "+", "#4dff9e", TRUTH, "-"),
    ("argmax", "argmax", "s", "#ffffff", "#1c2330", ":"),
    ("softmax", "softmax, 95 %", "o", "#ff5ab4", ESTIMATE, "--"),
    ("gaussian", "gaussian", "x", "#5ac8ff", COLORS[0], "-."),
)


class Setting(NamedTuple):
    """What the examples of an evaluation share.

    cell_size, volume_cell_size: of the rasters and of the pose volume (m).
    angles: [K] yaws of the volume (rad). radius: of the volume, in its cells.
    online_channels, geo_channels: names of the channels; "aerial" may stand for three.
    """

    cell_size: float
    volume_cell_size: float
    angles: np.ndarray
    radius: int
    online_channels: Sequence[str]
    geo_channels: Sequence[str]


def registration_figure(
    example: Example, setting: Setting, shown: Mapping[str, rasters.Display]
) -> Figure:
    """All pictures of one example: rasters, overlays, volume, yaw and, if given, features.

    The truth (`pose`) is left out where nobody knows it.
    """
    features = "online_features" in example and "geo_features" in example
    figure = Figure(figsize=(15.2, 3.9 * (2 + features)), layout="constrained")
    axes = figure.subplots(2 + features, 4)
    cell, mask = setting.cell_size, example["online_mask"]
    online, geo = (rasters.paint(example[k], example[f"{k}_mask"], d) for k, d in shown.items())
    rasters.show_raster(axes[0, 0], online, cell, f"online: {shown['online'].name}")
    axes[0, 0].set(xlabel="x, forward (m)", ylabel="y, left (m)")
    rasters.show_raster(axes[0, 1], geo, cell, f"geo: {shown['geo'].name}")

    ground = np.repeat(geo.mean(2, keepdims=True), 3, axis=2)
    # The square root lifts the many faint cells of a laser raster out of the dark.
    brightness = np.sqrt(online.mean(2, keepdims=True))
    both = np.zeros_like(ground)
    poses = (("pose", TRUTH, "at the truth"), ("softmax", ESTIMATE, "at the softmax estimate"))
    for panel, (name, color, title) in zip(axes[0, 2:], poses, strict=True):
        if name not in example:
            panel.set_axis_off()
            continue
        light = lay_raster(brightness, mask, example[name], ground.shape[:2], cell)
        picture = 0.7 * ground * (1 - light) + to_rgb(color) * light
        rasters.show_raster(panel, picture, cell, f"online over geo {title}")
        both = both + to_rgb(color) * light
    title = "truth (green), estimate (pink), both (pale)" if "pose" in example else "estimate"
    rasters.show_raster(axes[1, 0], np.clip(both, 0, 1), cell, title)

    _volume(axes[1, 1], axes[1, 2], example, setting)
    _yaw(axes[1, 3], example, setting.angles)
    if features:
        _features(axes[2], example, setting.volume_cell_size)
    return figure


def _volume(whole: Axes, zoom: Axes, example: Example, setting: Setting) -> None:
    """Log-volume summed over yaw: the whole window, and the surroundings of the readings."""
    ellipses = {"softmax": example["covariance"][:2, :2]} if "covariance" in example else {}
    markers = [
        rasters.Marker(example[k][0], example[k][1], label, sign, color, ellipses.get(k))
        for k, label, sign, color, *_ in _READINGS
        if k in example
    ]
    scores = rasters.log_sum(example["log_prob"], axis=0)
    rasters.show_log_scores(whole, zoom, scores, setting.volume_cell_size, markers)


def _yaw(axes: Axes, example: Example, angles: np.ndarray) -> None:
    """Probability of each yaw, summed over the window, with the readings."""
    weight = np.exp(rasters.log_sum(example["log_prob"].reshape(len(angles), -1), axis=1))
    tidy(axes, "yaw (deg)", "probability", "yaw, summed over the window")
    given = [r for r in _READINGS if r[0] in example]
    marks = {r[1]: (float(np.rad2deg(example[r[0]][2])), *r[4:]) for r in given}
    variance = max(float(example["covariance"][2, 2]), 0.0) if "covariance" in example else np.nan
    middle, half = np.rad2deg(float(example["softmax"][2])), 1.96 * np.rad2deg(np.sqrt(variance))
    weight = weight / max(weight.sum(), 1e-300)
    span = (middle - half, middle + half, ESTIMATE)
    marked_bars(axes, np.rad2deg(angles), weight, marks, span=span)


def _features(axes: Sequence[Axes], example: Example, cell: float) -> None:
    """Features, and where the score at the softmax estimate comes from."""
    online, geo = (np.asarray(example[f"{n}_features"], np.float64) for n in ("online", "geo"))
    mask = np.ones(online.shape[:2])
    moved = lay_raster(online, mask, example["softmax"], geo.shape[:2], cell)
    titles = ("online features", "geo features", "online features at the estimate")
    rasters.show_features(axes, dict(zip(titles, (online, geo, moved), strict=True)), cell)
