"""Pictures of a frame: the image with its points on it, and the points from several sides."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from posejax.report.cloud import Cloud
from posejax.report.figures import curves, tidy
from posejax.report.views import show_image

Example = Mapping[str, np.ndarray]
_PAPER, _UNKNOWN = np.array([1.0, 1.0, 1.0]), np.array([0.72, 0.74, 0.77])
_RIGHT, _WRONG = np.array([0.55, 0.72, 0.62]), np.array([0.84, 0.22, 0.0])
_FIELD = 0.9  # focal length of the pictures in their widths
_SIZE = (260, 330)


class Side(NamedTuple):
    """Where a cloud is seen from: about its middle, radians to the left of the camera and above."""

    label: str
    yaw: float
    pitch: float


SIDES = (Side("from the camera", 0.0, 0.0), Side("from the left, above", 0.75, 0.5))


def class_colors(count: int) -> np.ndarray:
    """[count, 3] colours that differ."""
    names = ("tab20", "tab20b", "tab20c")
    table = np.concatenate([colormaps[name](np.arange(20))[:, :3] for name in names])
    return table[np.arange(count) % len(table)]


def principal_colors(features: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[N, 3] in [0, 1]: the three directions in which features [N, C] differ most, as colours.

    Each runs from its 2nd to its 98th percentile over the points of the mask.
    """
    colors = np.tile(_UNKNOWN, (len(features), 1))
    known = np.asarray(features, np.float64)[mask]
    if len(known) < 4:
        return colors
    known = known - known.mean(0)
    _, vectors = np.linalg.eigh(known.T @ known)
    values = known @ vectors[:, ::-1][:, :3]
    values = np.pad(values, ((0, 0), (0, 3 - values.shape[1])))
    low, high = np.quantile(values, [0.02, 0.98], axis=0)
    spread = np.where(high > low, high - low, 1)
    colors[mask] = np.clip((values - low) / spread, 0, 1)
    return colors


def cloud_picture(
    local: np.ndarray,
    colors: np.ndarray,
    side: Side,
    size: tuple[int, int] = _SIZE,
) -> np.ndarray:
    """Points seen from a side; nearer ones hide those behind.

    Args:
      local: [N, 3] metres, camera frame (x right, y down, z ahead).
      colors: [N, 3] in [0, 1].
      side: where from.
      size: (height, width) of the picture.

    Returns:
      [H, W, 3]. The middle of the cloud stays where the camera sees it.
    """
    height, width = size
    picture = np.tile(_PAPER, (height, width, 1))
    if not len(local):
        return picture
    middle = np.median(local, axis=0)
    a, b = -side.yaw, side.pitch
    yaw = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    pitch = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    seen = (local - middle) @ (pitch @ yaw).T + [0, 0, np.linalg.norm(middle)]
    if side.yaw == 0 and side.pitch == 0:
        seen = local
    ahead = seen[:, 2] > 0.05
    seen, colors = seen[ahead], colors[ahead]
    scale = _FIELD * width / seen[:, 2]
    x = np.floor(seen[:, 0] * scale + width / 2).astype(int)
    y = np.floor(seen[:, 1] * scale + height / 2).astype(int)
    # Dots as large as leave no gaps between even points, the nearest painted last.
    reach = int(np.clip(np.rint(np.sqrt(height * width / len(local)) / 2), 1, 3))
    order = np.argsort(-seen[:, 2], kind="stable")
    dot = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, 1, -1)
    i, j = np.stack([y, x])[:, order, None] + dot
    on = (i >= 0) & (i < height) & (j >= 0) & (j < width)
    picture[i[on], j[on]] = np.broadcast_to(colors[order][:, None], (*on.shape, 3))[on]
    return picture


def clouds(example: Example, classes: int) -> dict[str, np.ndarray]:
    """Colours [N, 3] of an example's points, by what they show; no truth without labels."""
    palette, truth = class_colors(classes), example["semantic"]
    known = truth >= 0
    right = (example["class"] == truth)[:, None]
    found = {}
    if known.any():
        found["truth"] = np.where(known[:, None], palette[np.maximum(truth, 0)], _UNKNOWN)
    found["prediction"] = palette[example["class"]]
    if known.any():
        marks = np.where(right, _RIGHT, _WRONG)
        found["right (green), wrong (red)"] = np.where(known[:, None], marks, _UNKNOWN)
    found["features"] = principal_colors(example["fused"], example["mask"])
    gate = colormaps["viridis"](np.clip(example["gate"], 0, 1))[:, :3]
    found["gate: points (dark) to image (bright)"] = np.where(
        example["valid"][:, None], gate, _UNKNOWN
    )
    return found


def thing_colors(thing: np.ndarray) -> np.ndarray:
    """[N, 3] colours of things [N], 1 + their numbers; grey for 0."""
    return np.where((thing > 0)[:, None], class_colors(60)[(thing - 1) % 60], _UNKNOWN)


def frame_figure(example: Example, classes: Sequence[str]) -> Figure:
    """The image, its points on it by true class; then the cloud from each side by what it shows."""
    shown = clouds(example, len(classes))
    mask = np.asarray(example["mask"], bool)
    local = camera_points(example)[mask]
    figure = Figure(figsize=(15.5, 8.6), layout="constrained")
    panels = figure.subplots(len(SIDES) + 1, len(shown))
    for axes in panels[0, 1:]:
        axes.set_axis_off()
    image = np.asarray(example["image"])
    show_image(panels[0, 0], image, "image")
    panels[0, 1].set_axis_on()
    show_image(panels[0, 1], _faint(image), "points on it, by depth")
    on = mask & np.asarray(example["valid"], bool)
    x, y = example["xy"][on].T
    panels[0, 1].scatter(x, y, c=example["depth"][on], cmap="turbo", s=1.5, linewidths=0)
    panels[0, 1].set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    for row, side in enumerate(SIDES, 1):
        for axes, (title, colors) in zip(panels[row], shown.items(), strict=True):
            title = title if row == 1 else side.label
            show_image(axes, cloud_picture(local, colors[mask], side), title)
    there = np.unique(np.concatenate([example["semantic"][mask], example["class"][mask]]))
    palette = class_colors(len(classes))
    handles = [Patch(color=tuple(palette[c]), label=classes[c]) for c in there if c >= 0]
    panels[0, 2].legend(handles=handles, loc="center left", ncols=2, fontsize=8, frameon=False)
    return figure


def turning_cloud(example: Example, classes: int) -> Cloud:
    """The example's points, to be turned by the reader, with their own colours and all others."""
    mask = np.asarray(example["mask"], bool)
    shown = {"photograph": example["colors"], **clouds(example, classes)}
    shown["things"] = thing_colors(example["thing"])
    colors = {name: values[mask] for name, values in shown.items()}
    return Cloud(camera_points(example)[mask], colors, "The frame's points.")


def camera_points(example: Example) -> np.ndarray:
    """[N, 3] metres, camera frame."""
    pose = np.asarray(example["camera_from_world"], np.float64)
    return example["points"] @ pose[:3, :3].T + pose[:3, 3]


def confusion_figure(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """Of the points of a true class (row), the share that is said to be each class (column)."""
    confusion = np.asarray(confusion, np.float64)
    there = np.flatnonzero(confusion.sum(1) > 0).tolist()
    share = confusion[np.ix_(there, there)] / confusion[there].sum(1, keepdims=True)
    names = [classes[c] for c in there]
    side = 2.2 + 0.36 * len(there)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = tidy(figure.subplots(), "said", "true")
    axes.grid(False)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(np.arange(len(there)), names, rotation=90)
    axes.set_yticks(np.arange(len(there)), names)
    for row, column in np.argwhere(share >= 0.05):
        value = share[row, column]
        color = "white" if value > 0.6 else "black"
        text = f"{100 * value:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    return figure


def range_figure(edges: np.ndarray, values: np.ndarray) -> Figure:
    """mIoU over the depth; edges [n + 1] metres, the last bin open; NaN where there is nothing."""
    middle, known = (edges[:-1] + np.minimum(edges[1:], edges[:-1] + 2)) / 2, np.isfinite(values)
    return curves({"mIoU": (middle[known], values[known])}, xlabel="depth (m)", ylabel="mIoU")


def _faint(image: np.ndarray) -> np.ndarray:
    """A photograph on which dots are seen."""
    return (0.35 * image + 0.65 * 255).astype(np.uint8)
