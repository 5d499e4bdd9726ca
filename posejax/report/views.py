"""Pictures of a camera with poses drawn in: wireframes, the axes of a body, colours of two kinds.

Pixels have whole edges: the centre of the first is at (0.5, 0.5), rows grow downwards.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

AXES = (("x", "#d1242f"), ("y", "#1a8f3c"), ("z", "#1f5fd6"))
# Dark indigo and bright amber differ for every kind of sight.
FIRST, SECOND = np.array([0.23, 0.18, 0.48]), np.array([0.90, 0.62, 0.0])
PAPER = np.array([0.965, 0.965, 0.957])
_GREY = np.array([0.36, 0.38, 0.42])
_NEAREST = 0.05  # m before the camera; nothing closer is drawn
_HALO = [withStroke(linewidth=2.8, foreground="#ffffff")]  # lines stay readable on a dense picture

Window = tuple[float, float, float, float]  # x from, x to, y from, y to (pixels)


class Drawn(NamedTuple):
    """A pose that is drawn: camera_from_body [4, 4], and how; hat: of the letters of its axes."""

    label: str
    camera_from_body: np.ndarray
    color: str
    dash: Any = "-"
    hat: str = "{}"


class View(NamedTuple):
    """A pinhole view of a rotated camera: view_from_camera [3, 3], intrinsics [3, 3]."""

    rotation: np.ndarray
    intrinsics: np.ndarray

    def project(self, points: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """See `project`."""
        return project(points, pose, np.asarray(self.rotation, np.float64), self.intrinsics)


def project(
    points: np.ndarray,
    camera_from_body: np.ndarray,
    view_from_camera: np.ndarray,
    intrinsics: np.ndarray,
) -> np.ndarray:
    """Pixels of body points in a view.

    Args:
      points: [P, 3] m, body frame.
      camera_from_body: [4, 4].
      view_from_camera: [3, 3] rotation.
      intrinsics: [3, 3] of the view.

    Returns:
      [P, 2]; NaN for points closer than 5 cm to the camera's plane or behind it, and for poses that
      are not finite.
    """
    pose = np.asarray(camera_from_body, np.float64)
    seen = (np.asarray(points, np.float64) @ pose[:3, :3].T + pose[:3, 3]) @ view_from_camera.T
    ahead = seen[:, 2:] > _NEAREST  # false for NaN
    image = np.where(ahead, seen, 1.0) @ np.asarray(intrinsics, np.float64).T
    return np.where(ahead, image[:, :2] / np.where(ahead, image[:, 2:], 1.0), np.nan)


def strength_and_share(counts: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much there is in every pixel [H, W] in [0, 1], and of which kind [H, W] in [0, 1].

    Full strength is the 99th percentile of the pixels that hold anything, so that one hot pixel
    does not darken the rest.

    Args:
      counts: [H, W, C]; what is negative or not finite counts as nothing.
      kind: [C] in [0, 1], of each channel.
    """
    grid = np.maximum(np.nan_to_num(np.asarray(counts, np.float64)), 0)
    total = grid.sum(-1)
    held = total[total > 0]
    full = float(np.quantile(held, 0.99)) if held.size else 1.0
    share = np.where(total > 0, grid @ kind / np.where(total > 0, total, 1), 0.5)
    return np.clip(total / full, 0, 1) ** 0.6, share


def two_colors(strength: np.ndarray, share: np.ndarray) -> np.ndarray:
    """[H, W, 3] in [0, 1]: share 0 indigo, 1 amber, on light ground."""
    color = FIRST + share[..., None] * (SECOND - FIRST)
    return PAPER + strength[..., None] * (color - PAPER)


def in_grey(strength: np.ndarray) -> np.ndarray:
    """[H, W, 3] in [0, 1]: a faint ground on which only what is drawn over it has colour."""
    return PAPER + 0.8 * strength[..., None] * (_GREY - PAPER)


def show_image(axes: Axes, picture: np.ndarray, title: str, aspect: float = 1.0) -> None:
    """A picture [H, W, 3] without ticks; aspect: height of a pixel over its width."""
    extent = (0, picture.shape[1], picture.shape[0], 0)
    axes.imshow(picture, extent=extent, aspect=aspect, interpolation="nearest")
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#c9ced6")


def draw_edges(axes: Axes, pixels: np.ndarray, edges: np.ndarray, color: str) -> None:
    """Lines between points [P, 2] that edges [E, 2] join: a mesh, a box, a skeleton."""
    ends = pixels[np.asarray(edges)]  # [E, 2, 2]
    # One line with gaps instead of E lines.
    line = np.concatenate([ends, np.full((len(ends), 1, 2), np.nan)], axis=1).reshape(-1, 2)
    axes.plot(*line.T, color=color, linewidth=1.5, path_effects=_HALO)


def draw_axes(axes: Axes, pixels: np.ndarray, style: Drawn) -> None:
    """The axes of a frame with their letters; pixels [4, 2]: its origin, the tips of x, y, z."""
    distance = 9 if style.dash == "-" else 20  # letters of near poses side by side
    for (name, color), tip in zip(AXES, pixels[1:], strict=True):
        line = np.stack([pixels[0], tip])
        axes.plot(*line.T, color=color, linestyle=style.dash, linewidth=2.2, path_effects=_HALO)
        if np.isfinite(line).all():
            away = tip - pixels[0]
            offset = distance * away / max(float(np.linalg.norm(away)), 1e-9) * (1, -1)
            axes.annotate(
                style.hat.format(name),
                tip,
                xytext=offset,
                textcoords="offset points",
                color=color,
                fontsize=11,
                ha="center",
                va="center",
                path_effects=_HALO,
                annotation_clip=True,
            )


def draw_marks(axes: Axes, pixels: np.ndarray, strength: np.ndarray) -> None:
    """Circles at places [N, 2], the larger and darker the stronger [N]."""
    strength = np.clip(np.nan_to_num(strength), 0, 1)
    color = np.broadcast_to([0.11, 0.14, 0.19], (len(pixels), 3))
    color = np.concatenate([color, 0.9 * strength[:, None]], axis=1)
    axes.scatter(
        *pixels.T, s=6 + 30 * strength, facecolors="none", edgecolors=color.tolist(), zorder=3
    )


def draw_window(axes: Axes, window: Window) -> None:
    """Frame of the part of a picture that other panels show closer."""
    corner, size = (window[0], window[2]), (window[1] - window[0], window[3] - window[2])
    axes.add_patch(Rectangle(corner, *size, fill=False, color="#5b6472", linewidth=1))


def legend_below(axes: Axes, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Legend under the axes: label -> properties of its line."""
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        handlelength=2.2,
        columnspacing=1.2,
    )


def closer(needed: np.ndarray, wanted: Sequence[np.ndarray], size: tuple[int, int]) -> Window:
    """Window around some points; the whole picture, unless they take less than half of it.

    Args:
      needed: [P, 2] pixels; those that are not finite are left out.
      wanted: more sets of points, each shown if the whole of it lies in the picture.
      size: (width, height) of the picture.
    """
    right, bottom = map(float, size)
    whole = (0.0, right, 0.0, bottom)
    inside = [w for w in wanted if ((w >= 0) & (w <= (right, bottom))).all()]
    at = np.concatenate([needed, *inside])
    at = at[np.isfinite(at).all(1)]
    if not len(at):
        return whole
    low, high = at.min(0), at.max(0)
    reach = 0.6 * float((high - low).max())
    if reach > 0.25 * max(right, bottom):
        return whole
    half = np.minimum(max(reach, 8.0), (right / 2, bottom / 2))
    middle = np.clip((low + high) / 2, half, (right, bottom) - half)
    (x0, y0), (x1, y1) = middle - half, middle + half
    return float(x0), float(x1), float(y0), float(y1)


def pose_panels(
    picture: np.ndarray,
    faint: np.ndarray,
    view: View,
    poses: Sequence[Drawn],
    *,
    title: str,
    kinds: Mapping[str, np.ndarray],
    wireframe: tuple[np.ndarray, np.ndarray] | None = None,
    axis_length: float = 0.5,
    marks: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """A picture, and a wireframe and the axes of a body drawn over it at several poses.

    Args:
      picture: [H, W, 3] in [0, 1], in the first panel.
      faint: the same in grey, under what is drawn; shown closer where the body is small.
      view: what the picture is seen through.
      poses: the first is the truth, which the closer view must hold.
      title: of the picture.
      kinds: label -> colour [3], the legend of the picture.
      wireframe: points [P, 3] m of the body frame and edges [E, 2]; without it there is no such
        panel.
      axis_length: m.
      marks: pixels [N, 2] and strengths [N] in [0, 1] of places to mark, in the panel after the
        first.
    """
    height, width = picture.shape[:2]
    tips = axis_length * np.concatenate([np.zeros((1, 3)), np.eye(3)])
    body = np.concatenate([tips, -tips, *(wireframe[:1] if wireframe else ())])
    whole = (0.0, float(width), 0.0, float(height))
    needed, *wanted = (view.project(body, pose.camera_from_body) for pose in poses)
    window = closer(needed, wanted, (width, height))
    # Sensors stretched to a grid are drawn as they see.
    aspect = float(view.intrinsics[0, 0] / view.intrinsics[1, 1])
    tallest = max(min(aspect * (w[3] - w[2]) / (w[1] - w[0]), 1.5) for w in (whole, window))
    panels = 3 if wireframe else 2
    figure = Figure(figsize=(4.6 * panels, 4.5 * tallest + 0.6), layout="constrained")
    first, *overlays = figure.subplots(1, panels)
    show_image(first, picture, title, aspect)
    if window != whole:
        draw_window(first, window)
    square = {"marker": "s", "linestyle": "none", "markersize": 9}
    legend_below(first, {label: {**square, "color": tuple(c)} for label, c in kinds.items()})

    for panel in overlays:
        show_image(panel, faint, f"body axes, {axis_length:g} m long", aspect)
        panel.set(xlim=window[:2], ylim=(window[3], window[2]))
    if marks is not None:
        draw_marks(overlays[0], *marks)
    labels = [pose.label + _remark(view, pose.camera_from_body) for pose in poses]
    if wireframe:
        overlays[0].set_title("wireframe", fontsize=10, loc="left")
        for pose in poses:
            pixels = view.project(wireframe[0], pose.camera_from_body)
            draw_edges(overlays[0], pixels, wireframe[1], pose.color)
        lines = {
            k: {"color": p.color, "linewidth": 1.8} for k, p in zip(labels, poses, strict=True)
        }
        legend_below(overlays[0], lines)
    for pose in poses:
        draw_axes(overlays[-1], view.project(tips, pose.camera_from_body), pose)
    lines = {name: {"color": color} for name, color in AXES}
    for label, pose in zip(labels, poses, strict=True):
        lines[label] = {"color": "#1c2330", "linestyle": pose.dash}
    legend_below(overlays[-1], lines)
    return figure


def _remark(view: View, pose: np.ndarray) -> str:
    """Why a pose cannot be seen."""
    if not np.isfinite(pose).all():
        return " (not finite)"
    seen = np.isfinite(view.project(np.zeros((1, 3)), pose)).all()
    return "" if seen else " (behind the camera)"
