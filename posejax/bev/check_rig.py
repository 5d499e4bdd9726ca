"""Is a rig's calibration right, and if not, which of the usual mistakes was made?

The chain from boxes in the ego frame to pixels is right or it is not: on nuScenes, projected boxes
overlap the annotated ones with a mean IoU of 0.947, and by 0.54 or less after any common mistake.
So every mistake, and every pair, is undone on trial, and what explains the images is named.
"""

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from posejax.bev.mistakes import MISTAKES, Rig

GOOD = 0.85  # mean IoU from which a single mistake is explanation enough
_GAIN, _SIGMAS = 0.015, 4.0  # of mean IoU that a further mistake must gain, and be sure of
_MANY = ("degrees_as_radians", "swapped_cameras")  # whose mending is a search of its own
_FEW = 12  # variants of a pose that are judged by the whole boxes
_UNEXPLAINED = 0.4  # mean IoU below which nothing was found
_TILT = np.deg2rad(3.0)
_NEAR = 1e-2  # metres
_UNIT = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
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
      the fewest are named. Cameras without annotations are not judged. Degrees used as radians, and
    exchanged cameras, are found by where the boxes fall: under a second mistake that moves those
    away they may not be named.

    Raises:
      ValueError: shapes that do not fit, no annotation, or values that are not finite.

    On the host, in float64: a fifth of a second, some seconds where two mistakes hide each other.
    """
    rig = Rig(
        *(np.asarray(v, np.float64) for v in (intrinsics, ego_from_camera, size, ego_from_box)),
        ego_motion=None if ego_motion is None else np.asarray(ego_motion, np.float64),
        world_from_ego=None if world_from_ego is None else np.asarray(world_from_ego, np.float64),
    )
    boxes = _BoxEvidence(
        np.asarray(camera, np.int64), np.asarray(box, np.int64), np.asarray(corners, np.float64),
        (int(image_size[0]), int(image_size[1])),
    )  # fmt: skip
    _check(rig, boxes)
    given = boxes.scores(rig)
    if len(rig.intrinsics) > 1 and not rig.ego_from_camera[:, :3, 3].any() and given.mean() < GOOD:
        advice = ("all translations are zero: they were dropped",)
        mean = float(given.mean())
        return RigReport(("no_translation",), advice, mean, mean, rig)
    names, mended, tried = _search(rig, boxes, given)
    advice = [MISTAKES[name].advice for name in names]
    found = list(names)
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


def _search(
    rig: Rig, evidence: "_BoxEvidence", given: np.ndarray
) -> tuple[tuple[str, ...], Rig, dict[str, float]]:
    """The fewest mistakes that explain the images: none, one or two."""
    names, mended, now = (), rig, given
    tried: dict[str, float] = {}
    for _ in range(2):
        rest = {name: m.mend(mended, evidence) for name, m in MISTAKES.items() if name not in names}
        scores = {name: evidence.scores(one) for name, one in rest.items()}
        tried = tried or {name: float(score.mean()) for name, score in scores.items()}
        best = max(rest, key=lambda name: scores[name].mean() + _proper(rest[name]))
        if not surpasses(scores[best], now):
            break
        names, mended, now = (*names, best), rest[best], scores[best]
    if len(names) == 2:  # which one was undone first can matter to the choice of the other
        other = rig
        for name in names[::-1]:
            other = MISTAKES[name].mend(other, evidence)
        if evidence.scores(other).mean() > now.mean() + 1e-6:
            names, mended = names[::-1], other
    if now.mean() < GOOD:
        pair = _best_pair(rig, evidence)
        if surpasses(evidence.scores(pair[1]), now):
            names, mended = pair
    return names, mended, tried


def _best_pair(rig: Rig, evidence: "_BoxEvidence") -> tuple[tuple[str, ...], Rig]:
    """Two mistakes of which neither shows without the other; those with many variants come last."""
    top, top_value = ((), rig), -np.inf
    for late in (False, True):
        for pair in itertools.permutations(MISTAKES, 2):
            if any(name in _MANY for name in pair) is late:
                one = rig
                for name in pair:
                    one = MISTAKES[name].mend(one, evidence)
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


@dataclass(frozen=True, eq=False)
class _BoxEvidence:
    camera: np.ndarray
    box: np.ndarray
    corners: np.ndarray
    image_size: tuple[int, int]

    def scores(self, rig: Rig) -> np.ndarray:
        """IoU [M] of projected and annotated boxes."""
        poses = rig.ego_from_camera[None, self.camera]
        return self._overlap(rig, poses, rig.intrinsics[self.camera])[0]

    def by_camera(self, rig: Rig, poses: np.ndarray) -> np.ndarray:
        rows = np.arange(len(rig.ego_from_camera))
        member = (self.camera[:, None] == rows).astype(np.float64)
        member /= np.maximum(member.sum(0), 1)
        if len(poses) > _FEW:  # of many, those that show the centres in place are looked at
            rough = self._centred(rig, poses[:, self.camera]) @ member
            best = np.argsort(-rough, axis=0, kind="stable")[:_FEW]
            scores = np.full(rough.shape, -1.0)
            scores[best, rows] = self.by_camera(rig, poses[best, rows])
            return scores
        return self._overlap(rig, poses[:, self.camera], rig.intrinsics[self.camera]) @ member

    def exchanged(self, rig: Rig) -> np.ndarray:
        scores = [
            self.by_camera(
                replace(rig, intrinsics=np.broadcast_to(k, rig.intrinsics.shape)),
                np.broadcast_to(pose, (1, *rig.ego_from_camera.shape)),
            )[0]
            for k, pose in zip(rig.intrinsics, rig.ego_from_camera, strict=True)
        ]
        return np.stack(scores, axis=1)

    def pixel_shift(self, rig: Rig) -> float:
        """Multiple of half a pixel by which projections lie beside the annotations, right and
        down alike; 0 if that is not sure."""
        poses = rig.ego_from_camera[None, self.camera]
        projected, whole = self._project(rig, poses, rig.intrinsics[self.camera])
        height, width = self.image_size
        limit = np.array([width, height, width, height]) - 2.0
        free = whole[0, :, None] & (projected[0] > 2) & (projected[0] < limit)
        free &= (self.corners > 2) & (self.corners < limit)
        off = np.where(free, projected[0] - self.corners, np.nan)
        off = off[np.isfinite(off).all(1)]
        if len(off) < 10:
            return 0.0
        # A box that is annotated too tightly is off on both sides: their mean is not.
        moved = np.stack([off[:, [0, 2]].mean(1), off[:, [1, 3]].mean(1)], axis=1)
        shift = np.median(moved, axis=0)
        spread = 1.4826 * np.median(np.abs(moved - shift), axis=0) * 1.25 / np.sqrt(len(moved))
        alike = shift[0] * shift[1] > 0 and np.abs(shift).min() > 0.2
        if not alike or np.abs(shift).mean() < 0.3 or (np.abs(shift) < 2 * spread).any():
            return 0.0
        return float(np.clip(np.round(2 * shift.mean()) / 2, -1, 1))

    def _centred(self, rig: Rig, poses: np.ndarray) -> np.ndarray:
        """Whether boxes' centres project into the annotations, [n, M]."""
        offset = rig.ego_from_box[self.box, :3, 3] - poses[..., :3, 3]
        local = np.einsum("nmji,nmj->nmi", poses[..., :3, :3], offset)
        u, v, depth = np.moveaxis(
            np.einsum("mij,nmj->nmi", rig.intrinsics[self.camera], local), -1, 0
        )
        ahead = depth > _NEAR
        u, v = u / np.where(ahead, depth, 1), v / np.where(ahead, depth, 1)
        left, top, right, bottom = self.corners.T
        return (ahead & (u > left) & (u < right) & (v > top) & (v < bottom)).astype(np.float64)

    def _project(self, rig: Rig, poses: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes around the projections [n, M, 4] by ego_from_camera [n, M, 4, 4], and whether all
        of a box is ahead; NaN where nothing is."""
        cubes = _UNIT[None] * rig.size[self.box][:, None]
        boxes = rig.ego_from_box[self.box]
        ego = cubes @ np.swapaxes(boxes[:, :3, :3], 1, 2) + boxes[:, None, :3, 3]
        inverse = np.linalg.inv(poses)
        local = ego[None] @ np.swapaxes(inverse[..., :3, :3], -1, -2)
        local = (local + inverse[..., None, :3, 3]) @ np.swapaxes(k, -1, -2)[None]
        ahead = local[..., 2] > _NEAR
        xy = local[..., :2] / np.where(ahead, local[..., 2], 1)[..., None]
        low = np.where(ahead[..., None], xy, np.inf).min(-2)
        high = np.where(ahead[..., None], xy, -np.inf).max(-2)
        around = np.concatenate([low, high], axis=-1)
        around[~ahead.any(-1)] = np.nan
        return around, np.asarray(ahead.all(-1))

    def _overlap(self, rig: Rig, poses: np.ndarray, k: np.ndarray) -> np.ndarray:
        """IoU [n, M] on the image."""
        around, _ = self._project(rig, poses, k)
        height, width = self.image_size
        limit = np.array([width, height, width, height])
        a = np.clip(around, 0, limit)
        b = np.clip(self.corners, 0, limit)
        common = np.minimum(a[..., 2:], b[:, 2:]) - np.maximum(a[..., :2], b[:, :2])
        both = np.maximum(common, 0).prod(-1)
        either = (a[..., 2:] - a[..., :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - both
        return np.nan_to_num(both / np.where(either > 0, either, 1))


def _check(rig: Rig, boxes: _BoxEvidence) -> None:
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
