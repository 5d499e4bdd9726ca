"""Voxel grids of a real HD recording against NumPy and numba, and many windows in one call.

    python -m benchmarks.events [--data DIR] [--repeats 15] [--out FILE]

The recording is `prophesee_evt3/evt3_truth.npz` under DIR (default POSEJAX_DATA): 219,596 events of
a 1280 x 720 sensor in 54 ms. Grids are 10 x 256 x 256 (5 bins, two polarities), bilinear in time.
The numba row is filled where numba can be imported; it is no dependency.

Results of 64 windows are 168 MB. Where the C library returns such blocks to the system, every call
pays again for getting its pages, several times what the events cost; a training step that reuses
its memory does not. Both sides of that comparison therefore write into memory of the last call
(donated), and a row of notes has the times without.
"""

import argparse
import importlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import HEADER, Row, compare, time_interleaved, write_results
from posejax.events import Events, events_from_arrays, voxel_grid

numba: Any = importlib.import_module("numba") if importlib.util.find_spec("numba") else None

SENSOR, SIZE, BINS = (720, 1280), (256, 256), 5
DEFAULT = os.environ.get("POSEJAX_DATA", "../shared/data")


def recording(folder: Path):
    """x, y int32, t float32 seconds, p int32, and the window's end."""
    data = np.load(folder / "prophesee_evt3" / "evt3_truth.npz")
    x, y, p = (data[k].astype(np.int32) for k in "xyp")
    t = ((data["t"] - data["t"][0]) * 1e-6).astype(np.float32)
    return x, y, t, p, float(t[-1]) + 1e-6


def grid(events: Events, end) -> jax.Array:
    return voxel_grid(
        events, bins=BINS, size=SIZE, sensor_size=SENSOR, window=(0.0, end), time="linear"
    )


def numpy_taps(x, y, t, p, end):
    """Channel, row, column and weight of both time taps, as the usual scripts compute them."""
    u = t / np.float32(end) * np.float32(BINS - 1)
    low = u.astype(np.int64)
    late = u - low
    rows = (2 * y + 1) * SIZE[0] // (2 * SENSOR[0])
    columns = (2 * x + 1) * SIZE[1] // (2 * SENSOR[1])
    channel = p * BINS + low
    return channel, rows, columns, 1 - late, late


def add_at_three(*args):
    channel, rows, columns, early, late = numpy_taps(*args)
    out = np.zeros((2 * BINS, *SIZE), np.float32)
    np.add.at(out, (channel, rows, columns), early)
    np.add.at(out, (channel + 1, rows, columns), late)
    return out


def add_at_flat(*args):
    channel, rows, columns, early, late = numpy_taps(*args)
    out = np.zeros(2 * BINS * SIZE[0] * SIZE[1], np.float32)
    index = (channel * SIZE[0] + rows) * SIZE[1] + columns
    np.add.at(out, index, early)
    np.add.at(out, index + SIZE[0] * SIZE[1], late)
    return out.reshape(2 * BINS, *SIZE)


def bincount(*args):
    channel, rows, columns, early, late = numpy_taps(*args)
    plane = SIZE[0] * SIZE[1]
    index = (channel * SIZE[0] + rows) * SIZE[1] + columns
    both = np.concatenate([index, index + plane])
    out = np.bincount(both, np.concatenate([early, late]), 2 * BINS * plane)
    return out.astype(np.float32).reshape(2 * BINS, *SIZE)


def numba_loop(channels_last: bool):
    """One thread, no checks; with the layout of choice."""
    height, width, last = SIZE[0], SIZE[1], BINS - 1

    @numba.njit
    def fill(x, y, t, p, end, out):
        for k in range(len(x)):
            u = t[k] / end * last
            low = int(u)
            late = u - low
            row = (2 * y[k] + 1) * height // (2 * 720)
            column = (2 * x[k] + 1) * width // (2 * 1280)
            channel = p[k] * 5 + low
            if channels_last:
                out[row, column, channel] += 1 - late
                out[row, column, channel + 1] += late
            else:
                out[channel, row, column] += 1 - late
                out[channel + 1, row, column] += late

    def run(x, y, t, p, end):
        shape = (*SIZE, 2 * BINS) if channels_last else (2 * BINS, *SIZE)
        out = np.zeros(shape, np.float32)
        fill(x, y, t, p, np.float32(end), out)
        return np.moveaxis(out, -1, 0) if channels_last else out

    return run


def one_window(folder: Path, repeats: int) -> list[Row]:
    x, y, t, p, end = recording(folder)
    arrays = x, y, t, p, end
    events = events_from_arrays(x, y, t, p)
    ours = np.moveaxis(np.asarray(grid(events, end)), -1, 0)
    peers: dict[str, tuple[Callable, str]] = {"numpy add.at, 3 indices": (add_at_three, "25x")}
    peers |= {"numpy add.at, flat index": (add_at_flat, ""), "numpy bincount": (bincount, "")}
    if numba is not None:
        peers["numba loop, [C,H,W]"] = numba_loop(False), "1x"
        peers["numba loop, [H,W,C]"] = numba_loop(True), "1x"
    rows = []
    for name, (peer, goal) in peers.items():
        np.testing.assert_allclose(ours, peer(*arrays), atol=2e-3)
        rows.append(
            compare(
                f"voxel grid 10x256x256, {len(x)} events; {name}",
                lambda e: grid(e, end),
                (events,),
                peer=lambda peer=peer: peer(*arrays),
                peer_name=name,
                goal=goal,
                repeats=repeats,
            )
        )
        rows[-1].notes = {"events_per_us": round(len(x) / (1e3 * rows[-1].posejax_min_ms), 1)}
    options: dict[str, Literal["float", "fixed"]] = {
        "gradient by x, y, t": "float",
        "fixed point": "fixed",
    }
    floats = events._replace(x=events.x.astype(jnp.float32), y=events.y.astype(jnp.float32))
    for name, accumulate in options.items():

        def cost(x, y, t, accumulate: Literal["float", "fixed"] = accumulate):
            out = voxel_grid(
                floats._replace(x=x, y=y, t=t),
                bins=BINS,
                size=SIZE,
                sensor_size=SENSOR,
                window=(0.0, end),
                time="linear",
                space="bilinear",
                accumulate=accumulate,
            )
            return jnp.sum(out**2)

        function = jax.value_and_grad(cost, (0, 1, 2)) if accumulate == "float" else cost
        args = floats.x, floats.y, floats.t
        rows.append(compare(f"voxel grid, bilinear in x, y, t; {name}", function, args))
    return rows


def reuse(function):
    """The function with one more argument, whose memory the result takes."""
    return jax.jit(lambda memory, *args: function(*args), donate_argnums=0, keep_unused=True)


def many_windows(folder: Path, repeats: int, *, windows: int = 64) -> list[Row]:
    """One call of vmap against as many calls; `ratio` is time one by one / time in one call."""
    x, y, t, p, _ = recording(folder)
    rows = []
    for count, padding in ((8_000, 0), (8_000, 8_000), (30_000, 0)):
        starts = np.linspace(0, len(x) - count, windows).astype(int)
        parts = [
            events_from_arrays(
                *(a[s : s + count] for a in (x, y, t - t[s], p)), capacity=count + padding
            )
            for s in starts
        ]
        batch = jax.tree.map(lambda *v: jnp.stack(v), *parts)
        ends = jnp.asarray([float(e.t.max()) + 1e-6 for e in parts])
        single_ends = list(ends)
        alone, together = reuse(grid), reuse(jax.vmap(grid))
        plain_alone, plain_together = jax.jit(grid), jax.jit(jax.vmap(grid))
        shape = (*SIZE, 2 * BINS)
        memory = {"alone": [jnp.zeros(shape) for _ in parts], "all": jnp.zeros((windows, *shape))}

        def one_by_one(alone=alone, memory=memory, parts=parts, ends=single_ends):
            kept = memory["alone"]
            for k, (events, end) in enumerate(zip(parts, ends, strict=True)):
                kept[k] = jax.block_until_ready(alone(kept[k], events, end))

        def in_one_call(together=together, memory=memory, batch=batch, ends=ends):
            memory["all"] = jax.block_until_ready(together(memory["all"], batch, ends))

        def fresh(plain_alone=plain_alone, parts=parts, ends=single_ends):
            return [
                jax.block_until_ready(plain_alone(e, end))
                for e, end in zip(parts, ends, strict=True)
            ]

        def fresh_one(plain_together=plain_together, batch=batch, ends=ends):
            return plain_together(batch, ends)

        times = time_interleaved(
            {"posejax": in_one_call, "peer": one_by_one, "new": fresh_one, "new alone": fresh},
            repeats=repeats,
        )
        ours, theirs = times["posejax"], times["peer"]
        pairs = zip(theirs.seconds, ours.seconds, strict=True)
        row = Row(
            f"{windows} windows of {count} events (+ {padding} free) in one vmap",
            1e3 * ours.median,
            1e3 * ours.minimum,
            peer="one window at a time",
            peer_ms=1e3 * theirs.median,
            peer_min_ms=1e3 * theirs.minimum,
            ratio=float(np.median([a / b for a, b in pairs])),
            goal="1/1.3x",
            notes={
                "ns_per_event": round(1e9 * ours.minimum / windows / count, 2),
                "ns_per_event_one_by_one": round(1e9 * theirs.minimum / windows / count, 2),
                "new_memory_ms": round(1e3 * times["new"].minimum, 1),
                "new_memory_one_by_one_ms": round(1e3 * times["new alone"].minimum, 1),
            },
        )
        print(row.line(), row.notes, flush=True)
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(DEFAULT))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=None, help="JSON file")
    options = parser.parse_args(arguments)
    print(HEADER)
    rows = one_window(options.data, options.repeats) + many_windows(options.data, options.repeats)
    peer = "none" if numba is None else f"numba {numba.__version__}"
    write_results("events", rows, options.out, peer=peer)
    return [{"name": r.name, "ms": r.posejax_ms, "ratio": r.ratio, **r.notes} for r in rows]


if __name__ == "__main__":
    main()
