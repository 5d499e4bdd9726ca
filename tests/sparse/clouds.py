"""Small clouds for the tests of this room, all of one capacity, so that programs are shared."""

import numpy as np

CAPACITY, COARSE = 96, 72


def coords(seed: int, count: int = 80, clouds: int = 2) -> np.ndarray:
    """[count, 4] int32: different voxels of `clouds` clouds around the origin, in disorder."""
    rng = np.random.default_rng(seed)
    box = np.stack(np.meshgrid(np.arange(clouds), *[np.arange(-3, 4)] * 3, indexing="ij"), -1)
    box = box.reshape(-1, 4).astype(np.int32)
    return box[rng.choice(len(box), count, replace=False)]


def pairs(outputs: np.ndarray, inputs: np.ndarray, size: int, stride: int = 1):
    """{offset: [(output, input)]} by brute force; outputs and inputs are lists of voxels."""
    rows = {tuple(c): i for i, c in enumerate(inputs.tolist())}
    low = -(size // 2) if size % 2 else 0
    found = {}
    for k in range(size**3):
        step = (k % size + low, k // size % size + low, k // size**2 + low)
        found[k] = []
        for o, (b, x, y, z) in enumerate(outputs.tolist()):
            there = (b, *(stride * c + s for c, s in zip((x, y, z), step, strict=True)))
            if there in rows:
                found[k].append((o, rows[there]))
    return found
