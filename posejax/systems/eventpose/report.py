"""What an eventpose evaluation reports: official scores, errors along time, windows with poses."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from posejax.report import parts
from posejax.report.contents import Part, Plot, pictures
from posejax.report.figures import agreement
from posejax.report.skeleton import Report
from posejax.report.statistics import median
from posejax.report.text import Share, number
from posejax.systems.eventpose import summary as summaries
from posejax.systems.eventpose.conditions import conditions_of
from posejax.systems.eventpose.config import TrajectoryConfig
from posejax.systems.eventpose.failures import errors_by_condition
from posejax.systems.eventpose.hypotheses import PARTS, square_distances, tracked
from posejax.systems.eventpose.pictures import Example, Wireframe, pose_figure
from posejax.systems.eventpose.smoothing import smoothed
from posejax.systems.eventpose.summary import PoseErrors, Records

_PLAIN = "single windows"
_SMOOTHERS = {"rts": "Kalman/RTS", "spline": "SE(3) spline", "twist": "constant twist"}
_WORST = 20  # rows of the table of worst windows


def _radians(errors: PoseErrors) -> np.ndarray:
    return np.deg2rad(errors.rotation)


_MEASURES = (
    parts.Measure("score", "SPARK 2026 = Kelvins 2019: mean of E_t + E_r", "score", digits=4),
    parts.Measure(
        "speed_plus", "SPEED+: the same, zero below its thresholds", "speed_plus", digits=4
    ),
    parts.Measure("relative_position", "E_t: position error / range, mean", "relative", digits=4),
    parts.Measure("rotation_rad", "E_r: rotation error (rad), mean", _radians, digits=4),
    parts.Measure("position_m", "position error (m), mean", "position"),
    parts.Measure("position_median_m", "position error (m), median", "position", median),
    parts.Measure("rotation_deg", "rotation error (deg), mean", "rotation", digits=2),
    parts.Measure("rotation_median_deg", "rotation error (deg), median", "rotation", median, 2),
    parts.Measure("beyond_90deg", "beyond 90 deg", lambda e: e.rotation > 90, parts.share),
    *(
        parts.Measure(
            f"within_{m:g}m_{d}deg",
            f"within {m:g} m and {d} deg",
            lambda e, m=m, d=d: (e.position < m) & (e.rotation < d),
            parts.share,
        )
        for m, d in ((0.1, 5), (0.2, 15))
    ),
)
_KINDS = {"score": "score", "position error (m)": "position", "rotation error (deg)": "rotation"}
_AXES = {"x, right": "rms_x_m", "y, down": "rms_y_m", "z, forward": "rms_z_m"}
_HEADLINES = (
    parts.Headline("score", "SPARK score"),
    parts.Headline("relative_position", "E_t, mean", digits=4),
    parts.Headline("rotation_median_deg", "rotation, median", "°", 2),
    parts.Headline("rotation_deg", "rotation, mean", "°", 2),
    parts.Headline("position_m", "position, mean", " m"),
    parts.Headline("examples", "windows", digits=0),
    parts.Headline("sequences", "sequences", digits=0),
)


def make_report(
    records: Records,
    summary: Mapping[str, float],
    examples: Sequence[Example],
    *,
    title: str,
    simulated: bool,
    trajectory: TrajectoryConfig,
    focal: float,
    wireframe: Wireframe | None = None,
) -> Report:
    """The report of a split.

    Args:
      records: of the whole split, see `summary`; with `index`, and `name` where the source has one.
      summary: what `summary.summarize` made of them.
      examples: a few examples to picture, see `pose_figure`, with their `index`.
      title, simulated: see `Report`.
      trajectory: the smoothing that numbers and curves are shown after.
      focal: of the camera, pixels: for speeds in the picture.
      wireframe: points [P, 3] m of the body frame and edges [E, 2] to draw at the poses.
    """
    estimates, prefixes = {_PLAIN: records}, {_PLAIN: ""}
    if trajectory.method != "none":
        label = f"smoothed ({_SMOOTHERS[trajectory.method]})"
        layer, prefix = smoothed, "smoothed/"
        if "hypothesis_weight" in records:
            label, layer, prefix = f"chosen over time, {label}", tracked, "tracked/"
        estimates[label] = {**records, **layer(records, trajectory)}
        prefixes[label] = prefix
    errors = {label: summaries.pose_errors(r) for label, r in estimates.items()}
    plain, missing = errors[_PLAIN], ~summaries.is_finite(records)
    distance = summaries.true_range(records)
    at = zip(records["sequence"], records["time"], strict=True)
    records = {"name": np.array([f"sequence {s} at {t:.2f} s" for s, t in at]), **records}
    order = np.lexsort((-plain.score, ~missing))  # what is not finite first
    scores, intervals = parts.measured(_MEASURES, errors, records["sequence"])
    by_axis = {**_AXES, "not finite": ("nonfinite", int)}
    caption = "RMS along the axes of the camera (m)"
    calibration, risk = _spreads(records, summary, plain, missing)
    curves = {label: {k: getattr(e, f) for k, f in _KINDS.items()} for label, e in errors.items()}
    after = len(errors) > 1
    more = {"position m": plain.position, "rotation deg": plain.rotation}
    if after:
        more["score smoothed"] = list(errors.values())[-1].score
    optional = ("events", "light", "zoom")
    known = [k for k in optional if np.isfinite(records.get(k, np.nan)).any()]
    describe = partial(_describe, plain, missing, distance)
    draw = partial(pose_figure, wireframe=wireframe)
    return Report(
        title=title,
        simulated=simulated,
        summary=summary,
        count=len(order),
        noun="windows",
        nonfinite={"single-window": records["name"][missing].tolist()} if missing.any() else {},
        nonfinite_text="they score as 180 degrees and a position error of the whole range",
        remarks=[] if np.ptp(records["sequence"]) else [_ALONE],
        cards={
            f"{label}:": parts.cards(summary, _HEADLINES, intervals[label], prefix)
            for label, prefix in prefixes.items()
        },
        accuracy=[
            scores,
            parts.summary_table(summary, prefixes, by_axis, caption, first="estimates"),
            *_others(summary),
            *_distributions(estimates, errors, missing),
        ],
        calibration=calibration,
        conditions=errors_by_condition(
            {"over time" if label != _PLAIN else _PLAIN: e for label, e in errors.items()},
            conditions_of(records, focal),
            records["sequence"],
        ),
        risk=risk,
        tracks=parts.tracks(records, curves, missing, {"range m": distance}, noun="windows"),
        worst=parts.rows(
            {
                "window": records["name"],
                "index": records["index"],
                "time s": records["time"],
                "score": plain.score,
                **more,
                "range m": distance,
                **{k: records[k] for k in known if k != "zoom"},
                "finite": np.where(missing, "no", "yes"),
            },
            order[:_WORST],
        ),
        worst_text=_ORDER,
        gallery=pictures(examples, records, order, describe, draw, "Window"),
        gallery_text=_PICTURE,
        settings={
            "true range (m)": parts.extent(distance),
            **{f"{k} of the windows": parts.extent(records[k]) for k in known},
            "network input": " x ".join(map(str, examples[0]["grid"].shape)) if examples else "-",
            "wireframe": f"{len(wireframe[1])} edges" if wireframe else "none",
            "trajectory layer": trajectory.method,
            **{f"trajectory {k}": v for k, v in dataclasses.asdict(trajectory).items() if after},
        },
        conventions=_CONVENTIONS,
        facts={"intervals": intervals},
    )


def _others(summary: Mapping[str, float]) -> list[Part]:
    """What else could be said of the same windows: an oracle's choice, and the direct heads."""
    prefixes = {"an oracle's choice of the hypotheses": "best_of/", "direct heads": "direct/"}
    prefixes = {k: p for k, p in prefixes.items() if f"{p}score" in summary}
    columns = {
        "score": "score",
        "E_t": "relative_position",
        "rotation deg": "rotation_deg",
        "median": "rotation_median_deg",
        "beyond 90 deg": ("beyond_90deg", Share),
    }
    caption = "Other estimates for the same windows."
    return [parts.summary_table(summary, prefixes, columns, caption, first="")] if prefixes else []


def _distributions(
    estimates: Mapping[str, Records], errors: Mapping[str, PoseErrors], missing: np.ndarray
) -> list[Part]:
    """Shares of windows below an error; what is not finite is below none, whatever it scores as."""
    lost = {label: missing & (label == _PLAIN) for label in errors}
    series = {
        kind: (unit, {k: np.where(lost[k], np.nan, getattr(e, kind)) for k, e in errors.items()})
        for kind, unit in (("position", "m"), ("rotation", "deg"))
    }
    hats = {k: np.linalg.norm(r["translation_hat"], axis=1) for k, r in estimates.items()}
    distance = summaries.true_range(estimates[_PLAIN])
    draw = partial(agreement, distance, hats, quantity="range (m)")
    caption = "Estimated against true range; the line is where they agree."
    plots = parts.distributions(series, "windows", most={"rotation": 180.0})
    return [*plots, Plot("range", draw, caption)]


def _spreads(
    records: Records, summary: Mapping[str, float], errors: PoseErrors, missing: np.ndarray
) -> tuple[list[Part], list[Part]]:
    """Errors against the standard deviations predicted, one for three axes, and what they order."""
    claims, risk = [], []
    pairs = (("position", "m", errors.position), ("rotation", "rad", np.deg2rad(errors.rotation)))
    for name, unit, error in pairs:
        if f"sigma_{unit}" not in records:
            continue
        sigma = np.asarray(records[f"sigma_{unit}"], np.float64)
        sigma = np.where((sigma > 0) & ~missing, sigma, np.nan)
        columns = {
            "median sigma": median(sigma),
            "median error": median(error[np.isfinite(sigma)]),
            "RMS error / sigma (1)": number(summary[f"sigma_ratio_{unit}"], 2),
        }
        region, square = "spheres of the predicted spread", (error / sigma) ** 2
        claims.append(parts.Claim(f"{name} ({unit})", region, square, 3, columns))
        measure = f"{name} error ({unit})"
        risk.append(parts.risk(name, measure, error, sigma, by="sigma", noun="windows"))
    if "twist_error" in records:
        region = "ellipsoids of the best pose"
        columns = {k: "" for k in columns} if claims else {}
        for name, squares in square_distances(records).items():
            squares = np.where(missing, np.nan, squares)
            dof = PARTS[name].stop - PARTS[name].start
            claims.append(parts.Claim(f"{name}, ellipsoid", region, squares, dof, columns))
    caption = "Do the predicted standard deviations, one for three axes, tell the truth?"
    return parts.calibration(claims, caption=caption, first="error of"), risk


def _describe(
    errors: PoseErrors, missing: np.ndarray, distance: np.ndarray, row: int | None, example: Example
) -> str:
    if row is None:
        return "not among the records"
    text = f"{number(errors.position[row])} m, {number(errors.rotation[row], 1)} deg"
    text = "the estimate is not finite" if missing[row] else text
    events = f"; {int(example['found']):,} events" if "found" in example else ""
    return f"{text}; range {distance[row]:.1f} m{events}"


_ALONE = "One sequence only: its windows err together, so no interval can be given."

_ORDER = """Estimates of single windows: those that are not finite first, then by falling score. \
Neighbouring windows often fail together; index is the window's position in its source."""

_PICTURE = """What the network sees is the grid after the view turned and zoomed the camera; the \
other panels show the same events in grey, closer where a frame in the first panel says so. The \
truth is drawn with solid lines, the estimate dashed or in orange; letters with a hat belong to \
the estimate's axes, and an axis that points at the camera looks short. Circles mark the modes of \
the heatmaps, darker the more probable; another hypothesis is drawn where its weight is 0.1."""

_CONVENTIONS = """A pose is camera_from_body: a point X of the body frame lies at R X + t in the \
camera frame, x right, y down, z forward, metres. Range is |t|.

E_t is |t - t_hat| / |t|; E_r is the angle of the turn between the two attitudes, in radians. The \
score of SPARK 2026 and of Kelvins 2019 is the mean of E_t + E_r; SPEED+ sets E_t below 0.002173 \
and E_r below 0.169 degrees to zero first. An estimate that is not finite scores as 180 degrees \
and a position error of the whole range; the smoother takes it for a gap and fills it.

Intervals hold 95 % of the values that a bootstrap gives which draws whole sequences with \
replacement; windows of a sequence err together, and one sequence alone gives no interval.

Smoothed estimates use the windows before and after, so they are not those of a live system."""
