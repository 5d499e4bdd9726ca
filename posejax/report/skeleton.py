"""The report of an evaluation: one skeleton that every system fills with its numbers and figures.

    report = Report(title="beacons", simulated=True, summary=summary, count=64, ...)
    write(report, folder)                       # index.html and report.json
    for name, figure in report.figures(): ...   # for TensorBoard

The order of the sections is the same for all, so that a reader of one report can read them all.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from posejax.data.files import whole
from posejax.report.cloud import Cloud
from posejax.report.contents import (
    Card,
    Condition,
    Fold,
    Part,
    Picture,
    Plot,
    Table,
    Track,
    spread_evenly,
)
from posejax.report.page import Page

_CURVES = 8  # sequences drawn along time
_NAMED = 50  # examples listed in a notice


class Section(NamedTuple):
    """A heading of the page, the folder of its figures, and what stands under it."""

    title: str
    name: str
    parts: list[Part]


@dataclass(frozen=True)
class Report:
    """All that a report says; sections without contents are left out.

    Attributes:
      title: of the page.
      simulated: whether the data are; the page says so before anything else.
      summary: all numbers of the evaluation, as `System.summarize` named them.
      count: examples of the split.
      notes: under the title: split, checkpoint.
      noun: what an example is called, in the plural.
      nonfinite: estimator ("" if it is the only one) -> names of the examples it failed on.
      nonfinite_text: what becomes of those.
      remarks: other remarks that nobody should overlook.
      cards: heading ("" for none) -> key numbers.
      accuracy, calibration, risk: tables, plots and text of the sections; risk is the error of what
        is kept when the least certain estimates are left out.
      conditions: errors in bins, see `contents.condition`.
      tracks: sequences over time.
      worst: rows of the table of the worst examples; worst_text says how they are sorted.
      gallery: see `contents.pictures`; gallery_text says what the pictures show.
      settings: name -> value, what a reader needs to repeat the numbers.
      conventions: frames, units and definitions, in words.
      facts: more entries of report.json.
    """

    title: str
    simulated: bool
    summary: Mapping[str, float]
    count: int
    notes: str = ""
    noun: str = "examples"
    nonfinite: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    nonfinite_text: str = "they are in no average"
    remarks: Sequence[str] = ()
    cards: Mapping[str, Sequence[Card]] = field(default_factory=dict)
    accuracy: Sequence[Part] = ()
    calibration: Sequence[Part] = ()
    conditions: Sequence[Condition] = ()
    risk: Sequence[Part] = ()
    tracks: Sequence[Track] = ()
    worst: Sequence[Mapping[str, Any]] = ()
    worst_text: str = ""
    gallery: Sequence[Picture] = ()
    gallery_text: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    conventions: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def sections(self) -> list[Section]:
        """The body of the page; the one place that knows the order."""
        everything = (
            Section("Accuracy", "accuracy", list(self.accuracy)),
            Section("Calibration", "calibration", list(self.calibration)),
            Section("Conditions", "conditions", self._conditions()),
            Section("Risk and coverage", "risk", list(self.risk)),
            Section("Errors over time", "time", self._over_time()),
            Section(
                f"Worst {self.noun}",
                "worst",
                [Table.of(self.worst, self.worst_text)] if self.worst else [],
            ),
            *self._gallery(),
            Section("Settings and numbers", "settings", self._settings()),
        )
        return [section for section in everything if section.parts]

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """("section/name", figure) of every plot, drawn one by one."""
        for section in self.sections():
            for plot in _plots(section.parts):
                yield f"{section.name}/{plot.name}", plot.draw()

    def _conditions(self) -> list[Part]:
        known = [c for c in self.conditions if c.bins]
        if not known:
            return []
        text = f"Errors in bins of about equal count of {self.noun}."
        if any(c.by_sequence for c in known):
            text += (
                f" Neighbouring {self.noun} of a sequence are alike, so the intervals draw whole "
                "sequences; a bin may hold few of them."
            )
        return [text, *(part for c in known for part in c.parts(self.noun))]

    def _over_time(self) -> list[Part]:
        tracks = self.tracks
        if not tracks:
            return []
        picked = [tracks[k] for k in spread_evenly([t.error[1] for t in tracks], _CURVES)]
        text = f"All {len(tracks)} sequences." if len(tracks) > 1 else ""
        if len(picked) < len(tracks):
            text = (
                f"{len(picked)} of {len(tracks)} sequences, spread evenly from the worst to the "
                f"best {picked[0].error[0]}: {', '.join(t.name for t in picked)}."
            )
        plots = [
            Plot(
                f"from_worst_{k}",
                t.draw,
                f"{t.name}: {t.error[0]} {t.error[1]:.3f}.",
                photograph=t.photograph,
            )
            for k, t in enumerate(picked, 1)
        ]
        table = Table.of([{"sequence": t.name, **t.row} for t in tracks])
        heading = f"Table of all {len(tracks)} sequences" if len(tracks) > 1 else "Its numbers"
        fold = Fold(heading, [table], open=len(tracks) <= 10)
        return [text, *plots, fold]

    def _gallery(self) -> list[Section]:
        """An example is among the worst by its rank in the whole split, not in the gallery."""
        bound = min(len(self.gallery), max(1, self.count // 10))
        worst = [p for p in self.gallery if p.rank and p.rank <= bound]
        others = [p for p in self.gallery if p not in worst]
        sections = []
        for name, group, unfolded in (("worst", worst, 3), ("others", others, 2)):
            folds: list[Part] = [
                Fold(
                    p.title,
                    [
                        Plot(f"{name}_{k}", p.draw, alt=p.title, dpi=80, photograph=p.photograph),
                        *p.more,
                    ],
                    open=k <= unfolded,
                )
                for k, p in enumerate(group, 1)
            ]
            text = self.gallery_text if group is worst or not worst else ""
            parts: list[Part] = [text, *folds] if folds else []
            sections.append(Section(f"Pictures: {name}", "gallery", parts))
        return sections

    def _settings(self) -> list[Part]:
        rows = [
            [k, ", ".join(map(str, v)) if isinstance(v, list | tuple) else v]
            for k, v in self.settings.items()
        ]
        numbers = Table(["name", "value"], list(self.summary.items()), digits=4)
        table = [Table(["setting", "value"], rows)] if rows else []
        return [self.conventions, *table, Fold("All numbers", [numbers])]

    def to_json(self) -> dict[str, Any]:
        """What report.json holds; numbers that are not finite are None."""
        return jsonable(
            {
                "title": self.title,
                "simulated": self.simulated,
                "notes": self.notes,
                "settings": self.settings,
                "summary": self.summary,
                "conditions": {c.name: c.rows(self.noun) for c in self.conditions if c.bins},
                "sequences": [{"sequence": t.name, **t.row} for t in self.tracks],
                "worst": self.worst,
                "nonfinite": self.nonfinite,
                **self.facts,
            }
        )


def write(report: Report, folder: Path) -> Path:
    """Write `report.json` and the self-contained `index.html` into a folder, made if missing.

    Returns:
      The path of `index.html`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report.to_json(), indent=1, allow_nan=False)
    with whole(folder / "report.json") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return _page(report).write(folder / "index.html")


def jsonable(value: Any) -> Any:
    """Plain Python for strict JSON; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    return value


def _page(report: Report) -> Page:
    page = Page(report.title, report.notes)
    if report.simulated:
        page.notice(
            "Simulated data: every number and picture on this page comes from simulated worlds "
            "and sensors, not from recordings."
        )
    for label, names in report.nonfinite.items():
        listed = ", ".join(map(str, names[:_NAMED])) + (" ..." if len(names) > _NAMED else "")
        page.notice(
            f"{len(names)} of {report.count} {label + ' ' if label else ''}estimates are not "
            f"finite; {report.nonfinite_text}. {report.noun.capitalize()}: {listed}"
        )
    for remark in report.remarks:
        page.notice(remark, "plain")
    for heading, cards in report.cards.items():
        page.text(heading[:1].upper() + heading[1:])
        page.cards(cards)
    for section in report.sections():
        with page.section(section.title):
            _render(page, section.parts)
    return page


def _render(page: Page, parts: Sequence[Part]) -> None:
    """Parts in order; plots that follow one another stand side by side."""

    def draw(plot: Plot) -> None:
        page.figure(
            plot.draw(), plot.caption, alt=plot.alt, dpi=plot.dpi, photograph=plot.photograph
        )

    row: list[Plot] = []
    for part in (*parts, ""):
        if isinstance(part, Plot):
            row.append(part)
            continue
        if len(row) > 1:
            with page.row():
                for plot in row:
                    draw(plot)
        elif row:
            draw(row[0])
        row = []
        if isinstance(part, Table):
            page.table(part.headers, part.rows, caption=part.caption, digits=part.digits)
        elif isinstance(part, Fold):
            with page.details(part.summary, open=part.open):
                _render(page, part.parts)
        elif isinstance(part, Cloud):
            page.cloud(part)
        else:
            page.text(part)


def _plots(parts: Sequence[Part]) -> Iterator[Plot]:
    for part in parts:
        if isinstance(part, Plot):
            yield part
        elif isinstance(part, Fold):
            yield from _plots(part.parts)
