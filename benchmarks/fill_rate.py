"""How much of its online raster a sweep fills, at three resolutions, and which samples fill least.

    python -m benchmarks.fill_rate [--data DIR] [--limit 100] [--out FILE]

Simulated streets (the validation split of the default `Streets`) are always measured; they are made
on first use. DIR, by default $POSEJAX_DATA, adds what is found in it: every folder with a
`.relations` table (Radish logs) and every Argoverse 2 log. The numbers depend on the data alone,
not on the machine.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posejax.data import av2
from posejax.data.rasters import fill_rate
from posejax.report.text import markdown_table, percent
from posejax.systems.georeg import Av2Logs, RadishLog, Streets
from posejax.systems.georeg.data import Draw, RegistrationData

OUT = Path(__file__).parent / "results" / "fill_rate.json"
EDGE_CASES = 5


class Resolution(NamedTuple):
    """A square online raster: side of a cell (m), cells along a side."""

    cell_size: float
    cells: int


# 30 m, 100 m and again 30 m on a side.
RESOLUTIONS = (Resolution(0.2, 150), Resolution(0.3047, 329), Resolution(0.1, 300))


class DataSet(NamedTuple):
    """One line of the table per resolution."""

    name: str
    config: RegistrationData
    split: str


def data_sets(folder: Path | None) -> Iterator[DataSet]:
    """Simulated streets, and the real data below `folder`."""
    yield DataSet("simulated streets", Streets(), "val")
    if folder is None:
        return
    for table in sorted(folder.glob("*/*.relations")):
        yield DataSet(f"Radish {table.parent.name}", RadishLog(root=str(table.parent)), "all")
    for root in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        if any(root.glob(f"*/{av2.POSES_FILE}")):
            name = "Argoverse 2" if root == folder else f"Argoverse 2 {root.name}"
            yield DataSet(name, Av2Logs(root=str(root)), "val")


def measure(
    data: DataSet, resolutions: Sequence[Resolution], limit: int | None = None
) -> list[dict[str, Any]]:
    """One row per resolution: the distribution of the fill rate, and the least filled samples.

    Args:
      limit: measure this many samples, evenly spread over the split; None for all.
    """
    # The online raster does not depend on the resolution of the map: read each record once.
    coarse = max(resolutions)
    rasters = [
        dataclasses.replace(data.config, cell_size=cell_size, online_shape=(cells, cells))
        for cell_size, cells in resolutions
    ]
    source = rasters[resolutions.index(coarse)].source(data.split)
    total = len(source)
    indices = np.unique(np.linspace(0, total - 1, min(total, limit or total)).astype(int))
    rates = np.empty((len(resolutions), len(indices)))
    for column, index in enumerate(indices.tolist()):
        record = source[index]
        for row, raster in enumerate(rasters):
            _, mask = raster.online(record, Draw(0.0, None))
            rates[row, column] = fill_rate(mask)
    rows = []
    for (cell_size, cells), values in zip(resolutions, rates, strict=True):
        least = np.argsort(values, kind="stable")[:EDGE_CASES]
        low, median, high = np.percentile(values, (5, 50, 95))
        rows.append(
            {
                "data": data.name,
                "split": data.split,
                "simulated": data.config.simulated,
                "cell_size_m": cell_size,
                "shape": f"{cells} x {cells}",
                "samples": len(values),
                "of": total,
                "mean": float(values.mean()),
                "min": float(values.min()),
                "p5": float(low),
                "p50": float(median),
                "p95": float(high),
                "least_filled": [
                    {"id": source.describe(int(indices[k])), "fill_rate": float(values[k])}
                    for k in least
                ],
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: the distributions, then the edge cases by id."""
    shares = ("mean", "min", "p5", "p50", "p95")
    lines = [
        [r["data"], f"{r['cell_size_m']:g}", r["shape"], f"{r['samples']} of {r['of']}"]
        + [percent(r[key]) for key in shares]
        for r in rows
    ]
    headers = ["data", "cell m", "cells", "samples", "mean", "min", "5 %", "median", "95 %"]
    cases = [
        [r["data"], f"{r['cell_size_m']:g}", case["id"], percent(case["fill_rate"])]
        for r in rows
        for case in r["least_filled"]
    ]
    return "\n\n".join(
        [
            markdown_table(headers, lines),
            "Least filled samples:",
            markdown_table(["data", "cell m", "id", "filled"], cases),
        ]
    )


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Measure, print, write; the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("POSEJAX_DATA")
    parser.add_argument("--data", type=Path, default=Path(default) if default else None)
    parser.add_argument("--limit", type=int, default=0, help="samples per data set; 0 for all")
    parser.add_argument("--out", type=Path, help=f"where the JSON goes; with --data {OUT}")
    options = parser.parse_args(list(arguments))
    if options.data is not None and not options.data.is_dir():
        parser.error(f"--data {options.data}: no such folder")
    rows = []
    for data in data_sets(options.data):
        print(f"measuring {data.name} ...", file=sys.stderr, flush=True)
        rows += measure(data, RESOLUTIONS, options.limit or None)
    print(table(rows))
    # Simulated streets alone must not replace what was measured on real data.
    out = options.out or (OUT if options.data else None)
    if out is None:
        print("not written: no real data (--data, POSEJAX_DATA), no --out", file=sys.stderr)
        return rows
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
