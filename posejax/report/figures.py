"""Figures that evaluations share. Each function returns a `Figure` of its own: no global state."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke

# Okabe & Ito's palette: told apart by colour-blind readers and in grey print.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
GRID = "#d9dee6"
_DASHES = ("-", "--", "-.", ":")
_OUTLINE = [withStroke(linewidth=3, foreground="#000000")]  # bright signs on a bright peak


class Marker(NamedTuple):
    """A point on a heat-map: place, label, matplotlib marker sign, colour.

    covariance: [2, 2] of the place in the axes' units, drawn as its 95 % ellipse.
    """

    x: float
    y: float
    label: str
    sign: str = "o"
    color: str = COLORS[0]
    covariance: np.ndarray | None = None


def tidy(axes: Axes, xlabel: str = "", ylabel: str = "", title: str = "") -> Axes:
    """The look of all plots: light grid below, no box, labelled axes."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    return axes


def error_cdf(
    series: Mapping[str, np.ndarray], *, unit: str, limit: float | None = None, title: str = ""
) -> Figure:
    """Share of examples with an error below the abscissa, one curve per series.

    Args:
      series: label -> [N] errors >= 0; those that are not finite count as never reached, so such
        a curve ends below 100 %.
      unit: of the errors.
      limit: right end; None shows 1.2 times the largest 98th percentile.
      title: of the axes.
    """
    if limit is None:
        finite = [v[np.isfinite(v)] for v in map(np.asarray, series.values())]
        limit = 1.2 * max((float(np.quantile(v, 0.98)) for v in finite if v.size), default=1.0)
        limit = limit or 1.0
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = tidy(figure.subplots(), f"error ({unit})", "share of examples (%)", title)
    for k, (label, values) in enumerate(series.items()):
        values = np.asarray(values, np.float64)
        reached = np.sort(values[np.isfinite(values)])
        share = 100 * np.arange(reached.size + 1) / max(values.size, 1)
        x = np.concatenate([[0.0], reached, [max(limit, reached[-1] if reached.size else 0)]])
        axes.step(
            x,
            np.concatenate([share, share[-1:]]),
            where="post",
            label=label,
            **_line(k),
        )
    axes.set_xlim(0, limit)
    axes.set_ylim(0, 102)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def calibration_plot(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]], *, count: int, title: str = ""
) -> Figure:
    """Empirical against nominal coverage of confidence regions.

    Args:
      series: label -> (nominal [L], empirical [L]) in [0, 1].
      count: examples behind each share; the grey band holds 95 % of the shares that a calibrated
        estimator would show by chance (normal approximation of the binomial law).
      title: of the axes.
    """
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = tidy(figure.subplots(), "nominal coverage (%)", "examples inside (%)", title)
    p = np.linspace(0, 1, 201)
    chance = 1.96 * np.sqrt(p * (1 - p) / max(count, 1))
    low, high = np.clip(p - chance, 0, 1), np.clip(p + chance, 0, 1)
    axes.fill_between(100 * p, 100 * low, 100 * high, color="#c9ced6", alpha=0.6, linewidth=0)
    axes.plot([0, 100], [0, 100], color="#5b6472", linewidth=1)
    for k, (label, (nominal, empirical)) in enumerate(series.items()):
        axes.plot(100 * np.asarray(nominal), 100 * np.asarray(empirical), label=label, **_line(k))
    axes.text(2, 96, "too cautious", color="#5b6472", fontsize=9)
    axes.text(98, 2, "overconfident", color="#5b6472", fontsize=9, ha="right")
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.legend(frameon=False, fontsize=9, loc=(0.02, 0.72))
    return figure


def binned_error(
    edges: Sequence[tuple[float, float]],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    counts: Sequence[int],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
) -> Figure:
    """Bars of an error over bins of a quantity, with bootstrap intervals and counts.

    Bars stand side by side (bins of equal count may be very thin) and carry their limits.
    """
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = tidy(figure.subplots(), xlabel, ylabel, title)
    axes.grid(False, axis="x")
    x, value = np.arange(len(values)), np.asarray(values, np.float64)
    bounds = np.asarray(intervals, np.float64).reshape(-1, 2)
    axes.bar(x, value, width=0.75, color=COLORS[0], alpha=0.75)
    reach = np.maximum(np.stack([value - bounds[:, 0], bounds[:, 1] - value]), 0)
    axes.errorbar(x, value, yerr=reach, fmt="none", ecolor="#1c2330", capsize=4, linewidth=1.2)
    labels = [f"{a:.3g}-{b:.3g}\nn={n}" for (a, b), n in zip(edges, counts, strict=True)]
    axes.set_xticks(x, labels)
    axes.set_ylim(bottom=0)
    return figure


def curves(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
) -> Figure:
    """Plain curves, label -> (x, y), from zero upwards."""
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = tidy(figure.subplots(), xlabel, ylabel, title)
    for k, (label, (x, y)) in enumerate(series.items()):
        axes.plot(x, y, label=label, **_line(k))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    return figure


def heat_map(
    axes: Axes,
    image: np.ndarray,
    extent: tuple[float, float, float, float],
    markers: Sequence[Marker] = (),
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str = "magma",
    unit: str = "m",
):
    """Scores over the plane, rows growing upwards, with markers and their 95 % ellipses.

    Args:
      axes: where to draw.
      image: [H, W]; row 0 is drawn at the bottom, as y grows with rows.
      extent: (left, right, bottom, top) of the image's outer edges.
      markers: drawn in order with a dark outline; what cannot be seen stays in the legend as
        "(outside)" or "(not finite)".
      vmin, vmax: range of the colours.
      cmap: matplotlib colour map.
      unit: of the axes.

    Returns:
      The image artist, for a colour bar.
    """
    drawn = axes.imshow(
        image, origin="lower", extent=extent, cmap=cmap, vmin=vmin, vmax=vmax, aspect="equal"
    )
    for marker in markers:
        finite = np.isfinite([marker.x, marker.y]).all()
        inside = extent[0] <= marker.x <= extent[1] and extent[2] <= marker.y <= extent[3]
        remark = "" if inside else " (outside)" if finite else " (not finite)"
        open_sign = marker.sign in "os^Dv"
        face: dict[str, Any] = {"mfc": "none"} if open_sign else {}
        axes.plot(
            marker.x if finite else np.nan,
            marker.y if finite else np.nan,
            marker.sign,
            color=marker.color,
            markersize=9,
            markeredgewidth=1.8,
            linestyle="none",
            label=marker.label + remark,
            path_effects=_OUTLINE,
            **face,
        )
        if finite and marker.covariance is not None:
            ellipse = confidence_ellipse(marker)
            if ellipse is not None:
                axes.add_patch(ellipse)
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    axes.set_xlabel(f"x ({unit})")
    axes.set_ylabel(f"y ({unit})")
    axes.tick_params(labelsize=8)
    return drawn


def confidence_ellipse(marker: Marker, level: float = 0.95) -> Ellipse | None:
    """Outline that holds `level` of the normal law at the marker; None for a bad covariance."""
    covariance = np.asarray(marker.covariance, np.float64)
    if not np.isfinite(covariance).all():
        return None
    variances, axes = np.linalg.eigh(covariance)  # increasing
    if variances[0] < 0:
        return None
    # A 2-D normal puts 1 - exp(-d^2 / 2) within the Mahalanobis distance d.
    minor, major = 2 * np.sqrt(-2 * np.log1p(-level) * variances)
    angle = np.rad2deg(np.arctan2(axes[1, 1], axes[0, 1]))
    return Ellipse(
        (marker.x, marker.y),
        width=major,
        height=minor,
        angle=angle,
        fill=False,
        edgecolor=marker.color,
        linewidth=1.5,
        path_effects=_OUTLINE,
    )


def _line(k: int) -> dict[str, Any]:
    return {"color": COLORS[k % len(COLORS)], "linestyle": _DASHES[k % len(_DASHES)]}
