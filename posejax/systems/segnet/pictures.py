"""Pictures of a frame: its cameras with the boxes, and what the network makes of it from above."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure

from posejax.data.cameras import project
from posejax.report.figures import COLORS, curves, tidy
from posejax.report.views import draw_edges, show_image

Example = Mapping[str, np.ndarray]
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
_EDGES = np.array([[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 3],
                   [2, 6], [3, 7], [4, 5], [4, 6], [5, 7], [6, 7]])  # fmt: skip
_CUTS = np.linspace(0, 1, 17)  # along an edge: the part before the camera is drawn, in pieces
_TRUTH, _FOUND, _BOTH = (0.84, 0.37, 0.0), (0.0, 0.45, 0.70), (0.0, 0.62, 0.45)
_COLUMNS = 3


class Setting(NamedTuple):
    """What the examples of an evaluation share: bounds of the maps (metres) and names of cameras.

    lower, upper: (x, z) of the maps' first and last corner.
    """

    lower: tuple[float, float]
    upper: tuple[float, float]
    cameras: tuple[str, ...]


def frame_figure(example: Example, setting: Setting) -> Figure:
    """Cameras with the boxes that are looked for, then the maps, ahead upwards."""
    rows = -(-len(setting.cameras) // _COLUMNS)
    height, width = example["images"].shape[1:3]
    tall = 4.2 * height / width
    figure = Figure(figsize=(12.6, rows * (tall + 0.25) + 8.4), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[rows * (tall + 0.25), 8.4])
    cameras = np.atleast_2d(parts[0].subplots(rows, _COLUMNS, squeeze=False)).ravel()
    for n, axes in enumerate(cameras):
        if n < len(setting.cameras):
            _camera(axes, example, n, setting.cameras[n])
        else:
            axes.set_axis_off()
    panels = parts[1].subplots(2, 3)
    for axes, (title, picture) in zip(panels.ravel(), maps(example).items(), strict=True):
        show_map(axes, picture, setting, title)
    return figure


def maps(example: Example) -> dict[str, np.ndarray]:
    """Pictures [Z, X, 3] of an example, by title."""
    truth, valid = example["target_map"] > 0.5, example["valid_map"] > 0.5
    found = example["logits"] > 0
    dark = colormaps["magma"]
    return {
        "truth (grey: hardly visible)": _painted(
            truth.shape, [(truth, _BOTH), (~valid, (0.6, 0.6, 0.6))]
        ),
        "probability": dark(example["probability"])[..., :3],
        "found (blue), missed (orange), both (green)": _overlay(truth, valid, found),
        "centres: true (red), found (green)": _pair(example["target_center"], example["center"]),
        "offsets to the centre: colour is direction": _offsets(
            example["offset"], found, _longest(example["target_offset"])
        ),
        "cameras that see a column": colormaps["viridis"](np.minimum(example["coverage"], 3) / 3)[
            ..., :3
        ],
    }


def show_map(axes: Axes, picture: np.ndarray, setting: Setting, title: str) -> None:
    """A map with ahead upwards, axes in metres, the reference camera marked."""
    (left, rear), (right, front) = setting.lower, setting.upper
    axes.imshow(picture, origin="lower", extent=(left, right, rear, front), interpolation="nearest")
    axes.plot(0, 0, marker="^", color="#e6007e", markersize=6, markeredgecolor="white")
    axes.set_title(title, fontsize=10, loc="left")
    axes.set(xlabel="right (m)", ylabel="ahead (m)")
    axes.tick_params(labelsize=8)


def reliability_figure(bins: np.ndarray) -> Figure:
    """How often cells of a probability are vehicles; bins [n, 4], see `objective.example_sums`."""
    count, probability, positive, _ = np.asarray(bins, np.float64).T
    there = count > 0
    figure = Figure(figsize=(4.8, 5.4), layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    tidy(axes, "", "share of vehicles")
    axes.plot([0, 1], [0, 1], color="#5b6472", linewidth=1)
    said = probability[there] / count[there]
    axes.plot(said, positive[there] / count[there], marker="o", color=COLORS[0])
    axes.set(xlim=(0, 1), ylim=(0, 1))
    tidy(below, "probability", "cells")
    edges = np.arange(len(count) + 1) / len(count)
    below.bar(edges[:-1], np.maximum(count, 0.5), width=1 / len(count), align="edge", bottom=0)
    below.set_yscale("log")
    return figure


def distance_figure(edges: np.ndarray, series: Mapping[str, np.ndarray]) -> Figure:
    """IoU over the distance from the reference camera."""
    middle = (np.asarray(edges)[1:] + np.asarray(edges)[:-1]) / 2
    return curves(
        {label: (middle, values) for label, values in series.items()},
        xlabel="distance (m)", ylabel="IoU",
    )  # fmt: skip


def box_lines(example: Example, camera: int) -> np.ndarray:
    """[S, 2, 2] pixels: pieces of the edges of all boxes that lie before the camera."""
    there = example["box_present"].astype(bool)
    size, pose = example["box_size"][there], example["grid_from_box"][there]
    corners = np.einsum("nij,nkj->nki", pose[:, :3, :3], size[:, None] * _CORNERS)
    corners = corners + pose[:, None, :3, 3]
    a, b = corners[:, _EDGES[:, 0], None], corners[:, _EDGES[:, 1], None]
    points = (a + (b - a) * _CUTS[:, None]).reshape(-1, len(_CUTS), 3)
    camera_from_grid = np.asarray(example["camera_from_grid"][camera], np.float64)
    local = points @ camera_from_grid[:3, :3].T + camera_from_grid[:3, 3]
    pixels, valid = project(local, example["intrinsics"][camera], min_depth=0.1)
    pieces = np.stack([pixels[:, :-1], pixels[:, 1:]], axis=2)
    return pieces[valid[:, :-1] & valid[:, 1:]]


def _camera(axes: Axes, example: Example, n: int, name: str) -> None:
    image = example["images"][n]
    height, width = image.shape[:2]
    if not example["camera_mask"][n]:
        show_image(axes, np.full_like(image, 40), f"{name}: missing")
        return
    show_image(axes, image, name)
    lines = box_lines(example, n)
    inside = ((lines >= 0) & (lines <= (width, height))).all((1, 2))
    lines = lines[inside]
    draw_edges(axes, lines.reshape(-1, 2), np.arange(2 * len(lines)).reshape(-1, 2), "#ffd400")
    axes.set(xlim=(0, width), ylim=(height, 0))


def _painted(shape: tuple[int, ...], layers: list) -> np.ndarray:
    picture = np.full((*shape, 3), 0.08)
    for mask, color in layers:
        picture[mask] = color
    return picture


def _overlay(truth: np.ndarray, valid: np.ndarray, found: np.ndarray) -> np.ndarray:
    layers = [
        (truth & ~found, _TRUTH), (found & ~truth, _FOUND), (found & truth, _BOTH),
        (~valid, (0.35, 0.35, 0.35)),
    ]  # fmt: skip
    return _painted(truth.shape, layers)


def _pair(red: np.ndarray, green: np.ndarray) -> np.ndarray:
    none = np.zeros_like(red)
    return np.clip(np.stack([red, green, none], axis=-1), 0, 1)


def _longest(offset: np.ndarray) -> float:
    """Length of an offset that is drawn at full strength, in cells."""
    return max(1.0, float(np.quantile(np.abs(offset), 0.999)))


def _offsets(offset: np.ndarray, where: np.ndarray, full: float) -> np.ndarray:
    angle = np.arctan2(offset[..., 1], offset[..., 0]) / (2 * np.pi) % 1
    length = np.clip(np.hypot(offset[..., 0], offset[..., 1]) / full, 0, 1)
    colors = hsv_to_rgb(np.stack([angle, length, np.ones_like(angle)], axis=-1))
    return np.where(where[..., None], colors, 0.08)
