"""Poses of a spacecraft in an event recording of your own, from a trained run.

    python examples/pose_from_events.py RECORDING --run runs/eventpose_sim --out poses.csv

RECORDING is any file that `posejax.data.event_files.read_recording` knows: SPARK-2026 or DSEC
HDF5, Prophesee EVT2/EVT3 raw, RPG text, SPADES CSV or npz. Files that do not tell their sensor or
their time unit need --sensor-size or --tick (the real SPARK test files: --tick 1e-6). The table has
the columns of the SPARK submission, poses are camera_from_body (m, quaternion xyzw), one every
--period seconds of the recording's clock; --template checks it against the rows that are asked for.
--picture shows what the network saw of the window with the most events.
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np

import posejax
from posejax.config import ConfigError
from posejax.data.errors import DataError
from posejax.data.event_files import audit, read_recording
from posejax.systems.eventpose import Eventpose
from posejax.systems.eventpose.inference import predict_recording, query_times
from posejax.systems.eventpose.submission import pose_ids, write_submission
from posejax.train import CheckpointError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording", type=Path, help="file of events")
    parser.add_argument("--run", default="eventpose_sim", help="run folder, or weights")
    parser.add_argument("--period", type=float, default=0.1, help="seconds between poses")
    parser.add_argument("--tick", type=float, help="seconds per tick of the file's times")
    parser.add_argument("--sensor-size", type=int, nargs=2, metavar=("H", "W"), help="in pixels")
    parser.add_argument("--template", type=Path, help="table of the rows that are asked for")
    parser.add_argument("--out", type=Path, default=Path("poses.csv"), help="table to write")
    parser.add_argument("--picture", type=Path, help="picture (.png) to write")
    parser.add_argument("--raw", action="store_true", help="leave the trajectory layer out")
    options = parser.parse_args()
    try:
        run(options)
    except (CheckpointError, ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    system, predict = posejax.load(options.run)
    if not isinstance(system, Eventpose):
        raise ConfigError(f"{options.run}: weights of {type(system).__name__}, not of Eventpose")
    size = tuple(options.sensor_size) if options.sensor_size else None
    recording = read_recording(options.recording, sensor_size=size, tick_seconds=options.tick)
    if recording.t_microseconds().max(initial=0) >= 2**32:  # a camera that ran long before
        recording = recording.rebased()
    print(audit(recording, refuse=False).text())
    t = query_times(recording, system.data.rule.window, options.period)
    if not len(t):
        raise DataError(options.recording, "duration", f"{recording.duration:g} s", "one window")
    ids = pose_ids(re.sub(r"\W", "_", recording.name or options.recording.stem), len(t))
    table = predict_recording(system, predict, recording, t, smooth=not options.raw)
    write_submission(
        options.out, ids, table.translation, table.quat_xyzw, template=options.template
    )
    print(f"{len(t)} poses from {t[0]:.3f} to {t[-1]:.3f} s: {options.out}")
    print(f"range {np.linalg.norm(table.translation, axis=1).mean():.2f} m on average")
    if options.picture:
        save_picture(table.outputs["grid"][int(np.argmax(table.events))], options.picture)
        print(f"what the network saw: {options.picture}")


def save_picture(grid: np.ndarray, path: Path) -> None:
    """OFF events blue, ON events orange, on white."""
    from PIL import Image

    off, on = np.split(grid, 2, axis=-1)
    off, on = (x.sum(-1) / max(float(x.sum(-1).max()), 1e-6) for x in (off, on))
    colour = 1 - off[..., None] * [0.9, 0.5, 0.1] - on[..., None] * [0.1, 0.5, 0.9]
    image = Image.fromarray((255 * colour.clip(0, 1)).astype(np.uint8))
    image.resize((4 * image.width, 4 * image.height), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    sys.exit(main())
