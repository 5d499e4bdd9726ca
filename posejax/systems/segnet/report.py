"""The report of bird's-eye segmentation: overlap by distance, calibration, worst frames."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from posejax.report import parts
from posejax.report.contents import Part, Plot, Table, Track, condition, pictures
from posejax.report.skeleton import Report
from posejax.report.statistics import divided, mean
from posejax.report.text import Share, number
from posejax.systems.segnet.frames import RigFrames
from posejax.systems.segnet.pictures import (
    Example,
    Setting,
    distance_figure,
    frame_figure,
    reliability_figure,
    strip_figure,
)
from posejax.systems.segnet.summary import EDGES, Records, in_a_row

STRIP = 5  # frames in a row that are shown side by side
_WORST = 20  # rows of the table
_HEADLINES = (
    parts.Headline("examples", "frames", digits=0),
    parts.Headline("iou", "IoU of vehicles", "%"),
    parts.Headline("precision", "of cells found are vehicles", "%"),
    parts.Headline("recall", "of vehicles' cells found", "%"),
    parts.Headline("pq", "panoptic quality", "%"),
    parts.Headline("ece", "calibration error (ECE)"),
    parts.Headline("brier", "Brier score"),
)


def make_report(
    records: Records,
    summary: Mapping[str, float],
    examples: Sequence[Example],
    data: RigFrames,
) -> Report:
    """The report of a split.

    Args:
      records: of the whole split, see `objective.example_sums`.
      summary: what `summary.summarize` made of them.
      examples: a few frames to picture, each with its batch entries and the outputs of `predict`;
        at the end perhaps those of `summary.in_a_row`, for the strip over time.
      data: what they are from.
    """
    order = np.argsort(-np.asarray(records["error"]), kind="stable")
    grid = data.grid
    setting = Setting(
        (grid.lower[0], grid.lower[2]), (grid.upper[0], grid.upper[2]), data.cameras, grid.reference
    )
    interval = {"iou": (summary["iou/low"], summary["iou/high"])}
    examples, tracks = _over_time(records, examples, setting)
    return Report(
        title=f"segnet on {data.title}",
        simulated=data.simulated,
        summary=summary,
        count=len(records["index"]),
        noun="frames",
        cards={"": parts.cards(summary, _HEADLINES, interval)},
        accuracy=_accuracy(records, summary),
        calibration=_calibration(records, summary),
        conditions=_conditions(records),
        tracks=tracks,
        worst=parts.rows(_columns(records), order[:_WORST]),
        worst_text="By the number of wrong cells.",
        gallery=pictures(
            examples,
            records,
            order,
            partial(_describe, records),
            partial(frame_figure, setting=setting),
            noun="Frame",
            photograph=True,
        ),
        gallery_text=_PICTURE,
        settings={
            "volume (Z, Y, X)": grid.shape,
            "from (x, y, z) m": grid.lower,
            "to (x, y, z) m": grid.upper,
            "frame": f"{grid.frame} at {grid.reference}",
            "cameras": data.cameras,
            "LiDAR": f"{data.sweeps} sweep(s) a frame" if data.lidar else "none",
            "radar": "yes" if data.radar else "none",
            "hidden": data.hide or "none",
            "extrinsics": data.extrinsics,
            "lift": grid.lift,
            "compat": grid.compat,
        },
        conventions=_CONVENTIONS,
    )


def _accuracy(records: Records, summary: Mapping[str, float]) -> list[Part]:
    rings = list(pairwise(EDGES))
    values = [summary[f"iou/{a:g}-{b:g}m"] for a, b in rings]
    cells = np.asarray(records["distance_union"], np.float64).sum(0)
    rows = [
        [f"{a:g} to {b:g}", Share(v), int(n)]
        for (a, b), v, n in zip(rings, values, cells, strict=True)
        if n > 0
    ]
    things = ("matched", "extra", "missed")
    names = {"panoptic": "pq", "segmentation": "sq", "recognition": "rq"}
    table = [[f"{label} quality", Share(summary[name])] for label, name in names.items()]
    table += [[f"{name} vehicles", int(summary[f"things/{name}"])] for name in things]
    plot = partial(distance_figure, np.array(EDGES), np.array(values))
    return [
        Table(["distance m", "IoU", "cells in either"], rows, "IoU by distance from the reference"),
        Plot("distance", plot, "IoU of vehicles by distance from the reference camera."),
        Table(["", "value"], table, "Single vehicles, from centres and offsets"),
    ]


def _calibration(records: Records, summary: Mapping[str, float]) -> list[Part]:
    bins = np.asarray(records["reliability"], np.float64).sum(0)
    text = (
        f"Expected calibration error {number(summary['ece'])}, Brier score "
        f"{number(summary['brier'])}. Most cells are empty road: the low bins weigh most."
    )
    plot = Plot("reliability", partial(reliability_figure, bins), "How often a cell of a given "
                "probability is a vehicle's; below, how many cells there are.")  # fmt: skip
    return [text, plot]


def _conditions(records: Records) -> list:
    sums = np.stack([records["intersection"], records["union"]], 1).astype(np.float64)
    error, drive = np.asarray(records["error"], np.float64), np.asarray(records["scene"])
    of_bins = partial(
        condition,
        error=error,
        statistic=mean,
        measure="wrong cells a frame",
        sequence=drive,
        columns={"IoU": lambda rows: Share(divided(*sums[rows].sum(0)))},
    )
    labels = {"boxes": "vehicles in the frame", "cameras": "cameras in the frame"}
    known = {name: np.asarray(records[name]) for name in labels}
    return [of_bins(n, labels[n], values) for n, values in known.items() if np.ptp(values) > 0]


def _over_time(
    records: Records, examples: Sequence[Example], setting: Setting
) -> tuple[Sequence[Example], list[Track]]:
    """The examples for the gallery, and the strip of those at the end that follow one another."""
    rows = in_a_row(records, STRIP)
    last = examples[len(examples) - len(rows) :]
    if not len(rows) or [int(e["index"]) for e in last] != records["index"][rows].tolist():
        return examples, []
    drive = np.asarray(records["scene"]) == records["scene"][rows[0]]
    both, either = (np.asarray(records[k])[drive].sum() for k in ("intersection", "union"))
    error = float(np.mean(np.asarray(records["error"], np.float64)[drive]))
    row = {"frames": int(drive.sum()), "IoU": Share(divided(both, either))}
    name = f"drive {int(records['scene'][rows[0]])}: pictures of {len(rows)} frames in a row"
    measure = "wrong cells a frame"
    track = Track(
        name,
        row | {measure: error},
        (measure, error),
        partial(strip_figure, last, setting),
        photograph=True,
    )
    return examples[: -len(rows)], [track]


def _columns(records: Records) -> dict[str, np.ndarray]:
    found = {name: records[name] for name in ("name", "index") if name in records}
    union = np.asarray(records["union"], np.float64)
    iou = np.asarray(records["intersection"], np.float64) / np.where(union > 0, union, np.nan)
    error = np.asarray(records["error"], np.int64)
    found |= {"wrong cells": error, "IoU %": 100 * iou, "vehicles": records["boxes"]}
    return found | {"drive": records["scene"]}


def _describe(records: Records, row: int | None, example: Example) -> str:
    if row is None:
        return f"{int(example['box_present'].sum())} vehicles"
    iou = divided(float(records["intersection"][row]), float(records["union"][row]))
    return f"IoU {number(Share(iou))}, {number(float(records['error'][row]), 0)} wrong cells"


_PICTURE = """Cameras with the boxes of all vehicles on the map (yellow), hidden or not. Maps look \
down, ahead is up; the triangle is the reference camera. Grey cells, of vehicles that hardly \
anyone could see, count in no number. Offsets have the colour of their direction, paler if short: \
where a cell lies as seen from the centre of its vehicle."""

_CONVENTIONS = """A map's columns go to the right and its rows ahead of the reference camera; its \
values are about the cell's centre. IoU is the number of cells in both maps over those in either, \
added up over the whole split before dividing. A vehicle is matched if its cells' IoU is above one \
half; panoptic quality is the IoU of the matched over matched + extra / 2 + missed / 2."""
