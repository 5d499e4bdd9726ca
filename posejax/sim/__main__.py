"""Simulate spacecraft sequences and tell what came out: `python -m posejax.sim val 4`.

`python -m posejax.sim val 4 --rooms rooms.png` makes a picture of simulated rooms instead.
"""

import argparse

from posejax.data.dataset import SPLITS
from posejax.data.event_files.spark import read_spark
from posejax.sim.contact_sheet import write_room_sheet
from posejax.sim.event_camera import event_statistics
from posejax.sim.spacecraft_sequences import (
    SpacecraftSettings,
    ensure_sequences,
    read_info,
)


def main() -> None:
    """Make the sequences that are missing and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("count", type=int)
    parser.add_argument("--root", help="folder of generated data sets; default: the user's cache")
    parser.add_argument("--workers", type=int)
    parser.add_argument(
        "--rooms", metavar="PNG", help="instead: a contact sheet of so many rooms of the split"
    )
    options = parser.parse_args()
    if options.rooms:
        write_room_sheet(options.rooms, options.split, options.count)
        return
    settings = SpacecraftSettings()
    paths = ensure_sequences(
        options.root, settings, options.split, options.count, workers=options.workers
    )
    print(f"{paths[0].parent}\n")
    print("| sequence | motion | light | Tz (m) | k events/s | ON | per 100 ms: 10, 50, 90 % |")
    print("|---|---|---|---|---|---|---|")
    rates, events, on = [], 0, 0.0
    for path in paths:
        info, recording = read_info(path), read_spark(path)
        found = event_statistics(
            recording.t * recording.tick_seconds, recording.p, settings.duration_s
        )
        assert recording.labels is not None  # simulated sequences have them
        z = recording.labels.translation[:, 2]
        counts = ", ".join(f"{count:.0f}" for count in found.window_events)
        print(
            f"| {path.stem} | {info.motion} | {info.light} | {z.min():.1f}-{z.max():.1f} "
            f"| {found.rate_hz / 1e3:.1f} | {found.on_share:.3f} | {counts} |"
        )
        rates.append(found.rate_hz)
        events, on = events + len(recording.p), on + float(recording.p.sum())
    print(f"| all | | | | {sum(rates) / len(rates) / 1e3:.1f} | {on / events:.3f} | |")


if __name__ == "__main__":
    main()
