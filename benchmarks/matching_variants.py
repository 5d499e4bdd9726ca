"""Tiny RoMa's variants: parameters, MACs, bytes and milliseconds by size, and accuracy.

    python -m benchmarks.matching_variants [--sizes 320x160 640x320] [--weights FILE] [--run RUN]

Cost is that of the network alone on two images, as the compiler counts it: MACs are half of its
floating-point operations, MB what it reads and writes in all and what comes and goes in memory.
Loops count once, so the counts of full searches leave out blocks; their dense form is stated.
Accuracy, with `--weights`: share of the cells of the rectified motorcycle pair whose coarse warp is
within 8 px. Of Tiny RoMa's 112 tensors that is the coarse matcher's; of XFeat's weights the
expectation's before it, which the fine matcher, the passes and the sampling do not touch. Norm
"batch" then has no statistics yet (mean 0, variance 1), which is norm "none".
With `--run`, a trained run, also AUC@5/10/20 of the pose on pairs of its own split test: the same
weights in every form that they fit. A norm with statistics or another width must be trained so.
"""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import posejax
from benchmarks.harness import Row, time_interleaved, write_results
from benchmarks.motorcycle import DATA, motorcycle
from posejax.nn.folding import fold_batch_norms
from posejax.systems.tinyroma.config import ModelConfig, SearchConfig
from posejax.systems.tinyroma.model import TinyRoma
from posejax.systems.tinyroma.pretrained import load_backbone, load_tiny_roma
from posejax.systems.tinyroma.system import make_network
from posejax.train.system import Batch

OFFICIAL = ModelConfig()
ROWS, BAND = SearchConfig("rows"), SearchConfig("band", rows=1)
NPU = replace(OFFICIAL, fine=False, upsample="transposed", norm="batch")
VARIANTS = {
    "official, exact softmax": OFFICIAL,
    "official fast inference": replace(OFFICIAL, mode="official_fast"),
    "expectation near the best": replace(OFFICIAL, refine=2),
    "no fine, transposed": replace(OFFICIAL, fine=False, upsample="transposed"),
    "norm (x-mean)/std": replace(OFFICIAL, norm="image"),
    "norm batch": replace(OFFICIAL, norm="batch"),
    "norm none": replace(OFFICIAL, norm="none"),
    "gather for grid_sample": replace(OFFICIAL, sampling="gather"),
    "rows only": replace(OFFICIAL, search=ROWS),
    "band +-1": replace(OFFICIAL, search=BAND),
    "coarse twice": replace(OFFICIAL, coarse_passes=2),
    "coarse twice, rows only": replace(OFFICIAL, coarse_passes=2, search=ROWS),
    "trunk x1.5": replace(OFFICIAL, width=1.5),
    "no fine, transposed, batch, rows": replace(NPU, search=ROWS),
}
HEAD = f"{'variant':34s} {'size':>9s} {'params':>10s} {'GMAC':>7s} {'MB moved':>9s} {'MB temp':>8s}"


def shapes(net: TinyRoma) -> Any:
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(lambda key, x: net.init(key, x, x, False), jax.random.key(0), x)


def cost(config: ModelConfig, size: tuple[int, int]) -> tuple[Any, dict[str, float]]:
    """A call of the folded network at (height, width), and what it costs."""
    net = make_network(config)
    rng = np.random.default_rng(0)

    def some(x: Any) -> np.ndarray:  # variances are positive
        drawn = 0.05 * rng.standard_normal(x.shape, np.float32)
        return drawn if len(x.shape) > 1 else np.ones(x.shape, np.float32)

    weights = jax.tree.map(some, shapes(net))
    weights = fold_batch_norms(weights)
    images = [jnp.asarray(rng.random((1, *size, 3), np.float32)) for _ in range(2)]
    folded = net.clone(folded=True)

    def run(weights, a, b):
        out: Any = folded.apply(weights, a, b, False)
        return out.fine

    compiled = jax.jit(run).lower(weights, *images).compile()
    counted: Any = compiled.cost_analysis() or {}
    memory: Any = compiled.memory_analysis()
    return lambda: compiled(weights, *images), {
        "parameters": sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes(net)["params"])),
        "gmac": counted.get("flops", float("nan")) / 2e9,
        "mb_moved": counted.get("bytes accessed", float("nan")) / 1e6,
        "mb_temporary": memory.temp_size_in_bytes / 1e6,
        "mb_full_volume": 4e-6 * (size[0] * size[1] / 64) ** 2,
    }


def costs(names: list[str], sizes: list[tuple[int, int]], repeats: int) -> list[Row]:
    rows: list[Row] = []
    for size in sizes:
        made = {name: cost(VARIANTS[name], size) for name in names}
        calls = {name: call for name, (call, _) in made.items()}
        times = time_interleaved(calls, repeats=repeats, budget_s=120)
        print(f"\n{HEAD} {'min':>7s} {'max':>7s} {'avg':>7s} {'median':>7s} {'95 %':>7s}  ms")
        for name, (_, c) in made.items():
            ms = 1e3 * np.array(times[name].seconds)
            found = [ms.min(), ms.max(), ms.mean(), np.median(ms), np.percentile(ms, 95)]
            text = f"{size[1]}x{size[0]}"
            print(
                f"{name:34s} {text:>9s} {c['parameters']:10,} {c['gmac']:7.2f} "
                f"{c['mb_moved']:9.1f} {c['mb_temporary']:8.1f} "
                + " ".join(f"{x:7.1f}" for x in found),
                flush=True,
            )
            keys = ("min_ms", "max_ms", "avg_ms", "median_ms", "p95_ms")
            notes = {"size_wh": text, **c, **dict(zip(keys, map(float, found), strict=True))}
            memory = c["mb_temporary"]
            rows.append(Row(name, notes["median_ms"], found[0], memory_mb=memory, notes=notes))
    return rows


def accuracy(names: list[str], file: Path) -> dict[str, dict[str, float]]:
    """Of the motorcycle pair at 736x480: share of known cells within 8 px, and the median."""
    images, target, known = motorcycle()
    pair, found = [image[None] for image in images], {}
    for name in names:
        config = VARIANTS[name]
        if config.width != 1:
            continue
        net = make_network(config)
        # Variances start at one: the file has none for the input's norm "batch".
        start = jax.tree_util.tree_map_with_path(
            lambda path, x: np.full(x.shape, float(path[-1].key == "var"), x.dtype), shapes(net)
        )
        trunk_alone = file.is_dir() or "xfeat" in file.name
        load = load_backbone if trunk_alone else load_tiny_roma
        out: Any = jax.jit(lambda v, a, b, net=net: net.apply(v, a, b, False))(
            load(file, net, start), *pair
        )
        flow = out.expected if trunk_alone else out.coarse.flow
        pixels = (np.asarray(flow[0]) + 1) / 2 * np.array(images[0].shape[1::-1])
        error = np.linalg.norm(pixels - target, axis=-1)[known]
        found[name] = {
            "within_8_px": float(np.mean(error < 8)),
            "median_px": float(np.median(error)),
        }
        print(f"{name:34s} {100 * np.mean(error < 8):5.1f} %  {np.median(error):6.2f} px")
    return found


def trained_accuracy(names: list[str], run: str, count: int) -> dict[str, dict[str, float]]:
    """Of the first pairs of a run's split test: AUC of the pose, cells within 3 px, by variant."""
    loaded, predict = posejax.load(run)
    trained: Any = loaded
    source = trained.data.source("test")
    rows = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
    rng = np.random.default_rng(0)
    examples = [trained.data.transform(source[int(i)], rng, False) for i in rows]
    found = {}
    print(
        f"\n{'variant':34s} {'AUC@5':>6s} {'@10':>6s} {'@20':>6s} {'< 3 px':>7s}  {len(rows)} pairs"
    )
    for name in names:
        variant = VARIANTS[name]
        changes = {
            f.name: getattr(variant, f.name)
            for f in fields(ModelConfig)
            if getattr(variant, f.name) != getattr(OFFICIAL, f.name)
        }
        if "width" in changes or changes.get("norm") == "batch":
            continue
        if changes.get("mode") == "official_fast":
            changes["refine"] = None
        system = replace(trained, model=replace(trained.model, **changes))
        score = jax.jit(lambda p, s, batch, of=system: of.metrics(of.predict(p, s, batch), batch))
        records = []
        for example in examples:
            batch = Batch({k: v[None] for k, v in example.items()})
            scores = score(predict.params, predict.state, batch)
            records.append({k: np.asarray(v) for k, v in scores.items()})
        together = {k: np.concatenate([r[k] for r in records]) for k in records[0]}
        summary = system.summarize(together)
        found[name] = {k: float(summary[k]) for k in ("auc5", "auc10", "auc20", "pck3")}
        auc, pck = [100 * found[name][f"auc{t}"] for t in (5, 10, 20)], 100 * found[name]["pck3"]
        print(f"{name:34s} " + " ".join(f"{x:6.1f}" for x in auc) + f" {pck:7.1f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="*", default=["320x160", "640x320"], help="width x height")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--weights", type=Path, default=DATA / "xfeat_weights")
    parser.add_argument("--run", default="", help="trained run of tinyroma")
    parser.add_argument("--pairs", type=int, default=96, help="of the run's split test")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    options, _ = parser.parse_known_args()
    pairs = (s.split("x") for s in options.sizes)
    sizes = [(int(height), int(width)) for width, height in pairs]
    found = {}
    if options.weights.exists() and (DATA / "stereo_motorcycle").is_dir():
        found = accuracy(options.variants, options.weights)
    poses = trained_accuracy(options.variants, options.run, options.pairs) if options.run else {}
    rows = costs(options.variants, sizes, options.repeats)
    write_results("matching_variants", rows, options.out, motorcycle=found, poses=poses)


if __name__ == "__main__":
    main()
