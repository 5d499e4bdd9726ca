"""Figures that evaluations share. Each function returns a `Figure` of its own: no global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from posejax.report.statistics import RiskCoverage

# Okabe & Ito's palette: told apart by colour-blind readers and in grey print.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
GRID = "#d9dee6"
_DASHES = ("-", "--", "-.", ":")


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


def legend_outside(axes: Axes, characters: int = 60) -> None:
    """Legend under the axes and their label, where no curve can be; columns as a line holds."""
    longest = max((len(str(a.get_label())) for a in axes.get_lines()), default=0)
    columns = max(1, min(3, characters // (longest + 8)))
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=3.8,
        ncols=columns, frameon=False, fontsize=9, columnspacing=1.2,
    )  # fmt: skip


def error_cdf(
    series: Mapping[str, np.ndarray],
    *,
    unit: str,
    limit: float | None = None,
    most: float = np.inf,
    title: str = "",
) -> Figure:
    """Share of examples with an error below the abscissa, one curve per series.

    Args:
      series: label -> [N] errors >= 0; those that are not finite count as never reached, so such
        a curve ends below 100 %.
      unit: of the errors.
      limit: right end; None shows 1.2 times the largest 98th percentile.
      most: the largest error there is, 180 degrees say; the axis never goes further.
      title: of the axes.
    """
    if limit is None:
        finite = [v[np.isfinite(v)] for v in map(np.asarray, series.values())]
        limit = 1.2 * max((float(np.quantile(v, 0.98)) for v in finite if v.size), default=1.0)
        limit = min(limit or 1.0, most)
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
    legend_outside(axes)
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
    legend_outside(axes)
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
    labels = [f"{_short(a)}-{_short(b)}\nn={n}" for (a, b), n in zip(edges, counts, strict=True)]
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
    legend_outside(axes)
    return figure


def risk_plot(risks: Mapping[str, RiskCoverage], *, measure: str, noun: str = "examples") -> Figure:
    """Mean error of what is kept, most certain first; the best possible order is dotted.

    Args:
      risks: what orders the examples ("covariance") -> the curve.
      measure: the error, with its unit.
      noun: what an example is called.
    """
    series = {}
    for by, (coverage, risk, oracle) in risks.items():
        # The mean of a handful is noise: the curves begin at a twentieth of all.
        first = min(int(0.05 * len(risk)), max(len(risk) - 1, 0))
        share = 100 * coverage[first:]
        series[f"by {by}"] = share, risk[first:]
        series["by true error (bound)"] = share, oracle[first:]
        series[f"all {noun}"] = share, np.full(len(share), risk[-1] if len(risk) else np.nan)
    return curves(series, xlabel=f"{noun} kept, most certain first (%)", ylabel=f"mean {measure}")


def marked_bars(
    axes: Axes,
    x: np.ndarray,
    heights: np.ndarray,
    marks: Mapping[str, tuple[float, str, str]],
    span: tuple[float, float, str],
) -> None:
    """Bars at equal steps of x, upright lines (label -> place, colour, dashes), a shaded span.

    Places that are not finite are not drawn.
    """
    step = x[1] - x[0] if len(x) > 1 else 1.0
    axes.bar(x, heights, width=0.9 * step, color="#b9c2cf")
    for label, (place, color, dash) in marks.items():
        if np.isfinite(place):
            axes.axvline(place, color=color, linestyle=dash, linewidth=1.8, label=label)
    if np.isfinite(span[:2]).all():
        axes.axvspan(*span[:2], color=span[2], alpha=0.12, linewidth=0)
    axes.set_box_aspect(1)
    axes.set_xlim(x[0] - step, x[-1] + step)
    axes.set_ylim(bottom=0)
    legend_outside(axes, 44)


def time_curves(
    time: np.ndarray,
    errors: Mapping[str, Mapping[str, np.ndarray]],
    *,
    missing: np.ndarray | None = None,
    title: str = "",
) -> Figure:
    """Errors of one sequence along time, one panel per kind, on logarithmic scales.

    Args:
      time: [N] s, in order; the curves break where it jumps.
      errors: kind, with its unit -> label -> [N] >= 0; the first label is drawn as points.
      missing: [N] bool, estimates of the first label that are not finite: marked at the top.
      title: name of the sequence.
    """
    figure = Figure(figsize=(5.6, 2.2 * len(errors)), layout="constrained")
    panels = figure.subplots(len(errors), 1, sharex=True, squeeze=False)[:, 0]
    step = np.diff(time)
    breaks = np.flatnonzero(step > 3.5 * np.median(step)) + 1 if len(time) > 2 else []
    lost = np.zeros(len(time), bool) if missing is None else missing
    for axes, (kind, series) in zip(panels, errors.items(), strict=True):
        tidy(axes, "", kind, title if axes is panels[0] else "")
        for k, (label, values) in enumerate(series.items()):
            # Zero has no place on the scale: below the smallest shown, not absent.
            values = np.maximum(np.asarray(values, np.float64), 1e-4)
            values = np.where(lost, np.nan, values) if k == 0 else values
            style: dict[str, Any] = {"linewidth": 2.0}
            if k == 0:
                style = {"marker": "o", "markersize": 2.5, "linewidth": 0.6, "alpha": 0.75}
            x, y = (np.insert(v, breaks, np.nan) for v in (time, values))
            axes.plot(x, y, color=COLORS[k % len(COLORS)], label=label, **style)
        if lost.any():
            axes.plot(
                time[lost],
                np.full(int(lost.sum()), 0.97),
                "v",
                color="#1c2330",
                markersize=5,
                transform=axes.get_xaxis_transform(),
                label="not finite",
            )
        log_scale(axes)
    panels[0].legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    panels[-1].set_xlabel("time (s)")
    return figure


def log_scale(axes: Axes) -> None:
    """Logarithmic ordinate with plain numbers, at least a decade high."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 10 * low:
        middle = np.sqrt(low * high)
        low, high = middle / np.sqrt(10), middle * np.sqrt(10)
        axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 150 * low else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def agreement(truth: np.ndarray, estimates: Mapping[str, np.ndarray], *, quantity: str) -> Figure:
    """Estimated over true value of a quantity >= 0.

    Args:
      truth: [N], finite.
      estimates: label -> [N]; what is not finite, or lies far off the diagonal, is counted in
        the legend instead of drawn.
      quantity: with its unit.
    """
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = tidy(figure.subplots(), f"true {quantity}", f"estimated {quantity}")
    low, high = float(np.min(truth)), float(np.max(truth))
    margin = max(0.05 * (high - low), 0.02 * high)
    shown = (max(low - margin, 0), high + margin)
    axes.plot(shown, shown, color="#5b6472", linewidth=1)
    bound = max(low - 3 * margin, 0), high + 3 * margin
    for k, (label, values) in enumerate(estimates.items()):
        inside = np.isfinite(values) & (values >= bound[0]) & (values <= bound[1])
        outside = int(np.sum(~inside))
        label += f" ({outside} outside)" if outside else ""
        style: dict[str, Any] = {"markersize": 3, "alpha": 0.5, "markeredgewidth": 0}
        axes.plot(truth[inside], values[inside], "os"[k % 2], color=COLORS[k], label=label, **style)
    axes.set(xlim=shown, ylim=bound)
    legend_outside(axes)
    return figure


def _short(value: float) -> str:
    """Three digits, thousands as k."""
    return f"{value / 1000:.3g}k" if abs(value) >= 1000 else f"{value:.3g}"


def _line(k: int) -> dict[str, Any]:
    return {"color": COLORS[k % len(COLORS)], "linestyle": _DASHES[k % len(_DASHES)]}
