"""Evaluations side by side: the numbers of one next to those of others, by shared name.

A learned number means little alone; beside it stands what another run, or a system that learns
nothing, reaches on the same split.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from posejax.data.errors import DataError
from posejax.report.text import markdown_table

METRICS = "metrics.json"


@dataclass(frozen=True)
class Scores:
    """What a metrics.json says: where the numbers are from, and the numbers (NaN for null)."""

    experiment: str
    split: str
    checkpoint: str
    examples: int
    metrics: dict[str, float]


def read_scores(path: Path) -> Scores:
    """An evaluation from its metrics.json, or from the folder that holds it.

    Raises:
      DataError: not there, or not written by an evaluation.
    """
    path = path / METRICS if path.is_dir() else path
    hint = "give the metrics.json that an evaluation wrote (python -m posejax eval), or its folder"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, "evaluation", f"cannot be read ({error})", "", hint) from error
    fields = {"experiment": str, "split": str, "checkpoint": str, "examples": int, "metrics": dict}
    for name, kind in fields.items():
        value = found.get(name) if isinstance(found, dict) else None
        if not isinstance(value, kind):
            raise DataError(path, name, repr(value), f"a {kind.__name__}", hint)
    metrics = {}
    for name, value in found["metrics"].items():
        if value is not None and not isinstance(value, int | float):
            raise DataError(path, f"metrics: {name}", repr(value), "a number or null", hint)
        metrics[name] = float("nan") if value is None else float(value)
    return Scores(**{**{name: found[name] for name in fields}, "metrics": metrics})


def side_by_side(this: Scores, others: Sequence[Scores]) -> str:
    """Markdown table: a row per metric of `this` that some other has too, a column per evaluation.

    Evaluations of other splits, or of another number of examples, are compared all the same, and
    the line below the table says so.
    """
    columns = [this, *others]
    shared = [name for name in this.metrics if any(name in o.metrics for o in others)]
    rows = [[name, *(_cell(c.metrics, name) for c in columns)] for name in shared]
    headers = ["metric", *(f"{c.experiment} ({c.checkpoint})" for c in columns)]
    lines = [markdown_table(headers, rows)]
    if len({(c.split, c.examples) for c in columns}) > 1:
        sets = "; ".join(f"{c.experiment}: {c.examples} of {c.split}" for c in columns)
        lines.append(f"Not the same examples: {sets}.")
    return "\n\n".join(lines)


def _cell(metrics: Mapping[str, float], name: str) -> str:
    value = metrics.get(name, float("nan"))
    return "-" if value != value else f"{value:.4g}"
