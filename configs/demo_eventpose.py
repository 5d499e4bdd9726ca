"""What `SYSTEM=eventpose make demo` shows: shipped weights on eight trajectories never seen.

    python -m posejax demo eventpose        (or: SYSTEM=eventpose make demo)
    python -m posejax eval --config configs/demo_eventpose.py --calibrate 0

Two CPU cores: under two minutes with simulating and compiling, 1.5 GiB. Simulated.
Eight sequences of val are a handful: the README's numbers are of the 20 of test.
"""

import dataclasses

from eventpose_sim import get_config as trained

from posejax.config import Experiment, replace


def get_config() -> Experiment:
    demo = dataclasses.replace(trained(), name="demo_eventpose")
    return replace(demo, **{"train.init_from": "eventpose_sim", "system.data.sequences.val": 8})
