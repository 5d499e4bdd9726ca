"""SPADES recordings as published in CSV.

events/RT000.csv    t,x,y,p                                   no header; ticks, pixels, 0 or 1
labels/RT000.csv    filename,Tx,Ty,Tz,Qx,Qy,Qz,Qw             header; row k is at k / label_rate
"""

import csv
from pathlib import Path

import numpy as np

from posejax.data.errors import DataError
from posejax.data.event_files.recording import EventRecording, Fields, PoseTrack
from posejax.data.event_files.spark import POSE_COLUMNS, SENSOR_SIZE
from posejax.data.event_files.ticks import TickEvidence, settle_tick
from posejax.data.files import text_number
from posejax.data.tables import named_row, read_csv, read_table, write_table

_EVENTS = {"t": int, "x": int, "y": int, "p": int}
_HEADER = ("filename", *POSE_COLUMNS)


def read_spades_csv(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    tick_seconds: float | None = None,
    sensor_size: tuple[int, int] = SENSOR_SIZE,
    n_poses: int = 0,
    label_rate: float = 10.0,
) -> EventRecording:
    """Read a table of events, with the poses of `labels` if given.

    Args:
      path: the events.
      labels: the poses.
      tick_seconds: None takes the power of ten that the number of labels implies.
      sensor_size: (height, width).
      n_poses: number of labels, where the poses themselves are withheld.
      label_rate: labels per second.

    Raises:
      DataError: see `read_table`, `EventRecording`, `read_spades_labels` and `settle_tick`.
    """
    path = Path(path)
    table, first = read_table(path, _EVENTS, ",")
    poses = None if labels is None else read_spades_labels(labels, label_rate=label_rate)
    span = int(table["t"].max()) - int(table["t"].min())
    count = len(poses) if poses is not None else n_poses
    evidence = TickEvidence(span, count, label_rate=label_rate)
    return EventRecording(
        x=table["x"],
        y=table["y"],
        t=table["t"],
        p=table["p"],
        tick_seconds=settle_tick(path, "column t", tick_seconds, evidence),
        sensor_size=sensor_size,
        labels=poses,
        name=path.stem,
        path=str(path),
        fields=Fields(row="line", first=first),
    )


def read_spades_labels(path: str | Path, *, label_rate: float = 10.0) -> PoseTrack:
    """Read a table of poses without times: row k is at k / label_rate.

    Raises:
      DataError: missing file or column, a row of another length, a word that is no number, and
        what `PoseTrack` refuses, with the line.
    """
    names, rows = read_csv(path, _HEADER)
    files, poses = [], []
    for line, words in rows:
        row = named_row(path, line, names, words)
        files.append(row["filename"])
        poses.append([_number(path, line, key, row[key]) for key in POSE_COLUMNS])
    values = np.array(poses, np.float64).reshape(-1, 7)
    return PoseTrack(
        t_seconds=np.arange(len(values)) / label_rate,
        translation=values[:, :3],
        quat_xyzw=values[:, 3:],
        names=tuple(files),
        file=str(path),
        rows=("line", 2),
    )


def write_spades_csv(
    path: str | Path, recording: EventRecording, *, labels: str | Path | None = None
) -> None:
    """Write the events (in the recording's ticks) and, if a path for them is given, the labels.

    Raises:
      ValueError: `labels` is given for a recording that has none.
    """
    columns = {"t": recording.t, "x": recording.x, "y": recording.y, "p": recording.p}
    write_table(path, columns, ",")
    if labels is None:
        return
    poses = recording.labels
    if poses is None:
        raise ValueError(f"{recording.name or 'the recording'} has no labels to write")
    names = poses.names or tuple(f"img{i:03d}" for i in range(len(poses)))
    with Path(labels).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_HEADER)
        for name, t, q in zip(names, poses.translation, poses.quat_xyzw, strict=True):
            table.writerow((name, *(repr(float(v)) for v in (*t, *q))))


def _number(path: str | Path, line: int, key: str, word: str) -> float:
    try:
        return text_number(word)
    except ValueError:
        raise DataError(path, f"line {line}: {key}", repr(word[:40]), "a number") from None
