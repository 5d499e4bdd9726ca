"""Pictures of a frame: its cameras with the boxes, and what the network makes of it from above."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from posejax.data.cameras import project
from posejax.report.figures import COLORS, curves, tidy
from posejax.report.views import draw_edges, show_image

Example = Mapping[str, np.ndarray]
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
_EDGES = np.array([[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 3],
                   [2, 6], [3, 7], [4, 5], [4, 6], [5, 7], [6, 7]])  # fmt: skip
_CUTS = np.linspace(0, 1, 17)  # along an edge: the part before the camera is drawn, in pieces
_TRUTH, _FOUND, _BOTH = (0.84, 0.37, 0.0), (0.0, 0.45, 0.70), (0.0, 0.62, 0.45)
_TRUE = "truth; grey: hardly visible"
_OVERLAY = "found blue, missed orange, both green"
_COLUMNS = 3


class Setting(NamedTuple):
    """What the examples of an evaluation share: bounds of the maps (metres) and names of cameras.

    lower, upper: (x, z) of the maps' first and last corner. reference: the camera that tells most.
    """

    lower: tuple[float, float]
    upper: tuple[float, float]
    cameras: tuple[str, ...]
    reference: str = ""


def frame_figure(example: Example, setting: Setting) -> Figure:
    """Cameras with the boxes that are looked for, then the maps, ahead upwards."""
    rows = -(-len(setting.cameras) // _COLUMNS)
    height, width = example["images"].shape[1:3]
    tall = rows * (4.8 * height / width + 0.25)
    figure = Figure(figsize=(14.4, tall + 7.6))
    figure.set_layout_engine("constrained", h_pad=0.08)
    parts: Any = figure.subfigures(2, 1, height_ratios=[tall, 7.6])
    cameras = np.atleast_2d(parts[0].subplots(rows, _COLUMNS, squeeze=False)).ravel()
    for n, axes in enumerate(cameras):
        if n < len(setting.cameras):
            _camera(axes, example, setting, n, setting.cameras[n])
        else:
            axes.set_axis_off()
    panels = parts[1].subplots(2, 4).ravel()
    for axes, (title, picture) in zip(panels[:-1], maps(example).items(), strict=True):
        show_map(axes, picture, setting, title)
    _show_directions(panels[-1])
    return figure


def strip_figure(examples: Sequence[Example], setting: Setting) -> Figure:
    """Frames that follow one another, one a column: a camera, the true map, what is found."""
    n = setting.cameras.index(setting.reference) if setting.reference in setting.cameras else 0
    height, width = examples[0]["images"].shape[1:3]
    (left, rear), (right, front) = setting.lower, setting.upper
    tall = [height / width, *2 * [(front - rear) / (right - left)]]
    figure = Figure(figsize=(2.6 * len(examples) + 0.5, 2.6 * sum(tall) + 0.7))
    figure.set_layout_engine("constrained", h_pad=0.05, w_pad=0.02)
    panels = figure.subplots(3, len(examples), squeeze=False, height_ratios=tall, sharey="row")
    for column, example in zip(panels.T, examples, strict=True):
        pictures, first = maps(example), example is examples[0]
        name = f"{setting.cameras[n]}, " if first else ""
        _camera(column[0], example, setting, n, f"{name}frame {int(example['index'])}")
        for axes, title in zip(column[1:], (_TRUE, _OVERLAY), strict=True):
            show_map(axes, pictures[title], setting, title if first else "")
            axes.set(xlabel="", ylabel="ahead (m)" if first else "")
    return figure


def maps(example: Example) -> dict[str, np.ndarray]:
    """Pictures [Z, X, 3] of an example, by title."""
    truth, valid = example["target_map"] > 0.5, example["valid_map"] > 0.5
    found, full = example["logits"] > 0, _longest(example["target_offset"])
    coverage = np.minimum(example["coverage"], 3) / 3
    return {
        _TRUE: _painted(truth.shape, [(truth, _BOTH), (~valid, (0.6, 0.6, 0.6))]),
        "probability: dark 0, light 1": colormaps["magma"](example["probability"])[..., :3],
        _OVERLAY: _overlay(truth, valid, found),
        "centres: true red, found green": _pair(example["target_center"], example["center"]),
        "true offsets": _offsets(example["target_offset"], truth, full),
        "offsets found, of cells found": _offsets(example["offset"], found, full),
        "cameras: 0 violet, 1 blue, 2 green, 3+ yellow": colormaps["viridis"](coverage)[..., :3],
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
    axes.text(0.02, 0.96, "too rarely said", color="#5b6472", fontsize=9, va="top")
    axes.text(0.98, 0.02, "too often said", color="#5b6472", fontsize=9, ha="right")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    tidy(below, "probability", "cells")
    edges = np.arange(len(count) + 1) / len(count)
    below.bar(edges[:-1], np.maximum(count, 0.5), 1 / len(count), align="edge", color=COLORS[0])
    below.set_yscale("log")
    below.yaxis.set_minor_formatter(NullFormatter())
    return figure


def distance_figure(edges: np.ndarray, iou: np.ndarray) -> Figure:
    """IoU over the distance from the reference camera, as far as there is anything."""
    middle, known = (np.asarray(edges)[1:] + np.asarray(edges)[:-1]) / 2, np.isfinite(iou)
    return curves({"IoU": (middle[known], iou[known])}, xlabel="distance (m)", ylabel="IoU")


def box_lines(example: Example, setting: Setting, camera: int) -> np.ndarray:
    """[S, 2, 2] pixels: pieces of the edges of all boxes on the map that lie before the camera."""
    pose, low, high = example["grid_from_box"], np.array(setting.lower), np.array(setting.upper)
    place = pose[:, [0, 2], 3]
    there = example["box_present"].astype(bool) & ((place > low) & (place < high)).all(1)
    size, pose = example["box_size"][there], pose[there]
    corners = np.einsum("nij,nkj->nki", pose[:, :3, :3], size[:, None] * _CORNERS)
    corners = corners + pose[:, None, :3, 3]
    a, b = corners[:, _EDGES[:, 0], None], corners[:, _EDGES[:, 1], None]
    points = (a + (b - a) * _CUTS[:, None]).reshape(-1, len(_CUTS), 3)
    camera_from_grid = np.asarray(example["camera_from_grid"][camera], np.float64)
    local = points @ camera_from_grid[:3, :3].T + camera_from_grid[:3, 3]
    pixels, valid = project(local, example["intrinsics"][camera], min_depth=0.1)
    pieces = np.stack([pixels[:, :-1], pixels[:, 1:]], axis=2)
    return pieces[valid[:, :-1] & valid[:, 1:]]


def _camera(axes: Axes, example: Example, setting: Setting, n: int, title: str) -> None:
    image = example["images"][n]
    height, width = image.shape[:2]
    if not example["camera_mask"][n]:
        show_image(axes, np.full_like(image, 40), f"{title}: missing")
        return
    show_image(axes, image, title)
    lines = box_lines(example, setting, n)
    inside = np.all((lines >= 0) & (lines <= (width, height)), axis=-1)
    lines = lines[np.any(inside, axis=-1)]
    draw_edges(axes, lines.reshape(-1, 2), np.arange(2 * len(lines)).reshape(-1, 2), "#ffd400")
    axes.set(xlim=(0, width), ylim=(height, 0))


def _show_directions(axes: Axes) -> None:
    """The colours of offsets, by where a cell lies as seen from the centre of its vehicle."""
    z, x = np.mgrid[-1:1:101j, -1:1:101j]
    disc = _offsets(np.stack([x, z], axis=-1), np.hypot(x, z) <= 1, 1.0)
    axes.imshow(np.where((np.hypot(x, z) <= 1)[..., None], disc, 1.0), origin="lower",
                extent=(-1, 1, -1, 1))  # fmt: skip
    for x, z, name in (
        (0, 1.15, "ahead"),
        (0, -1.15, "behind"),
        (1.3, 0, "right"),
        (-1.3, 0, "left"),
    ):
        axes.text(x, z, name, ha="center", va="center", fontsize=9)
    axes.set_title("offset of a cell from its centre", fontsize=10, loc="left")
    axes.set(xlim=(-1.8, 1.8), ylim=(-1.8, 1.8), aspect="equal")
    axes.set_axis_off()


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
