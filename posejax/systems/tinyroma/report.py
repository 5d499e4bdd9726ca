"""What a tinyroma evaluation reports: poses, warps, what they claim of themselves, pictures."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from posejax.report import parts
from posejax.report.contents import Condition, Part, Plot, Table, condition, pictures
from posejax.report.figures import calibration_plot, curves
from posejax.report.skeleton import Report
from posejax.report.statistics import bootstrap_interval, finite, mean, median
from posejax.report.text import Share, number, percent
from posejax.systems.tinyroma.pictures import matching_figure
from posejax.systems.tinyroma.poses import FAILURE

Records = Mapping[str, np.ndarray]

_WORST = 20  # rows of the table of worst pairs
_THRESHOLDS = (5, 10, 20)
_HEADLINES = (
    *(parts.Headline(f"auc{t}", f"pose AUC@{t}°", "%") for t in _THRESHOLDS),
    parts.Headline("rotation_median_deg", "rotation, median", "°", 2),
    parts.Headline("translation_median_deg", "translation's direction, median", "°", 2),
    *(parts.Headline(f"pck{t}", f"covisible cells within {t} px", "%") for t in (1, 3, 5)),
    parts.Headline("epe_median", "end-point error, median", " px", 2),
    parts.Headline("coverage", "true poses inside 95 % regions", "%"),
)
_STRATA = {
    "overlap": "share of A that B sees",
    "rotation_deg": "true rotation between the cameras (deg)",
}


def build(
    records: Records,
    summary: Mapping[str, float],
    examples: Sequence[Mapping[str, Any]],
    *,
    title: str,
    simulated: bool,
    protocol: str,
) -> Report:
    """The report of a split.

    Args:
      records: the per-pair metrics of the system, `index`, and `name` where the source has one.
      summary: what `summary.summarize` made of them.
      examples: a few examples to picture, see `pictures.matching_figure`, with their `index`.
      title, simulated: see `Report`.
      protocol: how poses were estimated, without which an AUC means nothing.
    """
    records = {"name": np.array([f"pair {i}" for i in records["index"]]), **records}
    rotation, translation, pose = pose_errors(records)
    posed, warped = np.isfinite(pose), "epe" in records and np.isfinite(records["epe"]).any()
    failed = posed & ~np.asarray(records["valid"], bool)
    errors = {"pose deg": pose, "rotation deg": rotation, "translation deg": translation}
    if warped:
        errors |= {"end point px": records["epe"], "within 3 px": records["pck3"]}
    worst = np.where(posed, pose, np.asarray(records["error"], np.float64))
    order = np.lexsort((-np.nan_to_num(worst, nan=np.inf), ~failed))
    intervals = _intervals(records, summary)
    inliers = np.asarray(records["inlier_share"]) * np.asarray(records["matches"])
    known = {k: v for k, v in _STRATA.items() if np.isfinite(records[k]).any()}
    distributions = {"pose": ("deg", {"rotation": rotation, "translation": translation})}
    accuracy: list[Part] = []
    if posed.any():
        accuracy += [
            _auc_table(summary),
            Plot("auc", partial(_recall, pose[posed]), _AUC_CAPTION),
            *parts.distributions(_only(distributions, posed), "pairs", most={"pose": FAILURE}),
        ]
    if warped:
        within = {f"{t} px": records[f"pck{t}"] for t in (1, 3, 5)}
        accuracy.append(_warp_table(within, np.asarray(records["epe"]), intervals))
        accuracy += parts.distributions({"end-point": ("px", {"warp": records["epe"]})}, "pairs")
    return Report(
        title=title,
        simulated=simulated,
        summary=summary,
        count=len(order),
        noun="pairs",
        nonfinite={"pose": records["name"][failed].tolist()} if failed.any() else {},
        nonfinite_text=f"no pose was found in their matches: they count as {FAILURE:g} degrees",
        cards={"": parts.cards(summary, _HEADLINES, intervals)},
        accuracy=accuracy,
        calibration=[*_covariance(records, pose, posed), *_certainty(records)],
        conditions=[_condition(records, k, v, pose, warped) for k, v in known.items()],
        risk=[parts.risk("pose", "pose error (deg)", np.where(posed, pose, np.nan), -inliers,
                         by="number of inliers", noun="pairs")] if posed.any() else [],
        worst=parts.rows(
            {
                "pair": records["name"],
                "index": records["index"],
                **errors,
                "overlap": records["overlap"],
                "true rotation deg": records["rotation_deg"],
                "inliers": np.round(inliers).astype(int),
                "pose": np.where(failed, "none", np.where(posed, "found", "unknown truth")),
            },
            order[:_WORST],
        ),
        worst_text="Pairs without a pose first, then by falling error: of the pose, or where the "
        "true one is unknown the angle that the warp's mean error spans.",
        gallery=pictures(
            examples, records, order, partial(_describe, errors, failed), matching_figure, "Pair",
            photograph=True,
        ),
        gallery_text=_PICTURE,
        settings={
            "protocol": protocol,
            "pairs with a true pose": int(posed.sum()),
            **{v: parts.extent(records[k]) for k, v in known.items()},
            "matches of a pair": parts.extent(records["matches"]),
            "image size": " x ".join(map(str, examples[0]["image_a"].shape)) if examples else "-",
        },
        conventions=_CONVENTIONS,
        facts={"intervals": intervals},
    )  # fmt: skip


def pose_errors(records: Records) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotation, translation and the larger of them [N] deg; failures are 90, NaN without truth."""
    rotation, translation = (
        np.asarray(records[f"{k}_error"], np.float64) for k in ("rotation", "translation")
    )
    known = np.isfinite(rotation) | np.isfinite(translation)
    failed = known & ~np.asarray(records["valid"], bool)
    rotation, translation = (np.where(failed, FAILURE, x) for x in (rotation, translation))
    return rotation, translation, np.maximum(rotation, translation)


def _intervals(records: Records, summary: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """95 % of the numbers that pairs drawn again give."""
    found = {
        f"auc{t}": (summary[f"auc{t}_low"], summary[f"auc{t}_high"])
        for t in _THRESHOLDS
        if f"auc{t}_low" in summary
    }
    shares = {k: finite(records[k]) for k in ("pck1", "pck3", "pck5") if k in records}
    return found | {k: bootstrap_interval(v, mean) for k, v in shares.items()}


def _only(
    errors: Mapping[str, tuple[str, Mapping[str, np.ndarray]]], kept: np.ndarray
) -> dict[str, tuple[str, dict[str, np.ndarray]]]:
    return {k: (unit, {n: v[kept] for n, v in s.items()}) for k, (unit, s) in errors.items()}


def _auc_table(summary: Mapping[str, float]) -> Table:
    rows = [
        [
            f"AUC@{t}°",
            Share(summary[f"auc{t}"]),
            (Share(summary[f"auc{t}_low"]), Share(summary[f"auc{t}_high"])),
        ]
        for t in _THRESHOLDS
    ]
    caption = "Protocol posejax; the interval draws pairs again. Not comparable across protocols."
    return Table(["", "value", "95 % interval"], rows, caption)


def _warp_table(
    within: Mapping[str, np.ndarray], epe: np.ndarray, intervals: Mapping[str, tuple[float, float]]
) -> Table:
    rows: list[list[Any]] = [
        [
            f"within {label}",
            Share(mean(finite(values))),
            tuple(Share(x) for x in intervals[f"pck{label[0]}"]),
        ]
        for label, values in within.items()
    ]
    rows.append(["end-point error, median over pairs (px)", number(median(epe), 2), "-"])
    return Table(["", "value", "95 % interval"], rows, "Warp at cells of A that B really sees.")


def _recall(pose: np.ndarray) -> Figure:
    """AUC over its threshold: what the three numbers are points of."""
    ordered = np.sort(pose)
    limits = np.linspace(0.25, 30, 120)
    recall = np.arange(len(ordered) + 1) / len(ordered)

    def area(limit: float) -> float:
        inside = ordered[ordered < limit]
        x = np.concatenate([[0.0], inside, [limit]])
        y = np.concatenate([recall[: len(inside) + 1], recall[len(inside) : len(inside) + 1]])
        return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / limit)

    series = {
        "AUC up to the error": (limits, np.array([100 * area(t) for t in limits])),
        "recall at the error": (limits, np.array([100 * np.mean(pose < t) for t in limits])),
    }
    figure = curves(series, xlabel="pose error (deg)", ylabel="%")
    axes = figure.axes[0]
    axes.set(xlim=(0, 30), ylim=(0, 102))
    for threshold in _THRESHOLDS:
        axes.plot(threshold, 100 * area(threshold), "o", color="#1c2330", markersize=5, zorder=3)
    return figure


def _covariance(records: Records, pose: np.ndarray, posed: np.ndarray) -> list[Part]:
    if not posed.any():
        return []
    squares = np.asarray(records["chi2"], np.float64)[posed]
    columns = {"median error (deg)": number(median(pose[posed]), 2)}
    claim = parts.Claim(
        "relative pose", "ellipsoids of the pose, five numbers", squares, 5, columns
    )
    caption = "Do the covariances of rotation and of the translation's direction tell the truth?"
    return parts.calibration([claim], caption=caption, first="error of")


def _certainty(records: Records) -> list[Part]:
    """Share of accurate cells over the certainty that was claimed for them."""
    if "certainty_cells" not in records:
        return []
    cells, claimed, hits = (
        np.asarray(records[f"certainty_{k}"], np.float64).sum(0) for k in ("cells", "sum", "hits")
    )
    if not cells.sum():
        return []
    used = cells > 0
    share, truth = claimed[used] / cells[used], hits[used] / cells[used]
    table = Table(
        ["mean certainty", "accurate", "cells"],
        [
            [Share(s), Share(t), Share(c / cells.sum())]
            for s, t, c in zip(share, truth, cells[used], strict=True)
        ],
        "Cells of the warp by the certainty claimed for them; the share within 3 px; share of all.",
    )

    def draw() -> Figure:
        figure = calibration_plot({"certainty": (share, truth)}, count=int(cells.sum()))
        axes = figure.axes[0]
        axes.set(xlabel="certainty (%)", ylabel="cells within 3 px (%)")
        axes.plot(100 * share, 100 * truth, "o", color="#0072B2", markersize=4)
        return figure

    gap = float(np.sum(np.abs(claimed - hits)) / cells.sum())
    caption = f"Certainty of cells against how many are accurate; mean gap {percent(gap)}."
    return [table, Plot("certainty", draw, caption)]


def _condition(records: Records, name: str, label: str, pose: np.ndarray, warped: Any) -> Condition:
    columns = {"median deg": lambda rows: median(pose[rows])}
    if warped:
        columns["within 3 px"] = lambda rows: Share(mean(finite(records["pck3"][rows])))
    if np.isfinite(pose).any():
        return condition(
            name, label, records[name], pose, mean, measure="pose error, mean (deg)", bins=4,
            columns=columns,
        )  # fmt: skip
    error = np.asarray(records["epe"], np.float64)
    measure = "end-point error, mean (px)"
    return condition(name, label, records[name], error, mean, measure=measure, bins=4)


def _describe(
    errors: Mapping[str, np.ndarray], failed: np.ndarray, row: int | None, example: Any
) -> str:
    del example
    if row is None:
        return "not among the records"
    if failed[row]:
        return "no pose found"
    units = {"rotation deg": "rotation {} deg", "translation deg": "translation {} deg"}
    units |= {"end point px": "warp {} px"}
    said = [
        text.format(number(errors[k][row], 1))
        for k, text in units.items()
        if k in errors and np.isfinite(errors[k][row])
    ]
    return ", ".join(said) or "truth unknown"


_AUC_CAPTION = """Recall of poses within an error, and the area under that curve up to it; the \
dots are AUC@5, @10 and @20."""

_PICTURE = """Above: inlier matches (green within 3 px of the true epipolar line, red beyond), and \
where the estimate and the truth put some points of A in B. Below: A blended with what the warp \
brings from B, pale where it is unsure; its displacement as a colour wheel; the certainty; and the \
end-point error, grey where nothing is known or B does not see the cell."""

_CONVENTIONS = """A pose is b_from_a: a point X in the frame of camera A (x right, y down, z \
forward) lies at R X + t in that of camera B. Two views do not tell the length of t: its error is \
the angle between directions, opposite ones counted as equal. The error of a pose is the larger of \
the two angles; a pair without a pose counts as 90 degrees.

AUC@t is the area under the curve of recall over error up to t degrees, as a share of the whole.
Pixels are those of the images as the network sees them, the first one's centre at (0.5, 0.5).
Errors of the warp count the cells of A that B sees by depth, those of the certainty all cells
where that is known. Intervals hold 95 % of the values that a bootstrap gives which draws pairs
with replacement; pairs of one world or scene are alike, so they are too narrow for other worlds."""
