"""What separates the windows that fail from the others: errors by condition, and who saw it."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from posejax.report.contents import Condition, condition
from posejax.report.statistics import cluster_bootstrap, mean
from posejax.report.text import Share, number
from posejax.systems.eventpose.conditions import LABELS
from posejax.systems.eventpose.summary import PoseErrors

_SCORE = "single-window SPARK score"


def errors_by_condition(
    estimates: Mapping[str, PoseErrors],
    conditions: Mapping[str, np.ndarray],
    sequence: np.ndarray,
    train: Mapping[str, np.ndarray] | None = None,
    *,
    bins: int = 4,
) -> list[Condition]:
    """Rotation errors in bins of each condition, with intervals that draw whole sequences.

    Args:
      estimates: label -> errors of N windows; those of single windows first.
      conditions: name of `LABELS` -> [N]; one that is nowhere known has no bins.
      sequence: [N] of each window.
      train: the same conditions of the windows trained with: what share of them falls into each
        bin. The bins hold about equal shares of the windows judged on, so a bin with a small share
        is one that training has hardly seen.
      bins: at most so many.
    """
    (first, plain), *others = estimates.items()
    columns: dict[str, Callable[[np.ndarray], object]] = {
        "of the windows": lambda rows: Share(len(rows) / len(sequence)),
        **_lost(plain, ""),
        _SCORE: lambda rows: float(mean(plain.score[rows])),
        "position m": lambda rows: float(mean(plain.position[rows])),
    }
    for label, errors in others:
        columns[f"{label}: rotation deg"] = lambda rows, e=errors: float(mean(e.rotation[rows]))
        columns[f"{label}: 95 % interval"] = lambda rows, e=errors: cluster_bootstrap(
            e.rotation[rows], sequence[rows], lambda x: float(mean(x))
        )
        columns |= _lost(errors, f"{label}: ")
    found = []
    for name, text in LABELS.items():
        values = _folded(name, conditions)
        one = condition(
            name,
            text,
            values,
            plain.rotation,
            mean,
            measure=f"rotation error of {first} (deg)",
            bins=bins,
            sequence=sequence,
            columns=columns,
        )
        if train is not None and one.bins:
            shares = [Share(x) for x in _shares(_folded(name, train), one.bins)]
            one = dataclasses.replace(one, columns={"of training": shares, **one.columns})
        found.append(one)
    return found


def table(found: list[Condition]) -> str:
    """Markdown: a row for each bin of each condition."""
    lines: list[str] = []
    for one in found:
        for row in one.rows("windows"):
            if not lines:
                lines += [f"| condition | {' | '.join(row)} |", "|---" * (len(row) + 1) + "|"]
            lines.append(f"| {one.label} | {' | '.join(number(x, 2) for x in row.values())} |")
    return "\n".join(lines)


def _lost(errors: PoseErrors, prefix: str) -> dict[str, Callable[[np.ndarray], object]]:
    return {f"{prefix}> 90 deg": lambda rows: Share(mean(errors.rotation[rows] > 90))}


def _folded(name: str, conditions: Mapping[str, np.ndarray]) -> np.ndarray:
    """To which side a craft turns about the axis of the camera should make no difference."""
    values = np.asarray(conditions[name], np.float64)
    return np.abs(values) if name == "roll_deg" else values


def _shares(values: np.ndarray, bins) -> list[float]:
    """Share of the known values in each bin, of which the last holds its end too."""
    known, last = values[np.isfinite(values)], bins[-1][1]
    below = [(known < high) | (high == last) & (known == last) for _, high in bins]
    return [float(mean((known >= low) & b)) for (low, _), b in zip(bins, below, strict=True)]
