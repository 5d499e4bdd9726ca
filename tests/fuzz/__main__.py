"""Damaged files for every reader: `python -m tests.fuzz --mutations 100000` (make fuzz).

Mutations run in batches, each in a process of its own with little memory and a watchdog, so that
crashes, hangs and claims of memory are seen, named and survived. Any of them again:
`python -m tests.fuzz --only READER --first INDEX --mutations 1`.
"""

import argparse
import faulthandler
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

COLUMNS = ("valid", "refused", "memory", "other", "crash", "hang")
BAD = COLUMNS[2:]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--mutations", type=int, default=5000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="index of the first mutation")
    parser.add_argument("--only", default="", help="readers whose name holds this")
    parser.add_argument("--batch", type=int, default=500, help="mutations per process")
    parser.add_argument("--seconds", type=float, default=20, help="after which one is a hang")
    parser.add_argument("--memory", type=float, default=1, help="GiB a reader may ask for")
    parser.add_argument("--out", type=Path, help="JSON file of the counts, written as they come")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options)
    from tests.fuzz.readers import CASES

    names = [name for name in CASES if options.only in name]
    share = -(-options.mutations // len(names))
    counts = {name: Counter() for name in names}
    started, done = time.time(), 0
    # In rounds over all readers: a run that is stopped early has met every one.
    for start in range(0, share, options.batch):
        for name in names:
            count = min(options.batch, share - start)
            counts[name] += batch(options, name, options.first + start, count)
            done += count
        print(f"{done} mutations in {time.time() - started:.0f} s", file=sys.stderr, flush=True)
        if options.out:
            options.out.write_text(json.dumps({k: dict(v) for k, v in counts.items()}, indent=1))
    print(table(counts))
    return any(counts[name][column] for name in names for column in BAD)


def batch(options: argparse.Namespace, name: str, first: int, count: int) -> Counter:
    """Counts of `count` mutations; a process that ends early is followed by another."""
    counts, stop = Counter(), first + count
    while first < stop:
        command = [sys.executable, "-m", "tests.fuzz", "--worker", "--only", name]
        command += ["--seed", str(options.seed), "--first", str(first)]
        command += ["--mutations", str(stop - first), "--seconds", str(options.seconds)]
        command += ["--memory", str(options.memory)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        lines = [line.split("\t", 2) for line in done.stdout.splitlines() if line.count("\t") == 2]
        for index, kind, message in lines:
            counts[kind] += 1
            if kind in BAD:
                print(f"{name} {index}: {kind}: {message}", file=sys.stderr, flush=True)
        first += len(lines)
        if done.returncode or first < stop:
            if done.returncode == 2:
                raise SystemExit(f"{name}: the worker does not start:\n{done.stderr[-3000:]}")
            kind = "hang" if "Timeout (" in done.stderr else "crash"
            counts[kind] += 1
            text = f"{name} {first}: {kind} (exit {done.returncode})\n{done.stderr[-1500:]}"
            print(text, file=sys.stderr, flush=True)
            first += 1
    return counts


def work(options: argparse.Namespace) -> int:
    """The process that reads: a line per mutation as soon as it is done."""
    from tests.fuzz.trial import Bench

    with tempfile.TemporaryDirectory() as folder:
        try:
            bench = Bench(options.only, options.seed, Path(folder))
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 2
        pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = pages + int(options.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for index in range(options.first, options.first + options.mutations):
            faulthandler.dump_traceback_later(options.seconds, exit=True)
            kind, message = bench.run(index)
            print(index, kind, message.replace("\t", " "), sep="\t", flush=True)
        faulthandler.cancel_dump_traceback_later()
    return 0


def table(counts: dict[str, Counter]) -> str:
    """Markdown: a row per reader, and their sum."""
    head = ["reader", "mutations", *COLUMNS]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    total = sum(counts.values(), Counter())
    for name, found in {**counts, "all": total}.items():
        rows.append([name, str(found.total()), *(str(found[c]) for c in COLUMNS)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
