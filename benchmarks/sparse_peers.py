"""Res16UNet34C twice more, for benchmarks.sparse: in spconv, and as gather-scatter in PyTorch.

Both read the state dict under MinkowskiEngine's names, on the CPU, in eager mode.
"""

import importlib
import importlib.util
import itertools
from typing import Any

import numpy as np

# Any: the peers are optional and not installed where the types are checked.
torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
WIDTHS = (32, 64, 128, 256, 256, 128, 96, 96)
BLOCKS = (2, 3, 4, 6, 2, 2, 2, 2)


def network(ops, x, train: bool):
    """The network in terms of `ops`: conv, norm, relu, add, cat, linear; names as in the table."""

    def step(conv, norm, x, kind, level):
        return ops.relu(ops.norm(ops.conv(x, f"{conv}.kernel", kind, level), f"{norm}.bn", train))

    def units(stage, x, level):
        for i in range(BLOCKS[stage]):
            name = f"block{stage + 1}.{i}"
            y = step(f"{name}.conv1", f"{name}.norm1", x, "same", level)
            y = ops.conv(y, f"{name}.conv2.kernel", "same", level)
            y = ops.norm(y, f"{name}.norm2.bn", train)
            if f"{name}.downsample.0.kernel" in ops.weights:
                x = ops.linear(x, f"{name}.downsample.0.kernel")
                x = ops.norm(x, f"{name}.downsample.1.bn", train)
            x = ops.relu(ops.add(x, y))
        return x

    x = step("conv0p1s1", "bn0", x, "stem", 0)
    skips = [x]
    for i in range(4):
        x = step(f"conv{i + 1}p{2**i}s2", f"bn{i + 1}", x, "down", i)
        x = units(i, x, i + 1)
        skips.append(x)
    for stage in range(4, 8):
        level = 7 - stage
        x = step(f"convtr{stage}p{2 ** (8 - stage)}s2", f"bntr{stage}", x, "up", level)
        x = units(stage, ops.cat(x, skips[level]), level)
    return x


def norm(x, weights, name, train):
    w = weights
    return torch.nn.functional.batch_norm(
        x,
        w[f"{name}.running_mean"].detach().clone(),
        w[f"{name}.running_var"].detach().clone(),
        w[f"{name}.weight"],
        w[f"{name}.bias"],
        train,
    )


def cube(size: int) -> np.ndarray:
    """[size^3, 3] offsets, x fastest."""
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1)
    return grid.transpose(2, 1, 0, 3).reshape(-1, 3) - (size // 2 if size % 2 else 0)


class GatherScatter:
    """The usual recipe: index_select, matrix product, index_add_, offset by offset."""

    def __init__(self, weights, coords, size):
        """Levels and kernel maps, by sorting and searching 64-bit keys; coords [N, 4] sorted."""
        self.weights = weights
        x, y, z = size
        self.radix = torch.tensor([x * y * z, y * z, z, 1])
        levels = [coords.long()]
        for _ in range(4):
            parents = levels[-1] // torch.tensor([1, 2, 2, 2])
            levels.append(self.coords(torch.unique(self.keys(parents))))
        keys = [self.keys(c) for c in levels]
        self.counts = [len(c) for c in levels]
        self.maps = {("stem", 0): self.pairs(levels[0], keys[0], cube(5))}
        for i, level in enumerate(levels):
            self.maps["same", i] = self.pairs(level, keys[i], cube(3))
        for i, (fine, coarse) in enumerate(itertools.pairwise(keys)):
            del fine
            twice = levels[i + 1] * torch.tensor([1, 2, 2, 2])
            down = self.pairs(twice, keys[i], cube(2))
            self.maps["down", i] = down
            self.maps["up", i] = [(o, i) for i, o in down]
            del coarse

    def keys(self, coords):
        return (coords * self.radix).sum(1)

    def coords(self, keys):
        parts = []
        for radix in self.radix.tolist():
            parts.append(keys // radix)
            keys = keys % radix
        return torch.stack(parts, 1)

    def pairs(self, coords, keys, offsets):
        found = []
        for offset in offsets.tolist():
            wanted = self.keys(coords + torch.tensor([0, *offset]))
            row = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
            out = torch.nonzero(keys[row] == wanted).flatten()
            found.append((row[out], out))
        return found

    def conv(self, x, name, kind, level):
        rows = {"down": level + 1}.get(kind, level)
        out = x.new_zeros(self.counts[rows], self.weights[name].shape[-1])
        for (i, o), kernel in zip(self.maps[kind, level], self.weights[name], strict=True):
            if len(i):
                out = out.index_add_(0, o, x.index_select(0, i) @ kernel)
        return out

    def norm(self, x, name, train):
        return norm(x, self.weights, name, train)

    def linear(self, x, name):
        return x @ self.weights[name]

    def relu(self, x):
        return torch.relu(x)

    def add(self, x, y):
        return x + y

    def cat(self, x, y):
        return torch.cat([x, y], 1)

    def start(self, features, coords, size):
        del coords, size
        return features

    def finish(self, x):
        return x


class Spconv:
    """spconv's CPU build, native algorithm; kernel maps are made by its layers, once per key."""

    def __init__(self, weights, layers):
        self.weights, self.layers = weights, layers

    @staticmethod
    def build(weights) -> dict[str, Any]:
        """Layers with our weights: [K, in, out], x fastest, to [out, x, y, z, in]."""
        import spconv.pytorch as spconv  # pyright: ignore[reportMissingImports]
        from spconv.pytorch import ops  # pyright: ignore[reportMissingImports]

        # The CPU build asks for a CUDA stream in its gradient, and does not use it.
        ops.get_current_stream = lambda: 0
        layers = {}
        for name, value in weights.items():
            if not name.endswith(".kernel") or value.ndim != 3:
                continue
            k, cin, cout = value.shape
            edge = round(k ** (1 / 3))
            head = name.split(".")[0]
            common = dict(bias=False, algo=spconv.ConvAlgo.Native)
            if head.startswith("convtr"):
                key = f"down{7 - int(head[6])}"
                layer = spconv.SparseInverseConv3d(cin, cout, 2, indice_key=key, **common)
            elif edge == 2:
                key = f"down{int(head[4]) - 1}"
                layer = spconv.SparseConv3d(cin, cout, 2, stride=2, indice_key=key, **common)
            else:
                key = "stem" if edge == 5 else f"same{level_of(head)}"
                layer = spconv.SubMConv3d(cin, cout, edge, indice_key=key, **common)
            shaped = value.detach().reshape(edge, edge, edge, cin, cout).permute(4, 2, 1, 0, 3)
            layer.weight.data = shaped.contiguous()
            layers[name] = layer
        return layers

    def start(self, features, coords, size):
        import spconv.pytorch as spconv  # pyright: ignore[reportMissingImports]

        return spconv.SparseConvTensor(features, coords.int(), list(size), 1)

    def conv(self, x, name, kind, level):
        del kind, level
        return self.layers[name](x)

    def norm(self, x, name, train):
        return x.replace_feature(norm(x.features, self.weights, name, train))

    def linear(self, x, name):
        return x.replace_feature(x.features @ self.weights[name])

    def relu(self, x):
        return x.replace_feature(torch.relu(x.features))

    def add(self, x, y):
        return x.replace_feature(x.features + y.features)

    def cat(self, x, y):
        return x.replace_feature(torch.cat([x.features, y.features], 1))

    def finish(self, x):
        return x.features


def level_of(block: str) -> int:
    """Level of "block1".."block8": 1, 2, 3, 4, 3, 2, 1, 0."""
    stage = int(block[5]) - 1
    return stage + 1 if stage < 4 else 7 - stage
