"""Full training step of the event-camera pose network: posejax against PyTorch on the same CPU.

python -m benchmarks.event_step [--batch 16] [--size 256] [--repeats 5]

EfficientNet-B0 on 10-channel 256x256 grids, mean-pooled features, a linear head for translation and
6D rotation, smooth-L1 plus rotation loss, AdamW. Both sides start from the same weights (through
the name table) and must give the same outputs and, step for step, the same losses. PyTorch runs
eagerly in its default layout and in its faster channels-last layout. Without PyTorch only posejax
is timed.
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import harness
from posejax.nn import EfficientNet, efficientnet_table, from_flax
from posejax.nn.efficientnet import STAGES

CHANNELS, OUTPUTS, RATE, DECAY = 10, 9, 1e-4, 1e-4
MODEL = EfficientNet("b0", classes=OUTPUTS)


def example_batch(batch: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sparse grids, translations and rotation matrices; any numbers do, equal ones for both."""
    rng = np.random.default_rng(0)
    grid = rng.poisson(0.2, (batch, size, size, CHANNELS)).astype(np.float32)
    translation = rng.standard_normal((batch, 3)).astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((batch, 3, 3)))[0].astype(np.float32)
    return grid, translation, rotation


def initial_variables(size: int) -> dict[str, Any]:
    x = jnp.zeros((1, size, size, CHANNELS))
    return jax.jit(lambda key: MODEL.init(key, x, False))(jax.random.key(0))


def jax_loss(out, translation, rotation):
    """Smooth-L1 of the translation plus the chordal distance of the rotations."""
    error = jnp.abs(out[:, :3] - translation)
    position = jnp.mean(jnp.where(error < 1, 0.5 * error**2, error - 0.5))
    first = out[:, 3:6] / jnp.sqrt(jnp.sum(out[:, 3:6] ** 2, -1, keepdims=True) + 1e-12)
    second = out[:, 6:] - first * jnp.sum(first * out[:, 6:], -1, keepdims=True)
    second = second / jnp.sqrt(jnp.sum(second**2, -1, keepdims=True) + 1e-12)
    columns = jnp.stack([first, second, jnp.cross(first, second)], -1)
    return position + jnp.mean(jnp.sum((columns - rotation) ** 2, (1, 2)))


class JaxSide:
    """The compiled step and its state; `step()` returns the loss."""

    def __init__(self, variables, batch, dtype=None):
        self.model, self.batch = MODEL.clone(dtype=dtype), [jnp.asarray(a) for a in batch]
        optimizer = optax.adamw(RATE, weight_decay=DECAY)
        params, stats = jax.tree.map(jnp.array, (variables["params"], variables["batch_stats"]))
        self.state = (params, stats, optimizer.init(params))

        def loss(params, stats, grid, translation, rotation):
            out, updated = self.model.apply(
                {"params": params, "batch_stats": stats}, grid, True, mutable=["batch_stats"]
            )
            logits = out.logits.astype(jnp.float32)
            return jax_loss(logits, translation, rotation), updated["batch_stats"]

        def step(state, *batch):
            params, stats, moments = state
            (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params, stats, *batch)
            updates, moments = optimizer.update(gradient, moments, params)
            return (optax.apply_updates(params, updates), stats, moments), value

        before = time.perf_counter()
        self.compiled = jax.jit(step, donate_argnums=0).lower(self.state, *self.batch).compile()
        self.compile_s = time.perf_counter() - before
        analysis = self.compiled.memory_analysis()
        self.memory_mb = None if analysis is None else analysis.temp_size_in_bytes / 1e6

    def step(self) -> float:
        self.state, value = self.compiled(self.state, *self.batch)
        return float(value)

    def outputs(self) -> np.ndarray:
        params, stats, _ = self.state
        run = jax.jit(partial(self.model.apply, train=False))
        found: Any = run({"params": params, "batch_stats": stats}, self.batch[0])
        return np.asarray(found.logits)


def torch_network(torch) -> Any:
    """EfficientNet-B0 in eager PyTorch with timm's names, so that the name table fits."""
    nn = torch.nn

    class Squeeze(nn.Module):
        def __init__(self, channels, reduced):
            super().__init__()
            self.conv_reduce = nn.Conv2d(channels, reduced, 1)
            self.conv_expand = nn.Conv2d(reduced, channels, 1)

        def forward(self, x):
            gate = nn.functional.silu(self.conv_reduce(x.mean((2, 3), keepdim=True)))
            return x * self.conv_expand(gate).sigmoid()

    class Block(nn.Module):
        def __init__(self, inputs, outputs, kernel, stride, expand):
            super().__init__()
            middle, self.shortcut = inputs * expand, stride == 1 and inputs == outputs
            plan = [("conv_pw", inputs, middle, 1, 1)] if expand > 1 else []
            plan.append(("conv_dw", middle, middle, kernel, stride))
            plan.append(("conv_pwl" if expand > 1 else "conv_pw", middle, outputs, 1, 1))
            for i, (name, before, after, k, s) in enumerate(plan, start=1):
                groups = middle if name == "conv_dw" else 1
                conv = nn.Conv2d(before, after, k, s, k // 2, groups=groups, bias=False)
                self.add_module(name, conv)
                self.add_module(f"bn{i}", nn.BatchNorm2d(after))
            self.se, self.names = Squeeze(middle, inputs // 4), [p[0] for p in plan]

        def forward(self, x):
            y = x
            for i, name in enumerate(self.names, start=1):
                last = i == len(self.names)
                y = self.se(y) if last else y
                y = getattr(self, f"bn{i}")(getattr(self, name)(y))
                y = y if last else nn.functional.silu(y, inplace=True)
            return x + y if self.shortcut else y

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv_stem = nn.Conv2d(CHANNELS, 32, 3, 2, 1, bias=False)
            self.bn1, stages, width = nn.BatchNorm2d(32), [], 32
            for s in STAGES:
                blocks = []
                for i in range(s.blocks):
                    stride = s.stride if i == 0 else 1
                    blocks.append(Block(width, s.channels, s.kernel, stride, s.expand))
                    width = s.channels
                stages.append(nn.Sequential(*blocks))
            self.blocks = nn.Sequential(*stages)
            self.conv_head = nn.Conv2d(width, 1280, 1, bias=False)
            self.bn2, self.classifier = nn.BatchNorm2d(1280), nn.Linear(1280, OUTPUTS)

        def forward(self, x):
            x = self.blocks(nn.functional.silu(self.bn1(self.conv_stem(x)), inplace=True))
            x = nn.functional.silu(self.bn2(self.conv_head(x)), inplace=True)
            return self.classifier(x.mean((2, 3)))

    return Network()


class TorchSide:
    """The same step in eager PyTorch."""

    def __init__(self, torch, variables, batch, channels_last: bool):
        self.torch, self.network = torch, torch_network(torch)
        state = from_flax(variables, efficientnet_table(MODEL))
        state = {k: torch.tensor(v) for k, v in state.items()}
        missing = self.network.load_state_dict(state, strict=False)
        if missing.unexpected_keys or not all("num_batches" in k for k in missing.missing_keys):
            raise ValueError(f"the two networks differ: {missing}")
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = self.network.to(memory_format=layout).train()
        grid = torch.tensor(batch[0]).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        self.batch = (grid, torch.tensor(batch[1]), torch.tensor(batch[2]))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), RATE, weight_decay=DECAY)

    def loss(self, out, translation, rotation):
        torch = self.torch
        position = torch.nn.functional.smooth_l1_loss(out[:, :3], translation)
        first = out[:, 3:6] / (out[:, 3:6].square().sum(-1, keepdim=True) + 1e-12).sqrt()
        second = out[:, 6:] - first * (first * out[:, 6:]).sum(-1, keepdim=True)
        second = second / (second.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        columns = torch.stack([first, second, torch.linalg.cross(first, second)], -1)
        return position + (columns - rotation).square().sum((1, 2)).mean()

    def step(self) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        value = self.loss(self.network(self.batch[0]), *self.batch[1:])
        value.backward()
        self.optimizer.step()
        return value.item()

    def outputs(self) -> np.ndarray:
        self.network.eval()
        with self.torch.no_grad():
            out = self.network(self.batch[0]).numpy()
        self.network.train()
        return out


def check_equal(ours: JaxSide, theirs: TorchSide, steps: int = 2) -> dict[str, float]:
    """Largest difference of outputs and losses of the first steps; refuses different nets."""
    outputs = float(np.max(np.abs(ours.outputs() - theirs.outputs())))
    losses = max(abs(ours.step() - theirs.step()) for _ in range(steps))
    if outputs > 1e-4 or losses > 1e-3:
        raise ValueError(f"the two sides differ: outputs by {outputs:.2g}, losses by {losses:.2g}")
    return {"output_difference": outputs, "loss_difference": losses}


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Measure, print, write benchmarks/results/event_step.json; the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=300.0, help="seconds")
    options = parser.parse_args(list(arguments))
    variables, batch = initial_variables(options.size), example_batch(options.batch, options.size)
    ours = JaxSide(variables, batch)
    calls: dict[str, Callable[[], float]] = {"posejax": ours.step}
    notes: dict[str, Any] = {"compile_s": ours.compile_s, "batch": options.batch}
    if importlib.util.find_spec("torch"):
        import torch  # pyright: ignore[reportMissingImports]  # the peer, where it is installed

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        notes |= {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
        for name, channels_last in (("torch", False), ("torch channels-last", True)):
            theirs = TorchSide(torch, variables, batch, channels_last)
            if not channels_last:
                notes |= check_equal(ours, theirs)
            calls[name] = theirs.step
    times = harness.time_interleaved(calls, repeats=options.repeats, budget_s=options.budget)
    rows = [row(name, times, ours.memory_mb, notes) for name in list(calls)[1:] or [""]]
    print(harness.HEADER)
    for each in rows:
        print(each.line())
    harness.write_results("event_step", rows)
    return [{"name": r.name} | {k: v for k, v in asdict(r).items() if k != "notes"} for r in rows]


def row(peer: str, times, memory_mb, notes) -> harness.Row:
    """posejax against one peer (or nobody)."""
    mine = times["posejax"]
    found = harness.Row(
        "train step, EfficientNet-B0, 10 channels",
        1e3 * mine.median,
        1e3 * mine.minimum,
        memory_mb=memory_mb,
        goal="ratio >= 1",
        notes=notes,
    )
    if peer:
        found.peer, other = peer, times[peer]
        found.peer_ms, found.peer_min_ms = 1e3 * other.median, 1e3 * other.minimum
        pairs = zip(other.seconds, mine.seconds, strict=True)
        found.ratio = float(np.median([t / o for t, o in pairs]))
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
