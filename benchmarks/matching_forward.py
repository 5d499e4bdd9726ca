"""The whole Tiny RoMa, two images to a warp, beside the same network in PyTorch.

    python -m benchmarks.matching_forward [--sizes 640x480] [--repeats 9] [--out FILE]

The peer is written here from the specification of the released model (exact softmax; its fast form
besides), with the same random weights under the released names, so that the two warps are compared
as well as timed. Without torch only posejax is timed.
"""

import argparse
import importlib
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import HEADER, Row, compare, write_results
from benchmarks.matching_variants import OFFICIAL, shapes
from posejax.nn.folding import fold_batch_norms
from posejax.systems.tinyroma.config import ModelConfig
from posejax.systems.tinyroma.pretrained import to_state_dict
from posejax.systems.tinyroma.system import make_network

# Any: the peer is optional and not installed where the types are checked.
torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
STRIDES = {
    "block1": (1, 2, 1, 2),
    "block2": (1, 1),
    "block3": (2, 1, 1),
    "block4": (2, 1, 1),
    "block5": (2, 1, 1, 1),
    "block_fusion": (1, 1),
}


class Peer:
    """The released model's forward pass on a state dict of 112 tensors, in eager PyTorch."""

    def __init__(self, state: dict[str, np.ndarray], exact: bool = True):
        self.state = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
        self.exact = exact

    def layer(self, x, name: str, stride: int = 1):
        weight = self.state[f"{name}.layer.0.weight"]
        x = F().conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var = (self.state[f"{name}.layer.1.running_{k}"] for k in ("mean", "var"))
        return F().relu(F().batch_norm(x, mean, var, eps=1e-5))

    def last(self, x, name: str, stride: int = 1):
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F().conv2d(x, weight, bias, stride=stride)

    def trunk(self, x):
        def block(x, name):
            for k, stride in enumerate(STRIDES[name]):
                x = self.layer(x, f"xfeat.0.{name}.{k}", stride)
            return x

        x = F().instance_norm(x.mean(1, keepdim=True))
        fine = block(x, "block1") + self.last(F().avg_pool2d(x, 4), "xfeat.0.skip1.1")
        fine = block(fine, "block2")
        x3 = block(fine, "block3")
        x4 = block(x3, "block4")
        x5 = block(x4, "block5")
        x4, x5 = (resized(y, x3.shape[-2:]) for y in (x4, x5))
        return fine, self.last(block(x3 + x4 + x5, "block_fusion"), "xfeat.0.block_fusion.2")

    def expectation(self, a, b):
        (_, c, h1, w1), (height, width) = b.shape, a.shape[-2:]
        volume = torch.einsum("bci,bcj->bji", a.flatten(2), b.flatten(2)) / c**0.5
        if self.exact:
            p = volume.softmax(dim=1)
            return torch.einsum("bji,jd->bdi", p, centers(h1, w1)).reshape(1, 2, height, width)
        best = volume.argmax(dim=1, keepdim=True)
        sparse = volume.reshape(1, h1, w1, -1)[:, ::4, ::4].flatten(1, 2)
        # The released code enters the best cell with its index in place of its score.
        p = torch.cat([sparse, best], dim=1).softmax(dim=1)
        coords = torch.einsum("bji,jd->bdi", p[:, :-1], centers(h1 // 4, w1 // 4))
        coords = coords + p[:, -1:] * centers(h1, w1)[best[:, 0]].permute(0, 2, 1)
        return coords.reshape(1, 2, height, width)

    def matcher(self, a, b, flow, name: str):
        seen = F().grid_sample(b, flow.permute(0, 2, 3, 1), align_corners=False)
        x = torch.cat([a, seen, flow], dim=1)
        for k in range(4):
            x = self.layer(x, f"{name}.{k}")
        return self.last(x, f"{name}.4")

    def __call__(self, image_a, image_b):
        with torch.inference_mode():
            fine, coarse = self.trunk(torch.cat([image_a, image_b]))
            (fine_a, fine_b), (a, b) = fine.split(1), coarse.split(1)
            flow = self.expectation(a, b)
            pixel = torch.tensor([2 / (8 * b.shape[3]), 2 / (8 * b.shape[2]), 1])[:, None, None]
            warp = torch.cat([flow, torch.zeros_like(flow[:, :1])], dim=1)
            warp = warp + pixel * self.matcher(a, b, flow, "coarse_matcher")
            warp = resized(warp, fine_a.shape[-2:])
            return warp + pixel * self.matcher(fine_a, fine_b, warp[:, :2], "fine_matcher")


def F() -> Any:
    return torch.nn.functional


def resized(x, size):
    return F().interpolate(x, size, mode="bilinear", align_corners=False)


def centers(height: int, width: int):
    y, x = (torch.linspace(-1 + 1 / n, 1 - 1 / n, n) for n in (height, width))
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 2)


def variables_for(config: ModelConfig, seed: int = 0) -> Any:
    """Random weights of the sizes that keep activations near one; norms that do nothing."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, x: Any) -> np.ndarray:
        if len(x.shape) < 2:
            return np.full(x.shape, float(path[-1].key == "var"), np.float32)
        scale = np.float32((2 / np.prod(x.shape[:-1])) ** 0.5)
        return scale * rng.standard_normal(x.shape, np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes(make_network(config)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="*", default=["640x480"], help="width x height")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=None)
    options, _ = parser.parse_known_args()
    rows: list[Row] = []
    print(HEADER)
    variables = variables_for(OFFICIAL)
    state = to_state_dict(make_network(OFFICIAL), variables)
    folded = fold_batch_norms(variables)
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        rng = np.random.default_rng(1)
        images = rng.random((2, 1, height, width, 3), np.float32)
        given = [torch.from_numpy(np.moveaxis(x, -1, 1).copy()) for x in images] if torch else []
        for name, mode in (("exact softmax", "exact"), ("official fast", "official_fast")):
            net = make_network(replace(OFFICIAL, mode=mode)).clone(folded=True)

            def run(weights, a, b, net=net):
                out: Any = net.apply(weights, a, b, False)
                return jnp.concatenate([out.fine.flow, out.fine.logit[..., None]], axis=-1)

            peer: Any = Peer(state, mode == "exact") if torch else None
            if peer is not None:
                theirs = np.moveaxis(peer(*given).numpy(), 1, -1)
                apart = np.abs(theirs - np.asarray(jax.jit(run)(folded, *images)))
                # Of random weights a few cells have two best partners, equal to the last bit.
                assert np.quantile(apart, 0.99) < 1e-3, np.quantile(apart, 0.99)
            rows.append(
                compare(
                    f"Tiny RoMa, {name}, {size}", run, (folded, *images),
                    peer=None if peer is None else lambda peer=peer, given=given: peer(*given),
                    peer_name="torch, eager", goal="1x" if mode == "exact" else "",
                    repeats=options.repeats, budget_s=60,
                )
            )  # fmt: skip
    write_results("matching_forward", rows, options.out)


if __name__ == "__main__":
    main()
