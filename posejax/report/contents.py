"""What a report is made of: tables, plots drawn when asked for, bins, sequences, pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from posejax.report.cloud import Cloud
from posejax.report.figures import binned_error
from posejax.report.statistics import bootstrap_interval, cluster_bootstrap
from posejax.report.text import number


class Card(NamedTuple):
    """A key number: its value as text, and what it is."""

    value: str
    label: str


@dataclass(frozen=True)
class Table:
    """Rows of cells, see `text.number` for how they are printed."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    digits: int = 3

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], caption: str = "") -> "Table":
        """From rows that all have the same entries; at least one."""
        return cls(list(rows[0]), [list(row.values()) for row in rows], caption)


@dataclass(frozen=True)
class Plot:
    """A figure that is drawn when it is wanted: a report may hold more than anyone looks at.

    name: within its section, in letters and digits; TensorBoard files the figure under it.
    alt: spoken text; the caption if empty.
    photograph: kept as JPEG, which a page of many pictures needs; else as PNG, true to the pixel.
    """

    name: str
    draw: Callable[[], Figure]
    caption: str = ""
    alt: str = ""
    dpi: int = 100
    photograph: bool = False


@dataclass(frozen=True)
class Fold:
    """Parts that are folded away under the line `summary`, unless `open`."""

    summary: str
    parts: Sequence["Part"]
    open: bool = False


Part = str | Table | Plot | Fold | Cloud  # a text is one or more paragraphs


@dataclass(frozen=True)
class Condition:
    """Errors in bins of a quantity, one entry per bin; made by `condition`.

    label, measure: of the quantity and of the number in `values`.
    intervals: 95 % of `values`, NaN where unknown; by_sequence: they draw whole sequences.
    columns: further numbers of each bin.
    """

    name: str
    label: str
    measure: str
    bins: Sequence[tuple[float, float]]
    counts: Sequence[int]
    values: Sequence[float]
    intervals: Sequence[tuple[float, float]]
    by_sequence: bool
    columns: Mapping[str, Sequence[Any]]

    def rows(self, noun: str = "examples") -> list[dict[str, Any]]:
        """One dict per bin."""
        cells = zip(self.bins, self.counts, self.values, self.intervals, strict=True)
        return [
            {
                "from": low,
                "to": high,
                noun: count,
                self.measure: value,
                "95 % interval": interval,
                **{k: column[i] for k, column in self.columns.items()},
            }
            for i, ((low, high), count, value, interval) in enumerate(cells)
        ]

    def parts(self, noun: str) -> list[Part]:
        """The table and, of more than one bin, the bars."""
        edges = np.asarray(self.bins, np.float64)
        digits = 0 if np.abs(edges).max() >= 1000 or (edges % 1 == 0).all() else 3
        rows = [
            {**row, **{k: number(row[k], digits) for k in ("from", "to")}}
            for row in self.rows(noun)
        ]
        parts: list[Part] = [Table.of(rows, f"By {self.label}")]
        if len(rows) > 1:
            caption = f"{self.measure[0].upper()}{self.measure[1:]} by {self.label}"
            if np.isfinite(self.intervals).any():
                caption += "; with 95 % bootstrap intervals"
                caption += " by sequence" if self.by_sequence else ""
            parts.append(Plot(self.name, self._draw, f"{caption}."))
        return parts

    def _draw(self) -> Figure:
        return binned_error(
            self.bins,
            self.values,
            self.intervals,
            self.counts,
            xlabel=self.label,
            ylabel=self.measure,
        )


def condition(
    name: str,
    label: str,
    quantity: np.ndarray,
    error: np.ndarray,
    statistic: Callable[[np.ndarray], Any],
    *,
    measure: str,
    bins: int = 5,
    sequence: np.ndarray | None = None,
    columns: Mapping[str, Callable[[np.ndarray], Any]] | None = None,
) -> Condition:
    """A statistic of the error in bins of about equal count of a quantity.

    Args:
      name: of the condition, for JSON and figures.
      label: of the quantity, with its unit.
      quantity: [N]; examples where it is not finite are in no bin.
      error: [N]; what is not finite is left out of the statistic.
      statistic: reduces the last axis, `statistics.rms` say.
      measure: what the statistic is, with its unit.
      bins: at most so many; fewer, so that each holds ten examples: intervals of less say nothing.
      sequence: [N] of each example. Intervals then draw whole sequences, as the examples of one err
        together, and are NaN for a bin of one sequence.
      columns: header -> function of the rows in a bin, [n] int, to a cell.

    A quantity that is nowhere known gives a condition without bins, which reports leave out.
    """
    found = split_bins(quantity, min(bins, max(1, len(quantity) // 10)))
    values, intervals = [], []
    for _, rows in found:
        kept = rows[np.isfinite(error[rows])]
        values.append(float(statistic(error[kept])))
        if sequence is None:
            intervals.append(bootstrap_interval(error[kept], statistic))
        else:
            intervals.append(cluster_bootstrap(error[kept], sequence[kept], statistic))
    more = {k: [cell(rows) for _, rows in found] for k, cell in (columns or {}).items()}
    edges, counts = [edge for edge, _ in found], [len(rows) for _, rows in found]
    return Condition(
        name, label, measure, edges, counts, values, intervals, sequence is not None, more
    )


def split_bins(quantity: np.ndarray, count: int) -> list[tuple[tuple[float, float], np.ndarray]]:
    """Bins of about equal count: ((low, high), rows [n]), increasing; empty ones are left out.

    A bin holds low <= quantity < high, the last one its end too. Equal values stay together, so
    there may be fewer bins than `count`; what is not finite is in none.
    """
    quantity = np.asarray(quantity, np.float64)
    known = quantity[np.isfinite(quantity)]
    if not known.size:
        return []
    edges = np.unique(np.quantile(known, np.linspace(0, 1, count + 1)))
    edges = edges if len(edges) > 1 else np.repeat(edges, 2)
    place = np.searchsorted(edges, quantity, side="right") - 1
    place = np.where(quantity == edges[-1], len(edges) - 2, place)
    found = []
    for k in range(len(edges) - 1):
        rows = np.flatnonzero((place == k) & np.isfinite(quantity))
        if rows.size:
            found.append(((float(edges[k]), float(edges[k + 1])), rows))
    return found


@dataclass(frozen=True)
class Track:
    """One sequence: its name, its row in the table (without the name), its errors along time.

    error: by which sequences are ordered, and what the caption calls it.
    photograph: see `Plot`.
    """

    name: str
    row: Mapping[str, Any]
    error: tuple[str, float]
    draw: Callable[[], Figure]
    photograph: bool = False


@dataclass(frozen=True)
class Picture:
    """An example of the gallery.

    rank: its place in the split, 1 for the worst, None if unknown.
    photograph: see `Plot`.
    more: what stands below it.
    """

    title: str
    draw: Callable[[], Figure]
    rank: int | None = None
    photograph: bool = False
    more: Sequence[Part] = ()


def pictures(
    examples: Sequence[Mapping[str, Any]],
    records: Mapping[str, np.ndarray],
    order: np.ndarray,
    describe: Callable[[int | None, Any], str],
    draw: Callable[[Any], Figure],
    noun: str = "Example",
    photograph: bool = False,
    more: Callable[[Any], Sequence[Part]] | None = None,
) -> list[Picture]:
    """The gallery of some examples, the worst of them first.

    Args:
      examples: with `index`.
      records: of the split, with `index` [N] and, where the source has names, `name` [N].
      order: [N] rows of the records, the worst first.
      describe: of the row of the records (None if there is none) and the example: its errors.
      draw: the picture of an example.
      noun: what an example is called.
      photograph: see `Plot`.
      more: what stands below the picture of an example.
    """
    places = {int(records["index"][row]): (int(row), rank) for rank, row in enumerate(order, 1)}
    shown = []
    for example in examples:
        row, rank = places.get(int(example["index"]), (None, None))
        named = f" ({records['name'][row]})" if row is not None and "name" in records else ""
        title = f"{noun} {int(example['index'])}{named}: {describe(row, example)}"
        title += f"; worst {rank} of {len(order)}" if rank else ""
        below = more(example) if more else ()
        shown.append(Picture(title, partial(draw, example), rank, photograph, below))
    return sorted(shown, key=lambda p: p.rank or len(order) + 1)


def spread_evenly(errors: Sequence[float], count: int) -> list[int]:
    """Positions of `count` entries spread evenly from the largest error to the least."""
    order = np.argsort(-np.asarray(errors, np.float64), kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return order[places].tolist()
