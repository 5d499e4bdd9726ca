"""What `make demo` shows: the shipped weights of georeg_sim on three streets never seen.

    python -m posejax demo georeg           (or: make demo)
    python -m posejax eval --config configs/demo_georeg.py --calibrate 0

Two CPU cores: under two minutes with simulating and compiling, 1.5 GiB. Simulated.
Three streets of val are a handful: the README's numbers are of the 192 examples in the 12 streets
of test.
"""

import dataclasses

from georeg_sim import get_config as trained

from posejax.config import Experiment, replace


def get_config() -> Experiment:
    demo = dataclasses.replace(trained(), name="demo_georeg")
    return replace(demo, **{"train.init_from": "georeg_sim", "system.data.val_worlds": 3})
