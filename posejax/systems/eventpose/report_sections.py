"""Sections of the eventpose report, each from the records of a split or from its examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posejax.report.figures import binned_error, calibration_plot, curves, error_cdf
from posejax.report.page import Page
from posejax.report.statistics import cluster_bootstrap, coverage_curve
from posejax.report.text import number, percent
from posejax.systems.eventpose import summary as summaries
from posejax.systems.eventpose.pictures import error_curves, pose_figure, range_scatter
from posejax.systems.eventpose.report_data import PLAIN, Evaluation, worst_first
from posejax.systems.eventpose.summary import STRATA, Stratum

_CURVES = 8  # sequences drawn along time
Intervals = Mapping[str, Mapping[str, tuple[float, float]]]

# Name in `summarize` (None: computed here), what it is, digits.
_SCORES = (
    ("score", "SPARK 2026 = Kelvins 2019: mean of E_t + E_r", 4),
    ("speed_plus", "SPEED+: the same, zero below its thresholds", 4),
    ("relative_position", "E_t: position error / range, mean", 4),
    ("rotation_rad", "E_r: rotation error (rad), mean", 4),
    ("position_m", "position error (m), mean", 3),
    ("position_median_m", "position error (m), median", 3),
    ("rms_x_m", "RMS along x, right (m)", 3),
    ("rms_y_m", "RMS along y, down (m)", 3),
    ("rms_z_m", "RMS along z, forward (m)", 3),
    ("rotation_deg", "rotation error (deg), mean", 2),
    ("rotation_median_deg", "rotation error (deg), median", 2),
    ("within_0.1m_5deg", "within 0.1 m and 5 deg (%)", 1),
    ("within_0.2m_15deg", "within 0.2 m and 15 deg (%)", 1),
    ("nonfinite", "estimates that are not finite", 0),
)


def opening(
    page: Page,
    run: Evaluation,
    numbers: Mapping[str, float],
    between: Intervals,
    *,
    simulated: bool,
) -> None:
    """What nobody should overlook (simulated? anything not finite?), then the key numbers."""
    if simulated:
        page.notice(
            "Simulated data: every number and picture on this page comes from a simulated "
            "spacecraft and event camera, not from recordings."
        )
    if run.missing.any():
        names = [run.called(int(k)) for k in np.flatnonzero(run.missing)]
        listed = ", ".join(names[:30]) + (" ..." if len(names) > 30 else "")
        page.notice(
            f"{len(names)} of {len(run.missing)} estimates are not finite; they score as 180 "
            f"degrees and a position error of the whole range. Windows: {listed}"
        )
    if len(run.sequences) < 2:
        page.notice(
            "One sequence only: its windows err together, so no interval can be given.", "plain"
        )
    for label in run.records:
        prefix = "" if label == PLAIN else "smoothed/"
        page.text(f"{label[0].upper()}{label[1:]}:")
        cards = []
        for name, what, unit, digits in (
            ("score", "SPARK score", "", 3),
            ("relative_position", "E_t, mean", "", 4),
            ("rotation_median_deg", "rotation, median", "°", 2),
            ("rotation_deg", "rotation, mean", "°", 2),
            ("position_m", "position, mean", " m", 3),
        ):
            span = _span(between[label][name], digits)
            value = number(numbers[prefix + name], digits) + unit
            cards.append((value, f"{what}; 95 %: {span}" if span else what))
        if label == PLAIN:
            plural = "s" if len(run.sequences) > 1 else ""
            cards.append(
                (f"{len(run.missing)}", f"windows of {len(run.sequences)} sequence{plural}")
            )
        page.cards(cards)


def _span(interval: tuple[float, float] | None, digits: int) -> str:
    if interval is None or not np.isfinite(interval).all():
        return ""
    return " to ".join(number(v, digits) for v in interval)


def official_scores(
    page: Page, run: Evaluation, numbers: Mapping[str, float], between: Intervals
) -> None:
    """All scores, single windows and smoothed side by side."""
    rows = []
    for name, what, digits in _SCORES:
        row: list[Any] = [what]
        for label in run.records:
            prefix = "" if label == PLAIN else "smoothed/"
            if name == "rotation_rad":
                value = np.deg2rad(numbers[f"{prefix}rotation_deg"])
                found = between[label]["rotation_deg"]
                span = float(np.deg2rad(found[0])), float(np.deg2rad(found[1]))
            else:
                value, span = numbers[prefix + name], between[label].get(name)
                value *= 100 if name.startswith("within") else 1
            row += [number(float(value), digits), _span(span, digits) or "-"]
        rows.append(row)
    headers = ["score", *(h for label in run.records for h in (label, "95 % interval"))]
    with page.section("Scores"):
        page.table(headers, rows)


def distributions(page: Page, run: Evaluation) -> None:
    """Shares of windows below an error, and the ranges."""
    plain = run.plain
    # What is not finite is never below an error, whatever it scores as.
    lost = {label: run.missing if label == PLAIN else np.zeros(0, int) for label in run.errors}
    with page.section("Distributions"), page.row():
        for kind, unit in (("position", "m"), ("rotation", "deg")):
            series = {}
            for label, errors in run.errors.items():
                series[label] = np.array(getattr(errors, kind), np.float64)
                series[label][lost[label]] = np.nan
            finite = np.concatenate([v[np.isfinite(v)] for v in series.values()])
            turned = kind == "rotation" and finite.max(initial=0) > 150
            limit = 180.0 if turned else None  # no margin beyond a half turn
            page.figure(error_cdf(series, unit=unit, limit=limit), f"Windows below a {kind} error.")
        estimates = {
            label: np.linalg.norm(np.asarray(r["translation_hat"], np.float64), axis=1)
            for label, r in run.records.items()
        }
        figure = range_scatter(summaries.condition(plain, "range_m"), estimates)
        page.figure(figure, "Estimated against true range; the line is where they agree.")


def along_time(page: Page, run: Evaluation, rows: Sequence[Mapping[str, Any]]) -> None:
    """Errors over time of some sequences, and a table of all."""
    numbers = list(run.sequences)
    picked = picked_sequences([row["score"] for row in rows], _CURVES)
    text = f"All {len(numbers)} sequences." if len(numbers) > 1 else ""
    if len(picked) < len(numbers):
        names = ", ".join(run.sequences[numbers[k]] for k in picked)
        text = (
            f"{len(picked)} of {len(numbers)} sequences, spread evenly from the worst mean score "
            f"to the best: {names}."
        )
    with page.section("Errors over time", text):
        with page.row():
            for k in picked:
                rows_k = np.flatnonzero(run.plain["sequence"] == numbers[k])
                time = np.asarray(run.plain["time"], np.float64)[rows_k]
                order = np.argsort(time, kind="stable")
                rows_k, time = rows_k[order], time[order]
                series = {
                    label: summaries.PoseErrors(*(v[rows_k] for v in errors))
                    for label, errors in run.errors.items()
                }
                name = run.sequences[numbers[k]]
                figure = error_curves(time, series, run.missing[rows_k], name)
                page.figure(figure, f"{name}: mean score {number(rows[k]['score'])}.")
        with page.details(f"Table of all {len(rows)} sequences", open=len(rows) <= 10):
            page.table(list(rows[0]), [list(row.values()) for row in rows])


def picked_sequences(scores: Sequence[float], count: int) -> list[int]:
    """Positions of `count` sequences spread evenly from the worst mean score to the best."""
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return order[places].tolist()


def condition(
    page: Page, run: Evaluation, by: str, tables: Mapping[str, Sequence[Stratum]]
) -> None:
    """Errors in bins of one of `STRATA`."""
    rows = tables[PLAIN]
    values = summaries.condition(run.plain, by)
    spans = []
    for k, s in enumerate(rows):
        below = values <= s.high if k == len(rows) - 1 else values < s.high
        inside = (values >= s.low) & below
        score, sequence = run.errors[PLAIN].score[inside], run.plain["sequence"][inside]
        spans.append(cluster_bootstrap(score, sequence, np.mean))
    headers = ["from", "to", "windows", "score", "95 % interval", "position m", "rotation deg"]
    smoothed = tables[run.smoothed] if run.smoothed else rows
    headers += ["score smoothed"] if run.smoothed else []
    digits = 0 if by == "events" else 3
    cells = [
        [
            number(s.low, digits),
            number(s.high, digits),
            s.count,
            s.score,
            _span(span, 3) or "-",
            s.position_m,
            s.rotation_deg,
            *([after.score] if run.smoothed else []),
        ]
        for s, after, span in zip(rows, smoothed, spans, strict=True)
    ]
    label = STRATA[by]
    page.table(headers, cells, caption=f"By {label}")
    if len(rows) < 2:
        return
    unit = 1000 if by == "events" else 1
    figure = binned_error(
        [(s.low / unit, s.high / unit) for s in rows],
        [s.score for s in rows],
        spans,
        [s.count for s in rows],
        xlabel=f"thousand {label}" if by == "events" else label,
        ylabel="SPARK score",
    )
    whiskers = "; with 95 % bootstrap intervals by sequence" if np.isfinite(spans).any() else ""
    page.figure(figure, f"Score of single windows by {label}{whiskers}.")


def calibration(page: Page, run: Evaluation, numbers: Mapping[str, float]) -> None:
    """Errors against the standard deviations that the network predicts."""
    levels = np.linspace(0.01, 0.99, 99)
    errors, plots, rows = run.errors[PLAIN], {}, []
    kept: dict[str, Any] = {}
    for name, error, key, unit in (
        ("position", errors.position, "sigma_m", "m"),
        ("rotation", np.deg2rad(errors.rotation), "sigma_rad", "rad"),
    ):
        sigma = np.asarray(run.plain[key], np.float64)
        usable = np.isfinite(sigma) & (sigma > 0) & ~run.missing
        # Squared length of the error in units of its spread: three axes, three degrees of freedom.
        square = np.where(usable, (error / np.where(usable, sigma, 1)) ** 2, np.nan)
        plots[name] = levels, coverage_curve(square, 3, levels)
        inside = coverage_curve(square, 3, np.array([0.5, 0.9, 0.95]))
        known = sigma[usable]
        median = float(np.median(known)) if known.size else np.nan
        rows.append(
            [
                f"{name} ({unit})",
                median,
                float(np.median(error[usable]) if known.size else np.nan),
                number(numbers[f"sigma_ratio_{unit}"], 2),
                *(percent(float(share)) for share in inside),
                int(np.sum(~usable)),
            ]
        )
        kept[name] = _risk(np.where(usable, sigma, np.inf), error), unit
    with page.section("Calibration", "Do the predicted standard deviations tell the truth?"):
        headers = [
            "error of",
            "median sigma per axis",
            "median error",
            "RMS error / sigma (ideal 1)",
        ]
        headers += [f"inside {q} %" for q in (50, 90, 95)] + ["unusable"]
        page.table(headers, rows, caption="Errors against the spread predicted for each window")
        with page.row():
            figure = calibration_plot(plots, count=len(run.missing))
            page.figure(figure, _BAND)
            for name, ((share, risk), unit) in kept.items():
                everything = np.full(len(risk), risk[-1])
                figure = curves(
                    {"kept by sigma": (share, risk), "all windows": (share, everything)},
                    xlabel="windows kept, most certain first (%)",
                    ylabel=f"mean {name} error ({unit})",
                )
                page.figure(figure, f"Mean {name} error of the most certain windows.")


_BAND = """Share of errors inside the sphere that the predicted spread claims. Grey: what chance \
allows a calibrated estimate if all windows were independent (95 %)."""


def _risk(sigma: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per cent kept and mean error of what is kept, from 5 % on."""
    order = np.argsort(sigma, kind="stable")
    count = np.arange(1, len(order) + 1)
    first = max(int(np.ceil(0.05 * len(order))) - 1, 0)
    return (100 * count / len(order))[first:], (np.cumsum(error[order]) / count)[first:]


def gallery(
    page: Page,
    run: Evaluation,
    examples: Sequence[Mapping[str, np.ndarray]],
    wireframe: tuple[np.ndarray, np.ndarray] | None,
) -> None:
    """Pictures, the worst first; an example is among the worst by its rank in the whole split."""
    order = worst_first(run)
    row_of = {int(run.plain["index"][k]): int(k) for k in order}
    rank = {int(run.plain["index"][k]): n + 1 for n, k in enumerate(order)}
    ranked = sorted(examples, key=lambda e: rank.get(int(e["index"]), len(rank) + 1))
    bound = min(len(examples), max(1, len(rank) // 10))
    worst = [e for e in ranked if rank.get(int(e["index"]), len(rank) + 1) <= bound]
    groups = (("Pictures: worst", worst), ("Pictures: others", ranked[len(worst) :]))
    for (title, group), unfolded in zip(groups, (3, 2), strict=True):
        if not group:
            continue
        with page.section(title, _PICTURE if group is worst or not worst else ""):
            for n, example in enumerate(group):
                line = f"Window {int(example['index'])}"
                row = row_of.get(int(example["index"]))
                if row is not None:
                    line = _caption(run, row, rank[int(example["index"])])
                with page.details(line, open=n < unfolded):
                    page.figure(pose_figure(example, wireframe), "", alt=line, dpi=80)


def _caption(run: Evaluation, row: int, rank: int) -> str:
    errors, records = run.errors[PLAIN], run.plain
    said = (
        "the estimate is not finite"
        if run.missing[row]
        else f"{number(errors.position[row])} m, {number(errors.rotation[row], 1)} deg"
    )
    text = f"{run.called(row)}: {said}; worst {rank} of {len(run.missing)}"
    text += f"; range {summaries.condition(records, 'range_m')[row]:.1f} m"
    return text + (f"; {int(records['events'][row]):,} events" if "events" in records else "")


_PICTURE = """What the network sees is the grid after the view turned and zoomed the camera; the \
other panels show the same events in grey, closer where a frame in the first panel says so. The \
truth is drawn with solid lines, the estimate dashed or in orange; letters with a hat belong to \
the estimate's axes, and an axis that points at the camera looks short."""
