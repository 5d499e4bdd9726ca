"""The report of an eventpose evaluation: one self-contained page, one JSON for programs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posejax.report.page import Page
from posejax.systems.eventpose import report_sections as sections
from posejax.systems.eventpose import summary as summaries
from posejax.systems.eventpose.config import TrajectoryConfig
from posejax.systems.eventpose.report_data import (
    PLAIN,
    Evaluation,
    evaluation_of,
    intervals,
    sequence_rows,
    worst_rows,
)
from posejax.systems.eventpose.summary import STRATA, Records


def write_report(
    records: Records,
    examples: Sequence[Mapping[str, np.ndarray]],
    folder: Path,
    *,
    title: str,
    simulated: bool,
    trajectory: TrajectoryConfig,
    wireframe: tuple[np.ndarray, np.ndarray] | None = None,
    sequence_names: Sequence[str] = (),
    notes: str = "",
) -> Path:
    """Write `index.html` and `report.json` into `folder`.

    Args:
      records: of the whole split, see `summary`; with `index`, and `name` where the source has one.
      examples: a few examples to picture, each with `grid` [H, W, C] as the network sees it,
        `pose` and `truth` [4, 4] camera_from_body, `view_rotation` and `view_intrinsics` [3, 3],
        `index`; frames also have `image`.
      folder: made if missing.
      title: of the page.
      simulated: whether the data are; the page then says so before anything else.
      trajectory: the smoothing that numbers and curves are shown after.
      wireframe: points [P, 3] m of the body frame and edges [E, 2] to draw at the poses.
      sequence_names: of the sequences by their number; "sequence N" where there is none.
      notes: text under the title: split, checkpoint, what is special.

    Returns:
      The path of `index.html`.
    """
    folder = Path(folder)
    run = evaluation_of(records, trajectory, sequence_names)
    numbers = summaries.summarize(records, trajectory)
    between = {label: intervals(e, records["sequence"]) for label, e in run.errors.items()}
    # An interval from fewer than ten windows says nothing.
    bins = min(4, max(1, len(run.missing) // 10))
    strata = {
        by: {label: summaries.strata(r, by, bins) for label, r in run.records.items()}
        for by in STRATA
        if by == "range_m" or by in records
    }
    strata = {by: rows for by, rows in strata.items() if rows[PLAIN]}
    worst = worst_rows(run)
    sequences = sequence_rows(run)
    setting = _setting(run, examples, trajectory, wireframe)
    facts = {
        "title": title,
        "simulated": bool(simulated),
        "notes": notes,
        "setting": setting,
        "summary": numbers,
        "intervals": between,
        "sequences": sequences,
        "strata": {
            by: {label: [s._asdict() for s in rows] for label, rows in tables.items()}
            for by, tables in strata.items()
        },
        "worst": worst,
        "nonfinite": [run.called(int(k)) for k in np.flatnonzero(run.missing)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_jsonable(facts), indent=1, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")

    page = Page(title, notes)
    sections.opening(page, run, numbers, between, simulated=simulated)
    sections.official_scores(page, run, numbers, between)
    sections.distributions(page, run)
    sections.along_time(page, run, sequences)
    if strata:
        with page.section("Conditions", _CONDITIONS):
            for by, tables in strata.items():
                sections.condition(page, run, by, tables)
    if "sigma_m" in records and "sigma_rad" in records:
        sections.calibration(page, run, numbers)
    with page.section("Worst windows"):
        page.table(list(worst[0]), [list(row.values()) for row in worst], caption=_WORST)
    sections.gallery(page, run, examples, wireframe)
    with page.section("Setting and conventions", _CONVENTIONS):
        page.table(["setting", "value"], [[k, v] for k, v in setting.items()])
        with page.details("All numbers"):
            page.table(["name", "value"], list(numbers.items()), digits=4)
    return page.write(folder / "index.html")


def _setting(
    run: Evaluation,
    examples: Sequence[Mapping[str, np.ndarray]],
    trajectory: TrajectoryConfig,
    wireframe: Any,
) -> dict[str, Any]:
    """What the reader needs to know to repeat the numbers, as far as the records tell it."""
    records = run.plain
    ranges = summaries.condition(records, "range_m")
    setting: dict[str, Any] = {
        "windows": len(ranges),
        "sequences": len(run.sequences),
        "true range (m)": f"{ranges.min():.2f} to {ranges.max():.2f}",
    }
    if "events" in records:
        low, middle, high = np.quantile(np.asarray(records["events"], np.float64), [0, 0.5, 1])
        setting["events per window"] = f"{low:,.0f} to {high:,.0f}, median {middle:,.0f}"
    if "zoom" in records:
        low, high = np.quantile(np.asarray(records["zoom"], np.float64), [0, 1])
        setting["zoom of the view"] = f"{low:.3g} to {high:.3g}"
    if examples:
        setting["network input (H x W x C)"] = " x ".join(map(str, examples[0]["grid"].shape))
    setting["wireframe"] = f"{len(wireframe[1])} edges" if wireframe else "none"
    setting["trajectory layer"] = trajectory.method
    if trajectory.method != "none":
        setting |= {f"trajectory {k}": v for k, v in dataclasses.asdict(trajectory).items()}
        del setting["trajectory method"]
    return setting


_CONDITIONS = """Errors in bins of about equal count. Neighbouring windows of a sequence are \
alike, so the intervals draw whole sequences; a bin may hold few of them."""

_WORST = """Estimates of single windows: those that are not finite first, then by falling score. \
Neighbouring windows often fail together; index is the window's position in its source."""

_CONVENTIONS = """A pose is camera_from_body: a point X of the body frame lies at R X + t in the \
camera frame, x right, y down, z forward, metres. Range is |t|.

E_t is |t - t_hat| / |t|; E_r is the angle of the turn between the two attitudes, in radians. The \
score of SPARK 2026 and of Kelvins 2019 is the mean of E_t + E_r; SPEED+ sets E_t below 0.002173 \
and E_r below 0.169 degrees to zero first. An estimate that is not finite scores as 180 degrees \
and a position error of the whole range; the smoother takes it for a gap and fills it.

Intervals hold 95 % of the values that a bootstrap gives which draws whole sequences with \
replacement; windows of a sequence err together, and one sequence alone gives no interval.

Smoothed estimates use the windows before and after, so they are not those of a live system."""


def _jsonable(value: Any) -> Any:
    """Plain Python for JSON; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.generic):
        return value.item()
    return value
