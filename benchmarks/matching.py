"""Matching: correlation and expectation, stereo rows, training-free pairs, robust relative pose.

    python -m benchmarks.matching [correlation] [stereo] [pairs] [pose] [--out FILE]

Peers run in the same process where they can be imported: torch for the correlation, poselib for the
estimators. Real data come from POSEJAX_DATA (../shared/data); what is missing is left out.
"""

import argparse
import importlib
import importlib.util
import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import HEADER, Row, compare, write_results
from posejax.data.images import read_image
from posejax.image import resize
from posejax.matching import (
    Band,
    Rows,
    estimate_fundamental,
    estimate_homography,
    estimate_relative_pose,
    expected_correspondence,
    pose_auc,
    pose_difference,
    relative_pose_errors,
)
from posejax.matching.streaming import cell_centers
from posejax.nn import XFeat, load_state_dict, to_flax, xfeat_table

# Any: the peers are optional and not installed where the types are checked.
torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
poselib: Any = importlib.import_module("poselib") if importlib.util.find_spec("poselib") else None
DATA = Path(os.environ.get("POSEJAX_DATA", Path(__file__).parents[2] / "shared" / "data"))
SEEDS = 5


# --- correlation and expectation ------------------------------------------------------------------


def torch_expectation(a, b):
    """The volume [B, Nb, Ha, Wa], its softmax over B, the mean position: the original's form."""
    batch, channels, height, width = a.shape
    volume = torch.einsum("bci,bcj->bji", a.flatten(2), b.flatten(2)) / channels**0.5
    p = volume.reshape(batch, -1, height, width).softmax(dim=1)
    grid = torch.tensor(np.asarray(cell_centers(b.shape[2:])))
    return torch.einsum("bnhw,nd->bdhw", p, grid)


def correlation(repeats: int) -> list[Row]:
    rows, rng = [], np.random.default_rng(0)
    for shape, gradient in (((60, 80), False), ((96, 128), False), ((96, 128), True)):
        a, b = 1.5 * rng.standard_normal((2, *shape, 64), np.float32)
        searches: dict[str, dict] = {"full": {}}
        if not gradient:
            searches |= {
                "full, refine=2": {"refine": 2},
                "full, both ways": {"reverse": True},
                "rows": {"search": Rows()},
                "band +-1": {"search": Band(1)},
            }
        peer: Any = None
        if torch is not None:
            given = [torch.from_numpy(np.moveaxis(x, -1, 0)[None].copy()) for x in (a, b)]

            def original(given=given, gradient=gradient):
                if not gradient:
                    with torch.no_grad():
                        return torch_expectation(*given)
                leaves = [x.detach().requires_grad_() for x in given]
                torch_expectation(*leaves).square().sum().backward()
                return [x.grad for x in leaves]

            peer = original

        for name, settings in searches.items():

            def run(x, y, settings=settings):
                return expected_correspondence(x, y, **settings)

            def step(x, y, run=run):
                return jax.grad(lambda x, y: jnp.sum(run(x, y).coords ** 2), (0, 1))(x, y)

            if peer is not None and name == "full":
                ours = (step if gradient else run)(a, b)[0]
                theirs = (peer()[0] if gradient else peer())[0].numpy()
                error = np.abs(np.moveaxis(theirs, 0, -1) - ours).max() / np.abs(theirs).max()
                assert error < 1e-4, error
            label = f"{name}, {8 * shape[0]}x{8 * shape[1]}" + (", gradient" if gradient else "")
            volume = 4e-6 * (shape[0] * shape[1]) ** 2
            rows.append(
                compare(
                    label, step if gradient else run, (a, b), peer=peer, peer_name="torch, full",
                    repeats=repeats, goal={"full": "6x"}.get(name, ""), volume_mb=volume,
                )
            )  # fmt: skip
    return rows


# --- real images ----------------------------------------------------------------------------------


def xfeat():
    """Images [H, W, 3] in [0, 1] -> coarse features, with the released weights."""
    model = XFeat(folded=True)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(lambda key, x: model.init(key, x, False), jax.random.key(0), x)
    state = load_state_dict(DATA / "xfeat_weights" / "xfeat_folded.npz")
    variables = to_flax(state, xfeat_table(model), shapes)

    @jax.jit
    def features(image):
        out: Any = model.apply(variables, image[None], False)
        return out.coarse[0]

    return features


def stereo() -> dict[str, Any]:
    """Share of cells within 8 px, by search and expectation."""
    folder = DATA / "stereo_motorcycle"
    features, shape = xfeat(), (480, 736)
    disparity = np.load(folder / "motorcycle_disp.npz")["arr_0"]
    pair = []
    for side in ("left", "right"):
        image = read_image(folder / f"motorcycle_{side}.png").astype(np.float32) / 255
        pair.append(features(resize(image, shape, antialias=False)))
    xy = np.asarray(cell_centers((60, 92))).reshape(60, 92, 2) * 8
    rows = np.clip((xy[..., 1] * 500 / 480).astype(int), 0, 499)
    columns = np.clip((xy[..., 0] * 741 / 736).astype(int), 0, 740)
    truth = disparity[rows, columns] * 736 / 741
    known = np.isfinite(truth)
    target = xy - np.stack([np.where(known, truth, 0), np.zeros_like(truth)], axis=-1)
    known &= target[..., 0] > 0
    found: dict[str, Any] = {"cells": int(known.sum())}
    cases: dict[str, dict] = {
        "full": {},
        "full, refine=2": {"refine": 2},
        "full, refine=1": {"refine": 1},
        "rows": {"search": Rows()},
        "rows, disparity 0..9 cells": {"search": Rows((0, 9))},
        "rows, refine=2": {"search": Rows(), "refine": 2},
        "band +-1, refine=2": {"search": Band(1), "refine": 2},
    }
    for name, settings in cases.items():
        coords = np.asarray(expected_correspondence(*pair, **settings).coords) * 8
        error = np.linalg.norm(coords - target, axis=-1)[known]
        found[name] = {
            "within_8_px": float(np.mean(error < 8)),
            "median_px": float(np.median(error)),
        }
        print(f"{name:32s} {100 * np.mean(error < 8):5.1f} %  {np.median(error):6.2f} px")
    return found


def dense_matches(features, images, most: int = 4096):
    """Mutual, sub-cell matches of two images without training: pixels of each and a count."""
    unit, scales = [], []
    for image in images:
        height, width = image.shape[:2]
        shape = (704, 960) if width >= height else (960, 704)
        f = features(resize(image, shape))
        unit.append(f / jnp.linalg.norm(f, axis=-1, keepdims=True))
        scales.append(8 * np.array([width / shape[1], height / shape[0]]))
    forward, back = expected_correspondence(
        *unit, temperature=0.03, refine=1, reverse=True, block=256
    )
    coords, returned = np.asarray(forward.coords), np.asarray(back.coords)
    cell = np.floor(coords).astype(int)
    there = returned[cell[..., 1], cell[..., 0]]
    home = np.asarray(cell_centers(coords.shape[:2])).reshape(coords.shape)
    error = np.linalg.norm(there - home, axis=-1)
    order = np.argsort(error, axis=None)[:most]
    mutual = error.reshape(-1)[order] < 1.0
    a, b = home.reshape(-1, 2)[order] * scales[0], coords.reshape(-1, 2)[order] * scales[1]
    return a.astype(np.float32), b.astype(np.float32), mutual


def pairs() -> dict[str, Any]:
    """Median error in pixels at annotated points of wide-baseline pairs, for SEEDS seeds."""
    features, results = xfeat(), {}
    for kind, folder in (("F", "magsac_f"), ("H", "magsac_h")):
        table = {}
        for path in sorted((DATA / folder).glob("*.npz")):
            images = [
                read_image(path.with_name(f"{path.stem}_{i}.jpg")).astype(np.float32) / 255
                for i in (0, 1)
            ]
            a, b, mutual = dense_matches(features, images)
            z = np.load(path)
            points = [z[f"pts{i}"] + 0.5 for i in (0, 1)]  # their first centre is at 0
            ours = []
            for seed in range(SEEDS):
                estimate = estimate_fundamental if kind == "F" else estimate_homography
                found = estimate(
                    jax.random.key(seed), a, b, weights=mutual.astype(np.float32),
                    threshold=4.0 if kind == "F" else 8.0, iterations=8192,
                )  # fmt: skip
                ours.append(point_error(kind, np.asarray(found.matrix, np.float64), points))
            entry = {"matches": int(mutual.sum()), "posejax": ours}
            if poselib is not None:
                entry["poselib"] = []
                for seed in range(SEEDS):
                    options = {"max_epipolar_error": 4.0, "max_reproj_error": 8.0}
                    options |= {"max_iterations": 20_000, "seed": seed}
                    solve = poselib.estimate_fundamental
                    solve = solve if kind == "F" else poselib.estimate_homography
                    matrix, _ = solve(a[mutual], b[mutual], options, {})
                    entry["poselib"].append(point_error(kind, np.asarray(matrix), points))
            table[path.stem] = entry
            medians = {k: np.round(np.median(v), 2) for k, v in entry.items() if k != "matches"}
            print(kind, path.stem, entry["matches"], medians, flush=True)
        for who in ("posejax", "poselib"):
            if all(who in e for e in table.values()):
                below = [[np.mean(np.array(e[who]) < t) for e in table.values()] for t in (3, 10)]
                share = [float(np.sum(x)) for x in below]
                results[f"{kind}, {who}: pairs below 3 and 10 px of {len(table)}"] = share
                print(kind, who, "pairs below 3 / 10 px, mean of the seeds:", share)
        results[kind] = table
    return results


def point_error(kind: str, matrix: np.ndarray, points) -> float:
    a, b = (np.c_[p, np.ones(len(p))] for p in points)
    if kind == "H":
        moved = a @ matrix.T
        return float(np.median(np.linalg.norm(moved[:, :2] / moved[:, 2:] - points[1], axis=1)))
    in_b, in_a = a @ matrix.T, b @ matrix
    size = np.sqrt((in_b[:, :2] ** 2).sum(1) + (in_a[:, :2] ** 2).sum(1))
    return float(np.median(np.abs((b * in_b).sum(1)) / np.maximum(size, 1e-12)))


# --- relative pose on real cameras ----------------------------------------------------------------


def synthetic_matches(rng, z, i: int, outliers: float, n: int = 500, noise: float = 1.0):
    """n points seen by both cameras of pair i, with noise and uniform outliers; or None."""
    pose, cameras = z["T_0to1"][i].astype(float), [z[f"K{c}"][i].astype(float) for c in (0, 1)]
    sizes = [z[f"size{c}_wh_original"][i] for c in (0, 1)]
    far = np.exp(rng.uniform(np.log(0.5), np.log(20), 20_000)) * np.linalg.norm(pose[:3, 3]) * 1.5
    xy = rng.uniform([0, 0], sizes[0], (len(far), 2))
    points = np.c_[xy, np.ones(len(far))] @ np.linalg.inv(cameras[0]).T * far[:, None]
    seen = points @ pose[:3, :3].T + pose[:3, 3]
    other = seen @ cameras[1].T
    other = other[:, :2] / other[:, 2:]
    both = (seen[:, 2] > 0) & (other > 0).all(1) & (other < sizes[1]).all(1)
    if both.sum() < n:
        return None
    chosen = rng.choice(np.flatnonzero(both), n, replace=False)
    a, b = (x[chosen] + noise * rng.normal(size=(n, 2)) for x in (xy, other))
    wrong = rng.random(n) < outliers
    b[wrong] = rng.uniform([0, 0], sizes[1], (wrong.sum(), 2))
    return a, b, *cameras, pose, sizes


def pose(count: int = 256) -> dict[str, Any]:
    z = np.load(DATA / "megadepth1500_cameras" / "cameras.npz")
    results = {}
    for outliers, iterations in ((0.5, 2048), (0.8, 16_384)):
        rng = np.random.default_rng(0)
        drawn = (synthetic_matches(rng, z, i, outliers) for i in rng.permutation(1500))
        data = [d for d, _ in zip((d for d in drawn if d is not None), range(count), strict=False)]
        ours, squares, samples, seconds = [], [], [], []
        for j, (a, b, k_a, k_b, truth, _) in enumerate(data):
            given = [x.astype(np.float32) for x in (a, b, k_a, k_b)]
            key = jax.random.fold_in(jax.random.key(0), j)
            if j == 0:  # compiles
                jax.block_until_ready(estimate_relative_pose(key, *given, iterations=iterations))
            start = time.perf_counter()
            found = jax.block_until_ready(
                estimate_relative_pose(key, *given, iterations=iterations)
            )
            seconds.append(time.perf_counter() - start)
            ours.append(np.degrees(max(relative_pose_errors(found.b_from_a, truth))))
            step = np.asarray(pose_difference(found.b_from_a, truth), np.float64)
            covariance = np.asarray(found.covariance, np.float64)
            squares.append(step @ np.linalg.solve(covariance, step))
            samples.append(int(found.samples))
        entry = summary(ours, seconds)
        entry |= {"samples": float(np.mean(samples)), "pairs": len(data)}
        entry["coverage_95"] = float(np.mean(np.array(squares) < 11.07))
        results[f"{outliers:.0%} outliers, posejax"] = entry
        if poselib is not None:
            theirs, seconds = [], []
            for a, b, k_a, k_b, truth, sizes in data:
                cameras = [
                    {"model": "PINHOLE", "width": int(s[0]), "height": int(s[1]),
                     "params": [k[0, 0], k[1, 1], k[0, 2], k[1, 2]]}
                    for k, s in zip((k_a, k_b), sizes, strict=True)
                ]  # fmt: skip
                options = {"max_epipolar_error": 2.0, "max_iterations": iterations}
                start = time.perf_counter()
                found, _ = poselib.estimate_relative_pose(a, b, *cameras, options, {})
                seconds.append(time.perf_counter() - start)
                matrix = np.eye(4)
                matrix[:3, :3], matrix[:3, 3] = found.R, found.t
                theirs.append(np.degrees(max(relative_pose_errors(matrix, truth))))
            results[f"{outliers:.0%} outliers, poselib"] = summary(theirs, seconds)
        for name, values in results.items():
            print(name, values, flush=True)
    return results


def summary(errors, seconds) -> dict[str, Any]:
    auc = 100 * np.asarray(pose_auc(np.array(errors), np.array([5.0, 10, 20])))
    return {
        "auc_5_10_20": [round(float(x), 2) for x in auc],
        "median_deg": float(np.median(errors)),
        "ms_median": 1e3 * float(np.median(seconds)),
        "ms_min": 1e3 * float(np.min(seconds)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = ("correlation", "stereo", "pairs", "pose")
    parser.add_argument("parts", nargs="*", default=[], help=f"some of {', '.join(parts)}")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--count", type=int, default=256, help="image pairs of `pose`")
    parser.add_argument("--out", type=Path, default=None, help="JSON file; one for each part")
    options, _ = parser.parse_known_args()
    for part in options.parts or parts:
        rows, extra = [], {}
        if part == "correlation":
            print(HEADER)
            rows = correlation(options.repeats)
        elif not (DATA / "xfeat_weights").is_dir():
            print(f"{part}: no data under {DATA} (set POSEJAX_DATA)")
            continue
        else:
            run = {"stereo": stereo, "pairs": pairs, "pose": lambda: pose(options.count)}[part]
            extra = {"results": run()}
        write_results(f"matching_{part}", rows, options.out, **extra)


if __name__ == "__main__":
    main()
