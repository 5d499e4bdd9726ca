"""Matching: correlation and expectation, robust relative pose on real cameras.

    python -m benchmarks.matching [correlation] [pose] [--out FILE]

Peers run in the same process where they can be imported: torch for the correlation, poselib for the
estimator. The cameras come from POSEJAX_DATA (../shared/data); without them `pose` is left out. For
real images see `matching_sets`.
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
from scipy import stats

from benchmarks.harness import HEADER, Row, compare, compile_with_memory, write_results
from posejax.matching import (
    Band,
    Rows,
    estimate_relative_pose,
    expected_correspondence,
    pose_auc,
    pose_difference,
    relative_pose_errors,
)
from posejax.matching.streaming import cell_centers

# Any: the peers are optional and not installed where the types are checked.
torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
poselib: Any = importlib.import_module("poselib") if importlib.util.find_spec("poselib") else None
DATA = Path(os.environ.get("POSEJAX_DATA", Path(__file__).parents[2] / "shared" / "data"))


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
        # On the device, as the peer's: what is measured is the search, not the way there.
        a, b = jax.device_put(tuple(1.5 * rng.standard_normal((2, *shape, 64), np.float32)))
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
            given = [
                torch.from_numpy(np.moveaxis(np.asarray(x), -1, 0)[None].copy()) for x in (a, b)
            ]

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
            if name == "rows":
                whole, _ = compile_with_memory(expected_correspondence, a, b)
                rows.append(
                    compare(
                        label, run, (a, b), peer=whole, peer_name="posejax, full",
                        repeats=5 * repeats, goal="30x",
                    )
                )  # fmt: skip
            rows.append(
                compare(
                    label, step if gradient else run, (a, b), peer=peer, peer_name="torch, full",
                    repeats=repeats, goal={"full": "6x"}.get(name, ""), volume_mb=volume,
                )
            )  # fmt: skip
    return rows


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


def pose(count: int = 256, seed: int = 11) -> dict[str, Any]:
    """Errors, coverage of the ellipsoids and time, both estimators in turn on the same pairs."""
    z = np.load(DATA / "megadepth1500_cameras" / "cameras.npz")
    results = {}
    for outliers, iterations in ((0.0, 2048), (0.5, 2048), (0.8, 16_384)):
        rng = np.random.default_rng(seed)
        drawn = (synthetic_matches(rng, z, i, outliers) for i in rng.permutation(1500))
        data = [d for d, _ in zip((d for d in drawn if d is not None), range(count), strict=False)]
        ours, theirs, squares, samples = [], [], [], []
        seconds: list[list[float]] = [[], []]
        for j, (a, b, k_a, k_b, truth, sizes) in enumerate(data):
            given = [x.astype(np.float32) for x in (a, b, k_a, k_b)]
            key = jax.random.fold_in(jax.random.key(seed), j)
            if j == 0:  # compiles
                jax.block_until_ready(estimate_relative_pose(key, *given, iterations=iterations))
            start = time.perf_counter()
            found = jax.block_until_ready(
                estimate_relative_pose(key, *given, iterations=iterations)
            )
            seconds[0].append(time.perf_counter() - start)
            ours.append(np.degrees(max(relative_pose_errors(found.b_from_a, truth))))
            step = np.asarray(pose_difference(found.b_from_a, truth), np.float64)
            covariance = np.asarray(found.covariance, np.float64)
            squares.append(step @ np.linalg.solve(covariance, step))
            samples.append(int(found.samples))
            if poselib is not None:
                cameras = [
                    {"model": "PINHOLE", "width": int(s[0]), "height": int(s[1]),
                     "params": [k[0, 0], k[1, 1], k[0, 2], k[1, 2]]}
                    for k, s in zip((k_a, k_b), sizes, strict=True)
                ]  # fmt: skip
                options = {"max_epipolar_error": 2.0, "max_iterations": iterations}
                start = time.perf_counter()
                other, _ = poselib.estimate_relative_pose(a, b, *cameras, options, {})
                seconds[1].append(time.perf_counter() - start)
                matrix = np.eye(4)
                matrix[:3, :3], matrix[:3, 3] = other.R, other.t
                theirs.append(np.degrees(max(relative_pose_errors(matrix, truth))))
        entry = summary(ours, seconds[0])
        entry |= {"samples": float(np.mean(samples)), "pairs": len(data), "seed": seed}
        entry |= coverage(np.array(squares))
        if theirs:
            entry["time_ratio_median"] = float(np.median(np.divide(seconds[0], seconds[1])))
            results[f"{outliers:.0%} outliers, poselib"] = summary(theirs, seconds[1])
        results[f"{outliers:.0%} outliers, posejax"] = entry
        for name in [n for n in results if n.startswith(f"{outliers:.0%}")]:
            print(name, results[name], flush=True)
    return results


def coverage(squares: np.ndarray) -> dict[str, Any]:
    """Share of the truths within the ellipsoids, and the 95 % binomial interval of the 95 % ones.

    Squares below zero, of a covariance that is none, count as misses.
    """
    found: dict[str, Any] = {}
    for level in (50, 75, 90, 95, 99):
        hits = (squares >= 0) & (squares < stats.chi2.ppf(level / 100, 5))
        found[f"coverage_{level}"] = float(np.mean(hits))
        if level == 95:
            interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci()
            found["coverage_95_interval"] = [float(interval.low), float(interval.high)]
    return found


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
    parts = ("correlation", "pose")
    parser.add_argument("parts", nargs="*", default=[], help=f"some of {', '.join(parts)}")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--count", type=int, default=256, help="image pairs of `pose`")
    parser.add_argument("--seed", type=int, default=11, help="of the pairs of `pose`")
    parser.add_argument("--out", type=Path, default=None, help="JSON file; one for each part")
    options, _ = parser.parse_known_args()
    for part in options.parts or parts:
        rows, extra = [], {}
        if part == "correlation":
            print(HEADER)
            rows = correlation(options.repeats)
        elif not (DATA / "megadepth1500_cameras").is_dir():
            print(f"{part}: no data under {DATA} (set POSEJAX_DATA)")
            continue
        else:
            extra = {"results": pose(options.count, options.seed)}
        write_results(f"matching_{part}", rows, options.out, **extra)


if __name__ == "__main__":
    main()
