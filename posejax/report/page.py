"""Self-contained HTML pages: one file with text, tables and pictures, nothing loaded from outside.

    page = Page("Evaluation", intro="What was measured")
    with page.section("Accuracy"):
        page.table(["estimator", "RMS m"], [["softmax", 0.09]], caption="Validation split")
        page.figure(figure, "Share of examples below an error")
    page.write(folder / "index.html")

All text is escaped. The page follows the reader's light or dark setting, prints on paper with
every fold opened, and needs no script but for clouds that a reader may turn.
"""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from posejax.data.files import whole
from posejax.report.cloud import SCRIPT, STYLE, Cloud, cloud_html
from posejax.report.text import number

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6472; --paper: #ffffff;
  --panel: #f4f6f9; --line: #d9dee6; --accent: #1f6feb; --warn: #fff4d6; --warn-line: #d29922; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --paper: #12161c;
  --panel: #1b212a; --line: #323b47; --accent: #6cb0ff; --warn: #3a2f12; --warn-line: #d29922; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
p { max-width: 48rem; margin: .5rem 0; }
.intro, figcaption, caption, .label { color: var(--soft); }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
.notice { border-left: 4px solid var(--warn-line); background: var(--warn); padding: .6rem .9rem;
  border-radius: 4px; margin: 1rem 0; max-width: none; }
.notice.plain { border-color: var(--accent); background: var(--panel); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.6rem, 1fr));
  gap: .8rem; margin: 1.2rem 0; }
.card { background: var(--panel); border-radius: 8px; padding: .7rem .9rem; }
.card b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.card .label { font-size: .85rem; line-height: 1.3; display: block; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { text-align: left; padding-bottom: .4rem; font-size: .92rem; }
th, td { padding: .32rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 600; background: var(--panel); vertical-align: bottom;
  white-space: normal; min-width: 4.2rem; }
th.text, td.text { text-align: left; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; display: block; background: #fff; border-radius: 6px;
  border: 1px solid var(--line); }
figcaption { font-size: .92rem; margin-top: .35rem; max-width: 60rem; }
.row { display: flex; flex-wrap: wrap; gap: 0 1.5rem; align-items: flex-start; }
.row figure { flex: 1 1 24rem; min-width: 0; }
details { margin: .6rem 0; border: 1px solid var(--line); border-radius: 6px;
  padding: .35rem .8rem; }
summary { cursor: pointer; font-weight: 600; }
@media print { :root { --ink: #000; --soft: #444; --paper: #fff; --panel: #f4f4f4;
  --line: #ccc; --warn: #fff; } body { max-width: none; padding: 0; font-size: 11pt; }
  nav { display: none; } .row figure { flex-basis: 15rem; } table { font-size: 8.5pt; }
  th, td { padding: .18rem .4rem; } th { min-width: 0; } summary { break-after: avoid; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""


def figure_png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG on white ground, without a date, so equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def figure_jpeg(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as JPEG: a fifth of the PNG's bytes where it shows photographs.

    Quality 75 keeps lines and letters readable; single pixels of colour blur.
    """
    buffer = io.BytesIO()
    Image.fromarray(figure_pixels(figure, dpi)).save(buffer, "JPEG", quality=75, optimize=True)
    return buffer.getvalue()


def figure_pixels(figure: Figure, dpi: int = 80) -> np.ndarray:
    """The figure as [H, W, 3] uint8 on white ground."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


class Page:
    """A page under construction; content appears in the order of the calls."""

    def __init__(self, title: str, intro: str = ""):
        self.title = title
        self._intro = intro
        self._sections: list[tuple[str, str]] = []
        self._body: list[str] = []
        self._clouds = False

    @contextmanager
    def section(self, title: str, text: str = "") -> Iterator[None]:
        """Content added inside stands under the heading `title`, listed at the top of the page."""
        anchor = f"s{len(self._sections) + 1}"
        self._sections.append((anchor, title))
        self._body.append(f'<section id="{anchor}"><h2>{html.escape(title)}</h2>')
        self.text(text)
        try:
            yield
        finally:
            self._body.append("</section>")

    @contextmanager
    def details(self, summary: str, *, open: bool = False) -> Iterator[None]:
        """Content added inside is folded away under the line `summary`, unless `open`."""
        state = " open" if open else ""
        self._body.append(f"<details{state}><summary>{html.escape(summary)}</summary>")
        try:
            yield
        finally:
            self._body.append("</details>")

    @contextmanager
    def row(self) -> Iterator[None]:
        """Figures added inside stand side by side where the window is wide enough."""
        self._body.append('<div class="row">')
        try:
            yield
        finally:
            self._body.append("</div>")

    def text(self, text: str) -> None:
        """Paragraphs, separated by empty lines."""
        for paragraph in text.split("\n\n"):
            if paragraph.strip():
                self._body.append(f"<p>{html.escape(paragraph.strip())}</p>")

    def notice(self, text: str, kind: Literal["warning", "plain"] = "warning") -> None:
        """A framed remark that nobody should overlook."""
        mark = " plain" if kind == "plain" else ""
        self._body.append(f'<p class="notice{mark}" role="note">{html.escape(text)}</p>')

    def cards(self, items: Sequence[tuple[str, str]]) -> None:
        """Key numbers, given as (value, what it is)."""
        cards = "".join(
            f'<div class="card"><b>{html.escape(value)}</b>'
            f'<span class="label">{html.escape(label)}</span></div>'
            for value, label in items
        )
        self._body.append(f'<div class="cards">{cards}</div>')

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        caption: str = "",
        digits: int = 3,
    ) -> None:
        """A table; numbers are rounded to `digits` decimals (see `text.number`).

        Columns whose every cell is text that does not start with a digit are set flush left.

        Raises:
          ValueError: a row's length differs from the headers'.
        """
        for row in rows:
            if len(row) != len(headers):
                raise ValueError(f"row {list(row)} has {len(row)} cells for {len(headers)} headers")
        style = ["" if any(map(_numeric, c)) else ' class="text"' for c in zip(*rows, strict=True)]
        style = style or [""] * len(headers)
        lines = ['<div class="scroll"><table>']
        if caption:
            lines.append(f"<caption>{html.escape(caption)}</caption>")
        head = zip(headers, style, strict=True)
        lines.append("<thead><tr>")
        lines.extend(f'<th scope="col"{s}>{html.escape(str(h))}</th>' for h, s in head)
        lines.append("</tr></thead><tbody>")
        for row in rows:
            cells = zip(row, style, strict=True)
            lines.append(
                "<tr>"
                + "".join(f"<td{s}>{html.escape(number(c, digits))}</td>" for c, s in cells)
                + "</tr>"
            )
        lines.append("</tbody></table></div>")
        self._body.append("\n".join(lines))

    def figure(
        self,
        figure: Figure,
        caption: str,
        *,
        alt: str = "",
        dpi: int = 100,
        photograph: bool = False,
    ) -> None:
        """A matplotlib figure, embedded as PNG or, if it shows photographs, as JPEG.

        `alt` (else the caption) is its spoken text.
        """
        kind, encode = ("jpeg", figure_jpeg) if photograph else ("png", figure_png)
        data = base64.b64encode(encode(figure, dpi)).decode("ascii")
        self._body.append(
            f'<figure><img src="data:image/{kind};base64,{data}" '
            f'alt="{html.escape(alt or caption)}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    def cloud(self, cloud: Cloud) -> None:
        """A cloud of points that the reader turns with the mouse; brings the page's one script."""
        self._clouds = True
        self._body.append(cloud_html(cloud))

    def html(self) -> str:
        """The whole document."""
        style, script = (_STYLE + STYLE, SCRIPT) if self._clouds else (_STYLE, "")
        title = html.escape(self.title)
        links = "".join(f'<a href="#{a}">{html.escape(t)}</a>' for a, t in self._sections)
        intro = "".join(
            f'<p class="intro">{html.escape(p.strip())}</p>' for p in self._intro.split("\n\n")
        )
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{style}</style></head>\n<body>\n"
            f"<h1>{title}</h1>\n{intro}\n<nav>{links}</nav>\n"
            + "\n".join(self._body)
            + f"{script}\n</body></html>\n"
        )

    def write(self, path: Path) -> Path:
        """Write the page, replacing an old one in one step; missing folders are made."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")
        return path


def _numeric(cell: Any) -> bool:
    return isinstance(cell, Real | tuple) or (str(cell)[:1].isdigit() or str(cell)[:1] in "+-.±")
