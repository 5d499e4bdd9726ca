"""Look at an event recording: what is in it, and a picture of a few windows.

    python examples/show_events.py RECORDING --at 0.5 1.0 1.5 --out events.png

Prints the audit (time unit, rate, hot pixels, empty windows) and draws one panel per instant: OFF
events blue, ON events orange, darker where there are more.
"""

import argparse
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image

from posejax.data.errors import DataError
from posejax.data.event_files import EventRecording, audit, read_recording
from posejax.events import Window, events_from_arrays, histogram, window_bounds


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording", type=Path, help="file of events")
    parser.add_argument("--at", type=float, nargs="+", help="instants (s); the middle if not given")
    parser.add_argument("--duration", type=float, default=0.1, help="length of a window (s)")
    parser.add_argument("--tick", type=float, help="seconds per tick of the file's times")
    parser.add_argument("--sensor-size", type=int, nargs=2, metavar=("H", "W"), help="in pixels")
    parser.add_argument("--out", type=Path, default=Path("events.png"), help="picture to write")
    o = parser.parse_args()
    try:
        size = tuple(o.sensor_size) if o.sensor_size else None
        recording = read_recording(o.recording, sensor_size=size, tick_seconds=o.tick).rebased()
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(audit(recording, refuse=False).text())
    window = Window("centred", o.duration)
    panels = [panel(recording, window, t) for t in o.at or [recording.duration / 2]]
    Image.fromarray(np.concatenate(panels, axis=1)).save(o.out)
    print(f"{len(panels)} windows of {o.duration:g} s: {o.out}")
    return 0


def panel(recording: EventRecording, window: Window, t: float) -> np.ndarray:
    """[h, w, 3] uint8, at most 360 pixels high."""
    start, end = window_bounds(t, window)
    part = recording.window(start, end)
    height, width = recording.sensor_size
    factor = -(-height // 360)
    grid = histogram(
        events_from_arrays(part.x, part.y, part.t_seconds() - start, part.p),
        size=(height // factor, width // factor),
        sensor_size=(height, width),
        window=(0.0, end - start),
    )
    strength = jnp.log1p(grid)
    off, on = np.moveaxis(np.asarray(strength / jnp.maximum(strength.max(), 1e-6)), -1, 0)
    colour = 1 - off[..., None] * [0.9, 0.5, 0.1] - on[..., None] * [0.1, 0.5, 0.9]
    return (255 * colour.clip(0, 1)).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main())
