"""Sections that most systems have: key numbers, distributions of errors, calibration, risk."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from posejax.report.contents import Card, Part, Plot, Table, Track
from posejax.report.figures import calibration_plot, error_cdf, risk_plot, time_curves
from posejax.report.statistics import (
    chi_square_quantile,
    cluster_bootstrap,
    coverage_curve,
    finite,
    mean,
    median,
    risk_coverage,
)
from posejax.report.text import Share, number, percent

_LEVELS = (0.5, 0.9, 0.95)


class Headline(NamedTuple):
    """A number of the summary worth a card; unit "%" is that of a share in [0, 1]."""

    name: str
    label: str
    unit: str = ""
    digits: int = 3


def cards(
    summary: Mapping[str, float],
    headlines: Sequence[Headline],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    prefix: str = "",
) -> list[Card]:
    """Cards of the headlines that the summary has under a prefix, with 95 % intervals if known."""
    found = []
    for name, label, unit, digits in headlines:
        if prefix + name not in summary:
            continue
        value = summary[prefix + name]
        interval = (intervals or {}).get(name, (np.nan, np.nan))
        if np.isfinite(interval).all():
            bounds = tuple(map(Share, interval)) if unit == "%" else tuple(interval)
            label += f"; 95 %: {number(bounds, digits)}"
        text = percent(value) if unit == "%" else number(value, digits) + unit
        found.append(Card(text, label))
    return found


def summary_table(
    summary: Mapping[str, float],
    prefixes: Mapping[str, str],
    columns: Mapping[str, str | tuple[str, Callable[[float], Any]]],
    caption: str,
    *,
    first: str,
) -> Table:
    """A table of the numbers of a summary whose names begin with some prefixes.

    Args:
      summary: all numbers.
      prefixes: label -> prefix ("softmax/").
      columns: header -> rest of the name, or that and what makes a cell of the number.
      caption: of the table.
      first: heading of the labels.
    """

    def cell(prefix: str, column: str | tuple[str, Callable[[float], Any]]) -> Any:
        name, convert = (column, float) if isinstance(column, str) else column
        return convert(summary[prefix + name])

    cells = [[label, *(cell(p, c) for c in columns.values())] for label, p in prefixes.items()]
    return Table([first, *columns], cells, caption)


class Measure(NamedTuple):
    """A statistic of the errors of an estimator.

    values: field of the errors, or a function of them, to [N]. statistic: of [N] to a number, which
    may be a `Share`.
    """

    name: str
    label: str
    values: str | Callable[[Any], np.ndarray]
    statistic: Callable[[np.ndarray], Any] = mean
    digits: int = 3


def measured(
    measures: Sequence[Measure], errors: Mapping[str, Any], sequence: np.ndarray
) -> tuple[Table, dict[str, dict[str, tuple[float, float]]]]:
    """Measures of several estimators side by side, with 95 % intervals that draw whole sequences.

    Args:
      measures: the rows.
      errors: estimator -> its errors, see `Measure`.
      sequence: [N] of each example.

    Returns:
      The table; estimator -> name of the measure -> interval, NaN for a single sequence.
    """
    intervals: dict[str, dict[str, tuple[float, float]]] = {label: {} for label in errors}
    cells = []
    for name, label, values, statistic, digits in measures:
        row = [label]
        for estimator, given in errors.items():
            found = getattr(given, values) if isinstance(values, str) else values(given)
            value = statistic(found)
            interval = cluster_bootstrap(found, sequence, statistic)
            intervals[estimator][name] = interval
            kind = type(value) if isinstance(value, Share) else float
            row += [number(value, digits), number(tuple(map(kind, interval)), digits)]
        cells.append(row)
    headers = ["", *(header for label in errors for header in (label, "95 % interval"))]
    return Table(headers, cells), intervals


def share(inside: np.ndarray) -> Share:
    """Share of [N] bool; a statistic for `Measure`."""
    return Share(mean(inside))


def extent(values: np.ndarray) -> str:
    """Least, largest and middle of [N] values, for a table of settings."""
    known = finite(values)
    low, middle, high = np.quantile(known, [0, 0.5, 1])
    form = ",.0f" if high >= 1000 else ".4g"
    return f"{low:{form}} to {high:{form}}, median {middle:{form}}"


def rows(columns: Mapping[str, np.ndarray], chosen: np.ndarray) -> list[dict[str, Any]]:
    """Rows [n] of columns header -> [N], one dict each, as plain numbers and text."""
    return [{k: np.asarray(v[i]).item() for k, v in columns.items()} for i in chosen]


def distributions(
    errors: Mapping[str, tuple[str, Mapping[str, np.ndarray]]],
    noun: str = "examples",
    most: Mapping[str, float] | None = None,
) -> list[Part]:
    """Shares below an error, one plot each.

    Args:
      errors: name ("position") -> unit and {label: [N] errors}.
      noun: what examples are called.
      most: name -> the largest error there is, 180 degrees say; axes end there.
    """
    return [
        Plot(
            name,
            partial(error_cdf, series, unit=unit, most=(most or {}).get(name, np.inf)),
            f"{noun.capitalize()} whose {name} error is below a limit.",
        )
        for name, (unit, series) in errors.items()
    ]


def tracks(
    records: Mapping[str, np.ndarray],
    errors: Mapping[str, Mapping[str, np.ndarray]],
    missing: np.ndarray,
    ranges: Mapping[str, np.ndarray],
    *,
    noun: str = "examples",
) -> list[Track]:
    """One track per sequence: means of the errors for the table, the errors along time.

    Args:
      records: with `sequence` [N], its number, and `time` [N] (s).
      errors: estimator -> kind, with its unit -> [N]. Sequences are ordered by the first kind of
        the first estimator; the other kinds are drawn.
      missing: [N] bool, estimates of the first estimator that are not finite.
      ranges: header -> [N], quantities whose bounds the table gives.
      noun: what examples are called.
    """
    found, time = [], np.asarray(records["time"], np.float64)
    for k in np.unique(records["sequence"]):
        chosen = np.flatnonzero(records["sequence"] == k)
        chosen = chosen[np.argsort(time[chosen], kind="stable")]
        at = time[chosen]
        row: dict[str, Any] = {noun: len(chosen), "seconds": float(np.ptp(at))}
        for header, values in ranges.items():
            row[header] = float(values[chosen].min()), float(values[chosen].max())
        curves: dict[str, dict[str, np.ndarray]] = {}
        for n, (label, kinds) in enumerate(errors.items()):
            for kind, values in kinds.items():
                row[kind if n == 0 else f"{kind}, {label}"] = float(mean(values[chosen]))
                curves.setdefault(kind, {})[label] = values[chosen]
        ordered = next(iter(curves))
        del curves[ordered]
        name = f"sequence {k}"
        draw = partial(time_curves, at, curves, missing=missing[chosen], title=name)
        found.append(Track(name, row, (f"mean {ordered}", row[ordered]), draw))
    return found


class Claim(NamedTuple):
    """Confidence regions that an estimator claims, to be held against the errors.

    region: what the regions are of; claims of one region share a plot.
    squares: [N] squared Mahalanobis distance of the truth, NaN without a usable covariance.
    dof: dimension of the region. columns: further cells of its row in the table.
    """

    label: str
    region: str
    squares: np.ndarray
    dof: int
    columns: Mapping[str, Any] = {}


def calibration(claims: Sequence[Claim], *, caption: str, first: str = "estimate") -> list[Part]:
    """Table of coverage and NEES, and reliability curves; nothing without claims.

    Under a right covariance the squares follow the chi-square law of `dof` degrees of freedom, so
    their mean is `dof` (Bar-Shalom et al., Estimation with Applications, 2001, 5.4).
    """
    levels = np.linspace(0.005, 0.995, 100)
    several = len({claim.region for claim in claims}) > 1
    table: list[dict[str, Any]] = []
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for label, region, squares, dof, columns in claims:
        usable = finite(squares)
        covered = coverage_curve(squares, dof, levels)
        curves.setdefault(region, {})[label] = levels, covered
        inside = coverage_curve(squares, dof, np.array(_LEVELS))
        table.append(
            {
                first: label,
                **({"region": region} if several else {}),
                **columns,
                "mean NEES (ideal)": f"{number(float(mean(usable)), 2)} ({dof})",
                "median NEES (ideal)": (
                    f"{number(median(usable), 2)} ({chi_square_quantile(0.5, dof):.2f})"
                ),
                **{
                    f"inside {100 * q:.0f} %": Share(c)
                    for q, c in zip(_LEVELS, inside, strict=True)
                },
                "mean gap": Share(np.mean(np.abs(covered - levels))),
                "unusable": len(squares) - usable.size,
            }
        )
    if not table:
        return []
    plots = [
        Plot(
            f"coverage_{k}",
            partial(calibration_plot, series, count=len(claims[0].squares), title=region),
            f"Share of truths inside the claimed region: {region}. Grey: what chance allows a "
            "calibrated estimate of independent examples (95 %).",
        )
        for k, (region, series) in enumerate(curves.items(), 1)
    ]
    caption += " Unusable: the estimate or its covariance is none."
    return [Table.of(table, caption), *plots]


def risk(
    name: str,
    measure: str,
    error: np.ndarray,
    spread: np.ndarray,
    *,
    by: str,
    noun: str = "examples",
) -> Plot:
    """Mean error of the estimates that claim the least spread.

    Args:
      name: of the error, "position".
      measure: the error with its unit.
      error, spread: [N], see `statistics.risk_coverage`.
      by: what the spread is called.
      noun: what examples are called.
    """
    found = {by: risk_coverage(error, spread)}
    caption = f"Mean {name} error when only the most certain {noun} are kept, by {by}."
    return Plot(name, partial(risk_plot, found, measure=measure, noun=noun), caption)
