"""What a match is: pose accuracy on simulated pairs of split val, by least cosine and by rank.

    python -m benchmarks.matching_similarity RUN [--pairs 64] [--out FILE]
    python -m benchmarks.matching_similarity RUN --cosines 0.7 0.82 --count 512 --share 0.5 \\
        --ranks similarity probability

For XFeat's features and those of a trained run of tinyroma: mutual cells at one size, own estimate
at 2 px. What `matching_sets` takes on real pairs (`TRAINED_SIMILARITY`) is chosen here.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

import posejax
from benchmarks.harness import write_results
from benchmarks.matching_sets import XFEAT
from posejax.geometry import normalize
from posejax.matching import estimate_relative_pose, pose_auc, relative_pose_errors
from posejax.matching.mutual import Rank, mutual_cells
from posejax.systems.tinyroma.inference import coarse_features
from posejax.systems.tinyroma.training_free import xfeat_features

COSINES = (0.5, 0.6, 0.7, 0.76, 0.82, 0.88)
LIMITS = np.array([5, 10, 20], np.float32)


def accuracy(
    features: Any, examples: list[dict[str, Any]], least: float, rank: Rank, count: int
) -> tuple[float, Any]:
    """Mean number of matches, AUC@5/10/20."""
    errors, counts = [], []
    for example in examples:
        a, b = (
            normalize(features(jnp.asarray(example[k], jnp.float32) / 255))
            for k in ("image_a", "image_b")
        )
        cells = mutual_cells(a, b, count=count, min_similarity=least, rank=rank)
        found = estimate_relative_pose(
            jax.random.key(0), 8 * cells.xy_a, 8 * cells.xy_b, example["K_a"], example["K_b"],
            weights=cells.weights, threshold=2.0, iterations=2048,
        )  # fmt: skip
        off = max(relative_pose_errors(np.asarray(found.b_from_a), example["b_from_a"]))
        errors.append(np.degrees(off) if found.valid else 90.0)
        counts.append(int((cells.weights > 0).sum()))
    return float(np.mean(counts)), 100 * np.asarray(pose_auc(np.array(errors, np.float32), LIMITS))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", default="", help="trained run of tinyroma")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--cosines", type=float, nargs="+", default=COSINES)
    parser.add_argument("--ranks", nargs="+", choices=get_args(Rank), default=["similarity"])
    parser.add_argument("--count", type=int, default=1280, help="matches of a pair, at most")
    parser.add_argument("--share", type=float, default=1.0, help="of the trained weights")
    parser.add_argument("--out", type=Path, default=None)
    options, _ = parser.parse_known_args()
    if not (options.run and XFEAT.is_file()):
        print("needs a run and XFeat's weights under POSEJAX_DATA")
        return
    system, predict = posejax.load(options.run)
    data: Any = system.data
    pairs = data.parts[0] if hasattr(data, "parts") else data
    source, rng = pairs.source("val"), np.random.default_rng(0)
    rows = np.linspace(0, len(source) - 1, options.pairs).astype(int)
    examples = [pairs.transform(source[int(i)], rng, False) for i in rows]
    found: dict[str, Any] = {}
    trained = coarse_features(predict, options.share)
    for name, features in (("XFeat", xfeat_features(XFEAT)), ("trained", trained)):
        for least, rank in itertools.product(options.cosines, options.ranks):
            count, auc = accuracy(features, examples, least, rank, options.count)
            text = "/".join(f"{x:.1f}" for x in auc)
            about = f"{name:8s} cosine {least:.2f}  {rank:11s}  {count:6.1f} matches"
            print(f"{about}  AUC@5/10/20 {text}", flush=True)
            entry = f"{name}, {least}" + (f", {rank}" if rank != "similarity" else "")
            found[entry] = {"matches": count, "auc_5_10_20": auc.tolist()}
    write_results("matching_similarity", [], options.out, cosines=found)


if __name__ == "__main__":
    main()
