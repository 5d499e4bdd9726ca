"""Is a rig's calibration right, and if not, which of the usual mistakes was made?

The chain from boxes in the ego frame to pixels is right or it is not: on nuScenes, projected boxes
overlap the annotated ones with a mean IoU of 0.947, and by 0.54 or less after any common mistake.
So every mistake, and every pair, is undone on trial, and what explains the images is named.
"""

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from posejax.bev.box_evidence import BoxEvidence, PlacedEvidence, Through
from posejax.bev.mistakes import MISTAKES, Evidence, Rig

GOOD = 0.85  # mean IoU from which a single mistake is explanation enough
_GAIN, _SIGMAS = 0.015, 4.0  # of mean IoU that a further mistake must gain, and be sure of
_MANY = ("degrees_as_radians", "swapped_cameras")  # whose mending is a search of its own
_UNEXPLAINED = 0.4  # mean IoU below which nothing was found
_TILT = np.deg2rad(3.0)
_ONE_PLACE = 1e-3  # metres
_SHIFTS = {
    -1.0: ("one_based", "cx, cy are a pixel too small: 1 was subtracted that was not there"),
    -0.5: ("half_pixel", "cx, cy count from the first pixel's centre (OpenCV): add 0.5"),
    0.5: ("one_based", "cx, cy are 1-based (MATLAB): subtract 0.5"),
    1.0: ("one_based", "cx, cy are 1-based (MATLAB) and were converted as 0-based: subtract 1"),
}


@dataclass(frozen=True, eq=False)
class RigReport:
    """What was found.

    Attributes:
      mistakes: names in the order in which they are undone; empty for a right rig. A name of
        `posejax.bev.MISTAKES`, or "half_pixel", "one_based", "no_translation",
        "pitched_reference", "unknown".
      advice: one sentence for each.
      score: mean IoU of projected and annotated boxes as given.
      mended_score: with the mistakes undone.
      mended: the rig without them (what can be mended at all).
      tried: mean IoU after undoing each single mistake.
    """

    mistakes: tuple[str, ...]
    advice: tuple[str, ...]
    score: float
    mended_score: float
    mended: Rig
    tried: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing is wrong that could be found."""
        return not self.mistakes

    def __str__(self) -> str:
        if self.ok:
            return f"mean IoU {self.score:.3f}: no mistake found"
        lines = [f"mean IoU {self.score:.3f}, and {self.mended_score:.3f} without these mistakes:"]
        lines += [
            f"  {name}: {text}" for name, text in zip(self.mistakes, self.advice, strict=True)
        ]
        return "\n".join(lines)


def check_rig(
    intrinsics: ArrayLike,
    ego_from_camera: ArrayLike,
    size: ArrayLike,
    ego_from_box: ArrayLike,
    *,
    camera: ArrayLike,
    box: ArrayLike,
    corners: ArrayLike,
    image_size: tuple[int, int],
    ego_motion: ArrayLike | None = None,
    world_from_ego: ArrayLike | None = None,
    reference: int | None = None,
) -> RigReport:
    """Judge a rig by boxes that are annotated in the world and in its images.

    Args:
      intrinsics: [C, 3, 3] pixels, as given.
      ego_from_camera: [C, 4, 4], as given.
      size: [N, 3] metres: length, width, height.
      ego_from_box: [N, 4, 4] to the boxes' centres.
      camera, box: [M] rows of camera and box of each annotation in an image.
      corners: [M, 4] its left, top, right, bottom in pixels.
      image_size: (height, width).
      ego_motion: [C, 4, 4], from the ego frame of each camera's stamp to the boxes'; without it, a
        stale ego pose cannot be named.
      world_from_ego: [4, 4]; without it, poses that lead to the world cannot be named.
      reference: row of the camera whose frame a bird's-eye grid will lie in, if one does.

    Returns:
      RigReport. Some 30 annotations in several images are enough. A mistake is named only if
      undoing it gains 0.015 of mean IoU and four standard errors; of several that explain the same,
      the fewest are named. Cameras without annotations are not judged. Degrees used as radians,
      and exchanged cameras, are found by where the boxes fall: one of them may hide the other. Of
      mistakes that come to the same, as those of a mirrored camera and of Unreal's axes together,
      others may be named.

    Raises:
      ValueError: shapes that do not fit, no annotation, or values that are not finite.

    On the host, in float64: a fifth of a second, some seconds where two mistakes hide each other.
    """
    rig = Rig(
        *(np.asarray(v, np.float64) for v in (intrinsics, ego_from_camera, size, ego_from_box)),
        ego_motion=None if ego_motion is None else np.asarray(ego_motion, np.float64),
        world_from_ego=None if world_from_ego is None else np.asarray(world_from_ego, np.float64),
    )
    boxes = BoxEvidence(
        np.asarray(camera, np.int64), np.asarray(box, np.int64), np.asarray(corners, np.float64),
        (int(image_size[0]), int(image_size[1])),
    )  # fmt: skip
    _check(rig, boxes)
    given = boxes.scores(rig)
    names, mended, tried = _explain(rig, boxes, given)
    found, advice = list(names), [_advice(name, mended) for name in names]
    shift = boxes.pixel_shift(mended)
    if shift in _SHIFTS:
        found.append(_SHIFTS[shift][0])
        advice.append(_SHIFTS[shift][1])
        k = mended.intrinsics.copy()
        k[:, :2, 2] -= shift
        mended = replace(mended, intrinsics=k)
    score = float(boxes.scores(mended).mean())
    if score < _UNEXPLAINED:
        found, advice = ["unknown"], ["no usual mistake explains the images, nor do two"]
    if reference is not None and "unknown" not in found:
        down = mended.ego_from_camera[reference, :3, 1]
        tilt = float(np.arctan2(np.hypot(down[0], down[1]), -down[2]))
        if tilt > _TILT:
            found.append("pitched_reference")
            advice.append(
                f"the reference camera is tilted by {np.rad2deg(tilt):.1f} degrees: its grid is "
                f"{50 * np.tan(tilt):.1f} m off the road 50 m away; use level_frame"
            )
    return RigReport(tuple(found), tuple(advice), float(given.mean()), score, mended, tried)


def _advice(name: str, mended: Rig) -> str:
    if name in MISTAKES:
        return MISTAKES[name].advice
    places = (f"({x:.2f}, {y:.2f}, {z:.2f})" for x, y, z in mended.ego_from_camera[:, :3, 3])
    return f"the translations were dropped; by the boxes, the cameras are at {', '.join(places)} m"


def _explain(
    rig: Rig, evidence: BoxEvidence, given: np.ndarray
) -> tuple[tuple[str, ...], Rig, dict[str, float]]:
    """The fewest mistakes that explain the images, the rig without them, `RigReport.tried`."""
    names, mended, tried = _search(rig, evidence, given)
    now = evidence.scores(mended)
    if now.mean() >= GOOD:
        return names, mended, tried
    places = rig.ego_from_camera[:, :3, 3]
    if len(places) > 1 and np.ptp(places, axis=0).max() < _ONE_PLACE:
        placed = PlacedEvidence(**vars(evidence))
        others, other, _ = _search(rig, placed, placed.scores(rig))
        other = placed.placed(other)
        if surpasses(evidence.scores(other), now) or not places.any():
            return ("no_translation", *others), other, tried
    pair = _best_pair(rig, evidence)
    if surpasses(evidence.scores(pair[1]), now):
        names, mended = pair
    return names, mended, tried


def _search(
    rig: Rig, evidence: BoxEvidence, given: np.ndarray
) -> tuple[tuple[str, ...], Rig, dict[str, float]]:
    """One mistake after the other, two at most, as long as undoing it gains beyond doubt."""
    names, mended, now = (), rig, given
    tried: dict[str, float] = {}
    for _ in range(2):
        # What was done last is undone first, and is not always what shows first.
        orders = [(*names, name) for name in MISTAKES if name not in names]
        orders += [(name, *names) for name in MISTAKES if names and name not in names]
        rigs = {order: _undone(rig, order, evidence) for order in orders}
        scores = {order: evidence.scores(one) for order, one in rigs.items()}
        tried = tried or {order[0]: float(score.mean()) for order, score in scores.items()}
        best = max(orders, key=lambda order: scores[order].mean() + _proper(rigs[order]))
        if not surpasses(scores[best], now):
            break
        names, mended, now = best, rigs[best], scores[best]
    return names, mended, tried


def _undone(rig: Rig, names: tuple[str, ...], evidence: Evidence) -> Rig:
    """The rig with mistakes undone in this order; of variants of the first, the choice is by what
    they are with the second undone."""
    for name, after in itertools.zip_longest(names, names[1:]):
        seen = evidence if after in (None, *_MANY) else Through(MISTAKES[after], evidence)
        rig = MISTAKES[name].mend(rig, seen)
    return rig


def _best_pair(rig: Rig, evidence: BoxEvidence) -> tuple[tuple[str, ...], Rig]:
    """Two mistakes of which neither shows without the other; those with many variants come last."""
    top, top_value = ((), rig), -np.inf
    for late in (False, True):
        for pair in itertools.permutations(MISTAKES, 2):
            if any(name in _MANY for name in pair) is late:
                one = _undone(rig, pair, evidence)
                value = evidence.scores(one).mean() + _proper(one)
                if value > top_value + 1e-6:  # the first of equals stays
                    top, top_value = (pair, one), value
        if top_value >= GOOD:
            break
    return top


def _proper(rig: Rig) -> float:
    """Of explanations alike, one whose cameras are right-handed is the better one."""
    return 0.01 * float((np.linalg.det(rig.ego_from_camera[:, :3, :3]) > 0).all())


def surpasses(new: np.ndarray, old: np.ndarray) -> bool:
    """Whether scores of the same annotations are higher beyond doubt.

    What does not change (the boxes of other cameras) tells nothing about how sure a gain is.
    """
    gain = new - old
    changed = gain[np.abs(gain) > 1e-6]
    if len(changed) < 4 or gain.mean() < _GAIN:
        return False
    return bool(changed.mean() > _SIGMAS * changed.std() / np.sqrt(len(changed)))


def _check(rig: Rig, boxes: BoxEvidence) -> None:
    cameras, count, items = len(rig.intrinsics), len(rig.size), len(boxes.camera)
    shapes = {
        "intrinsics": (rig.intrinsics, (cameras, 3, 3)),
        "ego_from_camera": (rig.ego_from_camera, (cameras, 4, 4)),
        "size": (rig.size, (count, 3)),
        "ego_from_box": (rig.ego_from_box, (count, 4, 4)),
        "box": (boxes.box, (items,)),
        "corners": (boxes.corners, (items, 4)),
    }
    for name, (values, shape) in shapes.items():
        if values.shape != shape or not np.isfinite(values).all():
            raise ValueError(f"{name} is {list(shape)} and finite, got {values.shape}")
    if not items:
        raise ValueError("no annotation in any image: nothing to judge by")
    for name, rows, end in (("camera", boxes.camera, cameras), ("box", boxes.box, count)):
        if rows.min() < 0 or rows.max() >= end:
            raise ValueError(f"{name} has rows beyond 0 to {end - 1}")
