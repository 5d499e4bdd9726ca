"""Res16UNet34C on a real RGB-D frame beside spconv's CPU build and a PyTorch recipe.

    python -m benchmarks.sparse [--repeats 5] [--out FILE]

20,000 points of a 7-Scenes frame (`POSEJAX_DATA`; without it, of a made-up room) at 2 cm: 10,379
voxels in five levels. All sides make the kernel maps from the voxels' coordinates and run the
network on the same weights, in one process, in turns, in float32; with the gradient, batch norms
take the batch's statistics and the gradient of all weights is asked for. Results are compared
before they are timed: gradients at biases so large that no rectifier switches. Those that switch by
a rounding error set the recipe's float32 gradients 1 % apart from its own in float64; with none,
it is 1.5e-5. The recipe (index_select, product, index_add_) searches sorted 64-bit keys. spconv's
CPU build has a gradient once its question for a CUDA stream is answered by zero. It is right with
one thread only: with two, results are off by 0.05 to 0.17, by another amount each time; both are
timed. Where torch or spconv is not installed, its rows are left out.
"""

import argparse
import functools
import importlib.util
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import HEADER, Row, time_interleaved, write_results
from benchmarks.sparse_peers import GatherScatter, Spconv, network, torch
from posejax.data.images import read_image
from posejax.nn import SparseUNet, from_flax, sparse_unet_table
from posejax.sparse import level_capacities, make_maps, unique_voxels, voxelize

VOXEL = 0.02
PARTS = ("forward", "gradient", "stages")
OPEN = 8.0  # standard deviations: a bias that keeps every rectifier open
FOLDER = Path(os.environ.get("POSEJAX_DATA", "../shared/data")) / "sevenscenes_rgbd"


def frame_points(index: int = 0) -> tuple[np.ndarray, np.ndarray, str]:
    """Points [N, 3] in the world and colours [N, 3] of a frame, and where they come from."""
    if not FOLDER.is_dir():
        rng = np.random.default_rng(1)
        walls = rng.uniform(0, 2.2, (3, 90_000, 3))
        walls[np.arange(3), :, np.arange(3)] = rng.normal(0, 0.01, (3, 90_000))
        return walls.reshape(-1, 3), rng.random((270_000, 3)), "three walls, made up"
    name = FOLDER / f"frame-{index:06d}"
    depth = read_image(f"{name}.depth.png", modes=("I;16",)).astype(np.float64) / 1000
    color = read_image(f"{name}.color.jpg", modes=("RGB",)).reshape(-1, 3) / 255.0
    world_from_camera = np.loadtxt(f"{name}.pose.txt")
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]]
    points = np.stack([(u - 320) / 585 * depth, (v - 240) / 585 * depth, depth], -1).reshape(-1, 3)
    there = (depth.reshape(-1) > 0) & (depth.reshape(-1) < 10)
    points = points[there] @ world_from_camera[:3, :3].T + world_from_camera[:3, 3]
    return points, color[there], f"7-Scenes, frame {index}"


def sample(points: np.ndarray, colors: np.ndarray, count: int = 20_000):
    """The reference's choice of points: `default_rng(0)`, without replacement."""
    chosen = np.random.default_rng(0).choice(len(points), count, replace=False)
    return points[chosen], colors[chosen]


def made_up_weights(model: SparseUNet, maps, features, bias: float = 0.0) -> dict[str, Any]:
    shapes = jax.eval_shape(lambda k: model.init(k, features, maps, False), jax.random.key(0))
    rng = np.random.default_rng(0)

    def start(path, shape):
        x = rng.standard_normal(shape.shape, np.float32)
        match path[-1].key:
            case "kernel":
                return x / np.float32(np.sqrt(np.prod(shape.shape[:-1]) / 3))
            case "scale" | "var":
                return np.float32(1) + np.float32(0.1) * np.abs(x)
            case "bias":
                return np.float32(bias) + np.float32(0.1) * x
        return np.float32(0.1) * x

    return jax.tree_util.tree_map_with_path(start, shapes)


def peers(weights, coords, features, cotangent):
    """{peer: (forward, forward and gradient)}; each call makes its own maps."""
    if torch is None:
        return {}
    cores = os.cpu_count() or 1
    weights = {k: torch.from_numpy(np.array(v)).requires_grad_(True) for k, v in weights.items()}
    leaves = {k: v for k, v in weights.items() if "running" not in k}
    x, c, pull = (torch.from_numpy(np.array(a)) for a in (features, coords, cotangent))
    # A margin for neighbours, and halved four times without a rest: spconv cuts off what is beyond.
    size = tuple(int(n) // 16 * 16 + 32 for n in coords[:, 1:].max(0))
    layers: dict[str, Any] = {}

    def with_spconv():
        return Spconv(weights, layers)

    def with_recipe():
        return GatherScatter(weights, c, size)

    makers: dict[str, Any] = {"torch recipe": (with_recipe, cores)}
    if importlib.util.find_spec("spconv"):
        layers.update(Spconv.build(weights))
        makers |= {"spconv": (with_spconv, 1), f"spconv, {cores} threads": (with_spconv, cores)}

    def calls(make, threads):
        def run(train: bool):
            torch.set_num_threads(threads)
            ops = make()
            return ops.finish(network(ops, ops.start(x, c, size), train))

        def forward():
            with torch.no_grad():
                return run(False)

        def both():
            # spconv's layers hold their kernels themselves.
            held = {k: v.weight for k, v in layers.items()} if make is with_spconv else {}
            y = run(True)
            names, inputs = zip(*{**leaves, **held}.items(), strict=True)
            grads = torch.autograd.grad((y * pull).sum(), inputs, allow_unused=True)
            return y.detach(), dict(zip(names, grads, strict=True))

        return forward, both

    return {name: calls(*how) for name, how in makers.items()}


def deviation(mine, theirs) -> float:
    """Largest difference, in units of the largest value."""
    mine, theirs = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
    return float(np.abs(mine - theirs).max() / np.abs(theirs).max())


def gradient_deviation(mine: dict[str, np.ndarray], theirs: dict[str, Any]) -> float:
    """Length of the difference over all weights, in units of the gradient's."""
    apart = size = 0.0
    for name, value in mine.items():
        other = theirs[name].numpy()
        if other.ndim == 5:  # spconv's [out, x, y, z, in]
            other = other.transpose(3, 2, 1, 4, 0).reshape(value.shape)
        apart += float(np.sum((value - other.astype(np.float64)) ** 2))
        size += float(np.sum(other.astype(np.float64) ** 2))
    return float(np.sqrt(apart / size))


def run(parts: Sequence[str], repeats: int, budget_s: float) -> tuple[list[Row], dict[str, Any]]:
    points, colors, source = frame_points()
    points, colors = sample(points, colors)
    index = np.floor(points / VOXEL).astype(np.int32)
    index -= index.min(0) // 16 * 16  # spconv counts from 0; coarser voxels stay the same
    coords = np.unique(index, axis=0)
    coords = np.concatenate([np.zeros_like(coords[:, :1]), coords], 1)
    count, capacity = len(coords), 12288
    capacities = level_capacities(capacity)
    rng = np.random.default_rng(2)
    features = rng.standard_normal((count, 3), np.float32)
    cotangent = rng.standard_normal((count, 96), np.float32)

    def padded(a):
        return jnp.asarray(np.pad(a, ((0, capacity - count), (0, 0))))

    here = jnp.arange(capacity) < count
    model = SparseUNet()
    arrays = padded(coords), padded(features)

    def maps_of(coords):
        return make_maps(unique_voxels(coords, here, capacity=capacity), capacities=capacities)

    @jax.jit
    def forward(variables, coords, features):
        return cast(Any, model.apply(variables, features, maps_of(coords), False)).features

    @jax.jit
    def both(variables, coords, features, pull):
        maps = maps_of(coords)

        def loss(params):
            changed = variables | {"params": params}
            out: Any = model.apply(changed, features, maps, True, mutable=["batch_stats"])[0]
            return jnp.sum(out.features * pull), out.features

        (_, y), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return y, grads

    maps = jax.jit(maps_of)(arrays[0])
    variables = made_up_weights(model, maps, arrays[1])
    table = sparse_unet_table(model)
    others = peers(from_flax(variables, table), coords, features, cotangent)
    opened = made_up_weights(model, maps, arrays[1], OPEN)
    judges = peers(from_flax(opened, table), coords, features, cotangent)
    device, opened = jax.device_put((variables, opened))
    pull = padded(cotangent)
    candidates = {
        "forward": ("kernel maps + forward", forward, (device, *arrays)),
        "gradient": ("kernel maps + forward + gradient", both, (device, *arrays, pull)),
    }
    programs, seconds = {}, {}
    for which, part in enumerate(("forward", "gradient")):
        if part in parts:
            name, function, inputs = candidates[part]
            start = time.process_time()
            programs[name] = (function.lower(*inputs).compile(), inputs, which)
            seconds[f"{part}_compile_cpu_s"] = time.process_time() - start
    extra = {
        "cloud": source,
        "voxels": np.asarray(maps.needed).tolist(),
        "capacities": [capacity, *capacities],
        "pairs": [int(m.counts.sum()) for m in maps.same],
        **seconds,
    }
    rows = []
    print(HEADER)
    for name, (compiled, inputs, which) in programs.items():
        ours = functools.partial(compiled, *inputs)
        notes: dict[str, Any] = {"scatters": str(compiled.as_text()).count("scatter")}
        result = jax.device_get(ours())
        compared = jax.device_get(compiled(opened, *inputs[1:])) if which else result
        for peer, pair in (judges if which else others).items():
            theirs = pair[which]()
            if which:
                mine = from_flax({**variables, "params": compared[1]}, table)
                mine = {k: v for k, v in mine.items() if "running" not in k}
                notes[f"{peer}: output"] = deviation(compared[0][:count], theirs[0].numpy())
                notes[f"{peer}: gradients"] = gradient_deviation(mine, theirs[1])
            else:
                notes[f"{peer}: output"] = deviation(compared[:count], theirs.numpy())
        again = jax.device_get(ours())
        notes["equal_bits"] = all(
            np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(result), jax.tree.leaves(again), strict=True)
        )
        functions = {"posejax": ours, **{p: pair[which] for p, pair in others.items()}}
        times = time_interleaved(functions, repeats=repeats, budget_s=budget_s)
        mine = times.pop("posejax")
        for peer, timing in {**times, **({} if times else {"": None})}.items():
            row = Row(name, 1e3 * mine.median, 1e3 * mine.minimum, notes=notes, goal="2x")
            row.memory_mb = compiled.memory_analysis().temp_size_in_bytes / 1e6
            if timing is not None:
                row.peer, row.peer_ms = peer, 1e3 * timing.median
                row.peer_min_ms = 1e3 * timing.minimum
                pairs = zip(timing.seconds, mine.seconds, strict=True)
                row.ratio = statistics.median(t / o for t, o in pairs)
            print(row.line(), peer, notes, flush=True)
            rows.append(row)
    return rows, extra


def stages(repeats: int) -> list[Row]:
    """Voxelisation and kernel maps alone, of the sampled frame."""
    points, colors = sample(*frame_points()[:2])
    capacity = 12288
    capacities = level_capacities(capacity)
    points, colors = jnp.asarray(points, jnp.float32), jnp.asarray(colors, jnp.float32)

    def voxels():
        return voxelize(points, colors, voxel_size=VOXEL, capacity=capacity)

    level = voxels().level
    calls = {"voxelize": voxels, "kernel maps": lambda: make_maps(level, capacities=capacities)}
    times = time_interleaved(calls, repeats=repeats)
    rows = [Row(name, 1e3 * t.median, 1e3 * t.minimum) for name, t in times.items()]
    for row in rows:
        print(row.line())
    return rows


def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds for each row")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args(argv)
    rows, extra = run(args.parts, args.repeats, args.budget)
    if "stages" in args.parts:
        rows += stages(20)
    write_results("sparse", rows, args.out, **extra)
    return rows


if __name__ == "__main__":
    main()
