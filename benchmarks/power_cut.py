"""Power cuts: images of a file system taken while a run goes, mounted, continued, compared.

A run trains on an ext4 file system in a file. At random instants the file is copied as it is: what
a disk holds when the power fails. Each copy is mounted and the same run started again. Its log and
its parameters must end in the same bits as those of a run that nobody disturbed.

    sudo python benchmarks/power_cut.py --instants 20

Needs root, loop devices and mkfs.ext4. Exit status 1 if any instant does not come to the same end.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "tests" / "train" / "toy" / "beacons_config.py"
SIZE = 96 << 20  # bytes of the file system
SETTINGS = {
    "--train.epochs": "12", "--train.ema": "0.99", "--system.hidden": "2000", "--log.every": "3",
    "--train.checkpoint.every-steps": "8", "--train.evaluation.every-epochs": "3",
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--instants", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="power_cut_") as name:
        folder = Path(name)
        whole = folder / "whole"
        start(whole).wait()
        expected = end_of(whole)
        images = take_images(folder, arguments.instants, arguments.seed)
        rows = [continued(folder, image, expected) for image in images]
    good = sum(row["same"] for row in rows)
    print("| instant | within a checkpoint | continued from | set aside | identical end |")
    print("|---|---|---|---|---|")
    for number, row in enumerate(rows, 1):
        print(
            f"| {number} | {'yes' if row['writing'] else 'no'} | step {row['step']} "
            f"| {row['set_aside']} | {'yes' if row['same'] else 'NO: ' + row['said']} |"
        )
    print(f"{good} of {len(rows)} continue to the identical end")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")
    return int(good < len(rows))


def start(workdir: Path, **options: Any) -> subprocess.Popen:
    """The run, in a process of its own."""
    command = [sys.executable, ROOT / "train_main.py", "--config", CONFIG, "--workdir", workdir]
    command += [word for pair in SETTINGS.items() for word in pair]
    toy = CONFIG.parent
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{ROOT}:{toy}"}
    return subprocess.Popen(
        [*map(str, command), "--log.view", "plain"], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
    )  # fmt: skip


def end_of(workdir: Path) -> tuple[bytes, dict[str, np.ndarray]]:
    """Log and parameters of a finished run."""
    from posejax.train import Checkpoints, groups

    with Checkpoints(workdir, write=False) as checkpoints:
        model = checkpoints.restore_model_as_saved(checkpoints.latest() or 0)
    arrays = {k: np.asarray(v) for k, v in groups.flatten(model).items()}
    return (workdir / "metrics.jsonl").read_bytes(), arrays


@contextlib.contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def take_images(folder: Path, count: int, seed: int) -> list[tuple[Path, bool]]:
    """Copies of the file system at random instants; whether a checkpoint was being written."""
    disk, taken, draw = folder / "disk.img", [], random.Random(seed)
    with disk.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    while len(taken) < count:
        with mounted(disk, folder / "disk") as at:
            subprocess.run(["rm", "-rf", at / "run"], check=True)
            os.sync()
            run = start(at / "run")
            log = at / "run" / "metrics.jsonl"
            while run.poll() is None and not log.is_file():
                time.sleep(0.01)
            while run.poll() is None and len(taken) < count:
                wants_writing = draw.random() < 0.5
                time.sleep(draw.uniform(0, 0.4))
                while run.poll() is None and wants_writing and not writing(at):
                    time.sleep(0.001)
                before = writing(at)
                copy = consistent(disk)
                if before == writing(at) and copy is not None:
                    image = folder / f"{len(taken):03d}.img"
                    image.write_bytes(copy)
                    taken.append((image, before))
            run.terminate()
            run.communicate()
    return taken


def writing(at: Path) -> bool:
    return any("tmp" in p.name for p in (at / "run" / "checkpoints").glob("*"))


def consistent(disk: Path) -> bytes | None:
    """The bytes at one instant: those that two readings in a row agree on."""
    before = disk.read_bytes()
    for _ in range(10):
        now = disk.read_bytes()
        if now == before:
            return now
        before = now
    return None


def continued(
    folder: Path, image: tuple[Path, bool], expected: tuple[bytes, dict[str, np.ndarray]]
) -> dict[str, Any]:
    """What becomes of one image."""
    path, was_writing = image
    with mounted(path, folder / "copy") as at:
        steps = [
            int(p.name) for p in (at / "run" / "checkpoints").glob("[0-9]*") if p.name.isdigit()
        ]
        run = start(at / "run")
        said, _ = run.communicate()
        same = run.returncode == 0
        if same:
            log, arrays = end_of(at / "run")
            same = log == expected[0] and all(
                np.array_equal(arrays[k], v) for k, v in expected[1].items()
            )
        aside = len(list((at / "run" / "damaged").glob("*")))
        row = {
            "writing": was_writing, "step": max(steps, default=0), "set_aside": aside,
            "same": bool(same), "said": said.strip().splitlines()[-1][:200],
        }  # fmt: skip
    path.unlink()
    return row


if __name__ == "__main__":
    sys.exit(main())
