"""What a georeg evaluation reports: errors by axis, calibration of covariances, registrations."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from posejax.report import parts
from posejax.report.contents import Condition, Part, condition, pictures
from posejax.report.rasters import choose_displays
from posejax.report.skeleton import Report
from posejax.report.statistics import finite, median, rms
from posejax.report.text import Share, number, percent
from posejax.systems.georeg import summary as summaries
from posejax.systems.georeg.pictures import Example, Setting, registration_figure
from posejax.systems.georeg.summary import COVARIANCES, RECALLS, PoseErrors, Records

_READOUTS = {"pixel (argmax)": "argmax", "softmax": "softmax", "Gaussian": "gaussian"}
# Records against which errors are broken down, and what to call them.
_CONDITIONS = {
    "fill_rate": "fill rate of the online raster",
    "overlap": "overlap of online and geo raster at the truth",
    "lock_on": "sampling-pattern lock-on",
}
_WORST = 20  # rows of the table of worst examples
_HEADLINES = (
    parts.Headline("examples", "examples", digits=0),
    parts.Headline("softmax/rms_xy_m", "RMS position, softmax", " m"),
    parts.Headline("softmax/rms_x_m", "RMS x, softmax", " m"),
    parts.Headline("softmax/rms_y_m", "RMS y, softmax", " m"),
    parts.Headline("softmax/rms_yaw_deg", "RMS yaw, softmax", "°"),
    parts.Headline("softmax/recall_0.2m_1deg", "within 0.2 m and 1°", "%"),
    parts.Headline("softmax/coverage_95_xy", "inside their 95 % ellipse", "%"),
    parts.Headline("abstain_rate", "abstained", "%"),
)


def make_report(
    records: Records,
    summary: Mapping[str, float],
    examples: Sequence[Example],
    setting: Setting,
    *,
    title: str,
    simulated: bool,
) -> Report:
    """The report of a split.

    Args:
      records: of the whole split, see `summary`.
      summary: what `summary.summarize` made of them.
      examples: a few examples to picture, each with `online` [H, W, Co], `online_mask`, `geo`
        [Hg, Wg, Cg], `geo_mask`, `pose`, `index`, `log_prob` [K, 2r+1, 2r+1], `softmax`,
        `gaussian`, `argmax` [3]; optional `covariance` [3, 3], `online_features`, `geo_features`.
      setting: of all examples.
      title, simulated: see `Report`.

    Raises:
      ValueError: channel names that do not fit.
    """
    order = summaries.worst_first(records)
    channels = {"online": setting.online_channels, "geo": setting.geo_channels}
    shown = choose_displays(examples, channels)
    draw = partial(registration_figure, setting=setting, shown=shown)
    errors = summaries.pose_errors(records["softmax"], records["pose"])
    yaws = np.rad2deg(setting.angles)
    return Report(
        title=title,
        simulated=simulated,
        summary=summary,
        count=len(records["index"]),
        nonfinite=summaries.nonfinite_examples(records),
        cards={"": parts.cards(summary, _HEADLINES)},
        accuracy=_accuracy(records, summary),
        calibration=_calibration(records, summary),
        conditions=[_condition(records, errors, by) for by in _CONDITIONS if by in records],
        risk=_risk(records, summary),
        worst=parts.rows(_columns(records, errors), order[:_WORST]),
        worst_text=_ORDER.format(_ERROR if "error" in records else "position error"),
        gallery=pictures(examples, records, order, _describe, draw),
        gallery_text=_PICTURE,
        settings={
            "cell_size_m": setting.cell_size,
            "volume_cell_size_m": setting.volume_cell_size,
            "window_m": setting.radius * setting.volume_cell_size,
            "yaw_deg": f"{yaws.min():g} to {yaws.max():g} in {len(yaws)} steps",
            **{f"{name}_channels": list(names) for name, names in channels.items()},
        },
        conventions=_CONVENTIONS,
    )


def _accuracy(records: Records, summary: Mapping[str, float]) -> list[Part]:
    """Errors of the three readings: tables by axis, recall, distributions."""
    axes = ("x_m", "y_m", "xy_m", "longitudinal_m", "lateral_m", "yaw_deg")
    prefixes = {label: f"{e}/" for label, e in _READOUTS.items()}
    table = partial(parts.summary_table, summary, prefixes, first="readout")
    recalls = {f"{m:g} m, {d:g}°": (f"recall_{m:g}m_{d:g}deg", Share) for m, d in RECALLS}
    hits = {"median xy m": "median_xy_m", "median yaw deg": "median_yaw_deg", **recalls}
    hits["not finite"] = "nonfinite", int
    errors = {k: summaries.pose_errors(records[e], records["pose"]) for k, e in _READOUTS.items()}
    series = {
        "position": ("m", {k: e.xy for k, e in errors.items()}),
        "yaw": ("deg", {k: np.abs(e.yaw) for k, e in errors.items()}),
    }
    return [
        table({a.replace("_", " "): f"rms_{a}" for a in axes}, "RMS error"),
        table({a.replace("_", " "): f"mean_abs_{a}" for a in axes}, "Mean absolute error"),
        table(hits, "Medians, and recall within both limits"),
        *parts.distributions(series),
    ]


def _calibration(records: Records, summary: Mapping[str, float]) -> list[Part]:
    """Errors against the covariances claimed."""
    claims = []
    for label, e in _READOUTS.items():
        if COVARIANCES.get(e) in records:
            both = summaries.pose_nees(records[e], records[COVARIANCES[e]], records["pose"])
            regions = ("ellipses of x, y", "ellipses of x, y, yaw")
            claims += [parts.Claim(label, *c) for c in zip(regions, both, (2, 3), strict=True)]
    caption = "Does the covariance tell the truth about the error?"
    found = parts.calibration(claims, caption=caption, first="readout")
    if found and "nll" in summary:
        found.append(f"Mean NLL of the true pose in the volume: {number(summary['nll'])} nats.")
    return found


def _condition(records: Records, errors: PoseErrors, by: str) -> Condition:
    """Softmax errors in bins; what is not finite is a miss, as NaN compares as false."""
    hit = (errors.xy <= 0.5) & (np.abs(errors.yaw) <= 2)
    columns = {
        "not finite": lambda rows: int(np.sum(~np.isfinite(errors.xy[rows]))),
        "median xy m": lambda rows: median(errors.xy[rows]),
        "RMS yaw deg": lambda rows: float(rms(finite(errors.yaw[rows]))),
        "0.5 m, 2°": lambda rows: Share(np.mean(hit[rows])),
    }
    args = by, _CONDITIONS[by], records[by], errors.xy, rms
    return condition(*args, measure="RMS softmax position error (m)", columns=columns)


def _risk(records: Records, summary: Mapping[str, float]) -> list[Part]:
    """What is won by leaving out the estimates that claim the largest covariances."""
    found: list[Part] = []
    if "covariance" in records:
        error, spread = summaries.error_and_spread(records)
        args = "position", "softmax position error (m)", error, spread
        found.append(parts.risk(*args, by="covariance"))
    if "abstain_rate" in summary:
        rows = {"all": "softmax/", "not abstained": "kept/"}
        columns = {"RMS xy m": "rms_xy_m", "median xy m": "median_xy_m"}
        count, kept = len(records["index"]), int(np.sum(~np.asarray(records["abstain"], bool)))
        caption = f"Abstained: {percent(summary['abstain_rate'])}; {kept} of {count} remain"
        found.append(parts.summary_table(summary, rows, columns, caption, first="estimates"))
    return found


def _columns(records: Records, errors: PoseErrors) -> dict[str, np.ndarray]:
    """Of the table of worst examples."""
    found = {name: records[name] for name in ("name", "index") if name in records}
    for axis, unit in (("xy", "m"), ("x", "m"), ("y", "m"), ("yaw", "deg")):
        found[f"error {axis} {unit}"] = getattr(errors, axis)
    optional = ("fill_rate", "overlap", "entropy", "peak_ratio", "lock_on")
    found |= {name.replace("_", " "): records[name] for name in optional if name in records}
    if "abstain" in records:
        found["abstained"] = np.where(records["abstain"], "yes", "no")
    return found


def _describe(row: int | None, example: Example) -> str:
    error = summaries.pose_errors(example["softmax"][None], example["pose"][None])
    line = f"{number(error.xy[0])} m, {number(abs(error.yaw[0]))} deg (softmax)"
    for name in sorted({"fill_rate", "overlap"} & set(example)):
        line += f"; {name.replace('_', ' ')} {number(float(example[name]), 2)}"
    return line


_ERROR = "one error of position and yaw in which a degree counts as much as 0.2 m"
_ORDER = """Estimates that are not finite first, then by {}. Errors are those of the softmax. \
Index is the example's position in its source, name what the source calls it."""

_PICTURE = """Top: the two rasters, and the online raster laid over the geo raster at the truth \
and at the softmax estimate. Below: both at once (pale where they agree), the volume summed over \
yaw with truth, readings and the softmax estimate's 95 % ellipse, and the yaw. Features, if \
any: equal colours are equal features; the last panel shows which places vote for the estimate."""

_CONVENTIONS = """A pose is geo_from_online: a point X of the online raster's frame lies at \
R(yaw) X + (x, y) in the geo raster's frame. Both origins are the rasters' centres, x grows along \
columns and y along rows; rows are drawn upwards. Errors in x and y are along the geo raster's \
axes; longitudinal and lateral errors are along the true online frame's x (forward) and y (left).

Pixel (argmax) is the best cell of the volume, softmax the expectation over the volume, Gaussian \
the sub-cell peak. NEES is the squared error measured in the estimate's own covariance. \
Estimates that are not finite are left out of every average, counted and named, and count as \
misses in recall and coverage."""
