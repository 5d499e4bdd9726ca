"""Do an RGB-D recording's points, images, poses and depths fit, and if not, what was done to them?

A few frames tell. Points of a frame that are projected into its own image must all be valid and
find their own colour there; points of one frame must lie on the surface that another one measured.
Where they do not, every usual mistake is undone on trial, and what explains the frames is named. A
ratio of valid points alone is no check: a transposed rotation can leave 0.91 of them valid.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from posejax.data.images import resize_image
from posejax.data.rgbd_frames import RgbdFrame
from posejax.data.rgbd_mistakes import PROJECTION, RECORDING, RgbdMistake, RgbdView, shifted
from posejax.data.rgbd_points import back_project, depth_agreement, into_image, sample_colors
from posejax.data.rigid import nearest_rigid, se3_inverse

_POINTS = 1500  # of a frame that are looked at
_FULL = 24.0  # mean error of a colour, of 255, from which on it counts as another one
_FINE = 0.97  # score of frames with themselves that is good enough
_AGREE, _DISAGREE = 0.9, 0.6  # of depths between frames: good enough, certainly wrong
_MENDED = 0.7  # what undoing a mistake of the recording must lead to
_OVERLAP = 0.2  # share of points that other frames must see, of all pairs, to judge by them
_RELATIVE = 0.03  # of the depth: surfaces agree
_MOTION = 0.04  # of the image's width, that points must move between frames to tell anything
_BLURRED = 8
_SHIFTS = {"half_pixel", "one_based_pixels"}
_CAMERAS = {"principal_point", "focal_length", "intrinsics_of_other_size"}


@dataclass(frozen=True, eq=False)
class RgbdReport:
    """What was found.

    Attributes:
      mistakes: names of `PROJECTION` and `RECORDING`, or "unknown"; empty for data that fit.
      advice: a sentence for each.
      valid: share of points that lie on their own frame's image.
      color_rmse: of points' colours and the image's there, of 255; NaN where none is valid.
      agreement: share of points that lie on the surface another frame sees, where they are not
        hidden from it; NaN where no two frames with depth tell.
      mended: the same three with the mistakes undone.
    """

    mistakes: tuple[str, ...]
    advice: tuple[str, ...]
    valid: float
    color_rmse: float
    agreement: float
    mended: tuple[float, float, float]

    @property
    def ok(self) -> bool:
        """Nothing is wrong that could be found."""
        return not self.mistakes

    def __str__(self) -> str:
        head = _figures(self.valid, self.color_rmse, self.agreement)
        if self.ok:
            return f"{head}: no mistake found"
        lines = [head, f"{_figures(*self.mended)} without these mistakes:"]
        pairs = zip(self.mistakes, self.advice, strict=True)
        return "\n".join([*lines, *(f"  {name}: {text}" for name, text in pairs)])


def check_rgbd(views: Iterable[RgbdView]) -> RgbdReport:
    """Judge a few frames, best some that follow one another and some that are seconds apart.

    Args:
      views: as the reader hands them on; images at the size that points took their colours from.

    Returns:
      `RgbdReport`. Limits: a mistake that moves nothing between these frames cannot be seen (half
      a pixel in the intrinsics that points were made with); frames that stand still tell nothing
      of poses.

    Raises:
      ValueError: no frame, or none with points.
    """
    given = [_thinned(view) for view in views if len(view.points)]
    if not given:
        raise ValueError("no frame with points: nothing to judge by")
    own, names, advice = _undo(given, PROJECTION, own_score, _FINE)
    if own_score(own) < _FINE and not names:
        own, *more = _last_resort(own)
        names, advice = more[:1], more[1:]
    # The points that frames are compared by are made anew, of depth, K and pose.
    pairs = informative_pairs(own)
    found, more, texts = _undo(
        own, RECORDING, lambda v: recording_score(v, pairs), _AGREE, least=_MENDED
    )
    if not names and not more and _agreement(own, pairs) < _DISAGREE:  # False for NaN
        more, texts = ["unknown"], ["frames do not agree in depth: are poses of these frames?"]
    return RgbdReport(
        (*names, *more),
        (*advice, *texts),
        *own_figures(given),
        _agreement(given, informative_pairs(given)),
        (*own_figures(own), _agreement(found, pairs)),
    )


def _agreement(views: Sequence[RgbdView], pairs: Sequence[tuple[int, int]]) -> float:
    """For people: NaN where frames see too little of the same."""
    score, overlap = pair_agreement(views, pairs)
    return score if overlap >= _OVERLAP else float("nan")


def view_of(frame: RgbdFrame, group: int = 0) -> RgbdView:
    """What a reader's frame is judged by: every point of its depth map."""
    pose = nearest_rigid(frame.world_from_camera)
    points, pixels = back_project(frame.depth, frame.intrinsics, pose)
    colors = frame.image.reshape(-1, 3)[pixels] / 255.0
    k, camera_from_world = frame.intrinsics, se3_inverse(pose)
    return RgbdView(points, colors, frame.image, k, camera_from_world, frame.depth, group)


def some_of(count: int) -> list[int]:
    """Places of a few of the frames of a recording: some follow one another, some are far apart."""
    return [k for k in (0, 1, 2, 3, 5, 8, 12, 20, 40, 80) if k < count]


# ---- a frame with itself


def own_figures(views: Sequence[RgbdView]) -> tuple[float, float]:
    """Share of valid points, and the RMSE of their colours of 255."""
    valid, square, count = 0.0, 0.0, 0
    for view in views:
        seen, off = _seen(view)
        valid += seen.mean() / len(views)
        square, count = square + float((off**2).sum()), count + off.size
    return float(valid), float(np.sqrt(square / count)) if count else float("nan")


def own_score(views: Sequence[RgbdView]) -> float:
    """Mean over all points of 1 for its own colour, down to 0 for another one or none."""
    return float(np.mean([_likeness(view) for view in views]))


def _likeness(view: RgbdView) -> float:
    seen, off = _seen(view)
    return float(np.maximum(1 - np.abs(off).mean(-1) / _FULL, 0).sum() / len(seen))


def _seen(view: RgbdView) -> tuple[np.ndarray, np.ndarray]:
    """Which of the points are valid [N], and errors of the colours of those [M, 3] of 255."""
    xy, _, valid = into_image(view.points, view.intrinsics, view.camera_from_world, view.size)
    return valid, sample_colors(view.image, xy[valid]) - 255.0 * view.colors[valid]


def _thinned(view: RgbdView) -> RgbdView:
    """With a choice of the points that is spread over them all."""
    count = len(view.points)
    rows = np.arange(min(count, _POINTS)) * count // min(count, _POINTS)
    return replace(
        view, points=view.points[rows], colors=view.colors[rows], mean=view.points.mean(0)
    )


def _gain(before: float) -> float:
    """What undoing a mistake must gain: half of what is lacking."""
    return max(0.5 * (1 - before), 0.01)


def _last_resort(views: list[RgbdView]) -> tuple[list[RgbdView], str, str]:
    """Points without depth that have a mean of 0; any other shift of the principal point."""
    if all(_has_no_mean(view) for view in views):
        name = "zero_centred_points"
        return views, name, PROJECTION[name].advice
    shift = _best_shift(views)
    moved = [shifted(shift)(view) for view in views]
    if own_score(moved) - own_score(views) > _gain(own_score(views)):
        x, y = shift
        text = f"the principal point is off by ({-x:g}, {-y:g}) pixels: add ({x:g}, {y:g})"
        return moved, "principal_point", text
    text = "points do not have the colours of the image at their projection: is it their frame's?"
    return views, "unknown", text


def _has_no_mean(view: RgbdView) -> bool:
    """Up to what a choice of 20,000 points has."""
    assert view.mean is not None
    return bool((np.abs(view.mean) < 0.03 * view.points.std(0)).all())


def _best_shift(views: list[RgbdView]) -> tuple[float, float]:
    """(x, y) pixels by which the principal point is best moved, coarse to fine."""
    wide = views[0].size[1]
    best, step = (0.0, 0.0), float(_BLURRED)
    reach = wide // 3 // _BLURRED * _BLURRED
    small = [_shrunk(view) for view in views]
    while step >= 0.5:
        steps = np.arange(-reach, reach + step / 2, step)
        shifts = [(best[0] + x, best[1] + y) for y in steps for x in steps]
        # Blurred while the steps are coarse: a basin as wide as the step.
        factor = 1 / _BLURRED if step == _BLURRED else 1.0
        looked = small if step == _BLURRED else views
        scores = [
            own_score([shifted((x * factor, y * factor))(view) for view in looked])
            for x, y in shifts
        ]
        best = shifts[int(np.argmax(scores))]
        reach, step = step, step / 4 if step > 1 else step / 2
    return best


def _shrunk(view: RgbdView) -> RgbdView:
    size = max(view.size[0] // _BLURRED, 2), max(view.size[1] // _BLURRED, 2)
    scale = np.array([size[1] / view.size[1], size[0] / view.size[0], 1.0])
    every = max(len(view.points) // 300, 1)
    return replace(
        view,
        image=resize_image(view.image, size),
        intrinsics=view.intrinsics * scale[:, None],
        points=view.points[::every],
        colors=view.colors[::every],
    )


# ---- frames with one another


def informative_pairs(views: Sequence[RgbdView]) -> list[tuple[int, int]]:
    """Pairs of frames of a recording, with depth, between which the points move."""
    clouds = [_cloud(view) for view in views]
    pairs = []
    for a, one in enumerate(views):
        for b, two in enumerate(views):
            if a == b or one.group != two.group or two.depth is None or not len(clouds[a]):
                continue
            here = into_image(clouds[a], one.intrinsics, one.camera_from_world, one.size)
            there = into_image(clouds[a], two.intrinsics, two.camera_from_world, two.size)
            moved = np.linalg.norm(here.xy - there.xy, axis=-1)
            if np.median(np.where(there.z > 0, moved, np.inf)) > _MOTION * one.size[1]:
                pairs.append((a, b))
    return pairs


def pair_agreement(
    views: Sequence[RgbdView], pairs: Sequence[tuple[int, int]]
) -> tuple[float, float]:
    """Share of the points that lie on the surface the other frame sees, over all pairs, each
    weighed by its overlap; and the sum of overlaps."""
    clouds = [_cloud(view) for view in views]
    share = total = 0.0
    for a, b in pairs:
        two = views[b]
        assert two.depth is not None
        found = depth_agreement(
            clouds[a], two.depth, two.intrinsics, two.camera_from_world,
            tolerance=np.inf, relative=_RELATIVE, hidden=2 * _RELATIVE,
        )  # fmt: skip
        share, total = share + found.overlap * found.agreeing, total + found.overlap
    return share / max(total, 1e-9), total


def recording_score(views: Sequence[RgbdView], pairs: Sequence[tuple[int, int]]) -> float:
    """The agreement of pairs; less where hardly any see the same, and half where depths are not of
    a room: a camera that turns and hardly moves sees the same in any unit."""
    score, overlap = pair_agreement(views, pairs) if pairs else (1.0, 1.0)
    score *= min(overlap / _OVERLAP, 1.0)
    return score if _of_a_room(views) else score / 2


def _cloud(view: RgbdView) -> np.ndarray:
    """[M, 3] points of every so many-th row and column of the depth map."""
    if view.depth is None:
        return np.zeros((0, 3))
    step = max(int(np.sqrt(view.depth.size / _POINTS)), 1)
    pose = se3_inverse(nearest_rigid(view.camera_from_world))
    return back_project(view.depth, view.intrinsics, pose, step)[0]


# ---- undoing mistakes


def _undo(views, mistakes: dict[str, RgbdMistake], score, fine: float, least: float = 0.0):
    """Undo what explains most, again and again while it does; views, names and advice."""
    names: list[str] = []
    advice: list[str] = []
    now = score(views)
    while now < fine and len(names) < 3:
        tried = {}
        for name in mistakes.keys() - names:
            mended = [[mend(view) for view in views] for mend in mistakes[name].mends]
            scores = [score(candidate) for candidate in mended]
            best = int(np.argmax(scores))
            tried[name] = scores[best], mended[best]
        # Of two that explain it equally, the one that leaves a room's depths, then the first.
        name = max(
            (name for name in mistakes if name in tried),
            key=lambda n: (round(tried[n][0], 2), _of_a_room(tried[n][1])),
        )
        best, candidate = tried[name]
        if best - now <= _gain(now) or best < least:
            break
        views, now = candidate, best
        if not (name in _SHIFTS and _CAMERAS & set(names)):  # a rest of what was found already
            names, advice = [*names, name], [*advice, mistakes[name].advice]
    return views, names, advice


def _of_a_room(views: Sequence[RgbdView]) -> bool:
    """Whether depths are of some metres; True without any."""
    known = [view.depth[view.depth > 0] for view in views if view.depth is not None]
    middle = [float(np.median(depth)) for depth in known if len(depth)]
    return not middle or 0.1 < float(np.median(middle)) < 30


def _figures(valid: float, rmse: float, agreement: float) -> str:
    depth = "" if np.isnan(agreement) else f", depths of frames agree in {agreement:.3f}"
    return f"valid {valid:.3f}, colours off by {rmse:.1f} of 255{depth}"
