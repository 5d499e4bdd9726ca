"""Registration cost functions, forward + gradient, against their PyTorch formulation.

    python -m benchmarks.registration [--batch 2] [--repeats 5] [--out FILE]

The peer is the fast PyTorch form of each function: translation by one grouped convolution with the
online rasters as kernels, orientation by one affine_grid + grid_sample of all rotations. It runs in
the same process if torch can be imported; without torch only the posejax columns are filled.
"""

import argparse
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import HEADER, Row, compare, write_results
from posejax.registration import orientation_cost, pose_volume, translation_cost

# Any: the peer is optional and not installed where the types are checked.
torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None

SIZE, CHANNELS = 150, 16


def with_gradient(cost):
    """sum over the batch of logsumexp(cost): value and both gradients."""

    def loss(online, geo):
        values = jax.vmap(cost)(online, geo)
        return jax.nn.logsumexp(values.reshape(len(values), -1) * 1e-3, axis=1).sum()

    return jax.value_and_grad(loss, (0, 1))


def torch_loss(cost, online, geo, gradient: bool):
    """The same in PyTorch, as a call without arguments. Arrays come in channels first."""

    def forward():
        with torch.no_grad():
            return cost(online, geo)

    def both():
        a, b = online.detach().requires_grad_(), geo.detach().requires_grad_()
        torch.logsumexp(cost(a, b).flatten(1) * 1e-3, 1).sum().backward()
        return a.grad, b.grad

    return both if gradient else forward


def torch_translation(radius: int):
    def cost(online, geo):
        batch, channels, height, width = online.shape
        padded = torch.nn.functional.pad(geo, (radius,) * 4)
        image = padded.reshape(1, batch * channels, height + 2 * radius, width + 2 * radius)
        return torch.nn.functional.conv2d(image, online, groups=batch)[0]

    return cost


def torch_orientation(angles: np.ndarray):
    cos, sin = np.cos(-angles), np.sin(-angles)  # grid_sample turns the other way
    rows = [np.stack([cos, -sin, 0 * cos], 1), np.stack([sin, cos, 0 * cos], 1)]
    theta = torch.tensor(np.stack(rows, 1), dtype=torch.float32)

    def cost(online, geo):
        batch, count = online.shape[0], len(theta)
        matrices = theta.repeat(batch, 1, 1)
        many, target = (x.repeat_interleave(count, 0) for x in (online, geo))
        grid = torch.nn.functional.affine_grid(matrices, list(many.shape), align_corners=False)
        turned = torch.nn.functional.grid_sample(many, grid, mode="bilinear", align_corners=False)
        return (turned * target).sum((1, 2, 3)).view(batch, count)

    return cost


def check_equal(ours, theirs) -> None:
    """The two sides of a row must compute the same numbers."""
    for a, b in zip(jax.tree.leaves(ours), theirs, strict=True):
        b = b.detach().numpy()
        b = np.moveaxis(b, 1, -1) if b.ndim == 4 else b
        np.testing.assert_allclose(np.asarray(a), b, atol=2e-4 * np.abs(b).max())


def run(batch: int, repeats: int, budget_s: float) -> list[Row]:
    rng = np.random.default_rng(0)
    online, geo = rng.standard_normal((2, batch, SIZE, SIZE, CHANNELS), np.float32)
    arrays = jnp.asarray(online), jnp.asarray(geo)
    first = (
        None
        if torch is None
        else [torch.from_numpy(np.moveaxis(a, -1, 1).copy()) for a in (online, geo)]
    )
    label = f"{CHANNELS}x{SIZE}x{SIZE} batch {batch}"
    rows = []
    print(HEADER)

    def row(name, cost, torch_cost, gradient, goal):
        function = with_gradient(cost) if gradient else jax.vmap(cost)
        peer = None
        if first is not None:
            peer = torch_loss(torch_cost(), first[0], first[1], gradient)
            ours = function(*arrays)
            theirs = peer()
            check_equal(ours[1] if gradient else ours, theirs if gradient else (theirs,))
        rows.append(
            compare(
                f"{name}, {label}",
                function,
                arrays,
                peer=peer,
                peer_name="torch",
                goal=goal,
                repeats=repeats,
                budget_s=budget_s,
            )
        )

    for radius, goal in ((4, "30x"), (16, "150x")):

        def translation(a, b, radius=radius):
            return translation_cost(a, b, radius)

        def peer(radius=radius):
            return torch_translation(radius)

        row(f"translation_cost r={radius} forward", translation, peer, False, "")
        row(f"translation_cost r={radius} forward+gradient", translation, peer, True, goal)

    angles = np.deg2rad(np.arange(-10.0, 11.0)).astype(np.float32)

    def orientation(a, b):
        return orientation_cost(a, b, jnp.asarray(angles))

    def turning():
        return torch_orientation(angles)

    row("orientation_cost 21 angles forward", orientation, turning, False, "8x")
    row("orientation_cost 21 angles forward+gradient", orientation, turning, True, "2x, aim 4x")
    return rows + run_volume(repeats, budget_s)


def run_volume(repeats: int, budget_s: float) -> list[Row]:
    rng = np.random.default_rng(1)
    rows = []
    cases: tuple[tuple[int, int, dict[str, Any], str], ...] = (
        (2, 32, {}, "< 500 MB"),
        (2, 32, {"remat": True, "yaw_chunk": 4}, ""),
        (1, 21, {}, "< 150 ms"),
        (1, 21, {"score": "zncc"}, ""),
        (1, 21, {"score": "zncc", "channels": "joint"}, ""),
    )
    for batch, count, options, goal in cases:
        online = jnp.asarray(rng.standard_normal((batch, 128, 128, 8), np.float32))
        geo = jnp.asarray(rng.standard_normal((batch, 168, 168, 8), np.float32))
        angles = jnp.deg2rad(jnp.linspace(-10, 10, count))

        def volume(a, b, angles=angles, options=options):
            return pose_volume(a, b, angles, 20, **options)

        words = " ".join(f"{k}={v}" for k, v in options.items()) or "dot"
        rows.append(
            compare(
                f"pose_volume {count}x41x41 batch {batch}, {words}, forward+gradient"[:58],
                with_gradient(volume),
                (online, geo),
                goal=goal,
                repeats=repeats,
                budget_s=budget_s,
                options=options,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=2, help="examples (the peer is slow)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds per row, at most")
    parser.add_argument("--out", type=Path, default=None, help="JSON file")
    options = parser.parse_args()
    rows = run(options.batch, options.repeats, options.budget)
    peer = "none" if torch is None else f"torch {torch.__version__}"
    write_results("registration", rows, options.out, peer=peer, batch=options.batch)


if __name__ == "__main__":
    main()
