"""Lifting six cameras into a bird's-eye volume, beside the original's recipe in PyTorch.

    python -m benchmarks.lift [--channels 128] [--repeats 5] [--out FILE]

The recipe is Simple-BEV's, as published: every camera is sampled at every voxel (six grid_sample of
the whole volume), invalid voxels are zeroed, and the mean runs over the values that are not zero.
It runs in the same process, on the same features, in turns; its numbers are compared before they
are timed (in its own convention of sampling, `compat="simple_bev"`, and in the exact one). Without
torch only posejax is timed. Peak memory is the growth of the process's resident memory over one
call in a fresh process each, arguments and results included.

The rig is nuScenes' (the sample's calibration where `POSEJAX_DATA` has it, else six cameras of the
same kind), 448x800 images at stride 8, 200x8x200 voxels.
"""

import argparse
import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import HEADER, Row, compare, write_results
from posejax.bev import VoxelGrid, lift, lift_dynamic, make_lift_plan

# Any: the peer is optional and not installed where the types are checked.
torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None

IMAGE, FEATURES = (448, 800), (56, 100)
GRID = VoxelGrid()
SAMPLE = Path(os.environ.get("POSEJAX_DATA", "../shared/data")) / "nuscenes_sample" / "infos.json"


def rig() -> tuple[np.ndarray, np.ndarray, str]:
    """Intrinsics [6, 3, 3] at 448x800, camera_from_grid [6, 4, 4], and where they come from."""
    scale = np.array([800 / 1600, 448 / 900, 1])[:, None]
    if SAMPLE.is_file():
        images = json.loads(SAMPLE.read_text())["data_list"][0]["images"]
        k = np.stack([np.array(v["cam2img"]) * scale for v in images.values()])
        poses = np.stack([np.array(v["cam2ego"]) for v in images.values()])
        reference = list(images).index("CAM_FRONT")
        source = "the nuScenes sample"
    else:
        yaws = np.deg2rad([0, -55, 55, 180, 110, -110])
        c, s, zero = np.cos(yaws), np.sin(yaws), np.zeros(6)
        columns = [np.stack(v, 1) for v in ((s, -c, zero), (zero, zero, zero - 1), (c, s, zero))]
        poses = np.tile(np.eye(4), (6, 1, 1))
        poses[:, :3, :3] = np.stack(columns, axis=2)
        poses[:, :3, 3] = np.stack([c, s * 0.5, zero + 1.5], axis=1)
        focal = np.where(np.arange(6) == 3, 809.0, 1260.0)
        k = np.stack([np.array([[f, 0, 800], [0, f, 450], [0, 0, 1]]) * scale for f in focal])
        reference, source = 0, "six cameras like nuScenes'"
    k[:, :2, 2] += 0.5
    return k, np.linalg.inv(poses) @ poses[reference], source


def recipe(k: np.ndarray, poses: np.ndarray, exact: bool):
    """The original's lift, features [6, C, h, w] -> [C, Z, Y, X]."""
    f32 = torch.float32
    points = torch.tensor(GRID.centers().reshape(-1, 3), dtype=f32)
    scale = np.array([FEATURES[1] / IMAGE[1], FEATURES[0] / IMAGE[0], 1])[:, None]
    if exact:
        k = k * scale
        k[:, :2, 2] -= 0.5
    else:
        k = k - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        k = k * scale
    matrices = torch.tensor(k @ poses[:, :3], dtype=f32)
    height, width = FEATURES

    def run(features):
        cameras = len(features)
        ones = torch.ones_like(points[:, :1])
        pixels = torch.cat([points, ones], 1) @ matrices.transpose(1, 2)
        z = pixels[..., 2]
        x, y = (pixels[..., i] / z.clamp(min=1e-6) for i in (0, 1))
        valid = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5) & (z > 0)
        if exact:
            grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
        else:
            grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
        grid = torch.cat([grid, torch.zeros_like(grid[..., :1])], -1)
        # One layer of depth: the original samples a volume one voxel deep.
        sampled = torch.nn.functional.grid_sample(
            features[:, :, None], grid.reshape(cameras, *GRID.shape, 3), align_corners=False
        )
        volumes = sampled * valid.reshape(cameras, 1, *GRID.shape)
        mask = (volumes.abs() > 0).float()
        return (volumes * mask).sum(0) / (1e-6 + mask.sum(0))

    return run


def ours(features, plan):
    return lift(features, plan)


def with_gradient(features, plan, cotangent):
    volume, pull = jax.vjp(lambda f: lift(f, plan), features)
    return volume, pull(cotangent)[0]


def arrays(channels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((6, *FEATURES, channels), np.float32)
    return features, rng.standard_normal((*GRID.shape, channels), np.float32)


def torch_calls(k, poses, features, cotangent, exact: bool):
    """(forward, forward + gradient) as calls without arguments, and features channels first."""
    run = recipe(k, poses, exact)
    first = torch.from_numpy(np.moveaxis(features, -1, 1).copy())
    pulled = torch.from_numpy(np.moveaxis(cotangent, -1, 0).copy())

    def forward():
        with torch.no_grad():
            return run(first)

    def both():
        leaf = first.detach().requires_grad_()
        volume = run(leaf)
        volume.backward(pulled)
        return volume.detach(), leaf.grad

    return forward, both


def check_equal(name: str, mine, theirs, axis: int) -> dict[str, float]:
    """How far a result is from the recipe's, relative to the largest value.

    The recipe projects in float32. Where a sample falls on the last pixel's edge, that decides
    whether a camera counts at all: a few values of millions differ by what a camera shows.
    """
    theirs = np.moveaxis(theirs.numpy(), axis, -1)
    error = np.abs(np.asarray(mine) - theirs) / np.abs(theirs).max()
    off = error > 1e-4
    if off.mean() > 1e-5:
        raise AssertionError(f"{name}: {off.sum()} values of {off.size} differ from the recipe's")
    return {"largest": float(error.max()), "share_beyond_1e-4": float(off.mean())}


def run(channels: int, repeats: int, budget_s: float) -> tuple[list[Row], dict[str, Any]]:
    k, poses, source = rig()
    settings: Any = dict(grid=GRID, image_size=IMAGE, feature_size=FEATURES)
    features, cotangent = arrays(channels)
    x, pulled = jnp.asarray(features), jnp.asarray(cotangent)
    rows = []
    print(HEADER)
    for compat in (None, "simple_bev"):
        plan = make_lift_plan(k, poses, compat=compat, **settings)
        notes: dict[str, Any] = {"pairs": plan.pairs, "max_cameras": plan.max_cameras}
        peers: tuple = (None, None)
        if torch is not None:
            peers = torch_calls(k, poses, features, cotangent, compat is None)
            volume, gradient = jax.jit(with_gradient)(x, plan, pulled)
            expected, expected_gradient = peers[1]()
            notes["forward_error"] = check_equal("the volume", volume, expected, 0)
            notes["gradient_error"] = check_equal("the gradient", gradient, expected_gradient, 1)
            del volume, gradient, expected, expected_gradient
        label = "exact" if compat is None else compat
        for name, function, args, peer, goal in (
            ("forward", ours, (x, plan), peers[0], "40x"),
            ("forward+gradient", with_gradient, (x, plan, pulled), peers[1], "8x"),
        ):
            rows.append(
                compare(
                    f"lift {label}, {name}",
                    function,
                    args,
                    peer=peer,
                    peer_name="torch recipe",
                    goal=goal if compat is None else "",
                    repeats=repeats,
                    budget_s=budget_s,
                    **notes,
                )
            )

    def dynamic(f, k, poses):
        return lift_dynamic(f, k, poses, grid=GRID, image_size=IMAGE)

    rows.append(compare("lift_dynamic exact, forward", dynamic, (x, k, poses), repeats=repeats))
    return rows, {"rig": source, "channels": channels}


def measure_peak(side: str, channels: int) -> None:
    """Print by how many MB resident memory grew over one forward and backward pass."""
    k, poses, _ = rig()
    features, cotangent = arrays(channels)
    if side == "posejax":
        plan = make_lift_plan(k, poses, grid=GRID, image_size=IMAGE, feature_size=FEATURES)
        args = (jnp.asarray(features), plan, jnp.asarray(cotangent))
        compiled = jax.jit(with_gradient).lower(*args).compile()

        def call():
            return jax.block_until_ready(compiled(*args))
    else:
        call = torch_calls(k, poses, features, cotangent, False)[1]
    now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = call()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # A peak before the call would hide a part of the call's own.
    print(json.dumps({"mb": (peak - now) / 1e6, "hidden_mb": max(before - now, 0) / 1e6}))
    del result


def peaks(channels: int) -> dict[str, Any]:
    """Growth of resident memory on both sides, each in a fresh process."""
    found = {}
    for side in ("posejax", "torch") if torch is not None else ("posejax",):
        command = [sys.executable, "-m", "benchmarks.lift", "--peak", side]
        command += ["--channels", str(channels)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[side] = json.loads(done.stdout.splitlines()[-1])
    print("peak memory of forward+gradient:", found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds per row, at most")
    parser.add_argument("--out", type=Path, default=None, help="JSON file")
    parser.add_argument("--peak", choices=("posejax", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        measure_peak(options.peak, options.channels)
        return
    memory = peaks(options.channels)
    rows, about = run(options.channels, options.repeats, options.budget)
    peer = "none" if torch is None else f"torch {torch.__version__}"
    write_results("lift", rows, options.out, peer=peer, peak_memory=memory, **about)


if __name__ == "__main__":
    main()
