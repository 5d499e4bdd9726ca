"""Eight bytes per event: what lives on the accelerator, and what workers send.

word 0   x: bits 0-13 | y: bits 14-27 | p: bit 28
word 1   microseconds since the zero of the recording (71 minutes)
"""

import numpy as np

from posejax.data.event_files.recording import MAX_SIDE, EventRecording

_TIME_LIMIT = 1 << 32


def pack(x: np.ndarray, y: np.ndarray, t_us: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Pack events into uint32 [N, 2].

    Args:
      x, y: [N] pixel indices, 0 to 16383.
      t_us: [N] microseconds, 0 to 2**32 - 1.
      p: [N] polarity, 0 or 1.

    Raises:
      ValueError: a value does not fit.
    """
    limits = (("x", x, MAX_SIDE), ("y", y, MAX_SIDE), ("t_us", t_us, _TIME_LIMIT), ("p", p, 2))
    for name, values, limit in limits:
        values = np.asarray(values)
        if values.size and not (int(values.min()) >= 0 and int(values.max()) < limit):
            hint = "; EventRecording.rebased() starts the clock at zero" if name == "t_us" else ""
            found = f"{values.min()} to {values.max()}"
            raise ValueError(f"{name}: {found} cannot be packed, 0 to {limit - 1} can{hint}")
    packed = np.empty((len(x), 2), np.uint32)
    packed[:, 0] = np.asarray(x, np.uint32)
    packed[:, 0] |= np.asarray(y, np.uint32) << 14
    packed[:, 0] |= np.asarray(p, np.uint32) << 28
    packed[:, 1] = t_us
    return packed


def unpack(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(x uint16, y uint16, t_us int64, p uint8), each [N]: the inverse of `pack`."""
    word, side = packed[:, 0], MAX_SIDE - 1
    x, y = (word & side).astype(np.uint16), ((word >> 14) & side).astype(np.uint16)
    return x, y, packed[:, 1].astype(np.int64), ((word >> 28) & 1).astype(np.uint8)


def pack_recording(recording: EventRecording) -> np.ndarray:
    """uint32 [N, 2]: a whole recording, times from the recording's own zero."""
    return pack(recording.x, recording.y, recording.t_microseconds(), recording.p)
