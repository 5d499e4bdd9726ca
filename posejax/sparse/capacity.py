"""Static capacities: few sizes, so that a stream of frames compiles a few times."""

import math
from collections.abc import Sequence

import numpy as np

# Voxels of each level beside the finest, as a single RGB-D frame at 2 cm has them. A scan of a
# whole room keeps more: 0.90, 0.53, 0.17, 0.04.
FRAME_RATIOS = (0.42, 0.14, 0.05, 0.02)
SMALLEST = 256


def bucket_capacity(count: int, *, headroom: float = 1.0, smallest: int = SMALLEST) -> int:
    """The next of smallest * (1, 1.5, 2, 3, 4, 6, ...) that holds `count * headroom` rows.

    Raises:
      ValueError: a negative count, or headroom below 1.
    """
    if count < 0 or headroom < 1 or smallest < 2:
        raise ValueError(f"count {count} >= 0, headroom {headroom} >= 1, smallest >= 2 expected")
    wanted = max(math.ceil(count * headroom), smallest)
    power = smallest * 2 ** math.floor(math.log2(wanted / smallest))
    return next(c for c in (power, power * 3 // 2, power * 2) if c >= wanted)


def level_capacities(
    capacity: int, *, ratios: Sequence[float] = FRAME_RATIOS, headroom: float = 1.0
) -> tuple[int, ...]:
    """First guess of the coarser levels' capacities from the finest's, which has room to spare."""
    return tuple(
        min(bucket_capacity(round(capacity * r), headroom=headroom), int(capacity)) for r in ratios
    )


def grow_capacities(
    capacities: Sequence[int], needed: Sequence[int], *, headroom: float = 1.25
) -> tuple[int, ...]:
    """Capacities for what a cloud needed; those that sufficed stay, to spare a compilation.

    Args:
      capacities: of all levels, finest first.
      needed: `SparseMaps.needed`, on the host.

    A level under one that overflowed saw a part of the voxels only: ask again after growing.
    """
    needed = [int(n) for n in np.asarray(needed)]
    return tuple(
        int(c) if n <= c else bucket_capacity(n, headroom=headroom)
        for c, n in zip(capacities, needed, strict=True)
    )
