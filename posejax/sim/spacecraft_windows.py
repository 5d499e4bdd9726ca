"""Independent windows of simulated events: thousands of motions, suns and sensors, a clip of each.

    root/windows-<hash>/<split>/<split>_0000.h5     `per_file` clips, one after another on its clock
    root/windows-<hash>/<split>/<split>_0000.json   what was simulated: `ClipTable`, by columns
    root/windows-<hash>/settings.json               what the hash stands for

Windows of one sequence are near copies of each other: one arc of the motion under one sun. A clip
is what a sequence of the same settings shows around a random instant of its motion: its own
trajectory, sun and pixels, drawn as `simulate_sequence` draws them, rendered at the same rate. The
pixels have seen a few pictures before the clip begins, so that they remember about what those of a
running camera would: without any memory a dim window has twice the events of a sequence's.

A clip is a pure function of (settings, split, number), the files are SPARK recordings with one
label for each clip, at its query instant. They say that labels are independent of each other
(`PoseTrack.clip`), and readers refuse windows that cross from one clip to the next.
"""

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from posejax.data.event_files.recording import EventRecording, PoseTrack
from posejax.data.event_files.spark import TICK_SECONDS, write_spark
from posejax.data.rigid import matrix_to_quat_xyzw, so3_log
from posejax.sim.event_camera import (
    EventPixels,
    EventSensor,
    PixelEvents,
    brief_noise_events,
    merge_events,
)
from posejax.sim.factory import ensure_items, open_dataset, world_seed
from posejax.sim.space_raster import paint_views
from posejax.sim.space_trajectories import random_trajectory
from posejax.sim.spacecraft import spacecraft_wireframe
from posejax.sim.spacecraft_sequences import (
    SpacecraftSettings,
    expose,
    one_core_each,
    sun_direction,
)

#: Raise it whenever the same settings would give other data: old caches are then left alone.
VERSION = 2
_STREAM = 12  # sets the seeds of windows apart from those of sequences


@dataclass(frozen=True)
class WindowSettings:
    """Everything a clip depends on, besides its split and number.

    Attributes:
      sequence: what clips are cut from; `duration_s` is that of the motion they are an instant of.
      clip_s: seconds of events before and after the query instant; as `Window.reach`.
      history_s: seconds before the clip at which the pixels see a picture, besides the one just
        before it. Two are enough for 3 % (see docs/sim_events.md).
      unknown: where the pixels stand at the first picture, see `EventPixels`.
      per_file: clips of a file.
    """

    sequence: SpacecraftSettings = SpacecraftSettings(duration_s=6.0)
    clip_s: tuple[float, float] = (0.0, 0.1)
    history_s: tuple[float, ...] = (1.6, 0.3)
    unknown: float = 0.6
    per_file: int = 250


class Clip(NamedTuple):
    """One window and its truth.

    Attributes:
      events: in time order; t in [0, length) seconds from the start of the clip.
      pose: [4, 4] float64 camera_from_body at the query instant.
      info: what was simulated: one row of a `ClipTable`.
    """

    events: PixelEvents
    pose: np.ndarray
    info: dict


class ClipTable(NamedTuple):
    """What was simulated in a file, a row for each clip.

    Attributes:
      light: [N] number of the stratum of the sun's phase angle.
      helix: [N] whether the motion is a screw; otherwise a spline.
      sun: [N, 3] direction from the craft to the sun, camera frame.
      velocity: [N, 6] mean over the clip: of the body's origin (m/s), and the turn rate (rad/s),
        camera frame.
      frames: [N] rendered pictures.
      events: [N] in the clip, noise included.
    """

    light: np.ndarray
    helix: np.ndarray
    sun: np.ndarray
    velocity: np.ndarray
    frames: np.ndarray
    events: np.ndarray


def ensure_windows(
    root: str | Path | None,
    settings: WindowSettings,
    split: str,
    count: int,
    *,
    workers: int | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Make sure that the first `count` windows of a split are on disk, rounded up to whole files.

    Args:
      root: folder of all generated data sets; None: posejax's place in the user's cache.
      split: "train", "val" or "test"; they never share a motion.
      workers: processes; see `ensure_sequences`.
      quiet: no progress line.

    Returns:
      Paths of the HDF5 files in order; `read_clips` tells what is in one.

    Raises:
      ValueError: an unknown split, a count below 1, or settings under which nothing is in view.
      OSError: `root` cannot be written.
    """
    if count < 1:
        raise ValueError(f"need at least 1 window, got {count}")
    text = json.dumps({"version": VERSION, **dataclasses.asdict(settings)}, indent=2)
    world_seed(settings.sequence.seed, split, 0)  # checks the split
    return ensure_items(
        open_dataset(root, "windows", text),
        split,
        [f"{split}_{number:04d}" for number in range(-(-count // settings.per_file))],
        functools.partial(_make, settings, split),
        parts=(".json", ".h5"),  # the recording last: it stands for a finished file
        files=2,
        title=f"simulating {split} windows, {settings.per_file} at a time",
        executor=functools.partial(one_core_each, workers),
        quiet=quiet,
    )


def read_clips(path: str | Path) -> ClipTable:
    """What was simulated in a file made by `ensure_windows`."""
    columns = json.loads(Path(path).with_suffix(".json").read_text())
    return ClipTable(**{name: np.array(values) for name, values in columns.items()})


def simulate_window(settings: WindowSettings, split: str, number: int) -> Clip:
    """One clip, from (settings, split, number) alone."""
    of = settings.sequence
    seed = (*world_seed(of.seed, split, number), _STREAM)
    streams = np.random.SeedSequence(seed).spawn(4)
    motion_rng, light_rng, pixel_rng, noise_rng = map(np.random.default_rng, streams)
    share = of.motion.helix_share
    helix = int((number + 1) * share) > int(number * share)  # evenly spread
    trajectory = random_trajectory(motion_rng, of.motion, of.duration_s, of.camera, helix)
    light = number % (len(of.sun_phase_deg) - 1)
    sun = sun_direction(light_rng, of, light)

    before, after = settings.clip_s
    margin = 1 / of.frame_rate[0]  # the pictures around a clip reach that far
    query = motion_rng.uniform(
        before + margin, max(of.duration_s - after - margin, before + margin)
    )
    start, end = query - before, query + after
    bounds = trajectory.poses(np.array([start, query, end]))
    times = _frame_times(motion_rng, bounds[[0, 2]], start, end, settings)
    paint = functools.partial(paint_views, sun=sun, camera=of.camera, ambient=of.ambient)
    poses, past = trajectory.poses(times), int((times <= start - min(settings.history_s)).sum())
    views = paint(poses[:past], smooth_edges=False) if past else []
    pictures = [expose(view, of) for view in [*views, *paint(poses[past:])]]
    parts = _observe(pixel_rng, of.sensor, pictures, times - start, settings.unknown)
    parts.append(brief_noise_events(noise_rng, of.sensor, end - start))
    events = merge_events(noise_rng, of.sensor, parts, end - start)  # without the history
    events = PixelEvents(*(column[: np.searchsorted(events.t, end - start)] for column in events))
    info = {
        "light": light,
        "helix": helix,
        "sun": sun.tolist(),
        "velocity": _velocity(bounds[0], bounds[2], end - start).tolist(),
        "frames": len(times),
        "events": len(events.t),
    }
    return Clip(events, bounds[1], info)


def _frame_times(
    rng, poses: np.ndarray, start: float, end: float, settings: WindowSettings
) -> np.ndarray:
    """Times [F] of pictures: the history, then as dense as in a sequence, around start to end.

    Between two pictures pixels fire late rather than early: a clip begins anywhere between two.

    Args:
      poses: [2, 4, 4] at start and end; in between the speed is even.
    """
    of = settings.sequence
    points, _ = spacecraft_wireframe()
    pixel = of.camera.project(points @ poses[:, :3, :3].swapaxes(1, 2) + poses[:, None, :3, 3])
    speed = np.linalg.norm(pixel[1] - pixel[0], axis=-1).max() / (end - start)
    step = 1 / np.clip(speed / of.max_shift, *of.frame_rate)
    first = start - step * rng.random()
    dense = first + step * np.arange(np.ceil((end - first) / step) + 1)
    history = start - np.array(settings.history_s)
    return np.concatenate([history[(history > 0) & (history < first - step / 2)], dense])


def _observe(rng, sensor: EventSensor, pictures, times, unknown: float) -> list[PixelEvents]:
    """Events of the pixels that any picture covers; all the others see the dark throughout."""
    corners = np.array([corner for _, corner in pictures])
    low = corners.min(0)
    size = (corners - low + [picture.shape for picture, _ in pictures]).max(0)
    sensor = dataclasses.replace(sensor, size=(int(size[0]), int(size[1])))
    (first, _), *others = pictures
    places = [(int(row), int(column)) for row, column in corners - low]
    pixels = EventPixels(rng, sensor, first, places[0], times[0], unknown)
    parts, late = [], sensor.latency_s or sensor.jitter_s
    for (picture, _), place, time in zip(others, places[1:], times[1:], strict=True):
        # What fired before the clip is in no clip, unless its time stamps are.
        x, y, t, p = pixels.observe(picture, place, time, listed=time >= 0 or bool(late))
        parts.append(PixelEvents(x + np.uint16(low[1]), y + np.uint16(low[0]), t, p))
    return parts


def _velocity(first: np.ndarray, last: np.ndarray, seconds: float) -> np.ndarray:
    turn = so3_log(last[:3, :3] @ first[:3, :3].T)
    return np.concatenate([last[:3, 3] - first[:3, 3], turn]) / seconds


def _make(settings: WindowSettings, split: str, number: int, place: Path) -> None:
    first = number * settings.per_file
    clips = [simulate_window(settings, split, first + k) for k in range(settings.per_file)]
    rows = [clip.info for clip in clips]
    columns = {name: [row[name] for row in rows] for name in ClipTable._fields}
    place.with_suffix(".json").write_text(json.dumps(columns))
    write_spark(place.with_suffix(".h5"), join_clips(settings, clips, f"{split}_{number:04d}"))


def join_clips(settings: WindowSettings, clips: list[Clip], name: str) -> EventRecording:
    """One recording of independent clips, one after another, each beginning on a tick."""
    before, after = settings.clip_s
    ticks = int(np.ceil((before + after) / TICK_SECONDS - 1e-9))
    stride = round(ticks * TICK_SECONDS * 1e6)  # microseconds
    t = [
        np.floor(clip.events.t * 1e6).astype(np.int64) + stride * k for k, clip in enumerate(clips)
    ]
    x, y, _, p = (np.concatenate(column) for column in zip(*(c.events for c in clips), strict=True))
    poses = np.stack([clip.pose for clip in clips])
    names = tuple(f"img{k:03d}_{name}.png" for k in range(len(clips)))
    instants = 1e-6 * stride * np.arange(len(clips)) + before
    quat = matrix_to_quat_xyzw(poses[:, :3, :3])
    labels = PoseTrack(instants, poses[:, :3, 3], quat, names, clip=settings.clip_s)
    return EventRecording(
        x, y, np.concatenate(t), p, 1e-6, settings.sequence.sensor.size, labels, name
    )
