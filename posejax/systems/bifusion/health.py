"""Are the frames of a training what they should be? Judged before the first step, in NumPy."""

from collections.abc import Iterable

import numpy as np

from posejax.data.errors import DataError
from posejax.data.rgbd_check import RgbdReport, check_rgbd, some_of
from posejax.data.rgbd_mistakes import RECORDING, RgbdView
from posejax.systems.bifusion.frames import FrameRecord, FrameSource

_RECORDINGS = 2


def view_of(frame: FrameRecord, group: int = 0) -> RgbdView:
    """What of a record is judged."""
    return RgbdView(
        frame.points,
        frame.colors,
        frame.image,
        frame.intrinsics,
        frame.camera_from_world,
        frame.depth,
        group,
    )


def check_frames(frames: Iterable[tuple[FrameRecord, int]]) -> RgbdReport:
    """`posejax.data.rgbd_check.check_rgbd` of (record, number of its recording)."""
    return check_rgbd(view_of(frame, group) for frame, group in frames)


def some_frames(source: FrameSource) -> list[int]:
    """Indices of a few frames of the first recordings."""
    chosen = []
    for number in np.unique(source.sequence)[:_RECORDINGS]:
        rows = np.flatnonzero(source.sequence == number)
        chosen += [int(rows[k]) for k in some_of(len(rows))]
    return chosen


def verify(source: FrameSource) -> RgbdReport:
    """Judge a few frames of a source.

    Raises:
      DataError: a mistake was found; the message says how to mend it, or how to go on anyway.
    """
    rows = some_frames(source)
    frames = [(source.frame(row), int(source.sequence[row])) for row in rows]
    where, how = source.describe(rows[0]), "--data.no-verify goes on without this check"
    if not any(len(frame.points) for frame, _ in frames):
        depths = [frame.depth for frame, _ in frames if frame.depth is not None]
        most = max((float(depth.max()) for depth in depths), default=0.0)
        advice = RECORDING["depth_unit"].advice if most > 0 else "is this the depth's file?"
        found = f"no point; the greatest depth is {most:g} m"
        raise DataError(where, "depth_unit", found, "some within system.data.farthest", advice)
    report = check_frames(frames)
    if not report.ok:
        found = f"valid {report.valid:.3f}, colours off by {report.color_rmse:.1f} of 255"
        if not np.isnan(report.agreement):
            found += f", depths of frames agree in {report.agreement:.3f}"
        hint = "; ".join([*report.advice, how])
        expected = "1.000, below 1, above 0.9"
        raise DataError(where, ", ".join(report.mistakes), found, expected, hint)
    return report
