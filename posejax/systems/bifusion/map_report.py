"""What people see of a map: a file of labelled points, pictures, a cloud to be turned, figures."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from posejax.data.ply import write_ply
from posejax.data.rigid import se3_apply, se3_inverse
from posejax.data.scannet import NYU40
from posejax.report import parts
from posejax.report.cloud import Cloud
from posejax.report.contents import Part, Plot, Table
from posejax.report.skeleton import Report
from posejax.report.statistics import divided, panoptic_scores
from posejax.report.text import Share
from posejax.report.views import show_image
from posejax.sparse import corner, voxel_centers
from posejax.systems.bifusion.frames import RgbdFrames
from posejax.systems.bifusion.online import OnlineConfig
from posejax.systems.bifusion.pictures import (
    Side,
    class_colors,
    cloud_picture,
    clouds,
    thing_colors,
)
from posejax.systems.bifusion.query import average_precision
from posejax.systems.bifusion.things import of_map
from posejax.systems.bifusion.walk import Walk

_SIDES = (Side("from above", 0.3, 1.25), Side("from the other end", 3.6, 0.8))
_COLUMNS = 6  # queries in a picture
_SHOWN = 30_000  # points of the turning cloud
_WHAT = {
    "alone": "each frame by itself",
    "online": "the map right after the frame",
    "map": "the map at the end",
}
_HEADLINES = (
    parts.Headline("frames", "frames", digits=0),
    parts.Headline("voxels", "voxels in the map", digits=0),
    parts.Headline("miou/alone", "mean IoU, each frame by itself", "%"),
    parts.Headline("miou/map", "mean IoU, the map read back at the same points", "%"),
    parts.Headline("things", "things in the map", digits=0),
    parts.Headline("pq/map", "panoptic quality of the map's things, whatever their class", "%"),
    parts.Headline("ms_per_frame", "for a frame: network and map", " ms", 0),
    parts.Headline("map_mb", "the map's size, whatever it holds", " MB", 0),
)


class MapPoints(NamedTuple):
    """The voxels of a map, V of them, on the host.

    Attributes:
      points: [V, 3] float64 metres in the recording's world, their middles.
      level: [V, 3] the same in the world turned so that z is up.
      colors: [V, 3] in [0, 1].
      chance: [V, classes] probabilities, by the mean of their logarithms.
      truth: [V] int64 class of most labelled points in them, -1 where there was none.
      fused: [V, C]; gate, weight, seen: [V].
      thing: [V] int32, 1 + the number of its thing, or 0.
    """

    points: np.ndarray
    level: np.ndarray
    colors: np.ndarray
    chance: np.ndarray
    truth: np.ndarray
    fused: np.ndarray
    gate: np.ndarray
    weight: np.ndarray
    seen: np.ndarray
    thing: np.ndarray

    @property
    def label(self) -> np.ndarray:
        """[V] int64, the most probable class."""
        return self.chance.argmax(1)


def map_points(done: Walk, classes: Sequence[str]) -> tuple[MapPoints, dict[str, float]]:
    """The points of a walk's map; and `things`, their number, and the panoptic quality of things
    whatever their class, `pq/map`, if there are labels."""
    world, mask = done.world, np.asarray(done.world.mask)
    values = {k: np.asarray(v)[mask] for k, v in world.values.items()}
    logits = values["log_probability"]
    votes = done.votes[mask]
    chance = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf))
    chance /= chance.sum(1, keepdims=True)
    known = np.asarray(votes.any(1))
    truth = np.where(known, votes.argmax(1), -1)
    thing, sums = of_map(values["center"], chance.argmax(1), done.instance[mask], truth, classes)
    figures = {"things": float(len(np.unique(thing[thing > 0])))}
    if known.any():
        figures["pq/map"] = panoptic_scores(*sums)["pq"]
    level = voxel_centers(world)
    points = MapPoints(
        se3_apply(se3_inverse(done.map_from_world), level - corner(world)),
        level,
        values["color"],
        chance,
        truth,
        values["fused"],
        values["gate"][:, 0],
        np.asarray(world.weight)[mask],
        np.asarray(world.seen)[mask],
        thing,
    )
    return points, figures


def write_map(
    path: Path,
    found: MapPoints,
    classes: Sequence[str],
    similar: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """A PLY file that `posejax.data.scannet.read_cloud` reads: x, y, z (double, metres in the
    world), red, green, blue, label (NYU40's number), instance (0: none), probability, weight, seen
    (frame) and, of `similar`, similarity0, similarity1, ..."""
    labels = np.array([NYU40.index(name) + 1 for name in classes], np.uint16)
    columns = {name: found.points[:, k] for k, name in enumerate("xyz")}
    colors = np.round(255 * np.clip(found.colors, 0, 1)).astype(np.uint8)
    columns |= {name: colors[:, k] for k, name in enumerate(("red", "green", "blue"))}
    columns |= {"label": labels[found.label], "instance": found.thing.astype(np.uint16)}
    numbers = {"probability": found.chance.max(1), "weight": found.weight, "seen": found.seen}
    numbers |= {f"similarity{k}": row for k, row in enumerate((similar or {}).values())}
    columns |= {name: values.astype(np.float32) for name, values in numbers.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_ply(path, columns)
    return path


def camera_axes(points: np.ndarray) -> np.ndarray:
    """[N, 3] from axes with z up to those of a level camera that looks along y."""
    return np.stack([points[:, 0], -points[:, 2], points[:, 1]], -1)


def coloured(found: MapPoints, classes: int) -> dict[str, np.ndarray]:
    """Colours [V, 3] by what they show; truth only where there were labels."""
    everywhere = np.ones(len(found.label), bool)
    example = {
        "semantic": found.truth, "class": found.label, "fused": found.fused,
        "mask": everywhere, "gate": found.gate, "valid": everywhere,
    }  # fmt: skip
    shown = {"photograph": found.colors, **clouds(example, classes)}
    shown["things"] = thing_colors(found.thing)
    if not (found.truth >= 0).any():
        shown = {k: v for k, v in shown.items() if k != "truth" and "wrong" not in k}
    return shown


def map_figure(
    local: np.ndarray, shown: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> Figure:
    """A map from two sides.

    Args:
      local: [V, 3] from `camera_axes`.
      shown: title of a column -> colours [V, 3].
      labels: name -> colour [3], for the legend.
    """
    figure = Figure(figsize=(3.6 * len(shown), 6.6), layout="constrained")
    panels = figure.subplots(len(_SIDES), len(shown), squeeze=False)
    if len(local):
        low, high = np.quantile(local, (0.01, 0.99), axis=0)
        local = local - (low + high) / 2
        # Half as wide as far, a view holds a ball from 2.1 radii away; few maps are balls.
        radius = np.quantile(np.linalg.norm(local, axis=1), 0.98)
        local[:, 2] += 1.95 * radius + 0.5
    for row, side in zip(panels, _SIDES, strict=True):
        row[0].set_ylabel(side.label)
        for axes, (title, colors) in zip(row, shown.items(), strict=True):
            show_image(axes, cloud_picture(local, colors, side, (330, 360)), title)
    handles = [Patch(color=tuple(color), label=name) for name, color in labels.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=9, fontsize=9, frameon=False)
    return figure


def make_map_report(
    done: Walk,
    found: MapPoints,
    data: RgbdFrames,
    config: OnlineConfig,
    similar: Mapping[str, np.ndarray] | None = None,
) -> Report:
    """The page of a map.

    Args:
      done: the walk.
      found: points of its map.
      data: what the frames are from.
      config: how they were merged, with the voxels' size.
      similar: name of a query -> [V] similarity of the points.
    """
    classes, f = data.classes, done.figures
    below = found.label != (classes.index("ceiling") if "ceiling" in classes else -1)
    asked = _queries(found, similar or {}, classes)
    found = MapPoints(*(column[below] for column in found))
    shown = coloured(found, len(classes))
    local = camera_axes(found.level)
    likeness = {f"like {k}": heat(v[below]) for k, v in (similar or {}).items()}
    for first in range(0, len(likeness), _COLUMNS):
        some = dict(list(likeness.items())[first : first + _COLUMNS])
        draw = partial(map_figure, local, some, {})
        text = "Similarity to queries, the most similar bright."
        asked.append(Plot(f"queries_{first // _COLUMNS + 1}", draw, text))
    palette = class_colors(len(classes))
    there = np.unique(np.concatenate([found.label, found.truth]))
    labels = {classes[c]: palette[c] for c in there if c >= 0}
    labelled = np.isfinite(f["miou/alone"])
    rows = [[text, Share(f[f"miou/{k}"]), Share(f[f"accuracy/{k}"])] for k, text in _WHAT.items()]
    table = Table(
        ["classes from", "mIoU", "accuracy"], rows, "Of all labelled points of all frames"
    )
    everything = {**shown, **likeness}
    cloud = Cloud(local, everything, f"The map of {done.name}.", _SHOWN)
    plot = Plot("map", partial(map_figure, local, shown, labels), _TWO_SIDES)
    return Report(
        title=f"bifusion's map of {done.name}",
        simulated=data.simulated,
        summary=f,
        count=int(f["frames"]),
        noun="frames",
        notes=f"{data.title}; a frame of the recording after the other",
        remarks=_remarks(f),
        cards={"": parts.cards(f, [h for h in _HEADLINES if labelled or "/" not in h.name])},
        accuracy=[*([table] if labelled else []), plot, cloud, *asked],
        settings={
            "voxels (m)": config.voxel_size,
            "room for voxels": config.capacity,
            "weight of a point": config.weight,
            "half-life (frames)": config.half_life,
            "most age (frames)": config.most_age,
            "classes": classes,
        },
        conventions=_CONVENTIONS,
    )


def heat(values: np.ndarray) -> np.ndarray:
    """[V, 3] colours, dark to bright from the median to the largest of the values [V]."""
    low, high = (np.median(values), values.max()) if len(values) else (0, 1)
    return colormaps["inferno"]((values - low) / max(high - low, 1e-9))[:, :3]


def _queries(
    found: MapPoints, similar: Mapping[str, np.ndarray], classes: Sequence[str]
) -> list[Part]:
    """How similar points are; and, of a query named as a class is, how well it finds that."""
    rows, known = [], found.truth >= 0
    for name, score in similar.items():
        if not len(score):
            continue
        best = np.sort(score)[::-1][: max(len(score) // 100, 1)]
        said = classes[int(found.label[score.argmax()])]
        right = found.truth == (classes.index(name) if name in classes else -2)
        precision = Share(average_precision(score[known], right[known]))
        share = Share(divided(right[known].sum(), known.sum()))
        rows.append([name, score.max(), best.mean(), said, precision, share])
    headers = [
        "query", "best", "mean of the best 1 %", "the best one's class", "average precision",
        "share of such voxels",
    ]  # fmt: skip
    return [Table(headers, rows, "Cosine similarity of the voxels to each query")] if rows else []


def _remarks(figures: Mapping[str, float]) -> list[str]:
    remarks = []
    if figures["skipped"]:
        remarks.append(f"{figures['skipped']:.0f} frames have no pose: they are not in the map.")
    if figures["evicted"]:
        remarks.append(
            f"{figures['evicted']:.0f} voxels went for want of room, those that were not seen for "
            "longest. Raise --capacity."
        )
    if figures["lost"]:
        remarks.append(
            f"Voxels of {figures['lost']:.0f} frames did not fit into the network's levels: they "
            "are not in the map. Raise --model.points.rows."
        )
    return remarks


_TWO_SIDES = """The map from two sides. Classes have the colours below them, things any: one each, \
and grey where there is none."""

_CONVENTIONS = """Every voxel keeps means over all points that fell into it: of the fused \
features, of the logarithms of the classes' probabilities (the class is the largest), of colours \
and of the gate. A voxel's true class is that of most labelled points in it. Numbers are of \
points, not of voxels: at each labelled point of each frame, the class by the frame alone, and the \
class of the map's voxel there; a point where the map holds nothing, or whose frame was lost, is \
wrong. Pictures leave out what is said to be ceiling."""
