"""The report of a georeg evaluation: one self-contained page for people, one JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posejax.report.page import Page
from posejax.systems.georeg import report_sections as sections
from posejax.systems.georeg import summary as summaries
from posejax.systems.georeg.pictures import Setting, channel_names, choose_display
from posejax.systems.georeg.summary import Records

_WORST = 20  # rows of the table of worst examples


def write_report(
    records: Records,
    examples: Sequence[Mapping[str, np.ndarray]],
    folder: Path,
    *,
    title: str,
    cell_size: float,
    angles: np.ndarray,
    radius: int,
    simulated: bool,
    notes: str = "",
    volume_cell_size: float | None = None,
    online_channels: Sequence[str],
    geo_channels: Sequence[str],
) -> Path:
    """Write `index.html` and `report.json` into `folder`.

    Args:
      records: of the whole split, see `summary`.
      examples: a few examples to picture, each with `online` [H, W, Co], `online_mask`, `geo`
        [Hg, Wg, Cg], `geo_mask`, `pose`, `index`, `log_prob` [K, 2r+1, 2r+1], `softmax`,
        `gaussian`, `argmax` [3]; optional `covariance` [3, 3], `online_features`, `geo_features`.
      folder: made if missing.
      title: of the page.
      cell_size: of the rasters (m).
      angles: [K] yaws of the volume (rad).
      radius: of the volume, in its cells.
      simulated: whether the data are; the page then says so before anything else.
      notes: text under the title: split, checkpoint, what is special.
      volume_cell_size: cell of the volume (m); None: as the rasters.
      online_channels, geo_channels: names of the channels; "aerial" may stand for three.

    Returns:
      The path of `index.html`.

    Raises:
      ValueError: records or channel names that do not fit.
    """
    folder = Path(folder)
    numbers = summaries.summarize(records)
    # An interval from fewer than ten examples says nothing.
    count = min(5, max(1, len(records["index"]) // 10))
    bins = {
        name: summaries.bin_errors(records, name, bins=count)
        for name in sections.CONDITIONS
        if name in records
    }
    worst = _worst(records)
    volume_cell_size = volume_cell_size or cell_size
    setting = {
        "cell_size_m": float(cell_size),
        "volume_cell_size_m": float(volume_cell_size),
        "window_m": radius * volume_cell_size,
        "yaw_min_deg": float(np.rad2deg(np.min(angles))),
        "yaw_max_deg": float(np.rad2deg(np.max(angles))),
        "yaws": len(angles),
        "online_channels": list(online_channels),
        "geo_channels": list(geo_channels),
    }
    facts = {
        "title": title,
        "simulated": bool(simulated),
        "notes": notes,
        "setting": setting,
        "summary": numbers,
        "bins": {name: [b._asdict() for b in rows] for name, rows in bins.items()},
        "worst": worst,
        "nonfinite": summaries.nonfinite_examples(records),
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_jsonable(facts), indent=1, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")

    page = Page(title, notes)
    sections.opening(page, numbers, facts)
    sections.accuracy(page, records, numbers)
    sections.calibration(page, records, numbers)
    if bins:
        with page.section("Conditions", "Softmax errors in bins of equal count."):
            for name, rows in bins.items():
                sections.condition(page, name, rows)
    with page.section("Worst examples"):
        caption = f"{_order(records)} {_WORST_CAPTION}"
        page.table(list(worst[0]), [list(row.values()) for row in worst], caption=caption)
    if examples:
        pictured = Setting(
            cell_size,
            volume_cell_size,
            np.asarray(angles, np.float64),
            radius,
            *(
                choose_display(
                    [np.asarray(e[name]) for e in examples],
                    [np.asarray(e[f"{name}_mask"]) for e in examples],
                    channel_names(names, examples[0][name].shape[-1]),
                )
                for name, names in (("online", online_channels), ("geo", geo_channels))
            ),
        )
        sections.gallery(page, records, examples, pictured)
    with page.section("Setting and conventions", _CONVENTIONS):
        rows = [[k, ", ".join(v) if isinstance(v, list) else v] for k, v in setting.items()]
        page.table(["setting", "value"], rows)
        with page.details("All numbers"):
            page.table(["name", "value"], list(numbers.items()), digits=4)
    return page.write(folder / "index.html")


_CONVENTIONS = """A pose is geo_from_online: a point X of the online raster's frame lies at \
R(yaw) X + (x, y) in the geo raster's frame. Both origins are the rasters' centres, x grows along \
columns and y along rows; rows are drawn upwards. Errors in x and y are along the geo raster's \
axes; longitudinal and lateral errors are along the true online frame's x (forward) and y (left).

Pixel (argmax) is the best cell of the volume, softmax the expectation over the volume, Gaussian \
the sub-cell peak. NEES is the squared error measured in the estimate's own covariance. \
Estimates that are not finite are left out of every average, counted and named, and count as \
misses in recall and coverage."""

_WORST_CAPTION = (
    "Errors are those of the softmax. Index is the example's position in its source, name what the "
    "source calls it."
)


def _order(records: Records) -> str:
    """The rule by which an example is worse than another, see `summary.worst_first`."""
    if "error" not in records:
        return "Estimates that are not finite first, then by position error."
    return (
        "Estimates that are not finite first, then by one error of position and yaw in which a "
        "degree counts as much as 0.2 m."
    )


def _worst(records: Records) -> list[dict[str, Any]]:
    """Rows about the worst examples, see `summary.worst_first`."""
    errors = summaries.pose_errors(records["softmax"], records["pose"])
    rows = []
    for k in summaries.worst_first(records)[:_WORST]:
        row: dict[str, Any] = {
            **({"name": str(records["name"][k])} if "name" in records else {}),
            "index": int(records["index"][k]),
            "error xy m": float(errors.xy[k]),
            "error x m": float(errors.x[k]),
            "error y m": float(errors.y[k]),
            "error yaw deg": float(errors.yaw[k]),
        }
        for name in ("fill_rate", "overlap", "entropy", "peak_ratio", "lock_on"):
            if name in records:
                row[name.replace("_", " ")] = float(records[name][k])
        if "abstain" in records:
            row["abstained"] = "yes" if records["abstain"][k] else "no"
        rows.append(row)
    return rows


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
