"""What `SYSTEM=tinyroma make demo` shows: shipped weights on a room and a street never seen.

    python -m posejax demo tinyroma         (or: SYSTEM=tinyroma make demo)
    python -m posejax eval --config configs/demo_tinyroma.py --calibrate 0

75 pairs of 160 x 128 pixels, 1.5 GiB; not timed on free cores. Simulated.
A room and a street of val are a handful: the README's numbers are of the 356 pairs of test.
"""

import dataclasses

from tinyroma_scratch import get_config as trained

from posejax.config import Experiment, replace
from posejax.systems.tinyroma import SimulatedPairs, Worlds


def get_config() -> Experiment:
    demo = dataclasses.replace(trained(), name="demo_tinyroma")
    few = Worlds(rooms=(44, 1, 6), streets=(16, 1, 3))
    data = SimulatedPairs(worlds=few, size=demo.system.data.size)
    return replace(demo, **{"train.init_from": "tinyroma_scratch", "system.data": data})
