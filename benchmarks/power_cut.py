"""Power cuts: images of a file system taken while a run goes, mounted, continued, compared.

A run trains on an ext4 file system in a file, which lies on a file system with reflinks. At random
instants between its first and its last checkpoint the file is cloned in one system call, between
two writes of the kernel and without stopping the run: what a disk holds when the power fails. Each
clone is mounted, which replays its journal, and the same command given. The log and the parameters
must end in the same bits as those of a run that nobody disturbed.

    sudo python -m benchmarks.power_cut --instants 20 --out benchmarks/results/power_cut.json

`--control` names a checkout of a version that is known to fail, to show that this can. Every clone
counts, none is chosen by what it holds. A disk that reports writes as done and then loses them is
not modelled. Needs root, loop devices, mkfs.ext4 and mkfs.xfs. Exit status 1 if an instant does not
come to the same end, or every instant of the control does.
"""

import argparse
import contextlib
import fcntl
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SIZE, HOST_SIZE = 96 << 20, 4 << 30  # bytes of the file system, and of the one with reflinks
PER_RUN = 5  # instants, after which another run is started
WRITING = 0.7  # share of instants that wait for a checkpoint being written
PATIENCE = 240.0  # seconds for a run that is continued
FICLONE = 0x40049409  # ioctl of Linux: the destination becomes a clone of the source
STEPS, EVERY = 192, 8
SETTINGS = {
    "--train.steps": str(STEPS), "--train.ema": "0.99", "--system.hidden": "2000",
    "--train.checkpoint.every-steps": str(EVERY), "--train.evaluation.every-epochs": "3",
    "--log.every": "3", "--log.view": "plain",
}  # fmt: skip
End = tuple[bytes, dict[str, np.ndarray]]


class Image(NamedTuple):
    """One instant: the clone, whether a checkpoint was in writing, the newest one with its name."""

    path: Path
    writing: bool
    newest: int


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--instants", type=int, default=20)
    parser.add_argument("--control", type=Path, help="checkout of a version that fails")
    parser.add_argument("--control-instants", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = {"mended": cut(ROOT, arguments.instants, arguments.seed)}
    if arguments.control:
        code = arguments.control.resolve()
        result["control"] = cut(code, arguments.control_instants, arguments.seed)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    good = {name: all(row["same"] for row in found["rows"]) for name, found in result.items()}
    return int(not good["mended"] or good.get("control", False))


def cut(code: Path, instants: int, seed: int) -> dict[str, Any]:
    """Take and try the instants of one version; prints them as a table."""
    with tempfile.TemporaryDirectory(prefix="power_cut_") as name:
        folder = Path(name)
        whole = folder / "whole"
        process = start(code, whole)
        said, _ = process.communicate()
        if process.returncode:
            sys.exit(f"the undisturbed run fails:\n{said}")
        expected = end_of(whole)
        with file_system(folder / "host.img", HOST_SIZE, "mkfs.xfs", "-m", "reflink=1") as host:
            images = take_images(code, host, instants, seed)
            rows = [continued(code, folder, image, expected) for image in images]
    revision = ["git", "-C", str(code), "describe", "--always", "--dirty"]
    commit = subprocess.run(revision, check=True, capture_output=True, text=True).stdout.strip()
    print(f"commit {commit}\n")
    columns = ("writing", "newest", "continued_from", "set_aside", "same", "last_line")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(str(row[c]) for c in columns) + " |")
    print(summary := summarize(rows), end="\n\n", flush=True)
    return {"commit": commit, "summary": summary, "rows": rows}


def summarize(rows: Sequence[dict[str, Any]]) -> str:
    same, writing = (sum(row[k] for row in rows) for k in ("same", "writing"))
    newest = sum(row["same"] and row["continued_from"] >= row["newest"] for row in rows)
    return (
        f"{same} of {len(rows)} come to the identical end; {writing} of {len(rows)} within a "
        f"checkpoint; {newest} continue from the newest checkpoint that had its name, or a newer"
    )


def start(code: Path, workdir: Path) -> subprocess.Popen[str]:
    """The run, in a process of its own."""
    toy = code / "tests" / "train" / "toy"
    command = [sys.executable, code / "train_main.py", "--config", toy / "beacons_config.py"]
    command += ["--workdir", workdir, *(word for pair in SETTINGS.items() for word in pair)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{code}:{toy}"}
    return subprocess.Popen(
        [*map(str, command)], env=environment, text=True, cwd=code,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def end_of(workdir: Path) -> End:
    """Log and parameters of a finished run."""
    from posejax.train import Checkpoints, groups

    with Checkpoints(workdir, write=False) as checkpoints:
        model = checkpoints.restore_model_as_saved(STEPS)
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


@contextlib.contextmanager
def file_system(image: Path, size: int, *make: str) -> Iterator[Path]:
    """A new, mounted file system in a file."""
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([*make, "-q", image], check=True)
    with mounted(image, image.with_suffix("")) as at:
        yield at


def take_images(code: Path, host: Path, count: int, seed: int) -> list[Image]:
    """Clones of a running run's file system, from its first checkpoint to before its last."""
    disk, taken, draw = host / "disk.img", [], random.Random(seed)
    while len(taken) < count:
        with file_system(disk, SIZE, "mkfs.ext4") as at:
            run = start(code, at / "run")
            checkpoints = at / "run" / "checkpoints"
            # Spread over the run: each waits for a checkpoint of its own, then somewhat longer.
            waits_for = sorted(draw.sample(range(EVERY, STEPS - EVERY, EVERY), PER_RUN))
            for least in waits_for[: count - len(taken)]:
                while run.poll() is None and max(steps(checkpoints), default=0) < least:
                    time.sleep(0.002)
                wants_writing = draw.random() < WRITING
                time.sleep(draw.uniform(0, 0.1))
                while run.poll() is None and wants_writing and not partial(checkpoints):
                    time.sleep(0.0005)
                time.sleep(draw.uniform(0, 0.03))
                newest, before = max(steps(checkpoints), default=0), partial(checkpoints)
                image = host / f"{len(taken):03d}.img"
                clone(disk, image)
                # The run goes on meanwhile: what was in writing must be so before and after.
                writing = bool(before & partial(checkpoints))
                if run.poll() is not None or STEPS in steps(checkpoints):  # it was too late
                    image.unlink()
                    break
                taken.append(Image(image, writing, newest))
            run.kill()
            run.communicate()
    return taken


def clone(source: Path, target: Path) -> None:
    with source.open("rb") as a, target.open("wb") as b:
        fcntl.ioctl(b, FICLONE, a.fileno())


def steps(checkpoints: Path) -> set[int]:
    return {int(p.name) for p in checkpoints.glob("[0-9]*") if p.name.isdigit()}


def partial(checkpoints: Path) -> set[str]:
    """Names of checkpoints that are being written."""
    return {p.name for p in checkpoints.glob("*tmp*")}


def continued(code: Path, folder: Path, image: Image, expected: End) -> dict[str, Any]:
    """What becomes of one image."""
    with mounted(image.path, folder / "copy") as at:
        held, cut_off = steps(at / "run/checkpoints"), partial(at / "run/checkpoints")
        run = start(code, at / "run")
        try:
            said, _ = run.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            run.kill()
            said, _ = run.communicate()
        same = run.returncode == 0
        if same:
            log, arrays = end_of(at / "run")
            same = log == expected[0] and arrays.keys() == expected[1].keys()
            same = same and all(np.array_equal(arrays[k], v) for k, v in expected[1].items())
    image.path.unlink()
    found = re.search(r"continue from step (\d+)", said)
    lines = said.replace(str(at), "").strip().splitlines()
    return {
        "writing": image.writing, "newest": image.newest, "on_disk": sorted(held),
        "partial_on_disk": sorted(cut_off), "continued_from": int(found[1]) if found else 0,
        "set_aside": [line for line in lines if "set aside as" in line],
        "same": bool(same), "exit_status": run.returncode, "last_line": lines[-1][:200],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
