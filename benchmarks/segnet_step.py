"""A full training step of bird's-eye segmentation, beside Simple-BEV's recipe in PyTorch.

    python -m benchmarks.segnet_step [--backbone res50 --backbone effb0] [--repeats 3]

One frame of six cameras, 400 x 224 pixels, lifted into 200 x 8 x 200 voxels: forward pass, losses,
gradients, clipping, AdamW. Both sides run in one process on all cores, in turns, from the same
weights on the same frame; their maps and losses are compared before they are timed. posejax draws
the targets within its step, PyTorch is given them. Without torch only posejax is timed.
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import harness
from benchmarks.lift import rig
from posejax.systems.segnet import Augment, GridConfig, InfoFrames, ModelConfig, Segnet
from posejax.systems.segnet.lifting import plan_arrays, voxel_grid
from posejax.systems.segnet.pretrained import to_state_dict
from posejax.train.system import Batch

SIZE, RATE, DECAY, CLIP = (224, 400), 3e-4, 1e-7, 5.0
BOXES = 20


def make_system(backbone: str) -> Segnet:
    nothing = Augment((1.0, 1.0), 0.0, False, flip_images=False, flip_maps=False)
    data = InfoFrames(size=SIZE, grid=GridConfig(lift="plan"), augment=nothing)
    return Segnet(data, ModelConfig(backbone, drop_connect=0.0))  # type: ignore[arg-type]


def frame(system: Segnet) -> tuple[Batch, np.ndarray, np.ndarray]:
    """A frame of noise with boxes; its intrinsics and poses."""
    k, poses, _ = rig()
    k = k * np.array([0.5, 0.5, 1])[:, None]
    rng = np.random.default_rng(0)
    place = rng.uniform(-40, 40, (BOXES, 3)) * [1, 0, 1] + [0, 1, 0]
    boxes = np.tile(np.eye(4), (BOXES, 1, 1))
    boxes[:, :3, :3] = np.array(
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    )  # a box's z points up, the grid's y down
    boxes[:, :3, 3] = place
    examples = {
        "images": rng.integers(0, 256, (1, 6, *SIZE, 3), np.uint8),
        "camera_mask": np.ones((1, 6), bool),
        "intrinsics": k[None].astype(np.float32),
        "camera_from_grid": poses[None].astype(np.float32),
        "box_size": np.tile(np.array([4.5, 1.9, 1.6], np.float32), (1, BOXES, 1)),
        "grid_from_box": boxes[None].astype(np.float32),
        "box_visible": rng.random((1, BOXES)) < 0.9,
        "box_present": np.ones((1, BOXES), bool),
        "index": np.zeros(1, np.int32),
    }
    resident = plan_arrays(system.data, k, poses)
    put = jax.tree.map(jnp.asarray, (examples, resident))
    return Batch(*put), k, poses


def started(system: Segnet, batch: Batch) -> tuple[Any, Any]:
    """Starting values of the usual sizes; spares the compilation of `init`."""
    rng = np.random.default_rng(0)

    def start(path, shape):
        name, size = str(path[-1].key), shape.shape
        if name == "kernel":
            return np.sqrt(2 / np.prod(size[:-1])) * rng.standard_normal(size, np.float32)
        return np.full(size, name in ("scale", "var"), np.float32)

    shapes = jax.eval_shape(system.init, jax.random.key(0), batch)
    return jax.tree_util.tree_map_with_path(start, shapes)


class JaxSide:
    """The system's loss, differentiated, clipped, applied; compiled once."""

    def __init__(self, system: Segnet, batch: Batch, params: Any, state: Any):
        self.system, self.batch = system, batch
        chain = (optax.clip_by_global_norm(CLIP), optax.adamw(RATE, weight_decay=DECAY))
        optimizer = optax.chain(*chain)
        params, state = jax.tree.map(jnp.array, (params, state))
        self.state = (params, state, optimizer.init(params))

        def step(carried, batch):
            params, state, moments = carried

            def loss(p):
                key, progress = jax.random.key(0), jnp.float32(0)
                return system.loss(p, state, batch, key, progress, True)

            (value, out), gradient = jax.value_and_grad(loss, has_aux=True)(params)
            updates, moments = optimizer.update(gradient, moments, params)
            return (optax.apply_updates(params, updates), out.state, moments), value

        before = time.perf_counter()
        self.compiled = jax.jit(step, donate_argnums=0).lower(self.state, batch).compile()
        self.compile_s = time.perf_counter() - before
        analysis = self.compiled.memory_analysis()
        self.memory_mb = None if analysis is None else analysis.temp_size_in_bytes / 1e6

    def step(self) -> float:
        self.state, value = self.compiled(self.state, self.batch)
        return float(value)


class TorchSide:
    """The same step in eager PyTorch, from the same weights."""

    def __init__(self, system: Segnet, batch: Batch, tensors, k, poses):
        from benchmarks.segnet_torch import Network, torch

        self.torch = torch
        grid = voxel_grid(system.data.grid)
        self.network = Network(system.model.backbone, grid, SIZE, k, poses).train()
        self.network.load_state_dict({name: torch.tensor(v) for name, v in tensors.items()})
        images = np.moveaxis(np.asarray(batch.examples["images"][0]), -1, 1).astype(np.float32)
        self.images = torch.tensor(images / 255)
        maps = jax.jit(system.targets)(batch)
        found = (maps.segmentation, maps.valid, maps.center, jnp.moveaxis(maps.offset, -1, 1))
        self.target = tuple(torch.tensor(np.asarray(m)) for m in found)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), RATE, weight_decay=DECAY)

    def step(self) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        value = self.network.loss(self.network(self.images), self.target)
        value.backward()
        self.torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        return value.item()


def measure(backbone: str, repeats: int, budget: float) -> harness.Row:
    """Both sides of one backbone."""
    system = make_system(backbone)
    batch, k, poses = frame(system)
    params, state = started(system, batch)
    tensors = to_state_dict(system.model, params, state)
    ours = JaxSide(system, batch, params, state)
    calls: dict[str, Any] = {"posejax": ours.step}
    notes: dict[str, Any] = {"compile_s": ours.compile_s}
    if importlib.util.find_spec("torch"):
        theirs = TorchSide(system, batch, tensors, k, poses)
        torch = theirs.torch
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        notes |= {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
        first = ours.step(), theirs.step()
        notes["first_losses"] = first
        if abs(first[0] - first[1]) > 2e-3 * abs(first[1]):
            raise ValueError(f"{backbone}: the two sides differ, losses {first}")
        calls["torch"] = theirs.step
    times = harness.time_interleaved(calls, repeats=repeats, budget_s=budget)
    mine = times["posejax"]
    row = harness.Row(
        f"train step, {backbone}, 6 x 224 x 400, 200 x 8 x 200 voxels",
        1e3 * mine.median,
        1e3 * mine.minimum,
        memory_mb=ours.memory_mb,
        goal="1.5x",
        notes=notes,
    )
    if "torch" in times:
        other = times["torch"]
        row.peer, row.peer_ms, row.peer_min_ms = "torch", 1e3 * other.median, 1e3 * other.minimum
        pairs = zip(other.seconds, mine.seconds, strict=True)
        row.ratio = float(np.median([t / o for t, o in pairs]))
    print(row.line(), flush=True)
    return row


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, print, write benchmarks/results/segnet_step.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", action="append", choices=("res50", "effb0"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--budget", type=float, default=300.0, help="seconds a backbone, at most")
    options = parser.parse_args(list(arguments))
    print(harness.HEADER)
    chosen = options.backbone or ["res50", "effb0"]
    rows = [measure(backbone, options.repeats, options.budget) for backbone in chosen]
    harness.write_results("segnet_step", rows)


if __name__ == "__main__":
    main(sys.argv[1:])
