"""A recording from its first frame to its last: the map, what it is worth, and what it costs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from posejax.report.statistics import divided
from posejax.sparse import VoxelMap
from posejax.systems.bifusion.online import Mapper
from posejax.systems.bifusion.summary import mean_iou
from posejax.train import runtime

SETTLED = 20  # frames after which memory is looked at for the first time


@dataclass(eq=False)
class Walk:
    """A map at the end of a recording, and what was counted on the way.

    Attributes:
      name: of the recording.
      world: the map, in coordinates of its own.
      map_from_world: [4, 4], a rigid motion that stands the recording's world upright.
      confusion: "alone" (a frame by itself), "online" (the map right after the frame) and "map"
        (the map at the end) -> [classes + 1, classes + 1] points by true class, then by what is
        said; the last column is for points that nothing is said of.
      votes: [capacity, classes] int64, labelled points in every row of the map, by their class.
      instance: [capacity] int32, the thing of the last of them; -1 where there is none.
      figures: name -> number, see `walk`.
    """

    name: str
    world: VoxelMap
    map_from_world: np.ndarray
    confusion: dict[str, np.ndarray]
    votes: np.ndarray
    instance: np.ndarray
    figures: dict[str, float] = field(default_factory=dict)


def walk(mapper: Mapper, source: Any, rows: Sequence[int], name: str, classes: int) -> Walk:
    """Merge frames of a source in their order, then read the map back at all their points.

    Frames are read twice, so that nothing of them is kept.

    Returns:
      The walk with these figures: `frames`, `skipped` (that have no pose), `lost` (whose voxels did
      not fit into the network), `points`, `voxels`, `evicted`, `dropped`, `map_mb`; `compilations`
      of all programs; `ms_per_frame`, the median without frames that compiled, and `read_ms`, for
      reading one from disk; `rss_mb/N` after so many frames, and `rss_growth_mb` between them;
      `miou/WHAT` and `accuracy/WHAT` of labelled points, WHAT as in `Walk.confusion`; `read_back`,
      the share of points at which the map still holds something.
    """
    tables = {k: np.zeros((classes + 1, classes + 1), np.int64) for k in ("alone", "online", "map")}
    step_ms, read_ms, memory, lost, points = [], [], {}, 0, 0
    before = mapper.traces
    skipped = sum(what.startswith(f"{name}/") for what, _ in source.skipped)
    world, map_from_world = mapper.start(source[rows[0]])
    for number, row in enumerate(rows):
        begin = time.perf_counter()
        example = mapper.example(map_from_world, source[row])
        read = time.perf_counter()
        programs = mapper.traces
        world, seen = mapper.step(world, example, number)
        if mapper.traces == programs:
            step_ms.append(1e3 * (time.perf_counter() - read))
        read_ms.append(1e3 * (read - begin))
        lost += not seen.fits
        points += int(example["mask"].sum())
        for key, said in (("alone", seen.alone), ("online", seen.merged)):
            tables[key] += confusion(example, said, classes)
        if number + 1 in (SETTLED, len(rows)):
            memory[number + 1] = runtime.memory().get("host", 0) / 2**20
    votes, held = np.zeros((world.capacity + 1, classes), np.int64), 0
    instance = np.full(world.capacity + 1, -1, np.int32)
    for row in rows:
        example = mapper.example(map_from_world, source[row])
        said, at = mapper.read(world, example)
        held += int((said >= 0).sum())
        tables["map"] += confusion(example, said, classes)
        known = example["mask"] & (example["semantic"] >= 0)
        np.add.at(votes, (at[known], example["semantic"][known]), 1)
        instance[at[known]] = example["instance"][known]
    figures = {
        "frames": len(rows), "skipped": skipped, "lost": lost, "points": points,
        "voxels": int(world.voxels), "evicted": int(world.evicted), "dropped": int(world.dropped),
        "map_mb": world.nbytes / 2**20, "compilations": mapper.traces - before,
        "ms_per_frame": float(np.median(step_ms)) if step_ms else float("nan"),
        "read_ms": float(np.median(read_ms)), "read_back": divided(held, points),
        **{f"rss_mb/{count}": value for count, value in memory.items()},
    }  # fmt: skip
    if len(memory) == 2:
        figures["rss_growth_mb"] = memory[len(rows)] - memory[SETTLED]
    figures |= scores(tables)
    return Walk(name, world, map_from_world, tables, votes[:-1], instance[:-1], figures)


def scores(tables: dict[str, np.ndarray]) -> dict[str, float]:
    """`miou/WHAT` and `accuracy/WHAT` of confusions."""
    found = {f"miou/{k}": mean_iou(v) for k, v in tables.items()}
    return found | {f"accuracy/{k}": divided(np.trace(v), v.sum()) for k, v in tables.items()}


def confusion(example: Any, said: np.ndarray, classes: int) -> np.ndarray:
    """[classes + 1, classes + 1] labelled points by true class, then by the one that is said."""
    truth = np.asarray(example["semantic"])
    known = np.asarray(example["mask"], bool) & (truth >= 0)
    said = np.where(said < 0, classes, said)
    place = truth[known] * (classes + 1) + said[known]
    return np.bincount(place, minlength=(classes + 1) ** 2).reshape(classes + 1, classes + 1)
