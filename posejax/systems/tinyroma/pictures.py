"""Pictures of one matched pair: matches, epipolar lines, the warp in three views, its error.

Pixels have whole edges: the centre of the first is at (0.5, 0.5), rows grow downwards.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, hsv_to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from posejax.data.images import resize_image
from posejax.report.figures import COLORS
from posejax.report.views import show_image
from posejax.systems.tinyroma.epipolar_lines import (
    Fundamentals,
    epipolar_distance,
    fundamentals,
    line_in,
)

Example = Mapping[str, Any]

RIGHT, WRONG = COLORS[2], COLORS[4]
_GAP = 12  # pixels between two images side by side
_LINES = 60  # matches drawn
_EPIPOLAR = 7
_RIGHT_PX = 3.0  # of the true epipolar line
_HALO = [withStroke(linewidth=2.6, foreground="#ffffff")]
_UNKNOWN, _HIDDEN = 0.86, 0.70  # grey of cells without truth, and of those that B does not see


def matching_figure(example: Example) -> Figure:
    """All pictures of a pair; what is not known (pose, fundamental matrix, true warp) is left out.

    Args:
      example: `image_a`, `image_b` uint8 [H, W, 3]; `warp` [h, w, 2] pixels of B and `certainty`
        [h, w], a grid over A; `matches_a`, `matches_b` [n, 2] and `inliers` [n], with `weights`
        [n] that are zero for padding. Of the estimate `fundamental` [3, 3], or `b_from_a` [4, 4]
        with `K_a`, `K_b`; of the truth `true_b_from_a` with `has_pose` 1, and `target_4`,
        `visible_4`, `known_4` of the warp's shape.
    """
    height, width = example["image_a"].shape[:2]
    panel, pair = 3.6 * height / width, _pair_height(example)
    figure = Figure(figsize=(15.2, panel + pair + 0.6), layout="constrained")
    grid = figure.add_gridspec(2, 4, height_ratios=[pair, panel])
    lines = fundamentals(example)
    top = [figure.add_subplot(grid[0, k : k + 2]) for k in (0, 2)]
    draw_matches(top[0], example, lines.truth)
    draw_epipolar(top[1], example, lines)
    blended, colors, certainty, last = (figure.add_subplot(grid[1, k]) for k in range(4))
    seen = sampled(example["image_b"], full_warp(example))
    sure = resize_image(np.asarray(example["certainty"], np.float32), (height, width))
    show_image(blended, blend(example["image_a"], seen, sure), "A and B at the warp, half each")
    draw_flow(colors, example)
    draw_certainty(certainty, example)
    if _has_warp(example):
        draw_error(last, example)
    else:
        show_image(last, seen / 255, "B at the warp")
    return figure


def full_warp(example: Example) -> np.ndarray:
    """The warp [H, W, 2] at every pixel of A."""
    return resize_image(np.asarray(example["warp"], np.float32), example["image_a"].shape[:2])


def sampled(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Values [H, W, 3] float32 of an image at pixels [H, W, 2], bilinear; the border goes on."""
    height, width = image.shape[:2]
    at = np.nan_to_num(np.asarray(xy, np.float64)) - 0.5
    at = np.clip(at, 0, (width - 1, height - 1))
    low = np.minimum(np.floor(at).astype(int), (max(width - 2, 0), max(height - 2, 0)))
    across, down = np.moveaxis(at - low, -1, 0)[..., None]
    x, y = np.moveaxis(low, -1, 0)
    right, below = np.minimum(x + 1, width - 1), np.minimum(y + 1, height - 1)
    first = image[y, x] * (1 - across) + image[y, right] * across
    second = image[below, x] * (1 - across) + image[below, right] * across
    return (first * (1 - down) + second * down).astype(np.float32)


def blend(image_a: np.ndarray, seen: np.ndarray, certainty: np.ndarray) -> np.ndarray:
    """[H, W, 3] in [0, 1]: half A, half what the warp brings from B; pale A where it is unsure."""
    a = image_a.astype(np.float32) / 255
    pale = 0.75 + 0.25 * a.mean(-1, keepdims=True)
    sure = np.clip(certainty, 0, 1)[..., None]
    return np.clip(sure * (0.5 * a + 0.5 * seen / 255) + (1 - sure) * pale, 0, 1)


def flow_colors(flow: np.ndarray, reach: float) -> np.ndarray:
    """[..., 3] in [0, 1] of displacements [..., 2]: hue is direction, white is none.

    Args:
      reach: displacement of full colour, pixels; longer ones darken.
    """
    flow = np.nan_to_num(np.asarray(flow, np.float64))
    length = np.linalg.norm(flow, axis=-1) / max(reach, 1e-9)
    hue = (np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi)) % 1
    value = np.where(length > 1, np.maximum(1.4 - 0.4 * length, 0.45), 1)
    return hsv_to_rgb(np.stack([hue, np.clip(length, 0, 1), value], axis=-1))


def side_by_side(example: Example) -> tuple[np.ndarray, float, int]:
    """A and B on one canvas [H, W, 3] in [0, 1], B scaled to A's height: scale, x of its edge."""
    a, b = example["image_a"], example["image_b"]
    scale = a.shape[0] / b.shape[0]
    b = resize_image(b, (a.shape[0], max(1, round(scale * b.shape[1]))))
    gap = np.full((a.shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([a, gap, b], axis=1) / 255, scale, a.shape[1] + _GAP


def draw_matches(axes: Axes, example: Example, truth: np.ndarray | None) -> None:
    """Inlier matches as lines between the images; green and red where the truth judges them."""
    canvas, scale, edge = side_by_side(example)
    inliers = np.asarray(example["inliers"], bool)
    a, b = (np.asarray(example[k], np.float64) for k in ("matches_a", "matches_b"))
    count = np.sum(np.asarray(example.get("weights", inliers >= 0)) > 0)
    title = f"{inliers.sum()} inliers of {count} matches"
    kept = np.flatnonzero(inliers)
    # From left to right in A, so that neighbours differ in colour by little and none is hidden.
    kept = kept[np.argsort(a[kept, 0], kind="stable")]
    if truth is not None and len(kept):
        right = epipolar_distance(truth, a[kept], b[kept]) < _RIGHT_PX
        title += f"; {right.mean():.0%} of them within {_RIGHT_PX:g} px of the true line (green)"
    shown = kept[np.linspace(0, len(kept) - 1, min(_LINES, len(kept))).round().astype(int)]
    if truth is None:
        shade = np.linspace(0, 1, max(len(shown), 1))
        colors = hsv_to_rgb(np.stack([0.75 * shade, 0.8 + 0 * shade, 0.85 + 0 * shade], -1))
    else:
        near = epipolar_distance(truth, a[shown], b[shown]) < _RIGHT_PX
        colors = np.array([to_rgba(RIGHT if k else WRONG) for k in near]).reshape(-1, 4)[:, :3]
    show_image(axes, 0.72 * canvas + 0.28, title)
    ends = np.stack([a[shown], b[shown] * scale + (edge, 0)], axis=1)
    axes.add_collection(LineCollection(list(ends), colors=colors, linewidths=0.9, alpha=0.8))
    for side in (0, 1):
        axes.scatter(*ends[:, side].T, s=9, c=colors, linewidths=0.4, edgecolors="#ffffff")


def draw_epipolar(axes: Axes, example: Example, lines: Fundamentals) -> None:
    """Points of A, and where the estimate (solid) and the truth (dashed) put them in B."""
    canvas, scale, edge = side_by_side(example)
    faint = 0.6 * canvas.mean(-1, keepdims=True).repeat(3, -1) + 0.4
    drawn = {"estimate solid": lines.estimate, "truth dashed": lines.truth}
    said = ", ".join(k for k, matrix in drawn.items() if matrix is not None)
    title = f"epipolar lines of some matches in B: {said}" if said else "some of the matches"
    show_image(axes, faint, title)
    bounds = (0.0, float(example["image_b"].shape[1])), (0.0, float(example["image_b"].shape[0]))
    for k, i in enumerate(_spread(example)):
        a, b = (np.asarray(example[n][i], np.float64) for n in ("matches_a", "matches_b"))
        color = COLORS[k % len(COLORS)] if k < len(COLORS) else "#1c2330"
        for place in (a, b * scale + (edge, 0)):
            axes.plot(*place, "o", color=color, markersize=6, markeredgecolor="#ffffff")
        for matrix, dash in ((lines.estimate, "-"), (lines.truth, (0, (4, 2)))):
            if matrix is None:
                continue
            ends = line_in(matrix @ np.array([*a, 1.0]), *bounds)
            if ends is not None:
                line = ends * scale + (edge, 0)
                axes.plot(*line.T, color=color, linestyle=dash, linewidth=1.5, path_effects=_HALO)
    axes.set(xlim=(0, canvas.shape[1]), ylim=(canvas.shape[0], 0))


def draw_flow(axes: Axes, example: Example) -> None:
    """Displacement from A to B in colours, with the wheel that explains them."""
    height, width = example["image_a"].shape[:2]
    centers = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    size_b = np.array(example["image_b"].shape[1::-1])
    flow = full_warp(example) * np.array([width, height]) / size_b - centers
    reach = float(np.nanquantile(np.linalg.norm(flow, axis=-1), 0.95))
    show_image(axes, flow_colors(flow, reach), f"displacement; full colour at {reach:.0f} px")
    wheel = axes.inset_axes((0.015, 0.02, 0.2, 0.2 * width / height))
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, 101)])
    disc = flow_colors(np.stack([x, y], -1), 1.0)
    alpha = (np.hypot(x, y) <= 1)[..., None] * 1.0
    wheel.imshow(np.concatenate([disc, alpha], -1))
    wheel.axhline(50, color="#1c2330", linewidth=0.6)
    wheel.axvline(50, color="#1c2330", linewidth=0.6)
    wheel.set_axis_off()


def draw_certainty(axes: Axes, example: Example) -> None:
    """Certainty over A; a white line around what B really sees."""
    certainty = np.asarray(example["certainty"], np.float64)
    extent = _shown(axes, example, "certainty", certainty, cmap="viridis", vmin=0, vmax=1)
    if _has_warp(example) and 0 < example["visible_4"].mean() < 1:
        axes.contour(
            example["visible_4"], levels=[0.5], extent=extent, origin="upper", colors="#ffffff",
            linewidths=1.2, linestyles="--",
        )  # fmt: skip
        axes.set_title("certainty; dashed: what B sees", fontsize=10, loc="left")


def draw_error(axes: Axes, example: Example) -> None:
    """End-point error of the warp where it is known; light grey without truth, grey hidden in B."""
    error = np.linalg.norm(example["warp"] - example["target_4"], axis=-1)
    visible, known = (np.asarray(example[k]) > 0.5 for k in ("visible_4", "known_4"))
    judged = error[visible & known]
    title = "error of the warp: nothing visible in B"
    if judged.size:
        title = f"error: median {np.median(judged):.1f} px, {np.mean(judged < 3):.0%} within 3 px"
    ground = np.where(known, _HIDDEN, _UNKNOWN)
    height, width = example["image_a"].shape[:2]
    extent = (0, width, height, 0)
    axes.imshow(ground, extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    shown = np.where(visible & known, np.clip(error, 0.5, 64), np.nan)
    _shown(axes, example, title, shown, cmap="magma", norm=LogNorm(0.5, 64), ticks=[1, 3, 10, 30])


def _shown(
    axes: Axes, example: Example, title: str, values: np.ndarray, ticks: Any = None, **style: Any
) -> tuple[int, int, int, int]:
    """A map over A with its colour bar."""
    height, width = example["image_a"].shape[:2]
    extent = (0, width, height, 0)
    drawn = axes.imshow(values, extent=extent, interpolation="nearest", **style)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set(xticks=[], yticks=[])
    inside = axes.inset_axes((1.015, 0.0, 0.03, 1.0))
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(drawn, cax=inside, ticks=ticks)
    if ticks:
        bar.ax.set_yticklabels([f"{t:g}" for t in ticks])
        bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8, length=2)
    return extent


def _spread(example: Example) -> list[int]:
    """Some inliers far from each other in A: each next one the farthest from those before."""
    kept = np.flatnonzero(np.asarray(example["inliers"], bool))
    if not len(kept):
        return []
    a = np.asarray(example["matches_a"], np.float64)[kept]
    chosen = [int(np.argmin(np.linalg.norm(a - a.mean(0), axis=1)))]
    away = np.linalg.norm(a - a[chosen[0]], axis=1)
    while len(chosen) < min(_EPIPOLAR, len(kept)):
        chosen.append(int(np.argmax(away)))
        away = np.minimum(away, np.linalg.norm(a - a[chosen[-1]], axis=1))
    return kept[chosen].tolist()


def _has_warp(example: Example) -> bool:
    return "target_4" in example and np.shape(example["target_4"]) == np.shape(example["warp"])


def _pair_height(example: Example) -> float:
    """Inches of two images side by side on half of the page."""
    canvas, *_ = side_by_side(example)
    return 7.4 * canvas.shape[0] / canvas.shape[1]
