"""What a run writes: metrics.jsonl, the same bits however often interrupted, and timing.jsonl."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from matplotlib.figure import Figure

from posejax import config_io
from posejax.report import figure_pixels

METRICS, TIMING = "metrics.jsonl", "timing.jsonl"


class Writer(Protocol):
    """Receives every line; JSONL is always there, others are extras."""

    def write(self, line: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """Append-only file of one JSON object per line.

    Numbers that JSON cannot express (NaN, infinities) become null.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps({k: _plain(v) for k, v in line.items()}) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Make sure that the lines survive a power failure."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Lines of a file; an unfinished last line, as a killed process leaves it, is left out."""
    raw = path.read_bytes() if path.is_file() else b""
    lines = map(_parse, raw.split(b"\n")[:-1])
    return [line for line in lines if line is not None]


def cut(path: Path, step: int, size: int | None = None) -> list[str]:
    """Cut the log of metrics back to the checkpoint of `step`: what follows is written again.

    An evaluation of that checkpoint stays. Damaged lines stay, too: to guess is not to mend.

    Args:
      size: bytes of the log when the checkpoint was made; None to go by the lines' steps.

    Returns:
      Lines for people about what is missing or damaged.
    """
    raw = path.read_bytes() if path.is_file() else b""
    whole = raw[: raw.rfind(b"\n") + 1].splitlines(keepends=True)
    kept, length, told = 0, 0, []
    for number, text in enumerate(whole, 1):
        line = _parse(text)
        if line is None:
            found_step, is_eval = step, False
            told.append(
                f"{path}: line {number} is damaged: it is left out wherever the log is read"
            )
        else:
            found_step, is_eval = line.get("step", 0), line.get("kind") == "eval"
        beyond = length >= size if size is not None else found_step > step
        if beyond and not (is_eval and found_step == step):
            break
        length += len(text)
        kept = number
    if size is not None and length < size:
        told.append(
            f"{path}: {size - length:,} bytes before step {step} are missing: the log has a hole; "
            "the parameters have none"
        )
    if path.is_file():
        os.truncate(path, sum(map(len, whole[:kept])))
    return told


def _parse(text: bytes) -> dict[str, Any] | None:
    """A line, None if it is damaged."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and {"kind", "step"} <= line.keys() else None


def drop_unfinished(path: Path) -> None:
    """Cut off the half line that a killed process may leave."""
    if path.is_file():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


class Means:
    """Running means of scalars on the host, in float64; saved with a checkpoint, bit by bit."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, float] = {}

    def add(self, scalars: Mapping[str, float]) -> None:
        self.count += 1
        for k, v in scalars.items():
            self._sums[k] = self._sums.get(k, 0.0) + float(v)

    def pop(self) -> dict[str, float]:
        """The means so far; starts anew."""
        means = {k: v / self.count for k, v in self._sums.items()}
        self.count, self._sums = 0, {}
        return means

    def save(self) -> dict[str, Any]:
        # JSON writes the shortest decimal that reads back as the same float64.
        return {"count": self.count, "sums": dict(self._sums)}

    def load(self, saved: Mapping[str, Any]) -> None:
        self.count, self._sums = saved["count"], dict(saved["sums"])


class TensorBoard:
    """Scalars of every line as TensorBoard events."""

    def __init__(self, folder: Path, purge_step: int = 0):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError(
                "--log.tensorboard needs tensorboardX: pip install 'posejax[tensorboard]'"
            ) from None
        # Events after the checkpoint that a run resumes from are hidden by the viewer.
        self._writer = SummaryWriter(str(folder), purge_step=purge_step or None)

    def write(self, line: Mapping[str, Any]) -> None:
        prefix = line.get("split", line["kind"])
        for key, value in line.items():
            if isinstance(value, int | float) and key not in ("step",):
                self._writer.add_scalar(f"{prefix}/{key}", value, line["step"])

    def figures(self, figures: Iterable[tuple[str, Figure]], step: int) -> None:
        """Figures under their names."""
        for name, figure in figures:
            pixels = figure_pixels(figure)
            self._writer.add_image(f"report/{name}", pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class RunLog:
    """All files of a run's log; on processes but the first it does nothing.

    Args:
      step: step the run continues from; metric lines after it are dropped.
      size: bytes of metrics.jsonl when that step's checkpoint was made, if known.

    Attributes:
      remarks: lines for people about a log that is not as it was left.
    """

    def __init__(
        self,
        workdir: Path,
        step: int,
        tensorboard: bool,
        enabled: bool = True,
        size: int | None = None,
    ):
        self.remarks: list[str] = []
        self._writers: list[Writer] = []
        self._timing: JsonLines | None = None
        self._board: TensorBoard | None = None
        if not enabled:
            return
        self.remarks = cut(workdir / METRICS, step, size)
        self._metrics = JsonLines(workdir / METRICS)
        drop_unfinished(workdir / TIMING)
        self._timing = JsonLines(workdir / TIMING)
        self._writers.append(self._metrics)
        if tensorboard:
            self._board = TensorBoard(workdir / "tensorboard", step)
            self._writers.append(self._board)

    def write(self, line: Mapping[str, Any]) -> None:
        """A line of metrics: nothing in it may depend on the clock or on interruptions."""
        for writer in self._writers:
            writer.write(line)

    def note(self, line: Mapping[str, Any]) -> None:
        """A line of timing.jsonl."""
        if self._timing:
            self._timing.write(line)

    def figures(self, figures: Iterable[tuple[str, Figure]], step: int) -> None:
        """Figures of a report, drawn only where something can show them."""
        if self._board:
            self._board.figures(figures, step)

    def has_evaluation(self, step: int) -> bool:
        """Whether the evaluation of the state after `step` steps is written."""
        return self._timing is not None and any(
            line["kind"] == "eval" and line["step"] == step for line in read(self._metrics.path)
        )

    def sync(self) -> int:
        """All lines so far are safe on disk; size of metrics.jsonl (bytes), 0 if there is none."""
        if self._timing is None:
            return 0
        self._timing.sync()
        self._metrics.sync()
        config_io.sync(self._metrics.path.parent)
        return self._metrics.path.stat().st_size

    def close(self) -> None:
        for writer in (*self._writers, *([self._timing] if self._timing else [])):
            writer.close()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
