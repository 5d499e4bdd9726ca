"""Pictures of an evaluation: a window with its poses drawn in, errors along time, ranges.

Pixels are those of the network's grid, the centre of the first at (0.5, 0.5). What the body looks
like at a pose follows from the view alone: view_intrinsics @ view_from_camera @ camera_from_body.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from posejax.report.figures import COLORS, tidy
from posejax.systems.eventpose.summary import PoseErrors

Example = Mapping[str, np.ndarray]
Wireframe = tuple[np.ndarray, np.ndarray]

TRUTH, ESTIMATE = COLORS[0], COLORS[4]  # over grey events, so that only the poses have colour
AXES = (("x", "#d1242f"), ("y", "#1a8f3c"), ("z", "#1f5fd6"))
AXIS_LENGTH = 0.5  # m
# OFF or early, and ON or late: dark indigo and bright amber differ for every kind of sight.
_FIRST, _SECOND = np.array([0.23, 0.18, 0.48]), np.array([0.90, 0.62, 0.0])
_PAPER = np.array([0.965, 0.965, 0.957])
_GREY = np.array([0.36, 0.38, 0.42])
_NEAREST = 0.05  # m before the camera; nothing closer is drawn
_DASH = (0, (4, 2))
_HALO = [withStroke(linewidth=2.8, foreground="#ffffff")]  # lines stay readable on dense events


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


def strength_and_share(example: Example) -> tuple[np.ndarray, np.ndarray]:
    """How much there is in every pixel [H, W] in [0, 1], and of which kind [H, W] in [0, 1].

    The kind is the share of ON events or, of a frame, how late in the window (its channels are
    consecutive slices of time). Full strength is the 99th percentile of the pixels that hold
    anything, so that one hot pixel does not darken the rest.
    """
    grid = np.maximum(np.nan_to_num(np.asarray(example["grid"], np.float64)), 0)
    channels = grid.shape[-1]
    if "image" in example:
        kind = np.linspace(0, 1, channels) if channels > 1 else np.full(1, 0.5)
    else:
        kind = (np.arange(channels) >= channels // 2) * 1.0
    total = grid.sum(-1)
    held = total[total > 0]
    full = float(np.quantile(held, 0.99)) if held.size else 1.0
    share = np.where(total > 0, grid @ kind / np.where(total > 0, total, 1), 0.5)
    return np.clip(total / full, 0, 1) ** 0.6, share


def paint(strength: np.ndarray, share: np.ndarray) -> np.ndarray:
    """[H, W, 3] in [0, 1]: OFF or early indigo, ON or late amber, on light ground."""
    color = _FIRST + share[..., None] * (_SECOND - _FIRST)
    return _PAPER + strength[..., None] * (color - _PAPER)


def pose_figure(example: Example, wireframe: Wireframe | None = None) -> Figure:
    """One window: what the network saw, the wireframe and the body axes at truth and estimate.

    Args:
      example: `grid` [H, W, C], `pose` and `truth` [4, 4], `view_rotation`, `view_intrinsics`
        [3, 3]; `image` if the grid is a frame.
      wireframe: points [P, 3] m of the body frame and edges [E, 2]; without it there is no such
        panel.
    """
    strength, share = strength_and_share(example)
    panels = 3 if wireframe else 2
    window = _closer(example, wireframe)
    tallest = max(_height(example, w) for w in (_whole(example), window))
    figure = Figure(figsize=(4.6 * panels, 4.5 * tallest + 0.6), layout="constrained")
    first, *overlays = figure.subplots(1, panels)
    _picture(first, paint(strength, share), example)
    names = ("earlier", "later") if "image" in example else ("OFF", "ON")
    first.set_title("what the network sees", fontsize=10, loc="left")
    patches = [
        Line2D([], [], marker="s", linestyle="none", markersize=9, color=tuple(c), label=name)
        for c, name in zip((_FIRST, _SECOND), names, strict=True)
    ]
    _legend(first, patches)

    faint = _PAPER + 0.8 * strength[..., None] * (_GREY - _PAPER)
    for panel in overlays:
        _picture(panel, faint, example)
        panel.set_xlim(window[0], window[1])
        panel.set_ylim(window[3], window[2])
    if window != _whole(example):
        corner, size = (window[0], window[2]), (window[1] - window[0], window[3] - window[2])
        first.add_patch(Rectangle(corner, *size, fill=False, color="#5b6472", linewidth=1))
    if wireframe:
        _draw_wireframe(overlays[0], example, wireframe)
    _draw_axes(overlays[-1], example)
    return figure


def _aspect(example: Example) -> float:
    """Height of a pixel over its width: sensors stretched to a grid are drawn as they see."""
    k = example["view_intrinsics"]
    return float(k[0, 0] / k[1, 1])


def _height(example: Example, window: tuple[float, float, float, float]) -> float:
    """Of a part of the picture, in its widths; at most 1.5."""
    left, right, top, bottom = window
    return min(_aspect(example) * (bottom - top) / (right - left), 1.5)


def _picture(axes: Axes, picture: np.ndarray, example: Example) -> None:
    extent = (0, picture.shape[1], picture.shape[0], 0)
    axes.imshow(picture, extent=extent, aspect=_aspect(example), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#c9ced6")


def _poses(example: Example) -> Iterator[tuple[str, np.ndarray, str, Any, str]]:
    """Name, pose, colour, line style and hat of what is drawn."""
    pose = np.asarray(example["pose"], np.float64)
    remark = ""
    if not np.isfinite(pose).all():
        remark = " (not finite)"
    elif not np.isfinite(_project(example, np.zeros((1, 3)), pose)).all():
        remark = " (behind the camera)"
    yield "truth", np.asarray(example["truth"], np.float64), TRUTH, "-", "{}"
    yield f"estimate{remark}", pose, ESTIMATE, _DASH, r"$\hat{{{}}}$"


def _project(example: Example, points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    rotation = np.asarray(example["view_rotation"], np.float64)
    return project(points, pose, rotation, example["view_intrinsics"])


def _draw_wireframe(axes: Axes, example: Example, wireframe: Wireframe) -> None:
    points, edges = wireframe
    handles = []
    for name, pose, color, *_ in _poses(example):
        ends = _project(example, points, pose)[np.asarray(edges)]  # [E, 2, 2]
        # One line with gaps instead of E lines.
        line = np.concatenate([ends, np.full((len(ends), 1, 2), np.nan)], axis=1).reshape(-1, 2)
        axes.plot(*line.T, color=color, linewidth=1.5, path_effects=_HALO)
        handles.append(Line2D([], [], color=color, linewidth=1.8, label=name))
    axes.set_title("wireframe", fontsize=10, loc="left")
    _legend(axes, handles)


def _draw_axes(axes: Axes, example: Example) -> None:
    tips = np.concatenate([np.zeros((1, 3)), AXIS_LENGTH * np.eye(3)])
    handles = [Line2D([], [], color=color, label=name) for name, color in AXES]
    for name, pose, _, dash, letter in _poses(example):
        distance = 9 if dash == "-" else 20  # letters of near poses side by side
        pixels = _project(example, tips, pose)
        for (axis, color), tip in zip(AXES, pixels[1:], strict=True):
            line = np.stack([pixels[0], tip])
            axes.plot(*line.T, color=color, linestyle=dash, linewidth=2.2, path_effects=_HALO)
            if np.isfinite(line).all():
                away = tip - pixels[0]
                offset = distance * away / max(float(np.linalg.norm(away)), 1e-9) * (1, -1)
                axes.annotate(
                    letter.format(axis), tip, xytext=offset, textcoords="offset points",
                    color=color, fontsize=11, ha="center", va="center", path_effects=_HALO,
                    annotation_clip=True,
                )  # fmt: skip
        handles.append(Line2D([], [], color="#1c2330", linestyle=dash, label=name))
    axes.set_title(f"body axes, {AXIS_LENGTH:g} m long", fontsize=10, loc="left")
    _legend(axes, handles)


def _legend(axes: Axes, handles: list[Line2D]) -> None:
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=len(handles),
        frameon=False, fontsize=9, handlelength=2.2, columnspacing=1.2,
    )  # fmt: skip


def _whole(example: Example) -> tuple[float, float, float, float]:
    height, width = example["grid"].shape[:2]
    return 0.0, float(width), 0.0, float(height)


def _closer(example: Example, wireframe: Wireframe | None) -> tuple[float, float, float, float]:
    """x from, to, y from, to: around the truth, and the estimate if in the picture.

    The whole picture, unless the body takes less than half of it.
    """
    left, right, top, bottom = _whole(example)
    body = np.concatenate([np.zeros((1, 3)), AXIS_LENGTH * np.eye(3), -AXIS_LENGTH * np.eye(3)])
    if wireframe:
        body = np.concatenate([body, wireframe[0]])
    places = [_project(example, body, example["truth"])]
    estimate = _project(example, body, example["pose"])
    if (inside := (estimate >= 0) & (estimate <= (right, bottom))).all():
        places.append(estimate[inside.all(1)])
    at = np.concatenate(places)
    at = at[np.isfinite(at).all(1)]
    if not len(at):
        return left, right, top, bottom
    low, high = at.min(0), at.max(0)
    reach = 0.6 * float((high - low).max())
    if reach > 0.25 * max(right, bottom):
        return left, right, top, bottom
    half = np.minimum(max(reach, 8.0), (right / 2, bottom / 2))
    middle = np.clip((low + high) / 2, half, (right, bottom) - half)
    (x0, y0), (x1, y1) = middle - half, middle + half
    return float(x0), float(x1), float(y0), float(y1)


def error_curves(
    time: np.ndarray, series: Mapping[str, PoseErrors], missing: np.ndarray, title: str
) -> Figure:
    """Position and rotation error of one sequence along time, on logarithmic scales.

    Args:
      time: [N] s, in order.
      series: label -> errors of the N estimates; the first is drawn as points.
      missing: [N] bool, estimates of the first series that are not finite: marked at the top.
      title: name of the sequence.
    """
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    breaks = np.flatnonzero(np.diff(time) > 3.5 * np.median(np.diff(time))) if len(time) > 2 else []
    for axes, kind, unit in zip(panels, ("position", "rotation"), ("m", "deg"), strict=True):
        tidy(axes, "", f"{kind} error ({unit})", title if kind == "position" else "")
        for k, (label, errors) in enumerate(series.items()):
            values = np.array(getattr(errors, kind), np.float64)
            if k == 0:
                values[missing] = np.nan
            # Zero has no place on the scale: below the smallest shown, not absent.
            values = np.maximum(values, 1e-4)
            x, y = np.insert(time, [b + 1 for b in breaks], np.nan), values
            y = np.insert(y, [b + 1 for b in breaks], np.nan)
            if k == 0:
                style = {"marker": "o", "markersize": 2.5, "linewidth": 0.6, "alpha": 0.75}
            else:
                style = {"linewidth": 2.0}
            axes.plot(x, y, color=COLORS[k], label=label, **style)
        if missing.any():
            axes.plot(
                time[missing], np.full(int(missing.sum()), 0.97), "v", color="#1c2330",
                markersize=5, transform=axes.get_xaxis_transform(), label="not finite",
            )  # fmt: skip
        _log_scale(axes)
    panels[0].legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    panels[1].set_xlabel("time (s)")
    return figure


def _log_scale(axes: Axes) -> None:
    """Logarithmic ordinate with plain numbers, at least a decade high."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 10 * low:
        middle = np.sqrt(low * high)
        axes.set_ylim(middle / np.sqrt(10), middle * np.sqrt(10))
        low, high = axes.get_ylim()
    steps = (1.0, 2.0, 5.0) if high < 150 * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def range_scatter(truth: np.ndarray, estimates: Mapping[str, np.ndarray]) -> Figure:
    """Estimated over true range.

    Args:
      truth: [N] m.
      estimates: label -> [N] m; what is not finite, or lies far off the diagonal, is counted in
        the legend instead of drawn.
    """
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = tidy(figure.subplots(), "true range (m)", "estimated range (m)")
    low, high = float(np.min(truth)), float(np.max(truth))
    margin = max(0.05 * (high - low), 0.02 * high)
    shown = (max(low - margin, 0), high + margin)
    axes.plot(shown, shown, color="#5b6472", linewidth=1)
    bound = max(low - 3 * margin, 0), high + 3 * margin
    for k, (label, values) in enumerate(estimates.items()):
        inside = np.isfinite(values) & (values >= bound[0]) & (values <= bound[1])
        outside = int(np.sum(~inside))
        label += f" ({outside} outside)" if outside else ""
        axes.plot(
            truth[inside], values[inside], "os"[k % 2], markersize=3, alpha=0.5, markeredgewidth=0,
            color=COLORS[k], label=label,
        )  # fmt: skip
    axes.set(xlim=shown, ylim=bound)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure
