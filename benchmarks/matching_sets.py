"""Matching on real pairs with ground truth: pose, fundamental matrix, homography, stereo.

    python -m benchmarks.matching_sets [scannet] [magsac_f] [magsac_h] [stereo] [--weights RUN]

Methods: `xfeat`, published features without training at one size; `xfeat, views`, the same with a
search over sizes and quarter turns; where --weights names a run folder or weights file of
tinyroma, `tinyroma, NAME, HxW`, its matches at one size, and `tinyroma, NAME, views`, the search
with its trained features. With --share S these are S parts of the trained weights and 1 - S of
those that the training started from (`coarse_features`); --rank says which mutual matches come
first (`mutual_cells`). Other weights need another NAME, all that tells their results apart.
PoseLib solves the same matches where it can be imported. Each number is the mean over five seeds of
the robust estimate. Results are kept after every pair, and pairs that are there are not run again.
"""

import argparse
import functools
import importlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

import posejax
from benchmarks.harness import RESULTS, machine
from benchmarks.motorcycle import DATA, by_search
from posejax.data.files import read_json, whole
from posejax.data.images import read_image, resize_image
from posejax.matching import (
    bootstrap_auc,
    estimate_fundamental,
    estimate_homography,
    estimate_relative_pose,
    relative_pose_errors,
)
from posejax.matching.mutual import MIN_SIMILARITY, Rank
from posejax.matching.views import VIEWS, Features, View, search_views
from posejax.report.text import markdown_table
from posejax.systems.tinyroma.inference import coarse_features
from posejax.systems.tinyroma.training_free import xfeat_features

# Any: the peer is optional and not installed where the types are checked.
poselib: Any = importlib.import_module("poselib") if importlib.util.find_spec("poselib") else None
XFEAT = DATA / "xfeat_weights" / "xfeat_folded.npz"
SEEDS = 5
# Pixels of the images as stored.
THRESHOLD = {"F": 3.0, "H": 6.0, "pose": 2.0}
ITERATIONS = dict.fromkeys(THRESHOLD, 20_000)  # as PoseLib
# Cosines are lower after training: 0.82 loses half of the matches (see `matching_similarity`).
TRAINED_SIMILARITY = 0.7
LOOK = 1024  # samples of an estimate in the search over views


# --- the sets -------------------------------------------------------------------------------------


def annotated(kind: str, folder: str):
    """(name, images, truth) with points [n, 2] of both images; the first pixel's centre is 0.5."""
    for path in sorted((DATA / folder).glob("*.npz")):
        images = [read_image(path.with_name(f"{path.stem}_{i}.jpg"), convert="RGB") for i in (0, 1)]
        z = np.load(path)
        yield path.stem, images, {"kind": kind, "points": [z[f"pts{i}"] + 0.5 for i in (0, 1)]}


def scannet():
    folder = DATA / "scannet_pairs"
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # the file's first centre is at 0
    for pair in json.loads((folder / "pairs.json").read_text()):
        images = [read_image(folder / pair[k], convert="RGB") for k in ("image0", "image1")]
        cameras = [np.array(pair[k]) + half for k in ("K0", "K1")]
        truth = {"kind": "pose", "cameras": cameras, "b_from_a": np.array(pair["T_0to1"])}
        yield f"{pair['image0'][5:12]}, {pair['rotation_deg']:.0f} deg", images, truth


SETS = {
    "scannet": scannet,
    "magsac_f": lambda: annotated("F", "magsac_f"),
    "magsac_h": lambda: annotated("H", "magsac_h"),
}


# --- estimates and their errors -------------------------------------------------------------------


def ours(truth: dict[str, Any], iterations: int | None = None) -> Callable[..., Any]:
    """The robust estimate that a set asks for: (key, xy_a, xy_b, weights) -> estimate."""
    kind = truth["kind"]
    options = {"threshold": THRESHOLD[kind], "iterations": iterations or ITERATIONS[kind]}
    if kind == "pose":
        cameras = [jnp.asarray(k, jnp.float32) for k in truth["cameras"]]
        return lambda key, a, b, w: estimate_relative_pose(
            key, a, b, *cameras, weights=w, **options
        )
    solve = estimate_fundamental if kind == "F" else estimate_homography
    return lambda key, a, b, w: solve(key, a, b, weights=w, **options)


def theirs(truth: dict[str, Any], seed: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """PoseLib's model of the same matches."""
    kind = truth["kind"]
    limit = "max_reproj_error" if kind == "H" else "max_epipolar_error"
    options = {limit: THRESHOLD[kind], "max_iterations": 20_000, "seed": seed}
    if kind != "pose":
        solve = poselib.estimate_fundamental if kind == "F" else poselib.estimate_homography
        return np.asarray(solve(a, b, options, {})[0])
    cameras = [
        {"model": "PINHOLE", "width": 640, "height": 480,
         "params": [k[0, 0], k[1, 1], k[0, 2], k[1, 2]]}
        for k in truth["cameras"]
    ]  # fmt: skip
    found, _ = poselib.estimate_relative_pose(a, b, *cameras, options, {})
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = found.R, found.t
    return matrix


def error(truth: dict[str, Any], model: np.ndarray) -> float:
    """Degrees of a pose; median distance in pixels at the annotated points of a matrix."""
    if truth["kind"] == "pose":
        return float(np.degrees(max(relative_pose_errors(model, truth["b_from_a"]))))
    a, b = (np.c_[p, np.ones(len(p))] for p in truth["points"])
    if truth["kind"] == "H":
        moved = a @ model.T
        moved = moved[:, :2] / moved[:, 2:]
        return float(np.median(np.linalg.norm(moved - truth["points"][1], axis=1)))
    in_b, in_a = a @ model.T, b @ model
    size = np.sqrt((in_b[:, :2] ** 2).sum(1) + (in_a[:, :2] ** 2).sum(1))
    return float(np.median(np.abs((b * in_b).sum(1)) / np.maximum(size, 1e-12)))


def scores(truth: dict[str, Any], matches: tuple) -> dict[str, Any]:
    """Errors of both estimators for every seed, failures as 90 degrees or infinity."""
    a, b, weights = (np.asarray(x, np.float32) for x in matches)
    lost = 90.0 if truth["kind"] == "pose" else float("inf")
    estimate, entry = ours(truth), {"matches": int((weights > 0).sum()), "posejax": []}
    for seed in range(SEEDS):
        found = estimate(jax.random.key(seed), a, b, weights)
        model = found.b_from_a if truth["kind"] == "pose" else found.matrix
        worth = error(truth, np.asarray(model, np.float64)) if found.valid else lost
        entry["posejax"].append(worth)
        entry.setdefault("inliers", []).append(int(found.inliers.sum()))
    if poselib is not None:
        kept = weights > 0
        entry["poselib"] = [
            error(truth, theirs(truth, seed, a[kept], b[kept])) for seed in range(SEEDS)
        ]
    return entry


# --- the methods ----------------------------------------------------------------------------------


def by_features(
    features: Features,
    views: tuple[View, ...],
    least: float = MIN_SIMILARITY,
    rank: Rank = "similarity",
):
    """Mutual cells of features: (images, truth) -> (xy_a, xy_b, weights), and the view."""

    def match(images, truth):
        a, b = (x.astype(np.float32) / 255 for x in images)
        found = search_views(
            jax.random.key(0), features, a, b, ours(truth, LOOK), views=views,
            min_similarity=least, rank=rank,
        )  # fmt: skip
        about = {"view": list(found.view), "inliers_by_view": list(found.inliers)}
        return found.matches, about if len(views) > 1 else {}

    return match


def by_tinyroma(source: str, size: tuple[int, int]):
    """Matches of a trained system, at one size."""
    _, predict = posejax.load(source)

    def match(images, truth):
        del truth
        pair = {
            f"image_{k}": resize_image(x, size)[None] for k, x in zip("ab", images, strict=True)
        }
        out = predict(pair)
        back = [np.array(x.shape[1::-1]) / size[::-1] for x in images]
        a, b = (np.asarray(out[f"matches_{k}"][0]) * s for k, s in zip("ab", back, strict=True))
        return (a, b, np.asarray(out["weights"][0])), {}

    return match


def trained_makers(
    source: str, size: tuple[int, int], share: float, rank: Rank
) -> dict[str, Callable[[], Any]]:
    """Methods of a trained system, under names that are not those of others."""

    def by_views():
        features = coarse_features(posejax.load(source)[1], share)
        return by_features(features, VIEWS, TRAINED_SIMILARITY, rank)

    name = f"tinyroma, {Path(source).resolve().name}"
    part = f", share {share:g}" if share != 1 else ""
    return {f"{name}, {size[0]}x{size[1]}": lambda: by_tinyroma(source, size),
            f"{name}, views{part}{suffix(rank)}": by_views}  # fmt: skip


def suffix(rank: Rank) -> str:
    return "" if rank == "similarity" else f", {rank}"


# --- tables ---------------------------------------------------------------------------------------


def summary(kind: str, pairs: dict[str, Any], who: str) -> dict[str, Any]:
    """What a set says about one estimator: AUC with interval, or pairs below 3 and 10 pixels."""
    errors = np.array([entry[who] for entry in pairs.values()])
    if kind == "pose":
        limits = np.array([5.0, 10, 20], np.float32)
        auc = bootstrap_auc(jax.random.key(0), errors.astype(np.float32), limits)
        value, low, high = (100 * np.asarray(x) for x in auc)
        return {
            f"AUC@{t:g}": f"{v:.1f} ({lo:.1f} to {hi:.1f})"
            for t, v, lo, hi in zip(limits, value, low, high, strict=True)
        }
    return {f"< {t} px": f"{np.mean(errors < t, axis=1).sum():.1f}" for t in (3, 10)}


def table(name: str, results: dict[str, Any]) -> str:
    kind = {"magsac_f": "F", "magsac_h": "H"}.get(name, "pose")
    rows = []
    for method, pairs in results.items():
        for who in ("posejax", "poselib"):
            if pairs and all(who in entry for entry in pairs.values()):
                numbers = summary(kind, pairs, who)
                rows.append({"method": method, "estimator": who, "pairs": len(pairs), **numbers})
    return markdown_table(list(rows[0]), [list(r.values()) for r in rows]) if rows else "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=[], help=", ".join([*SETS, "stereo"]))
    parser.add_argument("--weights", default="", help="run folder or weights file of tinyroma")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"))
    parser.add_argument("--methods", nargs="*", default=["xfeat", "xfeat, views"])
    parser.add_argument("--rank", choices=get_args(Rank), default="similarity")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=RESULTS / "matching_sets.json")
    options, _ = parser.parse_known_args()
    if not XFEAT.is_file():
        print(f"no data under {DATA} (set POSEJAX_DATA)")
        return
    published = {"xfeat": (View(),), "xfeat, views": VIEWS}
    makers: dict[str, Callable[[], Any]] = {
        name + suffix(options.rank): functools.partial(
            lambda views: by_features(xfeat_features(XFEAT), views, rank=options.rank), views
        )
        for name, views in published.items()
    }
    methods = [name + suffix(options.rank) for name in options.methods]
    if options.weights:
        trained = trained_makers(options.weights, tuple(options.size), options.share, options.rank)
        makers, methods = makers | trained, [*methods, *trained]
    results = read_json(options.out)["results"] if options.out.is_file() else {}

    def keep() -> None:
        about = {"benchmark": "matching_sets", "machine": machine(), "thresholds_px": THRESHOLD}
        with whole(options.out) as temporary:
            temporary.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")

    for part in options.parts or [*SETS, "stereo"]:
        if part == "stereo":
            results["stereo"] = by_search(xfeat_features(XFEAT))
            keep()
            continue
        of_set = results.setdefault(part, {})
        for method in methods:
            match, done = makers[method](), of_set.setdefault(method, {})
            for name, images, truth in SETS[part]():
                if name in done:
                    continue
                matches, about = match(images, truth)
                done[name] = scores(truth, matches) | about
                keep()
                shown = {
                    k: np.round(done[name][k], 2) for k in ("posejax", "poselib") if k in done[name]
                }
                print(
                    part, method, name, done[name]["matches"], shown, about.get("view"), flush=True
                )
        print(table(part, of_set), flush=True)


if __name__ == "__main__":
    main()
