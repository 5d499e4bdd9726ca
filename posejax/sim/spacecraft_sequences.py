"""Data sets of simulated event recordings of a spacecraft, in the SPARK-2026 layout, cached.

    root/spacecraft-<hash>/<split>/<split>_0000.h5     see `posejax.data.event_files.spark`
    root/spacecraft-<hash>/<split>/<split>_0000.json   what was simulated: `SequenceInfo`
    root/spacecraft-<hash>/settings.json               what the hash stands for

A sequence is a pure function of (settings, split, number): the hash covers the settings, not how
many sequences there are, so that asking for one more makes only that one (`posejax.sim.factory`).
"""

import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from posejax.data.event_files.recording import EventRecording, PoseTrack
from posejax.data.event_files.spark import write_spark
from posejax.geometry import matrix_to_quat_xyzw
from posejax.sim.event_camera import EventPixels, EventSensor, merge_events, noise_events
from posejax.sim.factory import ensure_items, open_dataset, world_seed
from posejax.sim.space_trajectories import MotionSettings, random_trajectory
from posejax.sim.space_views import SpaceCamera, View, render_views
from posejax.sim.spacecraft import spacecraft_wireframe

#: Raise it whenever the same settings would give other data: old caches are then left alone.
VERSION = 1
_CHUNK = 8  # frames rendered together


@dataclass(frozen=True)
class SpacecraftSettings:
    """Everything a simulated sequence depends on, besides its split and number.

    Attributes:
      seed: of the whole data set.
      duration_s: length of a sequence.
      label_rate: poses per second, the first at t = 0.
      sun_phase_deg: bounds of the light strata: the angle at the craft between the sun and the
        camera. Sequence k is lit from stratum k modulo their number.
      ambient: light from everywhere, relative to the sun's.
      blur_sigma: of the optics, pixels.
      max_shift: pixels that any point of the craft moves between rendered frames.
      frame_rate: least and most rendered frames per second.
    """

    seed: int = 0
    duration_s: float = 60.0
    label_rate: float = 10.0
    motion: MotionSettings = MotionSettings()
    camera: SpaceCamera = SpaceCamera()
    sensor: EventSensor = EventSensor()
    sun_phase_deg: tuple[float, ...] = (10.0, 40.0, 65.0, 90.0, 115.0)
    ambient: float = 0.05
    blur_sigma: float = 0.6
    max_shift: float = 1.5
    frame_rate: tuple[float, float] = (6.0, 60.0)


@dataclass(frozen=True)
class SequenceInfo:
    """What was simulated, and what came out.

    Attributes:
      motion: "spline" or "helix".
      light: number of the stratum of the sun's phase angle.
      sun: direction from the craft to the sun, camera frame.
      frames: rendered pictures.
      events: count, noise included.
      event_rate: events per second.
      on_share: share of ON events.
    """

    split: str
    number: int
    motion: str
    light: int
    sun: tuple[float, float, float]
    frames: int
    events: int
    event_rate: float
    on_share: float


def ensure_sequences(
    root: str | Path | None,
    settings: SpacecraftSettings,
    split: str,
    count: int,
    *,
    workers: int | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Make sure that the first `count` sequences of a split are on disk.

    Args:
      root: folder of all generated data sets; None: posejax's place in the user's cache.
      split: "train", "val" or "test"; they never share a sequence.
      workers: processes; default: the CPUs at hand, at most 16. Each is a fresh interpreter
        (spawned), so a script that calls this keeps its work below `if __name__ == "__main__"`.
      quiet: no progress line.

    Returns:
      Paths of the HDF5 files in order.

    Raises:
      ValueError: an unknown split, a count below 1, or settings under which nothing is in view.
      OSError: `root` cannot be written.
    """
    if count < 1:
        raise ValueError(f"need at least 1 sequence, got {count}")
    text = json.dumps({"version": VERSION, **dataclasses.asdict(settings)}, indent=2)
    world_seed(settings.seed, split, 0)  # checks the split
    return ensure_items(
        open_dataset(root, "spacecraft", text),
        split,
        [f"{split}_{number:04d}" for number in range(count)],
        functools.partial(_make, settings, split),
        parts=(".json", ".h5"),  # the recording last: it stands for a finished sequence
        files=2,
        title=f"simulating {split} sequences",
        executor=functools.partial(one_core_each, workers),
        quiet=quiet,
    )


def read_info(path: str | Path) -> SequenceInfo:
    """What was simulated in a file made by `ensure_sequences`."""
    fields = json.loads(Path(path).with_suffix(".json").read_text())
    return SequenceInfo(**{**fields, "sun": tuple(fields["sun"])})


def simulate_sequence(
    settings: SpacecraftSettings, split: str, number: int
) -> tuple[EventRecording, SequenceInfo]:
    """One sequence: events in microseconds and labels, from (settings, split, number) alone."""
    streams = np.random.SeedSequence(world_seed(settings.seed, split, number)).spawn(4)
    motion_rng, light_rng, pixel_rng, noise_rng = map(np.random.default_rng, streams)
    sensor, duration = settings.sensor, settings.duration_s
    share = settings.motion.helix_share
    helix = int((number + 1) * share) > int(number * share)  # evenly spread
    trajectory = random_trajectory(motion_rng, settings.motion, duration, settings.camera, helix)
    light = number % (len(settings.sun_phase_deg) - 1)
    sun = sun_direction(light_rng, settings, light)

    times = frame_times(trajectory, settings)
    poses = trajectory.poses(times)
    pixels, parts = None, [noise_events(noise_rng, sensor, duration)]
    for start in range(0, len(times), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        views = render_views(poses[chunk], sun, settings.camera, ambient=settings.ambient)
        for view, time in zip(views, times[chunk], strict=True):
            picture, corner = expose(view, settings)
            if pixels is None:
                pixels = EventPixels(pixel_rng, sensor, picture, corner, time)
            else:
                parts.append(pixels.observe(picture, corner, time))
    x, y, t, p = merge_events(noise_rng, sensor, parts, duration)
    name = f"{split}_{number:04d}"
    ticks = np.floor(t * 1e6).astype(np.int64)
    labels = _labels(trajectory, settings, name)
    recording = EventRecording(
        x, y, ticks, p, tick_seconds=1e-6, sensor_size=sensor.size, labels=labels, name=name
    )
    info = SequenceInfo(
        split=split,
        number=number,
        motion="helix" if helix else "spline",
        light=light,
        sun=tuple(sun.tolist()),
        frames=len(times),
        events=len(t),
        event_rate=len(t) / duration,
        on_share=float(p.mean()),
    )
    return recording, info


def frame_times(trajectory, settings: SpacecraftSettings) -> np.ndarray:
    """Times [F] from 0 to the end, so dense that the craft moves `max_shift` pixels at most."""
    t = np.linspace(0.0, settings.duration_s, int(np.ceil(settings.duration_s * 20)) + 1)
    points, _ = spacecraft_wireframe()
    pose = trajectory.poses(t)
    pixel = settings.camera.project(points @ pose[:, :3, :3].swapaxes(1, 2) + pose[:, None, :3, 3])
    speed = np.linalg.norm(np.diff(pixel, axis=0), axis=-1).max(1) / np.diff(t)
    rate = np.clip(speed / settings.max_shift, *settings.frame_rate)
    passed = np.concatenate([[0.0], np.cumsum(rate * np.diff(t))])
    frames = np.linspace(0.0, passed[-1], int(np.ceil(passed[-1])) + 1)
    return np.interp(frames, passed, t)


def _make(settings: SpacecraftSettings, split: str, number: int, place: Path) -> None:
    recording, info = simulate_sequence(settings, split, number)
    place.with_suffix(".json").write_text(json.dumps(dataclasses.asdict(info), indent=2))
    write_spark(place.with_suffix(".h5"), recording)


def one_core_each(workers: int | None, missing: int) -> concurrent.futures.Executor | None:
    """Fresh processes of one core each; None where one is enough: then the work is done here."""
    workers = min(workers or len(os.sched_getaffinity(0)), 16, missing)
    if workers <= 1:
        return None
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, context, _on_cpu)


def _on_cpu() -> None:
    # Before the worker's jax starts: accelerators are not shared by many processes, and one core
    # each is what a process gets.
    jax.config.update("jax_platforms", "cpu")
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
        " --xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count=1"
    )


def expose(view: View, settings: SpacecraftSettings) -> tuple[np.ndarray, tuple[int, int]]:
    """Log intensity behind the optics, and the corner of the patch (2 pixels wider)."""
    height, width = settings.camera.size
    grow = 2
    picture = np.pad(view.luminance, grow)
    if settings.blur_sigma > 0:
        taps = np.exp(-0.5 * (np.arange(1, grow + 1) / settings.blur_sigma) ** 2)
        taps = (taps / (1 + 2 * taps.sum())).astype(np.float32)
        for _ in range(2):  # rows, then columns
            blurred = picture * (1 - 2 * taps.sum())
            for k, tap in enumerate(taps, 1):
                blurred[k:] += tap * picture[:-k]
                blurred[:-k] += tap * picture[k:]
            picture = blurred.T
    row, column = view.corner[0] - grow, view.corner[1] - grow
    picture = picture[max(-row, 0) : height - row, max(-column, 0) : width - column]
    return np.log(picture + np.float32(settings.sensor.dark)), (max(row, 0), max(column, 0))


def sun_direction(rng: np.random.Generator, settings: SpacecraftSettings, light: int) -> np.ndarray:
    """Unit vector [3] from the craft to the sun, camera frame, for a stratum of phase angles."""
    low_deg, high_deg = settings.sun_phase_deg[light : light + 2]
    phase = np.deg2rad(rng.uniform(low_deg, high_deg))
    turn = rng.uniform(0.0, 2 * np.pi)
    return np.array([np.sin(phase) * np.cos(turn), np.sin(phase) * np.sin(turn), -np.cos(phase)])


def _labels(trajectory, settings: SpacecraftSettings, name: str) -> PoseTrack:
    count = int(np.ceil(settings.duration_s * settings.label_rate))
    t = np.arange(count) / settings.label_rate
    pose = trajectory.poses(t)
    with jax.enable_x64(True):
        quat = np.asarray(matrix_to_quat_xyzw(jnp.asarray(pose[:, :3, :3])))
    names = tuple(f"img{k:03d}_{name}.png" for k in range(count))
    return PoseTrack(t, pose[:, :3, 3], quat, names)
