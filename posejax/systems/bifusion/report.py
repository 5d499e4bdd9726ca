"""The report of point features: IoU by class and range, confusion, clouds from several sides."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from posejax.report import parts
from posejax.report.contents import Part, Plot, Table, condition, pictures
from posejax.report.skeleton import Report
from posejax.report.statistics import divided, mean
from posejax.report.text import Share, percent
from posejax.systems.bifusion.config import ModelConfig
from posejax.systems.bifusion.data import RgbdFrames
from posejax.systems.bifusion.objective import RANGES
from posejax.systems.bifusion.pictures import (
    Example,
    confusion_figure,
    frame_figure,
    range_figure,
    turning_cloud,
)
from posejax.systems.bifusion.summary import Records, mean_iou, range_names

_WORST = 20  # rows of the table
_HEADLINES = (
    parts.Headline("examples", "frames", digits=0),
    parts.Headline("miou", "mean IoU of the classes", "%"),
    parts.Headline("accuracy", "of points have the right class", "%"),
    parts.Headline("class_accuracy", "mean recall of the classes", "%"),
    parts.Headline("offset_error", "error of the ways to the things' centres (sum of axes)", " m"),
    parts.Headline("pq", "panoptic quality of things, whatever their class", "%"),
    parts.Headline("valid_ratio", "of points are on their image", "%"),
    parts.Headline("gate", "mean weight of the image's branch"),
)


def make_report(
    records: Records,
    summary: Mapping[str, float],
    examples: Sequence[Example],
    data: RgbdFrames,
    model: ModelConfig,
) -> Report:
    """The report of a split.

    Args:
      records: of the whole split, see `Bifusion.metrics`.
      summary: what `summary.summarize` made of them.
      examples: a few frames to picture, each with its batch entries and the outputs of `predict`.
      data: what they are from.
      model: settings of the network.
    """
    order = np.argsort(-np.asarray(records["error"]), kind="stable")
    interval = {"miou": (summary["miou/low"], summary["miou/high"])}
    return Report(
        title=f"bifusion on {data.title}",
        simulated=data.simulated,
        summary=summary,
        count=len(records["index"]),
        noun="frames",
        remarks=_remarks(summary),
        cards={"": parts.cards(summary, _HEADLINES, interval)},
        accuracy=_accuracy(records, summary, data.classes),
        conditions=_conditions(records),
        worst=parts.rows(_columns(records), order[:_WORST]),
        worst_text="By the share of wrong points.",
        gallery=pictures(
            examples,
            records,
            order,
            partial(_describe, records),
            partial(frame_figure, classes=data.classes),
            noun="Frame",
            photograph=True,
            more=lambda example: [turning_cloud(example, len(data.classes))],
        ),
        gallery_text=_PICTURE,
        settings={
            "mode": model.mode,
            "encoder of the image": model.image,
            "voxels (m)": model.points.voxel_size,
            "features": model.features,
            "compat": model.compat,
            "classes": data.classes,
        },
        conventions=_CONVENTIONS,
    )


def _remarks(summary: Mapping[str, float]) -> list[str]:
    ratio, lost, remarks = summary["valid_ratio"], int(summary["lost"]), []
    if ratio < 0.95:  # False for NaN
        remarks.append(
            f"Only {percent(ratio)} of the points lie on their own image: a frame's points should "
            "all do. The pose, the intrinsics or the depth are likely wrong."
        )
    if lost:
        remarks.append(
            f"Voxels of {lost} frames did not fit into the network's levels: they are in no "
            "class's number. Raise model.points.rows."
        )
    return remarks


def _accuracy(records: Records, summary: Mapping[str, float], classes: Sequence[str]) -> list[Part]:
    by_range = np.asarray(records["confusion"], np.float64).sum(0)
    whole = by_range.sum(0)
    points, said = whole.sum(1), whole.sum(0)
    rows = [
        [name, Share(summary[f"iou/{name}"]), Share(divided(whole[c, c], points[c])),
         Share(divided(whole[c, c], said[c])), int(points[c])]
        for c, name in enumerate(classes)
    ]  # fmt: skip
    values = np.array([summary[f"miou/{name}"] for name in range_names()])
    ranges = [
        [name, Share(value), int(n)]
        for name, value, n in zip(range_names(), values, by_range.sum((1, 2)), strict=True)
    ]
    draw = partial(range_figure, np.array(RANGES), values)
    return [
        Table(["class", "IoU", "recall", "precision", "points"], rows, "By class"),
        Plot("confusion", partial(confusion_figure, whole, classes), "Of the points of a true "
             "class (row), per cent that are said to be each class (column)."),
        Table(["depth", "mIoU", "points"], ranges, "By distance from the camera"),
        Plot("range", draw, "Mean IoU by distance from the camera."),
    ]  # fmt: skip


def _conditions(records: Records) -> list:
    error = np.asarray(records["error"], np.float64)
    frames = np.asarray(records["confusion"], np.float64).sum(1)
    of_bins = partial(
        condition,
        error=error,
        statistic=mean,
        measure="share of wrong points",
        sequence=np.asarray(records["sequence"]),
        columns={"mIoU": lambda rows: Share(mean_iou(frames[rows].sum(0)))},
    )
    seen = _ratio(records, "valid", "points")
    quantities = {
        "points": ("points in the frame", np.asarray(records["points"], np.float64)),
        "valid_ratio": ("share of points on the image", seen),
        "gate": ("mean weight of the image's branch", _ratio(records, "gate", "valid")),
    }
    return [of_bins(name, *given) for name, given in quantities.items()]


def _ratio(records: Records, over: str, under: str) -> np.ndarray:
    a, b = (np.asarray(records[name], np.float64) for name in (over, under))
    return np.where(b > 0, a / np.where(b > 0, b, 1), np.nan)


def _columns(records: Records) -> dict[str, np.ndarray]:
    found = {name: records[name] for name in ("name", "index") if name in records}
    found |= {"wrong": np.asarray(records["error"], np.float64), "points": records["points"]}
    return found | {"recording": records["sequence"]}


def _describe(records: Records, row: int | None, example: Example) -> str:
    if row is None:
        return f"{int(np.sum(example['mask']))} points"
    return f"{percent(float(records['error'][row]))} of its points wrong"


_PICTURE = """The image and its points where they project to, coloured by depth; below, the cloud \
from the camera and turned about its middle: true classes, predicted ones, right and wrong points, \
the three directions in which the features of the frame differ most as red, green and blue, and \
the weight that the gate gives to the image. Grey: no label, or not on the image. The cloud that \
turns also shows the things that points vote for."""

_CONVENTIONS = """IoU is the number of points that are and are said to be of a class over those \
that are either, added up over the split before dividing; the mean is over the classes that there \
are. Points without a label count in no number. Intervals draw whole recordings. Depth is along \
the optical axis."""
