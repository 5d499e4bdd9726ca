"""Do the points of a LiDAR lie in the boxes that are annotated, as many as are annotated?

The check of a rig without annotated images: it judges the LiDAR's pose and the boxes, not cameras.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from posejax.bev.check_rig import surpasses
from posejax.bev.mistakes import FLIP_Y, MISTAKES, Rig

_FEWEST = 5  # returns of a box that is counted
_SLACK = 0.02  # metres
_UNEXPLAINED = 0.5  # score below which nothing was found
_OF_BOXES = (
    "half_extents", "double_extents", "width_before_length", "bottom_origin", "negated_yaw",
    "left_handed_boxes",
)  # fmt: skip
_QUARTER = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def _transposed(pose: np.ndarray) -> np.ndarray:
    out = pose.copy()
    out[:3, :3] = pose[:3, :3].T
    return out


def _negated(pose: np.ndarray) -> np.ndarray:
    return pose * np.array([1.0, 1, 1, -1]) + np.diag([0.0, 0, 0, 2])


#: What may be wrong with a LiDAR's pose or points: the pose as it would be, and what to tell.
LIDAR_MISTAKES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "inverse": (np.linalg.inv, "the pose is lidar_from_ego; ego_from_lidar is its inverse"),
    "transposed_rotation": (_transposed, "the rotation is transposed"),
    "negated_translation": (_negated, "the translation has the wrong sign"),
    "points_in_ego": (lambda pose: np.eye(4), "the points are in the ego frame already"),
    "left_handed_points": (
        lambda pose: pose @ FLIP_Y,
        "the points are left-handed as CARLA's: negate y",
    ),
    "right_forward_points": (
        lambda pose: pose @ _QUARTER,
        "the points have x to the right and y forward, as nuScenes': the pose is for x forward",
    ),
    "forward_left_points": (
        lambda pose: pose @ _QUARTER.T,
        "the points have x forward and y to the left: the pose is for x to the right",
    ),
}


@dataclass(frozen=True, eq=False)
class LidarReport:
    """What was found.

    Attributes:
      mistakes: names of `LIDAR_MISTAKES` or `MISTAKES` in the order in which they are undone, or
        "unknown"; empty where all is right.
      advice: one sentence for each.
      score: mean of smaller / larger of the two counts of a box, annotated and found.
      mended_score: with the mistakes undone.
      boxes: number of boxes that were counted.
      tried: the score after undoing each single mistake.
    """

    mistakes: tuple[str, ...]
    advice: tuple[str, ...]
    score: float
    mended_score: float
    boxes: int
    tried: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing is wrong that could be found."""
        return not self.mistakes

    def __str__(self) -> str:
        head = f"LiDAR returns in {self.boxes} boxes agree to {self.score:.3f}"
        if self.ok:
            return f"{head}: no mistake found"
        lines = [f"{head}, and to {self.mended_score:.3f} without these mistakes:"]
        pairs = zip(self.mistakes, self.advice, strict=True)
        return "\n".join(lines + [f"  {name}: {text}" for name, text in pairs])


def check_lidar(
    points: ArrayLike,
    ego_from_lidar: ArrayLike,
    size: ArrayLike,
    ego_from_box: ArrayLike,
    counts: ArrayLike,
) -> LidarReport:
    """Judge a LiDAR's pose and the boxes by how many returns the boxes are said to hold.

    Args:
      points: [P, 3] metres, as the LiDAR has them.
      ego_from_lidar: [4, 4], as given.
      size: [N, 3] metres: length, width, height.
      ego_from_box: [N, 4, 4] to the boxes' centres.
      counts: [N] annotated returns; boxes with fewer than five are not counted.

    Returns:
      LidarReport. One or two mistakes are undone on trial; one is named only if undoing it gains
      beyond doubt, see `check_rig`.

    Raises:
      ValueError: shapes that do not fit, values that are not finite, no box with five returns.

    On the host, in float64: about a second for 35,000 points and 70 boxes.
    """
    points, pose = np.asarray(points, np.float64), np.asarray(ego_from_lidar, np.float64)
    size, boxes = np.asarray(size, np.float64), np.asarray(ego_from_box, np.float64)
    counts = np.asarray(counts)
    shapes = points.shape[1:], pose.shape, size.shape, boxes.shape
    if shapes != ((3,), (4, 4), (len(counts), 3), (len(counts), 4, 4)):
        raise ValueError(f"points [P, 3], a pose, sizes, boxes and counts, got {shapes}")
    if not all(np.isfinite(values).all() for values in (points, pose, size, boxes)):
        raise ValueError("values that are not finite")
    used = counts >= _FEWEST
    if not used.any():
        raise ValueError(f"no box with {_FEWEST} returns: nothing to judge by")
    none = np.zeros((0, 3, 3)), np.zeros((0, 4, 4))
    now, counts = (pose, Rig(*none, size[used], boxes[used])), counts[used]
    given = best = _scores(points, *now, counts)
    names: tuple[str, ...] = ()
    tried: dict[str, float] = {}
    for _ in range(2):
        rest = {name: one for name, one in _variants(*now).items() if name not in names}
        scores = {name: _scores(points, *one, counts) for name, one in rest.items()}
        tried = tried or {name: float(score.mean()) for name, score in scores.items()}
        top = max(scores, key=lambda name: scores[name].mean())
        if not surpasses(scores[top], best):
            break
        names, now, best = (*names, top), rest[top], scores[top]
    advice = [
        LIDAR_MISTAKES[name][1] if name in LIDAR_MISTAKES else MISTAKES[name].advice
        for name in names
    ]
    if best.mean() < _UNEXPLAINED:
        names, advice = ("unknown",), ["no usual mistake explains the counts, nor do two"]
    before, after = float(given.mean()), float(best.mean())
    return LidarReport(names, tuple(advice), before, after, len(counts), tried)


def _variants(pose: np.ndarray, rig: Rig) -> dict[str, tuple[np.ndarray, Rig]]:
    """The pose and the boxes with each mistake undone."""
    out = {name: (mend(pose), rig) for name, (mend, _) in LIDAR_MISTAKES.items()}
    evidence = None  # boxes are mended without a look at images
    return out | {name: (pose, MISTAKES[name].mend(rig, evidence)) for name in _OF_BOXES}  # pyright: ignore[reportArgumentType]


def _scores(points: np.ndarray, pose: np.ndarray, rig: Rig, counts: np.ndarray) -> np.ndarray:
    """[N] smaller / larger of the counts."""
    ego = points @ pose[:3, :3].T + pose[:3, 3]
    found = np.zeros(len(counts))
    for i, (size, box) in enumerate(zip(rig.size, rig.ego_from_box, strict=True)):
        offset = ego - box[:3, 3]
        near = np.abs(offset).max(axis=1) < np.linalg.norm(size) / 2 + _SLACK
        local = offset[near] @ box[:3, :3]
        found[i] = (np.abs(local) <= size / 2 + _SLACK).all(axis=1).sum()
    return np.minimum(found, counts) / np.maximum(found, counts)
