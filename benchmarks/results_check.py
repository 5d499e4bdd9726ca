"""Do the numbers of docs/results.md come again? Runs the rows that are cheap, and compares.

    python -m benchmarks.results_check [--data DIR] [--only NAME]       (or: make results-check)

Every row is an evaluation that trains nothing: systems without parameters, and the shipped
weights, which were trained by the commands that docs/results.md names. DIR, by default
$POSEJAX_DATA, holds the real sets; rows that need one that is not there are skipped, by name.
Evaluations are functions of seed and data, so what is allowed to differ is rounding, on other
machines the choice between near-equal modes. Ends with status 1 if a number does not come again.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from posejax import cli, config
from posejax.config import Experiment
from posejax.evaluate import EvalOptions, evaluate
from posejax.report.text import markdown_table


class Row(NamedTuple):
    """One evaluation and what it gave.

    config: name of a config. split: of its data. numbers: name -> (value, allowed difference).
    data: folder below DIR that its `data.root` needs, if it reads real data.
    weights: shipped weights, if it has parameters.
    """

    config: str
    split: str
    numbers: Mapping[str, tuple[float, float]]
    data: str | None = None
    weights: str | None = None


ROWS = (
    Row(
        "georeg_sim",
        "test",
        {"softmax/rms_xy_m": (0.0803, 5e-4), "softmax/rms_yaw_deg": (0.1736, 2e-3)},
        weights="georeg_sim",
    ),
    Row(
        "bifusion_sim",
        "test",
        {"miou": (0.518, 2e-3), "accuracy": (0.819, 1e-3), "offset_error": (0.482, 2e-3)},
        weights="bifusion_sim",
    ),
    Row("georeg_zncc", "val", {"gaussian/recall_0.2m_1deg": (0.359, 0.011)}),
    Row(
        "georeg_zncc_radish",
        "val",
        {"gaussian/recall_0.2m_1deg": (0.816, 0.01), "gaussian/median_xy_m": (0.040, 2e-3)},
        data="radish_aces",
    ),
    Row(
        "georeg_zncc_av2",
        "val",
        {"softmax/recall_0.5m_2deg": (1.0, 0.0), "softmax/median_xy_m": (0.09, 0.01)},
        data="av2_adcf7d18",
    ),
)


def measure(row: Row, data: Path | None, out: Path) -> dict[str, float] | None:
    """The numbers of a row, or None without the data that it needs."""
    experiment = cli.load_config(row.config)
    assert isinstance(experiment, Experiment)
    if row.data is not None:
        root = None if data is None else _root(data / row.data, out)
        if root is None:
            return None
        experiment = config.replace(experiment, **{"system.data.root": str(root)})
    options = EvalOptions(
        split=row.split, calibrate=0, report=False, out=out / row.config,
        checkpoint=row.weights or "best",
    )  # fmt: skip
    return evaluate(experiment, options)


def _root(folder: Path, out: Path) -> Path | None:
    """The folder that a source wants: of a single log, one that holds it."""
    if not folder.is_dir():
        return None
    if not (folder / "city_SE3_egovehicle.feather").is_file():
        return folder
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    link = logs / folder.name
    if not link.exists():
        link.symlink_to(folder.resolve(), target_is_directory=True)
    return logs


def compare(row: Row, found: Mapping[str, float]) -> list[list[str]]:
    """Table rows: what, stated, found, allowed difference, verdict."""
    return [
        [
            f"{row.config} {row.split}: {name}",
            f"{value:.4g}",
            f"{found[name]:.4g}",
            f"{allowed:.2g}",
            "as stated" if abs(found[name] - value) <= allowed else "DIFFERS",
        ]
        for name, (value, allowed) in row.numbers.items()
    ]


def main(arguments: Sequence[str] = ()) -> int:
    """Run, print the table; 1 if a number did not come again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("POSEJAX_DATA")
    parser.add_argument("--data", type=Path, default=Path(default) if default else None)
    parser.add_argument("--only", help="config of the rows to run")
    parser.add_argument("--out", type=Path, default=Path("runs") / "results_check")
    options = parser.parse_args(list(arguments))
    lines = []
    for row in ROWS:
        if options.only not in (None, row.config):
            continue
        found = measure(row, options.data, options.out)
        if found is None:
            lines.append([f"{row.config} {row.split}", "", "", "", f"skipped: no {row.data}"])
        else:
            lines += compare(row, found)
    print(markdown_table(["what", "stated", "found", "allowed", ""], lines))
    return int(any(line[-1] == "DIFFERS" for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
