"""Eight bytes per event: what lives on the accelerator, and what workers send. NumPy only.

word 0   x: bits 0-13 | y: bits 14-27 | p: bit 28
word 1   microseconds since the zero of the recording (71 minutes)

`posejax.events.unpack_events` is the inverse, on any device.
"""

import numpy as np
from numpy.typing import ArrayLike

COORDINATE_BITS = 14
MAX_SIDE = 1 << COORDINATE_BITS  # of a sensor, pixels
TIME_LIMIT_US = 1 << 32


def pack_events(x: ArrayLike, y: ArrayLike, t_us: ArrayLike, p: ArrayLike) -> np.ndarray:
    """Pack events into uint32 [N, 2].

    Args:
      x, y: [N] pixel indices, 0 to 16383.
      t_us: [N] integer microseconds, 0 to 2**32 - 1.
      p: [N] polarity, 0 or 1.

    Raises:
      ValueError: a value does not fit, or the lengths differ.
    """
    limits = {"x": MAX_SIDE, "y": MAX_SIDE, "t_us": TIME_LIMIT_US, "p": 2}
    columns = {k: np.asarray(v) for k, v in zip(limits, (x, y, t_us, p), strict=True)}
    shapes = {k: v.shape for k, v in columns.items()}
    if len(set(shapes.values())) != 1 or len(shapes["x"]) != 1:
        raise ValueError(f"x, y, t_us and p are arrays of one length, got {shapes}")
    for name, values in columns.items():
        limit = limits[name]
        # Python's integers compare exactly, whatever the dtype.
        if values.size and not (int(values.min()) >= 0 and int(values.max()) < limit):
            hint = "; EventRecording.rebased() starts the clock at zero" if name == "t_us" else ""
            found = f"{values.min()} to {values.max()}"
            raise ValueError(f"{name}: {found} cannot be packed, 0 to {limit - 1} can{hint}")
    packed = np.empty((len(columns["x"]), 2), np.uint32)
    packed[:, 0] = columns["x"].astype(np.uint32)
    packed[:, 0] |= columns["y"].astype(np.uint32) << COORDINATE_BITS
    packed[:, 0] |= columns["p"].astype(np.uint32) << 2 * COORDINATE_BITS
    packed[:, 1] = columns["t_us"]
    return packed
