"""Sections of the georeg report, each from the records of a split or from its examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posejax.report.figures import binned_error, calibration_plot, curves, error_cdf
from posejax.report.page import Page
from posejax.report.statistics import coverage_curve
from posejax.report.text import number, percent
from posejax.systems.georeg import summary as summaries
from posejax.systems.georeg.pictures import Setting, registration_figure
from posejax.systems.georeg.summary import COVARIANCES, ESTIMATORS, LEVELS, RECALLS, Records
from posejax.systems.georeg.tables import READOUT_NAMES

# Records against which errors are broken down, and what to call them.
CONDITIONS = {
    "fill_rate": "fill rate of the online raster",
    "overlap": "overlap of online and geo raster at the truth",
    "lock_on": "sampling-pattern lock-on",
}
# Name, axes, degrees of freedom (the ideal mean NEES), and the median of that chi-square law.
_ELLIPSES = (("xy", "x, y", 2, 1.39), ("pose", "x, y, yaw", 3, 2.37))


def opening(page: Page, numbers: Mapping[str, float], facts: Mapping[str, Any]) -> None:
    """What nobody should overlook (simulated? anything not finite?), then the key numbers."""
    if facts["simulated"]:
        page.notice(
            "Simulated data: every number and picture on this page comes from simulated worlds "
            "and sensors, not from recordings."
        )
    for name, lost in facts["nonfinite"].items():
        listed = ", ".join(map(str, lost[:50])) + (" ..." if len(lost) > 50 else "")
        page.notice(
            f"{len(lost)} of {int(numbers['examples'])} {name} estimates are not finite and are "
            f"in no average. Examples: {listed}"
        )
    cards = [
        (f"{int(numbers['examples'])}", "examples"),
        (f"{number(numbers['softmax/rms_xy_m'])} m", "RMS position, softmax"),
        (f"{number(numbers['softmax/rms_x_m'])} m", "RMS x, softmax"),
        (f"{number(numbers['softmax/rms_y_m'])} m", "RMS y, softmax"),
        (f"{number(numbers['softmax/rms_yaw_deg'])}°", "RMS yaw, softmax"),
        (percent(numbers["softmax/recall_0.2m_1deg"]), "within 0.2 m and 1°"),
    ]
    if "softmax/coverage_95_xy" in numbers:
        cards.append((percent(numbers["softmax/coverage_95_xy"]), "inside their 95 % ellipse"))
    if "abstain_rate" in numbers:
        cards.append((percent(numbers["abstain_rate"]), "abstained"))
    page.cards(cards)


def accuracy(page: Page, records: Records, numbers: Mapping[str, float]) -> None:
    """Errors of the three readings: tables by axis, recall, distributions."""
    order = ("argmax", "softmax", "gaussian")
    with page.section("Accuracy"):
        axes = ("x_m", "y_m", "xy_m", "longitudinal_m", "lateral_m", "yaw_deg")
        headers = ["readout", *(a.replace("_", " ") for a in axes)]
        for kind, name in (("rms", "RMS"), ("mean_abs", "Mean absolute")):
            rows = [[READOUT_NAMES[e], *(numbers[f"{e}/{kind}_{a}"] for a in axes)] for e in order]
            page.table(headers, rows, caption=f"{name} error")
        rows = [
            [
                READOUT_NAMES[e],
                *(number(numbers[f"{e}/median_{a}"]) for a in ("xy_m", "yaw_deg")),
                *(percent(numbers[f"{e}/recall_{m:g}m_{d:g}deg"]) for m, d in RECALLS),
                int(numbers[f"{e}/nonfinite"]),
            ]
            for e in order
        ]
        headers = ["readout", "median xy m", "median yaw deg"]
        headers += [f"{m:g} m, {d:g}°" for m, d in RECALLS]
        page.table([*headers, "not finite"], rows, caption="Medians, and recall within both limits")
        errors = {e: summaries.pose_errors(records[e], records["pose"]) for e in order}
        with page.row():
            series = {READOUT_NAMES[e]: v.xy for e, v in errors.items()}
            page.figure(error_cdf(series, unit="m"), "Examples below a position error.")
            series = {READOUT_NAMES[e]: np.abs(v.yaw) for e, v in errors.items()}
            page.figure(error_cdf(series, unit="deg"), "Examples below a yaw error.")


def calibration(page: Page, records: Records, numbers: Mapping[str, float]) -> None:
    """Errors against the covariances claimed; nothing if none is recorded."""
    given = [e for e in ESTIMATORS if COVARIANCES.get(e) in records]
    if not given:
        return
    levels = np.linspace(0.01, 0.99, 99)
    plots: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {"xy": {}, "pose": {}}
    rows = []
    for e in given:
        both = summaries.pose_nees(records[e], records[COVARIANCES[e]], records["pose"])
        for (kind, axes, dof, median), nees in zip(_ELLIPSES, both, strict=True):
            plots[kind][READOUT_NAMES[e]] = levels, coverage_curve(nees, dof, levels)
            suffix = "_xy" if kind == "xy" else ""
            rows.append(
                [
                    READOUT_NAMES[e],
                    axes,
                    f"{number(numbers[f'{e}/nees{suffix}'], 2)} ({dof})",
                    f"{number(numbers[f'{e}/median_nees{suffix}'], 2)} ({median})",
                    *(percent(numbers[f"{e}/coverage_{100 * q:.0f}_{kind}"]) for q in LEVELS),
                    percent(numbers[f"{e}/calibration_error_{kind}"]),
                    int(numbers[f"{e}/bad_covariance"]),
                ]
            )
    count = int(numbers["examples"])
    with page.section("Calibration", "Does the covariance tell the truth about the error?"):
        headers = ["readout", "ellipse of", "mean NEES (ideal)", "median NEES (ideal)"]
        headers += [f"inside {100 * q:.0f} %" for q in LEVELS] + ["mean gap", "unusable covariance"]
        page.table(headers, rows, caption="Error against the covariance that the estimate claims")
        band = "Grey: what chance allows a calibrated estimate (95 %)."
        with page.row():
            for kind, axes, *_ in _ELLIPSES:
                figure = calibration_plot(plots[kind], count=count, title=f"ellipses of {axes}")
                page.figure(figure, f"Share of truths inside the ellipse of {axes}. {band}")
        if "nll" in numbers:
            page.text(f"Mean NLL of the true pose in the volume: {number(numbers['nll'])} nats.")
        if "covariance" in records:
            coverage, risk, oracle = summaries.risk_coverage(records)
            series = {
                "by covariance": (100 * coverage, risk),
                "by true error (bound)": (100 * coverage, oracle),
            }
            caption = "Mean softmax error when only the most certain examples are kept."
            figure = curves(series, xlabel="examples kept (%)", ylabel="mean position error (m)")
            page.figure(figure, caption)
        if "abstain_rate" in numbers:
            rows = [
                ["all", count, *(numbers[f"softmax/{k}_xy_m"] for k in ("rms", "median"))],
                [
                    "not abstained",
                    int(np.sum(~np.asarray(records["abstain"], bool))),
                    *(numbers[f"kept/{k}_xy_m"] for k in ("rms", "median")),
                ],
            ]
            headers = ["softmax estimates", "examples", "RMS xy m", "median xy m"]
            page.table(headers, rows, caption=f"Abstained: {percent(numbers['abstain_rate'])}")


def condition(page: Page, name: str, rows: Sequence[summaries.Bin]) -> None:
    """Errors in bins of one of `CONDITIONS`."""
    label = CONDITIONS[name]
    headers = ["from", "to", "examples", "not finite", "median xy m", "RMS xy m"]
    headers += ["RMS 95 % interval", "RMS yaw deg", "0.5 m, 2°"]
    cells = [
        [
            b.low,
            b.high,
            b.count,
            b.nonfinite,
            b.median_xy_m,
            b.rms_xy_m,
            f"{number(b.rms_xy_low)} to {number(b.rms_xy_high)}",
            b.rms_yaw_deg,
            percent(b.recall),
        ]
        for b in rows
    ]
    page.table(headers, cells, caption=f"By {label}")
    if len(rows) < 2:
        return
    figure = binned_error(
        [(b.low, b.high) for b in rows],
        [b.rms_xy_m for b in rows],
        [(b.rms_xy_low, b.rms_xy_high) for b in rows],
        [b.count for b in rows],
        xlabel=label,
        ylabel="RMS position error (m)",
    )
    page.figure(figure, f"Error by {label}; bars with 95 % bootstrap intervals.")


def gallery(
    page: Page, records: Records, examples: Sequence[Mapping[str, np.ndarray]], setting: Setting
) -> None:
    """Pictures, the worst first; an example is among the worst by its rank in the whole split."""
    rank = {int(records["index"][k]): n + 1 for n, k in enumerate(summaries.worst_first(records))}
    names = dict(zip(np.asarray(records["index"]).tolist(), records.get("name", ()), strict=False))
    ranked = sorted(examples, key=lambda e: rank.get(int(e["index"]), len(rank) + 1))
    bound = min(len(examples), max(1, len(rank) // 10))
    worst = [e for e in ranked if rank.get(int(e["index"]), len(rank) + 1) <= bound]
    groups = (("Pictures: worst", worst), ("Pictures: others", ranked[len(worst) :]))
    for (title, group), unfolded in zip(groups, (3, 1), strict=True):
        if not group:
            continue
        with page.section(title):
            for n, example in enumerate(group):
                index = int(example["index"])
                called = f"Example {index}" + (f" ({names[index]})" if index in names else "")
                error = summaries.pose_errors(example["softmax"][None], example["pose"][None])
                line = (
                    f"{called}: {number(error.xy[0])} m, {number(abs(error.yaw[0]))} deg"
                    f" (softmax); worst {rank[index]} of {len(rank)}"
                    if index in rank
                    else called
                )
                for name in ("fill_rate", "overlap"):
                    if name in example:
                        line += f"; {name.replace('_', ' ')} {number(float(example[name]), 2)}"
                with page.details(line, open=n < unfolded):
                    page.figure(registration_figure(example, setting), _PICTURE, dpi=80)


_PICTURE = """Top: the two rasters, and the online raster laid over the geo raster at the truth \
and at the softmax estimate. Below: both at once (pale where they agree), the volume summed over \
yaw with truth, readings and the softmax estimate's 95 % ellipse, and the yaw. Features, if \
any: equal colours are equal features; the last panel shows which places vote for the estimate."""
