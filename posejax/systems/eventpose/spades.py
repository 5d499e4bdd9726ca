"""The original SPADES layout (a CSV of events and one of labels per sequence), converted once."""

import hashlib
import os
from pathlib import Path

from posejax.data.errors import DataError
from posejax.data.event_files import write_spark
from posejax.data.event_files.spades_csv import read_spades_csv


def spades_tables(root: Path) -> list[tuple[Path, Path]]:
    """Events and labels of each sequence: ROOT/events/NAME.csv with ROOT/labels/NAME.csv.

    `root` may also hold them under synthetic/. Empty if there is no such folder.

    Raises:
      DataError: a table of events without one of labels.
    """
    root = root / "synthetic" if (root / "synthetic").is_dir() else root
    pairs = []
    for events in sorted((root / "events").glob("*.csv")):
        labels = root / "labels" / events.name
        if not labels.is_file():
            raise DataError(labels, "file", "does not exist", f"the labels of {events.name}")
        pairs.append((events, labels))
    return pairs


def as_spark(
    events: Path,
    labels: Path,
    label_rate: float,
    tick: float | None,
    sensor_size: tuple[int, int],
) -> Path:
    """The sequence as SPARK-2026 HDF5 in the user's cache, converted if it is not there yet.

    Text is read at a hundredth of the rate of binary windows, and whole. The name holds what tells
    an old conversion from a new file: path, size and time of change.
    """
    state = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in (events, labels)]
    settings = (label_rate, tick, sensor_size)
    key = hashlib.sha256(repr((state, settings)).encode()).hexdigest()[:12]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "posejax" / "spades" / f"{events.stem}-{key}.h5"
    if not path.is_file():
        print(f"converting {events} to {path}", flush=True)
        recording = read_spades_csv(
            events,
            labels=labels,
            tick_seconds=tick,
            sensor_size=sensor_size,
            label_rate=label_rate,
        )
        write_spark(path, recording, tick_seconds=recording.tick_seconds)
    return path
