"""What a person sees of a run: a live view on a terminal, plain lines elsewhere."""

import datetime
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

HIDDEN = {"kind", "step", "epoch", "split", "finite", "in_a_row"}


class Display(Protocol):
    """Receives what happens; must not block."""

    def message(self, text: str) -> None: ...

    def step(self, step: int, scalars: Mapping[str, float], rates: Mapping[str, float]) -> None: ...

    def row(self, row: Mapping[str, str]) -> None: ...

    def close(self) -> None: ...


class Quiet:
    """Shows nothing; for processes other than the first, and for tests."""

    def message(self, text: str) -> None: ...

    def step(self, step: int, scalars: Mapping[str, float], rates: Mapping[str, float]) -> None: ...

    def row(self, row: Mapping[str, str]) -> None: ...

    def close(self) -> None: ...


class Plain:
    """One line per interval, one table row per epoch or evaluation."""

    def __init__(self, total: int, columns: Sequence[str] = (), stream: Any = None):
        self._total, self._columns, self._stream = total, columns, stream or sys.stdout
        self._widths: dict[str, int] = {}
        self._rows = 0

    def message(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def step(self, step: int, scalars: Mapping[str, float], rates: Mapping[str, float]) -> None:
        parts = [f"{k} {number(scalars[k])}" for k in shown(scalars, self._columns)]
        parts += [f"{k} {number(v)}" for k, v in rates.items()]
        self.message(f"step {step}/{self._total}  " + "  ".join(parts))

    def row(self, row: Mapping[str, str]) -> None:
        new = [k for k in row if k not in self._widths]
        # Columns stay; an epoch without evaluation leaves those of the evaluation empty.
        order = [*row, *(k for k in self._widths if k not in row)]
        if new:
            self._widths = {k: max(len(k), len(row.get(k, "")) + 3) for k in order}
        if new or self._rows % 20 == 0:
            self.message("  ".join(k.ljust(w) for k, w in self._widths.items()))
        self._rows += 1
        self.message("  ".join(row.get(k, "-").ljust(w) for k, w in self._widths.items()))

    def close(self) -> None: ...


class LiveDisplay:
    """Progress bar and newest numbers, repainted in place; rows scroll above."""

    def __init__(
        self, total: int, start: int, columns: Sequence[str] = (), console: Console | None = None
    ):
        self._columns = columns
        self._console = console or Console()
        self._progress = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=None),
            TextColumn("{task.percentage:5.1f} %"), TimeRemainingColumn(),
            console=self._console,
        )  # fmt: skip
        self._task = self._progress.add_task("train", total=total, completed=start)
        self._plain = Plain(total, columns, stream=_Above(self._console))
        self._panel: Any = ""
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4)
        self._live.start()

    def _render(self) -> Group:
        return Group(self._panel, self._progress)

    def message(self, text: str) -> None:
        self._plain.message(text)

    def step(self, step: int, scalars: Mapping[str, float], rates: Mapping[str, float]) -> None:
        self._progress.update(self._task, completed=step)
        table = Table.grid(padding=(0, 2))
        for _ in range(6):
            table.add_column()
        names = [*shown(scalars, self._columns, most=12), *(k for k in scalars if "lr/" in k)]
        cells = [(k, number(scalars[k])) for k in dict.fromkeys(names)]
        cells += [(k, number(v)) for k, v in rates.items()]
        for i in range(0, len(cells), 3):
            table.add_row(*(text for k, v in cells[i : i + 3] for text in (f"[dim]{k}", v)))
        self._panel = Panel(table, border_style="dim")

    def row(self, row: Mapping[str, str]) -> None:
        self._plain.row(row)

    def close(self) -> None:
        self._live.stop()


class _Above:
    """A stream that prints above the live area."""

    def __init__(self, console: Console):
        self._console = console

    def write(self, text: str) -> None:
        self._console.print(text, end="", markup=False, highlight=False, soft_wrap=True)

    def flush(self) -> None: ...


def make_display(kind: str, total: int, start: int, columns: Sequence[str]) -> Display:
    """View of a config's name; `auto` is live on a terminal."""
    if kind == "auto":
        kind = "live" if sys.stdout.isatty() else "plain"
    if kind == "live":
        return LiveDisplay(total, start, columns)
    return Plain(total, columns) if kind == "plain" else Quiet()


def shown(scalars: Mapping[str, float], columns: Sequence[str], most: int = 6) -> list[str]:
    """Names to show: those asked for that exist, or the first few with the loss in front."""
    if columns:
        return [k for k in columns if k in scalars]
    names = [k for k in scalars if k not in HIDDEN and not k.startswith("lr/")]
    names = [k for k in names if k not in ("update_norm", "skipped", "grad_norm")]
    return sorted(names, key=lambda k: k != "loss")[:most]


def epoch_row(
    *,
    epoch: str,
    train: Mapping[str, float],
    val: Mapping[str, float] | None,
    columns: Sequence[str],
    train_ms: Mapping[str, float],
    eval_ms: Mapping[str, float],
    seconds: Mapping[str, float],
    wait: float,
    remaining: float,
) -> dict[str, str]:
    """The table row of an epoch or an evaluation; several numbers in one cell as "a / b / c".

    Args:
      train_ms, eval_ms: mean milliseconds per batch of each phase, and `batches`.
      seconds: wall time of the epoch, the evaluation and the checkpoint.
      wait: share of the loop's time spent waiting for data, in [0, 1].
      remaining: seconds to the end of the run.
    """
    row = {"epoch": epoch}
    for name, scalars in (("train", train), ("val", val)):
        if not scalars:
            continue
        names = shown(scalars, columns, most=4)
        row[f"{name} {' / '.join(names)}"] = " / ".join(number(scalars[k]) for k in names)
    for name, phases in (("train", train_ms), ("eval", eval_ms)):
        if phases:
            names = [k for k in phases if k != "batches"]
            cell = " / ".join(f"{phases[k]:.1f}" for k in names)
            row[f"{name} {' / '.join(names)} ms"] = f"{cell} ({phases['batches']:.0f})"
    row[" / ".join(f"{k} s" for k in seconds)] = " / ".join(f"{v:.2f}" for v in seconds.values())
    row["data wait"] = f"{100 * wait:.1f} %"
    eta = datetime.datetime.now() + datetime.timedelta(seconds=remaining)
    row["remaining (ETA)"] = f"{duration(remaining)} ({eta:%Y-%m-%d %H:%M:%S})"
    return row


def legend(phases: bool) -> str:
    """What the columns of `epoch_row` mean, for people who see the table for the first time."""
    lines = [
        "table: ms are means per batch (number of batches): fetch reads and decodes, to_dev hands "
        "to the devices, step is the time of the loop per update, forward that of the evaluation;",
        "  s are seconds since the last row, evaluation and checkpoint apart; data wait is the "
        "share of the loop's time without a batch",
    ]
    if phases:
        lines.append(
            "  predict, loss (with its forward pass) and backward are programs of their own, "
            "measured once before the start"
        )
    return "\n".join(lines)


def devices(shape: Mapping[str, int], kind: str) -> str:
    """A mesh in words: `8 x cpu, parameters split over 4`."""
    count, split = math.prod(shape.values()), shape.get("fsdp", 1)
    return f"{count} x {kind}" + (f", parameters split over {split}" if split > 1 else "")


def number(value: float | None) -> str:
    """Four significant digits, without exponent where that stays short; "-" for no number."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4g}" if value else "0"


def duration(seconds: float) -> str:
    """`5 min 21 s`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
